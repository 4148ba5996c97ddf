"""How good the present mask is expected to be: its Dice with masks that might be the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_uncertsam.estimators.field import MaskField

#: Draws, and cells along a side that they are drawn on.
DRAWS, SIDE = 200, 64
#: Probability of the interval.
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Quality:
    """Dice of the present mask with the true one, as far as it is known.

    Parameters
    ----------
    dice : float
        Its expectation, in [0, 1].
    low, high : float
        Ends of the 90 % interval.
    """

    dice: float
    low: float
    high: float


def drawn_dice(
    mask_field: MaskField, rng: np.random.Generator, inside: NDArray[np.bool_] | None = None, draws: int = DRAWS
) -> NDArray[np.float64]:
    """Dice of the mask ``mean > 0`` with each of `draws` masks of the field, ``(draws,)``.

    Parameters
    ----------
    mask_field : MaskField
    rng : numpy.random.Generator
    inside : (h, w) bool, optional
        Cells that count; all by default.
    draws : int
    """
    step = max(1, max(mask_field.shape) // SIDE)
    every = (slice(step // 2, None, step),) * 2
    counted = np.ones(mask_field.shape, bool)[every] if inside is None else inside[every]
    mask = (mask_field.mean[every] > 0) & counted
    masks = (mask_field.sample(draws, rng, step) > 0) & counted
    shared = (masks & mask).sum((1, 2), dtype=np.float64)
    total = masks.sum((1, 2), dtype=np.float64) + mask.sum()
    return np.where(total > 0, 2 * shared / np.maximum(total, 1), 1.0)


def quality_of(dice: NDArray[np.float64]) -> Quality:
    """Mean and central 90 % interval of drawn Dice coefficients."""
    low, high = np.quantile(dice, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Quality(float(dice.mean()), float(low), float(high))
