"""From the masks that a publisher gives to one mask per object: UncertSAM's appendix B."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Objects have to be larger than this many pixels.
MIN_PIXELS = 1000
#: Rounds of dilation, and then of erosion, by 3 x 3.
CLOSINGS = 2


def split_components(
    mask: NDArray[np.bool_], *, min_pixels: int = MIN_PIXELS, closings: int = CLOSINGS
) -> list[NDArray[np.bool_]]:
    """The separate regions of a mask that are large enough.

    The mask is closed, the 8-connected components of the closed mask are found, what the closing added is taken away
    again, and components larger than `min_pixels` are kept. The paper says neither the connectivity (8 is OpenCV's
    default) nor what closing twice means. Closing is idempotent, so it is taken as OpenCV's ``iterations=2``: two
    dilations, then two erosions, with nothing beyond the border. ``closings=1`` is the other reading.

    Parameters
    ----------
    mask : (H, W) bool
    min_pixels, closings : int

    Returns
    -------
    list of (H, W) bool
        Ordered by their first pixel, row by row.

    Examples
    --------
    >>> mask = np.zeros((9, 40), bool)
    >>> mask[2:6, 2:8] = mask[2:6, 11:20] = mask[2:6, 30:32] = True
    >>> [int(part.sum()) for part in split_components(mask, min_pixels=10)]
    [60]
    >>> [int(part.sum()) for part in split_components(mask, min_pixels=10, closings=1)]
    [24, 36]
    """
    from scipy import ndimage

    side = 2 * closings + 1  # a square dilated by a square is a square
    closed = ndimage.maximum_filter(mask.astype(np.uint8), side, mode="constant", cval=0)
    closed = ndimage.minimum_filter(closed, side, mode="constant", cval=1)
    labels, _ = ndimage.label(closed, np.ones((3, 3)))
    labels = np.where(mask, labels, 0)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return [labels == value for value in np.flatnonzero(sizes > min_pixels)]


def split_colours(mask: NDArray[np.integer], *, min_pixels: int = 0) -> list[NDArray[np.bool_]]:
    """One mask for each colour except black, which is taken for the background.

    Parameters
    ----------
    mask : (H, W) or (H, W, 3 or 4) uint8
        Grey values count as colours; alpha is ignored.
    min_pixels : int
        Colours with no more pixels are left out, such as those between two colours at an edge.

    Returns
    -------
    list of (H, W) bool
        By their red, then green, then blue values, ascending.

    Examples
    --------
    >>> mask = np.zeros((2, 3, 3), np.uint8)
    >>> mask[0, 0] = 255, 0, 0
    >>> mask[1] = 0, 0, 255
    >>> [part.sum(axis=1).tolist() for part in split_colours(mask)]
    [[0, 3], [1, 0]]
    """
    channels = mask[..., :3].astype(np.uint32) if mask.ndim == 3 else mask[..., None].astype(np.uint32)
    codes = channels[..., 0]
    for channel in range(1, channels.shape[-1]):
        codes = codes * 256 + channels[..., channel]
    values, counts = np.unique(codes, return_counts=True)
    return [codes == value for value, count in zip(values, counts, strict=True) if value and count > min_pixels]
