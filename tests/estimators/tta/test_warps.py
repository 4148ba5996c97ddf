"""Where pixels, prompts and logits go under a warp, and that they come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_uncertsam.estimators.tta.warps import SYMMETRIES, SmallWarp, Symmetry
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.view import View

sides = st.integers(1, 400)
symmetries = st.sampled_from(SYMMETRIES)
resolutions = st.sampled_from([64, 256, 1024])


def numbers(prompts: Prompts) -> list[float]:
    box = prompts.box or Box(0, 0, 0, 0)
    return [box.y0, box.x0, box.y1, box.x1, *(v for p in prompts.points for v in (p.y, p.x))]


def test_there_are_eight_and_each_has_its_inverse() -> None:
    array = np.arange(6).reshape(2, 3)
    seen = {(s.moved(array).shape, s.moved(array).tobytes()) for s in SYMMETRIES}
    assert len(seen) == 8
    assert SYMMETRIES[0] == Symmetry()
    for s in SYMMETRIES:
        np.testing.assert_array_equal(s.inverse.moved(s.moved(array)), array)
        assert s.moved(array).shape == s.shape((2, 3))
    turns = [np.rot90(array, k) for k in range(4)]
    made = [s.moved(array) for s in SYMMETRIES]
    assert all(any(np.array_equal(turn, m) for m in made) for turn in turns)


@given(
    height=sides, width=sides, corners=st.tuples(*[st.floats(0, 1)] * 4), symmetry=symmetries, resolution=resolutions
)
def test_prompts_land_where_the_same_pixels_would_be_prompted(
    height: int, width: int, corners: tuple[float, ...], symmetry: Symmetry, resolution: int
) -> None:
    """The other route: move the marked pixels, then say where they are on the moved image."""
    y0, x0, y1, x1 = (int(c * (n - 1)) for c, n in zip(corners, (height, width) * 2, strict=True))
    mask, dot = np.zeros((height, width), bool), np.zeros((height, width), bool)
    mask[min(y0, y1) : max(y0, y1) + 1, min(x0, x1) : max(x0, x1) + 1] = True
    dot[y0, x1] = True

    def prompts_of(mask: np.ndarray, dot: np.ndarray) -> Prompts:
        [(y, x)] = np.argwhere(dot)
        return View.whole(*mask.shape).prompts_to_view(Prompts((Point(y, x, False),), Box.of_mask(mask)), resolution)

    moved = symmetry.prompts(prompts_of(mask, dot), (height, width), resolution)
    expected = prompts_of(symmetry.moved(mask), symmetry.moved(dot))
    assert not moved.points[0].positive
    np.testing.assert_allclose(numbers(moved), numbers(expected), atol=1e-9 * max(height, width))


@given(
    height=sides,
    width=sides,
    corners=st.tuples(*[st.floats(-0.2, 1.2)] * 6),
    symmetry=symmetries,
    resolution=resolutions,
)
def test_prompts_go_there_and_back(
    height: int, width: int, corners: tuple[float, ...], symmetry: Symmetry, resolution: int
) -> None:
    y0, x0, y1, x1, y, x = (c * n for c, n in zip(corners, (height, width) * 3, strict=True))
    mask = MaskPrompt(np.arange(12, dtype=np.float32).reshape(3, 4))
    given_prompts = Prompts((Point(y, x), Point(x, y, False)), Box(y0, x0, y1, x1), mask)
    there = symmetry.prompts(given_prompts, (height, width), resolution)
    back = symmetry.inverse.prompts(there, symmetry.shape((height, width)), resolution)
    np.testing.assert_allclose(numbers(back), numbers(given_prompts), atol=1e-9 * max(height, width))
    assert back.mask == mask
    assert [p.positive for p in back.points] == [True, False]
    logits = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    np.testing.assert_array_equal(symmetry.back(symmetry.moved(logits), (height, width), np.zeros_like(logits)), logits)


def test_no_prompts_stay_none() -> None:
    for warp in (*SYMMETRIES, SmallWarp(7.0, 1.1)):
        assert warp.prompts(Prompts(), (10, 20), 64) == Prompts()


def test_a_small_warp_that_does_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    same, shape = SmallWarp(0.0), (30, 50)
    np.testing.assert_array_equal(same.image(image, shape), image)
    given_prompts = Prompts((Point(3, 40),), Box(4, 5, 20, 30), MaskPrompt(np.eye(8)))
    moved = same.prompts(given_prompts, shape, 64)
    np.testing.assert_allclose(numbers(moved), numbers(given_prompts))
    assert moved.mask is not None
    np.testing.assert_allclose(moved.mask.logits, np.eye(8), atol=1e-5)
    logits = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    np.testing.assert_allclose(same.back(logits, shape, np.full((16, 16), 99, np.float32)), logits, atol=1e-5)


@pytest.mark.parametrize("warp", [SmallWarp(10.0, 0.85), SmallWarp(-10.0, 1.15), SmallWarp(4.0, 1.0)])
@pytest.mark.parametrize("shape", [(120, 120), (90, 200)])
def test_a_small_warp_turns_pixels_about_the_centre(warp: SmallWarp, shape: tuple[int, int]) -> None:
    """The other route: scipy's affine transform in pixel coordinates, and blobs whose centres are measured."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    y, x = 0.6 * shape[0], 0.35 * shape[1]
    blob = 250 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 6.0**2))
    image = np.repeat(blob.astype(np.uint8)[..., None], 3, 2)
    warped = warp.image(image, shape)
    angle, centre = np.deg2rad(warp.degrees), (np.array(shape) - 1) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * warp.scale
    back = np.linalg.inv(turn)
    expected = ndimage.affine_transform(image[..., 0].astype(float), back, centre - back @ centre, order=1)
    assert np.abs(warped[..., 0] - expected).max() <= 1
    prompt = View.whole(*shape).prompts_to_view(Prompts((Point(y, x),)), 256)
    moved = View.whole(*shape).prompts_to_slice(warp.prompts(prompt, shape, 256), 256).points[0]
    np.testing.assert_allclose((moved.y, moved.x), ndimage.center_of_mass(warped[..., 0].astype(float)), atol=0.1)


