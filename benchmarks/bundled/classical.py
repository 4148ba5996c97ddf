"""What there is without a trained model: fill the box, GrabCut, the random walker; from the same boxes and clicks.

With a box, both look at twice the box, take what is outside of it for background and its core for the object: from a
rectangle alone, GrabCut finds nothing in more than half of the tight boxes. A click is a small disc that is known. With
clicks alone they look at the whole slice, whose frame is background. Large areas are looked at smaller.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from real_cases import fill_box, pixel_box

from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.prompts import Box, Prompts

Mask = NDArray[np.bool_]
#: What is seen with a box, as a factor of its sides, and the core of it that is inside for certain.
AROUND, CORE = 2.0, 0.3
#: Radius of a click in pixels of what is looked at, and the longest side of that.
RADIUS = 2.5
LONGEST_CUT, LONGEST_WALK = 256, 128
BETA, ITERATIONS = 130, 5
UNKNOWN, INSIDE, OUTSIDE = 0, 1, 2


class Area(NamedTuple):
    """A part of the slice, resized: its picture, the box in it, and what clicks say of its pixels."""

    rows: slice
    columns: slice
    picture: NDArray[np.uint8]
    box: tuple[slice, slice] | None
    core: tuple[slice, slice] | None
    known: NDArray[np.uint8]

    def on_slice(self, mask: Mask, shape: tuple[int, int]) -> Mask:
        import cv2

        out = np.zeros(shape, bool)
        size = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)
        out[self.rows, self.columns] = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
        return out


def look_at(case: Case, prompts: Prompts, longest: int) -> Area:
    import cv2

    height, width = case.truth.shape
    rows, columns = slice(0, height), slice(0, width)
    if prompts.box is not None:
        reach = prompts.box.expand(AROUND)
        for point in prompts.points:
            reach = reach.union(Box(point.y, point.x, point.y, point.x))
        rows, columns = pixel_box(reach.clip(height, width))
    picture = case.seen_through.apply(case.volume.slice(case.plane, case.slice_index))[rows, columns]
    scale = min(1.0, longest / max(picture.shape[:2]))
    size = tuple(max(1, round(scale * n)) for n in picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    factors = size[0] / (rows.stop - rows.start), size[1] / (columns.stop - columns.start)

    def scaled(y: float, x: float) -> tuple[float, float]:
        return (y - rows.start + 0.5) * factors[0] - 0.5, (x - columns.start + 0.5) * factors[1] - 0.5

    known = np.full(size, UNKNOWN, np.uint8)
    ys, xs = np.indices(size)
    for point in prompts.points:
        y, x = scaled(point.y, point.x)
        known[(ys - y) ** 2 + (xs - x) ** 2 <= RADIUS**2] = INSIDE if point.positive else OUTSIDE
    box = core = None
    if prompts.box is not None:
        low, high = scaled(prompts.box.y0, prompts.box.x0), scaled(prompts.box.y1, prompts.box.x1)
        small = Box(*low, *high)
        box, core = (pixel_box(b.clip(*size)) for b in (small, small.expand(CORE)))
    return Area(rows, columns, np.ascontiguousarray(picture), box, core, known)


def outside_of(area: Area) -> Mask:
    """Pixels outside of the box; the frame where there is none, or nothing is outside of it."""
    out = np.ones(area.known.shape, bool)
    if area.box is not None:
        out[area.box] = False
        if out.any():
            return out
    out[1:-1, 1:-1] = False
    return out


def fill(case: Case, prompts: Prompts) -> Mask | None:
    """The box; None without one, and clicks do not change it."""
    return None if prompts.box is None or prompts.points else fill_box(case, prompts.box)


def grab_cut(case: Case, prompts: Prompts) -> Mask:
    """GrabCut with five iterations; the filled box or discs where it has too few pixels to learn from."""
    import cv2

    area = look_at(case, prompts, LONGEST_CUT)
    outside = outside_of(area)
    labels = np.full(outside.shape, cv2.GC_PR_BGD if area.box is None else cv2.GC_PR_FGD, np.uint8)
    labels[outside] = cv2.GC_BGD
    if area.core is not None:
        labels[area.core] = cv2.GC_FGD
    labels[area.known == INSIDE], labels[area.known == OUTSIDE] = cv2.GC_FGD, cv2.GC_BGD
    start = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    cv2.setRNGSeed(0)
    try:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(area.picture, labels, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # fewer pixels inside than its mixture has components
        return area.on_slice(start, case.truth.shape)
    return area.on_slice((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), case.truth.shape)


def random_walk(case: Case, prompts: Prompts) -> Mask:
    """The random walker between the core of the box and what is outside of it, or clicks and the frame."""
    from skimage.segmentation import random_walker

    area = look_at(case, prompts, LONGEST_WALK)
    labels = np.full(area.known.shape, UNKNOWN, np.int32)
    labels[outside_of(area)] = OUTSIDE
    if area.core is not None:
        labels[area.core] = INSIDE
    labels[area.known != UNKNOWN] = area.known[area.known != UNKNOWN]
    if not (labels == UNKNOWN).any() or not (labels == OUTSIDE).any() or not (labels == INSIDE).any():
        return area.on_slice(labels == INSIDE, case.truth.shape)
    grey = bool((area.picture == area.picture[..., :1]).all())
    data = (area.picture[..., 0] if grey else area.picture) / 255.0
    options: dict[str, Any] = {"beta": BETA, "mode": "cg_j", "channel_axis": None if grey else -1}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # it tells of solvers that are not installed, and of pixels that no seed reaches
        found = random_walker(data, labels, **options)
    return area.on_slice(found == INSIDE, case.truth.shape)


#: Name to method, in the order of the columns.
CLASSICAL: dict[str, Callable[[Case, Prompts], Mask | None]] = {
    "GrabCut": grab_cut,
    "random walker": random_walk,
    "box": fill,
}
