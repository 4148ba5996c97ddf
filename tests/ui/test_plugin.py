"""The widget as a user meets it: a real window, real clicks on its buttons, an engine in another thread."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QCheckBox, QComboBox, QProgressBar, QSpinBox, QTableWidget

from napari_uncertsam import checkpoints
from napari_uncertsam.errors import CheckpointError
from napari_uncertsam.prediction import RefinedPrediction
from napari_uncertsam.prompts import Box, Point, Suggestion
from napari_uncertsam.refinement.rounds import Round
from napari_uncertsam.ui import choices, coordinator
from napari_uncertsam.ui.jobs import Jobs
from napari_uncertsam.ui.keys import KEYS
from napari_uncertsam.ui.plugin import TITLE, RefineWidget
from napari_uncertsam.ui.question_texts import SETTLED
from napari_uncertsam.ui.styles import ROLES
from tests.fakes import FakeEngine, scene
from tests.ui.helpers import Heartbeat, Mouse, button, grey, pick, press

#: Cuts the object of `scene()` off, so that there is something to be uncertain about.
CUT = Box(40, 34, 70, 97)
WHOLE = Box(38, 32, 89, 99)


def draw(opened, start, stop) -> None:
    layer = opened.viewer.layers["boxes"]
    Mouse(layer, opened.viewer.dims.displayed).drag(start, stop)
    opened.settle()


# -- the main job ------------------------------------------------------------------------------------------------------


def test_drawing_a_box_is_enough(open_widget):
    opened = open_widget(grey(), name="photo")
    assert [layer.name for layer in opened.viewer.layers] == ["photo", *ROLES]
    assert opened.viewer.layers.selection.active.name == "boxes"
    assert "CPU (fake)" in opened.view._card.text()
    draw(opened, (39.5, 33.5), (70.5, 97.5))
    assert opened.session.prediction is not None
    assert opened.viewer.layers["mask"].data[60, 60] == 1
    assert opened.viewer.layers["uncertainty"].data.max() > 0.3
    assert opened.loads == ["bundled"]
    text = opened.view._card.text()
    assert f"{opened.session.prediction.mean_uncertainty:.4f} nats" in text
    assert f"{opened.session.prediction.area_px:,.0f} px" in text
    assert "mm²" not in text
    table = opened.view.findChild(QTableWidget)
    assert table.rowCount() == len(opened.session.suggestions) > 0


def test_suggestions_are_answered_with_their_buttons(open_widget):
    opened = open_widget(grey())
    opened.session.set_box(CUT)
    opened.settle()
    table = opened.view.findChild(QTableWidget)
    row, second = [(n, s) for n, s in enumerate(opened.session.suggestions) if s.kind == "point"][1]
    QTest.mouseClick(table.cellWidget(row, 3), Qt.MouseButton.LeftButton)
    QTest.qWait(20)
    opened.settle()
    assert opened.session.prompts.points == (Point(second.y, second.x, True),)
    count = len(opened.session.suggestions)
    QTest.mouseClick(table.cellWidget(0, 5), Qt.MouseButton.LeftButton)
    QTest.qWait(20)
    opened.settle()
    assert len(opened.session.suggestions) == count - 1 == table.rowCount()
    row, target = next((n, s) for n, s in enumerate(opened.session.suggestions) if s.kind == "point")
    QTest.mouseClick(table.cellWidget(row, 4), Qt.MouseButton.LeftButton)
    QTest.qWait(20)
    opened.settle()
    assert opened.session.prompts.points[-1] == Point(target.y, target.x, False)


def test_refine_shows_before_and_after_either_way(open_widget):
    opened = open_widget(grey())
    assert not button(opened, "Refine by uncertainty").isEnabled()
    opened.session.set_box(CUT)
    opened.settle()
    QTest.mouseClick(button(opened, "Refine by uncertainty"), Qt.MouseButton.LeftButton)
    opened.settle()
    refined = opened.session.last_refinement
    text = opened.view._card.text()
    first, last = refined.rounds[0].mean_uncertainty[0], refined.rounds[-1].mean_uncertainty[1]
    assert f"{first:.4f} → {last:.4f} nats" in text
    assert refined.rounds[-1].reason in text
    assert ("✓" in text) == refined.accepted
    assert ("not kept" in text) != refined.accepted


def test_undo_and_redo_buttons(open_widget):
    opened = open_widget(grey())
    undo, redo = button(opened, "Undo"), button(opened, "Redo")
    assert not undo.isEnabled()
    assert not redo.isEnabled()
    opened.session.set_box(WHOLE)
    opened.settle()
    undo.click()
    opened.settle()
    assert opened.session.prompts.box is None
    assert not opened.viewer.layers["mask"].data.any()
    redo.click()
    opened.settle()
    assert opened.viewer.layers["mask"].data.any()


def test_objects_do_not_take_each_other_s_pixels_without_asking(open_widget):
    image, _ = scene(128, 128, Box(30, 20, 80, 60), Box(30, 62, 80, 110))
    opened = open_widget(image[..., 0])
    opened.session.set_box(Box(28, 18, 82, 112))
    opened.settle()
    first = opened.viewer.layers["mask"].data == 1
    button(opened, "New object").click()
    assert opened.view.findChild(QSpinBox).value() == 2
    opened.session.set_box(Box(28, 60, 82, 112))
    opened.settle()
    assert ((opened.viewer.layers["mask"].data == 1) == first).all()
    assert "object 1" in opened.message
    button(opened, "Give them to object 2").click()
    opened.settle()
    assert opened.viewer.layers["mask"].data[55, 90] == 2
    opened.view.findChild(QSpinBox).setValue(1)
    assert opened.session.object_id == 1
    assert opened.viewer.layers["mask"].selected_label == 1
    button(opened, "Clear").click()
    assert opened.session.prompts.box is None


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_images_have_no_window(open_widget, channels):
    image = np.concatenate([scene()[0], np.full((128, 128, 1), 255, np.uint8)], axis=2)[..., :channels]
    opened = open_widget(image, rgb=True)
    opened.session.set_box(WHOLE)
    opened.settle()
    assert opened.viewer.layers["mask"].data[60, 60] == 1


def test_a_volume_in_two_planes_with_its_area_in_millimetres(open_widget):
    data = np.full((40, 48, 64), -900, np.int16)
    data[10:31, 12:36, 14:51] = 60
    data[:, :5] = 60
    opened = open_widget(data, scale=(3, 1, 2), name="scan")
    assert opened.session.volume.modality == "CT"
    assert opened.session.window.name == "soft tissue"
    opened.viewer.dims.set_point(0, 60)
    opened.session.set_box(Box(12, 14, 35, 50))
    opened.settle()
    assert opened.session.slice_index == 20
    assert f"{opened.session.prediction.area_px * 2:,.0f} mm²" in opened.view._card.text()
    opened.viewer.dims.order = (1, 0, 2)
    opened.viewer.dims.set_point(1, 20)
    opened.session.set_box(Box(10, 14, 30, 50))
    opened.settle()
    assert opened.session.plane == 1
    assert (opened.viewer.layers["mask"].data[:, 20] == 1).sum() > 500
    opened.viewer.dims.order = (0, 1, 2)
    opened.viewer.dims.set_point(0, 3)
    press(opened, "]")
    assert opened.session.slice_index == 20


# -- newest wins, cancel, errors, a living window ----------------------------------------------------------------------


def test_the_newest_prompt_wins(open_widget):
    opened = open_widget(grey(), engine=FakeEngine(delay=0.05))
    for shift in range(6):
        opened.session.set_box(Box(36 + shift, 30, 91, 101))
    opened.settle()
    assert opened.session.is_current
    assert opened.session.prediction.request.prompts.box == Box(41, 30, 91, 101)
    embedded = {p.box for batch in opened.engine.decoded for p in batch[:1]}
    assert len(embedded) < 6


def test_cancel_keeps_what_there_was_and_can_be_taken_back(open_widget):
    opened = open_widget(grey(), engine=FakeEngine(delay=0.3))
    opened.session.set_box(WHOLE)
    QTest.qWait(50)
    opened.view.cancel_requested.emit()
    opened.settle()
    assert opened.session.prediction is None
    assert opened.session.prompts.box == WHOLE
    assert "Cancelled" in opened.message
    opened.engine.delay = 0
    button(opened, "Predict again").click()
    opened.settle()
    assert opened.session.is_current


def test_progress_comes_up_only_when_it_takes_longer_than_a_second(open_widget):
    opened = open_widget(grey(), engine=FakeEngine(delay=0.8))
    bar = opened.view.findChild(QProgressBar)
    shown = bar.parentWidget()  # the window of a test is not on screen
    opened.session.set_box(WHOLE)
    QTest.qWait(300)
    assert shown.isHidden()
    QTest.qWait(1100)
    assert not shown.isHidden()
    assert bar.format()
    opened.settle()
    assert shown.isHidden()


def test_out_of_memory_is_a_sentence_and_the_session_survives(open_widget):
    opened = open_widget(grey())
    opened.engine.fail = "embed"
    opened.session.set_box(WHOLE)
    opened.settle()
    assert "not enough memory" in opened.message
    opened.engine.fail = None
    button(opened, "Try again").click()
    opened.settle()
    assert opened.viewer.layers["mask"].data.any()


def test_a_missing_model_is_a_sentence(open_widget, monkeypatch):
    opened = open_widget(grey())

    def missing(name: str) -> FakeEngine:
        raise CheckpointError(f"The model '{name}' is not downloaded.")

    monkeypatch.setattr(opened.coordinator.jobs, "_load", missing)
    opened.coordinator.choices.change(model="sam2.1-tiny")
    opened.session.set_box(WHOLE)
    opened.settle()
    assert "'sam2.1-tiny' is not downloaded" in opened.message


def heavy(seconds: float) -> None:
    """Torch and Python working as a large model does, for a while."""
    stop, a = time.perf_counter() + seconds, torch.rand(400, 400)
    while time.perf_counter() < stop:
        a = torch.nn.functional.softmax(a @ a, dim=-1)


@pytest.mark.parametrize("work", ["sleep", "torch"])
def test_the_window_stays_alive_while_a_slow_model_computes(open_widget, monkeypatch, work):
    opened = open_widget(grey(), engine=FakeEngine(delay=0.6 if work == "sleep" else 0))
    if work == "torch":
        embed = opened.engine.embed
        monkeypatch.setattr(opened.engine, "embed", lambda image: heavy(0.8) or embed(image))
    with Heartbeat() as heartbeat:
        opened.session.set_box(WHOLE)
        opened.settle()
    assert opened.session.is_current
    # 50 ms is measured in benchmarks/gui_block.py; here the machine may be busy with other tests.
    assert heartbeat.longest < 0.4


# -- choices -----------------------------------------------------------------------------------------------------------


def test_method_and_zoom_are_predicted_at_once(open_widget):
    opened = open_widget(grey())
    opened.session.set_box(WHOLE)
    opened.settle()
    pick(opened, "Entropy of")
    assert opened.session.prediction.record["method"] == "entropy"
    zoom = opened.view.findChild(QCheckBox)
    zoom.click()
    opened.settle()
    assert opened.session.prediction.view.height == 128
    assert not opened.coordinator.choices.settings.zoom


def test_the_window_can_be_chosen_or_follow_the_layer(open_widget):
    data = (scene()[0][..., 0].astype(np.int16) - 100) * 8
    opened = open_widget(data)
    layer = opened.viewer.layers[0]
    assert opened.session.volume.modality in ("CT", "grey")
    opened.session.set_box(WHOLE)
    opened.settle()
    pick(opened, "as displayed")
    layer.contrast_limits = (-500, 700)
    QTest.qWait(400)
    opened.settle()
    assert (opened.session.window.low, opened.session.window.high) == (-500, 700)
    assert opened.session.prediction.request.window.low == -500
    assert opened.session.is_current


def test_a_model_that_is_not_there_is_offered_and_downloaded(open_widget, monkeypatch):
    opened = open_widget(grey())
    opened.session.set_box(WHOLE)
    opened.settle()
    there: list[str] = []

    def download(name, *, progress, cancel, base_url=None):
        progress(50_000_000, 100_000_000)
        there.append(name)
        return Path("nowhere")

    rows = checkpoints.list_models()
    monkeypatch.setattr(checkpoints, "download", download)
    monkeypatch.setattr(
        choices,
        "list_models",
        lambda: [type(r)(r.name, r.title, r.size, r.licence, r.name in ("bundled", *there), r.path) for r in rows],
    )
    pick(opened, "sam2.1-tiny (not downloaded, 156 MB)")
    assert opened.session.settings.model == "bundled"
    assert "not downloaded" in opened.message
    button(opened, "Download sam2.1-tiny (156 MB)").click()
    opened.settle()
    opened.settle()
    assert there == ["sam2.1-tiny"]
    assert opened.session.settings.model == "sam2.1-tiny"
    assert opened.loads[-1] == "sam2.1-tiny"
    assert opened.session.is_current


def test_a_failed_download_says_why_and_the_old_model_stays(open_widget, monkeypatch):
    opened = open_widget(grey())

    def download(name, **_):
        raise CheckpointError("The server cut the connection; try again.")

    monkeypatch.setattr(checkpoints, "download", download)
    opened.view.download_requested.emit("sam2.1-tiny")
    opened.settle()
    assert "cut the connection" in opened.message
    assert opened.session.settings.model == "bundled"


# -- files -------------------------------------------------------------------------------------------------------------


def test_save_writes_everything_and_asks_before_it_replaces(open_widget, tmp_path, monkeypatch):
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(WHOLE)
    opened.settle()
    monkeypatch.setattr(opened.view, "ask_folder", lambda: str(tmp_path))
    button(opened, "Save…").click()
    opened.settle()
    assert "Saved" in opened.message
    names = {p.name.partition(".")[0] for p in tmp_path.iterdir() if p.is_file()}
    assert {"mask", "probability", "uncertainty", "session", "summary"} <= names
    assert json.loads((tmp_path / "summary.json").read_text())["area_px"] == opened.session.prediction.area_px
    asked = []
    monkeypatch.setattr(opened.view, "ask_overwrite", lambda text: asked.append(text))
    before = (tmp_path / "session.json").stat().st_mtime_ns
    button(opened, "Save…").click()
    opened.settle()
    assert "Replace" in asked[0]
    assert (tmp_path / "session.json").stat().st_mtime_ns == before


def test_work_is_saved_by_itself_and_offered_again(open_widget, private_cache):
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(WHOLE)
    opened.settle()
    opened.coordinator.close()
    (saved,) = (private_cache / "autosave").glob("photo-*.json")
    opened.viewer.layers.clear()
    again = open_widget(grey(), viewer=opened.viewer, name="photo")
    assert "go on with your work on 'photo'" in again.message
    button(again, "Go on").click()
    again.settle()
    assert again.session.prompts.box == WHOLE
    assert again.session.is_current
    again.session.set_box(CUT)
    again.coordinator.close()
    assert saved.with_suffix(".before.json").is_file()


# -- images that come and go -------------------------------------------------------------------------------------------


def test_without_an_image_everything_says_so(open_widget):
    opened = open_widget()
    assert "Open an image" in opened.message
    for key in KEYS:
        press(opened, key.key)
    assert opened.viewer.layers == []
    opened.viewer.add_image(grey(), name="late")
    opened.settle()
    assert opened.session.volume.name == "late"


def test_switching_images_loses_nothing(open_widget):
    opened = open_widget(grey(), name="first")
    opened.session.set_box(WHOLE)
    opened.settle()
    session = opened.session
    mask = opened.viewer.layers["mask"]
    opened.viewer.add_image(grey()[:100], name="second")
    pick(opened, "second")
    assert opened.session is not session
    assert mask in opened.viewer.layers
    assert mask.name == "mask [first]"
    assert opened.viewer.layers["mask"].data.shape == (100, 128)
    mask.paint((3, 3), 1)
    pick(opened, "first")
    opened.settle()
    assert opened.session is session
    assert opened.viewer.layers["mask"] is mask
    assert session.prompts.box == WHOLE
    assert session.labels[3, 3] == 1
    assert len(opened.viewer.layers["boxes"].data) == 1


def test_removing_the_image_keeps_the_mask(open_widget):
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(WHOLE)
    opened.settle()
    opened.viewer.layers.remove("photo")
    opened.settle()
    assert [layer.name for layer in opened.viewer.layers] == ["mask [photo]"]
    assert opened.coordinator.session is None
    assert "Open an image" in opened.message


def test_other_pixels_in_the_layer_are_another_image(open_widget):
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(WHOLE)
    opened.settle()
    before = opened.session
    opened.viewer.layers["photo"].data = grey()[:64]
    opened.settle()
    assert opened.session is not before
    assert opened.session.volume.shape == (64, 128)
    assert opened.viewer.layers["mask [photo]"].data.any()


def test_four_axes_are_a_sentence(open_widget):
    opened = open_widget(np.zeros((2, 3, 20, 20), np.uint8), name="series")
    assert "4 axes" in opened.message
    assert opened.coordinator.session is None


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1), np.uint8),
        np.full((40, 50), np.nan, np.float32),
        np.full((40, 50), 7, np.uint16),
        np.eye(40, dtype=bool),
        np.where(np.eye(40) > 0, np.inf, 0).astype(np.float32),
    ],
    ids=["one pixel", "nan", "constant", "bool", "inf"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:napari", "ignore:All-NaN:RuntimeWarning")
def test_strange_images_do_not_break_it(open_widget, image):
    opened = open_widget(image.astype(np.uint8) if image.dtype == bool else image, contrast_limits=(0, 1))
    height, width = image.shape
    opened.session.set_box(Box(0, 0, height - 1, width - 1))
    opened.settle()
    assert opened.session.is_current or opened.message


# -- keys and menus ----------------------------------------------------------------------------------------------------


def ask_point(opened) -> Suggestion:
    """Let the first point be asked about; a box may be worth more."""
    suggestions = opened.session.suggestions
    opened.coordinator.dialogue.choose([s.kind for s in suggestions].index("point"))
    return suggestions[opened.coordinator.dialogue.chosen]


def test_keys_do_what_the_table_says(open_widget):
    opened = open_widget(grey())
    opened.session.set_box(CUT)
    opened.settle()
    layers = opened.viewer.layers
    press(opened, "P")
    assert (layers.selection.active.name, layers.selection.active.mode) == ("points", "add")
    assert layers.selection.active.feature_defaults["positive"].iloc[0]
    press(opened, "X")
    assert not layers.selection.active.feature_defaults["positive"].iloc[0]
    press(opened, "B")
    assert (layers.selection.active.name, layers.selection.active.mode) == ("boxes", "add_rectangle")
    press(opened, "Tab")
    assert opened.coordinator.dialogue.chosen == 1
    wanted = ask_point(opened)
    press(opened, "Y")
    assert opened.session.prompts.points == (Point(wanted.y, wanted.x, True),)
    wanted = ask_point(opened)
    press(opened, "U")
    assert opened.session.prompts.points[1] == Point(wanted.y, wanted.x, False)
    press(opened, "Control-Z")
    press(opened, "Control-Z")
    assert opened.session.prompts.points == ()
    press(opened, "Control-Shift-Z")
    assert len(opened.session.prompts.points) == 1
    count = len(opened.session.suggestions)
    press(opened, "D")
    assert len(opened.session.suggestions) == count - 1
    press(opened, "R")
    assert opened.session.last_refinement is not None
    press(opened, "N")
    assert opened.session.object_id == 2


def test_undo_on_the_mask_layer_is_the_session_s(open_widget):
    opened = open_widget(grey())
    opened.session.set_box(WHOLE)
    opened.settle()
    mask = opened.viewer.layers["mask"]
    opened.viewer.layers.selection.active = mask
    mask.paint((3, 3), 1)
    opened.settle()
    assert opened.session.labels[3, 3] == 1
    press(opened, "Control-Z")
    assert opened.session.labels[3, 3] == mask.data[3, 3] == 0
    press(opened, "P")  # napari's own key for painting stays
    assert mask.mode == "paint"


def test_keys_of_the_user_s_layers_and_of_the_viewer_are_left_alone(open_widget, make_napari_viewer):
    viewer = make_napari_viewer()
    theirs = viewer.add_shapes(np.array([[1, 1], [1, 9], [9, 9], [9, 1]]))
    viewer.bind_key("R", lambda v: None)
    before = dict(viewer.keymap)
    opened = open_widget(grey(), viewer=viewer)
    assert not theirs.keymap
    opened.coordinator.close()
    assert viewer.keymap == before


def test_every_key_is_in_the_help_and_tab_reaches_the_canvas(open_widget):
    opened = open_widget(grey())
    opened.session.set_box(CUT)
    opened.settle()
    from qtpy.QtWidgets import QLabel

    (text,) = [x.text() for x in opened.view.findChildren(QLabel) if x.accessibleName() == "Keys"]
    assert all(f"<b>{key.label}</b>" in text and key.help in text for key in KEYS)
    opened.viewer.window.show()
    canvas = opened.viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key.Key_Tab)
    assert opened.coordinator.dialogue.chosen == 1


def test_napari_s_own_mode_buttons_show_in_the_widget(open_widget):
    opened = open_widget(grey())
    assert button(opened, "Box").isChecked()
    points = opened.viewer.layers["points"]
    opened.viewer.layers.selection.active = points
    points.mode = "add"
    assert button(opened, "Inside").isChecked()
    points.mode = "select"
    assert not any(button(opened, name).isChecked() for name in ("Box", "Inside", "Outside"))
    button(opened, "Outside").click()
    assert points.mode == "add"


def test_a_deleted_prompt_layer_comes_back_with_its_key(open_widget):
    opened = open_widget(grey())
    opened.session.set_box(WHOLE)
    opened.settle()
    opened.viewer.layers.remove("boxes")
    press(opened, "B")
    assert opened.viewer.layers.selection.active.name == "boxes"
    assert len(opened.viewer.layers["boxes"].data) == 1
    press(opened, "N")
    draw(opened, (5, 5), (30, 30))
    assert opened.session.prompts.box is not None


def test_closing_leaves_the_mask_and_takes_everything_else_along(open_widget):
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(WHOLE)
    opened.settle()
    opened.viewer.window.remove_dock_widget(opened.widget)
    opened.coordinator.close()
    assert [layer.name for layer in opened.viewer.layers] == ["photo", "mask [photo]"]
    opened.viewer.layers["photo"].contrast_limits = (0, 100)
    opened.viewer.layers.remove("photo")


def click_dock(viewer, name: str) -> None:
    """A button of the widget's dock: "close_button", "hide_button" or "float_button"."""
    from napari._qt.widgets.qt_viewer_dock_widget import QtCustomTitleBar

    (title,) = [t for t in viewer.window._qt_window.findChildren(QtCustomTitleBar) if TITLE in t.parent().windowTitle()]
    getattr(title, name).click()
    QTest.qWait(50)


