"""Masks on grids over views: against linear functions, brute force and the view's own resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_uncertsam.prompts import Box
from napari_uncertsam.propagation.grids import (
    area_px,
    box_on_slice,
    cell_mm,
    following,
    moved,
    regridded,
    signed_distance,
    touching,
)
from napari_uncertsam.view import View

views = st.builds(View, st.integers(-30, 60), st.integers(-30, 60), st.integers(8, 90), st.integers(8, 90))
grids = st.tuples(st.integers(2, 20), st.integers(2, 20))


def places(view: View, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Slice coordinates of the centres of the cells, by the view."""
    found = [[view.point_to_slice(y, x, grid) for x in range(grid[1])] for y in range(grid[0])]
    y, x = np.moveaxis(np.array(found), -1, 0)
    return y, x


@given(views, views, grids, st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-5, 5)))
def test_moved_keeps_a_linear_function_of_the_slice(
    old: View, new: View, grid: tuple[int, int], plane: tuple[float, float, float]
) -> None:
    def level(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return plane[0] * y + plane[1] * x + plane[2]

    out = moved(level(*places(old, grid)).astype(np.float32), old, new)
    y, x = places(new, grid)
    # Beyond the outermost cells of the old view their values are repeated.
    y, x = (
        v.clip(low.min(), low.max()) for v, low in zip((y, x), places(old, grid), strict=True)
    )  # the centres of the first and last cells
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, level(y, x), atol=2e-3)


@given(views, st.integers(-3, 3), st.integers(-3, 3), arrays(np.float32, (9, 7), elements=st.floats(-9, 9, width=32)))
def test_moved_by_whole_cells_there_and_back(view: View, down: int, right: int, values: np.ndarray) -> None:
    height, width = values.shape
    old = View(view.top, view.left, 4 * height, 3 * width)
    new = View(old.top + 4 * down, old.left + 3 * right, old.height, old.width)
    assert moved(values, old, old) is values
    there = moved(values, old, new)
    rows, columns = (np.arange(n) + d for n, d in ((height, down), (width, right)))
    np.testing.assert_allclose(
        there, values[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)], atol=1e-4, rtol=1e-5
    )
    back = moved(there, new, old)
    kept = (slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0)))
    np.testing.assert_allclose(back[kept], values[kept], atol=1e-4, rtol=1e-5)


def test_a_disc_comes_back_from_another_view() -> None:
    grid, old, new = (64, 64), View(10, 20, 64, 64), View(4, 12, 90, 90)
    y, x = places(old, grid)
    level = (15 - np.hypot(y - 40, x - 50)).astype(np.float32)
    there = moved(level, old, new)
    y, x = places(new, grid)
    inside = np.hypot(y - 40, x - 50) < 15
    assert ((there > 0) != inside).mean() < 0.005
    np.testing.assert_allclose(moved(there, new, old)[8:-8, 8:-8], level[8:-8, 8:-8], atol=1)


def test_regridded_is_the_resampling_of_a_whole_view(rng: np.random.Generator) -> None:
    values = rng.normal(size=(12, 16)).astype(np.float32)
    assert regridded(values, (12, 16)) is values
    np.testing.assert_allclose(regridded(values, (5, 7)), View.whole(12, 16).map_from_slice(values, (5, 7)), atol=1e-6)
    np.testing.assert_allclose(regridded(values, (30, 40)), View.whole(30, 40).local_map(values, 30, 40), atol=1e-5)
    assert regridded(np.full((9, 9), 3, np.float32), (4, 13)) == pytest.approx(3)


def test_size_of_a_cell() -> None:
    assert cell_mm(View(5, 5, 32, 64), (16, 16), (3.0, 0.5)) == (6.0, 2.0)


@given(
    arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(2, 7))), st.tuples(st.floats(0.2, 5), st.floats(0.2, 5))
)
def test_signed_distance_is_that_to_the_nearest_cell_of_the_other_kind(
    mask: np.ndarray, cell: tuple[float, float]
) -> None:
    found = signed_distance(mask, cell)
    assert found.dtype == np.float32
    if mask.all() or not mask.any():
        assert (found == (1000 if mask.any() else -1000)).all()
        return
    half = (cell[1] if mask.shape[0] == 1 else min(cell)) / 2
    at = np.argwhere(np.ones_like(mask)) * cell
    away = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
    other = mask.ravel()[:, None] != mask.ravel()[None]
    nearest = np.where(other, away, np.inf).min(1) - half
    np.testing.assert_allclose(found.ravel(), np.where(mask.ravel(), nearest, -nearest), rtol=1e-5, atol=1e-5)
    assert ((found > 0) == mask).all()


def test_only_what_overlaps_is_kept() -> None:
    mask = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 1, 0, 0]], bool)
    before = np.array([[1, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]], bool)
    expected = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    assert np.array_equal(touching(mask, before), expected)
    assert not touching(mask, ~mask).any()
    assert not touching(np.zeros_like(mask), before).any()


def test_area_in_pixels_of_the_slice() -> None:
    mask = np.zeros((16, 16), bool)
    assert area_px(mask, View(0, 0, 32, 48)) == 6  # at least a cell
    mask[4:8, 2:10] = True
    assert area_px(mask, View(0, 0, 32, 48)) == 32 * 6


def test_box_of_a_mask_on_the_slice() -> None:
    mask = np.zeros((16, 16), bool)
    mask[4:8, 2:10] = True
    # Cells are 2 x 3 pixels; the box is that of the pixels' centres, inclusive.
    assert box_on_slice(mask, View(100, 50, 32, 48)) == Box(108, 56, 115, 79)


SLICE, SPACING = (200, 200), (1.0, 1.0)
LOOKING = View(60, 60, 80, 80)


def test_a_view_is_kept_while_the_object_is_well_inside() -> None:
    assert following(LOOKING, Box(76, 76, 122, 122), SLICE, SPACING) == LOOKING


@pytest.mark.parametrize("box", [Box(63, 80, 110, 120), Box(80, 63, 110, 120), Box(80, 80, 138, 120)])
def test_a_view_follows_an_object_to_its_border(box: Box) -> None:
    found = following(LOOKING, box, SLICE, SPACING)
    assert found == View.around(box, *SLICE) != LOOKING
    assert following(found, box, SLICE, SPACING) == found


def test_a_view_is_left_for_a_smaller_one() -> None:
    small = Box(95, 95, 106, 106)
    assert following(LOOKING, small, SLICE, SPACING) == View.around(small, *SLICE)
    assert following(LOOKING, small, SLICE, SPACING, zoom=6.0) == LOOKING


def test_beyond_the_border_of_the_slice_there_is_nothing_to_follow() -> None:
    corner = View(0, 0, 80, 80)
    assert following(corner, Box(0, 0, 48, 48), SLICE, SPACING) == corner
    far = View(120, 120, 80, 80)
    assert following(far, Box(150, 150, 199, 199), SLICE, SPACING) == far


@given(
    st.tuples(st.integers(0, 150), st.integers(0, 150)),
    st.tuples(st.integers(4, 49), st.integers(4, 49)),
    st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)),
)
def test_a_view_that_follows_holds_the_box(
    at: tuple[int, int], size: tuple[int, int], spacing: tuple[float, float]
) -> None:
    box = Box(*at, at[0] + size[0], at[1] + size[1])
    view = following(LOOKING, box, SLICE, spacing)
    assert view.top <= box.y0
    assert view.left <= box.x0
    assert view.top + view.height > box.y1
    assert view.left + view.width > box.x1
