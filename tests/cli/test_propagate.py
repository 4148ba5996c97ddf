"""``propagate``: one prompted slice in, the whole object out; and a saved session again."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_uncertsam import io
from napari_uncertsam.checkpoints import installed_path
from napari_uncertsam.evaluation.metrics import dice
from napari_uncertsam.intensity import Window
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.session import Session
from napari_uncertsam.volumetry import voxel_mm3
from tests.cli.conftest import Outcome, Run
from tests.fakes import FakeEngine

DEPTH, HEIGHT, WIDTH = 17, 72, 80
CENTRE, RADII = (8, 36, 40), (6.5, 18.0, 22.0)
BOX = ("--slice", 8, "--box", 17, 17, 55, 63)
OBLIQUE = "Note: The volume is oblique: "
USUAL = ("--window", "0,255", "--method", "entropy")
MAPS = ("mask", "probability", "uncertainty")


def ellipsoid() -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipsoid on a dark ground, and where it is, (Z, Y, X); on slices 2 to 14."""
    axes = np.ogrid[:DEPTH, :HEIGHT, :WIDTH]
    truth = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, CENTRE, RADII, strict=True)) <= 1
    noise = np.random.default_rng(0).normal(30, 4, truth.shape)
    return np.clip(noise + 190 * truth, 0, 255).astype(np.int16), np.asarray(truth)


def oblique() -> np.ndarray:
    """Of voxels of 0.8 x 0.9 x 2.5 mm, in the order x, y, z."""
    a, b = 0.2, 0.1
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ lean @ np.diag([0.8, 0.9, 2.5])
    affine[:3, 3] = -30, 12, 7
    return affine


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(ellipsoid()[0].transpose(2, 1, 0), oblique(), dtype=np.int16), path)
    return path


def array(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)


def notes(result: Outcome) -> list[str]:
    """What was told on stderr, without the numbers."""
    return [line[:29] for line in result.err.splitlines() if line.strip()]


def refusal(result: Outcome) -> str:
    """The sentence of a failure behind the notes about the image."""
    assert result.code == 2, result.err
    *told, error = result.err.strip().splitlines()
    assert all(line.startswith("Note: ") for line in told)
    assert error.startswith("Error: ")
    assert error.endswith(".")
    return error


