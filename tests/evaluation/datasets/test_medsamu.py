"""MedSAM-U's five sources, each in the layout of its publisher."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Dataset
from napari_uncertsam.evaluation.datasets import PictureDataset, SliceDataset, open_dataset
from napari_uncertsam.evaluation.datasets.pairs import split_names
from napari_uncertsam.volume import WINDOWS, Window
from tests.evaluation.datasets.makers import ct_with_box, nifti, picture, rectangle, save

SHAPE = (36, 44)


def truth(number: int) -> np.ndarray:
    return rectangle(SHAPE, 4, 5, 8 + number, 12)


def grey(mask: np.ndarray) -> np.ndarray:
    return (mask * 255).astype(np.uint8)


def isic(root: Path, images: str, masks: str, count: int = 10) -> None:
    for number in range(count):
        save(root / images / f"ISIC_{number:07d}.jpg", picture(SHAPE, number))
        save(root / images / f"ISIC_{number:07d}_superpixels.png", picture(SHAPE))
        save(root / masks / f"ISIC_{number:07d}_segmentation.png", grey(truth(number)))
    (root / images / "LICENSE.txt").write_text("x", "utf-8")


def check(dataset: Dataset, numbers: dict[str, int], modality: str) -> None:
    assert isinstance(dataset, Dataset)
    for name in dataset.images():
        [case] = dataset.load(name)
        np.testing.assert_array_equal(case.truth, truth(numbers[name]))
        assert (case.value, case.group, case.modality, case.image) == (1, name, modality, name)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
    ],
)
def test_isic(tmp_path: Path, images: str, masks: str) -> None:
    isic(tmp_path / "ISIC", images, masks)
    numbers = {f"ISIC_{n:07d}": n for n in range(10)}
    everything = open_dataset("ISIC", root=tmp_path, split="all")
    assert isinstance(everything, PictureDataset)
    assert everything.name == "ISIC"
    assert everything.images() == sorted(numbers)
    check(everything, numbers, "dermoscopy")
    test, train = (open_dataset("isic", root=tmp_path, split=s).images() for s in ("test", "train"))
    assert len(test) == 2
    assert sorted([*test, *train]) == sorted(numbers)
    assert open_dataset(tmp_path / "ISIC").images() == test
    assert open_dataset(tmp_path / "ISIC", seed=1).images() != test


def test_isic_extracted_into_folders_of_its_own_names(tmp_path: Path) -> None:
    images, masks = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
    isic(tmp_path, f"{images}/{images}", f"{masks}/{masks}", 3)
    assert len(open_dataset(tmp_path, split="all").images()) == 3


def test_isic_without_its_masks(tmp_path: Path) -> None:
    save(tmp_path / "ISIC-2017_Training_Data" / "ISIC_0000000.jpg", picture(SHAPE))
    with pytest.raises(InputError, match="not its masks ISIC-2017_Training_Part1_GroundTruth"):
        open_dataset(tmp_path)


def test_kvasir_seg_with_its_jpeg_masks(tmp_path: Path) -> None:
    numbers = {}
    for number in range(5):
        name = f"cju{number}z"
        numbers[name] = number
        save(tmp_path / "Kvasir-SEG" / "images" / f"{name}.jpg", picture(SHAPE, number))
        save(tmp_path / "Kvasir-SEG" / "masks" / f"{name}.jpg", np.stack([grey(truth(number))] * 3, -1), quality=75)
    dataset = open_dataset("kvasir", root=tmp_path, split="all")
    assert dataset.images() == sorted(numbers)
    check(dataset, numbers, "endoscopy")


def test_ct2us(tmp_path: Path) -> None:
    numbers = {}
    for number in range(6):
        numbers[str(number)] = number
        save(tmp_path / "CT2US" / "slice" / "slice" / f"{number}.png", picture(SHAPE, number)[..., 0])
        save(tmp_path / "CT2US" / "mask" / "mask" / f"{number}.png", grey(truth(number)))
    dataset = open_dataset("ct2us", root=tmp_path, split="all")
    check(dataset, numbers, "ultrasound")
    assert open_dataset(tmp_path / "CT2US").name == "CT2US kidney"
    (tmp_path / "CT2US" / "slice" / "slice" / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png has no image"):
        open_dataset("ct2us", root=tmp_path)


#: KiTS stores slices first: file axis 0 runs along the body, and its affine says so.
KITS_AFFINE = np.array([[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])


def kits(root: Path, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    volume, labels = ct_with_box((12, 40, 48))
    labels[3, 30:34, 30:35] = 1  # the other kidney
    labels[4, 12:15, 14:18] = 2
    labels[5, 12:14, 14:16] = 3
    for number in range(count):
        folder = root / f"case_{number:05d}"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(volume, KITS_AFFINE), folder / "imaging.nii.gz")
        nib.save(nib.Nifti1Image(labels, KITS_AFFINE), folder / "segmentation.nii.gz")
        (folder / "instances").mkdir()
    (root / "kits23.json").write_text("[]", "utf-8")
    return volume, labels


def test_kits23_slices_are_axial_and_in_hu(tmp_path: Path) -> None:
    volume, labels = kits(tmp_path / "KiTS23" / "dataset")
    dataset = open_dataset("KiTS23", root=tmp_path, split="all", every=1, central=1.0)
    assert isinstance(dataset, SliceDataset)
    assert dataset.images() == [f"case_{n:05d}" for n in range(5)]
    cases = dataset.load("case_00002")
    assert [c.slice_index for c in cases] == [2, 3, 4, 5, 6]
    for case in cases:
        np.testing.assert_array_equal(case.truth, labels[case.slice_index] > 0)
        np.testing.assert_array_equal(case.volume.slice(0, case.slice_index), volume[case.slice_index])
        assert case.spacing == pytest.approx((0.8, 0.8))
        assert case.seen_through == WINDOWS["soft tissue"]
        assert (case.group, case.modality) == ("case_00002", "CT")


def test_kits23_options(tmp_path: Path) -> None:
    _, labels = kits(tmp_path)

    def load(**options: object) -> list[tuple[int, int, int]]:
        dataset = open_dataset(tmp_path, split="all", **options)
        return [(c.slice_index, c.value, int(c.truth.sum())) for c in dataset.load("case_00000")]

    whole = np.count_nonzero(labels, axis=(1, 2))
    assert load() == [(4, 1, whole[4])]  # the middle of five slices, then every third of the central half
    assert load(every=2, central=1.0) == [(z, 1, whole[z]) for z in (2, 4, 6)]
    assert load(target="masses", every=1, central=1.0) == [(4, 1, 12), (5, 1, 4)]
    assert load(target="cyst") == [(5, 1, 4)]
    assert load(target="masses", min_area=5, every=1, central=1.0) == [(4, 1, 12)]
    assert [row[:2] for row in load(components=True, every=1, central=1.0)] == [
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 1),
        (6, 1),
        (3, 2),
    ]
    with pytest.raises(InputError, match="no target 'spleen'; choose one of whole, kidney"):
        load(target="spleen")
    with pytest.raises(InputError, match="option 'evry'; it has seed, every"):
        load(evry=2)


def test_kits23_before_the_images_were_fetched(tmp_path: Path) -> None:
    kits(tmp_path, 2)
    (tmp_path / "case_00001" / "imaging.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case_00001.* has no image"):
        open_dataset(tmp_path)
    (tmp_path / "case_00000" / "imaging.nii.gz").unlink()
    with pytest.raises(InputError, match="kits23_download_data"):
        open_dataset(tmp_path)


def brats(root: Path, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    volume = np.zeros((14, 30, 34), np.int16)
    volume[:, 4:-4, 4:-4] = rng.integers(100, 900, (14, 22, 26))
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:13, 8:16, 9:20] = 2
    labels[5:9, 9:12, 10:14] = 1
    labels[6:8, 12:14, 10:14] = 4
    for number in range(count):
        name = f"BraTS2021_{number:05d}"
        for part in ("t1", "t1ce", "t2", "flair"):
            nifti(root / name / f"{name}_{part}.nii.gz", volume + (part == "t1"))
        if number:  # the first one is a validation case
            nifti(root / name / f"{name}_seg.nii.gz", labels)
    return volume + 1, labels


def test_brats21_t1_with_the_whole_tumour(tmp_path: Path) -> None:
    volume, labels = brats(tmp_path / "BraTS2021" / "BraTS2021_Training_Data")
    dataset = open_dataset("brats21", root=tmp_path, split="all", central=1.0)
    assert dataset.images() == [f"BraTS2021_{n:05d}" for n in range(1, 10)]
    [case] = dataset.load("BraTS2021_00003")
    assert case.slice_index == 7
    np.testing.assert_array_equal(case.truth, np.isin(labels[7], (1, 2, 4)))
    np.testing.assert_array_equal(case.volume.slice(0, 7), volume[7])
    assert case.seen_through == Window.percentile(volume[volume > 0])
    assert case.modality == "MR"
    core = open_dataset(tmp_path / "BraTS2021", split="all", target="core", every=1, central=1.0)
    assert [int(c.truth.sum()) for c in core.load("BraTS2021_00001")] == [12, 20, 20, 12]
    enhancing = open_dataset(
        tmp_path / "BraTS2021" / "BraTS2021_Training_Data", split="all", target="enhancing", every=1, central=1.0
    )
    assert [c.slice_index for c in enhancing.load("BraTS2021_00001")] == [6, 7]


def test_patients_are_on_one_side_only(tmp_path: Path) -> None:
    brats(tmp_path)
    test, train = (open_dataset(tmp_path, split=split, seed=4) for split in ("test", "train"))
    assert len(test.images()) == 2
    assert not set(test.images()) & set(train.images())
    name = test.images()[0]
    with pytest.raises(InputError, match=f"no image '{name}'"):
        train.load(name)


def test_image_and_mask_of_a_volume_have_to_fit(tmp_path: Path) -> None:
    _, labels = brats(tmp_path, 2)
    path = tmp_path / "BraTS2021_00001" / "BraTS2021_00001_seg.nii.gz"
    nifti(path, labels[:-1])
    with pytest.raises(InputError, match=r"BraTS2021_00001: .*\(14, 30, 34\).*\(13, 30, 34\)"):
        open_dataset(tmp_path).load("BraTS2021_00001")
    nifti(path, labels, np.diag([2.0, 3.0, 6.0, 1.0]))
    with pytest.raises(InputError, match="apart"):
        open_dataset(tmp_path).load("BraTS2021_00001")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="damaged"):
        open_dataset(tmp_path).load("BraTS2021_00001")


def test_splits() -> None:
    names = [f"{n}" for n in range(100)]
    parts = {split: split_names(names, split, 3) for split in ("test", "train", "all")}
    assert len(parts["test"]) == 20
    assert sorted([*parts["test"], *parts["train"]]) == parts["all"] == sorted(names)
    assert split_names(reversed(names), "test", 3) == parts["test"]
    assert split_names(names, "test", 4) != parts["test"]
    assert split_names(["only"], "test", 0) == ["only"]
    with pytest.raises(InputError, match="no split 'val'"):
        split_names(names, "val", 0)
