"""Whatever a user can get wrong ends with one sentence and exit code 2, or with a sensible result."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_uncertsam.errors import EngineError
from tests.cli.conftest import Run
from tests.fakes import FakeEngine, scene

BOX = ("--box", 40, 34, 87, 97)
GREY = scene()[0][..., 0]


def save(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    else:
        nib.save(nib.Nifti1Image(array, np.eye(4), dtype=array.dtype), path)
    return path


def holes(array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float32)
    array[:20], array[100:, :10], array[100:, 110:] = np.nan, np.inf, -np.inf
    return array


def hounsfield() -> np.ndarray:
    array = np.where(GREY > 100, 60, -100).astype(np.int16)
    array[:4], array[-4:] = -3024, 3071
    return array


SENSIBLE = {
    "nan and inf": holes(GREY),
    "float": GREY / 255.0,
    "half": (GREY / 255.0).astype(np.float16),
    "boolean": GREY > 100,
    "uint16": GREY.astype(np.uint16) * 200,
    "int16 below -1024": hounsfield(),
    "int32": GREY.astype(np.int32) * 1000 - 500_000,
}


@pytest.mark.parametrize("name", SENSIBLE)
def test_every_type_of_pixel_is_segmented(
    name: str, run: Run, engine: FakeEngine, truth: np.ndarray, tmp_path: Path
) -> None:
    path = save(tmp_path / "image.tif", SENSIBLE[name])
    result = run("segment", path, *BOX, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    mask = np.asarray(Image.open(tmp_path / "out" / "mask.png")) > 0
    assert (mask & truth).sum() > 0.9 * truth.sum()


@pytest.mark.parametrize(
    "array",
    [
        np.full((64, 64), 7, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.zeros((1, 300), np.uint8),
    ],
    ids=["constant", "one pixel", "one row"],
)
def test_images_without_anything_to_see(array: np.ndarray, run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    path = save(tmp_path / "image.tif", array)
    result = run("segment", path, "--point", 0, 0, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert 0 <= summary["area_px"] <= array.size


def test_nothing_but_nan(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    path = save(tmp_path / "image.tif", np.full((64, 64), np.nan, np.float32))
    assert "nothing to see" in run("segment", path, "--point", 0, 0, "--out", tmp_path / "out").sentence


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 5, 6, 7), np.float32), "--volume K"),
        (np.ones((8, 8, 3), np.complex64), "complex"),
    ],
    ids=["4D", "complex"],
)
def test_images_that_cannot_be_used(array: np.ndarray, says: str, run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    path = save(tmp_path / "image.nii", array)
    assert says in run("segment", path, "--slice", 0, "--point", 1, 1, "--out", tmp_path / "out").sentence
    assert engine.embed_calls == 0
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_what_they_seem(run: Run, engine: FakeEngine, picture: Path, tmp_path: Path) -> None:
    whole = picture.read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image", "utf-8")
    (tmp_path / "text.nii.gz").write_text("not an image", "utf-8")
    (tmp_path / "image.xyz").write_bytes(whole)
    (tmp_path / "folder.png").mkdir()
    for name in ("cut.png", "empty.png", "text.png", "text.nii.gz", "image.xyz", "folder.png", "absent.png"):
        assert name in run("segment", tmp_path / name, *BOX, "--out", tmp_path / "out").sentence
    assert engine.embed_calls == 0


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ((), "nothing to segment"),
        (("--negative", 5, 5), "nothing to segment"),
        (("--box", 200, 200, 220, 220), "outside the 128 x 128 image"),
        (("--box", -40, -40, -10, -10), "outside the 128 x 128 image"),
        (("--box", 0, "nan", 10, 10), "not a finite number"),
        (("--box", 0, "inf", 10, 10), "not a finite number"),
        (("--point", 128, 3), "outside the 128 x 128 image"),
        (("--point", -1, 3), "outside the 128 x 128 image"),
        (("--point", 60, 60, "--negative", 500, 3), "outside the 128 x 128 image"),
    ],
)
def test_prompts_that_miss(
    prompts: tuple, says: str, run: Run, engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    assert says in run("segment", picture, *prompts, "--out", tmp_path / "out").sentence
    assert engine.embed_calls == 0


@pytest.mark.parametrize(
    "box",
    [
        (87, 97, 40, 34),
        (40, 97, 87, 34),
        (60, 60, 60, 60),
        (60, 60, 60, 90),
        (-50, -50, 500, 500),
        (40.5, 34.25, 87, 97),
    ],
    ids=["inverted", "half inverted", "one pixel", "one row", "larger than the image", "fractional"],
)
def test_odd_boxes_still_segment(box: tuple, run: Run, engine: FakeEngine, picture: Path, tmp_path: Path) -> None:
    result = run("segment", picture, "--box", *box, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert np.asarray(Image.open(tmp_path / "out" / "mask.png")).any()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--slice", 1), "slice 1"),
        (("--slice", -1), "slice -1"),
        (("--plane", 1), "plane 1"),
        (("--plane", 7), "plane 7"),
        (("--method", "magic"), "choose one of laplace, entropy, prompt"),
        (("--window", "kidney"), "soft tissue"),
        (("--window", "300,-100"), "window"),
    ],
)
def test_settings_that_do_not_exist(
    arguments: tuple, says: str, run: Run, engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    assert says in run("segment", picture, *BOX, *arguments, "--out", tmp_path / "out").sentence


def test_a_volume_needs_to_know_the_slice(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", np.zeros((9, 8, 7), np.int16))
    assert "--slice (0 to 6)" in run("segment", path, "--point", 1, 1, "--out", tmp_path / "out").sentence
    assert "0 to 6" in run("segment", path, "--slice", 7, "--point", 1, 1, "--out", tmp_path / "out").sentence


def test_models_and_devices_that_are_not_there(run: Run, picture: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "models download sam2.1-large" in run("segment", picture, *BOX, "--model", "sam2.1-large", *out).sentence
    assert "sam2.1-tiny" in run("segment", picture, *BOX, "--model", "sam2.1-tin", *out).sentence
    (tmp_path / "own.pt").write_bytes(b"not weights")
    assert "--config" in run("segment", picture, *BOX, "--model", tmp_path / "own.pt", *out).sentence
    config = ("--config", "configs/sam2.1/sam2.1_hiera_t.yaml")
    assert "own.pt" in run("segment", picture, *BOX, "--model", tmp_path / "own.pt", *config, *out).sentence
    assert "toaster" in run("segment", picture, *BOX, "--device", "toaster", *out).sentence


def test_an_out_that_cannot_be_a_folder(run: Run, engine: FakeEngine, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    assert "is a file" in run("segment", picture, *BOX, "--out", tmp_path / "file").sentence
    assert "file" in run("segment", picture, *BOX, "--out", tmp_path / "file" / "below").sentence
    assert (tmp_path / "file").read_text("utf-8") == "x"


@pytest.mark.parametrize("kind", ["embed", "decode"])
def test_out_of_memory_is_a_sentence(kind: str, run: Run, engine: FakeEngine, picture: Path, tmp_path: Path) -> None:
    engine.fail = kind
    assert "memory" in run("segment", picture, *BOX, "--out", tmp_path / "out").sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (EngineError("The model said no."), 2, "Error: The model said no."),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (MemoryError(), 2, "memory"),
        (PermissionError(13, "Permission denied", "/somewhere"), 2, "/somewhere"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_failures_in_the_middle(
    error: BaseException,
    code: int,
    says: str,
    run: Run,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("napari_uncertsam.cli.segment.load_engine", fail)
    result = run("segment", picture, *BOX, "--out", tmp_path / "out")
    assert result.code == code
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_only_the_view_of_a_big_image_is_embedded(
    run: Run, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = np.full((3000, 4000), 30, np.uint8)
    big[2000:2128, 3000:3128] = GREY
    Image.fromarray(big).save(tmp_path / "big.png")
    seen, embed = [], engine.embed
    monkeypatch.setattr(engine, "embed", lambda image: (seen.append(image.shape), embed(image))[1])
    box = ("--box", 2040, 3034, 2087, 3097)
    assert run("segment", tmp_path / "big.png", *box, "--out", tmp_path / "out").code == 0
    assert max(max(shape) for shape in seen) < 300
    mask = np.asarray(Image.open(tmp_path / "out" / "mask.png")) > 0
    assert mask.shape == big.shape
    assert mask[2040:2088, 3034:3098].sum() == mask.sum() > 2000
