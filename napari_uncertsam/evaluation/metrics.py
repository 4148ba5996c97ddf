"""Measures of one predicted mask, its probabilities and its uncertainty against the true mask.

All work at the original resolution of the image, in double precision. Measures of pixels (all but
:func:`boundary_iou` and :func:`roi_of`) take arrays of any shape, so ``measure(a[roi], b[roi])`` is the same measure
inside a region. A mask is boolean or integer, nonzero inside; probabilities are in [0, 1].

Notes
-----
Correlation with the soft error ``|p - m|`` rewards whatever pushes probabilities towards 0.5; rank the *hard* error
``mask != truth`` (:func:`ause`, :func:`aurc`) and use the proper scores (:func:`nll`, :func:`brier`) to choose methods.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_uncertsam.errors import InputError

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _mask(mask: NDArray[Any]) -> Mask:
    mask = np.asarray(mask)
    if mask.dtype.kind not in "bui":
        raise InputError(f"A mask is boolean or integer, not {mask.dtype}; threshold probabilities first.")
    return np.asarray(mask != 0, np.bool_)


def _masks(prediction: NDArray[Any], truth: NDArray[Any]) -> tuple[Mask, Mask]:
    predicted, true = _mask(prediction), _mask(truth)
    _require_same_shape(predicted, true)
    return predicted, true


def _require_same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise InputError(f"Shapes {first.shape} and {second.shape} differ; compare at the original resolution.")


def _pixels(first: ArrayLike, second: ArrayLike) -> tuple[Float, Float]:
    """Two maps of the same shape as flat, finite double-precision arrays with at least one pixel."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    _require_same_shape(a, b)
    if a.size == 0:
        raise InputError("There is no pixel to measure; the region is empty.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("A map to be measured contains NaN or infinite values.")
    return a.ravel(), b.ravel()


def _probabilities(probability: ArrayLike, truth: NDArray[Any]) -> tuple[Float, Float]:
    p, m = _pixels(probability, _mask(truth))
    if p.min() < 0 or p.max() > 1:
        raise InputError(
            f"Probabilities are between 0 and 1, not {p.min():g} to {p.max():g}; apply the sigmoid to logits."
        )
    return p, m


def iou(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Intersection over union of two masks, in [0, 1]; 1.0 when both are empty.

    Examples
    --------
    >>> iou(np.array([0, 1, 1]), np.array([1, 1, 0]))
    0.3333333333333333
    """
    a, b = _masks(prediction, truth)
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def dice(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Dice coefficient ``2 |A & B| / (|A| + |B|)`` of two masks, in [0, 1]; 1.0 when both are empty.

    Examples
    --------
    >>> dice(np.array([0, 1, 1]), np.array([1, 1, 0]))
    0.5
    """
    a, b = _masks(prediction, truth)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / total) if total else 1.0


def boundary_iou(prediction: NDArray[Any], truth: NDArray[Any], ratio: float = 0.02) -> float:
    """IoU of the bands along the inside of two outlines (Cheng et al., CVPR 2021), in [0, 1].

    Parameters
    ----------
    prediction, truth : (H, W)
        The image border counts as outline.
    ratio : float
        Band width as a share of the image diagonal; at least 1 pixel.
    """
    a, b = _masks(prediction, truth)
    width = max(1, round(ratio * math.hypot(*a.shape)))
    return iou(_inner_band(a, width), _inner_band(b, width))


def _inner_band(mask: Mask, width: int) -> Mask:
    # d erosions with a 3 x 3 square leave the pixels more than d chessboard steps away from the background.
    depth = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return np.asarray(mask & (depth <= width), np.bool_)


def roi_of(truth: NDArray[Any], ratio: float = 0.02) -> Mask:
    """The true object and its surroundings: dilation by a square of half width ``ceil(ratio * diagonal)``.

    Parameters
    ----------
    truth : (H, W)

    Returns
    -------
    (H, W) bool
        Empty for an empty mask.
    """
    mask = _mask(truth)
    side = 2 * math.ceil(ratio * math.hypot(*mask.shape)) + 1
    return ndimage.maximum_filter(mask, side, mode="constant", cval=0)  # type: ignore[no-any-return]


def paper_error(probability: ArrayLike, truth: NDArray[Any]) -> Float:
    """UncertSAM's error per pixel ``|p - m|``, in [0, 1], of the shape of the input."""
    p, m = _probabilities(probability, truth)
    return np.abs(p - m).reshape(np.shape(truth))


def hard_error(prediction: NDArray[Any], truth: NDArray[Any]) -> Mask:
    """Where the mask is wrong: ``prediction != truth``, of the shape of the input."""
    a, b = _masks(prediction, truth)
    return np.asarray(a != b, np.bool_)


def pearson_rho(uncertainty: ArrayLike, error: ArrayLike, eps: float = 1e-6) -> float:
    """Pearson correlation of uncertainty and error over pixels, in (-1, 1); 0 when either is constant.

    As in UncertSAM, `eps` is added to the denominator; here to ``sqrt(sum du^2) * sqrt(sum de^2)``.

    Examples
    --------
    >>> round(pearson_rho([0.1, 0.2, 0.3], [0, 0, 1]), 4)
    0.866
    """
    u, e = _pixels(uncertainty, error)
    if np.ptp(u) == 0 or np.ptp(e) == 0:
        return 0.0
    u, e = u - u.mean(), e - e.mean()
    return float(u @ e / (math.sqrt(u @ u) * math.sqrt(e @ e) + eps))


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
    u, e = _pixels(uncertainty, error)
    _, group, size = np.unique(u, return_inverse=True, return_counts=True)
    # Replacing errors by the mean of their group makes the partial sums those of a random order within it.
    in_order = np.repeat(np.bincount(group, weights=e) / size, size)
    number = np.arange(1, u.size + 1)
    return number / u.size, np.cumsum(in_order) / number


def aurc(uncertainty: ArrayLike, error: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean of :func:`risk_coverage` over all coverages; lower is better."""
    return float(risk_coverage(uncertainty, error)[1].mean())


def ause(uncertainty: ArrayLike, error: ArrayLike, *, normalise: bool = True) -> float:
    """Area under the sparsification error curve (Ilg et al., ECCV 2018); 0 is a perfect ranking, lower is better.

    Pixels are removed one by one, most uncertain first. The sparsification curve is the mean error of those that
    remain, as a function of the fraction ``k / N`` removed, ``k = 0 .. N - 1``; the oracle removes by decreasing error
    instead. AUSE is the mean over k of their difference. Ties are averaged as in :func:`risk_coverage`.

    Parameters
    ----------
    uncertainty, error : array of the same shape
        Use the hard error (:func:`hard_error`), see the notes of this module.
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
    u, e = _pixels(uncertainty, error)
    total = e.mean()
    if total == 0:
        return 0.0
    return (aurc(u, e) - aurc(e, e)) / (float(total) if normalise else 1.0)


def brier(probability: ArrayLike, truth: NDArray[Any]) -> float:
    """Brier score, the mean of ``(p - m)^2``, in [0, 1]; lower is better."""
    p, m = _probabilities(probability, truth)
    return float(np.mean((p - m) ** 2))


def nll(probability: ArrayLike, truth: NDArray[Any], eps: float = 1e-7) -> float:
    """Mean negative log-likelihood of the truth in nats, with p clamped to ``[eps, 1 - eps]``; lower is better."""
    p, m = _probabilities(probability, truth)
    p = p.clip(eps, 1 - eps)
    return float(-np.mean(np.where(m != 0, np.log(p), np.log1p(-p))))


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


def reliability_curve(probability: ArrayLike, truth: NDArray[Any], bins: int = 10) -> ReliabilityCurve:
    """Calibration of the object's probability in equal bins ``[k / bins, (k + 1) / bins)``, the last one closed."""
    p, m = _probabilities(probability, truth)
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    divisor = np.where(count > 0, count, np.nan)
    confidence, frequency = (np.bincount(index, weights=w, minlength=bins) / divisor for w in (p, m))
    return ReliabilityCurve(edges, count, confidence, frequency)


def ece(probability: ArrayLike, truth: NDArray[Any], bins: int = 10) -> float:
    """Expected calibration error in [0, 1]: ``|frequency - confidence|`` of each bin, weighted by its pixels (L1).

    The definition of torchmetrics' ``BinaryCalibrationError``, except that p = 1 exactly belongs to the last bin.

    Examples
    --------
    >>> round(ece([0.75, 0.75, 0.75, 0.75], np.array([1, 1, 0, 0])), 3)
    0.25
    """
    curve = reliability_curve(probability, truth, bins)
    return float(np.nansum(curve.pixels * np.abs(curve.frequency - curve.confidence)) / curve.pixels.sum())


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
    x = np.asarray(values, np.float64)
    names = np.arange(x.size) if groups is None else np.asarray(groups)
    if x.ndim != 1 or names.shape != x.shape or not np.isfinite(x).all():
        raise InputError(f"A bootstrap needs finite values with one group each; got {x.shape} and {names.shape}.")
    if not 0 < level < 1:
        raise InputError(f"The level {level} of an interval is not between 0 and 1; use for example 0.95.")
    _, index, size = np.unique(names, return_inverse=True, return_counts=True)
    if size.size < 2:
        return math.nan, math.nan
    total = np.bincount(index, weights=x)
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(size.size, size=size.size)
        means[i] = total[drawn].sum() / size[drawn].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