@pytest.mark.parametrize("shape", [(200, 200), (150, 260)])
@pytest.mark.parametrize("degrees", [-10.0, 8.0])
def test_the_box_of_an_ellipse_stays_tight(shape: tuple[int, int], degrees: float) -> None:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    ellipse = ((rows - 90) / 25) ** 2 + ((columns - 110) / 55) ** 2 <= 1
    warp, view = SmallWarp(degrees, 1.1), View.whole(*shape)
    image = np.repeat(ellipse.astype(np.uint8)[..., None] * 200, 3, 2)
    expected = Box.of_mask(warp.image(image, shape)[..., 0] > 100)
    prompt = view.prompts_to_view(Prompts(box=Box.of_mask(ellipse)), 512)
    moved = view.prompts_to_slice(warp.prompts(prompt, shape, 512), 512)
    np.testing.assert_allclose(numbers(moved), numbers(Prompts(box=expected)), atol=1.5)


@given(
    height=st.integers(8, 400),
    width=st.integers(8, 400),
    y=st.floats(0.3, 0.7),
    x=st.floats(0.3, 0.7),
    degrees=st.floats(-10, 10),
    scale=st.floats(0.85, 1.15),
)
def test_points_of_a_small_warp_go_there_and_back(
    height: int, width: int, y: float, x: float, degrees: float, scale: float
) -> None:
    # A point in the middle stays in sight unless the view is so long that a turn takes it out.
    y = 0.5 + (y - 0.5) * min(1, width / height)
    x = 0.5 + (x - 0.5) * min(1, height / width)
    warp, prompt = SmallWarp(degrees, scale), Prompts((Point(y * height, x * width),))
    there = warp.prompts(prompt, (height, width), 256)
    back = warp.inverse.prompts(there, (height, width), 256)
    np.testing.assert_allclose(numbers(back), numbers(prompt), atol=1e-8 * max(height, width))


def test_logits_of_a_small_warp_come_back_to_their_place() -> None:
    rows, columns = np.mgrid[:64, :64]
    logits = (6 - 0.02 * ((rows - 25) ** 2 + (columns - 36) ** 2)).astype(np.float32)
    warp, shape = SmallWarp(9.0, 1.15), (100, 160)
    mask = warp.prompts(Prompts(mask=MaskPrompt(logits)), shape, 256).mask
    assert mask is not None
    unseen = np.full((64, 64), 77, np.float32)
    back = warp.back(mask.logits, shape, unseen)
    hidden = back == 77
    assert 0.1 < hidden.mean() < 0.5
    assert hidden[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert not hidden[16:48, 16:48].any()
    inner = ndimage.binary_erosion(~hidden, iterations=2)
    assert np.abs(back - logits)[inner].max() < 0.1


def test_what_leaves_the_view_is_held_at_its_border() -> None:
    warp, shape, resolution = SmallWarp(0.0, 1.15), (100, 100), 100
    whole = View.whole(*shape).prompts_to_view(Prompts((Point(0, 99),), Box(0, 0, 99, 99)), resolution)
    moved = View.whole(*shape).prompts_to_slice(warp.prompts(whole, shape, resolution), resolution)
    np.testing.assert_allclose(numbers(moved), [0, 0, 99, 99, -0.5, 99.5], atol=1e-9)
    dot = SmallWarp(0.0, 0.85).prompts(Prompts(box=Box(50, 50, 50, 50)), shape, resolution).box
    assert dot is not None
    assert (dot.y0, dot.x0) == (dot.y1, dot.x1)
