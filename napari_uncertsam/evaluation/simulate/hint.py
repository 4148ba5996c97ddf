"""The true mask as a mask prompt: UncertSAM's upper bound for what a second look can gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.uncertainty import logit
from napari_uncertsam.view import View


def truth_logits(truth: NDArray[np.bool_], side: int, view: View | None = None) -> NDArray[np.float32]:
    """The true mask as a mask prompt: its logit, +-16.12, averaged into the prompt's cells.

    Parameters
    ----------
    truth : (H, W) bool
    side : int
        Of the prompt, a quarter of the model's input.
    view : View, optional
        What the model sees; by default all of it.

    Returns
    -------
    (side, side) float32
        Antialiased bilinear, as images are reduced.
    """
    full = logit(truth.astype(np.float64)).astype(np.float32)
    return (view or View.whole(*truth.shape)).map_from_slice(full, (side, side))
