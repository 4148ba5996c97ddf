"""Answers: what they change, what is never asked again, and predictions that come at once and provisionally."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from napari_uncertsam.annotations import REPEAT_RADIUS, Change, Entry, Patch
from napari_uncertsam.errors import InputError
from napari_uncertsam.prediction import Prediction
from napari_uncertsam.prompts import Box, Point, Prompts, Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.volume import Volume
from tests.predictions import predicted

FLAT = (32, 40)
PLACES = (
    Suggestion("point", 4.0, 4.0, 0.6, 0.5, gain=30.0),
    Suggestion("point", 9.0, 9.0, 0.5, 0.4, gain=12.0),
    Suggestion("box", 5.0, 5.0, 0.4, 0.5, Box(1, 1, 9, 9)),
)


def flat() -> Session:
    return Session(Volume(np.zeros(FLAT, np.uint8)))


def deliver(session: Session, box: Box, uncertain: float = 0.0, provisional: bool = False, **more: Any) -> Prediction:
    assert session.request is not None
    made = replace(predicted(session.request, FLAT, box, **more), uncertain_px=uncertain, provisional=provisional)
    assert session.deliver(made)
    return made


def asked() -> Session:
    """A session with a predicted box and three open suggestions."""
    session = flat()
    session.set_box(Box(1, 1, 8, 8))
    deliver(session, Box(1, 1, 8, 8), uncertain=20.0, suggestions=PLACES)
    return session


# --- provisional predictions --------------------------------------------------------------------------------------


def test_a_provisional_prediction_is_shown_and_the_model_s_is_still_awaited() -> None:
    session = asked()
    session.answer(PLACES[0], inside=True)
    made = deliver(session, Box(1, 1, 8, 9), provisional=True)
    assert session.prediction is made
    assert not session.is_current
    assert session.labels[8, 9] == 1
    with pytest.raises(InputError, match="no prediction to refine"):
        session.refine_request()
    wanted = []
    session.requested.connect(wanted.append)
    session.select_object(2)
    session.select_object(1)
    assert wanted == [session.request]
    full = deliver(session, Box(1, 1, 8, 10))
    assert session.is_current
    assert session.prediction is full
    late = replace(made)
    assert not session.deliver(late)
    assert session.prediction is full


def test_an_outdated_provisional_prediction_is_dropped() -> None:
    session = asked()
    session.answer(PLACES[0], inside=True)
    made = replace(predicted(session.request, FLAT, Box(1, 1, 8, 9)), provisional=True)
    session.undo()
    before = session.prediction
    assert not session.deliver(made)
    assert session.prediction is before


def test_saving_while_a_prediction_is_provisional_loses_nothing(tmp_path: Any) -> None:
    session = asked()
    session.answer(PLACES[0], inside=True)
    session.dismiss(PLACES[1])
    deliver(session, Box(1, 1, 8, 9), provisional=True)
    session.autosave(tmp_path / "auto.json")
    session.snapshot().save(tmp_path / "saved")
    for path in (tmp_path / "auto.json", tmp_path / "saved" / "session.json"):
        again = flat()
        again.load(path)
        assert again.prompts == session.prompts
        assert len(again.entry.dismissed) == 1
        assert np.array_equal(again.labels, session.labels)
        assert not again.is_current  # so that the model is asked


def test_the_neighbour_s_pixels_are_told_of_once() -> None:
    session = asked()
    session.new_object()
    said: list[str] = []
    session.message.connect(said.append)
    session.set_box(Box(6, 6, 12, 12))
    deliver(session, Box(6, 6, 12, 12), provisional=True)
    deliver(session, Box(6, 6, 12, 12))
    assert len(said) == 1


# --- what an answer changed ---------------------------------------------------------------------------------------


def test_the_last_change_is_known_provisional_then_full_and_undone() -> None:
    session = asked()
    assert session.last_change is None
    first = session.prediction
    session.answer(PLACES[0], inside=True)
    assert session.last_change is None  # nothing predicted yet
    deliver(session, Box(1, 1, 8, 9), uncertain=15.0, provisional=True)
    change = session.last_change
    assert change is not None
    assert change.is_provisional
    assert change.uncertain_px == (20.0, 15.0)
    assert change.counts == (8, 0)
    deliver(session, Box(2, 1, 8, 9), uncertain=14.0)
    change = session.last_change
    assert change is not None
    assert not change.is_provisional
    assert change.uncertain_px == (20.0, 14.0)
    assert change.counts == (7, 8)
    assert change.pixels is not None
    assert (change.pixels.top, change.pixels.left) == (1, 1)
    assert (change.pixels.values[0, :8] == -1).all()
    assert (change.pixels.values[1:, 8] == 1).all()
    shown = session.labels.copy()
    session.undo()
    assert session.prediction is first
    assert session.suggestions == PLACES
    assert session.last_change is None
    session.redo()
    again = session.last_change
    assert again is not None
    assert again.counts == (7, 8)
    assert np.array_equal(session.labels, shown)


@pytest.mark.parametrize("step", ["dismiss", "box", "settings", "paint", "other object", "two points"])
def test_what_is_no_answer_is_no_change(step: str) -> None:
    session = asked()
    if step == "dismiss":
        session.dismiss(PLACES[0])
    elif step == "box":
        session.set_box(Box(2, 2, 9, 9))
        deliver(session, Box(2, 2, 9, 9))
    elif step == "settings":
        session.answer(PLACES[0], inside=True)
        session.set_settings(seed=3)
        deliver(session, Box(1, 1, 8, 9))
    elif step == "paint":
        session.answer(PLACES[0], inside=True)
        deliver(session, Box(1, 1, 8, 9))
        painted = session.labels.copy()
        painted[20, 20] = 1
        session.paint(0, 0, painted)
    elif step == "other object":
        session.answer(PLACES[0], inside=True)
        deliver(session, Box(1, 1, 8, 9))
        session.new_object()
    else:
        session.set_prompts(replace(session.prompts, points=(Point(1, 1), Point(2, 2))))
        deliver(session, Box(1, 1, 8, 9))
    assert session.last_change is None


def test_a_suggested_box_that_is_used_and_a_click_are_answers() -> None:
    session = asked()
    session.answer(PLACES[2], inside=True)
    deliver(session, Box(1, 1, 9, 9))
    assert session.last_change is not None
    assert session.last_change.counts == (17, 0)
    session.add_point(Point(12, 12))
    deliver(session, Box(1, 1, 9, 9))
    assert session.last_change is not None
    assert session.last_change.pixels is None


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_changed_pixels_are_those_of_whole_slices(data: st.DataObject) -> None:
    def patch() -> Patch:
        top, left = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
        height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
        bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
        return Patch(top, left, np.reshape(bits, (height, width)))

    old, new, painted = patch(), patch(), patch() if data.draw(st.booleans()) else None
    hand = None if painted is None else Patch(painted.top, painted.left, painted.values.astype(np.int8))
    change = Change(Entry(remembered=old, painted=hand), Entry(remembered=new, painted=hand))
    whole = [entry.mask((12, 12)).astype(np.int8) for entry in (change.before, change.after)]
    expected = whole[1] - whole[0]
    got = np.zeros((12, 12), np.int8)
    if change.pixels is not None:
        got[change.pixels.where] = change.pixels.values
        assert change.pixels.values.any()
    assert np.array_equal(got, expected)
    assert change.counts == ((expected > 0).sum(), (expected < 0).sum())


# --- "don't know" -------------------------------------------------------------------------------------------------


def test_what_is_not_known_is_not_asked_again_whatever_becomes_of_the_prompts() -> None:
    session = asked()
    session.dismiss(PLACES[0])
    for again in (
        lambda: session.add_point(Point(20, 20)),
        lambda: session.set_box(Box(1, 1, 9, 8)),
        lambda: session.set_prompts(Prompts()),
        lambda: session.clear_prompts(),
        lambda: session.set_settings(seed=4),
    ):
        again()
        if session.request is None:
            assert not session.entry.is_empty  # it remembers
            session.set_box(Box(1, 1, 8, 8))
        deliver(session, Box(1, 1, 8, 8), suggestions=PLACES)
        assert PLACES[0] not in session.suggestions
        assert PLACES[1] in session.suggestions
    session.new_object()
    session.set_box(Box(1, 1, 8, 8))
    deliver(session, Box(1, 1, 8, 8), suggestions=PLACES)
    assert PLACES[0] in session.suggestions  # of another object


def test_clearing_twice_is_one_step() -> None:
    session = asked()
    session.dismiss(PLACES[0])
    session.clear_prompts()
    steps: list[None] = []
    session.history_changed.connect(lambda: steps.append(None))
    session.clear_prompts()
    assert not steps
    session.delete_object(1)
    assert not session.entries


class Dialogue(RuleBasedStateMachine):
    """Any sequence of answers: no place is asked about twice, and undoing all of it ends where it began."""

    def __init__(self) -> None:
        super().__init__()
        self.session = flat()
        self.session.set_box(Box(1, 1, 20, 30))
        self.start = deliver(self.session, Box(1, 1, 20, 30), suggestions=PLACES)
        self.steps = 0

    @precondition(lambda self: self.session.suggestions)
    @rule(data=st.data(), inside=st.booleans())
    def answer(self, data: st.DataObject, inside: bool) -> None:
        self.session.answer(data.draw(st.sampled_from(self.session.suggestions)), inside)
        self.steps += 1

    @precondition(lambda self: self.session.suggestions)
    @rule(data=st.data())
    def do_not_know(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.session.suggestions))
        self.session.dismiss(chosen)
        assert chosen not in self.session.suggestions
        self.steps += 1

    @precondition(lambda self: self.session.request is not None and not self.session.is_current)
    @rule(data=st.data(), provisional=st.booleans())
    def predict(self, data: st.DataObject, provisional: bool) -> None:
        ys, xs = st.integers(0, FLAT[0] - 1), st.integers(0, FLAT[1] - 1)
        places = data.draw(st.lists(st.tuples(ys, xs), max_size=4, unique=True))
        suggestions = [Suggestion("point", y, x, 0.5, 0.5, gain=5.0) for y, x in places]
        deliver(self.session, Box(1, 1, 20, 30), provisional=provisional, suggestions=[*suggestions, *PLACES[2:]])

    @rule()
    def undo(self) -> None:
        if self.steps:
            self.session.undo()
            self.steps -= 1

    @rule()
    def redo(self) -> None:
        if self.session.can_redo:
            self.session.redo()
            self.steps += 1

    @invariant()
    def nothing_is_asked_twice(self) -> None:
        session = self.session
        assert session.prediction is not None
        radius = REPEAT_RADIUS * max(session.prediction.view.height, session.prediction.view.width)
        known = [(p.y, p.x) for p in session.prompts.points]
        known += [(s.y, s.x) for s in session.entry.dismissed if s.kind == "point"]
        for suggestion in session.suggestions:
            if suggestion.kind == "point":
                assert all(np.hypot(suggestion.y - y, suggestion.x - x) > radius for y, x in known)
            else:
                assert suggestion.box != session.prompts.box

    def teardown(self) -> None:
        for _ in range(self.steps):
            self.session.undo()
        assert self.session.prediction is self.start
        assert self.session.suggestions == PLACES
        assert self.session.entry.dismissed == ()
        assert self.session.is_current


TestDialogue = Dialogue.TestCase
TestDialogue.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
