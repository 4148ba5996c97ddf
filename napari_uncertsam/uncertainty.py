"""Probabilities to uncertainty: pure functions on NumPy arrays and torch tensors alike, no model.

Every function returns what it was given: an array for an array, a tensor on the same device for a tensor. Integers,
booleans and half precision are computed in float32, because ``1 - 1e-7`` rounds to 1 in half precision.
All entropies are in nats; the entropy of a binary outcome is at most ``ln 2``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

#: Largest possible binary entropy, in nats.
LN2 = math.log(2.0)
#: Distance that probabilities keep from 0 and 1 before a logarithm is taken.
EPSILON = 1e-7

ArrayT = TypeVar("ArrayT", NDArray[Any], "Tensor")


def _prepare(values: Any) -> tuple[Any, Any]:
    """The module to compute with, and the values in single or double precision."""
    if type(values).__module__.partition(".")[0] == "torch":
        import torch

        return torch, values if values.dtype in (torch.float32, torch.float64) else values.float()
    array = np.asarray(values)
    return np, array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def sigmoid(logits: ArrayT) -> ArrayT:
    """Probability ``1 / (1 + exp(-logits))``, without overflow.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    module, x = _prepare(logits)
    if module is np:
        from scipy.special import expit

        return expit(x)  # type: ignore[no-any-return]
    return module.sigmoid(x)  # type: ignore[no-any-return]


def logit(probability: ArrayT, eps: float = EPSILON) -> ArrayT:
    """Logit of a probability that is first clamped to ``[eps, 1 - eps]``, hence finite.

    Examples
    --------
    >>> logit(np.array([0.0, 0.5, 1.0])).round(2).tolist()
    [-16.12, 0.0, 16.12]
    """
    module, p = _prepare(probability)
    p = p.clip(eps, 1 - eps)
    return module.log(p) - module.log1p(-p)  # type: ignore[no-any-return]


def binary_entropy(probability: ArrayT, eps: float = EPSILON) -> ArrayT:
    """Entropy ``-p ln p - (1 - p) ln(1 - p)`` in nats, in [0, ln 2].

    Parameters
    ----------
    probability : array or tensor, any shape
        In [0, 1]; clamped to ``[eps, 1 - eps]``.
    eps : float

    Examples
    --------
    >>> binary_entropy(np.array([0.0, 0.5, 1.0])).round(4).tolist()
    [0.0, 0.6931, 0.0]
    """
    module, p = _prepare(probability)
    p = p.clip(eps, 1 - eps)
    return -p * module.log(p) - (1 - p) * module.log1p(-p)  # type: ignore[no-any-return]


def mutual_information(probabilities: ArrayT, eps: float = EPSILON) -> ArrayT:
    """What the samples disagree about, ``H(mean p) - mean H(p)`` in nats, in [0, ln 2].

    Parameters
    ----------
    probabilities : (n, ...) array or tensor
        In [0, 1], one sample per entry of the first axis.
    eps : float

    Returns
    -------
    (...) array or tensor
        Zero where all samples agree; ln 2 where half of them say 0 and half say 1.

    Raises
    ------
    InputError
        If there is no sample.

    Examples
    --------
    >>> mutual_information(np.array([[0.0, 0.5], [1.0, 0.5]])).round(4).tolist()
    [0.6931, 0.0]
    """
    _, p = _prepare(probabilities)
    _require_samples(p.shape)
    between = binary_entropy(p.mean(0), eps) - binary_entropy(p, eps).mean(0)
    # Concavity makes it non-negative; rounding and the clamp can miss that by about eps.
    return between.clip(0.0, None)  # type: ignore[no-any-return]


def standard_deviation(probabilities: ArrayT) -> ArrayT:
    """Standard deviation over the samples of the first axis (divisor n), in [0, 0.5]; 0 for a single sample.

    Parameters
    ----------
    probabilities : (n, ...) array or tensor
        In [0, 1].

    Raises
    ------
    InputError
        If there is no sample.
    """
    module, p = _prepare(probabilities)
    _require_samples(p.shape)
    return module.sqrt(((p - p.mean(0)) ** 2).mean(0))  # type: ignore[no-any-return]


def area_interval(areas: ArrayLike, level: float = 0.9) -> tuple[float, float]:
    """Central interval that holds a share `level` of sampled areas (or volumes), in their unit.

    Parameters
    ----------
    areas : (n,) array-like
        One area per sampled mask. A tensor has to be on the CPU.
    level : float
        In (0, 1).

    Returns
    -------
    low, high : float
        Quantiles ``(1 - level) / 2`` and ``(1 + level) / 2``, linearly interpolated.

    Raises
    ------
    InputError
        If there is no finite area, or the level is not in (0, 1).

    Examples
    --------
    >>> area_interval(range(101), 0.5)
    (25.0, 75.0)
    """
    if not 0 < level < 1:
        raise InputError(f"The level {level} of an area interval is not between 0 and 1; use for example 0.9.")
    values = np.asarray(areas, dtype=np.float64).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError(f"An area interval needs at least one sampled area, all finite; got {values.size} values.")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_uncertainty(uncertainty: NDArray[Any] | Tensor, roi: NDArray[np.bool_] | Tensor | None = None) -> float:
    """Mean of an uncertainty map, over all pixels or those of a region.

    Parameters
    ----------
    uncertainty : (...) array or tensor
        In nats.
    roi : boolean array or tensor of the same shape, optional

    Raises
    ------
    InputError
        If the region has another shape than the map, or there is no pixel to average.

    Examples
    --------
    >>> mean_uncertainty(np.array([0.2, 0.6]), np.array([False, True]))
    0.6
    """
    module, values = _prepare(uncertainty)
    if roi is not None:
        if tuple(roi.shape) != tuple(values.shape):
            raise InputError(
                f"The region has shape {tuple(roi.shape)}, the uncertainty map {tuple(values.shape)}; "
                "give both for the same slice."
            )
        values = values[roi != 0]
    if math.prod(values.shape) == 0:
        raise InputError("The mean uncertainty of no pixel is undefined; give a region with at least one pixel.")
    # Not in double precision for tensors: Apple's GPUs have none.
    return float(values.mean(dtype=np.float64) if module is np else values.mean())


def _require_samples(shape: tuple[int, ...]) -> None:
    if len(shape) == 0 or shape[0] == 0:
        raise InputError(f"Disagreement needs at least one sample along the first axis; got shape {tuple(shape)}.")
