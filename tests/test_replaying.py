"""A saved session computed again: the same label map, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_uncertsam import replaying
from napari_uncertsam.errors import Cancelled
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.propagating import propagate
from napari_uncertsam.replaying import replay
from napari_uncertsam.session import Session
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene
from tests.propagated import fake_propagate

DEPTH = 10


def at(index: int) -> Box | None:
    """Where the object is on a slice; it ends at slice 8."""
    return Box(20, 20, 40 + index, 44) if index < 8 else None


def volume() -> Volume:
    slices = [scene(64, 64, Box(18 + i, 20, 40 + i, 44), Box(50, 5, 60, 15), seed=i)[0][..., 0] for i in range(DEPTH)]
    return Volume(np.stack(slices), name="stack")


def answered(session: Session, pipeline: Pipeline) -> None:
    session.requested.connect(lambda r: session.deliver(pipeline.predict(session.volume, r)))


def propagated(session: Session, upto: int = DEPTH) -> None:
    request = session.propagation_request()
    for told in fake_propagate(at)(None, session.volume, request):
        if told.slice_index < upto:
            assert session.deliver_propagated(request, [told])
    if upto == DEPTH:
        session.finish_propagation(request)


def worked(pipeline: Pipeline) -> Session:
    """Two objects; prompts, clicks, paint, a refinement, reviewed and removed slices, settings that changed midway."""
    session = Session(volume(), Settings(method="entropy", n_suggestions=0), Window(0, 255))
    answered(session, pipeline)
    session.go_to(0, 2)
    session.set_box(Box(20, 20, 42, 44))
    session.go_to(0, 5)
    session.set_box(Box(22, 19, 44, 45))
    session.add_point(Point(30, 30))
    session.deliver_refinement(pipeline.refine(session.volume, session.refine_request()))
    propagated(session)
    session.set_reviewed(3)
    session.go_to(0, 6)
    session.clear_prompts()
    session.set_window(Window(10, 240))
    session.new_object()
    session.set_box(Box(50, 5, 60, 15))
    labels = session.labels[6].copy()
    labels[40:46, 20:30] = 2
    session.paint(0, 6, labels)
    propagated(session, upto=8)
    session.go_to(1, 55)
    session.set_box(Box(3, 4, 6, 16))
    return session


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setattr(replaying, "propagate", fake_propagate(at))
    return Pipeline(FakeEngine(resolution=128))


def test_the_label_map_is_the_same(pipeline: Pipeline, tmp_path: Path) -> None:
    session = worked(pipeline)
    path = session.autosave(tmp_path / "session.json")
    other = Session(session.volume)
    other.load(path)
    before, steps = other.labels.copy(), len(other._history._done)
    assert np.array_equal(before, session.labels)
    told: list[float] = []
    replay(other, pipeline, progress=lambda _stage, fraction: told.append(fraction))
    assert np.array_equal(other.labels, session.labels)
    assert len(other._history._done) == steps
    assert told == sorted(told)
    assert told[-1] == 1.0
    for key, entry in session.entries.items():
        back = other.entries[key]
        if entry.prediction is not None:
            assert back.prediction is not None
            mine = replace(entry.prediction.request, image_id=other.image_id)
            assert back.prediction.request == mine
            assert np.array_equal(back.prediction.maps.local_probability, entry.prediction.maps.local_probability)
        if entry.is_propagated and not entry.is_given:
            assert back.propagated is not None
            assert np.array_equal(back.propagated.mean, entry.propagated.mean)
    assert other.stale_slices() == session.stale_slices()
    # The file says the same then, too.
    assert other.autosave(tmp_path / "again.json").read_text() == path.read_text()


def test_masks_whose_origin_is_gone_stay(pipeline: Pipeline, tmp_path: Path) -> None:
    session = worked(pipeline)
    session.go_to(0, 2)
    session.select_object(1)
    session.add_point(Point(25, 25))
    session.go_to(0, 9)
    session.set_settings(model="other")
    session.set_box(Box(30, 20, 48, 44))
    path = session.autosave(tmp_path / "session.json")
    other = Session(session.volume)
    other.load(path)
    assert other.stale_slices()
    replay(other, pipeline)  # with the last model alone
    assert np.array_equal(other.labels, session.labels)
    assert other.prediction is not None
    other.go_to(0, 2)
    assert other.prediction is None


def test_a_replay_can_be_cancelled(pipeline: Pipeline) -> None:
    session = worked(pipeline)
    labels = session.labels.copy()
    with pytest.raises(Cancelled):
        replay(session, pipeline, cancelled=lambda: True)
    assert np.array_equal(session.labels, labels)
    replay(Session(session.volume), pipeline)  # nothing to do


def filled(session: Session, pipeline: Pipeline) -> None:
    request = session.propagation_request()
    for told in propagate(pipeline, session.volume, request):
        assert session.deliver_propagated(request, [told])
    assert session.finish_propagation(request)


def test_real_propagation_with_a_corrected_and_a_reviewed_slice(tmp_path: Path) -> None:
    pipeline = Pipeline(FakeEngine(resolution=128))
    session = Session(volume(), Settings(method="entropy", n_suggestions=0), Window(0, 255))
    answered(session, pipeline)
    session.go_to(0, 4)
    session.set_box(Box(22, 20, 44, 44))
    filled(session, pipeline)
    found = [fact.slice_index for fact in session.slice_facts()]
    assert found == list(range(DEPTH))
    session.set_reviewed(6)
    session.go_to(0, 2)
    session.add_point(Point(25, 40, False))  # a bite out of it
    assert session.stale_slices()
    filled(session, pipeline)  # from the corrected, the first and the reviewed slice
    assert not session.stale_slices()
    session.set_reviewed(8)
    kinds = {fact.slice_index: fact.kind for fact in session.slice_facts()}
    assert [index for index, kind in kinds.items() if kind == "prompted"] == [2, 4]

    path = session.autosave(tmp_path / "session.json")
    other = Session(session.volume)
    other.load(path)
    assert np.array_equal(other.labels, session.labels)
    replay(other, Pipeline(FakeEngine(resolution=128)))
    assert np.array_equal(other.labels, session.labels)
    assert not other.stale_slices()
    again = {key.slice_index for key, entry in other.entries.items() if entry.propagated is not None}
    assert again == {0, 1, 3, 5, 7, 9}
    for key, entry in session.entries.items():
        if key.slice_index in again:
            assert np.array_equal(other.entries[key].propagated.mean, entry.propagated.mean)
            assert np.array_equal(other.entries[key].propagated.variance, entry.propagated.variance)
    assert other.autosave(tmp_path / "again.json").read_text() == path.read_text()
