"""Undo and redo in bounded memory."""

from __future__ import annotations

import numpy as np

from napari_uncertsam.annotations import Key, State
from napari_uncertsam.history import History
from napari_uncertsam.labelmap import LabelMap
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.session import Session
from napari_uncertsam.volume import Volume
from tests.predictions import predicted

KEY = Key(0, 0, 1)


def test_steps_back_and_forth() -> None:
    history = History()
    states = [State((1, n)) for n in range(2, 6)]
    for state in states:
        history.step(state)
    assert not history.redo()
    for state in states[-2::-1]:
        assert history.undo()
        assert history.state is state
    assert history.undo()
    assert history.state.objects == (1,)
    assert not history.undo()
    assert history.redo()
    history.step(State((1, 9)))
    assert not history.can_redo
    amended = State((1, 10))
    history.amend(amended)
    assert history.undo()
    assert history.redo()
    assert history.state is amended


def test_old_predictions_fade_to_their_masks() -> None:
    session = Session(Volume(np.zeros((60, 60), np.uint8)))
    session.set_box(Box(5, 5, 30, 30))
    first = predicted(session.request, (60, 60), Box(5, 5, 30, 30))
    session._history.limit_bytes = 5 * first.nbytes
    session.deliver(first)
    seen = [session.labels.copy()]
    for step in range(20):
        session.add_point(Point(step, step))  # the old mask is shown while the new one is computed
        session.deliver(predicted(session.request, (60, 60), Box(5, 5, 30 + step, 30)))
        seen.append(session.labels.copy())
    states = [step.state for step in session._history._done]
    kept = {id(state.entry(KEY).prediction) for state in states} - {id(None), id(session.prediction)}
    assert 2 <= len(kept) <= 5
    assert session.prediction is not None
    # Masks of long ago come back all the same, and the predictions are asked for again.
    asked: list[object] = []
    session.requested.connect(asked.append)
    for labels in reversed(seen):
        assert np.array_equal(session.labels, labels)
        session.undo()
    assert len(asked) >= 15
    assert not session.can_undo
    for labels in seen:
        session.redo()
        assert np.array_equal(session.labels, labels)


def test_predictions_of_other_slices_are_not_forgotten() -> None:
    session = Session(Volume(np.zeros((3, 40, 40), np.uint8)))
    session._history.limit_bytes = 0
    for index in range(3):
        session.go_to(0, index)
        session.set_box(Box(5, 5, 20, 20))
        session.deliver(predicted(session.request, (40, 40), Box(5, 5, 20, 20)))
    assert all(entry.prediction is not None for entry in session.entries.values())
    whole = LabelMap(session.volume.shape)
    whole.update(State(), session._history.state)
    assert np.array_equal(whole.labels, session.labels)
