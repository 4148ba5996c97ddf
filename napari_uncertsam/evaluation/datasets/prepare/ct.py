"""A CT volume as UncertSAM shows it to SAM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.volume import Window

#: Percentiles of the foreground between which intensities are kept.
PERCENTILES = (0.05, 99.95)


def segvol_window(voxels: NDArray[Any]) -> Window:
    """The window that SegVol's normalisation, scaled to 8 bit, amounts to.

    SegVol (Du et al., 2025, which UncertSAM follows) calls foreground what exceeds the volume's mean, clips all voxels
    to its percentiles 0.05 and 99.95, and subtracts its mean and divides by its standard deviation. UncertSAM does not
    say how it gets from there to 8 bit; here the lower bound becomes 0 and the upper 255. Since that undoes whatever
    was subtracted and divided by, mean and standard deviation do not matter, and the whole is a window.

    Parameters
    ----------
    voxels : (Z, Y, X)
        Of the whole volume. Values that are not finite do not count.

    Examples
    --------
    >>> segvol_window(np.array([[[0, 0, 0, 100, 200]]])).high
    199.95...
    """
    values = np.asarray(voxels)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    foreground = values[values > values.mean(dtype=np.float64)] if values.size else values
    if not foreground.size:  # one value everywhere
        foreground = values if values.size else np.zeros(1)
    low, high = np.percentile(foreground, PERCENTILES)
    return Window(float(low), float(high), "SegVol")
