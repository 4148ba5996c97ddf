"""Does uncertainty point at the errors? Correlation, and what is left when the most uncertain pixels are removed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics.inputs import Float, as_pixel_pairs, as_pixels, dot, require_same_shape


def pearson_rho(uncertainty: ArrayLike, error: ArrayLike, eps: float = 1e-6) -> float:
    """Pearson correlation of uncertainty and error over pixels, in (-1, 1); 0 when either is constant.

    As in UncertSAM, `eps` is added to the denominator; here to ``sqrt(sum du^2) * sqrt(sum de^2)``.

    Examples
    --------
    >>> round(pearson_rho([0.1, 0.2, 0.3], [0, 0, 1]), 4)
    0.866
    """
    u, e = as_pixel_pairs(uncertainty, error)
    return Deviations(u).rho(e, eps)


class Deviations:
    """Uncertainty about its mean: what :func:`pearson_rho` needs of it, whatever error it is compared with.

    Parameters
    ----------
    uncertainty : (n,) float64
        Finite, not empty.
    zeros : int
        Number of further pixels, whose uncertainty and error are 0.
    """

    def __init__(self, uncertainty: Float, zeros: int = 0) -> None:
        self._zeros, self._size = zeros, uncertainty.size + zeros
        self.mean, self._values, self._norm = self._centred(uncertainty)

    def _centred(self, values: Float) -> tuple[float, Float, float]:
        """Mean, differences from it, and their norm, which is 0 for a constant map."""
        mean = float(values.sum()) / self._size
        difference = values - mean
        constant = values.min() == values.max() and (self._zeros == 0 or values[0] == 0)
        return mean, difference, 0.0 if constant else math.sqrt(dot(difference, difference) + self._zeros * mean**2)

    def rho(self, error: Float, eps: float = 1e-6) -> float:
        """Correlation with an error (n,) float64; 0 when either is constant."""
        mean, difference, norm = self._centred(error)
        if self._norm == 0 or norm == 0:
            return 0.0
        return (dot(self._values, difference) + self._zeros * self.mean * mean) / (self._norm * norm + eps)


class Ranking:
    """Pixels ordered from the most certain to the most uncertain one; ties have no order, all orders are averaged.

    The area under the risk-coverage curve is linear in the errors: with N pixels, of which the i-th most certain one
    has the error e_i, it is ``1/N sum_n 1/n sum_{i <= n} e_i = 1/N sum_i w_i e_i`` with ``w_i = sum_{n >= i} 1/n``. The
    weights depend on the uncertainty alone, so one sort serves every kind of error.

    Parameters
    ----------
    uncertainty : array
        Any shape; finite.
    zeros : int
        Number of further pixels, whose uncertainty and error are 0: all that lies outside of a view. They are counted,
        not sorted; no uncertainty may be negative then.
    """

    def __init__(self, uncertainty: ArrayLike, zeros: int = 0) -> None:
        given = np.asarray(uncertainty)
        values = as_pixels(given)
        self.shape, self.size, self._zeros = given.shape, values.size + zeros, zeros
        self._order = order = _order(given.ravel() if given.dtype == np.float32 else values)
        in_order = values[order]
        starts = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]]))
        self._ends = np.append(starts[1:], values.size)
        self._weights = _harmonic_weights(self.size, values.size)
        sizes, sums = self._ends - starts, np.add.reduceat(self._weights, starts)
        means = sums / sizes
        if zeros and in_order[0] == 0:
            means[0] = (sums[0] + _first_weights(self.size, zeros)) / (sizes[0] + zeros)
        # Weight of every pixel, in the order of pixels.
        self._tied = np.empty(values.size)
        self._tied[order] = np.repeat(means, sizes)
        self._joined = bool(in_order[0] == 0)

    def _errors(self, error: ArrayLike) -> Float:
        given = np.asarray(error)
        if given.shape != self.shape:
            require_same_shape(np.empty(self.shape, bool), given)
        errors = as_pixels(given)
        if errors.min() < 0:
            raise InputError(f"An error is at least 0, not {errors.min():g}; take its absolute value.")
        return errors

    def risk(self, error: ArrayLike, counts: NDArray[Any]) -> Float:
        """Mean error of the `counts` most certain pixels; `counts` (n,) are from 1 to the number of pixels."""
        sums = np.cumsum(self._errors(error)[self._order])[self._ends - 1]
        # Within ties the sum over a random order grows linearly from the first to the last of them.
        known = [0] if self._joined else [0, self._zeros]
        places = np.concatenate([known, self._ends + self._zeros])
        return np.asarray(np.interp(counts, places, np.concatenate([np.zeros(len(known)), sums])) / counts)

    def aurc(self, error: ArrayLike) -> float:
        """Area under the risk-coverage curve, see :func:`aurc`."""
        return dot(self._tied, self._errors(error)) / self.size

    def ause(self, error: ArrayLike, *, normalise: bool = True) -> float:
        """Area under the sparsification error curve, see :func:`ause`."""
        e = self._errors(error)
        total = e.sum() / self.size
        if total == 0:
            return 0.0
        wrong = e[e > 0]  # what is right adds nothing, and is most of the image
        # Single precision decides between errors that hardly differ, whose order hardly matters.
        wrong = wrong[_order(wrong.astype(np.float32))]
        best = dot(self._weights[self._weights.size - wrong.size :], wrong) / self.size
        excess = dot(self._tied, e) / self.size - best
        return excess / float(total) if normalise else excess


@lru_cache(maxsize=2)
def _harmonic_weights(size: int, last: int) -> Float:
    """``sum_{n >= i}^{size} 1/n`` for the `last` largest i; kept, since the next image often has that size."""
    weights = np.cumsum(1 / np.arange(size, size - last, -1))[::-1]
    weights.setflags(write=False)
    return weights


def _first_weights(size: int, first: int) -> float:
    """Sum of such weights for the `first` smallest i: ``first (1 + H(size) - H(first))`` with harmonic numbers H."""
    from scipy.special import digamma

    return float(first * (1 + digamma(size + 1) - digamma(first + 1)))


def _order(values: NDArray[Any]) -> NDArray[np.intp]:
    """Indices that sort the values; several times faster than argsort for what maps are: non-negative float32."""
    if values.dtype == np.float32 and values.min() >= 0:
        # Such floats are ordered as their bit patterns are (adding zero turns -0.0 into 0.0), and NumPy sorts integers
        # of 16 bits by their digits: first by the lower half, then by the upper one.
        bits = (values + np.float32(0)).view(np.uint32)
        lower, upper = (bits & np.uint32(0xFFFF)).astype(np.uint16), (bits >> np.uint32(16)).astype(np.uint16)
        order = np.argsort(lower, kind="stable")
        return order[np.argsort(upper[order], kind="stable")]
    return np.argsort(values, kind="stable")


def risk_coverage(uncertainty: ArrayLike, error: ArrayLike) -> tuple[Float, Float]:
    """Mean error of the most certain pixels, for every number of them.

    Pixels of equal uncertainty have no order among themselves; the mean over all their orders is returned, so the
    result depends neither on the order of pixels nor on the sorting algorithm.

    Returns
    -------
    coverage : (N,) float64
        ``1/N, 2/N, ..., 1``.
    risk : (N,) float64
        Mean error of that share of pixels, the most certain ones.

    Examples
    --------
    >>> risk_coverage([0.1, 0.3, 0.2], [0, 1, 0])[1].round(3).tolist()
    [0.0, 0.0, 0.333]
    """
    ranking = Ranking(uncertainty)
    number = np.arange(1, ranking.size + 1)
    return number / ranking.size, ranking.risk(error, number)


def aurc(uncertainty: ArrayLike, error: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean of :func:`risk_coverage` over all coverages; lower is better."""
    return Ranking(uncertainty).aurc(error)


def ause(uncertainty: ArrayLike, error: ArrayLike, *, normalise: bool = True) -> float:
    """Area under the sparsification error curve (Ilg et al., ECCV 2018); 0 is a perfect ranking, lower is better.

    Pixels are removed one by one, most uncertain first. The sparsification curve is the mean error of those that
    remain, as a function of the fraction ``k / N`` removed, ``k = 0 .. N - 1``; the oracle removes by decreasing error
    instead. AUSE is the mean over k of their difference. Ties are averaged as in :func:`risk_coverage`.

    Parameters
    ----------
    uncertainty, error : array of the same shape
        Use the hard error (:func:`~napari_uncertsam.evaluation.metrics.hard_error`), see the notes of the package.
    normalise : bool
        Divide both curves by the mean error of all pixels, so that they start at 1 and cases of different difficulty
        can be averaged. Without it, ``ause == aurc(uncertainty, error) - aurc(error, error)``.

    Returns
    -------
    float
        0.0 when no pixel is wrong. Normalised, about 1 for a random ranking of few errors.

    Examples
    --------
    >>> ause([0.9, 0.1, 0.2, 0.3], [1, 0, 0, 0])
    0.0
    """
    return Ranking(uncertainty).ause(error, normalise=normalise)
