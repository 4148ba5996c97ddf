"""Components and colours against brute force and OpenCV; the CT window by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_uncertsam.evaluation.datasets.prepare import segvol_window, split_colours, split_components

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def neighbours(shape: tuple[int, int], y: int, x: int) -> list[tuple[int, int]]:
    """A pixel and its eight neighbours inside the image."""
    rows, columns = range(max(y - 1, 0), min(y + 2, shape[0])), range(max(x - 1, 0), min(x + 2, shape[1]))
    return [(v, u) for v in rows for u in columns]


def components_by_hand(mask: np.ndarray, min_pixels: int, closings: int) -> list[np.ndarray]:
    """Closing pixel by pixel, and a flood fill."""
    closed = mask.copy()
    for reduce in (any, all):
        for _ in range(closings):
            before = closed.copy()
            for y, x in np.ndindex(mask.shape):
                closed[y, x] = reduce(before[p] for p in neighbours(mask.shape, y, x))
    parts, seen = [], np.zeros(mask.shape, bool)
    for start in np.ndindex(mask.shape):
        if not closed[start] or seen[start]:
            continue
        part, todo = np.zeros(mask.shape, bool), [start]
        seen[start] = True
        while todo:
            pixel = todo.pop()
            part[pixel] = mask[pixel]
            for other in neighbours(mask.shape, *pixel):
                if closed[other] and not seen[other]:
                    seen[other] = True
                    todo.append(other)
        if part.sum() > min_pixels:
            parts.append(part)
    return parts


@given(masks, st.integers(0, 8), st.integers(0, 3))
def test_components_are_those_of_a_flood_fill(mask: np.ndarray, min_pixels: int, closings: int) -> None:
    expected = components_by_hand(mask, min_pixels, closings)
    found = split_components(mask, min_pixels=min_pixels, closings=closings)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(5))
def test_components_are_opencv_s(seed: int) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(150, 170)), (0, 0), 3)
    mask = noise > np.quantile(noise, 0.7)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8), iterations=2)
    count, labels = cv2.connectedComponents(closed)
    expected = [part for value in range(1, count) if (part := (labels == value) & mask).sum() > 200]
    found = split_components(mask, min_pixels=200)
    assert len(found) == len(expected) > 1
    assert {part.tobytes() for part in found} == {part.tobytes() for part in expected}


def test_components_are_scikit_image_s_without_closing() -> None:
    from skimage.measure import label

    mask = np.random.default_rng(0).random((60, 80)) > 0.6
    labels = label(mask, connectivity=2)
    expected = {(labels == v).tobytes() for v in range(1, labels.max() + 1) if (labels == v).sum() > 20}
    assert {p.tobytes() for p in split_components(mask, min_pixels=20, closings=0)} == expected


def test_the_limit_of_1000_pixels_is_exclusive_and_counts_the_original_mask() -> None:
    mask = np.zeros((60, 160), bool)
    mask[2:42, 2:27] = True  # 1000
    mask[2:42, 40:65] = True
    mask[50, 40] = True  # apart, so it does not help
    mask[2:43, 80:105] = True
    mask[20, 90] = False  # a hole: closing fills it, but it does not count: 1024
    mask[2:42, 120:125] = mask[2:42, 128:148] = mask[45, 130] = True  # joined by closing: 1001
    parts = split_components(mask)
    assert [int(part.sum()) for part in parts] == [1024, 1001]
    assert not parts[0][20, 90]
    assert split_components(np.zeros((5, 5), bool)) == []


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)), elements=st.integers(0, 2)))
def test_one_mask_for_each_colour_but_black(colours: np.ndarray) -> None:
    found = split_colours(colours * 127)
    expected = sorted({tuple(pixel) for pixel in colours.reshape(-1, 3).tolist()} - {(0, 0, 0)})
    assert len(found) == len(expected)
    for mask, colour in zip(found, expected, strict=True):
        for y, x in np.ndindex(mask.shape):
            assert mask[y, x] == (tuple(colours[y, x].tolist()) == colour)


def test_grey_values_are_colours_and_alpha_is_none() -> None:
    grey = np.array([[0, 5, 5], [9, 0, 9]], np.uint8)
    assert [m.tolist() for m in split_colours(grey)] == [
        [[False, True, True], [False, False, False]],
        [[False, False, False], [True, False, True]],
    ]
    with_alpha = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    assert len(split_colours(with_alpha)) == 2
    assert len(split_colours(grey, min_pixels=2)) == 0
    assert len(split_colours(grey > 0)) == 1


def test_the_ct_window_is_segvol_s_normalisation_scaled_to_8_bit() -> None:
    rng = np.random.default_rng(3)
    volume = np.where(rng.random((6, 20, 30)) < 0.5, -1000, rng.normal(50, 120, (6, 20, 30))).astype(np.float32)
    # By hand, in the order of SegVol's code.
    values = volume.astype(np.float64)
    foreground = values[values > values.mean()]
    low, high = np.percentile(foreground, 0.05), np.percentile(foreground, 99.95)
    scores = (np.clip(values, low, high) - foreground.mean()) / max(foreground.std(), 1e-8)
    scaled = (scores - scores.min()) / (scores.max() - scores.min()) * 255
    window = segvol_window(volume)
    assert (window.low, window.high) == pytest.approx((low, high))
    for z in range(6):
        picture = window.apply(volume[z])[..., 0]
        assert np.abs(picture - scaled[z]).max() <= 0.501
    assert picture.min() == 0
    assert scaled.min() == 0


def test_the_ct_window_of_odd_volumes() -> None:
    constant = segvol_window(np.full((2, 3, 4), 7, np.int16))
    assert (constant.low, constant.high) == (7, 7)
    with_nan = np.array([[[0.0, 0.0, 100.0, np.nan, np.inf]]])
    assert segvol_window(with_nan).high == 100
    assert segvol_window(np.full((1, 2, 2), np.nan)).low == 0
    # The sum of 16-bit numbers does not overflow.
    big = np.full((10, 100, 100), 3000, np.int16)
    big[:5] = -1000
    assert segvol_window(big).low == 3000
