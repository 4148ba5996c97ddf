"""Values on a rectangle of a slice: masks and what was painted by hand, without the zeros around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.prompts import Box


@dataclass(frozen=True, eq=False)
class Patch:
    """Values on a rectangle of a slice, 0 elsewhere: on a large slice only what is there takes memory.

    Parameters
    ----------
    top, left : int
        Where `values` lie in the slice.
    values : (h, w)
        A mask (bool), or pixels set by hand (int8: 1 painted, -1 erased, 0 untouched).
    """

    top: int
    left: int
    values: NDArray[Any]

    @property
    def where(self) -> tuple[slice, slice]:
        """Rows and columns of the slice."""
        height, width = self.values.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def box(self) -> Box | None:
        """The tight box of what is not zero, in pixels of the slice."""
        if not self.values.any():
            return None
        box = Box.of_mask(self.values != 0)
        return Box(self.top + box.y0, self.left + box.x0, self.top + box.y1, self.left + box.x1)

    def trimmed(self) -> Patch | None:
        """The part that is not zero, as an array of its own; None when there is none."""
        box = self.box
        if box is None:
            return None
        top, left, bottom, right = (int(v) for v in (box.y0, box.x0, box.y1, box.x1))
        rows, columns = slice(top - self.top, bottom + 1 - self.top), slice(left - self.left, right + 1 - self.left)
        return Patch(top, left, self.values[rows, columns].copy())

    def under(self, newer: Patch) -> Patch | None:
        """Both in one; `newer` counts where it is not zero."""
        both = self.padded(newer)
        both = Patch(both.top, both.left, both.values.copy()) if both is self else both
        np.copyto(both.part(newer), newer.values, where=newer.values != 0)
        return both.trimmed()

    def without(self, hidden: Patch) -> Patch | None:
        """The patch with 0 where another one is not zero."""
        values = np.where(hidden.padded(self).part(self) != 0, self.values.dtype.type(0), self.values)
        return Patch(self.top, self.left, values).trimmed()

    def padded(self, other: Patch) -> Patch:
        """The same values on the smallest rectangle that holds both; itself where it does already."""
        (rows, columns), (more_rows, more_columns) = self.where, other.where
        top, left = min(rows.start, more_rows.start), min(columns.start, more_columns.start)
        bottom, right = max(rows.stop, more_rows.stop), max(columns.stop, more_columns.stop)
        if (bottom - top, right - left) == self.values.shape:
            return self
        both = Patch(top, left, np.zeros((bottom - top, right - left), self.values.dtype))
        both.part(self)[...] = self.values
        return both

    def part(self, other: Patch) -> NDArray[Any]:
        """A writable view of the values under another patch, which has to lie inside this one."""
        height, width = other.values.shape
        top, left = other.top - self.top, other.left - self.left
        return self.values[top : top + height, left : left + width]
