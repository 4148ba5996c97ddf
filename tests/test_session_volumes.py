"""An object through the slices of a volume: anchors, spans, what is up to date, and what was reviewed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uncertsam.anchoring import spans_between
from napari_uncertsam.annotations import Entry, Key, Patch
from napari_uncertsam.errors import InputError
from napari_uncertsam.prediction import Prediction
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.propagating import PropagationRequest, Span
from napari_uncertsam.session import Session
from napari_uncertsam.volume import Volume, Window
from tests.predictions import predicted
from tests.propagated import propagated

SHAPE = (20, 24)
BOX, SMALL = Box(4, 5, 12, 16), Box(6, 7, 10, 12)


def opened(depth: int = 20) -> Session:
    session = Session(Volume(np.zeros((depth, *SHAPE), np.int16), spacing=(2.0, 1.0, 0.5)))
    session.go_to(0, 5)
    return session


def segment(session: Session, index: int, box: Box = BOX, **more: Any) -> Prediction:
    session.go_to(0, index)
    session.set_box(box)
    assert session.request is not None
    prediction = predicted(session.request, SHAPE, box, **more)
    assert session.deliver(prediction)
    return prediction


def run(session: Session, stop: int | None = None, box: Box = SMALL, **more: Any) -> PropagationRequest:
    """Propagate to the ends of all spans, or to slice `stop` - 1, and finish."""
    request = session.propagation_request()
    for span in request.spans:
        ends = tuple(i for i in (span.before, span.after) if i is not None)
        indices = range(span.start, span.stop if stop is None else min(span.stop, stop))
        results = [propagated(i, SHAPE, box, ends, **more) for i in indices]
        assert session.deliver_propagated(request, results)
    assert session.finish_propagation(request)
    return request


def spans(session: Session) -> list[Span]:
    return list(session.propagation_request().spans)


def paint(session: Session, index: int, values: np.ndarray) -> None:
    session.paint(0, index, values)


# --- what is to be propagated ------------------------------------------------------------------------------------


def test_nothing_to_propagate() -> None:
    with pytest.raises(InputError, match="2D image has no slices"):
        Session(Volume(np.zeros(SHAPE))).propagation_request()
    session = opened()
    with pytest.raises(InputError, match="nothing to propagate object 1 from"):
        session.propagation_request()
    session.set_box(BOX)  # drawn, but not predicted yet
    with pytest.raises(InputError, match="nothing to propagate"):
        session.propagation_request()
    assert session.slice_facts() == session.anchors() == ()
    assert session.next_to_review() is None
    assert session.volume_estimate() is None
    assert Session(Volume(np.zeros(SHAPE))).volume_estimate() is None


def test_spans_lie_between_anchors_and_beyond_them() -> None:
    session = opened()
    first = segment(session, 5)
    segment(session, 12)
    request = session.propagation_request()
    assert request.spans == (Span(0, 5, None, 5), Span(6, 12, 5, 12), Span(13, 20, 12, None))
    assert [a.slice_index for a in request.anchors] == [5, 12]
    assert (request.image_id, request.plane, request.object_id) == (session.image_id, 0, 1)
    assert (request.window, request.settings) == (session.window, session.settings)
    anchor = request.anchor(5)
    assert anchor.view == first.view
    assert np.array_equal(anchor.logits, first.belief.logits())
    assert anchor.prompts == Prompts(box=BOX)
    assert not anchor.confirmed
    # What is next to each other leaves no span, and other planes and objects have their own.
    segment(session, 6)
    assert spans(session)[1] == Span(7, 12, 6, 12)
    session.go_to(1, 3)
    with pytest.raises(InputError, match="nothing to propagate"):
        session.propagation_request()
    session.go_to(0, 3)
    session.select_object(2)
    with pytest.raises(InputError, match="object 2"):
        session.propagation_request()


def test_what_is_up_to_date_is_not_asked_again() -> None:
    session = opened()
    segment(session, 5)
    said: list[str] = []
    session.message.connect(said.append)
    run(session, stop=9)  # the object ends at slice 8
    assert said == ["Propagated to 8 slices (0 to 8)."]
    with pytest.raises(InputError, match="Everything is up to date"):
        session.propagation_request()
    # The same prompts again, as when the slice is visited: still the same.
    assert session.deliver(predicted(session.request, SHAPE, BOX))
    with pytest.raises(InputError, match="up to date"):
        session.propagation_request()
    segment(session, 15)
    assert spans(session) == [Span(6, 15, 5, 15), Span(16, 20, 15, None)]
    assert session.stale_slices() == {6, 7, 8}  # there is an anchor on the other side now
    session.undo()
    session.go_to(0, 5)
    assert session.stale_slices() == frozenset()
    session.add_point(Point(14, 14))
    assert session.deliver(predicted(session.request, SHAPE, BOX))
    assert session.stale_slices() == {0, 1, 2, 3, 4, 6, 7, 8}
    session.set_window(Window(-5, 5))
    assert spans(session) == [Span(0, 5, None, 5), Span(6, 20, 5, None)]


def test_a_shown_measure_does_not_put_slices_out_of_date_and_another_model_asks_again() -> None:
    session = opened()
    segment(session, 5)
    run(session)
    session.set_settings(measure="std", n_suggestions=2)
    assert session.deliver(predicted(session.request, SHAPE, BOX))
    with pytest.raises(InputError, match="up to date"):
        session.propagation_request()
    session.set_settings(seed=3)
    assert len(spans(session)) == 2


def test_where_everything_was_erased_the_object_ends() -> None:
    session = opened()
    segment(session, 5)
    segment(session, 16)
    run(session)
    assert session.labels[10].any()
    paint(session, 10, np.zeros(SHAPE, np.uint16))
    assert [a.slice_index for a in session.anchors()] == [5, 10, 16]
    ended = session.anchors()[1]
    assert ended.confirmed
    assert (ended.logits < 0).all()
    assert spans(session) == [Span(6, 10, 5, None), Span(11, 16, None, 16)]
    run(session, stop=8)
    assert [f.slice_index for f in session.slice_facts() if f.kind == "propagated"] == [*range(5), 6, 7, 17, 18, 19]
    session.go_to(0, 16)
    session.clear_prompts()  # nothing leads to what lies beyond any more
    with pytest.raises(InputError, match="up to date"):
        session.propagation_request()


def test_beyond_an_erased_slice_nothing_is_left() -> None:
    session = opened()
    segment(session, 5)
    run(session)
    paint(session, 10, np.zeros(SHAPE, np.uint16))
    assert session.stale_slices() == set(range(11, 20))
    run(session)
    assert not session.labels[10:].any()
    assert session.labels[9].any()


@given(
    st.dictionaries(st.integers(0, 11), st.booleans(), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_spans_by_their_definition(given_slices: dict[int, bool]) -> None:
    """Every slice that is no anchor is in the one span that its nearest anchors give it, if one of them has a mask."""
    entries = {
        i: Entry(painted=Patch(0, 0, np.full((1, 1), 1 if full else -1, np.int8)))
        for i, full in sorted(given_slices.items())
    }
    found = spans_between(entries, 12)
    for index in set(range(12)) - set(entries):
        below = max((i for i in entries if i < index), default=None)
        above = min((i for i in entries if i > index), default=None)
        ends = [i if i is not None and given_slices[i] else None for i in (below, above)]
        mine = [s for s in found if s.start <= index < s.stop]
        if ends == [None, None]:
            assert not mine
        else:
            start, stop = 0 if below is None else below + 1, 12 if above is None else above
            assert mine == [Span(start, stop, *ends)]
    assert sum(s.stop - s.start for s in found) <= 12 - len(entries)


# --- anchors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corner", [(0, 0), (700, 100)])
def test_a_given_mask_is_handed_on_as_it_is(corner: tuple[int, int]) -> None:
    shape, (top, left) = (1000, 400), corner
    session = Session(Volume(np.broadcast_to(np.uint8(0), (3, *shape)), modality="grey"), window=Window(0, 1))
    labels = np.zeros(shape, np.uint16)
    labels[top : top + 300, left : left + 40] = 1
    labels[top : top + 20, left : left + 20] = 0
    session.paint(0, 1, labels)
    (anchor,) = session.anchors()
    assert anchor.confirmed
    assert anchor.prompts == Prompts()
    assert set(np.unique(anchor.logits)) == {-10, 10}
    assert (anchor.view.height, anchor.view.width) == (450, 60)
    assert anchor.logits.shape == (256, 60)
    back = np.zeros(shape, bool)
    back[anchor.view.inside(*shape)] = anchor.view.local_map(anchor.logits, *shape) > 0
    assert np.mean(back[labels == 1]) > 0.99
    assert np.mean(back != (labels == 1)) < 0.001


def test_painted_and_reviewed_slices_are_given() -> None:
    session = opened()
    prediction = segment(session, 5)
    token = session.anchors()[0].token
    labels = session.labels[5].copy()
    labels[15, 15] = 1
    paint(session, 5, labels)
    (anchor,) = session.anchors()
    assert anchor.confirmed
    assert anchor.prompts == Prompts(box=BOX)
    assert anchor.token != token
    session.undo()
    assert session.anchors()[0].token == token
    session.set_reviewed(5)
    (anchor,) = session.anchors()
    assert anchor.confirmed
    assert anchor.token != token
    assert (anchor.view.local_map(anchor.logits, *SHAPE) > 0).sum() == prediction.area_px
    session.set_reviewed(5, False)
    assert session.anchors()[0].token == token


# --- delivering --------------------------------------------------------------------------------------------------


def test_a_propagation_is_one_step() -> None:
    session = opened()
    segment(session, 5)
    before, seen = session.labels.copy(), Counter[str]()
    for name in ("history_changed", "propagation_changed", "prediction_changed", "labels_changed"):
        getattr(session, name).connect(lambda *_args, name=name: seen.update([name]))
    request = session.propagation_request()
    for index in (6, 7, 8):
        assert session.deliver_propagated(request, [propagated(index, SHAPE, SMALL, (5,))])
    assert seen == {"history_changed": 1, "propagation_changed": 3, "labels_changed": 3}
    assert (session.labels[6:9] == 1).sum() == 3 * SMALL.area
    session.finish_propagation(request)
    after = session.labels.copy()
    session.undo()
    assert np.array_equal(session.labels, before)
    assert session.slice_facts()[0].kind == "prompted"
    assert len(session.slice_facts()) == 1
    assert not session.deliver_propagated(request, [propagated(9, SHAPE, SMALL, (5,))])  # it was undone
    session.redo()
    assert np.array_equal(session.labels, after)
    with pytest.raises(InputError, match="up to date"):
        session.propagation_request()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.add_point(Point(1, 1)),
        lambda s: s.clear_prompts(),
        lambda s: s.delete_object(1),
        lambda s: s.set_reviewed(5),
        lambda s: s.paint(0, 5, np.eye(*SHAPE, dtype=np.uint16)),
        lambda s: s.undo(),
    ],
)
def test_results_from_anchors_that_changed_are_dropped(change: Any) -> None:
    session = opened()
    segment(session, 5)
    request = session.propagation_request()
    assert session.deliver_propagated(request, [propagated(6, SHAPE, SMALL, (5,))])
    change(session)
    if session.request is not None:
        session.deliver(predicted(session.request, SHAPE, BOX))
    labels = session.labels.copy()
    assert not session.deliver_propagated(request, [propagated(7, SHAPE, SMALL, (5,))])
    assert not session.finish_propagation(request)
    assert np.array_equal(session.labels, labels)
    other = opened()
    segment(other, 5)
    assert not other.deliver_propagated(request, [propagated(7, SHAPE, SMALL, (5,))])
    assert not other.finish_propagation(request)


def test_what_did_not_come_this_time_is_removed() -> None:
    session = opened()
    segment(session, 5)
    run(session, stop=15)
    session.go_to(0, 5)
    session.add_point(Point(5, 6))
    session.deliver(predicted(session.request, SHAPE, BOX))
    request = session.propagation_request()
    session.deliver_propagated(request, [propagated(6, SHAPE, BOX, (5,))])
    assert session.labels[14].any()  # until it is finished
    assert session.stale_slices() == {*range(5), *range(7, 15)}
    session.finish_propagation(request)
    assert [f.slice_index for f in session.slice_facts()] == [5, 6]
    assert not session.labels[7:].any()
    session.undo()
    assert session.labels[14].any()


def test_nothing_was_found() -> None:
    session = opened()
    segment(session, 5)
    said: list[str] = []
    session.message.connect(said.append)
    run(session, stop=0)
    assert said == ["Object 1 was found on no further slice."]
    with pytest.raises(InputError, match="up to date"):
        session.propagation_request()


def test_earlier_objects_keep_their_pixels_and_paint_wins() -> None:
    session = opened()
    painted = np.zeros(SHAPE, np.uint16)
    painted[6, 7:13] = 7
    paint(session, 6, painted)
    segment(session, 5)
    session.select_object(7)
    session.select_object(1)
    said: list[str] = []
    session.message.connect(said.append)
    run(session)
    assert (session.labels[6] == 7).sum() == 6
    assert said == ["Propagated to 19 slices (0 to 19). 6 pixels lie in other objects and were left there."]
    labels = session.labels[8].copy()
    labels[SMALL.y0.__int__(), 7:13] = 0
    paint(session, 8, labels)
    assert np.array_equal(session.labels[8], labels)
    assert [f.kind for f in session.slice_facts() if f.slice_index == 8] == ["painted"]


def test_old_results_fade_to_their_masks() -> None:
    session = opened(8)
    session._history.limit_bytes = 0
    segment(session, 5)
    seen = []
    for side in range(3):
        run(session, box=Box(4, 5, 9 + side, 9))
        seen.append(session.labels.copy())
        session.go_to(0, 5)
        session.add_point(Point(5, 6 + side))
        session.deliver(predicted(session.request, SHAPE, BOX))
    states = [step.state for step in session._history._done]
    held = {id(e.propagated) for s in states for e in s.entries.values()} - {id(None)}
    held -= {id(e.propagated) for e in session.entries.values()}
    assert not held
    for labels in reversed(seen):
        assert np.array_equal(session.labels, labels)
        assert all(f.uncertainty == 0.1 for f in session.slice_facts() if f.kind == "propagated")
        session.undo()
        session.undo()


# --- the present slice -------------------------------------------------------------------------------------------


def test_maps_of_a_propagated_slice() -> None:
    session = opened()
    segment(session, 5)
    run(session)
    session.go_to(0, 8)
    assert session.prediction is None
    probability, uncertainty = session.probability_slice(), session.uncertainty_slice()
    assert np.array_equal(probability > 0.5, session.labels[8] == 1)
    assert 0 < uncertainty.max() <= np.log(2)
    assert session.maps is session.maps
    session.set_settings(measure="std")
    assert session.uncertainty_slice().max() < uncertainty.max()


def test_the_first_click_on_a_propagated_slice_keeps_its_box() -> None:
    session = opened()
    segment(session, 5)
    run(session)
    before = session.labels.copy()
    session.go_to(0, 8)
    session.add_point(Point(11, 9, False))
    assert session.prompts == Prompts((Point(11, 9, False),), SMALL)
    assert np.array_equal(session.labels, before)
    assert session.deliver(predicted(session.request, SHAPE, BOX))
    assert (session.labels[8] == 1).sum() == BOX.area
    assert spans(session) == [Span(6, 8, 5, 8), Span(9, 20, 8, None)]
    # Without prompts what was propagated is back; cleared, that is gone too.
    session.set_prompts(Prompts())
    assert np.array_equal(session.labels, before)
    session.clear_prompts()
    assert not session.labels[8].any()
    with pytest.raises(InputError, match="up to date"):  # who removed it does not want it back
        session.propagation_request()
    session.go_to(0, 9)
    session.set_box(BOX)
    assert session.prompts == Prompts(box=BOX)


# --- reviewing ---------------------------------------------------------------------------------------------------


def test_a_reviewed_slice_stays_as_it_is() -> None:
    session = opened()
    segment(session, 5)
    run(session)
    told = []
    session.reviewed_changed.connect(lambda: told.append(len(session._state.reviewed)))
    session.set_reviewed(8)
    session.set_reviewed(8)
    assert told == [1]
    assert session._state.reviewed == {Key(0, 8, 1)}
    assert not session.stale_slices()  # nothing is known better than before
    assert spans(session) == [Span(6, 8, 5, 8), Span(9, 20, 8, None)]
    run(session, box=BOX)
    assert (session.labels[8] == 1).sum() == SMALL.area
    assert (session.labels[9] == 1).sum() == BOX.area
    facts = {f.slice_index: f for f in session.slice_facts()}
    assert facts[8].reviewed
    assert facts[8].area_sd_px == 0
    assert not facts[9].reviewed
    session.set_reviewed(8, False)
    assert told == [1, 0]
    assert 8 in session.stale_slices()
    assert 9 in session.stale_slices()
    assert spans(session) == [Span(6, 20, 5, None)]
    session.undo()
    assert told == [1, 0, 1]


def test_other_prompts_have_to_be_reviewed_anew() -> None:
    session = opened()
    segment(session, 5)
    session.set_reviewed(5)
    session.set_settings(seed=2)
    assert session.deliver(predicted(session.request, SHAPE, SMALL))
    assert (session.labels[5] == 1).sum() == BOX.area
    session.add_point(Point(1, 1))
    assert not session._state.reviewed
    with pytest.raises(InputError, match="Slice 3 has no mask of object 1 to confirm"):
        session.set_reviewed(3)
    with pytest.raises(InputError, match="no slice 20"):
        session.set_reviewed(20)


def test_what_to_review_next() -> None:
    session = opened(6)
    segment(session, 0, mean=0.6)
    request = session.propagation_request()
    for index, mean in ((1, 0.2), (2, 0.5), (3, 0.5), (4, 0.3)):
        session.deliver_propagated(request, [propagated(index, SHAPE, SMALL, (0,), mean_uncertainty=mean)])
    order = []
    while (index := session.next_to_review()) is not None:
        order.append(index)
        session.set_reviewed(index)
    assert order == [2, 3, 4, 1]


def test_where_a_correction_helps_most() -> None:
    session = opened(20)
    assert session.most_useful_slice() is None
    segment(session, 0)
    assert session.most_useful_slice() is None  # all are the user's own
    request = session.propagation_request()
    uncertain = {5: 40.0, 6: 40.0, 7: 40.0, 19: 60.0}  # 2 mm apart; the far end is the most uncertain one
    for index, px in uncertain.items():
        result = propagated(index, SHAPE, SMALL, (0,), mean_uncertainty=px / 100, uncertain_px=px)
        session.deliver_propagated(request, [result])
    assert (session.next_to_review(), session.most_useful_slice()) == (19, 6)
    session.set_reviewed(6)  # stays as it is: neither to be corrected nor settled by a correction of others
    assert session.most_useful_slice() == 7  # nearer to 19 than 5 is
    for index in (5, 7, 19):
        session.set_reviewed(index)
    assert session.most_useful_slice() is None
    assert Session(Volume(np.zeros(SHAPE))).most_useful_slice() is None


def test_the_volume_is_that_of_the_slices() -> None:
    session = opened()
    segment(session, 5)
    run(session, stop=7, area_sd_px=5.0)
    estimate = session.volume_estimate()
    assert estimate is not None
    pixels = BOX.area + 6 * SMALL.area
    assert estimate.ml == pytest.approx(pixels * 2 * 1 * 0.5 / 1000)
    assert estimate.low_ml < estimate.ml < estimate.high_ml
    for index in range(7):
        session.set_reviewed(index)
    assert session.volume_estimate().low_ml == session.volume_estimate().ml
