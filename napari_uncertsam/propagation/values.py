"""What propagation starts from and what it says of a slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.marginal import MarginalBelief
from napari_uncertsam.prompts import Prompts
from napari_uncertsam.view import View


@dataclass(frozen=True, eq=False)
class Anchor:
    """A slice that the person gave or confirmed, from which propagation starts.

    Parameters
    ----------
    slice_index : int
    view : View
        Where `logits` lie in the slice.
    logits : (h, w) float32
        Of the mask, on a grid over the view; their sign alone where the mask is `confirmed`.
    prompts : Prompts
        In slice coordinates; empty for a slice that was painted or confirmed only.
    confirmed : bool
        The mask is exactly what the person wants (painted, or reviewed), not what a model made of prompts.
    token : object
        Opaque: what that slice looked like when propagation was asked for.
    """

    slice_index: int
    view: View
    logits: NDArray[np.float32] = field(repr=False)
    prompts: Prompts = field(default_factory=Prompts)
    confirmed: bool = False
    token: object = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or not np.isfinite(self.logits).all():
            raise InputError(f"The mask of slice {self.slice_index} has to be finite and (h, w).")


@dataclass(frozen=True, eq=False)
class Propagated:
    """What propagation says of one object on one slice.

    Parameters
    ----------
    plane, slice_index : int
    shape : (int, int)
        Of the slice.
    view : View
        What the model saw.
    mean, variance : (h, w) float16
        Of the logits, on the low-resolution grid of the view; half precision, for there are many slices.
    anchors : tuple of int
        Slices that it came from, nearest first: one, or one on either side.
    area_px, area_sd_px : float
        Area of the mask in pixels of the slice, and the standard deviation of the true one.
    uncertain_px : float
        How many pixels the mask is expected to have wrong.
    mean_uncertainty : float
        Mean entropy around the object in nats.
    expected_dice : float
    record : mapping
        Model, checkpoint hash, device, seed, versions.
    """

    plane: int
    slice_index: int
    shape: tuple[int, int]
    view: View
    mean: NDArray[np.float16] = field(repr=False)
    variance: NDArray[np.float16] = field(repr=False)
    anchors: tuple[int, ...]
    area_px: float
    area_sd_px: float
    uncertain_px: float
    mean_uncertainty: float
    expected_dice: float
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def belief(self) -> MarginalBelief:
        """The distribution over the logits, a new value each time: it takes more memory than this."""
        return MarginalBelief(self.mean.astype(np.float32), self.variance.astype(np.float32))

    def local_mask(self) -> tuple[slice, slice, NDArray[np.bool_]]:
        """Rows and columns of the slice that the view covers, and the mask there."""
        logits = self.view.local_map(self.mean.astype(np.float32), *self.shape)
        return *self.view.inside(*self.shape), logits > 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.mean.nbytes + self.variance.nbytes