@pytest.mark.parametrize("held", [False, True], ids=["forgotten", "held by a script"])
def test_a_dock_closed_for_good_ends_the_widget_and_a_new_one_goes_on(
    make_napari_viewer, private_cache, monkeypatch, held
):
    from npe2 import PluginManager, PluginManifest

    import napari_uncertsam

    if "napari-uncertsam" not in PluginManager.instance():
        path = Path(napari_uncertsam.__file__).with_name("napari.yaml")
        PluginManager.instance().register(PluginManifest.from_file(path))
    engine = FakeEngine()
    monkeypatch.setattr(coordinator, "Jobs", lambda: Jobs(lambda _name: engine))
    viewer = make_napari_viewer()
    before = dict(viewer.keymap)
    viewer.add_image(grey(), name="photo")

    def open_from_menu() -> RefineWidget:
        _, widget = viewer.window.add_plugin_dock_widget("napari-uncertsam", TITLE)
        assert widget.coordinator.wait(20)
        return widget

    widget = open_from_menu()
    widget.coordinator.session.set_box(WHOLE)
    assert widget.coordinator.wait(20)
    boxes, decoded = viewer.layers["boxes"], len(engine.decoded)
    if not held:
        del widget
    click_dock(viewer, "close_button")
    assert [layer.name for layer in viewer.layers] == ["photo", "mask [photo]"]
    assert not viewer.layers["mask [photo]"].metadata
    assert dict(viewer.keymap) == before
    boxes.add_rectangles(np.array([[20, 10], [20, 40], [50, 40], [50, 10]], float))
    QTest.qWait(100)
    assert len(engine.decoded) == decoded
    assert len(list((private_cache / "autosave").glob("photo-*.json"))) == 1
    if held:
        assert widget.coordinator.session is None
        assert "closed" in widget.view.message()

    again = open_from_menu()
    assert [layer.name for layer in viewer.layers] == ["photo", *ROLES, "mask [photo]"]
    images = next(c for c in again.view.findChildren(QComboBox) if c.findText("photo") >= 0)
    assert [images.itemText(row) for row in range(images.count())] == ["photo"]
    assert "go on with your work on 'photo'" in again.view.message()
    again.view.action_requested.emit()
    assert again.coordinator.wait(20)
    assert again.coordinator.session.prompts.box == WHOLE
    assert (viewer.layers["mask"].data == viewer.layers["mask [photo]"].data).all()
    again.coordinator.close()


