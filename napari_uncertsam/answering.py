"""What the user's clicks say of the mask, beyond what the model makes of them.

A click is a prompt, and the model decides what to make of it. It is also the truth about one place: the field of the
belief (:mod:`napari_uncertsam.estimators.field`) is conditioned on every click, so that the mask honours it whatever
the model does, and what is known of one place counts for those around it and for those alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.engine import Embedding, Engine
from napari_uncertsam.estimators.answered import AnsweredBelief
from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.estimators.field import LENGTH, Answer, MaskField, field_of
from napari_uncertsam.prediction import Request
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.view import View

#: How far the box of a hypothesis is moved, as a share of its side: a box drawn in a hurry is off by as much.
SHIFT = 0.3
#: A priori a box is where it was drawn rather than beside the object: share of the variance that hypotheses have.
DOUBT = 0.5
#: A hypothesis counts e-fold for every so much that the model thinks its mask better, in predicted intersection over
#: union; at most :data:`MOST`-fold.
TRUST, MOST = 0.05, 4.0
#: Logits of hypotheses count up to this: beyond it all are equally sure.
_SURE = 12.0


def corrected(prompts: Prompts) -> Prompts:
    """Prompts as the model gets them: a point inside of the object but outside of the box makes the box larger.

    Examples
    --------
    >>> corrected(Prompts((Point(20, 5),), Box(0, 0, 9, 9))).box
    Box(y0=0.0, x0=0.0, y1=20.0, x1=9.0)
    """
    box = prompts.box
    for point in prompts.points:
        if box is not None and point.positive:
            box = box.union(Box(point.y, point.x, point.y, point.x))
    return replace(prompts, box=box)


def added_points(before: Request, after: Request) -> tuple[Point, ...]:
    """The points that a request has more than the one before; none where it differs in anything else."""
    known, points = before.prompts.points, after.prompts.points
    same = replace(after, prompts=replace(after.prompts, points=known)) == before
    return points[len(known) :] if same and points[: len(known)] == known else ()


def cells_of(points: Sequence[Point], view: View, grid: tuple[int, int]) -> list[Answer]:
    """Clicks on a slice as answers about cells of a grid over the view; those beside the view are left out."""
    found = []
    for point in points:
        y, x = (round(v) for v in view.slice_to_grid(point.y, point.x, grid))
        if 0 <= y < grid[0] and 0 <= x < grid[1]:
            found.append(Answer(y, x, point.positive))
    return found


def make_field(
    engine: Engine, embedding: Embedding, view: View, prompts: Prompts, belief: Belief, *, clicks: Sequence[Point]
) -> MaskField:
    """The field of a belief after the clicks.

    Parameters
    ----------
    engine, embedding
        Of the view; asked what the mask would be if the box were beside the object.
    view : View
    prompts : Prompts
        What `belief` came of, in coordinates of the slice.
    belief : Belief
    clicks : sequence of Point
        What is known of the mask, in coordinates of the slice.
    """
    length = correlation_length(view, prompts, belief)
    field = field_of(belief, length, hypotheses(engine, embedding, view, prompts, belief))
    return field.answered(cells_of(clicks, view, belief.shape))


def hypotheses(
    engine: Engine, embedding: Embedding, view: View, prompts: Prompts, belief: Belief
) -> NDArray[np.float32]:
    """How the logits change with the box moved up, down, left and right, ``(4, h, w)``; none without a box.

    The less likely a hypothesis, by the model's own estimate of its mask, the smaller its change.
    """
    box = prompts.box
    if box is None:
        return np.zeros((0, *belief.shape), np.float32)
    moved = []
    for down, right in ((-SHIFT, 0.0), (SHIFT, 0.0), (0.0, -SHIFT), (0.0, SHIFT)):
        dy, dx = down * box.height, right * box.width
        moved.append(replace(prompts, box=Box(box.y0 + dy, box.x0 + dx, box.y1 + dy, box.x1 + dx)))
    decoded = engine.decode(embedding, [view.prompts_to_view(given, engine.resolution) for given in moved])
    logits = np.nan_to_num(decoded.logits.detach().float().cpu().numpy()).clip(-_SURE, _SURE)
    better = decoded.iou.detach().float().cpu().numpy() - (belief.predicted_iou or 0.0)
    odds = 1.0 if belief.predicted_iou is None else np.minimum(np.exp(better.clip(max=1) / TRUST), MOST)
    size = np.sqrt(DOUBT * odds / len(moved)) * np.ones(len(moved))
    changes = size[:, None, None] * (logits - belief.logits().clip(-_SURE, _SURE))
    return np.asarray(changes, np.float32)


def correlation_length(view: View, prompts: Prompts, belief: Belief) -> float:
    """Correlation length of the noise in cells: of the size of the object's box, or of its mask's, or of the view's."""
    grid = belief.shape
    if prompts.box is not None:
        box = view.box_to_grid(prompts.box, grid)
    else:
        mask = belief.logits() > 0
        box = Box.of_mask(mask) if mask.any() else Box(0, 0, grid[0] - 1, grid[1] - 1)
    return max(1.0, LENGTH * math.sqrt(min(box.area, grid[0] * grid[1])))


def answered_belief(belief: Belief, field: MaskField) -> Belief:
    """The belief after the answers of its field; itself where there is none."""
    return AnsweredBelief(field, belief.predicted_iou) if field.steps else belief
