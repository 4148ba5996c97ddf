"""What users do to a widget: wrong layers, layers that go or change, transforms, colours, two widgets, closing it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QSpinBox

from napari_uncertsam.ui.geometry import grid_offset, on_canvas
from napari_uncertsam.ui.inspect.plugin import InspectWidget
from tests.evaluation.results_builder import build_results
from tests.ui.inspect.conftest import fill
from tests.ui.inspect.scenes import Inspecting, button, choose, click_row, column, combo, scene


def entries(opened: Inspecting, name: str) -> list[str]:
    box = combo(opened.view, name)
    return [box.itemText(k) for k in range(box.count())]


# -- which layers ------------------------------------------------------------------------------------------------------


def test_layers_are_guessed_by_kind_and_name(inspect_model, volume_viewer):
    opened = inspect_model(volume_viewer)
    names = ("Image", "Prediction", "Ground truth", "Probability", "Uncertainty")
    assert [combo(opened.view, name).currentText() for name in names] == [
        "scan",
        "prediction",
        "ground truth of scan",
        "probability",
        "entropy of the probability",
    ]
    assert entries(opened, "Image") == ["none", "scan", "probability"]
    assert entries(opened, "Prediction") == ["scan", "ground truth of scan", "prediction", "probability"]
    opened.layer("prediction").name = "nnU-Net"
    assert "nnU-Net" in entries(opened, "Prediction")
    assert combo(opened.view, "Prediction").currentText() == "nnU-Net"
    choose(opened.view, "Probability", "scan")
    opened.viewer.add_image(np.zeros((10, 60, 80)), name="entropy of model")
    assert combo(opened.view, "Uncertainty").currentText() == "entropy of model"
    assert combo(opened.view, "Probability").currentText() == "scan"
    opened.viewer.layers.remove("scan")
    assert combo(opened.view, "Probability").currentText() == "probability"
    opened.viewer.layers.clear()
    assert combo(opened.view, "Prediction").currentIndex() == -1
    opened.compare()
    assert "Choose a prediction" in opened.message


def test_an_empty_viewer_and_a_missing_truth_are_sentences(inspect_model):
    opened = inspect_model()
    assert "Open an image" in opened.message
    opened.viewer.add_labels(np.ones((5, 5), int), name="mask")
    opened.compare()
    assert "Choose the ground truth" in opened.message
    choose(opened.view, "Ground truth", "mask")
    opened.compare()
    assert "Choose a prediction" in opened.message
    choose(opened.view, "Prediction", "mask")
    opened.compare()
    assert "both prediction and ground truth" in opened.message
    button(opened.view, "Export…").setEnabled(True)
    opened.coordinator.export(Path("nowhere.csv"))
    assert "no table to save" in opened.message


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([("truth", np.ones((5, 6), int), {}), ("mask", np.ones((5, 5), int), {})], "(5, 5), but 'truth' (5, 6)"),
        ([("truth", np.ones((5, 6), int), {}), ("mask", np.ones((3, 5, 6), int), {})], "choose layers of one shape"),
        (
            [("truth", np.ones((5, 6), int), {}), ("mask", np.ones((5, 6), int), {"scale": (2, 2)})],
            "'mask' does not lie over 'truth'",
        ),
        (
            [("truth", np.ones((5, 6), int), {}), ("mask", np.ones((5, 6), int), {"rotate": 20})],
            "does not lie over",
        ),
        ([("truth", np.zeros((5, 6), int), {}), ("mask", np.zeros((5, 6), int), {})], "both empty"),
        ([("truth", np.zeros((5, 6), int), {}), ("mask", np.ones((5, 6), int), {})], "The truth is empty"),
        ([("truth", np.full((5, 6), 0.5), {}), ("mask", np.ones((5, 6), int), {})], "no values of objects"),
        ([("truth", np.ones((5, 6), int), {}), ("prediction", np.full((5, 6), 7.5), {})], "between 0 and 1"),
        ([("truth", np.ones((5, 6), int), {}), ("prediction", np.full((5, 6), np.nan), {})], "NaN"),
        ([("truth", np.ones((2, 3, 5, 6), int), {}), ("mask", np.ones((2, 3, 5, 6), int), {})], "4 axes"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_compared_are_sentences(inspect_model, layers, sentence):
    opened = inspect_model()
    for name, array, options in layers:
        add = opened.viewer.add_labels if array.dtype.kind == "i" else opened.viewer.add_image
        add(array, name=name, **options)
    choose(opened.view, "Ground truth", "truth")
    choose(opened.view, "Prediction", layers[1][0])
    opened.compare()
    assert sentence in opened.message
    assert "error" not in opened.viewer.layers


def test_two_dimensional_objects_a_colour_image_and_whole_numbers_in_floats(inspect_model):
    truth = np.zeros((60, 80), np.float32)
    truth[10:30, 10:30], truth[10:30, 45:70] = 2, 7
    mask = np.roll(truth, 3, axis=1).astype(np.int32)
    viewer = ViewerModel()
    viewer.add_image(np.zeros((60, 80, 3), np.uint8), rgb=True, name="photo")
    viewer.add_image(truth, name="truth")
    viewer.add_labels(mask, name="mask", features={"index": [2, 7], "name": ["a", "b"]})
    opened = inspect_model(viewer)
    assert combo(opened.view, "Image").currentText() == "photo"
    assert "photo" not in entries(opened, "Prediction")
    opened.compare()
    assert sorted(column(opened.view, "Object")) == ["2", "7"]
    assert "2 objects: mean Dice" in opened.view.card.text()
    assert "Intervals are over objects of one image." in opened.view.card.text()
    assert "calibration and rho |P-M| cannot be told" in opened.view.card.text()
    click_row(opened.view, column(opened.view, "Object").index("7"))
    opened.settle()
    np.testing.assert_array_equal(opened.layer("wrong").data > 0, (mask == 7) != (truth == 7))
    np.testing.assert_array_equal(opened.layer("error").data, (mask == 7) != (truth == 7))
    assert opened.viewer.scene.camera.center[1:] == pytest.approx((19.5, 58.5))
    opened.coordinator.apply_preset("calibration")
    assert "No object has the measure 'ECE ROI'" in opened.message


def test_multiscale_layers_are_compared_at_full_resolution(inspect_model, made):
    viewer = ViewerModel()
    for add, array, name in (
        (viewer.add_image, made.image, "scan"),
        (viewer.add_labels, made.truth, "truth"),
        (viewer.add_labels, made.prediction, "prediction"),
    ):
        add([array, array[:, ::2, ::2]], multiscale=True, name=name)
    opened = inspect_model(viewer)
    opened.compare()
    assert column(opened.view, "Slice") == ["7", "6", "5", "4", "3", "2"]
    click_row(opened.view, 1)
    opened.settle()
    np.testing.assert_array_equal(opened.layer("wrong").data[0] > 0, made.prediction[6] != made.truth[6])


def test_names_of_objects_come_from_the_truth_s_features(inspect_model, made):
    viewer = fill(ViewerModel(), made)
    viewer.layers["ground truth of scan"].features = {"index": [0, 1], "name": ["background", "spleen"]}
    opened = inspect_model(viewer)
    opened.compare()
    assert "object 1 spleen" in opened.view.card.text()


# -- where things are --------------------------------------------------------------------------------------------------

PLACES: list[dict[str, Any]] = [
    {"scale": (3, 0.5, 2), "translate": (-40, 7, 3)},
    {"scale": (3, 0.5, 2), "rotate": [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]], "translate": (5, 1, 2)},
    {"scale": (1, 1, 1), "affine": np.array([[2, 0, 0, 9], [0, 1, 0.4, 1], [0, 0.1, 1.5, 2], [0, 0, 0, 1.0]])},
    {"scale": (3000, 500, 2000), "units": "um"},
]


@pytest.mark.parametrize("placed", PLACES, ids=["moved", "rotated", "sheared", "micrometres"])
def test_going_to_a_line_under_any_transform(inspect_model, made, placed):
    viewer = fill(ViewerModel(), made, **placed)
    opened = inspect_model(viewer)
    opened.compare()
    at = column(opened.view, "Slice").index("4")
    click_row(opened.view, at)
    opened.settle()
    truth, error = opened.layer("ground truth of scan"), opened.layer("error")
    either = (made.truth[4] | made.prediction[4]) != 0
    rows, columns = np.nonzero(either)
    middle = (4, (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2)
    shown = viewer.dims.point[0]
    assert shown == pytest.approx(truth.data_to_world(middle)[0])
    for corner in ((0, 0), (59, 79)):
        assert error.data_to_world((0, *corner)) == pytest.approx(truth.data_to_world((4, *corner)))
    # The camera is in the middle of the object's corners.
    corners = [
        (4, y, x) for y in (rows.min() - 0.5, rows.max() + 0.5) for x in (columns.min() - 0.5, columns.max() + 0.5)
    ]
    world = np.array([truth.data_to_world(c)[1:] for c in corners])
    assert viewer.scene.camera.center[1:] == pytest.approx((world.min(0) + world.max(0)) / 2)
    np.testing.assert_array_equal(opened.layer("wrong").data[0] > 0, made.prediction[4] != made.truth[4])


def test_distances_are_millimetres_whatever_the_unit(inspect_model, made):
    opened = inspect_model(fill(ViewerModel(), made, scale=(3, 0.5, 2)))
    opened.compare()
    millimetres = dict(zip(column(opened.view, "Slice"), column(opened.view, "HD95 (mm)"), strict=True))
    other = inspect_model(fill(ViewerModel(), made, scale=(3000, 500, 2000), units="um"))
    other.compare()
    assert dict(zip(column(other.view, "Slice"), column(other.view, "HD95 (mm)"), strict=True)) == millimetres
    assert "HD95 (mm)" in other.view.card.text()
    pixels = inspect_model(fill(ViewerModel(), made))
    pixels.compare()
    assert "HD95 (px)" in pixels.view.card.text()


@pytest.mark.filterwarnings("ignore:Contours are not displayed:UserWarning")  # napari slices before anybody is told
def test_the_displayed_plane_is_compared_and_shown_again(inspect_model, made):
    viewer = fill(ViewerModel(), made)
    viewer.dims.order = (2, 0, 1)
    opened = inspect_model(viewer)
    opened.compare()
    assert {f.row["plane"] for f in opened.coordinator.source.findings} == {2}
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    at = len(column(opened.view, "Slice")) // 2
    click_row(opened.view, at)
    opened.settle()
    index = int(column(opened.view, "Slice")[at])
    assert viewer.dims.ndisplay == 2
    assert set(viewer.dims.displayed) == {0, 1}
    assert viewer.dims.current_step[2] == index
    np.testing.assert_array_equal(
        opened.layer("wrong").data[..., 0] > 0, made.prediction[..., index] != made.truth[..., index]
    )


def test_a_series_beside_the_volume_does_not_matter(inspect_model, made):
    viewer = fill(ViewerModel(), made)
    viewer.add_image(np.zeros((4, 10, 60, 80)), name="series")
    opened = inspect_model(viewer)
    opened.compare()
    click_row(opened.view, 2)
    opened.settle()
    assert viewer.dims.current_step[1] == 5
    assert viewer.dims.ndim == 4


def test_maps_of_a_single_slice_are_used_there(inspect_model, made):
    viewer = fill(ViewerModel(), made)
    viewer.layers.remove("probability")
    viewer.add_image(made.probability[5:6], name="probability", translate=(5, 0, 0))
    opened = inspect_model(viewer)
    opened.compare()
    known = [f.index for f in opened.coordinator.source.findings if f.measure("ece") is not None]
    assert known == [5]
    assert "its layer ends before" in opened.view.card.text()
    viewer.layers["probability"].translate = (5, 2, 0)
    opened.compare()
    assert "choose layers of one shape" in opened.message


def test_grids():
    viewer = ViewerModel()
    turned = {"scale": (2, 3, 4), "rotate": [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]}
    one = viewer.add_labels(np.zeros((4, 6, 8), int), translate=(1, 2, 3), **turned)
    part = viewer.add_image(np.zeros((1, 6, 8)), translate=one.data_to_world((3, 0, 0)), **turned)
    assert grid_offset(part, one) == (3, 0, 0)
    assert grid_offset(one, one) == (0, 0, 0)
    part.translate = np.add(part.translate, (0, 0, 1))
    assert grid_offset(part, one) is None
    flat = viewer.add_image(np.zeros((6, 8)))
    assert grid_offset(flat, one) is None
    small = ViewerModel()
    mm = small.add_labels(np.zeros((6, 8), int), scale=(1, 2), units="mm")
    um = small.add_labels(np.zeros((6, 8), int), scale=(1000, 2000), units="um")
    assert grid_offset(um, mm) == (0, 0)
    shown = on_canvas(small.dims, mm, np.array([(1, 1)]))
    np.testing.assert_allclose(shown, on_canvas(small.dims, um, np.array([(1, 1)])))


# -- which objects -----------------------------------------------------------------------------------------------------


def test_objects_with_other_values_are_found(inspect_model, made):
    viewer = fill(ViewerModel(), made)
    organs = 5 * made.truth.astype(np.int32)
    organs[:, :3] = 1
    viewer.layers["ground truth of scan"].data = organs
    opened = inspect_model(viewer)
    opened.compare()
    assert "Object 1 of the prediction lies mostly on value 5" in opened.message
    button(opened.view, "Compare by best overlap").click()
    opened.settle()
    assert combo(opened.view, "Objects").currentText() == "best overlap"
    assert {f.title for f in opened.coordinator.source.findings} == {"1 ↔ 5"}
    assert column(opened.view, "Slice") == ["7", "6", "5", "4", "3", "2"]
    choose(opened.view, "Objects", "all as one")
    opened.compare()
    assert len(column(opened.view, "Slice")) == 10
    choose(opened.view, "Objects", "one pair …")
    first, second = opened.view.findChildren(QSpinBox)[:2]
    first.setValue(1)
    second.setValue(4)
    opened.compare()
    assert "The truth has no value 4; it has 1, 5" in opened.message
    second.setValue(5)
    opened.compare()
    assert column(opened.view, "Slice") == ["7", "6", "5", "4", "3", "2"]


# -- layers that change or go ------------------------------------------------------------------------------------------


def test_results_are_marked_when_a_layer_changes(inspect_model, volume_viewer, made):
    opened = inspect_model(volume_viewer)
    opened.compare()
    view = opened.view
    assert view._stale.isHidden()
    opened.layer("prediction").data = made.truth.copy()
    assert not view._stale.isHidden()
    assert "'prediction' has changed" in opened.message
    assert len(column(view, "Slice")) == 6
    button(view, "Compare again").click()
    opened.settle()
    assert view._stale.isHidden()
    assert set(column(view, "Dice")) == {"1.000"}
    # Painting, and what nobody tells of but the line itself.
    opened.layer("prediction").data_setitem((np.array([4]), np.array([24]), np.array([38])), 0)
    assert not view._stale.isHidden()
    opened.compare()
    opened.layer("prediction").data[4, 20:28] = 0
    assert view._stale.isHidden()
    click_row(view, column(view, "Slice").index("4"))
    opened.settle()
    assert not view._stale.isHidden()


@pytest.mark.parametrize("refused", ["before", "while", "cancelled"])
def test_a_comparison_that_fails_leaves_the_mark_and_goes_on_watching(inspect_model, volume_viewer, made, refused):
    opened = inspect_model(volume_viewer)
    opened.viewer.add_image(np.full(made.truth.shape, 7.5), name="other")
    opened.compare()
    view, gate = opened.view, threading.Event()

    def fail() -> None:
        if refused == "before":
            choose(view, "Prediction", "ground truth of scan")
            opened.compare()
            assert "Choose the ground truth" in opened.message
            choose(view, "Prediction", "prediction")
        elif refused == "while":
            choose(view, "Probability", "other")
            opened.compare()
            assert "between 0 and 1" in opened.message
            choose(view, "Probability", "probability")
        else:
            opened.coordinator.comparer.submit("Waiting", lambda _c, _p: gate.wait(10), print, print)
            button(view, "Compare").click()
            view.cancel_requested.emit()
            gate.set()
            opened.settle()
            assert "Cancelled" in opened.message

    fail()
    assert view._stale.isHidden()
    opened.layer("prediction").data = made.truth.copy()
    assert not view._stale.isHidden()
    fail()
    assert not view._stale.isHidden()
    assert view._stale.toolTip().startswith("'prediction' has changed")
    opened.compare()
    assert view._stale.isHidden()
    assert set(column(view, "Dice")) == {"1.000"}


def test_what_changes_while_it_is_measured_is_out_of_date(inspect_model, volume_viewer, made):
    opened = inspect_model(volume_viewer)
    gate = threading.Event()
    opened.layer("prediction").data = slow(made.prediction, gate)
    button(opened.view, "Compare").click()
    opened.layer("probability").data = made.probability * 0.5
    gate.set()
    opened.settle()
    assert "'probability' has changed" in opened.view._stale.toolTip()
    assert not opened.view._stale.isHidden()


def test_layers_that_go_while_the_table_is_open(inspect_model, volume_viewer):
    opened = inspect_model(volume_viewer)
    opened.compare()
    opened.viewer.layers.remove("error")
    opened.layer("wrong").name = "mistakes"
    click_row(opened.view, 2)
    opened.settle()
    assert {"error", "mistakes"} < set(opened.names)
    opened.viewer.layers.remove("prediction")
    assert "'prediction' was removed" in opened.message
    click_row(opened.view, 3)
    opened.settle()
    assert opened.layer("mistakes").data.any()
    opened.viewer.layers.remove("ground truth of scan")
    click_row(opened.view, 1)
    opened.settle()
    assert "compare again to see this line" in opened.message
    assert not {"error", "mistakes"} & set(opened.names)
    assert len(column(opened.view, "Slice")) == 6
    opened.viewer.layers.clear()
    click_row(opened.view, 0)
    opened.settle()
    assert opened.names == []


def test_a_truth_that_becomes_another_array_is_not_gone_to(inspect_model, volume_viewer):
    opened = inspect_model(volume_viewer)
    opened.compare()
    opened.layer("ground truth of scan").data = np.ones((60, 80), np.uint8)
    click_row(opened.view, 1)
    opened.settle()
    assert "compare again" in opened.message
    opened.viewer.dims.set_current_step(0, 1)
    opened.compare()
    assert "choose layers of one shape" in opened.message


def slow(array: np.ndarray, gate: threading.Event) -> Any:
    """A lazy array whose slices wait."""

    class Slow:
        shape, dtype, ndim = array.shape, array.dtype, array.ndim

        def __getitem__(self, key: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                gate.wait(10)
            return array[key]

        def __array__(self, *_args: Any, **_options: Any) -> Any:
            return array

    return Slow()


@pytest.mark.parametrize("what", ["cancel", "remove", "close"])
def test_stopping_half_way(inspect_model, volume_viewer, made, what):
    opened = inspect_model(volume_viewer)
    opened.compare()
    before = column(opened.view, "Dice")
    gate = threading.Event()
    opened.layer("prediction").data = slow(made.prediction, gate)
    button(opened.view, "Compare").click()
    assert opened.coordinator.is_busy
    if what == "cancel":
        opened.view.cancel_requested.emit()
        gate.set()
        opened.settle()
        assert opened.message == "Cancelled; the table is as it was."
        assert column(opened.view, "Dice") == before
    elif what == "remove":
        opened.viewer.layers.clear()
        gate.set()
        opened.settle()
        assert len(column(opened.view, "Dice")) == 6
        assert opened.names == []
    else:
        opened.coordinator.close()
        gate.set()
        assert opened.names == ["scan", "ground truth of scan", "prediction", "probability"]


def test_a_failure_of_an_array_is_a_sentence(inspect_model, volume_viewer, made):
    class Broken:
        shape, dtype, ndim = made.truth.shape, made.truth.dtype, 3

        def __getitem__(self, _key: Any) -> Any:
            raise OSError("the disk is gone")

    opened = inspect_model(volume_viewer)
    opened.viewer.layers.remove("ground truth of scan")
    layer = opened.viewer.add_labels(made.truth, name="truth")
    layer._data = Broken()
    opened.compare()
    assert "could not be read: the disk is gone" in opened.message


# -- more than one widget ----------------------------------------------------------------------------------------------


def test_two_inspectors_leave_each_other_alone(inspect_model, volume_viewer):
    first = inspect_model(volume_viewer)
    second = inspect_model(volume_viewer)
    first.compare()
    second.compare()
    for opened in (first, second):
        assert entries(opened, "Prediction") == ["scan", "ground truth of scan", "prediction", "probability"]
    assert len([name for name in first.names if name.startswith(("error", "wrong"))]) == 4
    first.coordinator.close()
    assert len([name for name in first.names if name.startswith(("error", "wrong"))]) == 2
    click_row(second.view, 2)
    second.settle()
    assert volume_viewer.dims.current_step[0] == 5


def test_beside_the_refining_widget(open_widget, qtbot, made):
    from napari_uncertsam.prompts import Box
    from tests.fakes import scene as photo

    image, truth = photo()
    refining = open_widget(image[..., 0], name="photo")
    viewer = refining.viewer
    refining.session.set_box(Box(38, 32, 89, 99))
    refining.settle()
    viewer.add_labels(truth.astype(np.uint8) * 4, name="ground truth")
    viewer.layers.selection.active = viewer.layers["boxes"]
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    opened = Inspecting(viewer, widget)
    names = ("Image", "Prediction", "Ground truth", "Probability", "Uncertainty")
    assert [combo(opened.view, name).currentText() for name in names] == [
        "photo", "mask", "ground truth", "probability", "uncertainty",
    ]  # fmt: skip
    opened.compare()
    assert len(column(opened.view, "Dice")) == 1
    assert opened.chosen.measure("ece_roi") is not None
    # What is drawn on stays at hand, and nothing of the inspector is an image to segment.
    assert viewer.layers.selection.active.name == "boxes"
    assert [layer.name for layer in refining.coordinator.images.images] == ["photo"]
    refining.session.set_box(Box(40, 34, 70, 97))
    refining.settle()
    assert {"error", "wrong"} < set(opened.names)
    opened.coordinator.close()
    assert not {"error", "wrong"} & set(opened.names)


# -- an evaluation's folder --------------------------------------------------------------------------------------------


def test_a_folder_that_holds_no_evaluation_is_a_sentence(inspect_model, volume_viewer, tmp_path: Path):
    opened = inspect_model(volume_viewer)
    opened.compare()
    for path in (tmp_path, tmp_path / "nowhere"):
        opened.widget.open_results(path)
        opened.settle()
        assert "results.json" in opened.message
    (tmp_path / "results.json").write_text("{")
    opened.widget.open_results(tmp_path)
    opened.settle()
    assert "damaged" in opened.message
    assert len(column(opened.view, "Slice")) == 6


def test_a_dataset_that_moved_leaves_the_table(inspect_model, tmp_path: Path):
    build_results(tmp_path)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    opened = inspect_model()
    opened.widget.open_results(tmp_path / "run")
    opened.settle()
    assert str(tmp_path / "data") in opened.message
    assert len(column(opened.view, "Dice")) == 6
    click_row(opened.view, 3)
    opened.settle()
    assert f"Dice {opened.chosen.measure('dice'):.3f}" in opened.view.card.text()
    assert opened.names == []


def test_a_case_that_cannot_be_read_leaves_nothing_of_the_one_before(inspect_model, tmp_path: Path):
    from PIL import Image

    build_results(tmp_path)
    opened = inspect_model()
    opened.widget.open_results(tmp_path / "run")
    opened.settle()
    opened.layer("uncertainty").visible = True
    assert len(opened.names) == 6
    second = opened.coordinator.source.findings[opened.view.table.rows()[1]].row["image"]
    mask = tmp_path / "data" / "masks" / f"{second}.png"
    Image.fromarray(np.ones((20, 30), np.uint8)).save(mask)
    click_row(opened.view, 1)
    opened.settle()
    assert second in opened.view.card.text()
    assert opened.names == []
    problem = opened.message
    assert second in problem
    # The next one is shown again, as the user had the layers, and the sentence is gone.
    click_row(opened.view, 2)
    opened.settle()
    assert len(opened.names) == 6
    assert opened.layer("uncertainty").visible
    assert opened.message != problem
    # A mask of the right size that is another one: no prediction is laid over it.
    value = opened.coordinator.source.findings[opened.view.table.rows()[1]].row["value"]
    Image.fromarray(value * np.eye(96, 128, dtype=np.uint8)).save(mask)
    click_row(opened.view, 1)
    opened.settle()
    assert "is not the one that was evaluated" in opened.message
    assert opened.names == ["image", "ground truth"]


def test_another_evaluation_leaves_nothing_of_the_one_before(inspect_model, tmp_path: Path):
    build_results(tmp_path / "a")
    build_results(tmp_path / "b", seed=1)
    shutil.move(tmp_path / "b" / "data", tmp_path / "elsewhere")
    opened = inspect_model()
    opened.widget.open_results(tmp_path / "a" / "run")
    opened.settle()
    assert len(opened.names) == 6
    opened.widget.open_results(tmp_path / "b" / "run")
    opened.settle()
    assert "is not where it was" in opened.message
    assert opened.names == []


def test_a_dataset_that_moved_is_found_again(inspect_model, tmp_path: Path, monkeypatch):
    build_results(tmp_path)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    build_results(tmp_path / "other", volume=True)
    opened = inspect_model()
    opened.widget.open_results(tmp_path / "run")
    opened.settle()
    answers = iter(["", str(tmp_path / "other" / "data"), str(tmp_path / "run"), str(tmp_path / "elsewhere")])
    monkeypatch.setattr(opened.view, "ask_dataset", lambda: next(answers))
    problem, chosen = opened.message, opened.chosen.row["case"]
    for sentence in (problem, "holds none of the images", str(tmp_path / "run")):
        button(opened.view, "Find the dataset…").click()
        opened.settle()
        assert sentence in opened.message
        assert opened.names == []
    button(opened.view, "Find the dataset…").click()
    opened.settle()
    assert str(tmp_path / "elsewhere") in opened.message
    assert (opened.chosen.row["case"], len(opened.names)) == (chosen, 6)
    # It stays found with another prompt.
    choose(opened.view, "Prompt", "box-0.5")
    opened.settle()
    assert len(opened.names) == 6
    case = opened.coordinator.source.results.case(opened.chosen.row)
    np.testing.assert_array_equal(opened.layer("ground truth").data != 0, case.truth)


def test_cancelling_while_a_case_is_read_leaves_nothing_of_the_one_before(inspect_model, tmp_path: Path, monkeypatch):
    build_results(tmp_path)
    opened = inspect_model()
    opened.widget.open_results(tmp_path / "run")
    opened.settle()
    gate, dataset = threading.Event(), type(opened.coordinator.source.results.dataset)
    real = dataset.load
    monkeypatch.setattr(dataset, "load", lambda self, name: gate.wait(10) and real(self, name))
    click_row(opened.view, 1)
    opened.view.cancel_requested.emit()
    gate.set()
    opened.settle()
    assert opened.names == []
    assert "go to the line again" in opened.message


def test_maps_that_were_not_kept_are_told_of(inspect_model, tmp_path: Path):
    build_results(tmp_path, maps=False)
    opened = inspect_model()
    opened.widget.open_results(tmp_path / "run")
    opened.settle()
    assert "--no-maps" in opened.message
    assert opened.names == ["image", "ground truth"]


def test_from_an_evaluation_to_layers_and_back(inspect_model, volume_viewer, tmp_path: Path):
    build_results(tmp_path, volume=True)
    opened = inspect_model(volume_viewer)
    mine = list(opened.names)
    opened.compare()
    opened.widget.open_results(tmp_path / "run")
    opened.settle()
    assert opened.names == [*mine, "image", "uncertainty", "ground truth", "prediction [1]", "error", "wrong"]
    assert opened.layer("error").ndim == 2
    opened.compare()
    assert opened.names == [*mine, "error", "wrong"]
    assert opened.layer("error").ndim == 3
    opened.viewer.dims.set_current_step(0, 3)
    opened.settle()
    assert opened.chosen.index == 3


@pytest.mark.filterwarnings("ignore:Contours are not displayed:UserWarning")  # napari slices before anybody is told
def test_grey_and_colour_cases_one_after_the_other(inspect_model, tmp_path: Path):
    from PIL import Image

    build_results(tmp_path, cases=2)
    path = tmp_path / "data" / "images" / "ellipse_01.png"
    Image.open(path).convert("RGB").save(path)
    opened = inspect_model()
    opened.widget.open_results(tmp_path / "run")
    opened.settle()
    for at in (1, 0, 1):
        click_row(opened.view, at)
        opened.settle()
        assert opened.layer("image").rgb == (opened.chosen.row["image"] == "ellipse_01")
        assert opened.names[0] == "image"
    opened.viewer.dims.ndisplay = 3
    assert opened.layer("prediction").contour == 0
    opened.viewer.dims.ndisplay = 2
    assert opened.layer("prediction").contour == 1


def test_a_large_volume_is_compared_while_the_window_lives(inspect_model, qtbot):
    """Turns of the event loop go on during a comparison."""
    from tests.ui.helpers import Heartbeat

    made = scene((10, 200, 240))
    opened = inspect_model(fill(ViewerModel(), made))
    with Heartbeat() as heart:
        opened.compare()
    assert heart.longest < 2