def read(path: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(path.read_text("utf-8"))
    return document


def test_one_box_gives_the_whole_object(run: Run, engine: FakeEngine, scan: Path, tmp_path: Path) -> None:
    out, truth = tmp_path / "out", ellipsoid()[1]
    result = run("propagate", scan, *BOX, "--window", "0,255", "--out", out)
    assert result.code == 0, result.err
    assert notes(result) == [OBLIQUE]
    mask = array(out / "mask.nii.gz") > 0
    assert dice(mask, truth) > 0.95
    images = {name: nib.load(out / f"{name}.nii.gz") for name in MAPS}
    for image in images.values():
        assert image.shape == (WIDTH, HEIGHT, DEPTH)
        np.testing.assert_allclose(image.affine, oblique(), atol=1e-6)
    probability, uncertainty = (array(out / f"{name}.nii.gz") for name in MAPS[1:])
    assert dice(probability > 0.5, mask) > 0.99
    assert 0 < uncertainty.max() <= np.float32(math.log(2))
    found = np.flatnonzero(mask.any((1, 2)))
    assert set(np.flatnonzero(uncertainty.any((1, 2)))) >= set(found)

    summary = read(out / "summary.json")
    ml = mask.sum() * 0.8 * 0.9 * 2.5 / 1000
    assert summary["volume_ml"] == pytest.approx(ml, rel=1e-5)
    low, high = summary["volume_interval_ml"]
    assert low < ml < high
    assert [fact["slice_index"] for fact in summary["slices"]] == list(found)
    assert [f["area_px"] for f in summary["slices"]] == list(mask[found].sum((1, 2)))
    assert [f["kind"] for f in summary["slices"]].count("prompted") == 1
    assert (summary["method"], summary["measure"], summary["slice"]) == ("laplace", "entropy", 8)
    sentence, *files = result.out.splitlines()
    assert sentence == (
        f"{len(found)} slices ({found[0]} to {found[-1]}), {ml:.1f} mL (90% interval {low:.1f} to {high:.1f})."
    )
    assert {Path(f).name for f in files} == {p.name for p in out.iterdir()}


def test_the_session_is_taken_up_again(run: Run, engine: FakeEngine, scan: Path, tmp_path: Path) -> None:
    assert run("propagate", scan, *BOX, *USUAL, "--out", tmp_path / "a", "--seed", 3).code == 0
    session = Session(io.read(scan))
    session.load(tmp_path / "a" / "session.json")
    assert np.array_equal(session.labels, array(tmp_path / "a" / "mask.nii.gz"))
    assert session.prompts.box == Box(17, 17, 55, 63)
    assert (session.settings.model, session.settings.method, session.settings.seed) == ("bundled", "entropy", 3)
    assert not session.stale_slices()

    saved = ("--session", tmp_path / "a" / "session.json")
    result = run("propagate", scan, *saved, "--out", tmp_path / "b")
    assert (result.code, notes(result)) == (0, [OBLIQUE])
    for name in MAPS:
        assert np.array_equal(array(tmp_path / "a" / f"{name}.nii.gz"), array(tmp_path / "b" / f"{name}.nii.gz"))
    assert read(tmp_path / "a" / "summary.json")["slices"] == read(tmp_path / "b" / "summary.json")["slices"]

    result = run("propagate", scan, *saved, "--out", tmp_path / "c", "--update")
    assert "Note: Object 1: Everything is up to date" in result.err
    engine.sha256 = "0" * 64
    result = run("propagate", scan, *saved, "--out", tmp_path / "d")
    assert (result.code, "made with other weights" in result.err) == (0, True)


def test_prompts_on_several_slices_come_as_a_session(run: Run, engine: FakeEngine, scan: Path, tmp_path: Path) -> None:
    session = Session(io.read(scan))
    session.set_settings(method="entropy")
    session.set_window(Window(0, 255))
    for index in (4, 12):
        session.go_to(0, index)
        session.add_point(Point(36, 40))
    session.new_object()
    path = session.autosave(tmp_path / "prompts.json")
    result = run("propagate", scan, "--session", path, "--out", tmp_path / "a")
    assert result.out.startswith("Object 1: 2 slices (4 to 12), ")
    assert "Object 2: no mask in plane 0." in result.out
    result = run("propagate", scan, "--session", path, "--out", tmp_path / "b", "--update")
    assert "Object 2: There is nothing to propagate object 2 from" in result.err
    assert dice(array(tmp_path / "b" / "mask.nii.gz") > 0, ellipsoid()[1]) > 0.95


def test_other_planes_and_a_stack_without_a_size(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    import tifffile

    values, truth = ellipsoid()
    tifffile.imwrite(tmp_path / "a.tif", values.astype(np.uint8), photometric="minisblack")
    where = ("--plane", 2, "--slice", 40, "--point", 8, 36)
    result = run("propagate", tmp_path / "a.tif", *where, *USUAL, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    mask = tifffile.imread(tmp_path / "out" / "mask.tif") > 0
    assert dice(mask, truth) > 0.9
    assert f", {mask.sum()} voxels (90% interval " in result.out


def test_a_series_gets_dicom_files(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    from tests.io.makers import save, series

    values, truth = (a[5:12] for a in ellipsoid())
    save(tmp_path / "scan", series(values.astype(np.uint16) + 1024))
    where = ("--slice", 3, "--box", 17, 17, 55, 63)
    result = run("propagate", tmp_path / "scan", *where, *USUAL, "--out", tmp_path / "out")
    assert (result.code, result.err.strip()) == (0, "")
    volume = io.read(tmp_path / "scan")
    labels = io.read_segmentation(tmp_path / "out" / "segmentation.dcm", volume)
    assert dice(labels > 0, truth) > 0.95
    assert np.array_equal(labels, array(tmp_path / "out" / "mask.nii.gz"))
    expected = labels.astype(bool).sum() * voxel_mm3(volume) / 1000
    assert read(tmp_path / "out" / "summary.json")["volume_ml"] == pytest.approx(expected)
    assert (tmp_path / "out" / "probability.dcm").exists()


def test_a_tilted_series_gets_dicom_files_alone(
    run: Run, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("highdicom")
    from tests.io.makers import save, series

    values, truth = (a[6:10] for a in ellipsoid())
    save(tmp_path / "scan", series(values.astype(np.uint16) + 1024, direction=np.array([0.0, 0.3, 1.0])))
    arguments = ("propagate", tmp_path / "scan", "--slice", 2, "--box", 17, 17, 55, 63, *USUAL, "--out")
    result = run(*arguments, tmp_path / "out")
    assert result.code == 0, result.err
    assert "there are only DICOM files" in result.err
    names = {"segmentation.dcm", "probability.dcm", "session.json", "summary.json"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    labels = io.read_segmentation(tmp_path / "out" / "segmentation.dcm", io.read(tmp_path / "scan"))
    assert dice(labels > 0, truth) > 0.95
    # Without highdicom there is nothing that it could be written to, which is told before anything is computed.
    found, calls = importlib.util.find_spec, engine.embed_calls
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "highdicom" else found(name, *a))
    assert "tilted" in refusal(run(*arguments, tmp_path / "other"))
    assert engine.embed_calls == calls


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--slice", 8), "nothing to segment from; give --box"),
        (BOX[2:], "17 slices in plane 0; say which one the prompts are on with --slice (0 to 16)"),
        (("--slice", 17, *BOX[2:]), "There is no slice 17 in plane 0; choose one from 0 to 16"),
        (("--slice", 8, "--negative", 3, 3), "nothing to segment from"),
        (("--slice", 8, "--point", 300, 3), "300"),
        (("--slice", 0, "--box", 17, 17, 55, 63), "Nothing was found on slice 0; move the box"),
        ((*BOX, "--method", "magic"), "magic"),
        ((*BOX, "--session", "a.json"), "says itself what --slice, --box would say"),
        (("--session", "missing.json"), "missing.json cannot be read"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    run: Run, engine: FakeEngine, scan: Path, tmp_path: Path, arguments: tuple[object, ...], part: str
) -> None:
    out = tmp_path / "out"
    window = () if "--session" in arguments else ("--window", "0,255")
    assert part in refusal(run("propagate", scan, *arguments, *window, "--out", out))
    assert not out.exists()


def test_pictures_empty_sessions_and_full_folders_are_refused(
    run: Run, engine: FakeEngine, scan: Path, picture: Path, tmp_path: Path
) -> None:
    assert "is a 2D image" in run("propagate", picture, *BOX, "--out", tmp_path / "out").sentence
    empty = Session(io.read(scan)).autosave(tmp_path / "empty.json")
    assert "no prompts in" in refusal(run("propagate", scan, "--session", empty, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert "--overwrite" in run("propagate", scan, *BOX, "--out", tmp_path).sentence
    assert engine.embed_calls == 0
    installed_path("laplace", engine.sha256).unlink()
    needs = run("propagate", scan, *BOX, "--method", "laplace", "--out", tmp_path / "out")
    assert "napari-uncertsam fit" in needs.err


BUNDLED = Path(io.__file__).parents[1] / "weights" / "bundled.safetensors"


@pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled model has not been trained yet")
def test_the_bundled_model_end_to_end(run: Run, tmp_path: Path) -> None:
    folder = Path(io.__file__).parents[1] / "samples"
    ct, labels = (nib.load(folder / f"abdomen_{name}.nii.gz").slicer[..., 18:25] for name in ("ct", "labels"))
    nib.save(ct, tmp_path / "ct.nii")
    truth = np.asarray(labels.dataobj).transpose(2, 1, 0) == 5  # a kidney
    rows, columns = (np.flatnonzero(truth[3].any(axis)) for axis in (1, 0))
    box = ("--box", rows[0], columns[0], rows[-1], columns[-1])
    out = tmp_path / "out"
    result = run("propagate", tmp_path / "ct.nii", "--slice", 3, *box, "--device", "cpu", "--out", out)
    assert result.code == 0, result.err
    assert dice(array(out / "mask.nii.gz") > 0, truth) > 0.8
    assert len(read(out / "summary.json")["slices"]) == 7
    again = run("propagate", tmp_path / "ct.nii", "--session", out / "session.json", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert np.array_equal(array(out / "mask.nii.gz"), array(tmp_path / "again" / "mask.nii.gz"))
