"""Layers and session in step, on a ViewerModel: no Qt, no threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_uncertsam.checkpoints import CACHE_VARIABLE
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.session import Session
from napari_uncertsam.ui.geometry import volume_of
from napari_uncertsam.ui.styles import ROLES
from tests.fakes import FakeEngine, install_posterior, scene
from tests.ui.helpers import Loop


@pytest.fixture(autouse=True)
def posterior(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake engine has what the default method needs."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
    install_posterior(FakeEngine())


def flat_loop(rgb: bool = False, **placed) -> Loop:
    image, _ = scene()
    viewer = ViewerModel()
    layer = viewer.add_image(image if rgb else image[..., 0], rgb=rgb, name="photo", **placed)
    return Loop(viewer, layer, Session(volume_of(layer)))


def volume_loop(**placed) -> Loop:
    """Six slices of 48 x 64; slices 2 and 4 hold a bright ellipse."""
    data = np.full((6, 48, 64), 30, np.uint8)
    for index in (2, 4):
        data[index] = scene(48, 64, Box(12, 14, 35, 50))[0][..., 0]
    viewer = ViewerModel()
    layer = viewer.add_image(data, name="scan", **placed)
    return Loop(viewer, layer, Session(volume_of(layer)))


def drawn_box(loop: Loop) -> np.ndarray:
    (corners,) = loop.layer("boxes").data
    return np.array([corners.min(0), corners.max(0)])


def names(loop: Loop) -> list[str]:
    return [layer.name for layer in loop.viewer.layers]


# -- layers ------------------------------------------------------------------------------------------------------------


def test_layers_have_the_names_of_the_design_in_a_sensible_order():
    loop = flat_loop()
    assert names(loop) == ["photo", *ROLES]
    assert not loop.layer("probability").visible
    assert loop.layer("uncertainty").visible
    assert tuple(loop.layer("uncertainty").contrast_limits) == pytest.approx((0, np.log(2)))
    colours = loop.layer("uncertainty").colormap.map(np.array([0.0, 0.5, 1.0]))
    assert colours[0, 3] == 0
    assert colours[2, 3] == 1
    # Perceptually uniform: lightness rises steadily.
    lightness = loop.layer("uncertainty").colormap.map(np.linspace(0, 1, 11))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def test_a_new_layer_does_not_take_the_mouse_from_the_one_drawn_on():
    loop = flat_loop()
    loop.viewer.layers.selection.active = loop.layer("points")
    loop.viewer.layers.remove("suggested points")
    loop.session.set_box(Box(40, 34, 87, 97))
    assert loop.layer("suggested points") in loop.viewer.layers
    assert loop.viewer.layers.selection.active is loop.layer("points")


@pytest.mark.parametrize("role", [role for role in ROLES if role != "changed"])  # which comes with an answer
def test_a_deleted_layer_comes_back_with_the_next_prediction(role):
    loop = flat_loop()
    loop.session.set_prompts(Prompts((Point(60, 60),), Box(36, 30, 91, 101)))
    loop.viewer.layers.remove(role)
    loop.session.set_prompts(Prompts((Point(62, 66),), Box(38, 32, 89, 80)))
    assert sorted(names(loop)) == sorted(["photo", *ROLES])
    np.testing.assert_allclose(drawn_box(loop), [[37.5, 31.5], [89.5, 80.5]])
    np.testing.assert_allclose(loop.layer("points").data, [[62, 66]])
    np.testing.assert_array_equal(loop.layer("mask").data, loop.session.labels)
    np.testing.assert_allclose(loop.layer("uncertainty").data, loop.session.uncertainty_slice())
    assert len(loop.layer("suggested points").data) == sum(s.kind == "point" for s in loop.session.suggestions)


def test_renamed_hidden_and_reordered_layers_stay_ours():
    loop = flat_loop()
    for number, layer in enumerate(list(loop.viewer.layers)[1:]):
        layer.name = f"mine {number}"
        layer.visible = False
    loop.viewer.layers.reverse()
    loop.session.set_box(Box(40, 34, 87, 97))
    assert len(loop.viewer.layers) == 9
    assert loop.layer("mask").data.any()
    assert loop.layer("mask").name == "mine 2"


def test_a_layer_of_the_user_s_with_our_name_is_left_alone():
    image, _ = scene()
    viewer = ViewerModel()
    layer = viewer.add_image(image[..., 0])
    theirs = viewer.add_labels(np.ones((128, 128), int), name="mask")
    loop = Loop(viewer, layer, Session(volume_of(layer)))
    loop.session.set_box(Box(40, 34, 87, 97))
    assert (theirs.data == 1).all()
    assert loop.layer("mask") is not theirs


def test_layers_follow_the_transform_of_the_image():
    loop = volume_loop(scale=(3, 1, 1))
    loop.viewer.dims.set_point(0, 6)
    loop.session.set_box(Box(12, 14, 35, 50))
    loop.image.scale, loop.image.translate = (5, 2, 2), (1, 2, 3)
    loop.image.rotate = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    for role in ROLES:
        layer = loop.layer(role)
        origin = (0, 4, 5) if role in ("uncertainty", "probability") else (2, 4, 5)
        np.testing.assert_allclose(layer.data_to_world(origin), loop.image.data_to_world((2, 4, 5)), atol=1e-9)


def test_maps_lie_on_their_slice_and_on_no_other():
    loop = volume_loop(scale=(3, 1, 1), translate=(10, 0, 0))
    loop.viewer.dims.set_point(0, 10 + 3 * 2)
    loop.session.set_box(Box(12, 14, 35, 50))
    layer = loop.layer("uncertainty")
    assert layer.data.shape == (1, 48, 64)
    expected = loop.session.uncertainty_slice()
    y, x = np.unravel_index(expected.argmax(), expected.shape)
    assert layer.get_value((16, y, x), world=True) == pytest.approx(expected[y, x])
    loop.viewer.dims.set_point(0, 10 + 3 * 3)
    assert not loop.layer("uncertainty").data.any()
    loop.viewer.dims.set_point(0, 10 + 3 * 2)
    np.testing.assert_array_equal(loop.layer("uncertainty").data[0], expected)


def test_a_mask_that_holds_something_stays_with_the_user():
    loop = flat_loop()
    loop.session.set_box(Box(40, 34, 87, 97))
    mask = loop.layer("mask")
    loop.sync.close()
    loop.layers.close(keep_mask_as="mask [photo]")
    assert names(loop) == ["photo", "mask [photo]"]
    assert mask.data.any()
    loop.session.undo()
    assert mask.data.any()
    empty = flat_loop()
    empty.sync.close()
    empty.layers.close()
    assert names(empty) == ["photo"]


# -- what the user draws -----------------------------------------------------------------------------------------------


def test_a_box_drawn_with_the_mouse_is_predicted_once():
    loop = flat_loop()
    layer = loop.layer("boxes")
    layer.mode = "add_rectangle"
    loop.mouse("boxes").drag((39.5, 33.5), (87.5, 97.5))
    box = loop.session.prompts.box
    assert (box.y0, box.x0, box.y1, box.x1) == pytest.approx((40, 34, 87, 97), abs=1e-3)
    assert len(loop.asked) == 1
    truth = scene()[1] > 0
    mask = loop.layer("mask").data == 1
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9
    np.testing.assert_array_equal(loop.layer("mask").data, loop.session.labels)


def test_the_newest_box_wins_and_the_older_one_goes():
    loop = flat_loop()
    loop.session.set_box(Box(10, 10, 30, 30))
    layer = loop.layer("boxes")
    layer.mode = "add_rectangle"
    loop.mouse("boxes").drag((39.5, 33.5), (87.5, 97.5))
    np.testing.assert_allclose(drawn_box(loop), [[39.5, 33.5], [87.5, 97.5]], atol=1e-3)
    assert loop.session.prompts.box.y0 == pytest.approx(40, abs=1e-3)


def test_other_shapes_become_their_bounding_box():
    loop = flat_loop()
    loop.layer("boxes").add_polygons(np.array([[60, 33.5], [39.5, 60], [60, 97.5], [87.5, 70]]))
    assert loop.session.prompts.box == Box(40, 34, 87, 97)
    assert loop.layer("boxes").shape_type == ["rectangle"]
    np.testing.assert_allclose(drawn_box(loop), [[39.5, 33.5], [87.5, 97.5]])


def test_a_click_in_box_mode_is_no_box():
    loop = flat_loop()
    loop.session.set_box(Box(40, 34, 87, 97))
    layer = loop.layer("boxes")
    layer.mode = "add_rectangle"
    loop.mouse("boxes").click((60, 60))
    assert loop.session.prompts.box == Box(40, 34, 87, 97)
    assert len(layer.data) == 1
    assert "drag" in loop.said[-1]


def test_a_box_can_be_moved_and_deleted():
    loop = flat_loop()
    loop.session.set_box(Box(40, 34, 87, 97))
    layer = loop.layer("boxes")
    layer.mode = "select"
    layer.selected_data = {0}
    loop.mouse("boxes").drag((60, 60), (65, 57))
    moved = loop.session.prompts.box
    assert (moved.y0, moved.x0) == pytest.approx((45, 31), abs=0.01)
    assert loop.layer("boxes").selected_data == {0}
    layer.selected_data = {0}
    layer.remove_selected()
    assert loop.session.prompts.box is None
    assert not loop.layer("mask").data.any()


def test_a_box_half_outside_is_cut_and_one_outside_is_refused():
    loop = flat_loop()
    layer = loop.layer("boxes")
    layer.add_rectangles(np.array([[-20, -20], [-20, 60], [60, 60], [60, -20.0]]))
    assert loop.session.prompts.box == Box(0, 0, 59.5, 59.5)
    np.testing.assert_allclose(drawn_box(loop), [[-0.5, -0.5], [60, 60]])
    layer.add_rectangles(np.array([[200, 200], [200, 260], [260, 260], [260, 200.0]]))
    assert loop.session.prompts.box == Box(0, 0, 59.5, 59.5)
    assert "outside" in loop.said[-1]
    assert len(layer.data) == 1


def test_points_are_positive_or_negative_and_keep_their_colour():
    loop = flat_loop()
    layer = loop.layer("points")
    layer.mode = "add"
    loop.mouse("points").click((60, 60))
    layer.feature_defaults = {"positive": False}
    loop.mouse("points").click((10, 12))
    assert loop.session.prompts.points == (Point(60, 60, True), Point(10, 12, False))
    assert loop.layer("mask").data[60, 60] == 1
    green, red = layer.face_color[:, :3]
    assert green[1] > green[0]
    loop.session.undo()
    loop.session.redo()
    green, red = loop.layer("points").face_color[:, :3]
    assert green[1] > green[0]
    assert red[0] > red[1]
    assert list(layer.features["positive"]) == [True, False]


def test_moving_a_point_is_one_step():
    loop = flat_loop()
    loop.session.add_point(Point(60, 60))
    layer, asked = loop.layer("points"), len(loop.asked)
    layer.mode = "select"
    layer.selected_data = {0}
    loop.mouse("points").drag((60, 60), (66, 70), steps=8)
    assert len(loop.session.prompts.points) == 1
    assert (loop.session.prompts.points[0].y, loop.session.prompts.points[0].x) == pytest.approx((66, 70), abs=0.5)
    assert len(loop.asked) == asked + 1
    loop.session.undo()
    assert loop.session.prompts.points == (Point(60, 60),)
    np.testing.assert_allclose(layer.data, [[60, 60]])


def test_deleting_a_point_removes_it_from_the_prompts():
    loop = flat_loop()
    loop.session.set_prompts(Prompts((Point(60, 60), Point(10, 10, False))))
    layer = loop.layer("points")
    layer.selected_data = {0}
    layer.remove_selected()
    assert loop.session.prompts.points == (Point(10, 10, False),)
    assert not loop.layer("mask").data.any()


def test_a_point_outside_is_refused_and_taken_back():
    loop = flat_loop()
    loop.layer("points").add([500, 3])
    assert loop.session.prompts.points == ()
    assert len(loop.layer("points").data) == 0
    assert "outside" in loop.said[-1]


@pytest.mark.filterwarnings("ignore:Contours are not displayed:UserWarning")  # napari slices before anybody is told
def test_drawing_in_3d_is_refused_with_a_sentence():
    loop = volume_loop()
    loop.viewer.dims.ndisplay = 3
    loop.layer("points").add([2, 20, 30])
    assert loop.session.prompts == Prompts()
    assert len(loop.layer("points").data) == 0
    assert "2D" in loop.said[-1]
    assert loop.layer("mask").contour == 0
    loop.viewer.dims.ndisplay = 2
    assert loop.layer("mask").contour == 1


def test_a_prediction_does_not_disturb_a_drag():
    loop = flat_loop()
    loop.answering = False
    loop.session.set_box(Box(36, 30, 91, 101))
    layer = loop.layer("boxes")
    layer.mode = "add_rectangle"
    mouse = loop.mouse("boxes")
    mouse.press((20, 20))
    mouse.move((50, 50))
    loop.session.deliver(loop.pipeline.predict(loop.session.volume, loop.asked[-1]))
    loop.session.undo()  # and neither does anything else that changes the prompts
    mouse.move((80, 90))
    mouse.release((80, 90))
    box = loop.session.prompts.box
    assert (box.y0, box.x0, box.y1, box.x1) == pytest.approx((20.5, 20.5, 79.5, 89.5), abs=1e-3)
    assert len(layer.data) == 1


def test_a_polygon_between_two_clicks_is_left_alone_by_a_prediction():
    loop = flat_loop()
    loop.answering = False
    loop.session.set_box(Box(36, 30, 91, 101))
    layer = loop.layer("boxes")
    layer.mode = "add_polygon"
    for place in ((30, 20), (80, 20), (80, 90)):
        loop.mouse("boxes").click(place)
        loop.mouse("boxes").move((70, 70))
        request = loop.session.request
        loop.session.deliver(loop.pipeline.predict(loop.session.volume, request))
    assert len(layer.data) == 2
    loop.mouse("boxes").double_click((80, 90))
    assert len(layer.data) == 1
    assert loop.session.prompts.box.y1 == pytest.approx(79.5, abs=0.01)


# -- painting ----------------------------------------------------------------------------------------------------------


def test_painted_pixels_win_and_undo_takes_them_back():
    loop = flat_loop()
    loop.session.set_box(Box(36, 30, 91, 101))
    mask, before = loop.layer("mask"), loop.session.labels.copy()
    mask.brush_size, mask.mode = 5, "paint"
    loop.mouse("mask").drag((5, 5), (5, 20))
    mask.mode = "erase"
    loop.mouse("mask").click((60, 60))
    assert loop.session.labels[5, 12] == 1
    assert loop.session.labels[60, 60] == 0
    np.testing.assert_array_equal(mask.data, loop.session.labels)
    loop.session.set_box(Box(38, 32, 91, 101))
    assert mask.data[5, 12] == 1
    assert mask.data[60, 60] == 0
    for _ in range(3):
        loop.session.undo()
    np.testing.assert_array_equal(mask.data, before)


def test_a_prediction_that_arrives_during_a_stroke_is_not_undone_by_it():
    loop = flat_loop()
    loop.answering = False
    loop.session.set_box(Box(36, 30, 91, 101))
    mask = loop.layer("mask")
    mask.brush_size, mask.mode = 3, "paint"
    mouse = loop.mouse("mask")
    mouse.press((5, 5))
    mouse.move((5, 10))
    loop.session.deliver(loop.pipeline.predict(loop.session.volume, loop.asked[-1]))
    mouse.move((5, 20))
    mouse.release((5, 20))
    assert loop.session.labels[5, 5] == loop.session.labels[5, 18] == 1
    assert loop.session.labels[60, 60] == 1
    np.testing.assert_array_equal(mask.data, loop.session.labels)


def test_painting_in_3d_reaches_every_slice():
    loop = volume_loop()
    loop.viewer.dims.set_point(0, 3)
    mask = loop.layer("mask")
    mask.n_edit_dimensions, mask.brush_size, mask.mode = 3, 5, "paint"
    mask.paint((3, 20, 20), 1)
    assert loop.session.labels[2, 20, 20] == loop.session.labels[4, 20, 20] == 1
    np.testing.assert_array_equal(mask.data, loop.session.labels)


def test_another_label_painted_is_another_object():
    loop = flat_loop()
    mask = loop.layer("mask")
    mask.selected_label = 7
    mask.paint((20, 20), 7)
    assert 7 in loop.session.objects
    loop.session.select_object(7)
    assert mask.selected_label == 7
    mask.selected_label = 1
    assert loop.session.object_id == 1


def test_a_mask_replaced_by_something_else_is_put_back():
    loop = flat_loop()
    loop.session.set_box(Box(40, 34, 87, 97))
    mask = loop.layer("mask")
    mask.data = np.zeros((3, 3), np.uint16)
    np.testing.assert_array_equal(loop.layer("mask").data, loop.session.labels)
    assert "put back" in loop.said[-1]


# -- slices, objects, history ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_every_plane_can_be_drawn_on(order):
    data = np.full((20, 24, 28), 30, np.uint8)
    data[6:15, 5:17, 8:21] = 220
    viewer = ViewerModel()
    layer = viewer.add_image(data, scale=(3, 1, 2), translate=(4, -2, 9))
    loop = Loop(viewer, layer, Session(volume_of(layer)))
    viewer.dims.order = order
    plane = order[0]
    viewer.dims.point = layer.data_to_world((10, 10, 10))
    assert (loop.session.plane, loop.session.slice_index) == (plane, 10)
    low, high = np.array([5.5, 4.5, 7.5]), np.array([14.5, 16.5, 20.5])
    low[plane] = high[plane] = 10
    boxes = loop.layer("boxes")
    boxes.mode = "add_rectangle"
    loop.mouse("boxes").drag(layer.data_to_world(low), layer.data_to_world(high))
    box = loop.session.prompts.box
    expected = np.delete([[6, 5, 8], [14, 16, 20]], plane, axis=1)
    np.testing.assert_allclose([[box.y0, box.x0], [box.y1, box.x1]], expected, atol=1e-3)
    here = np.moveaxis(loop.layer("mask").data, plane, 0)
    assert here[10].any()
    assert not np.delete(here, 10, axis=0).any()
    assert here[10].shape == loop.session.uncertainty_slice().shape


def test_prompts_and_results_belong_to_their_slice():
    loop = volume_loop()
    loop.viewer.dims.set_current_step(0, 2)
    loop.session.set_box(Box(12, 14, 35, 50))
    loop.viewer.dims.set_current_step(0, 3)
    assert len(loop.layer("boxes").data) == 0
    assert len(loop.layer("suggested points").data) == 0
    loop.viewer.dims.set_current_step(0, 4)
    loop.session.set_box(Box(10, 12, 37, 52))
    assert loop.layer("boxes").data[0][0, 0] == 4
    loop.viewer.dims.set_current_step(0, 2)
    np.testing.assert_allclose(drawn_box(loop), [[2, 11.5, 13.5], [2, 35.5, 50.5]])
    assert [bool(s.any()) for s in loop.layer("mask").data] == [False, False, True, False, True, False]


def test_undo_and_redo_go_all_the_way_in_the_layers():
    loop = flat_loop()
    steps = [
        Prompts(box=Box(36, 30, 91, 101)),
        Prompts((Point(60, 60),), Box(36, 30, 91, 101)),
        Prompts((Point(9, 9),)),
    ]
    seen = []
    for prompts in steps:
        loop.session.set_prompts(prompts)
        seen.append((len(loop.layer("boxes").data), len(loop.layer("points").data), loop.layer("mask").data.copy()))
    for _ in steps:
        loop.session.undo()
    assert not loop.layer("mask").data.any()
    assert len(loop.layer("boxes").data) == len(loop.layer("points").data) == 0
    for boxes, points, mask in seen:
        loop.session.redo()
        assert (len(loop.layer("boxes").data), len(loop.layer("points").data)) == (boxes, points)
        np.testing.assert_array_equal(loop.layer("mask").data, mask)


def test_suggestions_are_numbered_by_rank_and_the_chosen_one_stands_out():
    loop = flat_loop()
    loop.session.set_box(Box(40, 34, 70, 97))  # cuts the object off
    suggestions = loop.session.suggestions
    assert len(suggestions) >= 3
    layer = loop.layer("suggested points")
    ranked = [(str(i), (s.y, s.x)) for i, s in enumerate(suggestions, 1) if s.kind == "point"]
    assert list(layer.features["rank"]) == [rank for rank, _ in ranked]
    np.testing.assert_allclose(layer.data, [position for _, position in ranked])
    place = next(s for s in suggestions if s.kind == "point")
    loop.sync.choose(suggestions.index(place))
    assert len({tuple(c) for c in layer.border_color}) == 2
    assert not layer.face_color.any()  # nothing covers the place
    loop.sync.choose(None, asks=False)
    assert not len(layer.data)
    loop.sync.choose(None)
    assert len(layer.data) == len(ranked)
    loop.session.answer(place, inside=True)
    assert len(loop.layer("suggested points").data) == sum(s.kind == "point" for s in loop.session.suggestions)
    np.testing.assert_allclose(loop.layer("points").data, [[place.y, place.x]])


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_images(channels):
    image = np.concatenate([scene()[0], np.full((128, 128, 1), 255, np.uint8)], axis=2)[..., :channels]
    viewer = ViewerModel()
    layer = viewer.add_image(image, rgb=True, scale=(0.5, 0.5))
    loop = Loop(viewer, layer, Session(volume_of(layer)))
    loop.session.set_box(Box(36, 30, 91, 101))
    assert loop.layer("mask").data.shape == (128, 128)
    assert loop.layer("mask").data[60, 60] == 1


@settings(deadline=None, max_examples=10, phases=(Phase.explicit, Phase.generate))
@given(
    scale=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
    translate=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    rotate=st.floats(-180, 180),
)
def test_a_click_lands_on_the_pixel_under_the_cursor(scale, translate, rotate):
    loop = flat_loop(scale=scale, translate=translate, rotate=rotate)
    layer = loop.layer("points")
    layer.mode = "add"
    loop.mouse("points").click(loop.image.data_to_world((60, 70)))
    point = loop.session.prompts.points[0]
    assert (point.y, point.x) == pytest.approx((60, 70), abs=1e-4)
    assert loop.layer("mask").get_value(loop.image.data_to_world((60, 70)), world=True) == 1
