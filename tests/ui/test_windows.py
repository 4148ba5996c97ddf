"""What the model sees is what is on screen: presets, windows of one's own, the contrast of the layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDoubleSpinBox

from napari_uncertsam.io import sample_path
from napari_uncertsam.prompts import Box
from napari_uncertsam.session_file import session_to_dict, write_json
from napari_uncertsam.ui.readers import read_layers
from napari_uncertsam.ui.window_fields import WindowFields
from napari_uncertsam.volume import WINDOWS, Volume, Window
from tests.fakes import FakeEngine
from tests.ui.conftest import Opened
from tests.ui.helpers import combo, pick

INSIDE = Box(10, 14, 30, 50)


def ct() -> np.ndarray:
    """Air, fat, organs and a little bone in a small volume of Hounsfield units."""
    data = np.random.default_rng(0).normal(-950, 10, (12, 48, 64))
    data[2:10, 6:40, 8:56] = -100
    data[3:9, 10:31, 14:51] = 60
    data[4:6, 12:15, 20:24] = 900
    return data.astype(np.int16)


def mr() -> np.ndarray:
    image = np.random.default_rng(0).gamma(4, 50, (60, 70)).astype(np.float32)
    image[0, 0] = 9000
    return image


@pytest.fixture
def open_widget(qapp: Any, private_cache: Path) -> Iterator[Callable[..., Opened]]:
    """The widget on an image, without napari's window, which takes longer to open than all the rest."""
    opened: list[Opened] = []

    def factory(image: Any, **layer: Any) -> Opened:
        viewer = ViewerModel()
        viewer.add_image(image, **layer)
        opened.append(Opened(viewer, FakeEngine(), []))
        opened[-1].coordinator.choices._timer.setInterval(20)
        return opened[-1]

    yield factory
    for entry in opened:
        entry.coordinator.close()
        entry.widget.deleteLater()


def limits(opened) -> tuple[float, float]:
    low, high = opened.viewer.layers[0].contrast_limits
    return float(low), float(high)


def agree(opened) -> Window:
    """The model's window, once it is certain that the layer shows the same."""
    while opened.coordinator.choices._timer.isActive():  # until a moving slider has settled
        QTest.qWait(5)
    opened.settle()
    window = opened.session.window
    assert limits(opened) == (window.low, window.high)
    chosen = combo(opened, "as displayed").currentText()
    assert chosen == opened.coordinator.target.window_name
    if opened.session.prediction is not None:
        assert opened.session.prediction.request.window == window
    return window


@pytest.mark.parametrize(
    ("given", "name", "seen"),
    [
        (None, "soft tissue", (-160, 240)),  # napari's own: all there is
        ((-1000, 2000), "soft tissue", (-160, 240)),
        ((-1350, 150), "lung", (-1350, 150)),
        ((-160, 240), "soft tissue", (-160, 240)),
        ((-20, 100), "as displayed", (-20, 100)),
    ],
)
def test_a_ct_is_seen_as_it_is_shown(open_widget, given, name, seen):
    opened = open_widget(ct(), **({} if given is None else {"contrast_limits": given}))
    assert opened.session.volume.modality == "CT"
    window = agree(opened)
    assert (window.name, window.low, window.high) == (name, *seen)
    assert combo(opened, "as displayed").currentText() == name
    # The slider reaches all of the data, and not all of int16.
    layer = opened.viewer.layers[0]
    assert layer.contrast_limits_range == [min(ct().min(), seen[0]), max(900, seen[1])]


def test_a_lazy_ct_is_not_squeezed_into_the_range_of_its_type(open_widget):
    opened = open_widget(dask.array.from_array(ct(), chunks=(1, 48, 64)))
    assert agree(opened) == WINDOWS["soft tissue"]
    assert opened.viewer.layers[0].contrast_limits_range == [ct().min(), 900]


def test_the_sample_ct_keeps_its_window_and_gets_the_range_of_the_data(open_widget):
    ((data, meta, _),) = read_layers(str(sample_path("abdomen_ct")))
    opened = open_widget(data, **meta)
    assert agree(opened) == WINDOWS["soft tissue"]
    low, high = opened.viewer.layers[0].contrast_limits_range
    assert low <= -1000
    assert 240 < high < 4000


