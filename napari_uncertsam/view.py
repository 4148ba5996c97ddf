"""Zoom to the prompt: which rectangle of a slice the model sees, and how coordinates and maps go there and back."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, Prompts

#: Side of the crop relative to the longer side of the box.
ZOOM = 1.6
#: A view is never smaller than this many pixels: below it, interpolation invents what the model sees.
SMALLEST_SIDE = 16
#: Nor smaller than this many of the coarser pixels, where pixels are not square.
FEWEST_PIXELS = 5
#: Pixels more elongated than this are looked at as if they were this elongated.
LARGEST_ASPECT = 10.0
_SQUARE = 0.01
#: A larger crop is thinned out to this many pixels a side before it goes to the model, which reduces it anyway.
LARGEST_SIDE = 4096


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle of whole pixels of a slice, in array indices; it may reach over the border of the image.

    Parameters
    ----------
    top, left : int
        First row and column; may be negative.
    height, width : int
        Size in pixels, at least 1.

    Raises
    ------
    InputError
        If the view is empty.

    Examples
    --------
    >>> View.around(Box(100, 100, 139, 119), 512, 512)
    View(top=88, left=78, height=64, width=64)
    """

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for name in ("top", "left", "height", "width"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        if self.height < 1 or self.width < 1:
            raise InputError(f"A view of {self.height} x {self.width} pixels shows nothing; it needs at least one.")

    @classmethod
    def whole(cls, height: int, width: int) -> View:
        """The whole ``(height, width)`` slice; the model squashes it to a square, as SAM 2 does."""
        return cls(0, 0, height, width)

    @classmethod
    def around(
        cls, box: Box, height: int, width: int, zoom: float = ZOOM, spacing: tuple[float, float] = (1.0, 1.0)
    ) -> View:
        """View around a box, square in millimetres and quantised so that nudging the box keeps the view.

        The side is the next of a geometric series (ratio ``2 ** 0.25``) at or above `zoom` times the longer side of the
        box, the centre lies on a grid of a twelfth of the side. The view is shifted into the image where it fits.

        Parameters
        ----------
        box : Box
        height, width : int
            Size of the slice.
        zoom : float
            Side of the view relative to the box.
        spacing : (float, float)
            Millimetres between rows and between columns; only their ratio counts, see :func:`pitches`.

        Examples
        --------
        >>> View.around(Box(10, 100, 19, 139), 60, 512, spacing=(3.0, 1.0))
        View(top=3, left=88, height=22, width=64)
        """
        down, right = pitches(spacing)
        smallest = max(SMALLEST_SIDE, FEWEST_PIXELS * max(down, right))
        wanted = max(zoom * max(box.height * down, box.width * right), smallest)
        side = math.ceil(2 ** (math.ceil(4 * math.log2(wanted) - 1e-9) / 4) - 1e-9)
        return cls._about(*box.centre, side, height, width, spacing)

    @classmethod
    def centred(
        cls, y: float, x: float, side: int, height: int, width: int, spacing: tuple[float, float] = (1.0, 1.0)
    ) -> View:
        """View of a given side about a point, square in millimetres and shifted into the image where it fits.

        `side` counts pixels along the axis that has the finer ones.
        """
        return cls._about(y, x, side, height, width, spacing)

    @classmethod
    def _about(cls, y: float, x: float, side: int, height: int, width: int, spacing: tuple[float, float]) -> View:
        side = max(1, min(side, longest_side(height, width, spacing)))
        placed = []
        for centre, pitch, length in zip((y, x), pitches(spacing), (height, width), strict=True):
            pixels = math.ceil(side / pitch - 1e-9)
            step = max(1, pixels // 12)
            placed.append((_place(round(centre / step) * step - pixels // 2, pixels, length), pixels))
        (top, rows), (left, columns) = placed
        return cls(top, left, rows, columns)

    @property
    def box(self) -> Box:
        """The pixels of the view as a box."""
        return Box(self.top, self.left, self.top + self.height - 1, self.left + self.width - 1)

    def meets(self, height: int, width: int) -> bool:
        """Whether the view shows any pixel of a ``(height, width)`` slice."""
        return self.top < height and self.left < width and self.top + self.height > 0 and self.left + self.width > 0

    def grown(self, height: int, width: int, factor: float = 1.5, spacing: tuple[float, float] = (1.0, 1.0)) -> View:
        """A larger view about the same centre, at most the square that holds the whole image."""
        side = math.ceil(longest_side(self.height, self.width, spacing) * factor)
        cy, cx = self.top + self.height / 2, self.left + self.width / 2
        return View._about(cy, cx, side, height, width, spacing)

    def crop(self, image: NDArray[Any], largest: int | None = None) -> NDArray[Any]:
        """Pixels of an ``(H, W)`` or ``(H, W, 3)`` slice in the view; beyond the border the edge is repeated.

        Parameters
        ----------
        image : (H, W) or (H, W, 3)
        largest : int, optional
            A longer side is thinned out to this many pixels, evenly spaced.

        Returns
        -------
        array
            May share memory with `image`.
        """
        rows, columns = _samples(self.top, self.height, largest), _samples(self.left, self.width, largest)
        whole = rows.size == self.height and columns.size == self.width
        if whole and self.inside(*image.shape[:2]) == self._span:
            return image[self._span]
        return image[np.clip(rows, 0, image.shape[0] - 1)[:, None], np.clip(columns, 0, image.shape[1] - 1)]

    @property
    def _span(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def prompts_to_view(self, prompts: Prompts, resolution: int) -> Prompts:
        """Prompts of the slice in the frame of the crop that the engine embeds.

        SAM 2 scales index coordinates by ``resolution / size`` and adds half a model pixel, which puts a point at the
        upper left corner of its pixel when the crop is enlarged. Points are moved to the pixel's centre and boxes so
        that they cover their border pixels whole, and at least one pixel of the model. The mask prompt is already in
        the view's frame.

        Parameters
        ----------
        prompts : Prompts
        resolution : int
            Side of the model's square input in pixels.
        """
        sy, sx = self.height / resolution, self.width / resolution
        points = tuple(
            replace(p, y=p.y - self.top + (1 - sy) / 2, x=p.x - self.left + (1 - sx) / 2) for p in prompts.points
        )
        box = prompts.box
        if box is not None:
            (y0, y1), (x0, x1) = (
                _model_span(low - start, high - start, scale)
                for low, high, start, scale in ((box.y0, box.y1, self.top, sy), (box.x0, box.x1, self.left, sx))
            )
            box = Box(y0, x0, y1, x1)
        return Prompts(points, box, prompts.mask)

    def box_to_slice(self, box: Box, grid: tuple[int, int]) -> Box:
        """A box of cells of a ``grid = (h, w)`` map over the view, in slice coordinates (all cells covered)."""
        sy, sx = self.height / grid[0], self.width / grid[1]
        return Box(
            self.top + box.y0 * sy,
            self.left + box.x0 * sx,
            self.top + (box.y1 + 1) * sy - 1,
            self.left + (box.x1 + 1) * sx - 1,
        )

    def box_to_grid(self, box: Box, grid: tuple[int, int]) -> Box:
        """Inverse of :meth:`box_to_slice`: the cells that a box of the slice covers, fractional."""
        y0, x0 = self.slice_to_grid(box.y0 - 0.5, box.x0 - 0.5, grid)
        y1, x1 = self.slice_to_grid(box.y1 + 0.5, box.x1 + 0.5, grid)
        return Box(y0 + 0.5, x0 + 0.5, y1 - 0.5, x1 - 0.5)

    def point_to_slice(self, y: float, x: float, grid: tuple[int, int]) -> tuple[float, float]:
        """Centre of cell ``(y, x)`` of a ``grid = (h, w)`` map over the view, in slice coordinates."""
        sy, sx = self.height / grid[0], self.width / grid[1]
        return self.top + (y + 0.5) * sy - 0.5, self.left + (x + 0.5) * sx - 0.5

    def slice_to_grid(self, y: float, x: float, grid: tuple[int, int]) -> tuple[float, float]:
        """Inverse of :meth:`point_to_slice`: fractional cell coordinates."""
        sy, sx = self.height / grid[0], self.width / grid[1]
        return (y + 0.5 - self.top) / sy - 0.5, (x + 0.5 - self.left) / sx - 0.5

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a ``(height, width)`` slice that the view covers."""
        rows = slice(max(self.top, 0), min(self.top + self.height, height))
        return rows, slice(max(self.left, 0), min(self.left + self.width, width))

    def local_map(self, values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """A ``(h, w)`` map over the view, resampled to the slice's pixels under it.

        Bilinear; averages (antialiasing) where the map is finer than the slice.

        Returns
        -------
        float32 of the shape of ``slice[view.inside(height, width)]``.
        """
        import torch
        from torch.nn import functional as F

        if values.ndim != 2:
            raise InputError(f"A map over a view has the shape (h, w), not {values.shape}.")
        source = torch.as_tensor(np.array(values, np.float32))[None, None]
        finer = self.height < values.shape[0] or self.width < values.shape[1]
        size = (self.height, self.width)
        local = F.interpolate(source, size, mode="bilinear", align_corners=False, antialias=finer)[0, 0].numpy()
        rows, columns = self.inside(height, width)
        return np.ascontiguousarray(
            local[rows.start - self.top : rows.stop - self.top, columns.start - self.left : columns.stop - self.left]
        )

    def prompts_to_slice(self, prompts: Prompts, resolution: int) -> Prompts:
        """Inverse of :meth:`prompts_to_view`; a box narrower than a pixel of the model comes back as wide as one."""
        sy, sx = self.height / resolution, self.width / resolution
        points = tuple(
            replace(p, y=p.y + self.top - (1 - sy) / 2, x=p.x + self.left - (1 - sx) / 2) for p in prompts.points
        )
        box = prompts.box
        if box is not None:
            box = Box(box.y0 + self.top, box.x0 + self.left, box.y1 + self.top - 1 + sy, box.x1 + self.left - 1 + sx)
        return Prompts(points, box, prompts.mask)

    def map_from_slice(self, values: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
        """A slice-sized map averaged into the ``grid = (h, w)`` cells of the view; the edge repeated beyond it."""
        import torch
        from torch.nn import functional as F

        rows = np.clip(np.arange(self.top, self.top + self.height), 0, values.shape[0] - 1)
        columns = np.clip(np.arange(self.left, self.left + self.width), 0, values.shape[1] - 1)
        source = torch.as_tensor(values[rows[:, None], columns].astype(np.float32))[None, None]
        return F.interpolate(source, grid, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()


def pitches(spacing: tuple[float, float]) -> tuple[float, float]:
    """Distances between rows and between columns, in units of the smaller one.

    Pixels that are square within 1 % count as square, and a distance counts up to :data:`LARGEST_ASPECT`: beyond that a
    header is wrong more often than right, and views would be strips.

    Examples
    --------
    >>> pitches((3.0, 1.5)), pitches((0.7, 0.703)), pitches((0.001, 5.0))
    ((2.0, 1.0), (1.0, 1.0), (1.0, 10.0))
    """
    finer = min(spacing)
    if max(spacing) <= (1 + _SQUARE) * finer:
        return 1.0, 1.0
    down, right = (min(distance / finer, LARGEST_ASPECT) for distance in spacing)
    return down, right


def longest_side(height: float, width: float, spacing: tuple[float, float] = (1.0, 1.0)) -> int:
    """The longer side of a ``(height, width)`` rectangle of pixels, in finer pixels, rounded up."""
    down, right = pitches(spacing)
    return math.ceil(max(height * down, width * right) - 1e-9)


def _samples(start: int, length: int, largest: int | None) -> NDArray[np.intp]:
    """Indices of an interval: all, or `largest` of them at the centres of equal parts."""
    if largest is None or length <= largest:
        return np.arange(start, start + length)
    return start + (2 * np.arange(largest) + 1) * length // (2 * largest)


def _model_span(low: float, high: float, scale: float) -> tuple[float, float]:
    """Corners that a box prompt needs along one axis; `scale` pixels are one of the model's."""
    if high - low + 1 < scale:
        middle = (low + high + 1 - scale) / 2
        return middle, middle
    return low, high + 1 - scale


def _place(start: float, side: int, length: int) -> int:
    """Shift an interval into ``[0, length)`` if it fits, centre it over the image otherwise."""
    if side >= length:
        return -((side - length) // 2)
    return int(min(max(start, 0), length - side))
