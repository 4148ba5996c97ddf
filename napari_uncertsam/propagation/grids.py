"""Masks on grids over views: moved to another view, measured in millimetres, kept in one piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_uncertsam.prompts import Box
from napari_uncertsam.view import ZOOM, View

Map = NDArray[np.float32]

#: A view is kept as long as the object stays this share of its side away from its border.
MARGIN = 0.08
#: A view is left for a smaller one when that would be less than this share of its side.
SHRUNK = 0.7


def moved(values: Map, old: View, new: View) -> Map:
    """A map over one view on the grid of the same size over another; edge values are repeated beyond the old one."""
    if old == new:
        return values
    grid = values.shape[0], values.shape[1]
    places = np.meshgrid(*cells_between(new, grid, old, grid), indexing="ij")
    return np.asarray(ndimage.map_coordinates(values, places, order=1, mode="nearest"), np.float32)


def cells_between(
    view: View, grid: tuple[int, int], other: View, other_grid: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of a grid over a view as fractional cells of another grid over another view."""
    rows, columns = (np.arange(n, dtype=np.float64) for n in grid)
    y = view.top + (rows + 0.5) * view.height / grid[0] - 0.5
    x = view.left + (columns + 0.5) * view.width / grid[1] - 0.5
    y = (y + 0.5 - other.top) * other_grid[0] / other.height - 0.5
    x = (x + 0.5 - other.left) * other_grid[1] / other.width - 0.5
    return y, x


def regridded(values: Map, grid: tuple[int, int]) -> Map:
    """A map on a grid of another size over the same view: averaged where that is coarser, bilinear where finer."""
    if values.shape == grid:
        return values
    import torch
    from torch.nn import functional as F

    source = torch.as_tensor(np.array(values, np.float32))[None, None]
    return np.asarray(F.interpolate(source, grid, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy())


def cell_mm(view: View, grid: tuple[int, int], spacing: tuple[float, float]) -> tuple[float, float]:
    """Height and width in millimetres of a cell of a grid over a view of pixels of that spacing."""
    return view.height / grid[0] * spacing[0], view.width / grid[1] * spacing[1]


def signed_distance(mask: NDArray[np.bool_], cell: tuple[float, float]) -> Map:
    """Millimetres to the outline of a mask, positive inside; 1000 mm where there is no outline.

    Examples
    --------
    >>> signed_distance(np.array([[False, True, True, True]]), (1.0, 2.0))
    array([[-1.,  1.,  3.,  5.]], dtype=float32)
    """
    if mask.all() or not mask.any():
        return np.full(mask.shape, 1000.0 if mask.any() else -1000.0, np.float32)
    half = min(side for side, count in zip(cell, mask.shape, strict=True) if count > 1) / 2
    inside = ndimage.distance_transform_edt(mask, sampling=cell) - half
    outside = ndimage.distance_transform_edt(~mask, sampling=cell) - half
    return np.asarray(np.where(mask, inside, -outside), np.float32)


def touching(mask: NDArray[np.bool_], before: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask that overlap the one before: an object does not jump from slice to slice."""
    parts, _ = ndimage.label(mask)
    met = np.unique(parts[before & mask])
    return np.asarray(np.isin(parts, met[met > 0]))


def area_px(mask: NDArray[np.bool_], view: View) -> float:
    """Area of a mask on a grid over a view, in pixels of the slice; at least that of a cell."""
    return max(float(mask.sum()), 1.0) * view.height * view.width / mask.size


def box_on_slice(mask: NDArray[np.bool_], view: View) -> Box:
    """Box of a mask on a grid over a view, in pixels of the slice."""
    return view.box_to_slice(Box.of_mask(mask), (mask.shape[0], mask.shape[1]))


def following(view: View, box: Box, shape: tuple[int, int], spacing: tuple[float, float], zoom: float = ZOOM) -> View:
    """The view to look at next: the present one as long as it shows the object well, else one around its box."""
    height, width = shape
    around = View.around(box, height, width, zoom, spacing)
    low_y, low_x = view.top + MARGIN * view.height, view.left + MARGIN * view.width
    high_y, high_x = view.top + (1 - MARGIN) * view.height, view.left + (1 - MARGIN) * view.width
    inside = (
        (box.y0 >= low_y or view.top <= 0)
        and (box.x0 >= low_x or view.left <= 0)
        and (box.y1 <= high_y or view.top + view.height >= height)
        and (box.x1 <= high_x or view.left + view.width >= width)
    )
    return view if inside and around.height > SHRUNK * view.height else around
