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
from napari_uncertsam.estimators.truncation import LAPSE
from napari_uncertsam.prediction import Maps, Request
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.suggestions.hypotheses import features, scores
from napari_uncertsam.view import View

#: How far the box of a hypothesis is moved, as a share of its side: a box drawn in a hurry is off by as much.
SHIFT = 0.3
#: A hypothesis counts e-fold for every so much Dice that its mask is expected to be better than the present one; at
#: most :data:`MOST`-fold.
TEMPERATURE, MOST = 0.03, 6.0
#: What is left of the doubt about the box once there are clicks, which the model was corrected by; as of answers and
#: corrections simulated on synthetic images.
CORRECTED = np.float32(0.7)
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
        if box is not None and point.positive and point.given:
            box = box.union(Box(point.y, point.x, point.y, point.x))
    return replace(prompts, box=box)


def answers_of(prompts: Prompts) -> tuple[Point, ...]:
    """The points that somebody gave; those that an automatic round made up are prompts alone."""
    return tuple(p for p in prompts.points if p.given)


def added_points(before: Request, after: Request) -> tuple[Point, ...]:
    """The points that a request has more than the one before; none where it differs in anything else."""
    known, points = before.prompts.points, after.prompts.points
    same = replace(after, prompts=replace(after.prompts, points=known)) == before
    return points[len(known) :] if same and points[: len(known)] == known else ()


def adopted(refined: Prompts, given: Prompts, view: View, shape: tuple[int, int], resolution: int) -> Prompts:
    """Prompts of a refinement on the slice: the user's points to the last digit, and what was added to them."""
    on_slice = view.prompts_to_slice(refined, resolution)
    added = tuple(p for p in on_slice.points[len(given.points) :] if p.is_in(*shape))
    box = on_slice.box
    box = box.clip(*shape) if box is not None and box.meets(*shape) else given.box
    return replace(on_slice, points=(*given.points, *added), box=box)


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

    The whole mask may be wrong together, as that of a box drawn beside the object would be, and the field knows of such
    directions. With clicks the model was corrected already, its mask before them fed back, and less of this is left:
    :data:`CORRECTED`.

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
    moved = hypotheses(engine, embedding, view, prompts, belief, fed_back=bool(clicks))
    return field_of(belief, length, CORRECTED * moved if clicks else moved).answered(
        cells_of(clicks, view, belief.shape)
    )


def hypotheses(
    engine: Engine, embedding: Embedding, view: View, prompts: Prompts, belief: Belief, *, fed_back: bool = False
) -> NDArray[np.float32]:
    """How the logits change with the box moved up, down, left and right, ``(4, h, w)``; none without a box.

    The less the mask of a moved box looks like a right one (:mod:`napari_uncertsam.suggestions.hypotheses`), the
    smaller its change. Changes are from the mask of the prompts alone, which is that of `belief` unless a mask was
    `fed_back`.
    """
    if prompts.box is None:
        return np.zeros((0, *belief.shape), np.float32)
    given, moved = prompts.box, []
    for down, right in ((-SHIFT, 0.0), (SHIFT, 0.0), (0.0, -SHIFT), (0.0, SHIFT)):
        dy, dx = down * given.height, right * given.width
        moved.append(Box(given.y0 + dy, given.x0 + dx, given.y1 + dy, given.x1 + dx))
    boxes = [given, *moved] if fed_back else moved
    asked = [view.prompts_to_view(replace(prompts, box=box), engine.resolution) for box in boxes]
    decoded = engine.decode(embedding, asked)
    logits = np.nan_to_num(decoded.logits.detach().float().cpu().numpy())
    overlaps = decoded.iou.detach().float().cpu().numpy()
    if not fed_back:
        own = float(overlaps.mean()) if belief.predicted_iou is None else belief.predicted_iou
        logits, overlaps = np.stack([belief.logits(), *logits]), np.array([own, *overlaps])
    logits = logits.clip(-_SURE, _SURE)
    cells = [view.box_to_grid(box, belief.shape) for box in (given, *moved)]
    looks = features(logits, cells, overlaps, cells[0], embedding.image)
    odds = np.exp(np.minimum(scores(looks)[1:] / TEMPERATURE, math.log(MOST)))
    changes = np.sqrt(odds / len(moved))[:, None, None] * (logits[1:] - logits[0])
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


def honoured(maps: Maps, clicks: Sequence[Point]) -> Maps:
    """Maps whose mask has every clicked pixel as it was said.

    The field honours clicks on its grid; between cells, at a sharp edge, interpolation may still miss a pixel.
    """
    top, left = maps.rows.start, maps.columns.start
    mask, probability = maps.local_mask, maps.local_probability
    for click in clicks:
        y, x = math.floor(click.y + 0.5) - top, math.floor(click.x + 0.5) - left
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] != click.positive:
            if mask is maps.local_mask:
                mask, probability = mask.copy(), probability.copy()
            mask[y, x], probability[y, x] = click.positive, 1 - LAPSE if click.positive else LAPSE
    return maps if mask is maps.local_mask else replace(maps, local_mask=mask, local_probability=probability)


def answered_belief(belief: Belief, field: MaskField) -> Belief:
    """The belief after the answers of its field; itself where there is none."""
    return AnsweredBelief(field, belief.predicted_iou) if field.steps else belief
