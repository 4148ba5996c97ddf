"""Slices of a DICOM series, decoded when they are asked for."""

from __future__ import annotations

import math
import operator
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.io.dicom_files import pydicom_module
from napari_uncertsam.io.dicom_values import Frame

#: Decoded slices that are kept: enough to go back and forth.
_KEPT_SLICES = 32
#: Largest volume, in bytes, that is kept whole once a plane across the slices was asked for.
_KEPT_WHOLE = 2 << 30


_INT16 = np.iinfo(np.int16)


class DicomArray:
    """A ``(Z, Y, X)`` array of rescaled values, read-only and lazy; thread-safe.

    A slice is decoded when it is asked for, and the last few are kept. Planes across the slices need all files once;
    the decoded volume is kept after that where it is not larger than 2 GiB.

    Parameters
    ----------
    frames : sequence of Frame
        The slices in the order of the array, all of one size.

    Notes
    -----
    Where every slope is 1 and every intercept whole, as for nearly all CT, values are int16; else float32. Hounsfield
    units beyond 16 bits, which only padding has, become the nearest that fit; other images get int32 then.

    Raises
    ------
    InputError
        If a slice cannot be decoded, when it is asked for; at once, if no decoder for its compression is installed.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = tuple(frames)
        for syntax in {frame.syntax for frame in self._frames}:
            _check_decoder(syntax)
        self.shape: tuple[int, ...] = (len(self._frames), self._frames[0].rows, self._frames[0].columns)
        self.ndim = 3
        self.size = math.prod(self.shape)
        self.dtype: np.dtype[Any] = _value_type(self._frames)
        self._slices: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._whole: NDArray[Any] | None = None
        self._lock, self._whole_lock = threading.Lock(), threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if self._whole is not None:
            return self._whole[key]
        first, rest = _split(key, self.ndim)
        if isinstance(first, slice):
            chosen = range(*first.indices(len(self)))
            # Parts of most slices: the whole is wanted, and will be again for the next plane.
            if 2 * len(chosen) > len(self) and self.nbytes <= _KEPT_WHOLE:
                return self._all()[key]
            return self._stacked(chosen, rest)
        try:
            index = operator.index(first)
        except TypeError:  # arrays, new axes: rare, and NumPy knows best
            return self._all()[key]
        if not -len(self) <= index < len(self):
            raise IndexError(f"slice {index} is out of bounds for {len(self)} slices")
        return self._slice(index % len(self))[rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        values = self._all()
        if dtype is not None and np.dtype(dtype) != values.dtype:
            return values.astype(dtype)
        return values.copy() if copy else values

    def __deepcopy__(self, memo: dict[int, Any]) -> DicomArray:
        return self  # it never changes

    def __reduce__(self) -> tuple[type[DicomArray], tuple[tuple[Frame, ...]]]:
        return DicomArray, (self._frames,)  # without locks and decoded slices

    def __repr__(self) -> str:
        return f"DicomArray(shape={self.shape}, dtype={self.dtype})"

    def _stacked(self, chosen: range, rest: tuple[Any, ...]) -> NDArray[Any]:
        template = np.empty((), self.dtype)
        part = np.broadcast_to(template, self.shape[1:])[rest]
        out = np.empty((len(chosen), *part.shape), self.dtype)
        for place, index in enumerate(chosen):
            out[place] = self._slice(index)[rest]
        return out

    def _slice(self, index: int) -> NDArray[Any]:
        if self._whole is not None:
            part: NDArray[Any] = self._whole[index]
            return part
        with self._lock:
            if index in self._slices:
                self._slices.move_to_end(index)
                return self._slices[index]
        # Decoded without the lock, so that two threads can decode two slices at once.
        values = _decode(self._frames[index], self.dtype)
        values.setflags(write=False)
        with self._lock:
            self._slices[index] = values
            while len(self._slices) > _KEPT_SLICES:
                self._slices.popitem(last=False)
        return values

    def _all(self) -> NDArray[Any]:
        with self._whole_lock:
            if self._whole is not None:
                return self._whole
            whole = self._stacked(range(len(self)), ())
            whole.setflags(write=False)
            if whole.nbytes <= _KEPT_WHOLE:
                self._whole = whole
                with self._lock:
                    self._slices.clear()
            return whole


def _split(key: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """An index as what it says of the first axis, and of the others; what is too odd goes to the first as it is."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if not all(k is Ellipsis or (isinstance(k, slice | int | np.integer) and not isinstance(k, bool)) for k in keys):
        return key, ()
    if keys.count(Ellipsis) > 1 or len(keys) - keys.count(Ellipsis) > ndim:
        raise IndexError("too many indices for an array of 3 axes")
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        keys[place : place + 1] = [slice(None)] * (ndim - len(keys) + 1)
    return (keys[0], tuple(keys[1:])) if keys else (slice(None), ())


