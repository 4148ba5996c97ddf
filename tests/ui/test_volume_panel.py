"""The plot of the slices and the panel around it: what is painted where, where a click goes, what is said."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPalette
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QCheckBox, QPushButton

from napari_uncertsam.ui.slice_plot import OWN_COLOUR, PROPAGATED_COLOUR, REVIEWED_COLOUR, SlicePlot
from napari_uncertsam.ui.slice_texts import (
    HELPS_TIP,
    PROPAGATE,
    PROPAGATE_AGAIN,
    PROPAGATING,
    all_reviewed_text,
    slice_text,
    slices_text,
    volume_text,
)
from napari_uncertsam.ui.volume_panel import VolumePanel


def fact(index, uncertainty=0.2, kind="propagated", *, reviewed=False, stale=False):
    return SimpleNamespace(
        slice_index=index, kind=kind, uncertainty=uncertainty, area_px=812.0, area_sd_px=20.0, uncertain_px=30.0,
        expected_dice=0.9, reviewed=reviewed, stale=stale,
    )  # fmt: skip


def volume(ml, low, high):
    return SimpleNamespace(ml=ml, low_ml=low, high_ml=high)


@pytest.fixture
def plot(qtbot):
    plot = SlicePlot()
    qtbot.addWidget(plot)
    plot.resize(312, plot.height())
    return plot


def painted(widget) -> QImage:
    image = QImage(widget.size(), QImage.Format.Format_ARGB32)
    image.fill(QColor("black"))
    widget.render(image, QPoint(), flags=widget.RenderFlag.DrawChildren)
    return image


def colours(image: QImage, x: float) -> list[str]:
    """All colours of a column, from the top."""
    return [image.pixelColor(int(x), y).name() for y in range(image.height())]


def test_bars_stand_where_a_click_finds_them_and_tell_kinds_apart(plot):
    facts = [fact(20, 0.04, "prompted"), fact(21, 0.1), fact(22, 0.2, reviewed=True), fact(23, 0.2, stale=True)]
    plot.set_slices(facts, 30)
    image = painted(plot)
    columns = {f.slice_index: colours(image, plot.place_of(f.slice_index)) for f in facts}
    heights = {index: column.count(PROPAGATED_COLOUR) for index, column in columns.items()}
    assert heights[22] > 1.8 * heights[21] > 0
    assert heights[20] == 0 < heights[23] < 0.5 * heights[22]  # hatched: only lines are as bright as a bar
    assert OWN_COLOUR in columns[20]
    assert [REVIEWED_COLOUR in column for column in columns.values()] == [False, False, True, False]
    assert [plot.slice_at(plot.place_of(index)) for index in columns] == list(columns)
    assert set(colours(image, plot.place_of(25))) & {OWN_COLOUR, PROPAGATED_COLOUR} == set()


def test_the_present_slice_is_marked_in_the_ink_of_the_theme_without_painting_the_bars_again(plot):
    plot.set_slices([fact(index) for index in range(20, 26)], 90)
    palette = plot.palette()
    palette.setColor(QPalette.ColorRole.WindowText, QColor("#12ff34"))
    plot.setPalette(palette)
    painted(plot)
    bars = plot._picture
    plot.set_present(23)
    assert colours(painted(plot), plot.place_of(23)).count("#12ff34") > 40
    plot.set_present(80)  # beyond the axis, which goes over the object and its surroundings
    image = painted(plot)
    assert any("#12ff34" in colours(image, image.width() - x) for x in (1, 2, 3))
    assert plot._picture is bars


def test_many_slices_share_a_column_and_the_most_uncertain_counts(plot):
    facts = [fact(index, 0.4 if index == 501 else 0.01) for index in range(1000)]
    plot.set_slices(facts, 1000)
    assert len(plot._bars()) <= 300
    column = colours(painted(plot), plot.place_of(501))
    assert column.count(PROPAGATED_COLOUR) > 40
    assert 501 in {plot.slice_at(plot.place_of(index)) for index in (500, 501, 502)}
    assert [plot.slice_at(x) for x in (-50, 5000)] == [0, 999]
    plot.set_slices([fact(index, math.nan, "remembered") for index in range(40, 44)], 1000)
    assert len(plot._bars()) == 4
    assert "4 slices" in plot.accessibleDescription()


def test_a_click_a_drag_and_the_arrow_keys_go_to_a_slice(plot, qtbot):
    plot.set_slices([fact(index) for index in range(30)], 30)
    plot.set_present(5)
    went = []
    plot.slice_chosen.connect(went.append)
    QTest.mousePress(plot, Qt.MouseButton.LeftButton, pos=QPoint(round(plot.place_of(10)), 40))
    for x in (plot.place_of(10) + 1, plot.place_of(11), 2000):
        place, left = QPointF(x, 40), Qt.MouseButton.LeftButton
        none, plain = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
        plot.mouseMoveEvent(QMouseEvent(QEvent.Type.MouseMove, place, place, none, left, plain))
    assert went == [10, 11, 29]
    for key in (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_End, Qt.Key.Key_Home):
        QTest.keyClick(plot, key)
    assert went[-4:] == [4, 6, 29, 0]
    assert plot.tip_at(plot.place_of(7)) == "slice 7: uncertainty 0.20, area 812 px, propagated, not reviewed"
    assert plot.focusPolicy() == Qt.FocusPolicy.TabFocus  # a click leaves the keyboard with the image


def test_the_panel_says_what_there_is_and_what_to_do(qtbot):
    panel = VolumePanel()
    qtbot.addWidget(panel)
    assert "not known yet" in panel.text()
    facts = [fact(20, 0.04, "prompted"), fact(21, reviewed=True), fact(22)]
    panel.set_text(slices_text(facts, volume(34.21, 31.0, 37.94), 22))
    shown = panel.text()
    assert "34.2 mL (90 %: 31.0 to 37.9)" in shown
    assert "Most uncertain not yet looked at: slice 22 ( ] )" in shown
    assert "2 of 3 slices reviewed" in shown
    assert shown.endswith(PROPAGATE)
    panel.set_text(slices_text([*facts, fact(23, stale=True), fact(24, stale=True)], None, 23))
    assert "2 slices are from before your last correction: propagate again." in panel.text()
    assert panel.text().endswith(PROPAGATE_AGAIN)
    panel.set_propagating(True)
    assert panel.text().endswith(PROPAGATING)
    panel.set_reviewed(True, enabled=True)
    wanted = []
    panel.reviewed_requested.connect(wanted.append)
    panel.findChild(QCheckBox).click()
    assert wanted == [False]


def test_the_panel_goes_where_a_correction_helps_most(qtbot):
    panel = VolumePanel()
    qtbot.addWidget(panel)
    helps = next(b for b in panel.findChildren(QPushButton) if b.text() == "Where a correction helps most")
    assert helps.toolTip() == HELPS_TIP
    panel.set_text(slices_text([fact(30), fact(31)], None, 30, useful=(31, 840.2)))
    assert helps.toolTip().startswith(
        "Slice 31: correcting it is expected to settle 840 px of uncertain mask here and on"
    )
    with qtbot.waitSignal(panel.useful_requested):
        helps.click()


def test_texts_of_slices_and_volumes():
    assert volume_text(volume(0.0342, 0.03, 0.04)) == "0.0342 mL (90 %: 0.0300 to 0.0400)"
    assert volume_text(volume(1234.5, 1200, 1300)) == "1,234 mL (90 %: 1,200 to 1,300)"
    assert volume_text(volume(0.0, 0.0, 0.1)) == "0.0 mL (90 %: 0.0 to 0.1)"
    assert slice_text(fact(3, math.nan, "remembered")).startswith("slice 3: uncertainty not known, area 812 px")
    assert slice_text(fact(3, kind="prompted")).endswith("yours")
    assert "propagated before your last correction" in slice_text(fact(3, stale=True))
    assert all_reviewed_text([fact(1)] * 23) == "All 23 slices are reviewed."
    assert "fills in" in slices_text([fact(1, kind="prompted")], None, None).caption
    assert slices_text([], None, None).counted == ""
