"""Every measure by a closed form or a second route, and on empty, full and one-pixel masks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics import (
    aurc,
    ause,
    bootstrap_interval,
    boundary_iou,
    brier,
    dice,
    ece,
    hard_error,
    iou,
    nll,
    paper_error,
    pearson_rho,
    reliability_curve,
    risk_coverage,
    roi_of,
)

EMPTY, FULL = np.zeros((12, 17), bool), np.ones((12, 17), bool)
ONE = EMPTY.copy()
ONE[4, 9] = True

masks = hnp.arrays(bool, (9, 7))
# Few distinct values, so that ties occur.
maps = hnp.arrays(np.float64, 5, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
errors = hnp.arrays(np.float64, 5, elements=st.sampled_from([0.0, 1.0, 1.0, 0.5]))
probabilities = hnp.arrays(np.float64, 40, elements=st.floats(0, 1))
truths = hnp.arrays(bool, 40)


@pytest.mark.parametrize("overlap", [iou, dice, boundary_iou])
def test_overlap_at_the_extremes(overlap) -> None:
    for mask in (EMPTY, FULL, ONE):
        assert overlap(mask, mask) == 1.0
    assert overlap(EMPTY, ONE) == overlap(ONE, EMPTY) == overlap(EMPTY, FULL) == 0.0


def test_one_pixel_against_all() -> None:
    n = FULL.size
    assert iou(ONE, FULL) == pytest.approx(1 / n)
    assert dice(ONE, FULL) == pytest.approx(2 / (n + 1))


@given(masks, masks)
def test_dice_and_iou_by_counting(a: np.ndarray, b: np.ndarray) -> None:
    inside, outside = set(np.flatnonzero(a)), set(np.flatnonzero(b))
    if inside | outside:
        assert iou(a, b) == pytest.approx(len(inside & outside) / len(inside | outside))
    assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)))
    assert iou(a.astype(np.uint8) * 255, b) == iou(a, b)


@pytest.mark.parametrize("ratio", [0.01, 0.02, 0.1, 0.3])
def test_boundary_iou_by_erosion(ratio: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        a, b = (ndimage.gaussian_filter(rng.normal(size=(60, 41)), 4) > 0 for _ in range(2))
        width = max(1, round(ratio * math.sqrt(60**2 + 41**2)))
        band_a, band_b = (
            m & ~ndimage.binary_erosion(m, np.ones((3, 3)), iterations=width, border_value=0) for m in (a, b)
        )
        assert boundary_iou(a, b, ratio) == pytest.approx((band_a & band_b).sum() / (band_a | band_b).sum())


def test_roi_is_the_object_and_a_square_band() -> None:
    half = math.ceil(0.02 * math.hypot(*ONE.shape))
    rows, columns = np.nonzero(roi_of(ONE))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4 - half, 4 + half, 9 - half, 9 + half)
    assert roi_of(ONE).sum() == (2 * half + 1) ** 2
    assert not roi_of(EMPTY).any()
    assert roi_of(FULL).all()
    rng = np.random.default_rng(1)
    truth = rng.random((80, 50)) > 0.99
    half = math.ceil(0.02 * math.hypot(80, 50))
    side = 2 * half + 1
    np.testing.assert_array_equal(roi_of(truth), ndimage.binary_dilation(truth, np.ones((side, side))))


def test_errors_per_pixel() -> None:
    p, truth = np.array([[0.9, 0.2], [0.4, 0.5]]), np.array([[1, 0], [1, 0]])
    np.testing.assert_allclose(paper_error(p, truth), [[0.1, 0.2], [0.6, 0.5]])
    np.testing.assert_array_equal(hard_error(p > 0.5, truth), [[False, False], [True, False]])


@given(hnp.arrays(np.float64, 30, elements=st.floats(0, 0.7)), hnp.arrays(np.float64, 30, elements=st.floats(0, 1)))
def test_pearson_is_scipys(u: np.ndarray, e: np.ndarray) -> None:
    rho = pearson_rho(u, e)
    assert -1 <= rho <= 1
    if u.std() > 0.05 and e.std() > 0.05:
        assert rho == pytest.approx(scipy.stats.pearsonr(u, e).statistic, abs=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.7])
def test_pearson_of_a_constant_map_is_zero(constant: float) -> None:
    varying = np.linspace(0, 1, 50)
    assert pearson_rho(np.full(50, constant), varying) == 0.0
    assert pearson_rho(varying, np.full(50, constant)) == 0.0


def brute_force_risk(u: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Mean over all orders of the pixels that sort the uncertainty."""
    curves = [
        np.cumsum(e[list(order)]) / np.arange(1, u.size + 1)
        for order in itertools.permutations(range(u.size))
        if (np.diff(u[list(order)]) >= 0).all()
    ]
    return np.mean(curves, 0)


@given(maps, errors)
def test_risk_coverage_averages_over_ties(u: np.ndarray, e: np.ndarray) -> None:
    coverage, risk = risk_coverage(u, e)
    np.testing.assert_allclose(coverage, np.arange(1, 6) / 5)
    np.testing.assert_allclose(risk, brute_force_risk(u, e))
    assert aurc(u, e) == pytest.approx(risk.mean())
    order = np.random.default_rng(0).permutation(5)
    assert aurc(u[order], e[order]) == pytest.approx(aurc(u, e))


