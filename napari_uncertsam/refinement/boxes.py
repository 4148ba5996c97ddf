"""Boxes that an automatic round tries: the present one moved, scaled and with single sides shifted, and the boxes of
the masks that come of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.base import decoded_logits
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.suggestions.hypotheses import expected_dice, features, scores
from napari_uncertsam.uncertainty import sigmoid

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine
    from napari_uncertsam.refinement.grid import Grid

#: Shifts of the box along one axis and along both, its scalings, and shifts of one side, all relative to the side.
SHIFTS, DIAGONAL, SCALES, SIDES = (0.15, 0.3), 0.2, (0.75, 1.3), (-0.25, 0.25)
#: The box of the mean mask, and of all that is fairly probable: thresholds on the mean probability.
LEVELS = (0.5, 0.3)


def neighbours(box: Box) -> list[Box]:
    """Twenty-two boxes about a box: eight shifts along an axis, four along both, two scalings, eight moved sides.

    Examples
    --------
    >>> len(neighbours(Box(10, 10, 29, 29)))
    22
    >>> neighbours(Box(10, 10, 29, 29))[0]
    Box(y0=7.0, x0=10.0, y1=26.0, x1=29.0)
    """
    tall, wide = box.height, box.width
    offsets = [(sign * share, 0.0) for share in SHIFTS for sign in (-1, 1)]
    offsets += [(0.0, sign * share) for share in SHIFTS for sign in (-1, 1)]
    offsets += [(up * DIAGONAL, left * DIAGONAL) for up in (-1, 1) for left in (-1, 1)]
    moved = [Box(box.y0 + y * tall, box.x0 + x * wide, box.y1 + y * tall, box.x1 + x * wide) for y, x in offsets]
    scaled = [box.expand(factor) for factor in SCALES]
    sides = []
    for share in SIDES:  # positive moves a side outwards
        y, x = share * tall, share * wide
        sides += [replace(box, y0=box.y0 - y), replace(box, x0=box.x0 - x)]
        sides += [replace(box, y1=box.y1 + y), replace(box, x1=box.x1 + x)]
    return moved + scaled + sides


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Boxes, the prompts that hold them, and what the model makes of them; the present prompts come first.

    Parameters
    ----------
    boxes : tuple of Box
        In cells of the grid.
    prompts : tuple of Prompts
        In pixels of the view.
    logits : (n, h, w) float32
    overlaps : (n,) float32
        The model's estimates of the masks' intersection over union.
    """

    boxes: tuple[Box, ...]
    prompts: tuple[Prompts, ...]
    logits: NDArray[np.float32]
    overlaps: NDArray[np.float32]

    def features(self, given: Box, image: NDArray[np.uint8] | None) -> NDArray[np.float64]:
        """See :func:`napari_uncertsam.suggestions.hypotheses.features`."""
        return features(self.logits, self.boxes, self.overlaps, given, image)

    def expected_dice(self, given: Box, image: NDArray[np.uint8] | None) -> NDArray[np.float64]:
        """Expected Dice of every mask, ``(n,)``, as far as the hypotheses span what the object may be."""
        return expected_dice(self.logits > 0, scores(self.features(given, image)))

    def faithful(self, grid: Grid) -> NDArray[np.bool_]:
        """Which masks contradict no more of the user's points than the present one does, ``(n,)``."""
        wrong = np.zeros(len(self.boxes), np.int64)
        points = self.prompts[0].points
        for (y, x), point in zip(grid.points_to_cells(points), points, strict=True):
            row, column = (int(np.clip(round(v), 0, n - 1)) for v, n in zip((y, x), grid.shape, strict=True))
            wrong += (self.logits[:, row, column] > 0) != point.positive
        return np.asarray(wrong <= wrong[0])


def hypothesise(
    engine: Engine, embedding: Embedding, prompts: Prompts, start: Box, grid: Grid, extra: Sequence[Box] = ()
) -> Hypotheses:
    """Predict for the present prompts, for boxes about the present one, and for the boxes of the masks of all these.

    Parameters
    ----------
    engine : Engine
    embedding : Embedding
    prompts : Prompts
        In pixels of the view. Their points and their mask prompt go with every box.
    start : Box
        The box of the prompts in cells; of the mask, where they have none.
    grid : Grid
    extra : sequence of Box
        More boxes to be tried, in cells; they come right after the present one.
    """
    boxes = [start, *(kept for box in (*extra, *neighbours(start)) if (kept := _clipped(box, grid)) is not None)]
    first = _decode(engine, embedding, [prompts, *(replace(prompts, box=grid.box_to_view(b)) for b in boxes[1:])])
    mean = sigmoid(first[0]).mean(0)
    masks = [*(first[0] > 0), *(mean > level for level in LEVELS)]
    around = [Box.of_mask(mask) for mask in masks if mask.any()]
    tried = [prompts, *(replace(prompts, box=grid.box_to_view(b)) for b in (*boxes[1:], *around))]
    if not around:
        return Hypotheses(tuple(boxes), tuple(tried), *first)
    second = _decode(engine, embedding, tried[len(boxes) :])
    logits, overlaps = (np.concatenate(parts) for parts in zip(first, second, strict=True))
    return Hypotheses((*boxes, *around), tuple(tried), logits, overlaps)


def _decode(
    engine: Engine, embedding: Embedding, prompts: Sequence[Prompts]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    decoded = engine.decode(embedding, prompts)
    return decoded_logits(decoded), decoded.iou.detach().float().cpu().numpy()


def _clipped(box: Box, grid: Grid) -> Box | None:
    return box.clip(*grid.shape) if box.meets(*grid.shape) else None
