"""Which of several boxes did the user mean? Masks of many boxes, weighed by what a right mask looks like.

From a coarse box a model is confidently wrong, so no number of that one mask says so. Masks of other boxes do: the
expected Dice of a mask with the true one is its mean Dice with the masks of all hypotheses, each weighted by
``exp(score / TEMPERATURE)`` (a decision of least Bayes risk). The score is the Dice by which a mask is expected to be
better than the present one, a ridge regression on the features below. Its coefficients were fitted on synthetic images
alone; `benchmarks/refinement_score.py` does it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box
from napari_uncertsam.uncertainty import binary_entropy, logit, sigmoid

#: Difference of the score that makes a hypothesis e times as likely; chosen with the coefficients.
TEMPERATURE = 0.02
#: A model's estimate of its overlap is trusted no further than this from 0 and 1.
OVERLAP_LIMIT = 0.01
#: How strongly masks that the model trusts count in the consensus: e times as much for a tenth more overlap.
TRUST = 10.0
#: Cells about a mask's box that it is told apart from.
MARGIN = 2


class Weight(NamedTuple):
    """A feature's mean and deviation, and its coefficients: see :func:`scores`."""

    mean: float
    deviation: float
    linear: float
    square: float
    present: float


#: Feature to weights, as `benchmarks/refinement_score.py` prints them: 300 synthetic images, seed 2026, bundled model.
WEIGHTS: dict[str, Weight] = {
    "overlap": Weight(1.4316, 0.8446, 0.0034, 0.0013, 0.0026),
    "consensus": Weight(0.8207, 0.1539, 0.1065, -0.0047, 0.0194),
    "contrast": Weight(0.2809, 0.2493, 0.0187, -0.0014, -0.0006),
    "area": Weight(-0.4373, 0.3196, -0.0052, -0.0062, 0.0107),
    "entropy": Weight(5.7650, 48.3185, 0.0169, -0.0001, 0.0008),
    "box": Weight(0.6944, 0.1402, -0.0006, 0.0009, -0.0014),
    "fit": Weight(0.6895, 0.1479, 0.0062, -0.0078, 0.0123),
    "tightness": Weight(0.8006, 0.1326, 0.0005, 0.0004, 0.0008),
    "border": Weight(0.1123, 0.3452, 0.0001, -0.0001, -0.0051),
}


def features(
    logits: NDArray[np.float32],
    boxes: Sequence[Box],
    overlaps: NDArray[np.float32],
    given: Box,
    image: NDArray[np.uint8] | None,
) -> NDArray[np.float64]:
    """What the masks of several boxes look like.

    Parameters
    ----------
    logits : (n, h, w) float32
        Of every box's mask, on the grid of the view.
    boxes : sequence of Box
        In cells.
    overlaps : (n,) float32
        The model's own estimate of each mask's intersection over union.
    given : Box
        The user's box in cells, whatever box is the present one.
    image : (H, W, 3) uint8, optional
        What the model saw; without it masks do not differ in contrast.

    Returns
    -------
    (n, 9) float64
        In the order of :data:`WEIGHTS`: logit of the estimated overlap; Dice with the other masks, weighted by their
        overlaps; share of the colours' variance about the mask that it explains; log of the area relative to `given`;
        entropy in nats per unit of outline; overlap of the box with `given`, of the mask's box with `given`, and of the
        mask's box with the box; mask on the view's border, relative to the root of its area.

    Raises
    ------
    InputError
        If the numbers of logits, boxes and overlaps differ.
    """
    if not len(logits) == len(boxes) == len(overlaps):
        raise InputError(f"There are {len(logits)} masks, {len(boxes)} boxes and {len(overlaps)} overlaps.")
    masks = logits > 0
    area = masks.sum((1, 2))
    trusted = np.clip(overlaps.astype(np.float64), OVERLAP_LIMIT, 1 - OVERLAP_LIMIT)
    trust = np.exp(TRUST * (trusted - trusted.max()))
    around = [Box.of_mask(mask) if mask.any() else None for mask in masks]
    entropy = binary_entropy(sigmoid(logits)).sum((1, 2), dtype=np.float64)
    border = masks[:, 0].sum(1) + masks[:, -1].sum(1) + masks[:, :, 0].sum(1) + masks[:, :, -1].sum(1)
    contrast = np.zeros(len(masks))
    if image is not None:
        pixels = _on_grid(image, (masks.shape[1], masks.shape[2]))
        contrast[:] = [0.0 if box is None else _contrast(pixels, m, box) for m, box in zip(masks, around, strict=True)]
    columns = [
        logit(trusted),
        dice_matrix(masks) @ trust / trust.sum(),
        contrast,
        np.log((area + 1) / given.area),
        entropy / np.maximum(outlines(masks), 1),
        [box.iou(given) for box in boxes],
        [0.0 if box is None else box.iou(given) for box in around],
        [0.0 if own is None else own.iou(box) for own, box in zip(around, boxes, strict=True)],
        border / np.maximum(np.sqrt(area), 1),
    ]
    return np.stack([np.asarray(column, np.float64) for column in columns], 1)


