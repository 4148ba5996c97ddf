"""Points and boxes where a mask is uncertain: MedSAM-U's UGPA (eq. 10 to 12), every open question a named option."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box
from napari_uncertsam.uncertainty import LN2

Spread = Literal["nms", "none"]
Threshold = Literal["half-max", "otsu", "absolute"]
Components = Literal["touching", "largest", "all"]

#: Distance between suggested points, relative to the diagonal of the box.
RADIUS = 0.03
#: Below this uncertainty in nats (one answer in 600 the other way) there is nothing to ask about.
LEAST_SCORE = 0.01
#: Maps whose largest uncertainty is below this, in nats, give no box.
FLOOR = 0.1
#: Margin of a dilated box relative to its longer side.
DILATION = 0.1
#: Components smaller than this share of the map are dropped.
SMALLEST_SHARE = 1e-4


class GridPoint(NamedTuple):
    """A cell of the grid, its uncertainty in nats and its probability of being inside the object."""

    y: int
    x: int
    score: float
    probability: float


def suggest_points(
    entropy: ArrayLike,
    probability: ArrayLike,
    k: int,
    *,
    spread: Spread = "nms",
    radius: float = RADIUS,
    box: Box | None = None,
    known: Iterable[tuple[float, float]] = (),
    known_radius: float | None = None,
    least: float = LEAST_SCORE,
) -> list[GridPoint]:
    """The most uncertain cells, most uncertain first; ties in raster order; no cell twice.

    Parameters
    ----------
    entropy, probability : (h, w) array-like
        In nats, and in [0, 1].
    k : int
        At most so many; fewer if no other cell is uncertain enough or far enough.
    spread : {"nms", "none"}
        Keep points further apart than a radius, or take the plain top k as the paper does.
    radius : float
        Relative to the diagonal of `box`; at least one cell.
    box : Box, optional
        The object's box in cells; by default the box of ``probability > 0.5``, or the whole map if that is empty.
    known : iterable of (y, x)
        Cells near these, in (fractional) cells, are not suggested: points that were answered already.
    known_radius : float, optional
        In cells; by default the distance between points.
    least : float
        Cells at or below this uncertainty are not suggested.

    Raises
    ------
    InputError
        If the maps do not fit each other or hold NaN, k is negative, or there is no such spread.

    Examples
    --------
    >>> suggest_points([[0.0, 0.6, 0.5, 0.1, 0.4]], [[0.0, 0.4, 0.2, 0.0, 0.9]], 2)
    [GridPoint(y=0, x=1, score=0.6, probability=0.4), GridPoint(y=0, x=4, score=0.4, probability=0.9)]
    """
    scores, inside = _maps(entropy, probability)
    _choice("spread", spread, ("nms", "none"))
    if k < 0:
        raise InputError(f"The number of suggested points is at least 0, not {k}.")
    reach = max(1.0, radius * _diagonal(inside, box)) if spread == "nms" else 0.0
    around = max(1.0, radius * _diagonal(inside, box)) if known_radius is None else known_radius
    left = np.where(scores > least, scores, -np.inf)
    for y, x in known:
        left[_disc(left.shape, y, x, around)] = -np.inf
    found: list[GridPoint] = []
    while len(found) < k and left.size:
        y, x = (int(i) for i in np.unravel_index(int(left.argmax()), left.shape))
        if left[y, x] == -np.inf:
            break
        found.append(GridPoint(y, x, float(scores[y, x]), float(inside[y, x])))
        left[_disc(left.shape, y, x, reach)] = -np.inf
    return found


def uncertain_box(
    entropy: ArrayLike,
    probability: ArrayLike,
    box: Box | None = None,
    *,
    threshold: Threshold = "half-max",
    components: Components = "touching",
    floor: float = FLOOR,
    dilation: float = DILATION,
    smallest: int | None = None,
) -> Box | None:
    """The box around the uncertain edge, by the smallest and largest coordinates (eq. 10 and 11), in cells.

    Parameters
    ----------
    entropy, probability : (h, w) array-like
        In nats, and in [0, 1].
    box : Box, optional
        The present box in cells; used to tell which uncertain regions belong to the object.
    threshold : {"half-max", "otsu", "absolute"}
        Uncertain is above half the largest value; above Otsu's threshold; above ``0.5 ln 2`` (P in [.11, .89]).
    components : {"touching", "largest", "all"}
        Which 8-connected uncertain regions count: those that touch the dilated box or the mask ``P > 0.5`` (grown by
        one cell); the biggest one; all.
    floor : float
        No box if the largest uncertainty is below this.
    dilation : float
        Margin about `box`, relative to its longer side (at least one cell).
    smallest : int, optional
        Smaller regions are dropped, in cells; by default ``max(1, 1e-4 h w)``, since one cell is 16 model pixels.

    Returns
    -------
    Box or None
        None if nothing is uncertain enough.

    Raises
    ------
    InputError
        If the maps do not fit each other or hold NaN, or an option has no such choice.

    Examples
    --------
    >>> u = np.zeros((8, 8)); u[2:5, 3:7] = 0.6
    >>> uncertain_box(u, u / 3)
    >>> uncertain_box(u, u / 3, Box(1, 1, 4, 4))
    Box(y0=2.0, x0=3.0, y1=4.0, x1=6.0)
    """
    from scipy import ndimage

    scores, inside = _maps(entropy, probability)
    _choice("threshold", threshold, ("half-max", "otsu", "absolute"))
    _choice("choice of components", components, ("touching", "largest", "all"))
    if scores.size == 0 or scores.max() < floor:
        return None
    labels, count = ndimage.label(scores > _cut(scores, threshold), np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = sizes >= (max(1, math.ceil(SMALLEST_SHARE * scores.size)) if smallest is None else smallest)
    kept[0] = False
    if components == "touching":
        near = ndimage.binary_dilation(inside > 0.5, np.ones((3, 3)))
        if box is not None:
            near |= cells_in(scores.shape, box, dilation)
        kept &= np.bincount(labels[near], minlength=count + 1) > 0
    elif components == "largest" and count:
        kept &= np.arange(count + 1) == 1 + sizes[1:].argmax()
    region = kept[labels]
    return Box.of_mask(region) if region.any() else None


def cells_in(shape: tuple[int, ...], box: Box, dilation: float = 0.0) -> NDArray[np.bool_]:
    """Cells whose centre lies in a box of cells; with `dilation`, grown by that share of the longer side (1 at least).

    Examples
    --------
    >>> cells_in((3, 4), Box(1, 1, 1, 2)).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    margin = 0.5 + (max(1.0, dilation * max(box.height, box.width)) if dilation > 0 else 0.0)
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    in_rows = (rows >= box.y0 - margin) & (rows <= box.y1 + margin)
    in_columns = (columns >= box.x0 - margin) & (columns <= box.x1 + margin)
    return in_rows[:, None] & in_columns


