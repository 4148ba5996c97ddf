"""The inspector as a user meets it: a real window, clicks on lines and heads, the slider, the keyboard."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget, QLabel

from napari_uncertsam.evaluation.metrics import MEASURES, measure_case
from napari_uncertsam.ui.inspect.keys import KEYS
from napari_uncertsam.ui.inspect.plugin import TITLE, InspectWidget
from napari_uncertsam.uncertainty import LN2, binary_entropy
from tests.evaluation.results_builder import build_results
from tests.ui.inspect.conftest import fill
from tests.ui.inspect.scenes import SCALE, button, choose, click_head, click_row, column, press_key, titles


def legend(view) -> str:
    """The words below the table."""
    texts = [label.text() for part in view._legends if not part.isHidden() for label in part.findChildren(QLabel)]
    return " ".join(text for text in texts if text)


def test_from_layers_to_the_worst_slice(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made, scale=SCALE))
    viewer, view = opened.viewer, opened.view
    opened.compare()
    # Slices on which truth or prediction has the object, the worst first, with the measures of that slice.
    assert column(view, "Slice") == ["7", "6", "5", "4", "3", "2"]
    assert titles(view)[:4] == ["Slice", "Dice", "HD95 (mm)", "NSD"]
    for index, shown, hd95 in zip(column(view, "Slice"), column(view, "Dice"), column(view, "HD95 (mm)"), strict=True):
        k = int(index)
        p = made.probability[k]
        expected = measure_case(made.prediction[k], p, binary_entropy(p), made.truth[k], spacing=SCALE[1:]).values
        assert shown == f"{expected['dice']:.3f}"
        assert hd95 == (f"{expected['hd95']:.2f}" if np.isfinite(expected["hd95"]) else "\N{EN DASH}")
    # It begins with the worst.
    assert viewer.dims.current_step[0] == 7
    assert opened.names[-2:] == ["error", "wrong"]
    click_row(view, 1)
    opened.settle()
    assert viewer.dims.current_step[0] == 6
    error, wrong = opened.layer("error"), opened.layer("wrong")
    np.testing.assert_allclose(error.data[0], np.abs(made.probability[6] - made.truth[6]), atol=1e-6)
    assert (error.contrast_limits, error.colormap.name) == ([0, 1], "error")
    m, t = made.prediction[6] != 0, made.truth[6] != 0
    np.testing.assert_array_equal(wrong.data[0], np.where(m & ~t, 1, np.where(t & ~m, 2, 0)))
    assert error.data_to_world((0, 0, 0)) == pytest.approx((18, 0, 0))
    rows, columns = np.nonzero(m | t)
    centre = [(v.min() + v.max()) / 2 * s for v, s in zip((rows, columns), SCALE[1:], strict=True)]
    assert viewer.scene.camera.center[1:] == pytest.approx(centre)
    # All of the object is on screen, and the slice is never smaller than the canvas.
    size = np.array([np.ptp(rows) + 1, np.ptp(columns) + 1]) * SCALE[1:]
    canvas = np.asarray(viewer.canvas.size)
    assert (size * viewer.scene.camera.zoom < canvas).all()
    whole = np.array(made.truth.shape[1:]) * SCALE[1:]
    assert viewer.scene.camera.zoom >= 0.94 * (canvas / whole).min()
    view._zoom.click()
    zoom = viewer.scene.camera.zoom
    click_row(view, 3)
    opened.settle()
    assert viewer.scene.camera.zoom == zoom
    # The layers of the user are as they were.
    np.testing.assert_array_equal(opened.layer("prediction").data, made.prediction)
    assert opened.layer("scan").visible
    click_row(view, 1)
    opened.settle()
    text = view.card.text()
    assert "scan, slice 6, object 1" in text
    assert "6 slices: mean Dice" in text
    assert "Intervals are over slices of one volume." in text
    assert "falsely inside" in legend(view)
    assert "error" in legend(view)
    assert "outline" not in legend(view)
    assert f"Dice {made.dice(6):.3f}" in text


def test_arrow_keys_walk_and_enter_goes_there_again(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made))
    viewer, view = opened.viewer, opened.view
    opened.compare()
    click_row(view, 0)
    table = view.table.table
    for expected in (6, 5):
        QTest.keyClick(table, Qt.Key.Key_Down)
        opened.settle()
        assert viewer.dims.current_step[0] == expected == opened.chosen.index
    viewer.scene.camera.center = (0, 1, 1)
    QTest.keyClick(table, Qt.Key.Key_Return)
    opened.settle()
    assert viewer.scene.camera.center[1:] != (1, 1)
    # The selected line goes there again when it is clicked.
    viewer.dims.set_current_step(0, 0)
    click_row(view, 2)
    opened.settle()
    assert viewer.dims.current_step[0] == 5
    # The keys of the canvas, with one of the widget's layers active.
    viewer.layers.selection.active = opened.layer("wrong")
    press_key(viewer, KEYS[0].key)
    opened.settle()
    assert viewer.dims.current_step[0] == 4
    press_key(viewer, KEYS[1].key)
    press_key(viewer, KEYS[1].key)
    opened.settle()
    assert viewer.dims.current_step[0] == 6
    viewer.layers.selection.active = opened.layer("scan")
    press_key(viewer, KEYS[0].key)
    opened.settle()
    assert viewer.dims.current_step[0] == 6


def test_the_slider_selects_the_line_and_shows_its_errors(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made))
    opened.compare()
    centre = opened.viewer.scene.camera.center
    opened.viewer.dims.set_current_step(0, 4)
    opened.settle()
    assert opened.chosen.index == 4
    assert opened.view.table.selected() == 2
    np.testing.assert_array_equal(opened.layer("wrong").data[0] > 0, made.prediction[4] != made.truth[4])
    assert opened.viewer.scene.camera.center == centre
    opened.viewer.dims.set_current_step(0, 9)
    opened.settle()
    assert opened.chosen.index == 4


def test_heads_sort_and_what_is_undefined_comes_last_either_way(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made))
    view = opened.view
    opened.compare()
    dash = "\N{EN DASH}"
    assert column(view, "HD95 (px)")[0] == dash
    click_head(view, "HD95 (px)")
    first = column(view, "HD95 (px)")
    click_head(view, "HD95 (px)")
    second = column(view, "HD95 (px)")
    for order in (first, second):
        assert order[-1] == dash
        values = [float(text) for text in order[:-1]]
        assert values in (sorted(values), sorted(values, reverse=True))
    assert first[:-1] == second[:-1][::-1]
    assert view.order._preset.currentIndex() == -1
    click_head(view, "Slice")
    assert sorted(column(view, "Slice"), key=int) in (column(view, "Slice"), column(view, "Slice")[::-1])


def test_the_order_is_told_in_words_and_its_arrow_is_qt_s(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made))
    view = opened.view
    opened.compare()
    head = view.table.table.horizontalHeader()

    def arrow() -> tuple[str, bool]:
        at = head.sortIndicatorSection()
        return "" if at < 0 else titles(view)[at], head.sortIndicatorOrder() == Qt.SortOrder.DescendingOrder

    assert arrow() == ("Dice", False)
    choose(view, "Order", "Confident and wrong first")
    assert opened.message.startswith("Most wrong pixels")
    assert arrow() == ("Conf. wrong", True)
    for _ in range(2):
        click_head(view, "Dice")
        values = [float(v) for v in column(view, "Dice")]
        title, descending = arrow()
        assert (title, values) == ("Dice", sorted(values, reverse=descending))
        assert opened.message == f"Sorted by Dice, {'highest' if descending else 'lowest'} first."
        assert view.order._preset.currentText() == ""
    click_head(view, "Slice")
    _, descending = arrow()
    assert opened.message == f"Sorted by Slice, {'last first' if descending else 'first to last'}."
    # A filter that is not the preset's makes another order of it, too.
    choose(view, "Order", "Uncertain but right")
    view.order._value.setValue(0.5)
    assert opened.message == "Sorted by Mean U ROI, highest first."
    assert view.order._preset.currentText() == ""
    # Without the column there is no arrow on another one.
    view.order._actions["mean_uncertainty_roi"].trigger()
    assert arrow()[0] == ""


def test_another_folder_begins_with_the_worst(inspect_model, tmp_path: Path):
    for seed, name in enumerate("ab"):
        build_results(tmp_path / name, seed=seed)
    opened = inspect_model()
    view = opened.view
    for name in "ab":
        opened.widget.open_results(tmp_path / name / "run")
        opened.settle()
        values = [float(v) for v in column(view, "Dice")]
        assert values == sorted(values)
        assert view.order._preset.currentText() == "Worst first"
        assert opened.view.table.selected() == view.table.rows()[0]
        click_row(view, 3)
        click_head(view, "Dice")
        choose(view, "Filter by", "IoU")
        # Another prompt of the same evaluation keeps what the user set up.
        choose(view, "Prompt", "box-0.5")
        opened.settle()
        assert view.order._preset.currentText() == ""
        assert view.order._measure.currentText() == "IoU"


def test_a_filter_that_leaves_nothing_clears_the_case(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made))
    view = opened.view
    opened.compare()
    click_row(view, 2)
    opened.settle()
    view._about.setCurrentWidget(view.plot)
    assert len(view.plot._canvas.figure.axes[0].get_lines()) == 3
    assert "slice 5" in view.card.text()
    choose(view, "Filter by", "Dice")
    view.order._value.setValue(-1)
    opened.settle()
    assert column(view, "Dice") == []
    assert opened.chosen is None
    assert "Nothing selected" in view.card.text()
    assert "slice 5" not in view.card.text()
    assert len(view.plot._canvas.figure.axes[0].get_lines()) == 2
    assert not {"error", "wrong"} & set(opened.names)
    choose(view, "Filter by", "all lines")
    click_row(view, 0)
    opened.settle()
    assert {"error", "wrong"} < set(opened.names)


def test_presets_and_filter(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made))
    view = opened.view
    opened.compare()
    choose(view, "Order", "Confident and wrong first")
    opened.settle()
    assert titles(view)[:2] == ["Slice", "Conf. wrong"]
    values = [float(v) for v in column(view, "Conf. wrong")]
    assert values == sorted(values, reverse=True)
    assert opened.chosen.index == int(column(view, "Slice")[0])
    choose(view, "Order", "Uncertain but right")
    assert all(float(v) >= 0.8 for v in column(view, "Dice"))
    assert view._count.text() == f"{len(column(view, 'Dice'))} of 6 slices"
    choose(view, "Order", "Badly calibrated first")
    choose(view, "Filter by", "Dice")
    assert 0 < len(column(view, "Dice")) < 6
    assert view.order._relation.currentText() == "≤"
    view.order._value.setValue(0.5)
    assert sorted(column(view, "Slice")) == [str(k) for k in range(2, 8) if made.dice(k) <= 0.5]
    choose(view, "At most or at least", "≥")
    assert sorted(column(view, "Slice")) == [str(k) for k in range(2, 8) if made.dice(k) >= 0.5]
    choose(view, "Filter by", "all lines")
    assert len(column(view, "Dice")) == 6


def test_columns_copy_and_export(make_napari_viewer, inspect, made, tmp_path: Path, monkeypatch):
    opened = inspect(fill(make_napari_viewer(), made))
    view = opened.view
    opened.compare()
    view.order._actions["iou"].trigger()
    view.order._actions["hd95"].trigger()
    assert "IoU" in titles(view)
    assert "HD95 (px)" not in titles(view)
    choose(view, "Filter by", "IoU")
    button(view, "Copy").click()
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0].split("\t")[:8] == ["case", "image", "plane", "slice", "object", "value", "dice", "iou"]
    assert [line.split("\t")[3] for line in lines[1:]] == column(view, "Slice")
    monkeypatch.setattr(view, "ask_file", lambda name: str(tmp_path / Path(name).stem))
    button(view, "Export…").click()
    rows = list(csv.DictReader((tmp_path / "failures.csv").read_text().splitlines()))
    assert [row["slice"] for row in rows] == column(view, "Slice")
    assert set(MEASURES) <= rows[0].keys()
    monkeypatch.setattr(view, "ask_file", lambda _name: str(tmp_path / "nowhere" / "a.csv"))
    button(view, "Export…").click()
    assert "There is no folder" in opened.message


def test_the_reliability_plot(make_napari_viewer, inspect, made):
    opened = inspect(fill(make_napari_viewer(), made))
    view = opened.view
    view._about.setCurrentWidget(view.plot)
    assert "Compare layers" in view.plot.message()
    opened.compare()
    click_row(view, 2)
    opened.settle()
    assert view.plot.message() == ""
    upper, lower = view.plot._canvas.figure.axes
    pooled, selected = upper.get_lines()[1:]
    ece = opened.chosen.measure("ece_roi")
    assert selected.get_label() == f"selected, ECE {ece:.3f}"
    assert pooled.get_label().startswith("all, ECE")
    assert len(lower.patches) == 2
    view.plot._region.setCurrentIndex(1)
    view.plot._region.activated.emit(1)
    selected = view.plot._canvas.figure.axes[0].get_lines()[2]
    assert selected.get_label() == f"selected, ECE {opened.chosen.measure('ece'):.3f}"
    opened.viewer.theme = "light"
    assert view.plot.colours.ink != "#f0f1f2"


def test_without_matplotlib_a_sentence_says_what_to_install(inspect_model, volume_viewer, monkeypatch):
    from napari_uncertsam.ui.inspect import plot

    monkeypatch.setattr(plot, "find_spec", lambda _name: None)
    opened = inspect_model(volume_viewer)
    opened.widget.show()
    opened.view._about.setCurrentWidget(opened.view.plot)
    opened.compare()
    assert "napari-uncertsam[report]" in opened.view.plot.message()


# -- an evaluation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("volume", [False, True])
def test_an_evaluation_s_folder(inspect, tmp_path: Path, monkeypatch, volume):
    results = build_results(tmp_path, volume=volume)
    opened = inspect()
    view = opened.view
    monkeypatch.setattr(view, "ask_results", lambda: str(tmp_path / "run"))
    button(view, "Open results…").click()
    opened.settle()
    worst = min(results.select("gt-box", "entropy"), key=lambda row: row["dice"])
    assert opened.chosen.row["case"] == worst["case"]
    assert opened.names == ["image", "uncertainty", "ground truth", "prediction", "error", "wrong"]
    case = results.case(worst)
    maps = results.maps(worst, case.truth.shape)
    np.testing.assert_array_equal(opened.layer("ground truth").data != 0, case.truth)
    np.testing.assert_array_equal(opened.layer("prediction").data != 0, maps.mask)
    np.testing.assert_allclose(opened.layer("error").data, np.abs(maps.probability - case.truth), atol=1e-6)
    np.testing.assert_allclose(opened.layer("uncertainty").data, maps.uncertainty)
    assert opened.layer("uncertainty").contrast_limits == pytest.approx([0, LN2])
    assert tuple(opened.layer("image").scale) == case.spacing
    choose(view, "Prompt", "box-0.5")
    choose(view, "Method", "prompt")
    opened.settle()
    assert {f.row["method"] for f in opened.coordinator.source.findings} == {"prompt"}
    # The same case is still selected.
    assert opened.chosen.row["case"] == worst["case"]
    assert opened.chosen.row["prompt"] == "box-0.5"
    at = len(column(view, "Dice")) - 1
    click_row(view, at)
    opened.settle()
    assert f"{opened.chosen.measure('dice'):.3f}" == column(view, "Dice")[at]
    truth = results.case(opened.chosen.row).truth
    np.testing.assert_array_equal(opened.layer("ground truth").data != 0, truth)
    assert "6 cases: mean Dice" in view.card.text()
    assert "Intervals are over" not in view.card.text()
    assert f"HD95 ({'mm' if volume else 'px'})" in titles(view)
    assert "outline of the truth of the prediction" in legend(view)


def test_a_dropped_folder_is_opened_and_anything_else_is_left_to_napari(inspect_model, tmp_path: Path):
    build_results(tmp_path, cases=2)
    (tmp_path / "photo.png").write_bytes(b"")
    opened = inspect_model()

    def drop(path: Path) -> bool:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        event = QDropEvent(
            QPointF(QPoint(5, 5)), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )  # fmt: skip
        event.ignore()
        opened.view.dropEvent(event)
        opened.settle()
        return bool(event.isAccepted())

    assert not drop(tmp_path / "photo.png")
    assert drop(tmp_path / "data")
    assert "results.json" in opened.message
    assert drop(tmp_path / "run" / "results.json")
    assert opened.coordinator.source is not None
    assert "2 cases" in opened.message


# -- the menu and the dock ---------------------------------------------------------------------------------------------


def test_the_manifest_offers_it_and_closing_its_dock_ends_it(make_napari_viewer, made):
    from npe2 import PluginManager, PluginManifest

    import napari_uncertsam

    manifest = PluginManifest.from_file(Path(napari_uncertsam.__file__).with_name("napari.yaml"))
    manifest.validate_imports()
    (entry,) = manifest.contributions.menus["napari/layers/measure"]
    assert entry.command == "napari-uncertsam.inspect_failures"
    if "napari-uncertsam" not in PluginManager.instance():
        PluginManager.instance().register(manifest)
    viewer = fill(make_napari_viewer(), made)
    before = [layer.name for layer in viewer.layers]
    _, widget = viewer.window.add_plugin_dock_widget("napari-uncertsam", TITLE)
    assert isinstance(widget, InspectWidget)
    widget.compare()
    assert widget.coordinator.wait(20)
    assert "error" in viewer.layers
    dock = widget.parent()
    assert isinstance(dock, QDockWidget)
    dock.hide()
    dock.show()
    assert "error" in viewer.layers
    viewer.window.remove_dock_widget(widget)
    assert [layer.name for layer in viewer.layers] == before
    viewer.dims.set_current_step(0, 3)
    viewer.layers.remove("prediction")
    assert "closed" in widget.view.message()
