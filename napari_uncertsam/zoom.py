"""Where to look: views for clicks without a box, and when a view has to grow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.view import View, longest_side, pitches

#: A view grows when the object covers more than this share of the view's border.
BORDER_SHARE = 0.02
#: Widest view for clicks alone, in pixels: on larger slices an object is looked for around the click only.
WIDEST = 4096
#: What a coarse mask that is cut off by its view loses against the others, in predicted intersection over union.
CUT_OFF = 0.3


def enclosing(box: Box, prompts: Prompts) -> Box:
    """The box and all points."""
    ys, xs = [p.y for p in prompts.points], [p.x for p in prompts.points]
    return Box(min([box.y0, *ys]), min([box.x0, *xs]), max([box.y1, *ys]), max([box.x1, *xs]))


def coarse_views(
    prompts: Prompts, height: int, width: int, resolution: int, spacing: tuple[float, float] = (1.0, 1.0)
) -> list[View]:
    """Views in which to look first when there are only clicks.

    A small model sees small objects only when zoomed in, and is cheap: it looks at every halving of the side, from the
    whole slice (at most :data:`WIDEST` pixels) to a quarter of it or 128 pixels. A large one costs seconds per view on
    a CPU and was trained on whole images: it looks at the widest view only. Lengths are in the finer pixels where
    `spacing`, in millimetres between rows and between columns, says that they are not square.
    """
    down, right = pitches(spacing)
    ys, xs = [p.y for p in prompts.points], [p.x for p in prompts.points]
    y, x = (min(ys) + max(ys)) / 2, (min(xs) + max(xs)) / 2
    spread = 1.3 * max(down * (max(ys) - min(ys)), right * (max(xs) - min(xs)), 1.0)
    side = longest_side(height, width, spacing)
    widest = math.ceil(max(min(side, WIDEST), spread))
    sides = [widest]
    while resolution <= 512 and sides[-1] // 2 >= max(min(side // 4, 128), 32, spread):
        sides.append(sides[-1] // 2)
    return [View.centred(round(y), round(x), s, height, width, spacing) for s in sides]


def object_box(logits: NDArray[np.float32], view: View, prompts: Prompts) -> Box | None:
    """Box (slice frame) of the parts of a mask that hold a positive point; None when there are none."""
    from scipy import ndimage

    labels, _ = ndimage.label(logits > 0)
    hit = set()
    for point in prompts.points:
        if point.positive:
            y, x = (round(v) for v in view.slice_to_grid(point.y, point.x, logits.shape))
            if 0 <= y < logits.shape[0] and 0 <= x < logits.shape[1]:
                hit.add(int(labels[y, x]))
    hit.discard(0)
    if not hit:
        return None
    return view.box_to_slice(Box.of_mask(np.isin(labels, list(hit))), logits.shape)


def touches_border(logits: NDArray[np.float32], view: View, height: int, width: int) -> bool:
    """Whether the mask ``logits > 0`` runs out of the view on a side where the image goes on."""
    mask = logits > 0
    inner = []
    if view.top > 0:
        inner.append(mask[0])
    if view.left > 0:
        inner.append(mask[:, 0])
    if view.top + view.height < height:
        inner.append(mask[-1])
    if view.left + view.width < width:
        inner.append(mask[:, -1])
    return bool(inner) and bool(np.mean(np.concatenate(inner)) > BORDER_SHARE)


def surroundings(prompts: Prompts, height: int, width: int, spacing: tuple[float, float] = (1.0, 1.0)) -> Box:
    """An eighth of the slice about the first positive click, where no mask was found."""
    positive = next((p for p in prompts.points if p.positive), prompts.points[0])
    side = max(16, longest_side(height, width, spacing) // 8)
    return View.centred(round(positive.y), round(positive.x), side, height, width, spacing).box.clip(height, width)
