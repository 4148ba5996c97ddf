"""Simulated clicks: inside the object, or where a prediction is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, Point


def centre_click(mask: NDArray[Any]) -> Point:
    """The most interior pixel of a mask: furthest from its outline and from the image border, the first such pixel.

    Raises
    ------
    InputError
        If the mask is empty.

    Examples
    --------
    >>> centre_click(np.pad(np.ones((3, 5), bool), 2))
    Point(y=3.0, x=3.0, positive=True)
    """
    _, y, x = _deepest(_nonempty(mask))
    return Point(y, x)


def random_click(mask: NDArray[Any], rng: np.random.Generator) -> Point:
    """A uniformly drawn pixel of a mask, as a positive point.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    inside = _nonempty(mask)
    y, x = np.unravel_index(rng.choice(np.flatnonzero(inside)), inside.shape)
    return Point(float(y), float(x))


def random_clicks(mask: NDArray[Any], k: int, rng: np.random.Generator) -> tuple[Point, ...]:
    """Distinct pixels of a mask, uniformly drawn, as positive points: MedSAM-U's 3P, 5P and 10P.

    Parameters
    ----------
    mask : (H, W)
        Nonzero inside.
    k : int
        How many; a mask of fewer pixels gives all of them.
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If the mask is empty or `k` is below 1.

    Examples
    --------
    >>> random_clicks(np.eye(2), 3, np.random.default_rng(0))
    (Point(y=0.0, x=0.0, positive=True), Point(y=1.0, x=1.0, positive=True))
    """
    if k < 1:
        raise InputError(f"The number of clicks is at least 1, not {k}.")
    inside = _nonempty(mask)
    places = np.flatnonzero(inside)
    drawn = rng.choice(places, min(k, places.size), replace=False)
    return tuple(Point(y, x) for y, x in zip(*np.unravel_index(drawn, inside.shape), strict=True))


def error_click(prediction: NDArray[Any], truth: NDArray[Any], taken: Iterable[tuple[int, int]] = ()) -> Point | None:
    """The click that corrects most: the deepest pixel of what is missing or of what is too much.

    The usual oracle of interactive segmentation (Sofiiuk et al., "Reviving iterative training with mask guidance",
    ICIP 2022; SAM 2 is trained with it too): the Euclidean distance to the outline is taken among false negatives and
    among false positives, the image's border being an outline, and the pixel furthest inside is clicked. It is a
    positive click when false negatives are strictly deeper, negative otherwise, and the first such pixel in raster
    order.

    Parameters
    ----------
    prediction, truth : (H, W)
        Masks, nonzero inside.
    taken : iterable of (y, x)
        Pixels that were clicked already, which are not clicked again.

    Returns
    -------
    Point or None
        None when no pixel is wrong but those taken.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> truth = np.zeros((5, 9), bool); truth[1:4, 1:8] = True
    >>> error_click(truth & (np.arange(9) < 4), truth)
    Point(y=2.0, x=5.0, positive=True)
    """
    predicted, true = np.asarray(prediction) != 0, np.asarray(truth) != 0
    if predicted.shape != true.shape:
        raise InputError(f"A prediction {predicted.shape} and a truth {true.shape} cannot be compared.")
    taken = list(taken)
    missing, excess = (_deepest(error, taken) for error in (true & ~predicted, predicted & ~true))
    positive = missing[0] > excess[0]
    depth, y, x = missing if positive else excess
    return Point(y, x, positive) if depth > 0 else None


def pixel_at(y: float, x: float, shape: tuple[int, ...]) -> tuple[int, int]:
    """The pixel that a place lies on, ``(row, column)``; the nearest one for places beyond the border.

    Examples
    --------
    >>> pixel_at(1.5, -0.5, (4, 4))
    (2, 0)
    """
    row, column = (int(np.clip(np.floor(v + 0.5), 0, n - 1)) for v, n in zip((y, x), shape, strict=True))
    return row, column


def _nonempty(mask: NDArray[Any]) -> NDArray[np.bool_]:
    inside = np.asarray(mask, dtype=bool)
    if inside.ndim != 2 or not inside.any():
        raise InputError(f"A click needs a mask (H, W) with at least one pixel, not an empty one of {inside.shape}.")
    return inside


def _deepest(mask: NDArray[np.bool_], taken: Iterable[tuple[int, int]] = ()) -> tuple[float, int, int]:
    """Depth, row and column of the most interior pixel that is not taken; a depth of 0 where there is none."""
    if not mask.any():
        return 0.0, 0, 0
    # Nothing beyond the mask's box is inside, so the distances in it are those in the whole image.
    box = Box.of_mask(mask)
    top, left = int(box.y0), int(box.x0)
    part = mask[top : int(box.y1) + 1, left : int(box.x1) + 1]
    depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    for y, x in taken:
        if 0 <= y - top < part.shape[0] and 0 <= x - left < part.shape[1]:
            depth[y - top, x - left] = 0
    row, column = np.unravel_index(int(depth.argmax()), part.shape)
    return float(depth[row, column]), int(row) + top, int(column) + left
