"""Several looks at an image, and the second opinion that they give."""

from __future__ import annotations

import numpy as np
import pytest

from napari_uncertsam.estimators import ESTIMATORS
from napari_uncertsam.estimators.tta.looks import LOOKS, SecondOpinion
from napari_uncertsam.estimators.tta.warps import Composed, SmallWarp, Symmetry, Tone
from napari_uncertsam.prompts import Box, Point, Prompts
from tests.fakes import FakeEngine, scene

PROMPTS = Prompts((Point(60, 60),), Box(36, 30, 90, 100))


def test_looks_differ_and_are_embedded_once() -> None:
    engine, (image, _) = FakeEngine(), scene()
    embedding = engine.embed(image)
    looks = ESTIMATORS["looks"]()
    first = looks.estimate(engine, embedding, PROMPTS, np.random.default_rng(0))
    assert len(set(LOOKS)) == len(LOOKS) == looks.copies == 15
    assert engine.embed_calls == 1 + 15
    assert engine.decode_calls == 16
    again = looks.estimate(engine, embedding, PROMPTS, np.random.default_rng(1))
    assert engine.embed_calls == 16
    np.testing.assert_array_equal(first.members, again.members)


def test_an_engine_that_sees_shapes_gives_nearly_the_same_mask_from_everywhere() -> None:
    engine, (image, labels) = FakeEngine(), scene()
    belief = ESTIMATORS["looks"]().estimate(engine, engine.embed(image), PROMPTS, np.random.default_rng(0))
    truth = labels[1::2, 1::2] == 1
    for member in belief.members:
        mask = member > 0
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95


def test_a_second_opinion_leaves_the_mask_alone() -> None:
    engine, (image, _) = FakeEngine(), scene()
    embedding = engine.embed(image)
    rng = np.random.default_rng(0)
    own = ESTIMATORS["entropy"]().estimate(engine, embedding, PROMPTS, rng)
    looks = ESTIMATORS["looks"]().estimate(engine, embedding, PROMPTS, rng)
    second = SecondOpinion().estimate(engine, embedding, PROMPTS, rng)
    np.testing.assert_array_equal(second.logits(), own.logits())
    np.testing.assert_array_equal(second.probability(), own.probability())
    np.testing.assert_array_equal(second.entropy(), looks.entropy())
    np.testing.assert_array_equal(second.mutual_information(), looks.mutual_information())
    assert second.predicted_iou == own.predicted_iou
    assert second.area_interval(0.9) == looks.area_interval(0.9)


@pytest.mark.parametrize("scale", [1 / 0.85, 1 / 1.2])
@pytest.mark.parametrize("turn", [Symmetry(flip_y=True), Symmetry(transpose=True)])
def test_composed_is_one_after_the_other(scale: float, turn: Symmetry) -> None:
    near, shape = SmallWarp(0.0, scale), (96, 128)
    both = Composed(near, turn)
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    np.testing.assert_array_equal(both.image(image, shape), turn.image(near.image(image, shape), shape))
    given = Prompts((Point(40, 50),), Box(30, 40, 60, 90))
    moved = both.prompts(given, shape, 256)
    assert moved == turn.prompts(near.prompts(given, shape, 256), shape, 256)
    # About the centre, distances are scaled, and the turn keeps or exchanges the axes.
    y, x = moved.points[0].y, moved.points[0].x
    centre = np.array(both.shape(shape)) / 2 - np.array(both.shape(shape)) / 512
    away = np.array([40, 50]) - (np.array(shape) / 2 - np.array(shape) / 512)
    expected = away[::-1] if turn.transpose else away * [-1, 1]
    np.testing.assert_allclose(np.array([y, x]) - centre, scale * expected, atol=1e-9)


def test_logits_come_back_to_where_they_were() -> None:
    rows, columns = np.mgrid[:64, :64]
    blob = (6 - 0.02 * ((rows - 28) ** 2 + (columns - 37) ** 2)).astype(np.float32)
    for warp in LOOKS:
        forth = blob
        if isinstance(warp, Composed):
            forth = SmallWarp(0.0, warp.first.scale)._sampled(blob[None], warp.first.inverse.matrix((64, 64)))[0][0]  # type: ignore[attr-defined]
            forth = warp.then.moved(forth)  # type: ignore[attr-defined]
        elif isinstance(warp, Symmetry):
            forth = warp.moved(blob)
        back = warp.back(np.ascontiguousarray(forth), (64, 64), blob)
        inner = np.s_[8:56, 8:56]
        np.testing.assert_allclose(back[inner], blob[inner], atol=0.05)


def test_tones() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    np.testing.assert_array_equal(Tone().image(image, (16, 16)), image)
    dark = Tone(gamma=2.0).image(image, (16, 16))
    np.testing.assert_array_equal(dark, np.rint(image.astype(float) ** 2 / 255))
    flat = Tone(contrast=0.5).image(image, (16, 16)).astype(float)
    np.testing.assert_allclose(flat, 127.5 + 0.5 * (image - 127.5), atol=0.51)
