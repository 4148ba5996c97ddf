"""Which files of MedSAM-U's five sources belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets.known import KNOWN, Known
from napari_uncertsam.evaluation.datasets.pairs import Pair, by_stem, paired
from napari_uncertsam.evaluation.datasets.places import find_inside
from napari_uncertsam.intensity import Modality

_ISIC_YEARS = {
    "2018": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
    "2017": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
}


@dataclass(frozen=True)
class VolumeSource:
    """What is special about one dataset of volumes."""

    pairs: Callable[[Path], dict[str, Pair]]
    modality: Modality
    targets: Mapping[str, tuple[int, ...]]
    every: int


def is_medsamu(folder: Path) -> Known | None:
    """Which of the five lies in a folder, going by its name for files; None for none, and for a plain folder."""
    for key, pattern in _SIGNS.items():
        if find_inside(folder, pattern) is not None:
            return KNOWN[key]
    return None


def _isic(root: Path) -> dict[str, Pair]:
    for images, masks in _ISIC_YEARS.values():
        folder = _extracted(root, images)
        if folder is not None:
            # The masks may have been extracted beside the images or in a place of their own.
            truth = _extracted(folder.parent, masks) or _extracted(root, masks)
            if truth is None:
                raise InputError(f"{folder} is there, but not its masks {masks}; extract them beside it.")
            return paired(by_stem(folder, (".jpg",)), by_stem(truth, (".png",), after="_segmentation"), folder)
    raise _absent("isic", root)


def _extracted(root: Path, name: str) -> Path | None:
    """A folder of that name, the inner one where an archive was extracted into a folder of its own name."""
    folder = find_inside(root, name)
    inner = folder / name if folder is not None else None
    return inner if inner is not None and inner.is_dir() else folder


def _kvasir(root: Path) -> dict[str, Pair]:
    folder = find_inside(root, "masks")
    if folder is None or not (folder.parent / "images").is_dir():
        raise _absent("kvasir-seg", root)
    return paired(by_stem(folder.parent / "images"), by_stem(folder), folder.parent)


def _ct2us(root: Path) -> dict[str, Pair]:
    folder = find_inside(root, "slice/slice")
    if folder is None:
        raise _absent("ct2us", root)
    top = folder.parent.parent
    return paired(by_stem(folder, (".png",)), by_stem(top / "mask" / "mask", (".png",)), top)


def _kits(root: Path) -> dict[str, Pair]:
    mask = find_inside(root, "case_*/segmentation.nii.gz")
    if mask is None:
        raise _absent("kits23", root)
    top = mask.parent.parent
    images, masks = (_by_patient(top, "case_*", f"{part}.nii.gz") for part in ("imaging", "segmentation"))
    if not images:
        raise InputError(f"{top} holds masks only; run `kits23_download_data` to get the images.")
    return paired(images, masks, top)


def _brats(root: Path) -> dict[str, Pair]:
    image = find_inside(root, "BraTS2021_*/*_t1.nii*")
    if image is None:
        raise _absent("brats21", root)
    top = image.parent.parent
    # The validation cases of the challenge have no masks and drop out.
    images, masks = (_by_patient(top, "BraTS2021_*", f"*_{part}.nii*") for part in ("t1", "seg"))
    return paired(images, masks, top)


def _by_patient(top: Path, folders: str, files: str) -> dict[str, Path]:
    """The first matching file of each patient's folder."""
    found = ((folder.name, next(iter(sorted(folder.glob(files))), None)) for folder in sorted(top.glob(folders)))
    return {name: path for name, path in found if path is not None}


def _absent(key: str, root: Path) -> InputError:
    known = KNOWN[key]
    return InputError(
        f"{root} does not hold {known.title} as it is published, {known.layout}; get it from {known.homepage} "
        f"({known.terms})."
    )


PICTURES: Mapping[str, Callable[[Path], dict[str, Pair]]] = MappingProxyType(
    {"isic": _isic, "kvasir-seg": _kvasir, "ct2us": _ct2us}
)
VOLUMES: Mapping[str, VolumeSource] = MappingProxyType(
    {
        "kits23": VolumeSource(
            _kits,
            "CT",
            {"whole": (1, 2, 3), "kidney": (1,), "masses": (2, 3), "tumour": (2,), "cyst": (3,)},
            every=3,
        ),
        # BraTS21 labels necrosis 1, oedema 2 and enhancing tumour 4; copies of it often write 3 for 4.
        "brats21": VolumeSource(_brats, "MR", {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (3, 4)}, every=8),
    }
)
#: What a folder holds, at most two levels down, that lays one of them out.
_SIGNS: Mapping[str, str] = MappingProxyType(
    {
        "isic": "ISIC*_Training_[ID]*",
        "ct2us": "slice/slice",
        "kits23": "case_*/segmentation.nii.gz",
        "brats21": "BraTS2021_*/*_seg.nii*",
    }
)
