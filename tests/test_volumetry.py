"""Volumes and their intervals against sums over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.volume import Volume
from napari_uncertsam.volumetry import SliceFacts, estimate_volume, settled_px, slice_distance, voxel_mm3

SLICES = st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e3), st.floats(0, 50)), min_size=1, max_size=12)
SPACING = st.floats(0.01, 50)


@given(SLICES, st.floats(0.1, 100), st.floats(0.01, 10))
@settings(max_examples=60, deadline=None)
def test_the_variance_is_the_sum_over_all_pairs(slices: list[tuple[float, ...]], length: float, voxel: float) -> None:
    areas, sds, gaps = (np.array(v) for v in zip(*slices, strict=True))
    z = np.cumsum(gaps)
    found = estimate_volume(areas, sds, z, voxel, length_mm=length)
    covariance = sds[:, None] * sds * np.exp(-np.abs(z[:, None] - z) / length)
    half = 1.6448536269514722 * math.sqrt(covariance.sum())
    assert found.ml == pytest.approx(areas.sum() * voxel / 1000)
    assert found.high_ml == pytest.approx((areas.sum() + half) * voxel / 1000)
    assert found.low_ml == pytest.approx(max(areas.sum() - half, 0) * voxel / 1000, abs=1e-9)


def test_all_wrong_together_or_each_on_its_own() -> None:
    areas, sds, z = [100.0, 100.0, 100.0], [3.0, 4.0, 12.0], [0.0, 5.0, 10.0]
    together = estimate_volume(areas, sds, z, 1.0, length_mm=math.inf)
    alone = estimate_volume(areas, sds, z, 1.0, length_mm=0)
    assert together.high_ml - together.ml == pytest.approx(1.6448536 * 19 / 1000)
    assert alone.high_ml - alone.ml == pytest.approx(1.6448536 * 13 / 1000)
    assert estimate_volume([10.0], [100.0], [0.0], 1.0).low_ml == 0
    assert estimate_volume([10.0], [math.nan], [0.0], 1.0).low_ml == 0.01


@pytest.mark.parametrize(
    "bad", [([1.0], [], [0.0], 1.0), ([1.0, 2.0], [0.0, 0.0], [1.0, 0.0], 1.0), ([1.0], [-1.0], [0.0], 1.0)]
)
def test_what_does_not_fit_is_refused(bad: tuple[list[float], list[float], list[float], float]) -> None:
    with pytest.raises(InputError):
        estimate_volume(*bad)


def fact(index: int, uncertain_px: float) -> SliceFacts:
    return SliceFacts(index, "propagated", 0.1, 100.0, 1.0, uncertain_px, None, reviewed=False, stale=False)


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1e4)), max_size=12, unique_by=lambda s: s[0]), SPACING)
@settings(max_examples=60, deadline=None)
def test_what_a_correction_settles_is_the_sum_over_all_pairs(slices: list[tuple[int, float]], spacing: float) -> None:
    found = settled_px([fact(*s) for s in slices], spacing)
    expected = [sum(math.exp(-2 * abs(i - j) * spacing / 30) * px for j, px in slices) for i, _ in slices]
    assert found == pytest.approx(expected, abs=1e-9)


def test_an_uncertain_area_that_is_not_known_settles_nothing() -> None:
    facts = [fact(3, math.nan), fact(4, 100.0), fact(34, 7.0)]
    assert settled_px(facts, 1000.0) == pytest.approx([0, 100, 7])
    assert settled_px(facts, 1.0)[:2] == pytest.approx(
        [100 * math.exp(-2 / 30) + 7 * math.exp(-62 / 30), 100 + 7 / math.e**2]
    )
    for spacing in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="positive"):
            settled_px(facts, spacing)


def test_sheared_and_oblique_voxels() -> None:
    affine = np.diag([0.5, 0.7, 3.0, 1.0])
    affine[1, 0] = 1.0  # each slice is shifted by a millimetre within its plane: a tilted gantry
    array = np.zeros((4, 5, 6))
    volume = Volume(array, affine=affine)
    assert voxel_mm3(volume) == pytest.approx(0.5 * 0.7 * 3.0)
    assert volume.spacing[0] > 0.5
    assert slice_distance(volume, 0) == pytest.approx(0.5)
    assert [slice_distance(volume, p) for p in (1, 2)] == pytest.approx([0.7 * 0.5 / math.hypot(1, 0.5), 3.0])
    plain = Volume(array, spacing=(2.0, 0.5, 0.25))
    assert voxel_mm3(plain) == pytest.approx(0.25)
    assert slice_distance(plain, 1) == 0.5
    with pytest.raises(InputError, match="2D"):
        voxel_mm3(Volume(np.zeros((4, 5))))
