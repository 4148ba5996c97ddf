"""Distances between outlines: by brute force, by distance transforms, and by closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.metrics import hausdorff_distance as skimage_hausdorff

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics import hausdorff_distance, surface_dice, surface_distances

EMPTY, FULL = np.zeros((12, 17), bool), np.ones((12, 17), bool)
ONE = EMPTY.copy()
ONE[4, 9] = True

masks = hnp.arrays(bool, (7, 6))
spacings = st.tuples(st.floats(0.2, 5), st.floats(0.2, 5))


def outline(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Elements with a direct neighbour outside, by looking at every one."""
    padded, found = np.pad(mask, 1), []
    for place in zip(*np.nonzero(mask), strict=True):
        neighbours = []
        for axis in range(mask.ndim):
            for step in (-1, 1):
                index = [p + 1 for p in place]
                index[axis] += step
                neighbours.append(padded[tuple(index)])
        if not all(neighbours):
            found.append(tuple(int(p) for p in place))
    return found


def brute_force(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    first, second = ([np.multiply(p, spacing) for p in outline(m)] for m in (a, b))
    there = np.array([min(math.dist(p, q) for q in second) for p in first])
    back = np.array([min(math.dist(p, q) for q in first) for p in second])
    return there, back


@given(masks, masks, spacings)
def test_every_distance_by_brute_force(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float]) -> None:
    found = surface_distances(a, b, spacing)
    assert (found.to_truth.size, found.to_prediction.size) == (len(outline(a)), len(outline(b)))
    if a.any() and b.any():
        there, back = brute_force(a, b, spacing)
        np.testing.assert_allclose(found.to_truth, there, atol=1e-9)
        np.testing.assert_allclose(found.to_prediction, back, atol=1e-9)
        expected = max(np.percentile(there, 95), np.percentile(back, 95))
        assert hausdorff_distance(a, b, spacing) == pytest.approx(expected, abs=1e-9)
        near = (there <= 1.0).sum() + (back <= 1.0).sum()
        assert surface_dice(a, b, 1.0, spacing) == pytest.approx(near / (there.size + back.size), abs=1e-6)


def test_volumes_by_distance_transforms(rng: np.random.Generator) -> None:
    spacing = (2.5, 0.8, 0.7)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(9, 24, 30)), 2.5) > 0.02 for _ in range(2))
    shells = [m & ~ndimage.binary_erosion(m) for m in (a, b)]
    transforms = [ndimage.distance_transform_edt(~s, sampling=spacing) for s in shells]
    found = surface_distances(a, b, spacing)
    np.testing.assert_allclose(np.sort(found.to_truth), np.sort(transforms[1][shells[0]]), atol=1e-9)
    np.testing.assert_allclose(np.sort(found.to_prediction), np.sort(transforms[0][shells[1]]), atol=1e-9)


def test_the_largest_distance_is_scikit_images(rng: np.random.Generator) -> None:
    for _ in range(5):
        a, b = (ndimage.gaussian_filter(rng.normal(size=(40, 50)), 3) > 0 for _ in range(2))
        shells = [m & ~ndimage.binary_erosion(m) for m in (a, b)]
        assert hausdorff_distance(a, b, percentile=100) == pytest.approx(skimage_hausdorff(*shells))


@pytest.mark.parametrize("shift", [1, 3, 6])
def test_a_shifted_point_and_a_grown_square(shift: int) -> None:
    moved = np.roll(ONE, shift, 1)
    assert hausdorff_distance(ONE, moved, (1.0, 0.5)) == pytest.approx(0.5 * shift)
    assert surface_dice(ONE, moved, 0.5 * shift, (1.0, 0.5)) == 1.0
    assert surface_dice(ONE, moved, 0.5 * shift - 0.01, (1.0, 0.5)) == 0.0
    small, large = np.zeros((2, 40, 40), bool)
    small[15:25, 15:25], large[15 - shift : 25 + shift, 15 - shift : 25 + shift] = True, True
    assert hausdorff_distance(small, large, percentile=100) == pytest.approx(math.sqrt(2) * shift)  # at the corners


def test_empty_full_and_one_pixel() -> None:
    for mask in (EMPTY, FULL, ONE):
        assert hausdorff_distance(mask, mask) == 0.0
        assert surface_dice(mask, mask, 0.0) == 1.0
    for other in (FULL, ONE):
        assert hausdorff_distance(EMPTY, other) == hausdorff_distance(other, EMPTY) == math.inf
        assert surface_dice(EMPTY, other, 100.0) == surface_dice(other, EMPTY, 100.0) == 0.0
    # The outline of a full image is its border.
    assert surface_distances(FULL, ONE).to_truth.size == 2 * (12 + 17) - 4


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="spacing"):
        surface_distances(ONE, FULL, (1.0,))
    with pytest.raises(InputError, match="positive"):
        surface_distances(ONE, FULL, (1.0, 0.0))
    with pytest.raises(InputError, match="tolerance"):
        surface_dice(ONE, FULL, -1.0)
    with pytest.raises(InputError, match="percentile"):
        hausdorff_distance(ONE, FULL, percentile=101)
    with pytest.raises(InputError, match="differ"):
        hausdorff_distance(ONE, FULL[1:])
