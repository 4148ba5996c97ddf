"""Where to look: views for clicks without a box, and when a view has to grow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.view import View

#: A view grows when the object covers more than this share of the view's border.
BORDER_SHARE = 0.02
#: Share of a view's side that an object should span when it is looked for.
WELL_FRAMED = 0.3


def enclosing(box: Box, prompts: Prompts) -> Box:
    """The box and all points."""
    ys, xs = [p.y for p in prompts.points], [p.x for p in prompts.points]
    return Box(min([box.y0, *ys]), min([box.x0, *xs]), max([box.y1, *ys]), max([box.x1, *xs]))


def framing_score(box: Box, cut_off: bool, view: View) -> float:
    """How well a view frames an object, higher is better: it should span about a third of the view, and be whole.

    Chosen on synthetic images: picking the coarse mask this way, and giving its box along with the clicks, raised the
    Dice of one click from 0.35 (highest predicted IoU, clicks alone) to 0.50.
    """
    share = max(box.height / view.height, box.width / view.width)
    return -abs(math.log(share / WELL_FRAMED)) - 2.0 * cut_off


def coarse_views(prompts: Prompts, height: int, width: int, resolution: int) -> list[View]:
    """Views in which to look first when there are only clicks.

    A small model sees small objects only when zoomed in, and is cheap: it looks at three zooms. A large one costs
    seconds per view on a CPU and was trained on whole images: it looks at the whole slice.
    """
    side = max(height, width)
    y, x = np.mean([(p.y, p.x) for p in prompts.points], axis=0)
    spread = max(1.0, *(2 * max(abs(p.y - y), abs(p.x - x)) for p in prompts.points))
    divisors = (1, 2, 4) if resolution <= 512 else (1,)
    sides = [side // d for d in divisors if d == 1 or side // d >= max(32, 1.3 * spread)]
    return [View.centred(round(y), round(x), s, height, width) for s in sides]


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
