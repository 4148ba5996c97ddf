"""The model's own mask as a prompt of every correction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uncertsam.engine import Embedding, Sam2Engine
from napari_uncertsam.estimators.base import decoded_logits
from napari_uncertsam.feeding_back import REMEMBERED, FedBack
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Request, Settings
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.refinement.rounds import UgpaSettings
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene

SIDE = 96
BOX, CLICKS = Box(20, 20, 60, 70), (Point(30, 30), Point(65, 75, positive=False), Point(50, 60))
VIEW = View.whole(SIDE, SIDE)
PLAIN = Settings(method="entropy", n_suggestions=0)


def picture() -> Volume:
    grey = np.full((SIDE, SIDE), 60, np.uint8)
    grey[22:58, 24:68] = 190
    grey[40:50, 68:90] = 150
    return Volume(grey)


def request(prompts: Prompts, settings: Settings = PLAIN) -> Request:
    return Request("image", 0, 0, Window(0, 255), VIEW, 1, prompts, settings)


def embedded(engine: FakeEngine | Sam2Engine) -> Embedding:
    return engine.embed(np.repeat(picture().slice()[..., None], 3, 2))


def fed(engine: FakeEngine, prompts: Prompts, used: Prompts | None = None) -> tuple[Prompts, list[Prompts]]:
    """What the model is asked with, and what it was asked before, on the slice."""
    asked = FedBack(engine).prompts(request(prompts), embedded(engine), VIEW, used or prompts)
    return asked, [one for (one,) in engine.decoded]


def in_view(prompts: Prompts, engine: FakeEngine) -> Prompts:
    return VIEW.prompts_to_view(prompts, engine.resolution)


def test_a_box_and_clicks_are_asked_step_by_step() -> None:
    engine, prompts = FakeEngine(), Prompts(CLICKS[:2], BOX)
    asked, steps = fed(engine, prompts)
    assert [replace(step, mask=None) for step in steps] == [
        in_view(Prompts((), BOX), engine),
        in_view(Prompts(CLICKS[:1], BOX), engine),
    ]
    assert steps[0].mask is None
    embedding = embedded(engine)
    first = decoded_logits(engine.decode(embedding, [steps[0]]))[0]
    assert steps[1].mask is not None
    np.testing.assert_array_equal(steps[1].mask.logits, first)
    second = decoded_logits(engine.decode(embedding, [steps[1]]))[0]
    assert asked == prompts.with_mask(MaskPrompt(second))


def test_a_box_that_a_click_led_to_serves_the_first_click_alone() -> None:
    engine, clicks = FakeEngine(), Prompts(CLICKS)
    asked, steps = fed(engine, clicks, clicks.with_box(BOX))
    assert [step.box is None for step in steps] == [False, True]
    assert asked.box is None
    assert asked.mask is not None
    assert asked.points == CLICKS


@pytest.mark.parametrize(
    "prompts",
    [Prompts(box=BOX), Prompts(CLICKS[:1]), Prompts(CLICKS, BOX, MaskPrompt(np.ones((8, 8), np.float32)))],
    ids=["a box", "a click", "a mask of somebody's own"],
)
def test_where_nothing_is_corrected_nothing_is_fed_back(prompts: Prompts) -> None:
    engine = FakeEngine()
    asked, steps = fed(engine, prompts)
    assert asked is prompts
    assert not steps


def test_points_that_a_round_made_up_are_there_from_the_first_step() -> None:
    made_up = Point(40, 40, given=False)
    engine, prompts = FakeEngine(), Prompts((CLICKS[0], made_up, CLICKS[2]), BOX)
    asked, steps = fed(engine, prompts)
    assert [[p.given for p in step.points] for step in steps] == [[False], [True, False]]
    assert asked.points == prompts.points
    alone, none = fed(FakeEngine(), Prompts((made_up,), BOX))
    assert alone.mask is None
    assert not none


@pytest.mark.parametrize("clicks", [(), (Point(30, 110, positive=False),)], ids=["a box", "a box and a click"])
def test_what_a_refinement_gives_is_predicted_again(clicks: tuple[Point, ...]) -> None:
    image, _ = scene()
    volume, pipeline = Volume(image, rgb=True), Pipeline(FakeEngine())
    settings = replace(PLAIN, ugpa=UgpaSettings(proposals="uncertain", verification="mean-entropy-roi"))
    asked = replace(request(Prompts(clicks, Box(48, 56, 95, 119)), settings), view=None)
    before = pipeline.predict(volume, asked)
    refined = pipeline.refine(volume, before)
    assert refined.accepted
    again = pipeline.predict(volume, refined.prediction.request)
    np.testing.assert_array_equal(again.belief.logits(), refined.prediction.belief.logits())
    np.testing.assert_array_equal(again.maps.mask, refined.prediction.maps.mask)


def test_one_more_click_is_one_more_decode() -> None:
    engine = FakeEngine()
    feeding, embedding = FedBack(engine), embedded(engine)
    counts = []
    for count in range(1, 1 + len(CLICKS)):
        prompts = Prompts(CLICKS[:count], BOX)
        feeding.prompts(request(prompts), embedding, VIEW, prompts)
        counts.append(engine.decode_calls)
    assert counts == [1, 2, 3]


def test_masks_of_another_picture_or_view_are_not_taken() -> None:
    engine, prompts = FakeEngine(), Prompts(CLICKS[:1], BOX)
    feeding, embedding = FedBack(engine), embedded(engine)
    first = request(prompts)
    for other in (first, replace(first, slice_index=1), replace(first, image_id="b"), replace(first, object_id=2)):
        feeding.prompts(other, embedding, VIEW, prompts)
    feeding.prompts(first, embedding, View(0, 0, 80, 80), prompts)
    assert engine.decode_calls == 4  # another object on the same slice gets the same mask


def test_what_is_remembered_has_a_bound() -> None:
    engine = FakeEngine(resolution=32)
    feeding, embedding = FedBack(engine), embedded(engine)
    for _ in range(2):
        for column in range(REMEMBERED + 1):
            prompts = Prompts(CLICKS[:1], Box(20, column / 10, 60, 70))
            feeding.prompts(request(prompts), embedding, VIEW, prompts)
    assert engine.decode_calls == 2 * (REMEMBERED + 1)  # the oldest is always the one that was forgotten


@given(order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_a_prediction_does_not_depend_on_those_before(order: list[int]) -> None:
    requests = [request(Prompts(CLICKS[:count], BOX)) for count in range(4)]
    used = Pipeline(FakeEngine())
    for number in order:
        again = used.predict(picture(), requests[number])
        anew = Pipeline(FakeEngine()).predict(picture(), requests[number])
        np.testing.assert_array_equal(again.belief.logits(), anew.belief.logits())


def test_without_conditioning_all_prompts_are_one_question() -> None:
    engine = FakeEngine()
    Pipeline(engine).predict(picture(), request(Prompts(CLICKS, BOX), replace(PLAIN, conditioning=False)))
    assert [one.mask for (one,) in engine.decoded] == [None]


def test_the_bundled_model_is_fed_as_by_hand() -> None:
    engine, prompts = Sam2Engine.load("bundled", device="cpu"), Prompts(CLICKS[:2], BOX)
    embedding, mask = embedded(engine), None
    for count in range(3):
        step = VIEW.prompts_to_view(Prompts(CLICKS[:count], BOX, mask), engine.resolution)
        logits = decoded_logits(engine.decode(embedding, [step]))[0]
        mask = MaskPrompt(logits)
    found = FedBack(engine).prompts(request(prompts), embedding, VIEW, prompts)
    local = VIEW.prompts_to_view(found, engine.resolution)
    np.testing.assert_allclose(decoded_logits(engine.decode(embedding, [local]))[0], logits, atol=1e-4)