def test_hiding_floating_and_tabbing_the_dock_leave_the_widget_at_work(open_widget):
    from qtpy.QtWidgets import QDockWidget, QWidget

    opened = open_widget(grey(), name="photo")
    opened.viewer.window.show()
    opened.session.set_box(WHOLE)
    opened.settle()
    names = [layer.name for layer in opened.viewer.layers]
    dock = opened.widget.parent()
    assert isinstance(dock, QDockWidget)
    click_dock(opened.viewer, "hide_button")
    assert dock.isHidden()
    dock.toggleViewAction().trigger()
    click_dock(opened.viewer, "float_button")
    assert dock.isFloating()
    click_dock(opened.viewer, "float_button")
    other = opened.viewer.window.add_dock_widget(QWidget(), name="other", tabify=True)
    opened.viewer.window._qt_window.tabifyDockWidget(dock, other)
    QTest.qWait(50)
    assert [layer.name for layer in opened.viewer.layers] == names
    opened.session.set_box(CUT)
    opened.settle()
    assert opened.session.is_current
    assert opened.session.prediction.request.prompts.box == CUT


def test_results_of_another_widget_are_no_images_to_segment(open_widget):
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(WHOLE)
    opened.settle()
    second = open_widget(viewer=opened.viewer)
    opened.viewer.layers.remove("probability")  # made again while both are open
    opened.session.set_box(CUT)
    opened.settle()
    second.settle()
    opened.viewer.layers["photo"].name = "photograph"
    for each in (opened, second):
        assert [image.name for image in each.coordinator.images.images] == ["photograph"]


