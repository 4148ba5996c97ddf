"""Points, boxes and prompts as values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts, Suggestion, to_sam_points

COORDINATE = st.floats(-1000, 1000, allow_nan=False, width=32)
BOXES = st.builds(Box, COORDINATE, COORDINATE, COORDINATE, COORDINATE)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_coordinates_have_to_be_finite(bad: float) -> None:
    with pytest.raises(InputError, match=r"y = (nan|-?inf)"):
        Point(bad, 0)
    with pytest.raises(InputError, match="x1"):
        Box(0, 0, 1, bad)


def test_numpy_scalars_become_plain_values() -> None:
    point = Point(np.float32(1.5), np.int64(2), np.bool_(False))
    assert point == Point(1.5, 2.0, False)
    assert hash(point) == hash(Point(1.5, 2.0, False))
    assert [type(v) for v in (point.y, point.x, point.positive)] == [float, float, bool]
    assert type(Box(*np.arange(4)).y0) is float


@given(BOXES)
def test_corners_are_sorted_and_sides_count_both_ends(box: Box) -> None:
    assert box.y0 <= box.y1
    assert box.x0 <= box.x1
    assert box == Box(box.y1, box.x1, box.y0, box.x0) == Box(box.y1, box.x0, box.y0, box.x1)
    assert box.height == box.y1 - box.y0 + 1
    assert box.area >= 1


@given(BOXES, BOXES)
def test_overlap_is_symmetric_and_between_0_and_1(a: Box, b: Box) -> None:
    assert a.iou(a) == pytest.approx(1)
    assert a.iou(b) == pytest.approx(b.iou(a))
    assert 0 <= a.iou(b) <= 1 + 1e-9
    both = a.union(b)
    assert both.intersection(a) == pytest.approx(a.area)
    assert both.area >= max(a.area, b.area) - 1e-6


def test_overlap_counts_pixels() -> None:
    assert Box(0, 0, 9, 9).intersection(Box(5, 5, 14, 14)) == 25
    assert Box(0, 0, 9, 9).iou(Box(5, 5, 14, 14)) == 25 / 175
    assert Box(0, 0, 3, 3).intersection(Box(4, 0, 7, 3)) == 0  # neighbours share no pixel
    assert Box(0, 0, 3, 3).iou(Box(20, 20, 30, 30)) == 0


def test_box_of_a_mask() -> None:
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:8] = True
    assert Box.of_mask(mask) == Box(2, 3, 4, 7)
    mask[...] = False
    mask[7, 0] = True
    assert Box.of_mask(mask) == Box(7, 0, 7, 0)
    with pytest.raises(InputError, match="empty mask"):
        Box.of_mask(np.zeros((3, 3), bool))


def test_expanding_keeps_the_centre() -> None:
    box = Box(10, 20, 19, 39).expand(1.5)
    assert (box.height, box.width, box.centre) == (15, 30, (14.5, 29.5))
    tiny = Box(3, 3, 3, 3).expand(0.5)
    assert (tiny.height, tiny.centre) == (1, (3, 3))


@given(BOXES, st.integers(1, 300), st.integers(1, 300))
def test_clipping_keeps_what_is_inside_or_says_that_nothing_is(box: Box, height: int, width: int) -> None:
    if not box.meets(height, width):
        with pytest.raises(InputError, match=f"outside the {height} x {width} image"):
            box.clip(height, width)
        return
    clipped = box.clip(height, width)
    assert 0 <= clipped.y0 <= clipped.y1 <= height - 1
    assert 0 <= clipped.x0 <= clipped.x1 <= width - 1
    assert clipped.clip(height, width) == clipped


def test_clipping_by_example() -> None:
    assert Box(-5, -5, 3, 100).clip(10, 20) == Box(0, 0, 3, 19)
    assert Box(9.4, 0, 9.4, 0).clip(10, 10) == Box(9, 0, 9, 0)
    with pytest.raises(InputError, match="draw it over the object"):
        Box(11, 0, 20, 5).clip(10, 20)


def test_points_have_to_be_on_the_image() -> None:
    prompts = Prompts((Point(-0.5, 9.5),), Box(-1, 0, 5, 5))
    assert prompts.clipped(10, 10) == Prompts((Point(-0.5, 9.5),), Box(0, 0, 5, 5))
    with pytest.raises(InputError, match=r"point \(10, 3\) lies outside the 10 x 10 image"):
        Prompts((Point(10, 3),)).clipped(10, 10)


def test_what_is_enough_to_segment_from() -> None:
    mask = MaskPrompt(np.zeros((2, 2), np.float32))
    assert Prompts().is_empty
    assert Prompts((Point(1, 1, False),)).is_empty
    assert not Prompts((Point(1, 1, False), Point(2, 2))).is_empty
    assert not Prompts(box=Box(0, 0, 1, 1)).is_empty
    assert not Prompts(mask=mask).is_empty


def test_prompts_are_values() -> None:
    prompts = Prompts([Point(1, 2)])  # type: ignore[arg-type]
    more = prompts.with_point(Point(3, 4, False)).with_box(Box(0, 0, 5, 5))
    assert prompts.points == (Point(1, 2),)
    assert more == Prompts((Point(1, 2), Point(3, 4, False)), Box(0, 0, 5, 5))
    assert len({prompts, more, more.with_box(None)}) == 3
    with pytest.raises(AttributeError):
        prompts.box = None  # type: ignore[misc]


def test_mask_prompts_are_compared_by_content() -> None:
    logits = np.arange(6, dtype=np.float64).reshape(2, 3)
    mask = MaskPrompt(logits)
    assert mask == MaskPrompt(logits.astype(np.float32))
    assert hash(mask) == hash(MaskPrompt(logits))
    assert mask != MaskPrompt(logits.reshape(3, 2))
    assert mask != MaskPrompt(logits + 1)
    logits[0, 0] = 9
    assert mask.logits[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        mask.logits[0, 0] = 1
    assert Prompts(mask=mask) == Prompts().with_mask(mask)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 4)), np.full((2, 2), np.nan), np.full((2, 2), np.inf)])
def test_mask_prompts_are_checked(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="finite"):
        MaskPrompt(bad)


def test_sam_order_is_x_y_with_the_box_first() -> None:
    prompts = Prompts((Point(1, 2), Point(3, 4, False)), Box(5, 6, 7, 8))
    coordinates, labels = to_sam_points(prompts)
    assert coordinates.tolist() == [[6, 5], [8, 7], [2, 1], [4, 3]]
    assert labels.tolist() == [2, 3, 1, 0]
    assert (coordinates.dtype, labels.dtype) == (np.float32, np.int32)
    coordinates, labels = to_sam_points(Prompts())
    assert (coordinates.shape, labels.shape) == ((0, 2), (0,))


def test_answers_to_suggestions() -> None:
    suggestion = Suggestion("point", 3.5, 4.5, 0.6, 0.4)
    assert suggestion.answer(True) == Point(3.5, 4.5, True)
    assert suggestion.answer(False) == Point(3.5, 4.5, False)


def test_a_point_is_not_inside_and_outside_at_once() -> None:
    with pytest.raises(InputError, match="inside and as outside"):
        Prompts((Point(3, 4), Point(3, 4, positive=False))).clipped(10, 10)
