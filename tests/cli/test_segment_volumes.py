"""``segment`` on DICOM series and on NIfTI files with several volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_uncertsam import io
from napari_uncertsam.evaluation.metrics import dice
from tests.cli.conftest import Run
from tests.fakes import FakeEngine, scene
from tests.io.makers import save, series
from tests.io.test_dicom_geometry import orientation

BOX = ("--box", 40, 34, 87, 97, "--slice", 1)


@pytest.fixture
def scan() -> np.ndarray:
    """Three slices as a CT stores them; the middle one is the scene."""
    array = np.full((3, 128, 128), 1024, np.uint16)
    array[1] += scene()[0][..., 0]
    return array


def test_a_series_is_chosen_and_its_mask_lies_in_the_patient(
    run: Run, engine: FakeEngine, truth: np.ndarray, scan: np.ndarray, tmp_path: Path
) -> None:
    save(tmp_path / "scan", series(scan, seed="a"))
    save(tmp_path / "scan", series(scan[::-1, ::-1], seed="b", SeriesNumber=9), prefix="B")
    result = run("segment", tmp_path / "scan", *BOX, "--out", tmp_path / "out", "--window", "0,255")
    assert result.code == 2
    assert "--series N" in result.err
    assert "  2: CT, Abdomen 5.0 B30f, series 9, 3 x 128 x 128" in result.err
    result = run(
        *("segment", tmp_path / "scan", *BOX, "--out", tmp_path / "out", "--window", "0,255"),
        *("--series", 1, "--method", "entropy"),
    )
    assert (result.code, result.err) == (0, "")
    mask = nib.load(tmp_path / "out" / "mask.nii.gz")
    assert dice(mask.get_fdata().T[1] > 0, truth) > 0.95
    expected = io.read(tmp_path / "scan", series=1).affine
    np.testing.assert_allclose(mask.affine[:, [2, 1, 0, 3]], expected, atol=1e-6)
    assert "ecret" not in (tmp_path / "out" / "summary.json").read_text("utf-8")


def test_one_volume_of_a_nifti_is_chosen(
    run: Run, engine: FakeEngine, truth: np.ndarray, scan: np.ndarray, tmp_path: Path
) -> None:
    stack = np.stack([np.zeros_like(scan), scan - 1024], axis=-1).astype(np.int16).transpose(2, 1, 0, 3)
    nib.Nifti1Image(stack, np.eye(4)).to_filename(tmp_path / "a.nii")
    arguments = ("segment", tmp_path / "a.nii", *BOX, "--out", tmp_path / "out", "--method", "entropy")
    assert "--volume K" in run(*arguments).sentence
    assert "no volume 2" in run(*arguments, "--volume", 2).sentence
    assert run(*arguments, "--volume", 1).code == 0
    assert dice(nib.load(tmp_path / "out" / "mask.nii.gz").get_fdata().T[1] > 0, truth) > 0.95


def test_a_tilted_series_is_refused_before_anything_is_computed(
    run: Run, scan: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("no model expected")

    monkeypatch.setattr("napari_uncertsam.cli.segment.load_engine", fail)
    save(tmp_path / "scan", series(scan, orientation=orientation((10, 0, 0)), direction=np.array([0, 0, 1.0])))
    result = run("segment", tmp_path / "scan", *BOX, "--out", tmp_path / "out")
    assert result.code == 2
    note, error = result.err.splitlines()
    assert note.startswith("Note: The slices are tilted by 10.0 degrees")
    assert "DICOM SEG" in error
    assert not (tmp_path / "out").exists()
