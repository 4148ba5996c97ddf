"""Simulated prompts: boxes that overlap the true one by a given amount, and clicks inside an object.

What METHODS of the papers leave open is decided here: "overlap" is the intersection over union of two boxes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, Point

#: A box is accepted when its overlap is this close to the one asked for.
TOLERANCE = 0.01
_SCALES = (math.log(0.8), math.log(1.25))
_REDRAWS = 200
_BISECTIONS = 60


def box_at_overlap(box: Box, iou: float, rng: np.random.Generator, shape: tuple[int, int]) -> Box:
    """Draw a box whose intersection over union with `box` is `iou`, to within :data:`TOLERANCE`.

    Its sides are scaled by independent factors between 0.8 and 1.25 (uniform in the logarithm), then it is shifted in a
    uniformly random direction until the overlap is right, and cut off at the image's border. Where cutting changes the
    overlap the draw is repeated; for a box that fills its image, which no shift satisfies, the cut box itself is
    brought to the overlap.

    Parameters
    ----------
    box : Box
        The true box, inside the image.
    iou : float
        In (0, 1].
    rng : numpy.random.Generator
    shape : (int, int)
        ``(H, W)`` of the image.

    Returns
    -------
    Box
        With fractional coordinates, inside the image.

    Raises
    ------
    InputError
        If `iou` is not in (0, 1], the box is outside the image, or no such box exists (an image of a few pixels).

    Examples
    --------
    >>> box = Box(20, 30, 59, 89)
    >>> simulated = box_at_overlap(box, 0.5, np.random.default_rng(0), (128, 128))
    >>> round(simulated.iou(box), 2)
    0.5
    """
    if not 0 < iou <= 1:
        raise InputError(f"An overlap of {iou} is impossible; choose one above 0 and at most 1, for example 0.5.")
    box = box.clip(*shape)
    if iou == 1:
        return box
    for cut_first in (False, True):
        for _ in range(_REDRAWS):
            drawn = _draw(box, iou, rng, shape, cut_first)
            if drawn is not None and abs(drawn.iou(box) - iou) <= TOLERANCE:
                return drawn
    raise InputError(
        f"No box in the {shape[0]} x {shape[1]} image overlaps the given one ({box.height:g} x {box.width:g} pixels) "
        f"by {iou:g}; use a larger object or image."
    )


def centre_click(mask: NDArray[np.bool_]) -> Point:
    """The most interior pixel of a mask: furthest from its outline and from the image border, the first such pixel.

    Raises
    ------
    InputError
        If the mask is empty.

    Examples
    --------
    >>> centre_click(np.pad(np.ones((3, 5), bool), 2))
    Point(y=3.0, x=3.0, positive=True)
    """
    inside = _nonempty(mask)
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), inside.shape)
    return Point(float(y), float(x))


def random_click(mask: NDArray[np.bool_], rng: np.random.Generator) -> Point:
    """A uniformly drawn pixel of a mask, as a positive point.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    inside = _nonempty(mask)
    y, x = np.unravel_index(rng.choice(np.flatnonzero(inside)), inside.shape)
    return Point(float(y), float(x))


def _nonempty(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = np.asarray(mask, dtype=bool)
    if inside.ndim != 2 or not inside.any():
        raise InputError(f"A click needs a mask (H, W) with at least one pixel, not an empty one of {inside.shape}.")
    return inside


def _draw(box: Box, iou: float, rng: np.random.Generator, shape: tuple[int, int], cut_first: bool) -> Box | None:
    """One attempt: scale, then bisect the shift; None where the scaled box alone already overlaps too little."""
    scale_h, scale_w = np.exp(rng.uniform(*_SCALES, 2))
    angle = rng.uniform(0, 2 * math.pi)

    def shifted(k: float) -> Box:
        cy, cx = box.centre
        cy, cx = cy + k * math.sin(angle) * box.height, cx + k * math.cos(angle) * box.width
        return _about(cy, cx, box.height * scale_h, box.width * scale_w)

    def overlap(k: float) -> float:
        moved = shifted(k)
        return _cut(moved, shape).iou(box) if cut_first else moved.iou(box)

    low, high = 0.0, 2.0
    if overlap(low) < iou:
        return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle) >= iou else (low, middle)
    return _cut(shifted(low), shape)


def _about(cy: float, cx: float, height: float, width: float) -> Box:
    # A box spans from the first to the last pixel centre, one less than its size; smaller than a pixel it stays one.
    half_h, half_w = max(height - 1, 0) / 2, max(width - 1, 0) / 2
    return Box(cy - half_h, cx - half_w, cy + half_h, cx + half_w)


def _cut(box: Box, shape: tuple[int, int]) -> Box:
    top, bottom = (min(max(v, 0.0), shape[0] - 1.0) for v in (box.y0, box.y1))
    left, right = (min(max(v, 0.0), shape[1] - 1.0) for v in (box.x0, box.x1))
    return Box(top, left, bottom, right)
