"""Masks and maps as the inspector reads them: a slice at a time, from arrays of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.volume import Volume


@dataclass(frozen=True, eq=False)
class Stack:
    """A mask or map over an image or a volume, read slice by slice.

    Parameters
    ----------
    volume : Volume
        Its name is used in sentences; its array may be lazy.
    only : (int, int), optional
        Plane and index of the one slice of a larger volume that is covered; the array has an axis of length 1 there.
    """

    volume: Volume
    only: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """For sentences."""
        return self.volume.name

    @property
    def is_fractional(self) -> bool:
        """Whether it holds floats, which may be probabilities, rather than values of objects."""
        return self.volume.dtype.kind == "f"

    def slice(self, plane: int, index: int) -> NDArray[Any] | None:
        """The values on a slice; None where it is not covered."""
        if self.only is None:
            return self.volume.slice(plane, index)
        return self.volume.slice(plane, 0) if self.only == (plane, index) else None

    def covers(self, plane: int) -> bool:
        """Whether any slice of a plane is covered."""
        return self.only is None or self.only[0] == plane

    def labels(self, plane: int, index: int) -> NDArray[Any]:
        """The values of objects on a slice, of a mask that covers all slices.

        Raises
        ------
        InputError
            If the values are fractions or not finite.
        """
        values = self.volume.slice(plane, index)
        if values.dtype.kind != "f":
            return values
        whole = values.astype(np.int64, copy=False) if np.isfinite(values).all() else None
        if whole is None or not (whole == values).all():
            raise InputError(
                f"'{self.name}' holds values such as {_odd(values):g}, which are no values of objects; choose a mask "
                "of whole numbers."
            )
        return whole

    def probability(self, plane: int, index: int) -> NDArray[Any] | None:
        """Probabilities on a slice; None where it is not covered.

        Raises
        ------
        InputError
            If they are not in [0, 1].
        """
        values = self.finite(plane, index)
        if values is None:
            return None
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            raise InputError(
                f"'{self.name}' goes from {low:g} to {high:g}, but a probability is between 0 and 1; apply the sigmoid "
                "to logits, or convert a mask to labels."
            )
        return values

    def finite(self, plane: int, index: int) -> NDArray[Any] | None:
        """A map on a slice; None where it is not covered.

        Raises
        ------
        InputError
            If it holds NaN or infinite values.
        """
        values = self.slice(plane, index)
        if values is not None and not np.isfinite(values).all():
            raise InputError(f"'{self.name}' holds NaN or infinite values on slice {index}; replace them first.")
        return values


def _odd(values: NDArray[Any]) -> float:
    """A value that is no whole number."""
    return float(values[~np.isfinite(values) | (values != np.floor(values))].flat[0])
