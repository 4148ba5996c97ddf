"""UncertSAM's published layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Dataset
from napari_uncertsam.evaluation.datasets import UncertSamDataset, open_dataset, rle
from tests.evaluation.datasets.makers import COCO_WARNING, picture, rectangle, save

pytestmark = pytest.mark.filterwarnings(COCO_WARNING)
SHAPE = (37, 51)
TRUTHS = [rectangle(SHAPE, 2, 3, 10, 20), rectangle(SHAPE, 20, 30, 5, 6)]


def row(number: int, image: int, mask: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "area": int(mask.sum()), "segmentation": rle.encode(mask), **more}


def write(root: Path, content: Any) -> None:
    path = root / "annotations" / "dataset.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """ISTD's test split: two images, three annotations, one of them of no area."""
    root = tmp_path / "ISTD" / "test"
    for number in (12, 3, 4):
        save(root / "images" / f"{number:08d}.jpg", picture(SHAPE, number), quality=95)
    rows = [row(41, 12, TRUTHS[1], uncertain_iou=0.4), row(40, 12, TRUTHS[0]), row(7, 3, TRUTHS[0])]
    rows.append({**row(8, 4, TRUTHS[0]), "area": 0})
    write(root, {"annotations": rows})
    return root


def test_contents(split: Path) -> None:
    dataset = open_dataset(split.parent)
    assert isinstance(dataset, Dataset)
    assert isinstance(dataset, UncertSamDataset)
    assert (dataset.name, dataset.root) == ("ISTD", split)
    assert dataset.images() == ["00000003", "00000012"]
    cases = dataset.load("00000012")
    assert [(c.key, c.value, c.group) for c in cases] == [
        ("00000012/41", 41, "00000012"),
        ("00000012/40", 40, "00000012"),
    ]
    for case, truth in zip(cases, reversed(TRUTHS), strict=True):
        np.testing.assert_array_equal(case.truth, truth)
    assert cases[0].volume is cases[1].volume
    assert np.abs(cases[0].volume.slice().astype(int) - picture(SHAPE, 12)).mean() < 3
    assert cases[0].modality == "photograph"


def test_the_folder_of_the_split_and_another_name(split: Path, tmp_path: Path) -> None:
    assert open_dataset(split).images() == ["00000003", "00000012"]
    other = tmp_path / "my set"
    split.parent.rename(other)
    dataset = open_dataset(other)
    assert dataset.name == "my set"
    assert dataset.load("00000003")[0].modality == "unknown"


def test_groups_where_the_file_has_them(split: Path) -> None:
    content = json.loads((split / "annotations" / "dataset.json").read_text("utf-8"))
    content["images"] = [{"id": 3, "group": "patient 1"}, {"id": 12, "file_name": "00000012.jpg"}]
    write(split, content)
    dataset = UncertSamDataset(split)
    assert dataset.load("00000003")[0].group == "patient 1"
    assert dataset.load("00000012")[0].group == "00000012"


def test_a_png_is_not_listed(split: Path) -> None:
    jpg = split / "images" / "00000003.jpg"
    save(jpg.with_suffix(".png"), picture(SHAPE))
    jpg.unlink()
    with pytest.raises(InputError, match=r"00000003\.jpg"):
        UncertSamDataset(split).load("00000003")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"annotations": 3}',
        {"annotations": [{"id": 1}]},
        {"annotations": [{"id": "a", "image_id": 1, "area": 3, "segmentation": {}}]},
        {"annotations": [{"id": 1, "image_id": None, "area": 3, "segmentation": {}}]},
        {"annotations": [], "images": [7]},
    ],
)
def test_a_damaged_file_is_a_sentence(split: Path, content: Any) -> None:
    write(split, content)
    with pytest.raises(InputError, match=r"dataset\.json"):
        UncertSamDataset(split)


def test_what_does_not_fit_is_told(split: Path) -> None:
    write(split, {"annotations": [row(1, 3, TRUTHS[0]), row(1, 3, TRUTHS[1])]})
    with pytest.raises(InputError, match="alike"):
        UncertSamDataset(split)
    write(split, {"annotations": [{**row(5, 3, TRUTHS[0]), "area": 0}]})
    with pytest.raises(InputError, match="no annotation with an area"):
        UncertSamDataset(split)
    broken = row(5, 3, TRUTHS[0])
    broken["segmentation"]["counts"] = broken["segmentation"]["counts"][:-4]
    write(split, {"annotations": [broken, row(6, 12, TRUTHS[0].T)]})
    dataset = UncertSamDataset(split)
    with pytest.raises(InputError, match=r"Annotation 5 of .*add up"):
        dataset.load("00000003")
    with pytest.raises(InputError, match=r"\(37, 51\).*\(51, 37\)"):
        dataset.load("00000012")
    with pytest.raises(InputError, match="no image '00000099'"):
        dataset.load("00000099")
    write(split, {"annotations": [{"id": 5, "image_id": 3, "area": 4}]})
    with pytest.raises(InputError, match="Annotation 5"):
        UncertSamDataset(split).load("00000003")


def test_splits_and_archives(split: Path) -> None:
    (split.parent / "val.tar.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"val\.tar\.gz is not extracted"):
        open_dataset(split.parent, split="val")
    with pytest.raises(InputError, match="no split 'train'; it has test"):
        open_dataset(split.parent, split="train")
    with pytest.raises(InputError, match="several datasets, ISTD"):
        open_dataset(split.parent.parent)