def test_work_that_waits_to_be_written_is_written_when_the_widget_closes(open_widget, private_cache):
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(WHOLE)
    opened.settle()
    release = threading.Event()
    opened.coordinator.files.submit("Busy", lambda _c, _p: release.wait(10), lambda _r: None, lambda _t: None)
    opened.coordinator._autosave._timer.stop()
    opened.coordinator._autosave.save()
    opened.viewer.window.remove_dock_widget(opened.widget)
    release.set()
    (saved,) = (private_cache / "autosave").glob("photo-*.json")
    assert json.loads(saved.read_text())["entries"]


# -- what the status says ----------------------------------------------------------------------------------------------

NOTHING = "Draw a box or click inside the object."
ANSWER = "Answer a suggestion, correct with a click, or refine."


def refuse(opened) -> None:
    """Refine, with a result that is not kept."""
    prediction = opened.session.refine_request()
    round_ = Round(0.2413, 0.3002, False, "It went up.", None, (), prediction.request.prompts, None, 1.0)
    assert opened.session.deliver_refinement(RefinedPrediction(prediction, prediction, (round_,)))


def test_the_status_follows_the_session(open_widget):
    data = np.repeat(grey()[None], 4, axis=0)
    opened = open_widget(data, name="scan")
    opened.viewer.dims.set_point(0, 1)
    assert opened.message == NOTHING
    opened.session.set_box(CUT)
    opened.settle()
    assert opened.message == ANSWER
    refuse(opened)
    assert "not kept" in opened.message
    assert "0.2413 → 0.3002 nats (not kept)" in opened.view._card.text()
    for away, back in (
        (lambda: opened.viewer.dims.set_point(0, 2), lambda: opened.viewer.dims.set_point(0, 1)),
        (lambda: button(opened, "New object").click(), lambda: opened.session.select_object(1)),
        (
            lambda: setattr(opened.viewer.dims, "order", (1, 0, 2)),
            lambda: setattr(opened.viewer.dims, "order", (0, 1, 2)),
        ),
        (opened.session.undo, opened.session.redo),
    ):
        away()
        opened.settle()
        assert opened.message == NOTHING
        assert "→" not in opened.view._card.text()
        back()
        opened.settle()
        assert ("→" in opened.view._card.text()) == ("not kept" in opened.message)
        assert opened.session.prediction is not None
        assert opened.message != NOTHING
    opened.session.set_box(replace(CUT, y1=69))
    opened.settle()
    assert opened.message == ANSWER
    assert "→" not in opened.view._card.text()
    for suggestion in opened.session.suggestions:
        opened.session.dismiss(suggestion)
    assert opened.message == "Correct with a click, or refine."
    opened.session.set_box(WHOLE)
    opened.settle()
    assert opened.message == SETTLED