def scores(values: NDArray[np.float64], weights: dict[str, Weight] | None = None) -> NDArray[np.float64]:
    """By how much Dice each mask is expected to be better than the first, by itself.

    With z the standardised features and z0 those of the first mask, the sum over features of
    ``linear (z - z0) + square (z^2 - z0^2) + present (z - z0) z0``: what a difference is worth depends on how the
    present mask does.

    Parameters
    ----------
    values : (n, f) float64
        Of :func:`features`; the present mask first.
    weights : dict, optional
        By default :data:`WEIGHTS`.

    Returns
    -------
    (n,) float64
        Zero for the first.
    """
    mean, deviation, linear, square, present = np.array(list((weights or WEIGHTS).values())).T
    z = (values - mean) / deviation
    change = z - z[:1]
    return np.asarray(change @ linear + (z**2 - z[:1] ** 2) @ square + (change * z[:1]) @ present)


def expected_dice(
    masks: NDArray[np.bool_], score: NDArray[np.float64], temperature: float = TEMPERATURE
) -> NDArray[np.float64]:
    """Mean Dice of each mask with all, weighted by ``exp(score / temperature)``.

    Examples
    --------
    >>> masks = np.array([[[1, 0, 0]], [[0, 1, 1]], [[0, 1, 1]]], bool)
    >>> print(expected_dice(masks, np.zeros(3)).round(2))
    [0.33 0.67 0.67]
    """
    weight = np.exp((score - score.max()) / temperature)
    return np.asarray(dice_matrix(masks) @ weight / weight.sum())


def dice_matrix(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice of every mask with every mask, ``(n, n)``; two empty ones agree.

    Examples
    --------
    >>> print(dice_matrix(np.array([[[1, 1, 0]], [[0, 1, 0]]], bool)).round(2))
    [[1.   0.67]
     [0.67 1.  ]]
    """
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    shared, area = (flat @ flat.T).astype(np.float64), flat.sum(1, dtype=np.float64)
    total = area[:, None] + area[None]
    return np.where(total > 0, 2 * shared / np.maximum(total, 1), 1.0)


def outlines(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Length of each mask's outline: pairs of neighbouring cells of which one belongs to it.

    Examples
    --------
    >>> outlines(np.array([[[0, 0, 0], [0, 1, 0], [0, 0, 0]]], bool))
    array([4])
    """
    down, across = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]
    return np.asarray(down.sum((1, 2)) + across.sum((1, 2)), np.int64)


def _contrast(pixels: NDArray[np.float32], mask: NDArray[np.bool_], box: Box) -> float:
    """Share of the variance of the colours in and about a mask's box that lies between mask and surroundings."""
    rows = slice(max(int(box.y0) - MARGIN, 0), int(box.y1) + 1 + MARGIN)
    columns = slice(max(int(box.x0) - MARGIN, 0), int(box.x1) + 1 + MARGIN)
    colours, inside = pixels[:, rows, columns].reshape(len(pixels), -1), mask[rows, columns].ravel()
    within = sum(part.var(1).sum() * part.shape[1] for part in (colours[:, inside], colours[:, ~inside]) if part.size)
    # A flat patch has no variance to explain; a thousandth of the range of colours counts as flat.
    return float(1 - within / colours.shape[1] / (colours.var(1).sum() + 1e-4))


def _on_grid(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The image averaged into the cells of the grid, ``(3, h, w)`` in [0, 1]."""
    import torch
    from torch.nn import functional as F

    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(pixels, shape, mode="bilinear", antialias=True, align_corners=False)[0].numpy()
