"""Plain folders, 2D and NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Dataset
from napari_uncertsam.evaluation.datasets import FolderDataset, open_dataset
from tests.evaluation.datasets.makers import ct_with_box, nifti, picture, rectangle, save

SHAPE = (30, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photograph with two objects, and two slices of one volume."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 4:20] = 1
    labels[15:25, 30:33] = 7
    save(tmp_path / "images" / "photo.jpg", picture(SHAPE))
    save(tmp_path / "masks" / "photo.png", labels)
    for z in (3, 12):
        save(tmp_path / "images" / f"scan_z{z}.png", picture(SHAPE)[..., 0])
        save(tmp_path / "masks" / f"scan_z{z}.bmp", rectangle(SHAPE, 5, 5, z, 4).astype(np.uint8))
    save(tmp_path / "images" / "without_mask.png", picture(SHAPE))
    (tmp_path / "images" / "notes.txt").write_text("x", "utf-8")
    (tmp_path / "masks" / "._photo.png").write_bytes(b"finder")
    return tmp_path


def test_pictures(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert isinstance(dataset, Dataset)
    assert isinstance(dataset, FolderDataset)
    assert (dataset.name, dataset.root) == (folder.name, folder)
    assert dataset.images() == ["photo", "scan_z12", "scan_z3"]
    one, seven = dataset.load("photo")
    np.testing.assert_array_equal(one.truth, rectangle(SHAPE, 3, 4, 6, 16))
    np.testing.assert_array_equal(seven.truth, rectangle(SHAPE, 15, 30, 10, 3))
    assert (one.key, seven.key, one.group) == ("photo/1", "photo/7", "photo")
    assert one.volume is seven.volume
    assert one.volume.rgb
    assert one.truth.dtype == bool
    scans = [case for name in ("scan_z3", "scan_z12") for case in dataset.load(name)]
    assert {case.group for case in scans} == {"scan"}
    assert [int(case.truth.sum()) for case in scans] == [12, 48]


def test_small_objects_are_left_out(folder: Path) -> None:
    assert [c.value for c in FolderDataset(folder, min_area=31).load("photo")] == [1]
    assert [c.value for c in FolderDataset(folder, min_area=30).load("photo")] == [1, 7]


def test_the_manifest_gives_modalities(folder: Path) -> None:
    assert {c.modality for c in FolderDataset(folder).load("photo")} == {"unknown"}
    above = folder.parent / "MANIFEST.csv"
    above.write_text("name,value,modality,licence\nphoto,1,Natural,CC0\nphoto,9,MR,\n", "utf-8")
    try:
        assert [c.modality for c in FolderDataset(folder).load("photo")] == ["Natural", "unknown"]
        (folder / "MANIFEST.csv").write_text("name,value,modality\nphoto,7,X-ray\n", "utf-8")
        assert [c.modality for c in FolderDataset(folder).load("photo")] == ["unknown", "X-ray"]
    finally:
        above.unlink()
    for text in ("name,modality\nphoto,MR\n", "name,value,modality\nphoto,one,MR\n", "\xff"):
        (folder / "MANIFEST.csv").write_text(text, "latin-1")
        dataset = FolderDataset(folder)
        if text == "\xff":
            with pytest.raises(InputError, match=r"MANIFEST\.csv"):
                dataset.load("photo")
        else:
            with pytest.raises(InputError, match="name, value"):
                dataset.load("photo")


def test_volumes_are_cut_along_plane_0(tmp_path: Path) -> None:
    volume, labels = ct_with_box()
    labels[3, 30:33, 30:33] = 2
    nifti(tmp_path / "images" / "ct.nii.gz", volume)
    nifti(tmp_path / "masks" / "ct.nii", labels)
    cases = FolderDataset(tmp_path).load("ct")
    assert [(c.value, c.slice_index) for c in cases] == [(1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (2, 3)]
    assert {c.group for c in cases} == {"ct"}
    assert cases[0].key == "ct/z2/1"
    assert cases[0].spacing == (3.0, 2.0)
    assert len({id(c.volume) for c in cases}) == 1
    assert cases[0].volume.modality == "CT"
    for case in cases:
        np.testing.assert_array_equal(case.truth, labels[case.slice_index] == case.value)
        np.testing.assert_array_equal(case.volume.slice(0, case.slice_index), volume[case.slice_index])
    assert [(c.value, c.slice_index) for c in FolderDataset(tmp_path, every=2).load("ct")] == [
        (1, 2),
        (1, 4),
        (1, 6),
        (2, 3),
    ]


def test_a_mask_of_another_place_is_refused(tmp_path: Path) -> None:
    volume, labels = ct_with_box()
    nifti(tmp_path / "images" / "ct.nii.gz", volume)
    nifti(tmp_path / "masks" / "ct.nii.gz", labels, np.eye(4))
    with pytest.raises(InputError, match=r"ct: the affines .* apart"):
        FolderDataset(tmp_path).load("ct")
    nifti(tmp_path / "masks" / "ct.nii.gz", labels[1:])
    with pytest.raises(InputError, match=r"\(8, 40, 48\).*\(7, 40, 48\)"):
        FolderDataset(tmp_path).load("ct")


def test_jpeg_masks_are_one_object(tmp_path: Path) -> None:
    truth = rectangle((64, 64), 10, 12, 30, 40)
    save(tmp_path / "images" / "a.png", picture((64, 64)))
    save(tmp_path / "masks" / "a.jpg", (truth * 255).astype(np.uint8), quality=60)
    [case] = FolderDataset(tmp_path).load("a")
    assert case.value == 1
    np.testing.assert_array_equal(case.truth, truth)
    grey = (truth * 255).astype(np.uint8)
    save(tmp_path / "masks" / "a.jpg", np.stack([grey] * 3, axis=-1), quality=60)
    np.testing.assert_array_equal(FolderDataset(tmp_path).load("a")[0].truth, truth)
    save(tmp_path / "masks" / "a.jpg", np.zeros((64, 64), np.uint8))
    assert FolderDataset(tmp_path).load("a") == []
    labels = (truth * 1 + rectangle((64, 64), 20, 20, 15, 15) * 1).astype(np.uint8) * 100
    save(tmp_path / "masks" / "a.jpg", labels)
    with pytest.raises(InputError, match="save it as PNG"):
        FolderDataset(tmp_path).load("a")


def test_bilevel_masks_and_empty_ones(folder: Path) -> None:
    save(folder / "masks" / "photo.png", rectangle(SHAPE, 1, 1, 3, 3))
    assert [(c.value, int(c.truth.sum())) for c in FolderDataset(folder).load("photo")] == [(1, 9)]
    save(folder / "masks" / "photo.png", np.zeros(SHAPE, np.uint8))
    assert FolderDataset(folder).load("photo") == []


def test_what_does_not_fit_is_told(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    dataset = FolderDataset(folder)
    with pytest.raises(InputError, match="no image 'nothing'"):
        dataset.load("nothing")
    save(folder / "masks" / "photo.png", np.zeros((31, 40), np.uint8))
    with pytest.raises(InputError, match=r"photo: .*\(30, 40\).*\(31, 40\)"):
        dataset.load("photo")
    (folder / "masks" / "photo.png").write_bytes((folder / "images" / "photo.jpg").read_bytes()[:200])
    with pytest.raises(InputError, match=r"photo\.png"):
        dataset.load("photo")
    (folder / "images" / "scan_z3.png").unlink()
    with pytest.raises(InputError, match=r"scan_z3\.bmp has no image"):
        FolderDataset(folder)
    save(folder / "images" / "scan_z3.png", picture(SHAPE))
    save(folder / "images" / "scan_z3.tif", picture(SHAPE))
    with pytest.raises(InputError, match=r"both scan_z3\.png and scan_z3\.tif"):
        FolderDataset(folder)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match="no images/ and masks/"):
        FolderDataset(empty)
    for part in ("images", "masks"):
        (empty / part).mkdir()
    with pytest.raises(InputError, match="no image with a mask"):
        FolderDataset(empty)


def test_each_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_uncertsam import io

    read: list[str] = []
    for function in (io.read, io.read_labels):

        def counted(path: Path, function=function) -> object:  # type: ignore[no-untyped-def]
            read.append(Path(path).name)
            return function(path)

        monkeypatch.setattr(io, function.__name__, counted)
    FolderDataset(folder).load("photo")
    assert read == ["photo.jpg", "photo.png"]
