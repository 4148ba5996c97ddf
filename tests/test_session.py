"""The user's verbs, undo and redo, and what is delivered too late."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from napari_uncertsam.annotations import Key
from napari_uncertsam.errors import InputError
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, Request, Settings
from napari_uncertsam.prompts import Box, Point, Prompts, Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene
from tests.predictions import predicted, refined
from tests.propagated import propagated

FLAT, DEEP = (32, 40), (5, 12, 14)


def flat() -> Session:
    return Session(Volume(np.zeros(FLAT, np.uint8)))


def deep() -> Session:
    return Session(Volume(np.zeros(DEEP, np.uint8)))


def segment(session: Session, box: Box, **more: Any) -> Prediction:
    """Draw a box and deliver a mask that fills it."""
    session.set_box(box)
    assert session.request is not None
    prediction = predicted(session.request, session.volume.plane_shape(session.plane), box, **more)
    assert session.deliver(prediction)
    return prediction


def record(session: Session) -> Counter[str]:
    """Counts of the signals from now on."""
    counts: Counter[str] = Counter()

    def counter(name: str) -> Any:
        return lambda *_args: counts.update([name])

    for name in (
        "requested",
        "prompts_changed",
        "prediction_changed",
        "suggestions_changed",
        "labels_changed",
        "objects_changed",
        "history_changed",
        "refined",
        "message",
    ):
        getattr(session, name).connect(counter(name))
    return counts


# --- prompts and predictions --------------------------------------------------------------------------------------


def test_a_new_session() -> None:
    session = deep()
    assert (session.plane, session.slice_index) == (0, 2)
    assert (session.objects, session.object_id) == ((1,), 1)
    assert session.prompts == Prompts()
    assert session.request is None
    assert session.prediction is None
    assert session.suggestions == ()
    assert session.probability_slice() is None
    assert session.uncertainty_slice() is None
    assert not session.can_undo
    assert not session.can_redo
    assert session.labels.shape == DEEP
    assert session.labels.dtype == np.uint16
    session.undo()
    session.redo()
    assert session.ranked_slices() == []
    with pytest.raises(InputError, match="no prediction to describe"):
        session.summary()
    with pytest.raises(InputError, match="draw a box"):
        session.refine_request()


def test_drawing_asks_and_delivering_shows() -> None:
    session = flat()
    counts, asked = record(session), []
    session.requested.connect(asked.append)
    session.set_box(Box(4, 5, 12, 17))
    assert asked == [session.request]
    assert asked[0].settings is session.settings
    assert counts == {
        "requested": 1,
        "prompts_changed": 1,
        "prediction_changed": 1,
        "suggestions_changed": 1,
        "history_changed": 1,
    }
    prediction = predicted(asked[0], FLAT, Box(4, 5, 12, 17))
    assert session.deliver(prediction)
    assert session.prediction is prediction
    assert session.is_current
    assert counts["labels_changed"] == 1
    assert counts["requested"] == 1
    assert (session.labels[4:13, 5:18] == 1).all()
    assert session.labels.sum() == 9 * 13
    assert np.array_equal(session.probability_slice(), prediction.maps.probability)
    assert np.array_equal(session.uncertainty_slice(), prediction.maps.uncertainty)
    assert session.refine_request() is prediction
    session.set_box(Box(4, 5, 12, 17))  # the same again is no step
    assert counts["history_changed"] == 1


def test_points_add_up_and_go() -> None:
    session = flat()
    session.add_point(Point(3, 3, False))
    assert session.request is None  # nothing to segment from yet
    session.add_point(Point(np.float32(5), np.int64(6)))
    session.set_box(Box(1, 1, 9, 9))
    assert session.prompts == Prompts((Point(3, 3, False), Point(5, 6)), Box(1, 1, 9, 9))
    session.remove_point(0)
    session.set_box(None)
    assert session.prompts == Prompts((Point(5, 6),))
    for index in (-1, 1):
        with pytest.raises(InputError, match=f"no point {index}"):
            session.remove_point(index)
    session.remove_point(0)
    assert session.prompts == Prompts()
    for _ in range(6):
        session.undo()
    assert session.prompts == Prompts()
    assert not session.can_undo


@pytest.mark.parametrize("bad", [Prompts((Point(40, 3),)), Prompts(box=Box(-9, -9, -2, -2)), Prompts((Point(3, -3),))])
def test_prompts_outside_change_nothing(bad: Prompts) -> None:
    session = flat()
    segment(session, Box(1, 1, 5, 5))
    before, counts = session.prompts, record(session)
    with pytest.raises(InputError, match="outside"):
        session.set_prompts(bad)
    assert session.prompts == before
    assert not counts


def test_a_mask_stays_until_the_next_one_comes() -> None:
    session = flat()
    first = segment(session, Box(1, 1, 5, 5))
    session.add_point(Point(20, 20))
    assert session.prediction is first
    assert not session.is_current
    assert session.labels.any()
    with pytest.raises(InputError, match="no prediction to refine"):
        session.refine_request()
    # Without anything to segment from there is no mask.
    session.set_prompts(Prompts((Point(20, 20, False),)))
    assert session.prediction is None
    assert not session.labels.any()


def test_late_deliveries_are_dropped() -> None:
    session = flat()
    session.set_box(Box(1, 1, 5, 5))
    stale = predicted(session.request, FLAT, Box(1, 1, 5, 5))
    for change in (
        lambda: session.add_point(Point(3, 3)),
        lambda: session.set_window(Window(3, 7)),
        lambda: session.set_settings(seed=5),
        lambda: session.clear_prompts(),
    ):
        change()
        counts = record(session)
        assert not session.deliver(stale)
        assert not counts
        assert not session.labels.any()
    other = Session(session.volume)
    other.set_box(Box(1, 1, 5, 5))
    assert not other.deliver(stale)  # of another image, whatever it looks like


def test_a_delivery_for_another_slice_or_object_is_kept_there() -> None:
    session = deep()
    session.set_box(Box(1, 1, 5, 5))
    here = predicted(session.request, (12, 14), Box(1, 1, 5, 5))
    session.go_to(0, 4)
    session.new_object()
    shown = record(session)
    assert session.deliver(here)
    assert shown["labels_changed"] == 1
    assert session.prediction is None
    assert (session.labels[2, 1:6, 1:6] == 1).all()
    assert not session.labels[4].any()
    session.go_to(0, 2)
    session.select_object(1)
    assert session.prediction is here
    assert shown["requested"] == 0


def test_an_old_prediction_is_asked_for_again_when_it_is_visited() -> None:
    session = deep()
    segment(session, Box(1, 1, 5, 5))
    session.go_to(0, 3)
    session.set_settings(method="entropy")
    asked: list[Request] = []
    session.requested.connect(asked.append)
    session.go_to(0, 2)
    assert [r.settings.method for r in asked] == ["entropy"]
    session.set_window(Window(1, 2))
    session.set_window(Window(1, 2))
    assert asked[-1].window == Window(1, 2)
    assert len(asked) == 2


def test_undo_takes_back_predictions_and_asks_for_what_is_missing() -> None:
    session = flat()
    first = segment(session, Box(1, 1, 5, 5))
    session.add_point(Point(8, 8))
    session.add_point(Point(9, 9))  # drawn before the prediction for (8, 8) came
    second = predicted(session.request, FLAT, Box(1, 1, 9, 9))
    assert session.deliver(second)
    asked: list[Request] = []
    session.requested.connect(asked.append)
    session.undo()
    assert [r.prompts.points for r in asked] == [(Point(8, 8),)]
    assert session.prediction is first
    session.undo()
    assert session.is_current
    assert len(asked) == 1
    session.redo()
    session.redo()
    assert session.prediction is second
    assert session.can_undo
    assert not session.can_redo
    assert session.labels.sum() == 81
    session.undo()
    session.add_point(Point(2, 2))
    assert not session.can_redo


# --- suggestions --------------------------------------------------------------------------------------------------

PLACES = (
    Suggestion("point", 4.0, 4.0, 0.6, 0.5),
    Suggestion("point", 9.0, 9.0, 0.5, 0.4),
    Suggestion("box", 5.0, 5.0, 0.4, 0.5, Box(1, 1, 9, 9)),
)


def test_suggestions_are_answered_one_by_one() -> None:
    session = flat()
    segment(session, Box(1, 1, 8, 8), suggestions=PLACES)
    assert session.suggestions == PLACES
    session.answer(PLACES[0], inside=False)
    assert session.prompts.points == (Point(4, 4, False),)
    assert session.suggestions == PLACES[1:]
    session.undo()
    assert session.suggestions == PLACES
    session.dismiss(PLACES[1])
    session.dismiss(PLACES[1])
    assert session.suggestions == (PLACES[0], PLACES[2])
    session.answer(PLACES[2], inside=True)
    assert session.prompts.box == Box(1, 1, 9, 9)
    assert session.suggestions == (PLACES[0],)
    session.undo()
    session.answer(PLACES[2], inside=False)
    assert session.prompts.box == Box(1, 1, 8, 8)
    assert session.suggestions == (PLACES[0],)
    for _ in range(2):
        session.undo()
    assert session.suggestions == PLACES


def test_a_click_in_the_middle_does_not_hide_the_suggested_box() -> None:
    session = flat()
    session.add_point(Point(5, 5))
    prediction = predicted(session.request, FLAT, Box(1, 1, 9, 9), suggestions=PLACES)
    session.deliver(prediction)
    assert PLACES[2] in session.suggestions
    session.dismiss(PLACES[2])
    near = replace(PLACES[0], y=5.0, x=5.6)  # a point near the centre of a dismissed box
    again = replace(PLACES[2], box=Box(1, 1, 9, 9.2))
    session.add_point(Point(20, 20))
    session.deliver(predicted(session.request, FLAT, Box(1, 1, 9, 9), suggestions=(near, again)))
    assert session.suggestions == (near,)


# --- objects and overlap ------------------------------------------------------------------------------------------


def test_a_new_object_never_erases_its_neighbour() -> None:
    session = flat()
    segment(session, Box(2, 2, 11, 11))
    assert session.new_object() == 2
    said: list[str] = []
    session.message.connect(said.append)
    segment(session, Box(8, 8, 17, 17))
    assert (session.labels[2:12, 2:12] == 1).all()
    assert (session.labels == 2).sum() == 100 - 16
    assert said == ["16 pixels of object 2 lie in object 1 and were left there."]
    # The earlier one may grow into the later one: it was there first.
    session.select_object(1)
    segment(session, Box(2, 2, 13, 13))
    assert (session.labels[2:14, 2:14] == 1).all()
    # And what it gives up shows the neighbour again.
    session.clear_prompts()
    assert (session.labels == 2).sum() == 100
    session.undo()
    assert (session.labels[2:14, 2:14] == 1).all()


def test_take_overlap_gives_pixels_to_the_current_object() -> None:
    session = flat()
    assert session.take_overlap() == 0
    segment(session, Box(2, 2, 11, 11))
    session.new_object()
    segment(session, Box(8, 8, 17, 17))
    assert session.take_overlap() == 16
    assert (session.labels[8:18, 8:18] == 2).all()
    assert session.take_overlap() == 0
    session.undo()
    assert (session.labels == 1).sum() == 100


def test_selecting_and_deleting_objects() -> None:
    session = deep()
    counts = record(session)
    segment(session, Box(1, 1, 3, 3))
    session.go_to(0, 3)
    segment(session, Box(1, 1, 3, 3))
    session.select_object(np.int64(7))
    assert session.objects == (1, 7)
    assert type(session.object_id) is int
    assert counts["objects_changed"] == 1
    assert session.new_object() == 8
    segment(session, Box(5, 5, 7, 7))
    session.delete_object(np.int64(1))
    assert session.objects == (7, 8)
    assert session.object_id == 8
    assert set(np.unique(session.labels)) == {0, 8}
    session.undo()
    assert session.objects == (1, 7, 8)
    assert (session.labels == 1).sum() == 18
    session.redo()
    session.delete_object(8)
    session.delete_object(7)
    assert session.objects == (1,)
    steps = counts["history_changed"]
    session.delete_object(1)
    session.delete_object(99)
    assert counts["history_changed"] == steps  # nothing there, nothing to undo
    for bad in (0, -1, 65536):
        with pytest.raises(InputError, match="numbered from 1 to 65535"):
            session.select_object(bad)
    session.select_object(65535)
    with pytest.raises(InputError, match="65536"):
        session.new_object()


# --- painting -----------------------------------------------------------------------------------------------------


def test_paint_wins_until_it_is_cleared() -> None:
    session = flat()
    segment(session, Box(2, 2, 11, 11))
    painted = session.labels.copy()
    painted[2:5, 2:12] = 0
    painted[20:22, 20:25] = 1
    counts = record(session)
    session.paint(0, 0, painted)
    assert np.array_equal(session.labels, painted)
    assert counts["labels_changed"] == counts["history_changed"] == 1
    assert counts["requested"] == 0
    session.paint(0, 0, painted)
    assert counts["history_changed"] == 1  # nothing new
    # A newer prediction does not bring erased pixels back, nor remove painted ones.
    segment(session, Box(2, 2, 13, 13))
    assert not session.labels[2:5, 2:12].any()
    assert (session.labels[5:14, 2:14] == 1).all()
    assert (session.labels[20:22, 20:25] == 1).all()
    session.undo()
    session.undo()
    assert (session.labels[2:12, 2:12] == 1).all()
    session.redo()
    session.clear_prompts()
    assert not session.labels.any()
    segment(session, Box(2, 2, 11, 11))
    assert session.labels.sum() == 100


def test_painting_without_a_prediction_and_for_a_new_object() -> None:
    session = flat()
    painted = np.zeros(FLAT, np.int64)
    painted[3:6, 3:6] = 5
    counts = record(session)
    session.paint(np.int64(0), np.int64(0), painted)
    assert session.objects == (1, 5)
    assert counts["objects_changed"] == 1
    assert np.array_equal(session.labels, painted)
    assert session.entries.keys() == {Key(0, 0, 5)}
    session.undo()
    assert session.objects == (1,)
    assert not session.labels.any()


def test_painting_over_a_neighbour_moves_the_pixels() -> None:
    session = flat()
    segment(session, Box(2, 2, 11, 11))
    painted = session.labels.copy()
    painted[2:4] = np.where(painted[2:4] == 1, 2, 0)
    session.paint(0, 0, painted)
    assert np.array_equal(session.labels, painted)
    segment(session, Box(2, 2, 12, 12))
    assert (session.labels[2:4, 2:12] == 2).all()
    # Painted pixels win over the predictions of other objects, too.
    session.select_object(3)
    segment(session, Box(2, 2, 12, 12))
    assert (session.labels[2:4, 2:12] == 2).all()


def test_erased_pixels_do_not_go_to_whom_they_were_hidden_from() -> None:
    session = flat()
    segment(session, Box(2, 2, 11, 11))
    session.new_object()
    segment(session, Box(2, 2, 20, 20))  # hidden under object 1 in part
    painted = session.labels.copy()
    painted[2:5, 2:5] = 0
    session.paint(0, 0, painted)
    assert np.array_equal(session.labels, painted)


@pytest.mark.parametrize(
    ("painted", "message"),
    [
        (np.zeros((32, 41), np.uint16), "shape"),
        (np.full(FLAT, 0.5), "integers"),
        (np.full(FLAT, -1), "from -1"),
        (np.full(FLAT, 70_000), "to 70000"),
    ],
)
def test_bad_paint_changes_nothing(painted: np.ndarray, message: str) -> None:
    session = flat()
    with pytest.raises(InputError, match=message):
        session.paint(0, 0, painted)
    with pytest.raises(InputError, match="no slice 1"):
        session.paint(0, 1, np.zeros(FLAT, np.uint16))
    assert not session.can_undo
    assert not session.labels.any()


# --- volumes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_each_plane_of_a_volume(plane: int) -> None:
    session = deep()
    session.go_to(np.int64(plane), np.int32(3))
    assert type(session.plane) is type(session.slice_index) is int
    shape = session.volume.plane_shape(plane)
    touched: list[tuple[int, int]] = []
    session.labels_changed.connect(lambda p, i: touched.append((p, i)))
    segment(session, Box(1, 2, 3, 6))
    assert touched == [(plane, 3)]
    expected = np.zeros(shape, np.uint16)
    expected[1:4, 2:7] = 1
    assert np.array_equal(np.moveaxis(session.labels, plane, 0)[3], expected)
    assert session.labels.sum() == expected.sum()
    session.undo()
    assert not session.labels.any()
    with pytest.raises(InputError, match=f"no slice {DEEP[plane]} in plane {plane}"):
        session.go_to(plane, DEEP[plane])
    with pytest.raises(InputError, match="no plane 3"):
        session.go_to(3, 0)
    with pytest.raises(InputError, match="no slice -1"):
        session.go_to(plane, -1)


def test_planes_share_an_object_and_give_back_what_they_shared() -> None:
    session = deep()
    segment(session, Box(1, 1, 8, 8))  # plane 0, slice 2
    session.go_to(1, 4)
    segment(session, Box(1, 1, 3, 8))
    whole = session.labels.copy()
    session.go_to(0, 2)
    session.clear_prompts()
    assert (session.labels[1:4, 4, 1:9] == 1).all()  # the line both planes share stays
    session.undo()
    assert np.array_equal(session.labels, whole)


def test_the_newest_paint_counts_across_planes() -> None:
    session = deep()
    painted = np.zeros((12, 14), np.uint16)
    painted[4, :] = 1
    session.paint(0, 2, painted)
    across = session.labels[:, 4, :].copy()
    across[2, :7] = 2
    across[2, 7:] = 0
    session.paint(1, 4, across)
    assert np.array_equal(session.labels[:, 4, :], across)
    again = session.labels[2].copy()
    again[4, ::2] = 3
    session.paint(0, 2, again)
    assert np.array_equal(session.labels[2], again)
    for _ in range(3):
        session.undo()
    assert not session.labels.any()


def test_undo_elsewhere_says_where() -> None:
    session = deep()
    session.set_box(Box(1, 1, 3, 3))
    session.go_to(0, 4)
    said: list[str] = []
    session.message.connect(said.append)
    session.undo()
    session.redo()
    assert said == ["Undone on slice 2 of plane 0.", "Redone on slice 2 of plane 0."]
    session.go_to(0, 2)
    session.undo()
    assert len(said) == 2


def test_slices_are_ranked_by_uncertainty() -> None:
    session = deep()
    for index, mean in ((0, 0.1), (3, 0.5), (1, 0.3)):
        session.go_to(0, index)
        segment(session, Box(1, 1, 3, 3), mean=mean)
    session.new_object()
    session.go_to(0, 0)
    segment(session, Box(5, 5, 6, 6), mean=0.4)
    assert session.ranked_slices() == [3, 0, 1]
    session.go_to(1, 0)
    assert session.ranked_slices() == []


# --- refinement ---------------------------------------------------------------------------------------------------


def accepted(before: Prediction, box: Box, view: View | None) -> Prediction:
    request = replace(before.request, prompts=before.request.prompts.with_box(box), view=view)
    return predicted(request, before.maps.shape, box)


def test_an_accepted_refinement_is_one_step() -> None:
    session = flat()
    before = segment(session, Box(2, 2, 8, 8))
    after = accepted(before, Box(2, 2, 10, 10), before.view)
    counts = record(session)
    outcome = refined(before, after)
    assert session.deliver_refinement(outcome)
    assert session.prediction is after
    assert session.prompts.box == Box(2, 2, 10, 10)
    assert session.is_current
    assert session.last_refinement is outcome
    assert session.labels.sum() == 81
    assert counts["refined"] == counts["history_changed"] == 1
    assert counts["requested"] == 0
    assert session.summary()["rounds"][0]["accepted"]
    assert not session.deliver_refinement(outcome)  # once
    session.undo()
    assert session.prediction is before
    assert session.summary()["rounds"] == []  # what was undone is not reported
    session.redo()
    # The view is kept for points inside it, and given up where it does not reach.
    session.add_point(Point(5, 5))
    assert session.request is not None
    assert session.request.view == before.view
    session.set_settings(zoom=False)
    assert session.request.view is None
    session.set_settings(zoom=True)
    session.add_point(Point(30, 30, False))
    assert session.request.view is None


def test_a_refused_refinement_changes_nothing_but_is_told() -> None:
    session = flat()
    before = segment(session, Box(2, 2, 8, 8))
    counts = record(session)
    assert session.deliver_refinement(refined(before, None))
    assert counts == {"refined": 1}
    assert session.prediction is before
    [told] = session.summary()["rounds"]
    assert not told["accepted"]
    assert told["reason"]


def test_a_late_refinement_is_dropped() -> None:
    session = flat()
    before = segment(session, Box(2, 2, 8, 8))
    outcome = refined(before, accepted(before, Box(2, 2, 10, 10), before.view))
    session.add_point(Point(3, 3))
    counts = record(session)
    assert not session.deliver_refinement(outcome)
    session.undo()
    session.set_settings(seed=9)
    assert not session.deliver_refinement(outcome)
    assert counts["refined"] == 0


def test_a_session_with_a_pipeline_that_answers_at_once() -> None:
    image, labels = scene(96, 96, Box(20, 20, 50, 60), Box(55, 30, 80, 80))
    session = Session(Volume(image, rgb=True), Settings(method="entropy"))
    pipeline = Pipeline(FakeEngine())
    session.requested.connect(lambda request: session.deliver(pipeline.predict(session.volume, request)))
    session.set_box(Box(20, 20, 50, 60))
    session.new_object()
    session.add_point(Point(67, 55))
    assert session.is_current
    for value in (1, 2):
        assert ((session.labels == value) == (labels == value)).mean() > 0.98
    session.deliver_refinement(pipeline.refine(session.volume, session.refine_request()))
    assert session.last_refinement is not None
    while session.can_undo:
        session.undo()
    assert not session.labels.any()
    while session.can_redo:
        session.redo()
    assert ((session.labels == 2) == (labels == 2)).mean() > 0.98


# --- a snapshot, and size -----------------------------------------------------------------------------------------


def test_a_snapshot_does_not_change() -> None:
    session = flat()
    segment(session, Box(2, 2, 8, 8))
    snapshot = session.snapshot()
    session.clear_prompts()
    session.set_settings(seed=4)
    assert snapshot.labels.sum() == 49
    assert snapshot.prompts.box == Box(2, 2, 8, 8)
    assert snapshot.is_current
    assert not session.labels.any()


def test_a_huge_slice_costs_what_its_objects_do() -> None:
    session = Session(Volume(np.broadcast_to(np.uint8(0), (20_000, 20_000))), window=Window(0, 255))
    shape = (20_000, 20_000)
    session.set_box(Box(9000, 9000, 9299, 9299))
    mine = predicted(session.request, shape, Box(9000, 9000, 9299, 9299))
    tracemalloc.start()
    try:
        session.deliver(mine)
        session.undo()
        session.redo()
        session.new_object()
        session.set_box(Box(9100, 9100, 9399, 9399))
        session.deliver(predicted(session.request, shape, Box(9100, 9100, 9399, 9399)))
        session.take_overlap()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6
    assert (session.labels[9100:9400, 9100:9400] == 2).all()


# --- everything at random -----------------------------------------------------------------------------------------


def brute_force(session: Session) -> np.ndarray:
    """The label map by its definition, on whole arrays."""
    shape = session.labels.shape
    labels = np.zeros(shape, np.uint16)
    owner = np.zeros(shape, np.uint16)
    claims = {object_id: np.zeros(shape, bool) for object_id in session.objects}
    erased = {object_id: np.zeros(shape, bool) for object_id in session.objects}

    def place(key: Key, patch: Any) -> np.ndarray:
        full = np.zeros(shape, np.int8)
        np.moveaxis(full, key.plane, 0)[key.slice_index][patch.where] = patch.values
        return full

    for key, entry in session.entries.items():
        if entry.predicted is not None:
            claims[key.object_id] |= place(key, entry.predicted) > 0
        if entry.painted is not None:
            full = place(key, entry.painted)
            erased[key.object_id] |= full < 0
            new = (full > 0) & (owner != key.object_id)
            assert not owner[new].any(), "two objects were painted on the same voxel"
            owner[new] = key.object_id
    labels[...] = owner
    for object_id in session.objects:
        labels[claims[object_id] & ~erased[object_id] & (labels == 0)] = object_id
    return labels


class Walk(RuleBasedStateMachine):
    """Verbs in any order; the label map always follows from the state, and undo and redo lead there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(Volume(np.zeros((3, 5, 4), np.uint8)))

    @property
    def shape(self) -> tuple[int, int]:
        return self.session.volume.plane_shape(self.session.plane)

    def box(self, data: st.DataObject) -> Box:
        height, width = self.shape
        ys, xs = (sorted(data.draw(st.integers(0, n - 1)) for _ in range(2)) for n in (height, width))
        return Box(ys[0], xs[0], ys[1], xs[1])

    @rule(plane=st.integers(0, 2), data=st.data())
    def go(self, plane: int, data: st.DataObject) -> None:
        self.session.go_to(plane, data.draw(st.integers(0, self.session.volume.n_slices(plane) - 1)))

    @rule(object_id=st.integers(1, 4))
    def select(self, object_id: int) -> None:
        self.session.select_object(object_id)

    @rule(object_id=st.integers(1, 4))
    def delete(self, object_id: int) -> None:
        self.session.delete_object(object_id)

    @rule(data=st.data())
    def draw(self, data: st.DataObject) -> None:
        self.session.set_box(self.box(data))

    @rule(data=st.data(), positive=st.booleans())
    def click(self, data: st.DataObject, positive: bool) -> None:
        box = self.box(data)
        with suppress(InputError):  # the same place was said to be on the other side
            self.session.add_point(Point(box.y0, box.x0, positive))

    @rule()
    def clear(self) -> None:
        self.session.clear_prompts()

    @precondition(lambda self: self.session.request is not None)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        assert self.session.deliver(predicted(self.session.request, self.shape, self.box(data)))

    @precondition(lambda self: self.session.is_current)
    @rule(data=st.data())
    def refine(self, data: st.DataObject) -> None:
        before = self.session.refine_request()
        box = self.box(data)
        assert self.session.deliver_refinement(refined(before, accepted(before, box, before.view)))

    @rule(data=st.data(), value=st.integers(0, 4))
    def paint(self, data: st.DataObject, value: int) -> None:
        session, box = self.session, self.box(data)
        labels = np.moveaxis(session.labels, session.plane, 0)[session.slice_index].copy()
        labels[int(box.y0) : int(box.y1) + 1, int(box.x0) : int(box.x1) + 1] = value
        session.paint(session.plane, session.slice_index, labels)
        assert np.array_equal(np.moveaxis(session.labels, session.plane, 0)[session.slice_index], labels)

    @rule()
    def take(self) -> None:
        self.session.take_overlap()

    @rule(data=st.data(), finish=st.booleans())
    def propagate(self, data: st.DataObject, finish: bool) -> None:
        with suppress(InputError):  # nothing to start from, or all up to date
            request = self.session.propagation_request()
            for span in request.spans:
                for index in data.draw(st.sets(st.integers(span.start, span.stop - 1))):
                    result = propagated(index, self.shape, self.box(data), plane=request.plane)
                    assert self.session.deliver_propagated(request, [result])
            assert not finish or self.session.finish_propagation(request)
            if finish:
                assert not self.session.stale_slices()

    @rule(reviewed=st.booleans(), data=st.data())
    def review(self, reviewed: bool, data: st.DataObject) -> None:
        with suppress(InputError):  # there is no mask
            self.session.set_reviewed(data.draw(st.integers(0, 2)), reviewed)

    @rule()
    def undo(self) -> None:
        before, could = self.session.labels.copy(), self.session.can_undo
        self.session.undo()
        if could:
            self.session.redo()
            assert np.array_equal(self.session.labels, before)
            self.session.undo()

    @rule()
    def redo(self) -> None:
        self.session.redo()

    @invariant()
    def labels_follow_from_the_state(self) -> None:
        assert np.array_equal(self.session.labels, brute_force(self.session))
        assert self.session.object_id in self.session.objects
        assert {key.object_id for key in self.session.entries} <= set(self.session.objects)

    def teardown(self) -> None:
        while self.session.can_redo:
            self.session.redo()
        way = [self.session.labels.copy()]
        while self.session.can_undo:
            self.session.undo()
            way.append(self.session.labels.copy())
        assert not self.session.labels.any()
        for labels in reversed(way):
            assert np.array_equal(self.session.labels, labels)
            self.session.redo()
        assert not self.session.can_redo


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
