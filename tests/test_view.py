"""Views: coordinates to the crop and back, and maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.view import LARGEST_ASPECT, SMALLEST_SIDE, View, longest_side, pitches

RESOLUTION = 256
SIDES = st.integers(1, 700)


@st.composite
def images_with_boxes(draw: st.DrawFn) -> tuple[int, int, Box]:
    height, width = draw(SIDES), draw(SIDES)
    ys = [draw(st.floats(0, height - 1)) for _ in range(2)]
    xs = [draw(st.floats(0, width - 1)) for _ in range(2)]
    return height, width, Box(ys[0], xs[0], ys[1], xs[1])


VIEWS = st.builds(View, st.integers(-50, 300), st.integers(-50, 300), st.integers(1, 600), st.integers(1, 600))


def contains(view: View, box: Box) -> bool:
    seen = view.box
    return seen.y0 <= box.y0 and seen.x0 <= box.x0 and seen.y1 >= box.y1 and seen.x1 >= box.x1


@given(images_with_boxes())
def test_a_view_holds_its_box_and_the_image_where_it_is_larger(case: tuple[int, int, Box]) -> None:
    height, width, box = case
    view = View.around(box, height, width)
    assert contains(view, box)
    assert view.height == view.width <= max(height, width)
    assert view.height >= min(SMALLEST_SIDE, max(height, width))
    for start, side, length in ((view.top, view.height, height), (view.left, view.width, width)):
        if side <= length:
            assert 0 <= start <= length - side  # no padding where none is needed
        else:
            assert start <= 0
            assert start + side >= length


@given(images_with_boxes())
def test_a_grown_view_holds_the_smaller_one_and_ends_at_the_image(case: tuple[int, int, Box]) -> None:
    height, width, box = case
    view = View.around(box, height, width)
    for _ in range(20):
        grown = view.grown(height, width)
        assert grown.height >= view.height
        assert contains(grown, Box(max(view.top, 0), max(view.left, 0), *_last_pixel(view, height, width)))
        view = grown
    assert view.height == max(height, width)
    assert view.grown(height, width) == view


def _last_pixel(view: View, height: int, width: int) -> tuple[int, int]:
    return min(view.top + view.height, height) - 1, min(view.left + view.width, width) - 1


SPACINGS = st.tuples(st.floats(0.2, 9), st.floats(0.2, 9))


@given(images_with_boxes(), SPACINGS)
def test_a_view_is_square_in_millimetres(case: tuple[int, int, Box], spacing: tuple[float, float]) -> None:
    height, width, box = case
    view = View.around(box, height, width, spacing=spacing)
    assert contains(view, box)
    down, right = pitches(spacing)
    # To within a pixel of the coarser kind.
    assert abs(view.height * down - view.width * right) < max(down, right)
    assert max(view.height * down, view.width * right) < longest_side(height, width, spacing) + max(down, right)
    smallest = longest_side(height, width, spacing)
    assert view.height >= min(5, smallest / down)
    assert view.width >= min(5, smallest / right)
    for start, side, length in ((view.top, view.height, height), (view.left, view.width, width)):
        if side <= length:
            assert 0 <= start <= length - side
        else:
            assert start <= 0 <= length <= start + side
    for _ in range(20):
        grown = view.grown(height, width, spacing=spacing)
        assert contains(grown, Box(max(view.top, 0), max(view.left, 0), *_last_pixel(view, height, width)))
        view = grown
    assert contains(view, Box(0, 0, height - 1, width - 1))
    assert view.grown(height, width, spacing=spacing) == view


@given(images_with_boxes(), st.floats(0.1, 10), st.floats(0.9901, 1.0099))
def test_pixels_that_are_nearly_square_are_square(
    case: tuple[int, int, Box], millimetres: float, aspect: float
) -> None:
    height, width, box = case
    spacing = (millimetres, aspect * millimetres)
    assert View.around(box, height, width, spacing=spacing) == View.around(box, height, width)
    small = View.centred(*box.centre, 20, height, width, spacing)
    assert small == View.centred(*box.centre, 20, height, width)
    assert small.grown(height, width, spacing=spacing) == small.grown(height, width)
    assert longest_side(height, width, spacing) == max(height, width)


@given(images_with_boxes(), st.floats(1, 3))
def test_pixels_that_are_square_give_the_same_views_as_ever(case: tuple[int, int, Box], zoom: float) -> None:
    height, width, box = case
    # The rule as it was when every view had as many rows as columns: sessions and results name such views.
    wanted = max(zoom * max(box.height, box.width), SMALLEST_SIDE)
    side = min(math.ceil(2 ** (math.ceil(4 * math.log2(wanted) - 1e-9) / 4) - 1e-9), max(height, width))
    step = max(1, side // 12)
    corner = []
    for centre, length in zip(box.centre, (height, width), strict=True):
        start = round(centre / step) * step - side // 2
        corner.append(-((side - length) // 2) if side >= length else min(max(start, 0), length - side))
    assert View.around(box, height, width, zoom) == View(*corner, side, side)


def test_spacing_turned_by_a_right_angle_turns_the_view() -> None:
    view = View.around(Box(20, 100, 29, 139), 60, 512, spacing=(3.0, 1.5))
    turned = View.around(Box(100, 20, 139, 29), 512, 60, spacing=(1.5, 3.0))
    assert (view.top, view.left, view.height, view.width) == (turned.left, turned.top, turned.width, turned.height)
    assert (view.height, view.width) == (32, 64)
    assert pitches((0.5, 50.0)) == (1, LARGEST_ASPECT)


def test_nudging_a_box_keeps_the_view() -> None:
    box = Box(200, 200, 259, 249)
    views = {View.around(Box(200 + k, 200, 259 + k, 249), 1000, 1000) for k in np.linspace(-3, 3, 25)}
    assert len(views) <= 2
    assert len({View.around(Box(200, 200, 259 + k, 249), 1000, 1000).height for k in range(-2, 6)}) == 1
    # Over a long way, one view per twelfth of its side.
    side = View.around(box, 1000, 1000).height
    swept = {View.around(Box(200 + k, 200, 259 + k, 249), 1000, 1000) for k in range(200)}
    assert len(swept) <= 200 / (side // 12) + 2


@given(VIEWS, st.floats(0, 300), st.floats(0, 300), st.sampled_from([256, 512, 1024]))
def test_points_go_to_the_view_and_back(view: View, y: float, x: float, resolution: int) -> None:
    prompts = Prompts((Point(y, x, False), Point(x, y)))
    back = view.prompts_to_slice(view.prompts_to_view(prompts, resolution), resolution)
    assert [p.positive for p in back.points] == [False, True]
    assert np.allclose([(p.y, p.x) for p in back.points], [(y, x), (x, y)], atol=1e-9)


@given(VIEWS, st.floats(0, 300), st.floats(0, 300), st.floats(0, 200), st.floats(0, 200))
def test_boxes_go_to_the_view_and_back(view: View, y: float, x: float, height: float, width: float) -> None:
    box = Box(y, x, y + height, x + width)
    inner = view.prompts_to_view(Prompts(box=box), RESOLUTION).box
    assert inner is not None
    back = view.prompts_to_slice(Prompts(box=inner), RESOLUTION).box
    assert back is not None
    for low, high, low_back, high_back, scale in (
        (box.y0, box.y1, back.y0, back.y1, view.height / RESOLUTION),
        (box.x0, box.x1, back.x0, back.x1, view.width / RESOLUTION),
    ):
        if high - low + 1 >= scale:
            assert (low_back, high_back) == pytest.approx((low, high), abs=1e-9)
        else:  # narrower than a pixel of the model: as wide as one, about the same centre
            assert high_back - low_back + 1 == pytest.approx(scale)
            assert low_back + high_back == pytest.approx(low + high, abs=1e-6)


@given(VIEWS, st.integers(0, 599), st.integers(0, 599))
def test_a_pixel_of_the_crop_lands_in_the_centre_of_its_model_pixels(view: View, row: int, column: int) -> None:
    assume(row < view.height and column < view.width)
    point = view.prompts_to_view(Prompts((Point(view.top + row, view.left + column),)), RESOLUTION).points[0]
    # The engine scales by resolution / size; SAM 2's prompt encoder adds half a pixel and divides by the resolution.
    seen = np.array([point.y / view.height, point.x / view.width]) * RESOLUTION + 0.5
    assert np.allclose(seen / RESOLUTION, [(row + 0.5) / view.height, (column + 0.5) / view.width])


@given(VIEWS)
def test_the_box_of_the_whole_view_runs_from_the_first_to_the_last_model_pixel(view: View) -> None:
    box = view.prompts_to_view(Prompts(box=view.box), RESOLUTION).box
    assert box is not None
    corners = (
        np.array([box.y0, box.y1]) / view.height * RESOLUTION,
        np.array([box.x0, box.x1]) / view.width * RESOLUTION,
    )
    assert np.allclose(corners, [0, RESOLUTION - 1])


def test_the_mask_prompt_is_in_the_views_frame_already() -> None:
    mask = MaskPrompt(np.ones((4, 4)))
    view = View(3, 4, 50, 60)
    assert view.prompts_to_view(Prompts(mask=mask), RESOLUTION).mask is mask
    assert view.prompts_to_slice(Prompts(mask=mask), RESOLUTION).mask is mask


@given(VIEWS, st.integers(1, 256), st.integers(1, 256))
def test_cells_and_slice_coordinates(view: View, h: int, w: int) -> None:
    y, x = view.point_to_slice(h - 1, 0, (h, w))
    assert view.slice_to_grid(y, x, (h, w)) == pytest.approx((h - 1, 0), abs=1e-9)
    whole = view.box_to_slice(Box(0, 0, h - 1, w - 1), (h, w))
    assert np.allclose([whole.y0, whole.x0, whole.y1, whole.x1], [*_corners(view.box)])


def _corners(box: Box) -> tuple[float, float, float, float]:
    return box.y0, box.x0, box.y1, box.x1


@pytest.mark.parametrize("view", [View(10, 20, 100, 80), View(-7, 40, 96, 96), View(100, 90, 40, 50), View(5, 6, 7, 9)])
def test_a_map_of_coordinates_reproduces_them(view: View) -> None:
    height, width, grid = 128, 130, (64, 64)
    coordinates = np.array([[view.point_to_slice(y, x, grid) for x in range(64)] for y in range(64)], np.float32)
    rows, columns = view.inside(height, width)
    expected = np.mgrid[rows, columns]
    # Within half a cell, or two pixels, of the border the outermost value is repeated.
    reach = [max(2, -(-n // 64)) for n in (view.height, view.width)]
    for axis in (0, 1):
        local = view.local_map(coordinates[..., axis], height, width)
        assert local.shape == expected[axis].shape
        inner = (np.mgrid[rows, columns][0] >= view.top + reach[0]) & (expected[1] >= view.left + reach[1])
        inner &= (expected[0] < view.top + view.height - reach[0]) & (expected[1] < view.left + view.width - reach[1])
        assert inner.any()
        # Torch's antialiasing samples its triangle at whole cells: not exact, but within a tenth of a pixel.
        assert np.allclose(local[inner], expected[axis][inner], atol=0.07 if view.height < 64 else 1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(100, 90), (64, 64), (300, 40), (20, 33)])
def test_whole_views_are_sams_own_upsampling(shape: tuple[int, int], rng: np.random.Generator) -> None:
    values = rng.normal(size=(64, 64)).astype(np.float32)
    local = View.whole(*shape).local_map(values, *shape)
    smaller = shape[0] < 64 or shape[1] < 64
    wanted = F.interpolate(torch.tensor(values)[None, None], shape, mode="bilinear", antialias=smaller)[0, 0].numpy()
    assert np.array_equal(local, wanted)
    assert local.dtype == np.float32


def test_maps_are_checked_and_read_only_input_is_fine() -> None:
    values = np.zeros((4, 4), np.float32)
    values.setflags(write=False)
    assert View(0, 0, 8, 8).local_map(values, 8, 8).shape == (8, 8)
    with pytest.raises(InputError, match=r"\(h, w\)"):
        View(0, 0, 8, 8).local_map(np.zeros((1, 4, 4), np.float32), 8, 8)


@given(VIEWS, st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(max_examples=50)
def test_beyond_the_border_the_edge_is_repeated(view: View, height: int, width: int, colour: bool) -> None:
    image = np.arange(height * width * 3, dtype=np.int32).reshape(height, width, 3)
    image = image if colour else image[..., 0]
    crop = view.crop(image)
    assert crop.shape[:2] == (view.height, view.width)
    for row, column in ((0, 0), (view.height - 1, view.width // 2), (view.height // 3, view.width - 1)):
        y, x = np.clip(view.top + row, 0, height - 1), np.clip(view.left + column, 0, width - 1)
        assert np.array_equal(crop[row, column], image[y, x])


def test_a_crop_inside_the_image_is_not_copied() -> None:
    image = np.zeros((50, 60), np.int16)
    assert np.shares_memory(View(5, 6, 20, 30).crop(image), image)
    assert np.shares_memory(View.whole(50, 60).crop(image, 60), image)


def test_huge_crops_are_thinned_out_evenly() -> None:
    image = np.add.outer(np.arange(1000), np.zeros(700, int))
    crop = View.whole(1000, 700).crop(image, 300)
    assert crop.shape == (300, 300)
    assert np.abs(crop[:, 0] - ((np.arange(300) + 0.5) * 1000 / 300 - 0.5)).max() <= 1
    assert np.array_equal(crop[:, 0], 999 - crop[::-1, 0]) or np.abs(crop[:, 0] + crop[::-1, 0] - 999).max() <= 1
    over = View(-500, 0, 2000, 700).crop(image, 100)
    assert (over[:25] == 0).all()
    assert (over[75:] == 999).all()


def test_a_slice_sized_map_into_cells() -> None:
    view, grid = View(16, 32, 128, 128), (64, 64)
    ramp = np.mgrid[:200, :200][1].astype(np.float32)
    cells = view.map_from_slice(ramp, grid)
    expected = [view.point_to_slice(0, x, grid)[1] for x in range(64)]
    assert np.allclose(cells[5, 2:-2], expected[2:-2], atol=1e-3)
    over = View(-100, 0, 300, 200).map_from_slice(np.full((50, 200), 3.0, np.float32), grid)
    assert np.allclose(over, 3)


def test_views_are_checked() -> None:
    assert View(np.int64(1), 2, 3, 4) == View(1, 2, 3, 4)
    with pytest.raises(InputError, match="shows nothing"):
        View(0, 0, 0, 5)
    with pytest.raises(TypeError):
        View(0, 0, 2.5, 5)  # type: ignore[arg-type]
    assert View(-5, -5, 6, 6).meets(10, 10)
    assert not View(-5, 0, 5, 5).meets(10, 10)
    assert not View(0, 10, 5, 5).meets(10, 10)
    assert View(-2, 3, 5, 20).inside(10, 10) == (slice(0, 3), slice(3, 10))
