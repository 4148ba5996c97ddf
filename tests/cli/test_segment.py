"""``segment``: what it writes, for every kind of input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_uncertsam import io
from napari_uncertsam.checkpoints import installed_path
from napari_uncertsam.cli.choosing import join_points
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.evaluation.metrics import dice
from napari_uncertsam.prediction import Settings
from napari_uncertsam.refinement.methods import METHODS, make_method
from tests.cli.conftest import Run
from tests.fakes import FakeEngine, scene

BOX = ("--box", 40, 34, 87, 97)
KEYS = {
    "model",
    "checkpoint_sha256",
    "method",
    "measure",
    "device",
    "seconds",
    "mean_uncertainty",
    "area_px",
    "area_interval",
    "suggestions",
    "rounds",
    "seed",
    "versions",
    "view",
    "prompts",
}


def write_volume(path: Path, dtype: type = np.int16) -> np.ndarray:
    """A NIfTI with an oblique affine whose slice 2 is the scene; returns its affine."""
    array = np.zeros((128, 128, 5), dtype)  # NIfTI order x, y, z
    array[..., 2] = scene()[0][..., 0].T
    angle = 0.2
    affine = np.array(
        [
            [0.9 * math.cos(angle), -0.8 * math.sin(angle), 0, -30],
            [0.9 * math.sin(angle), 0.8 * math.cos(angle), 0, 12],
            [0, 0, 2.5, 7],
            [0, 0, 0, 1],
        ]
    )
    nib.save(nib.Nifti1Image(array, affine, dtype=dtype), path)
    return affine


def test_a_picture_gives_mask_maps_and_summary(
    run: Run, engine: FakeEngine, picture: Path, truth: np.ndarray, tmp_path: Path
) -> None:
    result = run("segment", picture, *BOX, "--out", tmp_path / "new" / "out", "--method", "entropy")
    assert (result.code, result.err) == (0, "")
    out = tmp_path / "new" / "out"
    assert {p.name for p in out.iterdir()} == {"mask.png", "probability.tif", "uncertainty.tif", "summary.json"}
    mask = io.read_labels(out / "mask.png").array
    assert dice(mask, truth) > 0.95
    probability, uncertainty = (tifffile.imread(out / f"{n}.tif") for n in ("probability", "uncertainty"))
    assert probability.shape == uncertainty.shape == truth.shape
    assert np.array_equal(probability > 0.5, mask > 0)
    assert uncertainty.min() == 0 < uncertainty.max() <= np.float32(math.log(2))

    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert set(summary) >= KEYS
    assert summary["model"] == "fake"
    assert summary["checkpoint_sha256"] == engine.sha256
    assert (summary["method"], summary["measure"]) == ("entropy", "entropy")
    assert summary["area_px"] == (mask > 0).sum()
    low, high = summary["area_interval"]
    assert low <= summary["area_px"] <= high
    assert 0 < summary["mean_uncertainty"] < math.log(2)
    assert summary["rounds"] == []
    assert summary["seconds"]["total"] > 0
    assert summary["prompts"]["box"] == {"y0": 40, "x0": 34, "y1": 87, "x1": 97}
    for suggestion in summary["suggestions"]:
        assert suggestion["kind"] in ("point", "box")
        assert 0 <= suggestion["y"] <= 127
        assert 0 <= suggestion["x"] <= 127
        assert 0 < suggestion["score"] <= math.log(2) + 1e-6
    assert f"{summary['area_px']:.0f} px" in result.out


def test_a_volume_keeps_its_geometry(run: Run, engine: FakeEngine, truth: np.ndarray, tmp_path: Path) -> None:
    affine = write_volume(tmp_path / "ct.nii.gz")
    out = tmp_path / "out"
    result = run("segment", tmp_path / "ct.nii.gz", "--slice", 2, *BOX, "--window", "0,255", "--out", out)
    assert result.code == 0, result.err
    for name in ("mask", "probability", "uncertainty"):
        image = nib.load(out / f"{name}.nii.gz")
        assert image.shape == (128, 128, 5)
        np.testing.assert_allclose(image.affine, affine, atol=1e-5)
        values = np.asarray(image.dataobj)
        assert values[..., 2].any()
        assert not values[..., [0, 1, 3, 4]].any()
    mask = np.asarray(nib.load(out / "mask.nii.gz").dataobj)[..., 2].T
    assert dice(mask, truth) > 0.95
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["slice"] == 2
    assert summary["area_mm2"] == pytest.approx(summary["area_px"] * 0.9 * 0.8, rel=1e-4)


def test_other_planes_of_a_volume(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    write_volume(tmp_path / "ct.nii")
    arguments = ("segment", tmp_path / "ct.nii", "--plane", 1, "--slice", 64, "--window", "0,255")
    assert run(*arguments, "--point", 2, 64, "--out", tmp_path / "out").code == 0
    mask = np.asarray(nib.load(tmp_path / "out" / "mask.nii.gz").dataobj)  # (x, y, z)
    assert mask[:, 64].any()
    assert mask.sum() == mask[:, 64].sum()


def test_points_of_both_signs_may_be_repeated(run: Run, engine: FakeEngine, picture: Path, tmp_path: Path) -> None:
    clicks = ("--point", 60, 60, "--negative", 5, 5, "--point", 64, 70, "--negative", 100.5, 20)
    assert run("segment", picture, *clicks, "--out", tmp_path / "out").code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    found = [(p["y"], p["x"], p["positive"]) for p in summary["prompts"]["points"]]
    assert found == [(60, 60, True), (64, 70, True), (5, 5, False), (100.5, 20, False)]


def test_numbers_of_a_point_are_joined() -> None:
    assert join_points(["a", "--point", "1", "-2", "--negative", "3", "4", "b"]) == [
        "a",
        "--point=1 -2",
        "--negative=3 4",
        "b",
    ]
    assert join_points(["--point", "1", "--out", "o"]) == ["--point=1", "--out", "o"]
    assert join_points(["--point=1 2"]) == ["--point=1 2"]


@pytest.mark.parametrize("preset", ["recommended", "paper"])
def test_refinement_rounds_are_reported(
    run: Run, engine: FakeEngine, picture: Path, tmp_path: Path, preset: str
) -> None:
    # A box that cuts the ellipse off leaves the rest uncertain, so there is something to refine.
    arguments = ("segment", picture, "--box", 48, 56, 95, 119, "--refine", 2, "--ugpa", preset)
    result = run(*arguments, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    rounds = summary["rounds"]
    assert 1 <= len(rounds) <= 2
    for number, one in enumerate(rounds, start=1):
        assert set(one) >= {"mean_uncertainty_before", "mean_uncertainty_after", "accepted", "area_ratio", "reason"}
        if one["box"] is None:  # looked, and nothing to try
            assert not one["accepted"]
            continue
        rises = preset == "recommended"  # Dice, or entropy
        assert one["rule"] == ("hypotheses-entropy" if rises else "mean-entropy-image")
        assert not one["accepted"] or (one["after"] > one["before"]) == rises
        assert one["prompts"]["box"] == one["box"]
        assert one["points_added"] == (0 if rises else 10)
        assert len(one["prompts"]["points"]) == number * one["points_added"]
    if rounds[0]["accepted"] and len(rounds) == 2 and not rounds[1]["accepted"]:
        assert summary["prompts"]["box"] == pytest.approx(rounds[0]["box"])
    assert "Round 1: " in result.out


def test_an_unknown_refinement_is_told_before_anything_else(
    run: Run, engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    arguments = ("segment", picture, *BOX, "--out", tmp_path / "out", "--refine", 1, "--ugpa", "magic")
    assert "choose one of recommended, paper" in run(*arguments).sentence
    assert engine.embed_calls == 0


def test_the_same_seed_gives_the_same_files(run: Run, engine: FakeEngine, picture: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        arguments = ("segment", picture, "--box", 40, 34, 87, 70, "--method", "prompt", "--seed", seed)
        assert run(*arguments, "--out", tmp_path / name).code == 0
    a, b, c = ((tmp_path / n / "uncertainty.tif").read_bytes() for n in "abc")
    assert a == b != c


def test_the_default_method_is_the_package_s(engine: FakeEngine) -> None:
    import inspect

    from napari_uncertsam.cli.segment import default_method, segment

    parameters = inspect.signature(segment).parameters
    assert default_method(engine) == Settings().method
    assert parameters["model"].default == Settings().model
    assert parameters["seed"].default == Settings().seed


@pytest.mark.parametrize(
    ("given", "full", "largest", "unit"),
    [
        ("entropy", "entropy", math.log(2), " nats"),
        ("mi", "mutual-information", math.log(2), " nats"),
        ("std", "std", 0.5, ""),
    ],
)
def test_the_map_shows_the_measure(
    run: Run, engine: FakeEngine, picture: Path, tmp_path: Path, given: str, full: str, largest: float, unit: str
) -> None:
    out, box = tmp_path / "out", ("--box", 40, 34, 87, 70)
    result = run("segment", picture, *box, "--method", "prompt", "--measure", given, "--out", out)
    assert result.code == 0, result.err
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["measure"] == full
    shown = tifffile.imread(out / "uncertainty.tif")
    assert 0 < shown.max() <= np.float32(largest)
    assert (
        f"mean {UNCERTAINTY_MEASURES[full].title.lower()} {summary['mean_uncertainty']:.3f}{unit}, Dice" in result.out
    )
    run("segment", picture, *box, "--method", "prompt", "--out", tmp_path / "own")
    own = tifffile.imread(tmp_path / "own" / "uncertainty.tif")
    assert (own == shown).all() == (full == make_method("prompt").measures[0])


def test_without_a_posterior_the_default_is_prompt_perturbation(
    run: Run, engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    installed_path("laplace", engine.sha256).unlink()
    done = run("segment", picture, *BOX, "--out", tmp_path / "out")
    assert done.code == 0
    assert "no Laplace posterior for the model fake yet; fit one with" in done.err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["method"] == "prompt"


def test_a_measure_that_there_is_not_is_told_before_anything_else(
    run: Run, engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    arguments = ("segment", picture, *BOX, "--out", tmp_path / "out", "--measure")
    assert "entropy has no mutual-information" in run(*arguments, "mi", "--method", "entropy").sentence
    assert "no measure 'colour'" in run(*arguments, "colour").sentence
    assert "no method 'ball'" in run(*arguments, "std", "--method", "ball").sentence
    assert engine.embed_calls == 0


def test_a_method_without_its_part_says_how_to_fit_it(
    run: Run, engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    installed_path("laplace", engine.sha256).unlink()
    for name in METHODS:
        if make_method(name).needs is not None:
            result = run("segment", picture, *BOX, "--out", tmp_path / "out", "--method", name)
            assert (result.code, result.out) == (2, "")
            assert "napari-uncertsam fit" in result.err


def test_a_folder_with_files_is_refused_until_told(run: Run, engine: FakeEngine, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("segment", picture, *BOX, "--out", out).code == 0
    before = (out / "summary.json").read_bytes()
    decodes = engine.decode_calls
    assert "--overwrite" in run("segment", picture, *BOX, "--out", out).sentence
    assert (out / "summary.json").read_bytes() == before
    assert engine.decode_calls == decodes  # told before anything was computed
    assert run("segment", picture, "--point", 60, 60, "--out", out, "--overwrite").code == 0
    assert (out / "summary.json").read_bytes() != before


def test_colour_alpha_and_tiff(run: Run, engine: FakeEngine, truth: np.ndarray, tmp_path: Path) -> None:
    rgb = scene()[0]
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    Image.fromarray(rgb).save(tmp_path / "b.jpg", quality=95)
    tifffile.imwrite(tmp_path / "c.tif", rgb[..., 0].astype(np.uint16) * 100, photometric="minisblack")
    for name in ("a.png", "b.jpg", "c.tif"):
        assert run("segment", tmp_path / name, *BOX, "--out", tmp_path / f"out-{name}").code == 0
        assert dice(io.read_labels(tmp_path / f"out-{name}" / "mask.png").array, truth) > 0.95


BUNDLED = Path(io.__file__).parents[1] / "weights" / "bundled.safetensors"


@pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled model has not been trained yet")
def test_the_bundled_model_end_to_end(run: Run, picture: Path, truth: np.ndarray, tmp_path: Path) -> None:
    result = run("segment", picture, *BOX, "--refine", 1, "--device", "cpu", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["model"] == "bundled"
    assert len(summary["checkpoint_sha256"]) == 64
    assert dice(io.read_labels(tmp_path / "out" / "mask.png").array, truth) > 0.85