def test_an_mr_is_shown_between_the_percentiles_that_the_model_sees(open_widget):
    opened = open_widget(mr())
    window = agree(opened)
    assert window == Window.percentile(mr())
    assert window.high < 700
    assert combo(opened, "as displayed").currentText() == "automatic"
    assert opened.viewer.layers[0].contrast_limits_range[1] == 9000
    chosen = open_widget(mr(), contrast_limits=(100, 300))
    assert agree(chosen) == Window(100, 300, "as displayed")


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_the_model_follows_the_contrast_of_the_layer(open_widget, kind):
    opened = open_widget(ct() if kind == "CT" else mr())
    opened.viewer.dims.set_point(0, 5)
    opened.session.set_box(INSIDE)
    opened.settle()
    before = agree(opened)
    for high in (180, 190, 200):
        opened.viewer.layers[0].contrast_limits = (-10, high)
    assert opened.session.window == before  # until the slider has settled
    assert agree(opened) == Window(-10, 200, "as displayed")
    assert combo(opened, "as displayed").currentText() == "as displayed"
    name = "soft tissue" if kind == "CT" else "automatic"
    pick(opened, name)
    assert agree(opened) == before
    # Moved and moved back: nothing has changed.
    opened.viewer.layers[0].contrast_limits = (0, 100)
    opened.viewer.layers[0].contrast_limits = (before.low, before.high)
    assert agree(opened) == before


def test_the_switch_is_said(open_widget):
    opened = open_widget(ct())
    opened.viewer.layers[0].contrast_limits = (-20, 100)
    agree(opened)
    assert opened.message == "The model sees the image as displayed now, no longer through 'soft tissue'."


def fields(opened) -> tuple[WindowFields, QDoubleSpinBox, QDoubleSpinBox]:
    (holder,) = opened.view.findChildren(WindowFields)
    level, width = (
        next(f for f in holder.findChildren(QDoubleSpinBox) if f.accessibleName() == n) for n in ("Level", "Width")
    )
    return holder, level, width


def test_a_window_of_ones_own(open_widget):
    opened = open_widget(ct())
    holder, level, width = fields(opened)
    assert holder.isHidden()
    opened.viewer.dims.set_point(0, 5)
    opened.session.set_box(INSIDE)
    opened.settle()
    pick(opened, "liver")
    pick(opened, "custom")
    assert not holder.isHidden()
    assert (level.value(), width.value()) == (60, 160)  # begins with what is seen
    assert (level.decimals(), width.decimals()) == (0, 0)
    level.setValue(100)
    assert limits(opened) == (20, 180)
    width.setValue(300)
    assert agree(opened) == Window(-50, 250, "custom")
    assert not holder.isHidden()
    width.setValue(0)  # at least one
    assert agree(opened) == Window(99.5, 100.5, "custom")
    pick(opened, "lung")
    assert holder.isHidden()
    assert agree(opened) == WINDOWS["lung"]


def test_fields_are_as_fine_as_the_window_asks_for(qtbot):
    holder = WindowFields()
    qtbot.addWidget(holder)
    told = []
    holder.changed.connect(lambda *values: told.append(values))
    for level, width in ((0.5, 1.0), (0.00123, 0.00246), (40.5, 401), (30000, 60000), (-500.25, 1)):
        holder.set_values(level, width)
        assert holder.values() == pytest.approx((level, width), abs=width / 200)
    holder.set_values(7, 0)  # of a constant image
    assert holder.values()[1] > 0
    assert told == []


def test_a_session_brings_its_window_along(open_widget, tmp_path):
    opened = open_widget(ct())
    for window in (Window(-50, 250, "custom"), Window(-20, 100, "as displayed"), Window(-3, 90, "from a script")):
        opened.session.set_window(window)
        path = write_json(tmp_path / "session.json", session_to_dict(opened.session), overwrite=True)
        opened.session.set_window(WINDOWS["lung"])
        opened.session.load(path)
        opened.coordinator.choices.adopt(opened.session.settings)
        assert agree(opened) == window
        name = window.name if window.name != "from a script" else "custom"
        assert combo(opened, "as displayed").currentText() == name
        assert fields(opened)[0].isHidden() == (name != "custom")


def test_contrast_that_was_changed_meanwhile_counts_on_coming_back(open_widget):
    opened = open_widget(ct(), name="first")
    first = opened.viewer.layers["first"]
    opened.viewer.add_image(mr(), name="second")
    opened.coordinator.images.open(opened.viewer.layers["second"])
    opened.settle()
    first.contrast_limits = (-20, 100)
    opened.coordinator.images.open(first)
    assert agree(opened) == Window(-20, 100, "as displayed")


def test_colours_have_no_window(open_widget):
    opened = open_widget(np.zeros((20, 30, 3), np.uint8), rgb=True)
    opened.viewer.layers[0].contrast_limits = (0, 0.5)
    assert not opened.coordinator.choices._timer.isActive()
    assert opened.session.window.name == "full range"
    assert opened.coordinator.target.windows == ["colour"]
    assert isinstance(opened.session.volume, Volume)
