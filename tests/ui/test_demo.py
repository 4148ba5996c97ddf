"""The demo in a real window, with an engine that needs no weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Layer
from PIL import Image
from qtpy.QtTest import QTest

from napari_uncertsam.errors import EngineError
from napari_uncertsam.io import read, sample_path
from napari_uncertsam.prompts import Box
from napari_uncertsam.ui import demo
from napari_uncertsam.ui.jobs import Jobs
from tests.fakes import FakeEngine


def test_the_box_encloses_the_right_kidney() -> None:
    kidney = np.asarray(read(sample_path("abdomen_labels")).array)[demo.SLICE] == 5
    tight = Box.of_mask(kidney)
    assert 0.8 < demo.BOX.iou(tight) < 1
    assert demo.BOX.intersection(tight) == tight.area


def test_the_demo_saves_its_window_and_results(make_napari_viewer, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mask.nii.gz").write_text("of an earlier demo", "utf-8")
    saved = demo.save(tmp_path / "demo", make_napari_viewer(show=True), Jobs(lambda _model: FakeEngine()))
    names = {p.name for p in saved.paths}
    assert names >= {"screenshot.png", "mask.nii.gz", "probability.nii.gz", "uncertainty.nii.gz", "summary.json"}
    assert names == {p.name for p in (tmp_path / "demo").iterdir()}
    picture = np.asarray(Image.open(tmp_path / "demo" / "screenshot.png"))
    assert picture.shape[0] > 500 < picture.shape[1]
    mask = np.asarray(read(tmp_path / "demo" / "mask.nii.gz").array)
    assert mask[demo.SLICE].any()
    assert mask.sum() == mask[demo.SLICE].sum()
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text("utf-8"))
    assert summary["model"] == "fake"
    assert summary["slice"] == demo.SLICE
    assert f"{summary['area_px']:.0f} px" in saved.sentence


def test_the_demo_shows_what_it_promises(make_napari_viewer) -> None:
    viewer = make_napari_viewer()
    widget = demo.prepare(viewer, Jobs(lambda _model: FakeEngine()))
    layers = {layer.name: layer for layer in viewer.layers}
    assert {"boxes", "mask", "uncertainty", "suggested points"} <= set(layers)
    assert layers["uncertainty"].visible
    assert np.asarray(layers["mask"].data).any()
    assert len(layers["suggested points"].data) > 0
    session = widget.coordinator.session
    assert session is not None
    assert session.prompts.box == demo.BOX
    assert (session.plane, session.slice_index) == (0, demo.SLICE)


def test_the_demo_is_no_work_to_go_on_with(make_napari_viewer, private_cache) -> None:
    def jobs() -> Jobs:
        return Jobs(lambda _model: FakeEngine())

    widget = demo.prepare(make_napari_viewer(), jobs())
    QTest.qWait(3300)  # longer than it takes until work is saved by itself
    assert widget.coordinator.wait(20)
    widget.coordinator.close()
    assert not list(private_cache.rglob("*.json"))
    viewer = make_napari_viewer()
    first = demo.make_widget(viewer, jobs())  # somebody's own work on the same image, left behind ...
    (layer_data,) = demo.abdomen_ct()
    viewer.add_layer(Layer.create(*layer_data))
    assert first.coordinator.wait(20)
    assert first.view.message().endswith("Draw a box or click inside the object.")
    first.coordinator.session.set_box(demo.BOX)
    first.coordinator.close()
    (saved,) = private_cache.rglob("*.json")
    before = saved.read_bytes()
    widget = demo.prepare(make_napari_viewer(), jobs())  # ... is neither offered by the demo nor replaced
    assert "go on with" not in widget.view.message()
    widget.coordinator.close()
    assert [saved] == list(private_cache.rglob("*.json"))
    assert saved.read_bytes() == before


def test_a_model_that_fails_is_a_sentence(make_napari_viewer, tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.fail = "embed"
    with pytest.raises(EngineError, match="memory"):
        demo.save(tmp_path / "demo", make_napari_viewer(), Jobs(lambda _model: engine))
    assert not (tmp_path / "demo").exists()
