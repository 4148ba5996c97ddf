"""Results on a volume from DICOM, saved as DICOM SEG beside the NIfTI files, or alone where slices are tilted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_uncertsam import saving
from napari_uncertsam.errors import InputError
from napari_uncertsam.io import read, read_segmentation
from napari_uncertsam.prompts import Box
from napari_uncertsam.saving import saving_note
from napari_uncertsam.session import Session
from tests.predictions import predicted

pytest.importorskip("highdicom")
from tests.io.makers import save, series, stored_values

FACES, BOX = (16, 12), Box(2, 3, 9, 8)
TILTED = (0.0, 0.3, 1.0)


def opened(folder: Path, direction: tuple[float, ...] | None = None) -> Session:
    save(folder, series(stored_values(), direction=None if direction is None else np.array(direction)))
    session = Session(read(folder))
    session.go_to(0, 3)
    session.set_box(BOX)
    session.deliver(predicted(session.request, FACES, BOX))
    return session


def test_a_series_gets_both(tmp_path: Path) -> None:
    session = opened(tmp_path / "in")
    assert saving_note(session.volume) == ""
    paths = session.save(tmp_path / "out")
    names = ["mask.nii.gz", "probability.nii.gz", "uncertainty.nii.gz", "session.json", "summary.json"]
    assert [p.name for p in paths] == [*names, "segmentation.dcm", "probability.dcm"]
    back = read_segmentation(paths[-2], session.volume)
    assert np.array_equal(np.asarray(getattr(back, "labels", back)), session.labels)
    with pytest.raises(InputError, match=r"segmentation\.dcm"):
        session.save(tmp_path / "out")


def test_tilted_slices_get_dicom_alone(tmp_path: Path) -> None:
    session = opened(tmp_path / "in", TILTED)
    assert "tilted" in saving_note(session.volume)
    names = ["session.json", "summary.json", "segmentation.dcm", "probability.dcm"]
    assert [p.name for p in session.save(tmp_path / "out")] == names


def test_without_highdicom_nothing_else_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(tmp_path / "in")
    monkeypatch.setattr(saving, "_has_highdicom", lambda: False)
    assert "install highdicom" in saving_note(session.volume)
    assert all(p.suffix != ".dcm" for p in session.save(tmp_path / "out"))


def test_files_that_went_away_cost_the_dicom_files_only(tmp_path: Path) -> None:
    session = opened(tmp_path / "in")
    np.asarray(session.volume.array[0])
    for path in (tmp_path / "in").iterdir():
        path.rename(path.with_suffix(".gone"))
    with pytest.raises(InputError, match="Everything but DICOM files is saved"):
        session.save(tmp_path / "out")
    assert {"mask.nii.gz", "session.json"} <= {p.name for p in (tmp_path / "out").iterdir()}
