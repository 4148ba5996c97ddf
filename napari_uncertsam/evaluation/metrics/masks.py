"""How much two masks overlap, as areas and along their outlines. A mask is boolean or integer, nonzero inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_uncertsam.evaluation.metrics.inputs import Mask, as_mask, as_masks


def iou(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Intersection over union of two masks, in [0, 1]; 1.0 when both are empty.

    Examples
    --------
    >>> iou(np.array([0, 1, 1]), np.array([1, 1, 0]))
    0.3333333333333333
    """
    a, b = as_masks(prediction, truth)
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def dice(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Dice coefficient ``2 |A & B| / (|A| + |B|)`` of two masks, in [0, 1]; 1.0 when both are empty.

    Examples
    --------
    >>> dice(np.array([0, 1, 1]), np.array([1, 1, 0]))
    0.5
    """
    a, b = as_masks(prediction, truth)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / total) if total else 1.0


def precision(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Share of the predicted pixels that are true, in [0, 1]; 1.0 when nothing is predicted.

    Examples
    --------
    >>> precision(np.array([0, 1, 1, 1]), np.array([1, 1, 0, 0]))
    0.3333333333333333
    """
    a, b = as_masks(prediction, truth)
    predicted = np.count_nonzero(a)
    return float(np.count_nonzero(a & b) / predicted) if predicted else 1.0


def recall(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Share of the true pixels that are predicted, in [0, 1]; 1.0 when the truth is empty."""
    return precision(truth, prediction)


def boundary_iou(prediction: NDArray[Any], truth: NDArray[Any], ratio: float = 0.02) -> float:
    """IoU of the bands along the inside of two outlines (Cheng et al., CVPR 2021), in [0, 1].

    Parameters
    ----------
    prediction, truth : (H, W)
        The image border counts as outline.
    ratio : float
        Band width as a share of the image diagonal; at least 1 pixel.
    """
    return boundary_ious(prediction, truth, (ratio,))[0]


def boundary_ious(prediction: NDArray[Any], truth: NDArray[Any], ratios: tuple[float, ...]) -> list[float]:
    """:func:`boundary_iou` for several band widths at the price of one."""
    a, b = as_masks(prediction, truth)
    depths = _depth(a), _depth(b)
    out = []
    for ratio in ratios:
        width = max(1, round(ratio * math.hypot(*a.shape)))
        bands = [(depth > 0) & (depth <= width) for depth in depths]
        out.append(iou(*bands))
    return out


def _depth(mask: Mask) -> NDArray[np.int32]:
    """Chessboard steps from every inner pixel to the background, which begins beyond the image's border; 0 outside.

    d erosions with a 3 x 3 square leave the pixels more than d such steps away.
    """
    depth = np.zeros(mask.shape, np.int32)
    around = bounding_slices(mask)
    if around is not None:
        inner = np.pad(mask[around], 1)
        depth[around] = ndimage.distance_transform_cdt(inner, "chessboard")[1:-1, 1:-1]
    return depth


def bounding_slices(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box of array indices that holds all true elements; None without any."""
    found = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        if hit.size == 0:
            return None
        found.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(found)


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
    mask = as_mask(truth)
    side = 2 * math.ceil(ratio * math.hypot(*mask.shape)) + 1
    return ndimage.maximum_filter(mask, side, mode="constant", cval=0)  # type: ignore[no-any-return]


def hard_error(prediction: NDArray[Any], truth: NDArray[Any]) -> Mask:
    """Where the mask is wrong: ``prediction != truth``, of the shape of the input."""
    a, b = as_masks(prediction, truth)
    return np.asarray(a != b, np.bool_)