def test_a_kept_refinement_is_told_until_it_is_undone(open_widget):
    opened = open_widget(grey())
    opened.session.set_box(CUT)
    opened.settle()
    before = opened.session.prediction
    round_ = Round(0.3, 0.2, True, "It went down.", None, (), before.request.prompts, None, 1.0)
    assert opened.session.deliver_refinement(RefinedPrediction(before, replace(before), (round_,)))
    assert "undo brings back" in opened.message
    assert "✓" in opened.view._card.text()
    opened.session.undo()
    assert opened.session.prediction is before
    assert opened.message == ANSWER
    assert "→" not in opened.view._card.text()


def test_an_offer_stays_while_the_user_looks_for_the_slice(open_widget):
    data = np.repeat(grey()[None], 4, axis=0)
    opened = open_widget(data, name="scan")
    opened.session.set_box(WHOLE)
    opened.coordinator.close()
    opened.viewer.layers.clear()
    again = open_widget(data, viewer=opened.viewer, name="scan")
    for index in (0, 3):
        again.viewer.dims.set_point(0, index)
        assert "go on with your work" in again.message


def test_the_manifest_offers_the_widget_in_the_menus(make_napari_viewer, private_cache):
    from npe2 import PluginManager, PluginManifest

    import napari_uncertsam

    manifest = PluginManifest.from_file(Path(napari_uncertsam.__file__).with_name("napari.yaml"))
    manifest.validate_imports()
    command = manifest.contributions.widgets[0].command
    assert [i.command for i in manifest.contributions.menus["napari/layers/segment"]] == [command]
    viewer = make_napari_viewer()
    if "napari-uncertsam" not in PluginManager.instance():
        PluginManager.instance().register(manifest)
    _, widget = viewer.window.add_plugin_dock_widget("napari-uncertsam", TITLE)
    assert isinstance(widget, RefineWidget)
    widget.coordinator.close()
