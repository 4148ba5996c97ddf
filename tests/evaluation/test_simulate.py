"""Simulated prompts keep what they promise, wherever the object lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate import TOLERANCE, box_at_overlap, centre_click, random_click
from napari_uncertsam.prompts import Box

SHAPE = (96, 128)


@given(
    y=st.integers(0, 80),
    x=st.integers(0, 110),
    height=st.integers(4, 90),
    width=st.integers(4, 120),
    iou=st.sampled_from([0.25, 0.5, 0.75, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_overlap_is_the_one_asked_for(y: int, x: int, height: int, width: int, iou: float, seed: int) -> None:
    box = Box(y, x, min(y + height, SHAPE[0]) - 1, min(x + width, SHAPE[1]) - 1)
    drawn = box_at_overlap(box, iou, np.random.default_rng(seed), SHAPE)
    assert abs(drawn.iou(box) - iou) <= TOLERANCE
    assert drawn.y0 >= 0 <= drawn.x0
    assert drawn.y1 <= SHAPE[0] - 1 >= 0
    assert drawn.x1 <= SHAPE[1] - 1


@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_a_box_that_fills_the_image_still_gets_one(iou: float, rng: np.random.Generator) -> None:
    whole = Box(0, 0, SHAPE[0] - 1, SHAPE[1] - 1)
    drawn = [box_at_overlap(whole, iou, rng, SHAPE) for _ in range(20)]
    assert all(abs(b.iou(whole) - iou) <= TOLERANCE for b in drawn)


def test_directions_and_sizes_are_spread_evenly(rng: np.random.Generator) -> None:
    box = Box(400, 400, 499, 599)
    drawn = [box_at_overlap(box, 0.5, rng, (1000, 1000)) for _ in range(400)]
    shifts = np.array([np.subtract(b.centre, box.centre) / (box.height, box.width) for b in drawn])
    sides = np.log([(b.height / box.height, b.width / box.width) for b in drawn])
    # Uniform directions: the mean unit vector of n draws is about 1 / sqrt(n) long.
    assert np.linalg.norm((shifts / np.linalg.norm(shifts, axis=1, keepdims=True)).mean(0)) < 4 / math.sqrt(400)
    assert sides.min() >= math.log(0.8) - 1e-6
    assert sides.max() <= math.log(1.25) + 1e-6
    assert sides.std(0) == pytest.approx(math.log(1.25 / 0.8) / math.sqrt(12), rel=0.2)


def test_the_seed_decides() -> None:
    box = Box(20, 30, 59, 89)
    first, again, other = (box_at_overlap(box, 0.5, np.random.default_rng(s), SHAPE) for s in (1, 1, 2))
    assert first == again != other


def test_full_overlap_is_the_box_itself(rng: np.random.Generator) -> None:
    assert box_at_overlap(Box(1, 2, 9, 8), 1.0, rng, SHAPE) == Box(1, 2, 9, 8)


@pytest.mark.parametrize("iou", [0.0, -0.5, 1.5, math.nan])
def test_impossible_overlap_is_refused(iou: float, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="overlap"):
        box_at_overlap(Box(1, 2, 9, 8), iou, rng, SHAPE)


def test_one_pixel_image_has_no_other_box(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="1 x 1 image"):
        box_at_overlap(Box(0, 0, 0, 0), 0.5, rng, (1, 1))


def test_centre_click_is_the_deepest_pixel_by_brute_force(rng: np.random.Generator) -> None:
    for _ in range(5):
        mask = rng.random((9, 11)) < 0.8
        point = centre_click(mask)
        outside = [
            (y, x) for y in range(-1, 10) for x in range(-1, 12) if not (0 <= y < 9 and 0 <= x < 11 and mask[y, x])
        ]
        depth = {
            (y, x): min(math.hypot(y - v, x - u) for v, u in outside) for y, x in zip(*np.nonzero(mask), strict=True)
        }
        best = max(depth.values())
        assert (point.y, point.x) == min(p for p, d in depth.items() if d == pytest.approx(best))
        assert point.positive


def test_centre_click_stays_away_from_the_image_border() -> None:
    assert centre_click(np.ones((9, 9), bool)) == centre_click(np.ones((9, 9), np.uint8)) != centre_click(np.eye(9) > 0)
    assert (centre_click(np.ones((9, 9), bool)).y, centre_click(np.ones((9, 9), bool)).x) == (4.0, 4.0)


def test_random_click_is_uniform_over_the_mask(rng: np.random.Generator) -> None:
    mask = np.zeros((5, 5), bool)
    mask[1, 1:4] = mask[3, 3] = True
    clicks = [(p.y, p.x) for p in (random_click(mask, rng) for _ in range(400))]
    counts = {place: clicks.count(place) for place in set(clicks)}
    assert set(counts) == {(1, 1), (1, 2), (1, 3), (3, 3)}
    assert min(counts.values()) > 60


def test_clicks_need_an_object(rng: np.random.Generator) -> None:
    for click in (centre_click, lambda mask: random_click(mask, rng)):
        with pytest.raises(InputError, match="at least one pixel"):
            click(np.zeros((4, 4), bool))
