"""Images and volumes as immutable values, and their slices.

A :class:`Volume` names what the rest of the package needs to know about an image: its array, the spacing, the way from
array indices to the patient, the modality. A 2D image is a volume of one slice. The windows that turn its intensities
into a picture live in `intensity.py` and can be imported from here too.
"""

from __future__ import annotations

import hashlib
import math
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.intensity import WINDOWS, ArrayLike, Modality, Window, guess_modality, plain

__all__ = ["WINDOWS", "ArrayLike", "Modality", "Plane", "Volume", "Window", "array_digest", "guess_modality"]

#: A plane is named by the array axis it is perpendicular to; 0 is the plane as stored, usually axial.
Plane = Literal[0, 1, 2]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or a volume with its geometry. Equality is identity; the array is never written to.

    Parameters
    ----------
    array : (Y, X), (Z, Y, X), (Y, X, 3 or 4) or (Z, Y, X, 3 or 4)
        Integers, floats or booleans (seen as uint8 0 and 1). The last two are colour and need ``rgb=True``; a fourth
        channel is taken as alpha and ignored. May be lazy: only the slices asked for are read.
    spacing : tuple of float, optional
        Millimetres between neighbours along each spatial axis of the array. Taken from `affine` when left out, and
        1.0 where nothing is known.
    affine : (4, 4) float64, optional
        From array indices ``(axis 0, axis 1, axis 2, 1)`` to world RAS millimetres. Only for three spatial axes.
    modality : {"CT", "MR", "PET", "RGB", "grey"}, optional
        CT means that the values are Hounsfield units. A colour image is always "RGB".
    name : str
    source : Path, optional
        The file it came from.
    rgb : bool
        Whether the last axis holds colour channels.
    header : object, optional
        The header of the source file; writers use it to keep what the affine does not say.
    notes : tuple of str
        What a person should know before trusting measurements on it: a warning a sentence.

    Raises
    ------
    InputError
        If the array is empty, complex, not numeric, or has too many axes, or the geometry does not fit it.

    Examples
    --------
    >>> volume = Volume(np.zeros((4, 5, 6), np.int16), spacing=(2.5, 0.9, 0.9), modality="CT")
    >>> volume.n_slices(0), volume.slice(0, 3).shape, volume.slice(2, 0).shape
    (4, (5, 6), (4, 5))
    >>> Volume(np.zeros((5, 6), bool)).slice(0, 0).dtype
    dtype('uint8')
    """

    array: ArrayLike
    spacing: tuple[float, ...] = ()
    affine: NDArray[np.float64] | None = None
    modality: Modality = "grey"
    name: str = ""
    source: Path | None = None
    rgb: bool = False
    header: Any = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_array(self.array, self.rgb)
        if self.rgb:
            object.__setattr__(self, "modality", "RGB")
        if self.modality not in get_args(Modality):
            raise InputError(
                f"The modality {self.modality!r} is not known; use one of {', '.join(get_args(Modality))}."
            )
        if self.modality == "RGB" and not self.rgb:
            raise InputError(
                "An image of modality RGB needs three or four colour channels as its last axis and rgb=True."
            )
        if self.source is not None:
            object.__setattr__(self, "source", Path(self.source))
        if self.affine is not None:
            object.__setattr__(self, "affine", _checked_affine(self.affine, self.ndim))
        object.__setattr__(self, "spacing", self._checked_spacing())
        object.__setattr__(self, "notes", tuple(self.notes))

    def _checked_spacing(self) -> tuple[float, ...]:
        if not len(self.spacing):
            if self.affine is None:
                return (1.0,) * self.ndim
            return tuple(float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))
        spacing = tuple(float(v) for v in self.spacing)
        if len(spacing) != self.ndim or not all(math.isfinite(v) and v > 0 for v in spacing):
            raise InputError(
                f"The spacing {spacing} does not fit an image with {self.ndim} axes; "
                "give one positive number of millimetres per axis."
            )
        return spacing

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the spatial axes, ``(Y, X)`` or ``(Z, Y, X)``: the shape of a mask of this volume."""
        shape = tuple(int(n) for n in self.array.shape)
        return shape[:-1] if self.rgb else shape

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the stored array."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def n_slices(self, plane: int = 0) -> int:
        """Number of slices perpendicular to array axis `plane`; a 2D image has one, in plane 0."""
        self._check_plane(plane)
        return 1 if self.ndim == 2 else self.shape[plane]

    def plane_shape(self, plane: int = 0) -> tuple[int, int]:
        """Height and width in pixels of the slices of a plane."""
        self._check_plane(plane)
        height, width = self.shape if self.ndim == 2 else (n for axis, n in enumerate(self.shape) if axis != plane)
        return height, width

    def plane_spacing(self, plane: int = 0) -> tuple[float, float]:
        """Millimetres between rows and between columns of the slices of a plane."""
        self._check_plane(plane)
        kept = self.spacing if self.ndim == 2 else [v for axis, v in enumerate(self.spacing) if axis != plane]
        return kept[0], kept[1]

    def slice(self, plane: int = 0, index: int = 0) -> NDArray[Any]:
        """One slice as a contiguous array in native byte order; booleans as uint8, without an alpha channel.

        Parameters
        ----------
        plane : {0, 1, 2}
            Array axis that the slice is perpendicular to. The remaining axes keep their order.
        index : int
            In ``[0, n_slices(plane))``.

        Returns
        -------
        (H, W) or (H, W, 3)
            Must not be written to: it may share memory with the volume.

        Raises
        ------
        InputError
            If there is no such plane or slice, or the file behind a lazy array cannot be read.
        """
        count = self.n_slices(plane)
        index = operator.index(index)
        if not 0 <= index < count:
            raise InputError(f"There is no slice {index} in plane {plane}; choose one from 0 to {count - 1}.")
        key = (slice(None),) * plane + (index,) if self.ndim == 3 else (slice(None),)
        try:
            picked = np.asarray(self.array[key])
        except (OSError, EOFError) as error:
            raise InputError(f"Slice {index} of {self.name or 'the volume'} could not be read: {error}.") from error
        return plain(picked[..., :3] if self.rgb else picked)

    def content_digest(self, plane: int | None = None, index: int = 0) -> str:
        """SHA-256 (hex) of one slice, or of the whole array when no plane is given; a key for caches.

        Equal contents of equal shape and type give equal digests, whatever the file or layer they came from.
        """
        if plane is not None:
            return array_digest(self.slice(plane, index))
        digest = hashlib.sha256(repr(self.shape).encode())
        for position in range(self.n_slices(0)):
            digest.update(bytes.fromhex(array_digest(self.slice(0, position))))
        return digest.hexdigest()

    def _check_plane(self, plane: int) -> None:
        if plane not in range(1 if self.ndim == 2 else 3):
            available = "0, the image itself" if self.ndim == 2 else "0, 1 or 2"
            raise InputError(f"There is no plane {plane}; choose {available}.")


