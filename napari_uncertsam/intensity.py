"""Intensities: from Hounsfield units, counts or colours to the 8-bit picture that a model sees.

A :class:`Window` is the whole of that mapping; it is a value, so it can be part of a cache key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from napari_uncertsam.volume import Volume

Modality = Literal["CT", "MR", "PET", "RGB", "grey"]

#: Values looked at when a window or a modality is chosen for a whole volume.
_SAMPLE_SIZE = 1 << 20
#: A larger share of values that are all the smallest one is background.
_BACKGROUND = 0.2
#: Values converted at once by `Window.apply`, which bounds its scratch memory.
_BLOCK_SIZE = 1 << 22


@runtime_checkable
class ArrayLike(Protocol):
    """What a volume needs of its array: NumPy, memory maps, dask and zarr arrays all have it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """Type of the values."""

    def __getitem__(self, key: Any, /) -> Any:
        """The values at a NumPy index."""


@dataclass(frozen=True, slots=True)
class Window:
    """Intensities from `low` to `high` shown as grey levels 0 to 255; Hounsfield units for CT.

    Examples
    --------
    >>> WINDOWS["soft tissue"]
    Window(low=-160.0, high=240.0, name='soft tissue')
    >>> Window(0, 100).apply(np.array([[-5.0, 50.0, np.nan, np.inf]]))[..., 0]
    array([[  0, 128,   0, 255]], dtype=uint8)
    """

    low: float
    high: float
    name: str = ""

    def __post_init__(self) -> None:
        low, high = float(self.low), float(self.high)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise InputError(
                f"A window from {low:g} to {high:g} shows nothing; give finite numbers, the lower one first."
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @classmethod
    def level(cls, level: float, width: float, name: str = "") -> Window:
        """The window centred on `level` and `width` wide, as radiologists name them."""
        return cls(level - width / 2, level + width / 2, name)

    @classmethod
    def percentile(cls, array: ArrayLike, low: float = 0.5, high: float = 99.5) -> Window:
        """The window between two percentiles of the finite values, robust against a few extreme ones.

        A big array is thinned out first. The smallest value is left out where more than a fifth of all have it: it is
        background or padding, of which there may be any amount around the same object. Where both percentiles coincide
        (a nearly constant image) the smallest and largest values are used, and an array without finite values gives
        0 to 1.
        """
        values = finite_sample(array)
        if values.size == 0:
            return cls(0, 1, "percentile")
        inside = values[values > values.min()]
        enough = 0 < inside.size < (1 - _BACKGROUND) * values.size
        bottom, top = (float(v) for v in np.percentile(inside if enough else values, (low, high), method="nearest"))
        if bottom == top:
            bottom, top = float(values.min()), float(values.max())
        return cls(bottom, top, "percentile")

    @classmethod
    def for_volume(cls, volume: Volume) -> Window:
        """The window to begin with: soft tissue for CT, the whole range of 8-bit and colour images, else percentiles.

        8-bit arrays that hold only 0 and 1 (and booleans) get 0 to 1. Colour floats are taken to be in [0, 1], or in
        [0, 255] when they are not.
        """
        if volume.modality == "CT":
            return WINDOWS["soft tissue"]
        kind, size = volume.dtype.kind, volume.dtype.itemsize
        if kind == "b" or (kind == "u" and size == 1) or volume.rgb:
            sample = finite_sample(volume.array)
            top = float(sample.max()) if sample.size else 0.0
            if kind == "b" or top <= 1:
                return cls(0, 1, "full range")
            if kind == "f":
                return cls(0, max(255.0, top), "full range")
            return cls(0, 65535 if top > 255 and kind == "u" and size == 2 else max(255.0, top), "full range")
        return cls.percentile(volume.array)

    def apply(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """The picture that a model sees of one slice.

        Parameters
        ----------
        image : (H, W) or (H, W, 3 or 4)
            Any real type. NaN counts as `low`. Alpha is ignored.

        Returns
        -------
        (H, W, 3) uint8
            Grey repeated in three channels, or the colour channels, each through the same window. Where `low` equals
            `high`, lower values are 0, equal ones 128 and higher ones 255.

        Raises
        ------
        InputError
            If `image` is not one real slice.
        """
        image = np.asarray(image)
        if (
            image.ndim not in (2, 3)
            or (image.ndim == 3 and image.shape[2] not in (3, 4))
            or image.dtype.kind not in "buif"
        ):
            raise InputError(
                f"A window applies to one real (H, W) or (H, W, 3) slice, not to {image.dtype} of shape {image.shape}."
            )
        image = image[..., :3] if image.ndim == 3 else image[..., None]
        picture = np.empty((*image.shape[:2], 3), np.uint8)
        rows = max(1, _BLOCK_SIZE // max(1, image.shape[1] * image.shape[2]))
        for start in range(0, image.shape[0], rows):
            picture[start : start + rows] = self._levels(image[start : start + rows])
        return picture

    def _levels(self, block: NDArray[Any]) -> NDArray[np.uint8]:
        if block.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return block
        # float32 cannot tell neighbouring 32-bit integers apart, nor hold every float64.
        wide = block.dtype.itemsize > 4 or (block.dtype.itemsize == 4 and block.dtype.kind in "ui")
        values: NDArray[np.floating[Any]] = block.astype(np.float64 if wide else np.float32)
        limit = float(np.finfo(values.dtype).max)
        low, high = (min(max(v, -limit), limit) for v in (self.low, self.high))
        if low >= high:
            levels = np.where(values > low, 255, np.where(values == low, 128, 0))
            return levels.astype(np.uint8)
        np.clip(values, low, high, out=values)
        np.copyto(values, low, where=np.isnan(values))
        # Halves keep the difference of two huge numbers finite.
        values *= 0.5
        values -= low / 2
        values /= high / 2 - low / 2
        values *= 255
        values += 0.5
        return np.clip(values, 0, 255, out=values).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Extent:
    """Which intensities an array holds.

    Parameters
    ----------
    low, high : float
        Smallest and largest finite value of a sample.
    common : (float, float)
        All but one in a thousand at either end lie between.
    of_slices : tuple of (float, float)
        Smallest and largest value of single slices of a volume: the first, the middle and the last.
    """

    low: float
    high: float
    common: tuple[float, float]
    of_slices: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, array: ArrayLike) -> Extent:
        """The extent of an array, thinned out if it is big; 0 to 1 where no value is finite."""
        values = finite_sample(array)
        if values.size == 0:
            return cls(0.0, 1.0, (0.0, 1.0))
        low, bottom, top, high = (float(v) for v in np.percentile(values, (0, 0.1, 99.9, 100), method="nearest"))
        count = array.shape[0] if len(array.shape) == 3 else 0
        found = [_range_of(array[index]) for index in sorted({0, (count - 1) // 2, count // 2, count - 1}) if count]
        slices = tuple(limits for limits in found if limits is not None)
        low, high = min([low, *(s[0] for s in slices)]), max([high, *(s[1] for s in slices)])
        return cls(low, high, (bottom, top), slices)

    def explains(self, low: float, high: float) -> bool:
        """Whether a viewer may have begun with these limits, so that nobody has chosen them.

        They leave next to nothing out then, or are those of the one slice of a lazy array that was looked at.
        """
        return (low <= self.common[0] and self.common[1] <= high) or (low, high) in self.of_slices


#: Named windows for CT in Hounsfield units, by level and width.
WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        name: Window.level(level, width, name)
        for name, level, width in (
            ("soft tissue", 40, 400),
            ("liver", 60, 160),
            ("lung", -600, 1500),
            ("bone", 400, 1800),
            ("brain", 40, 80),
        )
    }
)


def guess_modality(array: ArrayLike, rgb: bool = False) -> Modality:
    """Say "CT" where the values look like Hounsfield units, "RGB" for colour, else "grey".

    Values look like Hounsfield units when they can be negative, at least one in a thousand is air (-500 or less), at
    least one in fifty lies between fat and enhanced organs (-200 to 300), and of those above -1100 (below is padding)
    no more than one in twenty is denser than cortical bone (1500). So a padded or cropped CT counts, while z-scores, a
    phase image over the whole 12-bit range, or an MR with a few negative values do not.

    Examples
    --------
    >>> guess_modality(np.repeat(np.int16([-1000, -100, 40, 700]), 50).reshape(10, 20))
    'CT'
    >>> guess_modality(np.arange(200).reshape(10, 20))
    'grey'
    """
    if rgb:
        return "RGB"
    if np.dtype(array.dtype).kind not in "if" or np.dtype(array.dtype).itemsize < 2:
        return "grey"
    values = finite_sample(array)
    unpadded = values[values > -1100]
    if unpadded.size == 0:
        return "grey"
    air = (values <= -500).mean()
    tissue = ((values >= -200) & (values <= 300)).mean()
    dense = (unpadded > 1500).mean()
    return "CT" if air >= 0.001 and tissue >= 0.02 and dense <= 0.05 else "grey"


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Contiguous, native byte order, booleans as uint8, float16 as float32."""
    if array.dtype.kind == "b":
        return np.ascontiguousarray(array).view(np.uint8)
    if array.dtype == np.float16:
        return np.ascontiguousarray(array, np.float32)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _range_of(values: Any) -> tuple[float, float] | None:
    """Smallest and largest finite value, None where there is none."""
    array = plain(np.asarray(values))
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return (float(finite.min()), float(finite.max())) if finite.size else None


def finite_sample(array: ArrayLike) -> NDArray[Any]:
    """Finite values of an evenly thinned-out array, about `_SAMPLE_SIZE` of them at most, as a flat array."""
    shape = tuple(array.shape)
    # Whole slices are skipped first: of a lazy volume only those looked at are read.
    steps = [max(1, shape[0] // 32)] if math.prod(shape) > _SAMPLE_SIZE and len(shape) > 2 else []
    rest = math.prod(len(range(0, n, step)) for n, step in zip(shape, [*steps, 1, 1, 1, 1], strict=False))
    axes = len(shape) - len(steps)
    step = max(1, math.ceil((rest / _SAMPLE_SIZE) ** (1 / axes)))
    steps += [step if n > step else 1 for n in shape[len(steps) :]]
    values = plain(np.asarray(array[tuple(slice(None, None, step) for step in steps)]).ravel())
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values
