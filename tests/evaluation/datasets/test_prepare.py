"""The eight sources prepared, read back, interrupted and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_uncertsam import io
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets import KNOWN, open_dataset
from napari_uncertsam.evaluation.datasets.prepare import Options, prepare, samples, source_pairs, writing
from tests.evaluation.datasets.makers import COCO_WARNING, mask_of, picture, rectangle, save
from tests.evaluation.datasets.sources import BOTH, LEFT, RIGHT, SHAPE, SMALL, SOURCES, Expected, big, grey, istd, jpg

pytestmark = pytest.mark.filterwarnings(COCO_WARNING)


def annotations(split: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((split / "annotations" / "dataset.json").read_text("utf-8"))
    return content


@pytest.mark.parametrize("key", SOURCES)
def test_every_source(tmp_path: Path, key: str) -> None:
    expected: dict[str, Expected] = SOURCES[key](tmp_path / "raw")
    done = prepare(key, tmp_path / "raw", tmp_path / "data")
    split = tmp_path / "data" / KNOWN[key].folder / "test"
    assert done.folder == split
    assert (done.images, done.masks) == (len(expected), sum(len(e.masks) for e in expected.values()))
    assert done.skipped == {}
    # The file as others would read it, with a decoder of the tests' own.
    content = annotations(split)
    assert [image["source"] for image in content["images"]] == list(expected)
    assert [row["id"] for row in content["annotations"]] == list(range(1, done.masks + 1))
    for image, wanted in zip(content["images"], expected.values(), strict=True):
        rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        path = split / "images" / f"{image['id']:08d}.jpg"
        assert path.name == image["file_name"]
        for row, mask in zip(rows, wanted.masks, strict=True):
            np.testing.assert_array_equal(mask_of(row["segmentation"]), mask)
            assert row["area"] == mask.sum()
        pixels = np.asarray(io.read(path).array)
        assert pixels.shape == wanted.picture.shape
        assert np.abs(pixels - wanted.picture.astype(float)).mean() < (8 if KNOWN[key].ct else 3)
        if wanted.copied is not None:
            assert path.read_bytes() == wanted.copied.read_bytes()
    assert sorted(p.name for p in split.rglob("*") if p.is_file()) == sorted(
        [*(image["file_name"] for image in content["images"]), "dataset.json"]
    )
    # And through the door, at the original resolution.
    dataset = open_dataset(KNOWN[key].title, root=tmp_path / "data")
    assert dataset.name == KNOWN[key].title
    cases = [case for name in dataset.images() for case in dataset.load(name)]
    for case, mask in zip(cases, [m for e in expected.values() for m in e.masks], strict=True):
        np.testing.assert_array_equal(case.truth, mask)
    assert {case.group for case in cases} == ({"spleen_2"} if KNOWN[key].ct else set(expected))


def test_the_other_splits(tmp_path: Path) -> None:
    big(tmp_path / "big")
    assert [p.name for p in source_pairs(KNOWN["big"], tmp_path / "big", "val")] == ["x"]
    assert [p.name for p in source_pairs(KNOWN["big"], tmp_path / "big" / "BIG_SS_Dataset" / "val", "val")] == ["x"]
    with pytest.raises(InputError, match="does not hold the val split"):
        source_pairs(KNOWN["big"], tmp_path / "big" / "BIG_SS_Dataset" / "test", "val")
    with pytest.raises(InputError, match="no split 'train'; choose test or val"):
        source_pairs(KNOWN["big"], tmp_path / "big", "train")
    train = tmp_path / "sbu" / "SBUTrain4KRecoveredSmall"
    jpg(train / "ShadowImages" / "lssd1.jpg", 1)
    save(train / "ShadowMasks" / "lssd1.png", grey(LEFT))
    assert [p.name for p in source_pairs(KNOWN["sbu"], tmp_path / "sbu", "train")] == ["lssd1"]
    top = tmp_path / "trans" / "validation"  # without easy/ and hard/, as the second edition has it
    jpg(top / "images" / "7.jpg", 1)
    save(top / "masks_12" / "7_mask.png", (LEFT * 11).astype(np.uint8))
    done = prepare("trans10k", tmp_path / "trans", tmp_path, split="val")
    [row] = annotations(done.folder)["annotations"]
    np.testing.assert_array_equal(mask_of(row["segmentation"]), LEFT)


@pytest.mark.parametrize("key", SOURCES)
def test_a_folder_that_is_not_the_source(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        prepare(key, tmp_path / "nothing", tmp_path / "data")
    with pytest.raises(InputError) as caught:
        prepare(key, tmp_path, tmp_path / "data")
    assert KNOWN[key].layout in str(caught.value)
    assert KNOWN[key].homepage in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_options_change_what_is_kept(tmp_path: Path) -> None:
    istd(tmp_path / "raw")
    done = prepare("istd", tmp_path / "raw", tmp_path, options=Options(min_pixels=20))
    assert (done.images, done.masks, done.empty) == (2, 4, 0)
    areas = [row["area"] for row in annotations(done.folder)["annotations"]]
    assert areas == [LEFT.sum(), RIGHT.sum(), SMALL.sum(), SMALL.sum()]
    for bad in ({"min_pixels": -1}, {"closings": -1}, {"quality": 0}, {"quality": 96}):
        with pytest.raises(InputError, match="cannot be prepared with"):
            Options(**bad)


def test_images_without_an_object_are_left_out_and_counted(tmp_path: Path) -> None:
    istd(tmp_path / "raw")
    done = prepare("istd", tmp_path / "raw", tmp_path)
    assert (done.images, done.empty) == (1, 1)
    with pytest.raises(InputError, match="No image of the source has an object to keep"):
        prepare("istd", tmp_path / "raw", tmp_path / "other", options=Options(min_pixels=10**6))


def test_medsam_u_s_need_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="KiTS23 needs no preparation; open it as 'kits23'"):
        prepare("kits23", tmp_path, tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_split_is_not_replaced_unasked(tmp_path: Path) -> None:
    istd(tmp_path / "raw")
    done = prepare("istd", tmp_path / "raw", tmp_path / "data")
    before = files(done.folder)
    with pytest.raises(InputError, match="prepared already; replace it with --overwrite"):
        prepare("istd", tmp_path / "raw", tmp_path / "data", options=Options(min_pixels=1))
    assert files(done.folder) == before
    again = prepare("istd", tmp_path / "raw", tmp_path / "data", options=Options(min_pixels=1), overwrite=True)
    assert again.images == 2
    assert files(prepare("istd", tmp_path / "raw", tmp_path / "data", overwrite=True).folder) == before


def test_an_interrupted_run_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        save(tmp_path / "raw" / "test_A" / f"{number}.png", picture(SHAPE, number))
        save(tmp_path / "raw" / "test_B" / f"{number}.png", grey(BOTH if number != 2 else SMALL))
    whole = files(prepare("istd", tmp_path / "raw", tmp_path / "whole").folder)
    done: list[str] = []
    real = writing.samples

    def interrupted(known: Any, pair: Any, options: Any) -> Any:
        done.append(pair.name)
        if len(done) == 4:
            raise KeyboardInterrupt
        return real(known, pair, options)

    monkeypatch.setattr(writing, "samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("istd", tmp_path / "raw", tmp_path / "data")
    split = tmp_path / "data" / "ISTD" / "test"
    assert not (split / "annotations" / "dataset.json").exists()
    with pytest.raises(InputError, match="is not in"):  # half a split is not a dataset
        open_dataset("istd", root=tmp_path / "data")
    # As if the power had failed while the journal was written.
    journal = split / "annotations" / "progress.jsonl"
    text = journal.read_text("utf-8")
    journal.write_text(text[: len(text) - 7], "utf-8")
    (split / "images" / ".1a2b3c4d-00000003.jpg").write_bytes(b"half")
    reports: list[tuple[int, int]] = []
    prepare("istd", tmp_path / "raw", tmp_path / "data", report=lambda *numbers: reports.append(numbers))
    assert done == ["0", "1", "2", "3", "2", "3", "4", "5"]
    assert reports == [(n, 6) for n in range(7)]
    assert files(split) == whole


@pytest.mark.parametrize("change", ["options", "journal"])
def test_a_run_that_cannot_be_taken_up_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    istd(tmp_path / "raw")
    split = tmp_path / "data" / "ISTD" / "test"
    monkeypatch.setattr(writing, "_finish", lambda folder, journal: None)
    prepare("istd", tmp_path / "raw", tmp_path / "data", options=Options(min_pixels=1))
    monkeypatch.undo()
    assert len(list((split / "images").iterdir())) == 2
    journal = split / "annotations" / "progress.jsonl"
    if change == "journal":
        lines = journal.read_text("utf-8").splitlines()
        journal.write_text("\n".join([lines[0], "{broken", *lines[2:], ""]), "utf-8")
    options = Options() if change == "options" else Options(min_pixels=1)
    done = prepare("istd", tmp_path / "raw", tmp_path / "data", options=options)
    assert done.images == (1 if change == "options" else 2)
    assert len(list((split / "images").iterdir())) == done.images


def test_strange_files_are_not_written_among(tmp_path: Path) -> None:
    istd(tmp_path / "raw")
    mine = jpg(tmp_path / "ISTD" / "test" / "images" / "00000001.jpg", 3)
    before = mine.read_bytes()
    with pytest.raises(InputError, match="not from a preparation"):
        prepare("istd", tmp_path / "raw", tmp_path)
    assert mine.read_bytes() == before
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(InputError, match="cannot be made into a folder"):
        prepare("istd", tmp_path / "raw", tmp_path / "file")


def test_bad_files_stop_it_or_are_left_out(tmp_path: Path) -> None:
    big(tmp_path / "raw")
    folder = tmp_path / "raw" / "BIG_SS_Dataset" / "test"
    jpg(folder / "a_im.jpg", 1)
    (folder / "a_im.jpg").write_bytes((folder / "a_im.jpg").read_bytes()[:700])
    save(folder / "a_gt.png", grey(LEFT))
    jpg(folder / "b_im.jpg", 1)
    save(folder / "b_gt.png", grey(LEFT)[:50])
    with pytest.raises(InputError, match=r"a_im\.jpg"):
        prepare("big", tmp_path / "raw", tmp_path)
    done = prepare("big", tmp_path / "raw", tmp_path, skip_bad=True)
    assert (done.images, done.masks, done.empty) == (1, 2, 0)
    assert list(done.skipped) == ["a", "b"]
    assert "(64, 96)" in done.skipped["b"]
    assert "(50, 96)" in done.skipped["b"]
    (folder / "b_im.jpg").unlink()
    with pytest.raises(InputError, match=r"b_gt\.png has no image"):
        prepare("big", tmp_path / "raw", tmp_path / "x")


def test_a_volume_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SOURCES["msd-spleen"](tmp_path / "raw")
    SOURCES["msd-spleen"](tmp_path / "second")
    for part in ("imagesTr", "labelsTr"):
        file = tmp_path / "second" / "Task09_Spleen" / part / "spleen_2.nii.gz"
        file.rename(tmp_path / "raw" / "Task09_Spleen" / part / "spleen_3.nii.gz")
    real, calls = samples._slices, []

    def failing(pair: Any) -> Any:
        calls.append(pair.name)
        for number, sample in enumerate(real(pair)):
            if pair.name == "spleen_2" and number == 3:
                raise InputError("broken.")
            yield sample

    monkeypatch.setattr(samples, "_slices", failing)
    done = prepare("msd-spleen", tmp_path / "raw", tmp_path, skip_bad=True)
    assert calls == ["spleen_2", "spleen_3"]
    assert (done.images, dict(done.skipped)) == (5, {"spleen_2": "broken."})
    assert len(list((done.folder / "images").iterdir())) == 5


def test_a_photograph_on_its_side_is_turned_where_its_mask_says_so(tmp_path: Path) -> None:
    upright = picture((96, 64), 1)
    mask = rectangle((96, 64), 10, 8, 50, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter clockwise to show
    stored = np.rot90(upright)  # what the sensor saw
    for number, truth in enumerate((mask, np.rot90(mask))):
        save(tmp_path / "raw" / "images" / f"{number}.jpg", np.ascontiguousarray(stored), exif=exif, quality=95)
        save(tmp_path / "raw" / "masks" / f"{number}.png", grey(truth))
    done = prepare("coift", tmp_path / "raw", tmp_path)
    first, second = (np.asarray(io.read(path).array) for path in sorted((done.folder / "images").iterdir()))
    assert np.abs(first - upright.astype(float)).mean() < 3
    assert np.abs(second - stored.astype(float)).mean() < 3
    for path in (done.folder / "images").iterdir():  # nobody may turn them again
        with Image.open(path) as written:
            assert written.getexif().get(0x0112, 1) == 1
