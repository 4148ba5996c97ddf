"""An array on disk whose values are scaled when they are asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ScaledArray:
    """``raw * slope + intercept`` as float32, computed for the part that an index asks for.

    Parameters
    ----------
    raw : array of integers or floats
        Usually a memory map; never changed.
    slope, intercept : float

    Examples
    --------
    >>> array = ScaledArray(np.arange(6, dtype=np.int16).reshape(2, 3), 2.0, -1.0)
    >>> array.shape, array[1].tolist()
    ((2, 3), [5.0, 7.0, 9.0])
    """

    def __init__(self, raw: NDArray[Any], slope: float, intercept: float) -> None:
        self._raw, self._slope, self._intercept = raw, slope, intercept
        self.shape: tuple[int, ...] = raw.shape
        self.ndim: int = raw.ndim
        self.size = math.prod(raw.shape)
        self.dtype: np.dtype[np.float32] = np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        return scaled(np.asarray(self._raw[key]), self._slope, self._intercept)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("The scaled values do not exist before they are copied.")
        values: NDArray[Any] = self[()]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> ScaledArray:
        return self  # never changes, and a copy would read the whole file

    def __repr__(self) -> str:
        return f"ScaledArray(shape={self.shape}, slope={self._slope:g}, intercept={self._intercept:g})"


def scaled(raw: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float32]:
    """``raw * slope + intercept`` as a new float32 array, without any other copy."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: NDArray[np.float32] = raw.astype(np.float32)
        values *= np.float32(slope)
        values += np.float32(intercept)
    return values
