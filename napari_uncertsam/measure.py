"""What a belief says about the slice: maps in its pixels, the area, the mean uncertainty, and where to ask."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.estimators.field import MaskField
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES, Measure, uncertainty_of
from napari_uncertsam.prediction import Maps, Settings
from napari_uncertsam.prompts import Box, Prompts, Suggestion
from napari_uncertsam.suggestions.information import Ranking, box_gain, suggest_informative
from napari_uncertsam.suggestions.quality import Drawn, draw_masks
from napari_uncertsam.suggestions.ugpa import box_means, suggest_points, uncertain_box
from napari_uncertsam.uncertainty import area_interval, sigmoid
from napari_uncertsam.view import View

#: Distance between suggested points as a share of the diagonal of the object's box: three on a side look spread out.
SPREAD = 0.1


def maps_on_slice(belief: Belief, view: View, shape: tuple[int, int], measure: Measure = "entropy") -> Maps:
    """A belief's maps on the pixels of a slice of the given shape; in place where it can be, for views may be huge."""
    logits = view.local_map(belief.logits(), *shape)
    mask = logits > 0
    probability = sigmoid(logits).astype(np.float32, copy=False)
    del logits
    uncertainty = view.local_map(uncertainty_of(belief, measure), *shape)
    np.clip(uncertainty, 0, UNCERTAINTY_MEASURES[measure].largest, out=uncertainty)
    return Maps(shape, *view.inside(*shape), mask, probability, uncertainty)


def areas(
    belief: Belief, view: View, maps: Maps, known: tuple[float, float] | None = None
) -> tuple[float, tuple[float, float]]:
    """Area of the mask and its 90 % interval, in pixels of the slice; the interval may be `known` about."""
    if known is None:
        cell = view.height * view.width / belief.logits().size
        low, high = (cell * end for end in belief.area_interval(0.9))
    else:
        low, high = known
    area = float(maps.local_mask.sum())
    # In cells the object may seem a little smaller or larger than in pixels, or reach over the image's border.
    return area, (min(low, area), min(max(high, area), float(maps.local_mask.size)))


def region_of_interest(maps: Maps, prompts: Prompts) -> tuple[slice, slice]:
    """Local rows and columns around the object and its box, with a margin of a fifth; everything without either."""
    boxes = [prompts.box] if prompts.box is not None else []
    if maps.local_mask.any():
        local = Box.of_mask(maps.local_mask)
        top, left = maps.rows.start, maps.columns.start
        boxes.append(Box(local.y0 + top, local.x0 + left, local.y1 + top, local.x1 + left))
    if not boxes:
        return slice(None), slice(None)
    union = boxes[0].union(boxes[-1]).expand(1.4)
    bounds = []
    for start, stop, low, high in (
        (maps.rows.start, maps.rows.stop, union.y0, union.y1),
        (maps.columns.start, maps.columns.stop, union.x0, union.x1),
    ):
        first = int(np.clip(np.floor(low) - start, 0, stop - start - 1))
        last = int(np.clip(np.ceil(high) + 1 - start, first + 1, stop - start))
        bounds.append(slice(first, last))
    return bounds[0], bounds[1]


