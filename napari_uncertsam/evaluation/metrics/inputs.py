"""What every measure checks before it computes: masks, maps and probabilities that fit each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_uncertsam.errors import InputError

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]


def as_mask(mask: NDArray[Any]) -> Mask:
    """A boolean or integer array as a mask, nonzero inside.

    Raises
    ------
    InputError
        If it holds other values, which somebody has to threshold first.
    """
    mask = np.asarray(mask)
    if mask.dtype == np.bool_:
        return mask
    if mask.dtype.kind not in "ui":
        raise InputError(f"A mask is boolean or integer, not {mask.dtype}; threshold probabilities first.")
    return np.asarray(mask != 0, np.bool_)


def as_masks(prediction: NDArray[Any], truth: NDArray[Any]) -> tuple[Mask, Mask]:
    """Two masks of the same shape."""
    predicted, true = as_mask(prediction), as_mask(truth)
    require_same_shape(predicted, true)
    return predicted, true


def require_same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    """Refuse two maps that do not lie over each other."""
    if first.shape != second.shape:
        raise InputError(f"Shapes {first.shape} and {second.shape} differ; compare at the original resolution.")


def as_pixels(values: ArrayLike) -> Float:
    """A map as flat, finite double-precision values with at least one pixel."""
    flat = np.asarray(values, np.float64).ravel()
    if flat.size == 0:
        raise InputError("There is no pixel to measure; the region is empty.")
    if not np.isfinite(flat).all():
        raise InputError("A map to be measured contains NaN or infinite values.")
    return flat


def as_pixel_pairs(first: ArrayLike, second: ArrayLike) -> tuple[Float, Float]:
    """Two maps of the same shape, see :func:`as_pixels`."""
    a, b = np.asarray(first), np.asarray(second)
    require_same_shape(a, b)
    return as_pixels(a), as_pixels(b)


def as_probabilities(probability: ArrayLike, truth: NDArray[Any]) -> tuple[Float, Mask]:
    """Probabilities in [0, 1] and the truth of the same pixels, both flat."""
    mask = as_mask(truth)
    require_same_shape(np.asarray(probability), mask)
    p = as_pixels(probability)
    if p.min() < 0 or p.max() > 1:
        raise InputError(
            f"Probabilities are between 0 and 1, not {p.min():g} to {p.max():g}; apply the sigmoid to logits."
        )
    return p, mask.ravel()


def dot(a: Float, b: Float) -> float:
    """Sum of products without BLAS, whose threads go on spinning for a while and take the cores from the model."""
    return float(np.einsum("i,i->", a, b))