def box_means(entropy: ArrayLike, probability: ArrayLike, box: Box) -> tuple[float, float]:
    """Mean uncertainty and mean probability over the cells of a box; zeros for a box that holds no cell's centre."""
    scores, inside = _maps(entropy, probability)
    cells = cells_in(scores.shape, box)
    if not cells.any():
        return 0.0, 0.0
    return float(scores[cells].mean()), float(inside[cells].mean())


def _cut(scores: NDArray[np.float64], threshold: Threshold) -> float:
    if threshold == "half-max":
        return float(scores.max()) / 2
    if threshold == "absolute":
        return 0.5 * LN2
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(scores))  # type: ignore[no-untyped-call,unused-ignore]


def _diagonal(probability: NDArray[np.float64], box: Box | None) -> float:
    """Diagonal of the box, of the mask's box, or of the map, in cells."""
    if box is None:
        mask = probability > 0.5
        box = Box.of_mask(mask) if mask.any() else Box(0, 0, mask.shape[0] - 1, mask.shape[1] - 1)
    return math.hypot(box.height, box.width)


def _disc(shape: tuple[int, ...], y: float, x: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def _maps(entropy: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores, inside = np.asarray(entropy, np.float64), np.asarray(probability, np.float64)
    if scores.ndim != 2 or scores.shape != inside.shape:
        raise InputError(f"The uncertainty map {scores.shape} and the probability map {inside.shape} do not fit.")
    if np.isnan(scores).any() or np.isnan(inside).any():
        raise InputError("The uncertainty or the probability map holds values that are not numbers.")
    return scores, inside


def _choice(what: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"There is no {what} {value!r}; choose one of {', '.join(choices)}.")