def suggestions_on_slice(
    belief: Belief,
    view: View,
    prompts: Prompts,
    settings: Settings,
    shape: tuple[int, int],
    field: MaskField | None = None,
    drawn: Drawn | None = None,
) -> tuple[Suggestion, ...]:
    """At most K points and a box, in slice coordinates, most useful first; no two points on the same pixel.

    Points are those that teach most about `field`, or without it the most uncertain ones; the box is UGPA's, and its
    gain is that of the masks `drawn` of the field. For K = 0 there is neither.
    """
    wanted = settings.n_suggestions
    if wanted == 0:
        return ()
    grid, inside = belief.shape, cells_on_slice(belief.shape, view, shape)
    entropy, probability = np.where(inside, belief.entropy(), 0), belief.probability()
    known = [view.slice_to_grid(p.y, p.x, grid) for p in prompts.points]
    # Where cells are smaller than pixels, some of those found share a pixel.
    many = wanted * (4 if view.height < grid[0] or view.width < grid[1] else 1)
    cell = (view.height / grid[0]) * (view.width / grid[1])
    if settings.suggest == "entropy" or field is None:
        found = [(*point, math.nan) for point in suggest_points(entropy, probability, many, radius=SPREAD, known=known)]
    else:
        ranking: Ranking = "area" if settings.suggest == "information" else "mutual-information"
        told = suggest_informative(field, many, allowed=inside, known=known, ranking=ranking)
        found = [(p.y, p.x, float(entropy[p.y, p.x]), p.probability, p.gain * cell) for p in told]
    points: dict[tuple[int, int], Suggestion] = {}
    for y, x, score, chance, gain in found:
        sy, sx = view.point_to_slice(y, x, grid)
        points.setdefault((round(sy), round(sx)), Suggestion("point", sy, sx, score, chance, gain=gain))
    out = list(points.values())[:wanted]
    box = suggested_box(belief, entropy, inside, view, prompts, settings)
    if box is not None:
        score, chance = box_means(entropy, probability, box)
        on_slice = view.box_to_slice(box, grid).clip(*shape)
        gain = math.nan
        if drawn is not None and prompts.box is not None:
            rng = np.random.default_rng([settings.seed, 2])
            gain = float(cell) * box_gain(drawn, view.box_to_grid(prompts.box, grid), box, rng)
        out.append(Suggestion("box", *on_slice.centre, score, chance, on_slice, gain))
        if math.isfinite(gain):
            out.sort(key=lambda suggestion: -suggestion.gain)
    return tuple(out)


def uncertain_area(maps: Maps) -> float:
    """How many pixels the mask is expected to have wrong, ``sum min(P, 1 - P)``."""
    probability = maps.local_probability
    return float(np.minimum(probability, 1 - probability).sum(dtype=np.float64))


def drawn_on_slice(field: MaskField, view: View, shape: tuple[int, int], seed: int) -> Drawn:
    """Masks that might be the true one, cut off at the border of the slice."""
    return draw_masks(field, np.random.default_rng([seed, 3]), cells_on_slice(field.shape, view, shape))


def drawn_areas(drawn: Drawn, view: View, grid: tuple[int, int]) -> tuple[float, float]:
    """90 % interval of the area of drawn masks, in pixels of the slice."""
    cell = (view.height / grid[0]) * (view.width / grid[1])
    low, high = area_interval(drawn.masks.sum((1, 2)) * drawn.step**2 * cell, 0.9)
    return low, high


def cells_on_slice(grid: tuple[int, int], view: View, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Cells of a ``grid = (h, w)`` over the view whose centre lies on the slice: a view may reach over its border."""
    hit = []
    for count, start, size, length in zip(grid, (view.top, view.left), (view.height, view.width), shape, strict=True):
        centres = start + (np.arange(count) + 0.5) * (size / count) - 0.5
        hit.append((centres >= -0.5) & (centres <= length - 0.5))
    return np.asarray(hit[0][:, None] & hit[1])


def suggested_box(
    belief: Belief,
    entropy: NDArray[np.float32],
    inside: NDArray[np.bool_],
    view: View,
    prompts: Prompts,
    settings: Settings,
) -> Box | None:
    """UGPA's refined box in cells: around the uncertain edge of the object and its mask; None when all is certain."""
    mask = (belief.logits() > 0) & inside
    present = None if prompts.box is None else view.box_to_grid(prompts.box, belief.shape)
    ugpa = settings.ugpa
    box = uncertain_box(
        entropy,
        belief.probability(),
        present,
        threshold=ugpa.threshold,
        components=ugpa.components,
        floor=ugpa.floor,
        dilation=ugpa.dilation,
    )
    if box is None or not mask.any() or ugpa.extent == "uncertain":
        return box
    return box.union(Box.of_mask(mask))
