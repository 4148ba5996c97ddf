"""How well probabilities fit the truth: proper scores and calibration."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_uncertsam.evaluation.metrics.inputs import Float, as_probabilities, dot

#: Bins of the reliability curve and the calibration error, as UncertSAM has them.
BINS = 10


def paper_error(probability: ArrayLike, truth: NDArray[Any]) -> Float:
    """UncertSAM's error per pixel ``|p - m|``, in [0, 1], of the shape of the input."""
    return _errors(probability, truth).reshape(np.shape(truth))


def brier(probability: ArrayLike, truth: NDArray[Any]) -> float:
    """Brier score, the mean of ``(p - m)^2``, in [0, 1]; lower is better."""
    return brier_of(_errors(probability, truth))


def brier_of(error: Float, zeros: int = 0) -> float:
    """:func:`brier` from ``|p - m|``, flat, and the number of further pixels where that is 0."""
    return dot(error, error) / (error.size + zeros)


def nll(probability: ArrayLike, truth: NDArray[Any], eps: float = 1e-7) -> float:
    """Mean negative log-likelihood of the truth in nats, with p clamped to ``[eps, 1 - eps]``; lower is better."""
    return nll_of(_errors(probability, truth), eps)


def nll_of(error: Float, eps: float = 1e-7, zeros: int = 0) -> float:
    """:func:`nll` from ``|p - m|``, flat, and the number of further pixels where that is 0.

    The probability of what is true is 1 less that error.
    """
    total = -np.log((1 - error).clip(eps, 1 - eps)).sum() - zeros * math.log(1 - eps)
    return float(total / (error.size + zeros))


def _errors(probability: ArrayLike, truth: NDArray[Any]) -> Float:
    p, m = as_probabilities(probability, truth)
    return np.abs(p - m)


class ReliabilityCurve(NamedTuple):
    """Predicted against observed frequency per bin of predicted probability.

    Attributes
    ----------
    edges : (bins + 1,)
    pixels : (bins,)
        Number of pixels per bin.
    confidence, frequency : (bins,)
        Mean predicted probability and share of pixels inside the object; nan for empty bins.
    """

    edges: Float
    pixels: NDArray[np.int64]
    confidence: Float
    frequency: Float

    @property
    def ece(self) -> float:
        """Mean over the pixels of their bin's ``|frequency - confidence|`` (L1), in [0, 1]."""
        return float(np.nansum(self.pixels * np.abs(self.frequency - self.confidence)) / self.pixels.sum())

    @property
    def sums(self) -> tuple[list[int], list[float], list[int]]:
        """Pixels, summed probability and pixels inside the object per bin: what can be added up over cases."""
        confidence, frequency = (np.nan_to_num(v) * self.pixels for v in (self.confidence, self.frequency))
        return self.pixels.tolist(), confidence.tolist(), np.rint(frequency).astype(int).tolist()

    @classmethod
    def of_sums(cls, pixels: ArrayLike, confidence: ArrayLike, frequency: ArrayLike) -> ReliabilityCurve:
        """The curve of several cases from what :attr:`sums` gave, added up."""
        count = np.asarray(pixels, np.int64)
        divisor = np.where(count > 0, count, np.nan)
        means = (np.asarray(v, np.float64) / divisor for v in (confidence, frequency))
        return cls(np.linspace(0, 1, count.size + 1), count, *means)


def reliability_curve(probability: ArrayLike, truth: NDArray[Any], bins: int = BINS) -> ReliabilityCurve:
    """Calibration of the object's probability in equal bins ``[k / bins, (k + 1) / bins)``, the last one closed."""
    return reliability_of(*as_probabilities(probability, truth), bins)


def reliability_of(p: Float, m: NDArray[np.bool_], bins: int = BINS, zeros: int = 0) -> ReliabilityCurve:
    """:func:`reliability_curve` of flat values that are known to be probabilities and a mask, and of further zeros."""
    index = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), p, side="right") - 1, 0, bins - 1)
    count, confidence = (np.bincount(index, weights=w, minlength=bins) for w in (None, p))
    count[0] += zeros
    return ReliabilityCurve.of_sums(count, confidence, np.bincount(index[m], minlength=bins))


def ece(probability: ArrayLike, truth: NDArray[Any], bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]: ``|frequency - confidence|`` of each bin, weighted by its pixels (L1).

    The definition of torchmetrics' ``BinaryCalibrationError``, except that p = 1 exactly belongs to the last bin.

    Examples
    --------
    >>> round(ece([0.75, 0.75, 0.75, 0.75], np.array([1, 1, 0, 0])), 3)
    0.25
    """
    return reliability_curve(probability, truth, bins).ece