@given(maps, errors)
def test_ause_by_removing_pixels(u: np.ndarray, e: np.ndarray) -> None:
    # The definition in its own words, on curves of what remains after k pixels are gone.
    if e.sum() == 0:
        assert ause(u, e) == 0.0
        return
    oracle = [np.sort(e)[: 5 - k].mean() for k in range(5)]
    ours = [brute_force_risk(u, e)[4 - k] for k in range(5)]
    expected = np.mean(np.subtract(ours, oracle))
    assert ause(u, e, normalise=False) == pytest.approx(expected, abs=1e-12)
    assert ause(u, e) == pytest.approx(expected / e.mean(), abs=1e-12)
    assert ause(u, e) >= -1e-12


def test_ause_between_perfect_random_and_worst() -> None:
    rng = np.random.default_rng(0)
    error = rng.random(200_000) < 0.02
    noise = rng.random(error.size)
    assert ause(error + noise / 2, error) == pytest.approx(0, abs=1e-12)
    assert ause(noise, error) == pytest.approx(0.99, abs=0.02)  # 1 - rate / 2
    assert ause(np.zeros(error.size), error) == pytest.approx(0.99, abs=0.001)  # no information, no luck
    assert ause(noise / 2 - error, error) == pytest.approx(0.99 - math.log(error.mean()), abs=0.01)
    assert ause(noise**3, error) == ause(noise, error)  # only the ranking counts


@given(probabilities, truths)
def test_brier_and_nll_by_hand(p: np.ndarray, m: np.ndarray) -> None:
    assert brier(p, m) == pytest.approx(sum((a - b) ** 2 for a, b in zip(p, m.astype(float), strict=True)) / 40)
    chosen = np.clip(np.where(m, p, 1 - p), 1e-7, 1 - 1e-7)
    assert nll(p, m) == pytest.approx(-np.log(chosen).mean(), rel=1e-6, abs=1e-9)


def test_scores_of_certain_predictions() -> None:
    assert brier(ONE.astype(float), ONE) == 0.0
    assert nll(ONE.astype(float), ONE) == pytest.approx(1e-7, rel=1e-3)
    assert nll(FULL.astype(float), EMPTY) == pytest.approx(-math.log(1e-7))
    assert nll(np.full(ONE.shape, 0.5), ONE) == pytest.approx(math.log(2))


@given(probabilities, truths)
def test_ece_bin_by_bin(p: np.ndarray, m: np.ndarray) -> None:
    edges = np.linspace(0, 1, 11)
    expected = 0.0
    for k in range(10):
        inside = (p >= edges[k]) & ((p < edges[k + 1]) if k < 9 else (p <= 1))
        if inside.any():
            expected += inside.mean() * abs(m[inside].mean() - p[inside].mean())
    assert ece(p, m) == pytest.approx(expected, abs=1e-12)
    assert reliability_curve(p, m).pixels.sum() == 40


def test_ece_of_a_calibrated_and_of_a_boastful_forecast() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    truth = rng.random(p.size) < p
    assert ece(p, truth) < 0.005
    assert ece(np.ones(10), np.arange(10) < 6) == pytest.approx(0.4)
    curve = reliability_curve(np.array([0.05, 0.95]), np.array([0, 1]))
    assert np.isnan(curve.frequency[1:-1]).all()
    assert curve.pixels.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    x = np.random.default_rng(0).normal(3, 1, 400)
    low, high = bootstrap_interval(x, np.random.default_rng(1))
    assert (low + high) / 2 == pytest.approx(x.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.08)
    assert bootstrap_interval(x, np.random.default_rng(1)) == (low, high)


def test_slices_of_one_volume_count_once() -> None:
    volumes = np.random.default_rng(0).normal(0, 1, 20)
    slices, names = np.repeat(volumes, 10), np.repeat([f"volume {i}" for i in range(20)], 10)
    grouped = bootstrap_interval(slices, np.random.default_rng(1), names)
    of_volumes = bootstrap_interval(volumes, np.random.default_rng(1))
    naive = bootstrap_interval(slices, np.random.default_rng(1))
    assert np.diff(grouped) == pytest.approx(np.diff(of_volumes), rel=0.1)
    assert np.diff(grouped) > 2.5 * np.diff(naive)


def test_one_group_has_no_interval() -> None:
    assert np.isnan(bootstrap_interval([1.0, 2.0], np.random.default_rng(0), ["a", "a"])).all()


def test_bad_input_is_named() -> None:
    p = np.full((2, 2), 0.5)
    with pytest.raises(InputError, match="threshold"):
        iou(p, p > 0)
    with pytest.raises(InputError, match="differ"):
        dice(EMPTY, EMPTY[1:])
    with pytest.raises(InputError, match="sigmoid"):
        brier(p * 10, p > 0)
    with pytest.raises(InputError, match="NaN"):
        ause(p * math.nan, p)
    with pytest.raises(InputError, match="empty"):
        pearson_rho(p[:0], p[:0])
    with pytest.raises(InputError, match="finite"):
        bootstrap_interval([math.nan, 1], np.random.default_rng(0))
    with pytest.raises(InputError, match="between 0 and 1"):
        bootstrap_interval([0.0, 1], np.random.default_rng(0), level=95)
