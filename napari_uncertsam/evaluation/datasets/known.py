"""The datasets that the two papers measure on: what they are, where they come from and how they lie on a disk.

Terms and access are those that the dataset's page or UncertSAM's Table 2 states; read the page before you use one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_uncertsam.errors import InputError

#: Where the eight sets of UncertSAM can be had as the paper prepared them.
UNCERTSAM_PAGE = "https://huggingface.co/datasets/JesseBrouw/UncertSAM"


@dataclass(frozen=True)
class Known:
    """One public dataset.

    Parameters
    ----------
    key : str
        Its name on the command line.
    title, paper, homepage, terms : str
        For people. `terms` ends a sentence about the homepage.
    folder : str
        Name of its folder under the root of all datasets.
    layout : str
        What its publisher's archives contain, for sentences.
    benchmark : {"UncertSAM", "MedSAM-U"}
        UncertSAM's sets are read after preparation, MedSAM-U's as their publishers lay them out.
    modality : str
        For tables.
    splits : tuple of str
        For UncertSAM's sets, the splits that the publisher's files can be prepared as.
    components, colours, ct : bool
        Steps of UncertSAM's preparation: its Table 2.
    aliases : tuple of str
        Other names that people use.
    """

    key: str
    title: str
    paper: str
    homepage: str
    terms: str
    folder: str
    layout: str
    benchmark: Literal["UncertSAM", "MedSAM-U"]
    modality: str
    splits: tuple[str, ...] = ()
    components: bool = False
    colours: bool = False
    ct: bool = False
    aliases: tuple[str, ...] = ()

    def missing(self, root: Path, split: str) -> str:
        """One sentence: where to get the dataset and in which folder under `root` to put it."""
        folder, source = root / self.folder, f"{self.homepage} ({self.terms})"
        if self.benchmark == "MedSAM-U":
            return f"{self.title} is not in {folder}: get it from {source} and put {self.layout} there."
        command = f"`napari-uncertsam prepare {self.key} RAW --split {split} --out {root}`"
        original = f"get the original from {source} and run {command}"
        if split not in self.splits:
            original = f"get the original, which has only {' and '.join(self.splits)}, from {source}"
        return (
            f"{self.title} is not in {folder / split}: extract {self.folder}/{split}.tar.gz of {UNCERTSAM_PAGE} (an "
            f"access token is needed) so that {folder / split / 'images'} appears, or {original}."
        )


_UNCERTSAM = (
    Known(
        key="big",
        title="BIG",
        paper="Cheng et al., CVPR 2020",
        homepage="https://github.com/hkchengrex/CascadePSP",
        terms="no commercial use",
        folder="BIG",
        layout="val/ and test/ with NAME_im.jpg beside NAME_gt.png",
        benchmark="UncertSAM",
        modality="photograph",
        splits=("test", "val"),
        components=True,
    ),
    Known(
        key="coift",
        title="COIFT",
        paper="Liew et al., WACV 2021",
        homepage="https://github.com/liewjunhao/thin-object-selection",
        terms="CC BY-NC 4.0",
        folder="COIFT",
        layout="images/NAME.jpg and masks/NAME.png",
        benchmark="UncertSAM",
        modality="photograph",
        splits=("test",),
    ),
    Known(
        key="cod10k",
        title="COD10K-v3",
        paper="Fan et al., TPAMI 2022",
        homepage="https://github.com/DengPingFan/SINet",
        terms="research only",
        folder="COD10K-v3",
        layout="Train/ and Test/ with Image/NAME.jpg and GT_Instance/NAME.png",
        benchmark="UncertSAM",
        modality="photograph",
        splits=("test", "train"),
        components=True,
        colours=True,
    ),
    Known(
        key="msd-spleen",
        title="MSD Spleen",
        paper="Antonelli et al., Nature Communications 2022",
        homepage="http://medicaldecathlon.com",
        terms="CC BY-SA 4.0",
        folder="MSD_Spleen",
        layout="imagesTr/spleen_N.nii.gz and labelsTr/spleen_N.nii.gz of Task09_Spleen",
        benchmark="UncertSAM",
        modality="CT",
        splits=("test",),
        ct=True,
        aliases=("spleen", "Task09_Spleen", "msd"),
    ),
    Known(
        key="istd",
        title="ISTD",
        paper="Wang et al., CVPR 2018",
        homepage="https://github.com/DeepInsight-PCALab/ST-CGAN",
        terms="research only",
        folder="ISTD",
        layout="test/test_A/NAME.png and test/test_B/NAME.png, and the same for train",
        benchmark="UncertSAM",
        modality="photograph",
        splits=("test", "train"),
        components=True,
    ),
    Known(
        key="sbu",
        title="SBU",
        paper="Vicente et al., ECCV 2016",
        homepage="https://www3.cs.stonybrook.edu/~cvl/dataset.html",
        terms="no licence stated",
        folder="SBU-shadow",
        layout="SBUTrain4KRecoveredSmall/ and SBU-Test/ with ShadowImages/NAME.jpg and ShadowMasks/NAME.png",
        benchmark="UncertSAM",
        modality="photograph",
        splits=("test", "train"),
        components=True,
    ),
    Known(
        key="flare7k",
        title="Flare7K",
        paper="Dai et al., NeurIPS 2022",
        homepage="https://github.com/ykdai/Flare7K",
        terms="S-Lab License 1.0, no commercial use",
        folder="Flare7K",
        layout="test_data/real and test_data/synthetic with input/input_N.png and mask/mask_N.png",
        benchmark="UncertSAM",
        modality="photograph",
        splits=("test",),
        components=True,
        colours=True,
        aliases=("flare",),
    ),
    Known(
        key="trans10k",
        title="Trans10K",
        paper="Xie et al., 2021",
        homepage="https://xieenze.github.io/projects/TransLAB/TransLAB.html",
        terms="research only",
        folder="Trans10K",
        layout="train/, validation/ and test/ with images/NAME.jpg and masks/NAME_mask.png, or in easy/ and hard/",
        benchmark="UncertSAM",
        modality="photograph",
        splits=("test", "val", "train"),
        components=True,
        aliases=("trans",),
    ),
)

_MEDSAM_U = (
    Known(
        key="isic",
        title="ISIC",
        paper="Codella et al., 2018 and 2019",
        homepage="https://challenge.isic-archive.com/data",
        terms="terms by year, 2018 is CC BY-NC",
        folder="ISIC",
        layout="ISIC2018_Task1-2_Training_Input and ISIC2018_Task1_Training_GroundTruth (or ISIC-2017_Training_Data "
        "and ISIC-2017_Training_Part1_GroundTruth)",
        benchmark="MedSAM-U",
        modality="dermoscopy",
    ),
    Known(
        key="kvasir-seg",
        title="Kvasir-SEG",
        paper="Jha et al., MMM 2020",
        homepage="https://datasets.simula.no/kvasir-seg",
        terms="research and education only",
        folder="Kvasir-SEG",
        layout="images/NAME.jpg and masks/NAME.jpg",
        benchmark="MedSAM-U",
        modality="endoscopy",
        aliases=("kvasir",),
    ),
    Known(
        key="ct2us",
        title="CT2US kidney",
        paper="Song et al., Ultrasonics 2022",
        homepage="https://www.kaggle.com/datasets/siatsyx/ct2usforkidneyseg",
        terms="a Kaggle account is needed",
        folder="CT2US",
        layout="slice/slice/N.png and mask/mask/N.png",
        benchmark="MedSAM-U",
        modality="ultrasound",
        aliases=("ct2us-kidney", "ct2usforkidneyseg"),
    ),
    Known(
        key="kits23",
        title="KiTS23",
        paper="Heller et al., 2023",
        homepage="https://github.com/neheller/kits23",
        terms="CC BY-NC-SA, its command kits23_download_data fetches the images",
        folder="KiTS23",
        layout="case_N/imaging.nii.gz and case_N/segmentation.nii.gz",
        benchmark="MedSAM-U",
        modality="CT",
        aliases=("kits",),
    ),
    Known(
        key="brats21",
        title="BraTS21",
        paper="Baid et al., 2021",
        homepage="https://www.synapse.org/Synapse:syn27046444",
        terms="registration and a request for access are needed",
        folder="BraTS2021",
        layout="BraTS2021_N/BraTS2021_N_t1.nii.gz and BraTS2021_N/BraTS2021_N_seg.nii.gz of the training data",
        benchmark="MedSAM-U",
        modality="MR",
        aliases=("brats", "brats2021"),
    ),
)

#: All known datasets by key, UncertSAM's eight first, in the papers' order.
KNOWN: dict[str, Known] = {known.key: known for known in (*_UNCERTSAM, *_MEDSAM_U)}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


_NAMES = {
    _plain(name): known for known in KNOWN.values() for name in (known.key, known.title, known.folder, *known.aliases)
}


def find_known(name: str) -> Known:
    """A known dataset by any of its names; case, spaces, dashes and underscores do not matter.

    Raises
    ------
    InputError
        If there is no such dataset.

    Examples
    --------
    >>> find_known("MSD Spleen").key, find_known("sbu-SHADOW").key
    ('msd-spleen', 'sbu')
    """
    known = recognise(name)
    if known is None:
        raise InputError(f"{name!r} is neither a folder nor a known dataset; known are {', '.join(KNOWN)}.")
    return known


def recognise(name: str) -> Known | None:
    """The known dataset of that name, None where there is none."""
    return _NAMES.get(_plain(name))
