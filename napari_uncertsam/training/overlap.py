"""Coarse boxes for training: as far off the true ones as asked for, many at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Largest logarithm of the factor by which a side is scaled, up or down.
SPREAD = math.log(1.25)
#: A box counts as drawn when its overlap is this close to the one asked for.
TOLERANCE = 0.01
#: Attempts; in the second half it is the cut box that is brought to the overlap, for objects that fill the image.
ATTEMPTS = 40
_BISECTIONS = 30


def boxes_at_overlap(corners: Tensor, overlap: float, generator: torch.Generator, size: int) -> Tensor:
    """Boxes whose intersection over union with the given ones is `overlap`, to within :data:`TOLERANCE`.

    MedSAM-U's "overlap r". Sides are scaled by independent factors between 0.8 and 1.25, then a box is shifted in a
    uniformly random direction until the overlap is right, cut off at the image's border, and drawn again where that
    changed the overlap. Where no attempt gets there (objects of a few pixels), the closest one stands.

    Parameters
    ----------
    corners : (n, 2, 2) float32
        First and last pixel of each box, (x, y), inside the image.
    overlap : float
        In (0, 1).
    generator : torch.Generator
        On the CPU, whatever device `corners` is on.
    size : int
        Side of the square image in pixels.

    Returns
    -------
    (n, 2, 2) float32
        With fractional coordinates, inside the image.

    Examples
    --------
    >>> import torch
    >>> true = torch.tensor([[[20.0, 30.0], [59.0, 89.0]]])
    >>> drawn = boxes_at_overlap(true, 0.5, torch.Generator().manual_seed(0), 128)
    >>> round(box_iou(drawn, true).item(), 1)
    0.5
    """
    best, error = corners.clone(), torch.full((len(corners),), math.inf, device=corners.device)
    for attempt in range(ATTEMPTS):
        drawn = _draw(corners, overlap, generator, size, cut_first=2 * attempt >= ATTEMPTS)
        off = (box_iou(drawn, corners) - overlap).abs()
        better = (off < error) & (error > TOLERANCE)
        best = torch.where(better[:, None, None], drawn, best)
        error = torch.where(better, off, error)
        if (error <= TOLERANCE).all():
            break
    return best


def box_iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of ``(n, 2, 2)`` boxes from first to last pixel, pair by pair: ``(n,)``."""
    shared = (torch.minimum(one[:, 1], other[:, 1]) - torch.maximum(one[:, 0], other[:, 0]) + 1).clamp(min=0).prod(1)
    areas = ((box[:, 1] - box[:, 0] + 1).prod(1) for box in (one, other))
    return shared / (sum(areas) - shared)


def _draw(corners: Tensor, overlap: float, generator: torch.Generator, size: int, *, cut_first: bool) -> Tensor:
    """One attempt for each box: scale, then bisect the shift."""
    n, device = len(corners), corners.device
    scale = (SPREAD * (2 * torch.rand(n, 2, generator=generator) - 1)).exp().to(device)
    angle = (2 * math.pi * torch.rand(n, generator=generator)).to(device)
    direction = torch.stack([angle.cos(), angle.sin()], 1)
    side, centre = corners[:, 1] - corners[:, 0] + 1, corners.mean(1)
    half = (side * scale - 1).clamp(min=0) / 2

    def shifted(k: Tensor) -> Tensor:
        middle = centre + k[:, None] * direction * side
        return torch.stack([middle - half, middle + half], 1)

    low, high = torch.zeros(n, device=device), torch.full((n,), 2.0, device=device)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        box = shifted(middle)
        reached = box_iou(box.clamp(0, size - 1) if cut_first else box, corners) >= overlap
        low, high = torch.where(reached, middle, low), torch.where(reached, high, middle)
    return shifted(low).clamp(0, size - 1)
