"""Simulated clicks against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate import centre_click, error_click, random_click, random_clicks
from napari_uncertsam.evaluation.simulate.clicks import pixel_at
from napari_uncertsam.prompts import Point

Depths = dict[tuple[int, int], float]


def depths(mask: np.ndarray) -> Depths:
    """Distance of every pixel of a mask to the nearest one that is not of it, those beyond the border included."""
    height, width = mask.shape
    outside = [
        (y, x)
        for y in range(-1, height + 1)
        for x in range(-1, width + 1)
        if not (0 <= y < height and 0 <= x < width and mask[y, x])
    ]
    return {
        (int(y), int(x)): min(math.hypot(y - v, x - u) for v, u in outside)
        for y, x in zip(*np.nonzero(mask), strict=True)
    }


def deepest(found: Depths) -> tuple[float, tuple[int, int]]:
    best = max(found.values(), default=0.0)
    return best, min((place for place, depth in found.items() if depth == pytest.approx(best)), default=(0, 0))


def test_centre_click_is_the_deepest_pixel_by_brute_force(rng: np.random.Generator) -> None:
    for _ in range(5):
        mask = rng.random((9, 11)) < 0.8
        point = centre_click(mask)
        assert (point.y, point.x) == deepest(depths(mask))[1]
        assert point.positive


def test_centre_click_stays_away_from_the_image_border() -> None:
    assert centre_click(np.ones((9, 9), bool)) == centre_click(np.ones((9, 9), np.uint8)) == Point(4, 4)
    assert centre_click(np.eye(9) > 0) == Point(0, 0)


def test_random_click_is_uniform_over_the_mask(rng: np.random.Generator) -> None:
    mask = np.zeros((5, 5), bool)
    mask[1, 1:4] = mask[3, 3] = True
    clicks = [(p.y, p.x) for p in (random_click(mask, rng) for _ in range(400))]
    counts = {place: clicks.count(place) for place in set(clicks)}
    assert set(counts) == {(1, 1), (1, 2), (1, 3), (3, 3)}
    assert min(counts.values()) > 60


@given(mask=arrays(bool, (7, 9)), k=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_random_clicks_are_distinct_pixels_of_the_object(mask: np.ndarray, k: int, seed: int) -> None:
    mask[3, 4] = True
    points = random_clicks(mask, k, np.random.default_rng(seed))
    places = {(int(p.y), int(p.x)) for p in points}
    assert len(points) == len(places) == min(k, mask.sum())
    assert all(mask[place] for place in places)
    assert all(p.positive for p in points)
    assert points == random_clicks(mask, k, np.random.default_rng(seed))


def test_random_clicks_are_uniform(rng: np.random.Generator) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 1:5] = True
    counts = np.zeros(mask.shape)
    for _ in range(800):
        for point in random_clicks(mask, 3, rng):
            counts[int(point.y), int(point.x)] += 1
    # Every pixel of 8 is among 3 in 3/8 of the draws: 300 of 800, standard deviation 14.
    assert np.abs(counts[mask] - 300).max() < 4 * 14
    assert not counts[~mask].any()


def test_clicks_need_an_object(rng: np.random.Generator) -> None:
    for click in (centre_click, lambda mask: random_click(mask, rng), lambda mask: random_clicks(mask, 3, rng)):
        with pytest.raises(InputError, match="at least one pixel"):
            click(np.zeros((4, 4), bool))
    with pytest.raises(InputError, match="at least 1"):
        random_clicks(np.ones((4, 4), bool), 0, rng)


@given(
    prediction=arrays(bool, (7, 8)),
    truth=arrays(bool, (7, 8)),
    taken=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7)), max_size=20),
)
def test_error_click_by_brute_force(prediction: np.ndarray, truth: np.ndarray, taken: list[tuple[int, int]]) -> None:
    missing, excess = (depths(error) for error in (truth & ~prediction, prediction & ~truth))
    for place in taken:
        missing.pop(place, None)
        excess.pop(place, None)
    (fn, fn_place), (fp, fp_place) = deepest(missing), deepest(excess)
    expected = Point(*fn_place) if fn > fp + 1e-9 else Point(*fp_place, False) if fp > 0 else None
    assert error_click(prediction, truth, taken) == expected


def test_error_click_corrects_the_larger_of_two_errors() -> None:
    truth, prediction = np.zeros((2, 20, 40), bool)
    truth[2:18, 2:10] = prediction[2:18, 2:7] = prediction[4:16, 22:34] = True
    assert error_click(prediction, truth) == Point(9, 27, False)
    prediction[4:16, 22:34] = False
    assert error_click(prediction, truth) == Point(3, 8)
    assert error_click(prediction, truth, [(3, 8)]) == Point(4, 8)
    assert error_click(truth, truth) is None


def test_error_click_of_equal_errors_is_negative() -> None:
    truth, prediction = np.zeros((2, 5, 12), bool)
    truth[1:4, 1:4] = prediction[1:4, 7:10] = True
    assert error_click(prediction, truth) == Point(2, 8, False)


def test_error_click_refuses_masks_of_other_sizes() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        error_click(np.zeros((3, 4)), np.zeros((4, 3)))


@given(y=st.floats(-0.5, 6.5), x=st.floats(-0.5, 8.5))
def test_a_place_lies_on_the_nearest_pixel(y: float, x: float) -> None:
    row, column = pixel_at(y, x, (7, 9))
    assert 0 <= row < 7
    assert 0 <= column < 9
    assert max(abs(row - y), abs(column - x)) <= 0.5