def _value_type(frames: Sequence[Frame]) -> np.dtype[Any]:
    low, high = _INT16.min, _INT16.max
    for frame in frames:
        whole = frame.slope == 1 and frame.intercept == round(frame.intercept) and abs(frame.intercept) < 1 << 24
        if not whole or frame.bits > 16:
            return np.dtype(np.float32)
        if frame.modality != "CT":
            bottom, top = _stored_range(frame)
            low, high = min(low, bottom + int(frame.intercept)), max(high, top + int(frame.intercept))
    return np.dtype(np.int16 if (low, high) == (_INT16.min, _INT16.max) else np.int32)


def _stored_range(frame: Frame) -> tuple[int, int]:
    """Smallest and largest number that the bits of a slice can hold."""
    half = 1 << (frame.bits - 1)
    return (-half, half - 1) if frame.signed else (0, 2 * half - 1)


def _decode(frame: Frame, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values of one slice, ``(Y, X)``: rescaled, and brighter where they are higher."""
    raw = _stored(frame)
    if raw.shape != (frame.rows, frame.columns):
        raise InputError(f"{frame.path.name} holds a picture of shape {raw.shape}, not the slice its header speaks of.")
    if frame.photometric == "MONOCHROME1" and frame.modality != "CT":
        # Lower is brighter there; Hounsfield units mean the same however they are shown.
        raw = sum(_stored_range(frame)) - raw.astype(np.int64)
    if dtype.kind == "i":
        whole = raw.astype(np.int32) + int(frame.intercept)
        limits = np.iinfo(dtype)
        clipped: NDArray[Any] = np.clip(whole, limits.min, limits.max).astype(dtype)
        return clipped
    values = raw.astype(np.float32)
    values *= np.float32(frame.slope)
    values += np.float32(frame.intercept)
    return values


def _stored(frame: Frame) -> NDArray[Any]:
    pydicom = pydicom_module()
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        if frame.syntax == DeflatedExplicitVRLittleEndian:  # the whole file has to be inflated
            stored = pydicom.pixels.pixel_array(pydicom.dcmread(frame.path), index=frame.number, raw=True)
        else:
            stored = pydicom.pixels.pixel_array(
                frame.path, index=frame.number, raw=True, transfer_syntax_uid=frame.syntax
            )
        array: NDArray[Any] = np.asarray(stored)
        return array
    except FileNotFoundError as error:
        raise InputError(f"{frame.path} is not there any more; open the series again.") from error
    except MemoryError:
        raise
    # A damaged file makes decoders raise nearly anything.
    except Exception as error:
        # Of a list with a line for each decoder, the decoders' own words.
        lines = [line.strip().rstrip(".:") for line in str(error).strip().splitlines()]
        reason = "; ".join(lines[1:] or lines) or type(error).__name__
        raise InputError(
            f"{frame.path.name} could not be decoded, it is damaged or cut off, or no decoder knows its kind: {reason}."
        ) from error


def _check_decoder(syntax: str) -> None:
    pydicom_module()
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    try:
        available = get_decoder(uid).is_available
    except NotImplementedError as error:
        raise InputError(
            f"The images are stored as {uid.name}, which is not supported; export them again without compression."
        ) from error
    if not available:
        raise InputError(
            f"The images are compressed as {uid.name}, for which no decoder is installed; install one with: "
            'pip install "napari-uncertsam[dicom]", or export them again without compression.'
        )
