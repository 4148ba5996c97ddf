"""Simulated boxes: as far off the true one as asked for.

What the papers leave open is named here: MedSAM-U's "overlap" is read as the intersection over union of the simulated
and the true box, or as the part of the true box that is covered.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.prompt_perturbation import jitter_boxes
from napari_uncertsam.prompts import Box

#: What an overlap is: ``|A & B| / |A | B|``, or ``|A & B| / |B|`` with B the true box.
Overlap = Literal["iou", "coverage"]

#: A box is accepted when its overlap is this close to the one asked for.
TOLERANCE = 0.01
#: Side of the square that UncertSAM squashes an image to before it draws noise.
FRAME = 1024
#: Largest factor by which a side is scaled, up or down, as a logarithm.
_SPREAD = math.log(1.25)
_REDRAWS = 200
_BISECTIONS = 60


def overlap_of(box: Box, truth: Box, by: Overlap = "iou") -> float:
    """Overlap of a box with the true one, in [0, 1].

    Examples
    --------
    >>> overlap_of(Box(5, 0, 14, 9), Box(0, 0, 9, 9), "coverage")
    0.5
    """
    return box.iou(truth) if by == "iou" else box.intersection(truth) / truth.area


def box_at_overlap(
    box: Box, overlap: float, rng: np.random.Generator, shape: tuple[int, int], by: Overlap = "iou"
) -> Box:
    """Draw a box whose overlap with `box` is as given, to within :data:`TOLERANCE`.

    Its sides are scaled by independent factors between 0.8 and 1.25 (uniform in the logarithm), then it is shifted in a
    uniformly random direction until the overlap is right, and cut off at the image's border. Where cutting changes the
    overlap the draw is repeated; for a box that fills its image, which no shift satisfies, the cut box itself is
    brought to the overlap. Overlaps so close to 1 that the scaling alone goes below them are drawn with less scaling.

    Parameters
    ----------
    box : Box
        The true box, inside the image.
    overlap : float
        In (0, 1]; 1 is `box` itself.
    rng : numpy.random.Generator
    shape : (int, int)
        ``(H, W)`` of the image.
    by : {"iou", "coverage"}
        Intersection over union, or the part of `box` that is covered.

    Returns
    -------
    Box
        With fractional coordinates, inside the image.

    Raises
    ------
    InputError
        If `overlap` is not in (0, 1], the box is outside the image, or no such box exists (an image of a few pixels).

    Examples
    --------
    >>> box = Box(20, 30, 59, 89)
    >>> simulated = box_at_overlap(box, 0.5, np.random.default_rng(0), (128, 128))
    >>> round(simulated.iou(box), 2)
    0.5
    """
    if not 0 < overlap <= 1:
        raise InputError(f"An overlap of {overlap} is impossible; choose one above 0 and at most 1, for example 0.5.")
    box = box.clip(*shape)
    if overlap == 1:
        return box
    for spread in (_SPREAD, min(_SPREAD, -math.log(overlap) / 2)):
        for cut_first in (False, True):
            for _ in range(_REDRAWS):
                drawn = _draw(box, overlap, rng, shape, by, spread, cut_first)
                if drawn is not None and abs(overlap_of(drawn, box, by) - overlap) <= TOLERANCE:
                    return drawn
    raise InputError(
        f"No box in the {shape[0]} x {shape[1]} image overlaps the given one ({box.height:g} x {box.width:g} pixels) "
        f"by {overlap:g}; use a larger object or image."
    )


def noisy_box(box: Box, rng: np.random.Generator, shape: tuple[int, int]) -> Box:
    """The box with the noise of UncertSAM's prompt perturbation, as if drawn a little carelessly.

    Every coordinate moves by ``U[-1, 1] * min(0.1 side, 20 px)``, the 20 pixels being those of the 1024 x 1024 frame
    that UncertSAM squashes the whole image to: in the image they are ``20 / 1024`` of its height for rows and of its
    width for columns. The result is cut off at the frame's last pixel, and at the image's.

    Parameters
    ----------
    box : Box
        The true box, inside the image.
    rng : numpy.random.Generator
    shape : (int, int)
        ``(H, W)`` of the image.
    """
    (noisy,) = jitter_boxes(box, 1, rng, shape=shape, resolution=FRAME, rule="uncertsam")
    return noisy.clip(*shape)


def _draw(
    box: Box,
    overlap: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
    by: Overlap,
    spread: float,
    cut_first: bool,
) -> Box | None:
    """One attempt: scale, then bisect the shift; None where the scaled box alone already overlaps too little."""
    scale_h, scale_w = np.exp(rng.uniform(-spread, spread, 2))
    angle = rng.uniform(0, 2 * math.pi)

    def shifted(k: float) -> Box:
        cy, cx = box.centre
        cy, cx = cy + k * math.sin(angle) * box.height, cx + k * math.cos(angle) * box.width
        return _about(cy, cx, box.height * scale_h, box.width * scale_w)

    def reached(k: float) -> bool:
        moved = shifted(k)
        return overlap_of(_cut(moved, shape) if cut_first else moved, box, by) >= overlap

    low, high = 0.0, 2.0
    if not reached(low):
        return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) else (low, middle)
    return _cut(shifted(low), shape)


def _about(cy: float, cx: float, height: float, width: float) -> Box:
    # A box spans from the first to the last pixel centre, one less than its size; smaller than a pixel it stays one.
    half_h, half_w = max(height - 1, 0) / 2, max(width - 1, 0) / 2
    return Box(cy - half_h, cx - half_w, cy + half_h, cx + half_w)


def _cut(box: Box, shape: tuple[int, int]) -> Box:
    top, bottom = (min(max(v, 0.0), shape[0] - 1.0) for v in (box.y0, box.y1))
    left, right = (min(max(v, 0.0), shape[1] - 1.0) for v in (box.x0, box.x1))
    return Box(top, left, bottom, right)
