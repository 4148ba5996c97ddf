"""Intervals for what was measured on a sample of cases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_uncertsam.errors import InputError

#: Groups (or cases) drawn at once, which bounds the scratch memory.
_DRAWN_AT_ONCE = 1 << 20


def bootstrap_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean; for a paired comparison give the differences.

    Parameters
    ----------
    values : (n,) array-like
        One per case.
    rng : numpy.random.Generator
    groups : (n,) array-like, optional
        Cases of one group, such as the slices of one volume, are not independent: whole groups are drawn.
    level : float
        In (0, 1).
    resamples : int

    Returns
    -------
    low, high : float
        ``nan`` with fewer than two groups, whose spread cannot be known.

    Examples
    --------
    >>> bootstrap_interval([0.5, 0.5, 0.5], np.random.default_rng(0))
    (0.5, 0.5)
    """
    (x,), _ = _checked((values,), groups, level)
    low, high = bootstrap_intervals(x[:, None], rng, groups, level, resamples)
    return float(low[0]), float(high[0])


def bootstrap_intervals(
    table: NDArray[np.float64],
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """:func:`bootstrap_interval` of every column of a table, all from the same draws.

    Parameters
    ----------
    table : (n, k) float64
        A row per case. What is not finite (a measure that a case does not have) is left out of its column.
    rng, groups, level, resamples
        See :func:`bootstrap_interval`.

    Returns
    -------
    low, high : (k,) float64
        ``nan`` for columns with values of fewer than two groups.
    """
    if not 0 < level < 1:
        raise _not_a_level(level)
    means = bootstrap_means(table, rng, groups, resamples)
    low, high = np.array([central_interval(found, level) for found in means.T]).reshape(-1, 2).T
    return low, high


def bootstrap_means(
    table: NDArray[np.float64],
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    resamples: int = 2000,
) -> NDArray[np.float64]:
    """Means of every column of a table in samples of its groups, drawn with replacement; all from the same draws.

    Parameters
    ----------
    table : (n, k) float64
        A row per case. What is not finite (a measure that a case does not have) is left out of its column.
    rng, groups, resamples
        See :func:`bootstrap_interval`.

    Returns
    -------
    (resamples, k) float64
        ``nan`` for columns with values of fewer than two groups, and where a draw holds none of a column's values.

    Examples
    --------
    >>> bootstrap_means(np.array([[0.5, 1.0], [0.5, np.nan]]), np.random.default_rng(0), resamples=2).tolist()
    [[0.5, nan], [0.5, nan]]
    """
    _, index = _checked((np.zeros(len(table)),), groups)
    count = int(index.max()) + 1 if index.size else 0
    known = np.isfinite(table)
    total, size = np.zeros((2, count, table.shape[1]))
    np.add.at(total, index, np.where(known, table, 0))
    np.add.at(size, index, known)
    means = np.full((resamples, table.shape[1]), np.nan)
    for rows, weights in _draws(rng, count, resamples):
        with np.errstate(invalid="ignore"):
            means[rows] = (weights @ total) / (weights @ size)
    means[:, (size > 0).sum(0) < 2] = np.nan
    return means


def central_interval(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    """What the middle of draws lies between, those left out that are not finite; ``nan`` where none is left.

    Examples
    --------
    >>> central_interval(np.array([3.0, 1.0, np.nan, 2.0, 4.0, 5.0]), 0.5)
    (2.0, 4.0)
    """
    found = drawn[np.isfinite(drawn)]
    if not found.size:
        return math.nan, math.nan
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_correlation(
    x: ArrayLike,
    y: ArrayLike,
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    *,
    ranks: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of :func:`correlation`, or with `ranks` of :func:`rank_correlation`.

    Parameters
    ----------
    x, y : (n,) array-like
        Values of the cases.
    rng, groups, level, resamples
        See :func:`bootstrap_interval`. Ranks are those within each draw.
    ranks : bool

    Returns
    -------
    low, high : float
        ``nan`` with fewer than three groups, or where hardly any draw has a correlation.
    """
    (a, b), index = _checked((x, y), groups, level)
    count = int(index.max()) + 1 if index.size else 0
    if count < 3:
        return math.nan, math.nan
    found = np.empty(resamples)
    for rows, weights in _draws(rng, count, resamples, width=a.size):
        often = weights[:, index]  # how often each case was drawn
        first, second = (_ranks(v, often) if ranks else np.broadcast_to(v, often.shape) for v in (a, b))
        found[rows] = _weighted_correlation(first, second, often)
    found = found[np.isfinite(found)]
    return central_interval(found, level) if found.size >= resamples / 2 else (math.nan, math.nan)


def _draws(
    rng: np.random.Generator, count: int, resamples: int, width: int = 0
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """How often each of `count` groups was drawn, a row per resample; so many at once as memory allows."""
    rows = max(1, _DRAWN_AT_ONCE // max(count, width, 1))
    for start in range(0, resamples if count else 0, rows):
        drawn = rng.integers(count, size=(min(rows, resamples - start), count))
        offsets = drawn + count * np.arange(len(drawn))[:, None]
        yield (
            slice(start, start + len(drawn)),
            np.bincount(offsets.ravel(), minlength=drawn.size).reshape(drawn.shape),
        )


def _ranks(values: NDArray[np.float64], often: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ranks of cases in draws where case k occurs ``often[row, k]`` times; equal values share their mean rank."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    size = np.add.reduceat(often[:, order], starts, axis=1)
    return np.asarray((np.cumsum(size, axis=1) - (size - 1) / 2)[:, group])


def _weighted_correlation(
    x: NDArray[np.float64], y: NDArray[np.float64], often: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Correlation of every row; nan where a row does not vary."""
    total = often.sum(1, keepdims=True)
    x, y = (v - (often * v).sum(1, keepdims=True) / total for v in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt((often * x * x).sum(1) * (often * y * y).sum(1))
        # Rounding leaves a little spread where all drawn values are equal.
        return np.asarray(np.where(spread > 1e-12, (often * x * y).sum(1) / spread, np.nan).clip(-1, 1))


def correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of two values per case, in [-1, 1]; nan where either does not vary.

    Examples
    --------
    >>> round(correlation([1, 2, 3], [2, 4, 6.0]), 6)
    1.0
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / math.sqrt((a @ a) * (b @ b)), -1, 1))


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation of two values per case, in [-1, 1]; nan where either does not vary."""
    from scipy.stats import rankdata

    return correlation(rankdata(np.asarray(x)), rankdata(np.asarray(y)))


def _checked(
    values: tuple[ArrayLike, ...], groups: ArrayLike | None, level: float = 0.95
) -> tuple[list[NDArray[np.float64]], NDArray[Any]]:
    """The values as arrays, and the number of each case's group."""
    arrays = [np.asarray(v, np.float64) for v in values]
    names = np.arange(arrays[0].size) if groups is None else np.asarray(groups)
    for x in arrays:
        if x.ndim != 1 or names.shape != x.shape or not np.isfinite(x).all():
            raise InputError(f"A bootstrap needs finite values with one group each; got {x.shape} and {names.shape}.")
    if not 0 < level < 1:
        raise _not_a_level(level)
    return arrays, np.unique(names, return_inverse=True)[1]


def _not_a_level(level: float) -> InputError:
    return InputError(f"The level {level} of an interval is not between 0 and 1; use for example 0.95.")
