"""Intervals of whole tables and of correlations, by a loop in the definition's own words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from napari_uncertsam.evaluation.metrics import (
    bootstrap_correlation,
    bootstrap_interval,
    bootstrap_intervals,
    correlation,
    rank_correlation,
)


def test_a_table_has_the_intervals_of_its_columns(rng: np.random.Generator) -> None:
    table, groups = rng.normal(size=(40, 3)), rng.integers(0, 9, 40)
    low, high = bootstrap_intervals(table, np.random.default_rng(5), groups)
    for k in range(3):
        alone = bootstrap_interval(table[:, k], np.random.default_rng(5), groups)
        assert alone == pytest.approx((low[k], high[k]))


def test_by_drawing_groups_in_a_loop(rng: np.random.Generator) -> None:
    values, groups = rng.normal(2, 1, 60), np.repeat(np.arange(12), 5)
    values[groups == 3] += 4
    draws = np.random.default_rng(8)
    means = []
    for _ in range(4000):
        picked = draws.integers(12, size=12)
        means.append(np.mean(np.concatenate([values[groups == g] for g in picked])))
    expected = np.quantile(means, [0.05, 0.95])
    found = bootstrap_interval(values, np.random.default_rng(9), groups, level=0.9, resamples=4000)
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_what_is_not_finite_is_left_out_of_its_column(rng: np.random.Generator) -> None:
    table = rng.normal(size=(30, 3))
    table[::2, 1] = math.inf
    table[1:, 2] = math.nan
    low, high = bootstrap_intervals(table, np.random.default_rng(0))
    known = table[1::2, 1]
    assert low[1] < known.mean() < high[1]
    # Fewer values of a column are drawn each time, so its interval is wider than the standard error of all 30 says.
    assert high[1] - low[1] == pytest.approx(2 * 1.96 * known.std() / math.sqrt(known.size), rel=0.25)
    assert np.isnan([low[2], high[2]]).all()


def test_interval_of_a_correlation(rng: np.random.Generator) -> None:
    x = rng.normal(size=300)
    y = 0.6 * x + 0.8 * rng.normal(size=300)
    low, high = bootstrap_correlation(x, y, np.random.default_rng(1))
    # Fisher's transformation gives the standard interval.
    centre, half = math.atanh(correlation(x, y)), 1.96 / math.sqrt(297)
    assert low == pytest.approx(math.tanh(centre - half), abs=0.03)
    assert high == pytest.approx(math.tanh(centre + half), abs=0.03)
    assert np.isnan(bootstrap_correlation(x[:2], y[:2], rng)).all()
    assert np.isnan(bootstrap_correlation(np.ones(9), y[:9], rng)).all()


@pytest.mark.parametrize("ranks", [False, True])
def test_correlations_by_drawing_cases_in_a_loop(ranks: bool, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 24)).round(1)  # with ties
    groups = np.repeat(np.arange(8), 3)
    draws, found = np.random.default_rng(2), []
    for _ in range(500):
        picked = np.concatenate([np.flatnonzero(groups == g) for g in draws.integers(8, size=8)])
        found.append((scipy.stats.spearmanr if ranks else scipy.stats.pearsonr)(x[picked], y[picked]).statistic)
    expected = np.quantile(found, [0.025, 0.975])
    ours = bootstrap_correlation(x, y, np.random.default_rng(2), groups, ranks=ranks, resamples=500)
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_correlations_of_constants_and_ties() -> None:
    assert math.isnan(correlation([1.0, 1.0], [1.0, 2.0]))
    assert math.isnan(rank_correlation([3.0], [1.0]))
    assert rank_correlation([1, 10, 100, 1000], [1, 2, 3, 4]) == pytest.approx(1)
    assert correlation([1, 2, 3], [-1, -2, -3]) == pytest.approx(-1)


def test_nothing_to_draw_from() -> None:
    low, high = bootstrap_intervals(np.empty((0, 2)), np.random.default_rng(0))
    assert np.isnan(low).all()
    assert np.isnan(high).all()
