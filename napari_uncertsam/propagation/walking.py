"""A walk through the slices, away from an anchor: what every kind of walk is told and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

from napari_uncertsam.engine import Decoded, Embedding, Engine
from napari_uncertsam.propagation.grids import Map, cells_between, moved, regridded
from napari_uncertsam.propagation.values import Anchor
from napari_uncertsam.view import View

#: Variance that the logits gain with every slice further from what the person gave.
DRIFT = 0.3
#: Gives logits and their variance, ``(h, w)`` each, of the one row of a decode.
LogitsOf = Callable[[Decoded], tuple[Map, Map]]


@dataclass(frozen=True)
class Ground:
    """What a walk goes over.

    Parameters
    ----------
    engine : Engine
    look : callable
        ``look(slice_index, view) -> Embedding``.
    logits_of : callable
        What a decode says, by the method of uncertainty.
    shape : (int, int)
        Of the slices.
    spacing : (float, float)
        Millimetres between rows and columns.
    gap : float
        Millimetres between slices.
    count : int
        Number of slices.
    zoom : bool
        Look at the surroundings of the object, or at whole slices.
    """

    engine: Engine
    look: Callable[[int, View], Embedding]
    logits_of: LogitsOf
    shape: tuple[int, int]
    spacing: tuple[float, float]
    gap: float
    count: int
    zoom: bool = True


@dataclass(frozen=True, eq=False)
class Step:
    """What a walk says of a slice.

    Parameters
    ----------
    slice_index : int
    view : View
    mean, variance : (h, w) float32
        Of the logits on the grid of the view.
    present : bool
        Whether the object is there at all, as far as the walk can tell.
    """

    slice_index: int
    view: View
    mean: Map
    variance: Map
    present: bool = True


class Walk(Protocol):
    """Goes from slice to slice, each a neighbour of the one before."""

    def step(self, index: int) -> Step | None:
        """What there is on the next slice; None where the object has ended."""


def merged(near: Step, far: Step, share: float) -> Step:
    """Two walks' views of one slice as one distribution: the moments of their mixture.

    Parameters
    ----------
    near, far : Step
        Of the same slice; the result is on the grid of `near`.
    share : float
        Weight of `far`, in [0, 1].

    Notes
    -----
    ``E[f] = (1 - s) m1 + s m2`` and ``Var[f] = (1 - s) v1 + s v2 + s (1 - s) (m1 - m2)^2``: where both ends disagree,
    the slice is uncertain.

    Examples
    --------
    >>> ones = np.ones((1, 1), np.float32)
    >>> view = View(0, 0, 1, 1)
    >>> both = merged(Step(3, view, ones, ones), Step(3, view, -3 * ones, ones), 0.5)
    >>> both.mean.item(), both.variance.item()
    (-1.0, 5.0)
    """
    mean, variance = (moved(part, far.view, near.view) for part in (far.mean, far.variance))
    spread = share * (1 - share) * (near.mean - mean) ** 2
    return Step(
        near.slice_index,
        near.view,
        np.asarray((1 - share) * near.mean + share * mean, np.float32),
        np.asarray((1 - share) * near.variance + share * variance + spread, np.float32),
        near.present or far.present,
    )


def mask_over(anchor: Anchor, view: View, grid: tuple[int, int]) -> Map:
    """Logits of an anchor on a grid over another view; beyond its own view there is no object."""
    if anchor.view == view:
        return regridded(np.asarray(anchor.logits, np.float32), grid)
    y, x = cells_between(view, grid, anchor.view, (anchor.logits.shape[0], anchor.logits.shape[1]))
    outside = float(min(anchor.logits.min(), -8.0))
    # The outermost half cells belong to its view, too.
    y, x = (
        np.where(abs(v - (n - 1) / 2) <= n / 2, v.clip(0, n - 1), v)
        for v, n in zip((y, x), anchor.logits.shape, strict=True)
    )
    places = np.meshgrid(y, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(anchor.logits, places, order=1, cval=outside), np.float32)