def array_digest(array: NDArray[Any]) -> str:
    """SHA-256 (hex) of an array's shape, type and contents."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.shape}{array.dtype.str}".encode())
    digest.update(array.data.cast("B") if array.size else b"")
    return digest.hexdigest()


def _check_array(array: object, rgb: bool) -> None:
    if not isinstance(array, ArrayLike):
        raise InputError(f"An image has to be an array, not {type(array).__name__}.")
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    if dtype.kind == "c":
        raise InputError(f"The image is complex ({dtype}); take its magnitude first.")
    if dtype.kind not in "buif":
        raise InputError(f"The image holds {dtype} values, not numbers; convert it to integers or floats.")
    spatial = shape[:-1] if rgb else shape
    if rgb and (not shape or shape[-1] not in (3, 4)):
        raise InputError(f"A colour image needs 3 or 4 channels as its last axis, but the shape is {shape}.")
    if 0 in shape:
        raise InputError(f"The image is empty: its shape is {shape}.")
    if len(spatial) > 3:
        raise InputError(
            f"The image has {len(spatial)} axes, shape {spatial}; pick one volume of the series (at most 3 axes)."
        )
    if len(spatial) < 2:
        raise InputError(f"The image has shape {spatial}; at least two axes, rows and columns, are needed.")


def _checked_affine(affine: object, ndim: int) -> NDArray[np.float64]:
    matrix = np.array(affine, dtype=np.float64)
    if ndim != 3:
        raise InputError("A 2D image takes no affine; give it as a volume of one slice, shape (1, Y, X), to keep one.")
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise InputError("The affine has to be a finite 4 x 4 matrix whose last row is 0 0 0 1.")
    # Volume of the parallelepiped of unit columns: 0 when axes coincide, whatever the units.
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not lengths.all() or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
        raise InputError("The affine is singular: it maps the volume onto a plane; repair the header of the file.")
    matrix.setflags(write=False)
    return matrix
