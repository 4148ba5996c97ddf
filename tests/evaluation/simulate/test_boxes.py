"""Simulated boxes keep what they promise, wherever the object lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate import TOLERANCE, box_at_overlap, noisy_box
from napari_uncertsam.evaluation.simulate.boxes import Overlap, overlap_of
from napari_uncertsam.prompts import Box

SHAPE = (96, 128)
INSIDE = Box(0, 0, SHAPE[0] - 1, SHAPE[1] - 1)


@st.composite
def boxes(draw: st.DrawFn, smallest: int = 4) -> Box:
    """Boxes of whole pixels inside the image, those that fill it included."""
    y0, x0 = draw(st.integers(0, SHAPE[0] - smallest)), draw(st.integers(0, SHAPE[1] - smallest))
    y1, x1 = draw(st.integers(y0 + smallest, SHAPE[0])), draw(st.integers(x0 + smallest, SHAPE[1]))
    return Box(y0, x0, y1 - 1, x1 - 1)


def pixels(box: Box) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[int(box.y0) : int(box.y1) + 1, int(box.x0) : int(box.x1) + 1] = True
    return mask


@given(
    box=boxes(),
    overlap=st.sampled_from([0.25, 0.5, 0.75, 0.9, 0.95, 0.99]) | st.floats(0.05, 1),
    by=st.sampled_from(["iou", "coverage"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_overlap_is_the_one_asked_for(box: Box, overlap: float, by: Overlap, seed: int) -> None:
    drawn = box_at_overlap(box, overlap, np.random.default_rng(seed), SHAPE, by)
    assert abs(overlap_of(drawn, box, by) - overlap) <= TOLERANCE
    assert drawn.union(INSIDE) == INSIDE


@given(first=boxes(smallest=1), second=boxes(smallest=1))
def test_overlaps_are_those_of_the_pixels(first: Box, second: Box) -> None:
    a, b = pixels(first), pixels(second)
    assert overlap_of(first, second, "iou") == pytest.approx((a & b).sum() / (a | b).sum())
    assert overlap_of(first, second, "coverage") == pytest.approx((a & b).sum() / b.sum())


@given(box=boxes(), t=st.floats(0, 1), axis=st.sampled_from([0, 1]))
def test_a_shift_along_one_axis_has_a_closed_form(box: Box, t: float, axis: int) -> None:
    dy, dx = (t * box.height, 0.0) if axis == 0 else (0.0, t * box.width)
    moved = Box(box.y0 + dy, box.x0 + dx, box.y1 + dy, box.x1 + dx)
    assert overlap_of(moved, box, "iou") == pytest.approx((1 - t) / (1 + t), abs=1e-9)
    assert overlap_of(moved, box, "coverage") == pytest.approx(1 - t, abs=1e-9)


def test_a_coverage_asks_for_a_larger_shift_than_the_same_iou(rng: np.random.Generator) -> None:
    box = Box(400, 400, 499, 599)
    far = {
        by: np.mean([math.dist(box_at_overlap(box, 0.5, rng, (1000, 1000), by).centre, box.centre) for _ in range(200)])
        for by in ("iou", "coverage")
    }
    # Along one axis: 1/2 of the side against 1/3.
    assert far["coverage"] > 1.2 * far["iou"]


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


@pytest.mark.parametrize("by", ["iou", "coverage"])
@pytest.mark.parametrize("overlap", [0.0, -0.5, 1.5, math.nan])
def test_impossible_overlap_is_refused(overlap: float, by: Overlap, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="overlap"):
        box_at_overlap(Box(1, 2, 9, 8), overlap, rng, SHAPE, by)


def test_one_pixel_image_has_no_other_box(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="1 x 1 image"):
        box_at_overlap(Box(0, 0, 0, 0), 0.5, rng, (1, 1))


@given(box=boxes(), seed=st.integers(0, 2**32 - 1))
def test_noise_is_bounded_by_the_side_and_by_twenty_pixels_of_the_frame(box: Box, seed: int) -> None:
    drawn = noisy_box(box, np.random.default_rng(seed), SHAPE)
    largest = [min(0.1 * side, 20 / 1024 * n) for side, n in zip((box.height, box.width), SHAPE, strict=True)]
    for name, bound in (("y0", largest[0]), ("y1", largest[0]), ("x0", largest[1]), ("x1", largest[1])):
        # Cutting off at the border and sides of at least 4 pixels only ever move a coordinate back.
        assert abs(getattr(drawn, name) - getattr(box, name)) <= bound + 1e-9
    assert drawn.union(INSIDE) == INSIDE


@pytest.mark.parametrize(
    ("box", "shape", "rows", "columns"),
    [
        (Box(300, 300, 399, 399), (1024, 1024), 10, 10),
        (Box(300, 300, 699, 699), (1024, 1024), 20, 20),
        (Box(300, 300, 699, 1699), (1024, 2048), 20, 40),
        (Box(100, 100, 399, 399), (512, 512), 10, 10),
    ],
)
def test_noise_is_uniform_in_the_frame_that_the_image_is_squashed_to(
    box: Box, shape: tuple[int, int], rows: float, columns: float, rng: np.random.Generator
) -> None:
    drawn = [noisy_box(box, rng, shape) for _ in range(500)]
    moved = np.array([(b.y0 - box.y0, b.y1 - box.y1, b.x0 - box.x0, b.x1 - box.x1) for b in drawn])
    bounds = np.array([rows, rows, columns, columns])
    assert (np.abs(moved) <= bounds).all()
    assert moved.std(0) == pytest.approx(bounds / math.sqrt(3), rel=0.1)
    assert np.abs(np.corrcoef(moved.T) - np.eye(4)).max() < 0.2
