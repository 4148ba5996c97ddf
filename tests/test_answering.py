"""Clicks as truth about the mask: through the pipeline, at once by the closed form, and left to the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.answering import added_points, cells_of, corrected, correlation_length, hypotheses
from napari_uncertsam.engine import Engine, Sam2Engine
from napari_uncertsam.estimators.answered import AnsweredBelief
from napari_uncertsam.estimators.base import PointBelief
from napari_uncertsam.estimators.field import LENGTH, Answer
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, Request, Settings
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene

BOX = Box(40, 34, 87, 70)
numbers = st.floats(0, 200)
points = st.builds(Point, numbers, numbers, st.booleans())


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(scene()[0], rgb=True)


@pytest.fixture(scope="module")
def bundled() -> Engine:
    return Sam2Engine.load("bundled", device="cpu")


def make(volume: Volume, prompts: Prompts, **settings: Any) -> Request:
    chosen = Settings(**{"model": "fake", "method": "entropy", **settings})
    return Request("image", 0, 0, Window.for_volume(volume), None, 1, prompts, chosen)


def with_point(request: Request, *new: Point) -> Request:
    return replace(request, prompts=replace(request.prompts, points=(*request.prompts.points, *new)))


def pixel(prediction: Prediction, point: Point) -> bool:
    return bool(prediction.maps.mask[round(point.y), round(point.x)])


@given(st.lists(points, max_size=6), st.tuples(numbers, numbers, numbers, numbers) | st.none())
def test_a_corrected_box_holds_what_is_inside_and_nothing_more(given_points: list[Point], corners: Any) -> None:
    box = None
    if corners is not None:
        (y0, y1), (x0, x1) = sorted(corners[:2]), sorted(corners[2:])
        box = Box(y0, x0, y1, x1)
    prompts = Prompts(tuple(given_points), box)
    found = corrected(prompts)
    assert found.points == prompts.points
    assert corrected(found) == found
    if box is None:
        assert found == prompts
        return
    inside = [p for p in given_points if p.positive]
    ys, xs = [box.y0, box.y1, *(p.y for p in inside)], [box.x0, box.x1, *(p.x for p in inside)]
    assert found.box == Box(min(ys), min(xs), max(ys), max(xs))


def test_points_that_were_added(volume: Volume) -> None:
    before = make(volume, Prompts((Point(60, 60),), BOX))
    one, two = Point(70, 65), Point(10, 10, False)
    assert added_points(before, with_point(before, one, two)) == (one, two)
    assert added_points(before, before) == ()
    assert added_points(with_point(before, one), before) == ()
    moved = replace(before, prompts=Prompts((Point(61, 60), one), BOX))
    assert added_points(before, moved) == ()
    grown = with_point(before, one)
    for other in (
        replace(grown, prompts=grown.prompts.with_box(None)),
        replace(grown, view=View.whole(128, 128)),
        replace(grown, object_id=2),
        replace(grown, settings=replace(grown.settings, seed=1)),
    ):
        assert added_points(before, other) == ()


def test_clicks_are_cells_of_the_view() -> None:
    view = View(10, 20, 32, 64)
    clicks = (Point(10, 20), Point(41, 83, False), Point(9, 20), Point(10, 84), Point(25.5, 51.5))
    assert cells_of(clicks, view, (16, 16)) == [Answer(0, 0, True), Answer(15, 15, False), Answer(8, 8, True)]


def test_the_noise_is_as_long_as_the_object_is_large() -> None:
    view, belief = View.whole(64, 64), PointBelief(np.where(np.eye(32) > 0, 2.0, -2.0))
    assert correlation_length(view, Prompts(box=Box(0, 0, 31, 63)), belief) == pytest.approx(LENGTH * np.sqrt(16 * 32))
    assert correlation_length(view, Prompts((Point(3, 3),)), belief) == pytest.approx(LENGTH * 32)
    assert correlation_length(view, Prompts((Point(3, 3),)), PointBelief(np.full((32, 32), -1.0))) == LENGTH * 32
    assert correlation_length(view, Prompts(box=Box(0, 0, 1, 1)), belief) == 1


def test_hypotheses_are_what_the_mask_would_be_beside(volume: Volume) -> None:
    engine = FakeEngine()
    embedding, view = engine.embed(np.repeat(volume.slice()[..., :1], 3, 2)), View.whole(128, 128)
    decoded = engine.decode(embedding, [view.prompts_to_view(Prompts(box=BOX), engine.resolution)])
    belief = PointBelief(decoded.logits[0].numpy(), predicted_iou=float(decoded.iou[0]))
    changes = hypotheses(engine, embedding, view, Prompts(box=BOX), belief)
    fed_back = PointBelief(belief.logits() / 2)
    again = hypotheses(engine, embedding, view, Prompts(box=BOX), fed_back, fed_back=True)
    np.testing.assert_allclose(again, changes, rtol=1e-4, atol=1e-5)
    assert changes.shape == (4, *belief.shape)
    assert np.abs(changes).max() > 0.5
    assert hypotheses(engine, embedding, view, Prompts((Point(60, 60),)), belief).shape == (0, *belief.shape)


# -- through the pipeline ---------------------------------------------------------------------------------------------


def test_without_conditioning_nothing_but_the_model_decides(volume: Volume) -> None:
    pipeline, engine = Pipeline(FakeEngine()), FakeEngine()
    prompts = Prompts((Point(60, 60), Point(64, 90, False)), BOX)
    found = pipeline.predict(volume, make(volume, prompts, conditioning=False, n_suggestions=0))
    assert found.field is None
    assert found.quality is None
    view = found.view
    embedding = engine.embed(view.crop(volume.slice()))
    logits = engine.decode(embedding, [view.prompts_to_view(prompts, engine.resolution)]).logits[0].numpy()
    assert np.array_equal(found.belief.logits(), logits)
    asked = pipeline.predict(volume, make(volume, prompts, conditioning=False))
    assert np.array_equal(asked.belief.logits(), logits)
    assert asked.field is not None
    assert asked.field.steps == ()


def test_with_conditioning_every_click_is_an_answer_of_the_field(volume: Volume) -> None:
    prompts = Prompts((Point(60, 60), Point(64, 90, False)), BOX)
    found = Pipeline(FakeEngine()).predict(volume, make(volume, prompts))
    assert isinstance(found.belief, AnsweredBelief)
    assert found.field is found.belief.mask_field
    assert list(found.field.answers) == cells_of(prompts.points, found.view, found.belief.shape)
    assert found.quality is not None
    assert 0 <= found.quality.low <= found.quality.dice <= found.quality.high <= 1


def test_what_is_foreseen_is_the_answered_field(volume: Volume) -> None:
    pipeline = Pipeline(FakeEngine())
    before = pipeline.predict(volume, make(volume, Prompts(box=BOX)))
    assert not before.provisional
    assert before.field is not None
    calls = pipeline.engine.decode_calls, pipeline.engine.embed_calls  # type: ignore[attr-defined]
    point = Point(64, 76)
    after = pipeline.foresee(volume, before, with_point(before.request, point))
    assert after is not None
    assert (pipeline.engine.decode_calls, pipeline.engine.embed_calls) == calls  # type: ignore[attr-defined]
    assert after.provisional
    assert after.request == with_point(before.request, point)
    field = before.field.answered(cells_of((point,), before.view, before.belief.shape))
    assert np.array_equal(after.belief.logits(), AnsweredBelief(field).logits())
    assert after.view == before.view
    # A second one goes on from the first, without the model having come in between.
    more = pipeline.foresee(volume, after, with_point(after.request, Point(20, 20, False)))
    assert more is not None
    assert more.field is not None
    assert len(more.field.steps) == 2
    both = pipeline.foresee(volume, before, with_point(before.request, point, Point(20, 20, False)))
    assert both is not None
    assert np.array_equal(both.maps.probability, more.maps.probability)


def test_what_cannot_be_foreseen(volume: Volume) -> None:
    pipeline = Pipeline(FakeEngine())
    before = pipeline.predict(volume, make(volume, Prompts(box=BOX)))
    request, point = before.request, Point(60, 60)
    assert pipeline.foresee(volume, before, request) is None
    assert pipeline.foresee(volume, before, replace(request, prompts=Prompts((point,), Box(30, 30, 90, 90)))) is None
    other = with_point(replace(request, settings=replace(request.settings, n_suggestions=2)), point)
    assert pipeline.foresee(volume, before, other) is None
    view = before.view
    beside = Point(0, 0, False)
    assert view.top > 0
    assert pipeline.foresee(volume, before, with_point(request, beside)) is None
    plain = pipeline.predict(volume, make(volume, Prompts(box=BOX), conditioning=False))
    assert pipeline.foresee(volume, plain, with_point(plain.request, point)) is None
    silent = pipeline.predict(volume, make(volume, Prompts(box=BOX), suggest="entropy"))
    assert silent.field is None
    assert pipeline.foresee(volume, silent, with_point(silent.request, point)) is None


def open_pixels(prediction: Prediction) -> list[Point]:
    """Places where the mask may as well be wrong, with the answer that says so."""
    maps = prediction.maps
    ys, xs = np.nonzero(np.abs(maps.probability - 0.5) < 0.3)
    chosen = np.linspace(0, len(ys) - 1, 6).astype(int)
    return [Point(float(ys[i]), float(xs[i]), not maps.mask[ys[i], xs[i]]) for i in chosen]


@pytest.mark.parametrize("which", ["fake", "bundled"])
def test_a_click_turns_the_pixel_that_it_is_on(which: str, volume: Volume, bundled: Engine) -> None:
    pipeline = Pipeline(FakeEngine() if which == "fake" else bundled)
    before = pipeline.predict(volume, make(volume, Prompts(box=BOX), model=which, n_suggestions=1))
    for point in open_pixels(before):
        request = with_point(before.request, point)
        foreseen = pipeline.foresee(volume, before, request)
        assert foreseen is not None
        assert pixel(before, point) is not point.positive
        assert pixel(foreseen, point) is point.positive
        assert pixel(pipeline.predict(volume, request), point) is point.positive


def test_what_a_refinement_made_up_is_a_prompt_but_no_answer(volume: Volume, bundled: Engine) -> None:
    pipeline, point = Pipeline(bundled), Point(2.0, 2.0, given=False)
    made_up = make(volume, Prompts((point,), BOX), n_suggestions=1)
    prediction = pipeline.predict(volume, made_up)
    assert prediction.field is not None
    assert prediction.field.answers == ()
    assert corrected(made_up.prompts).box == BOX
    said = pipeline.predict(volume, make(volume, Prompts((replace(point, given=True),), BOX), n_suggestions=1))
    assert said.field is not None
    assert [answer.inside for answer in said.field.answers] == [True]
