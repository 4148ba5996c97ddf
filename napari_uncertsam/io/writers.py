"""Masks and maps out, in the geometry of their image; never half a file, never over an older one unasked."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.io.nifti import nifti_image
from napari_uncertsam.volume import Volume


def output_suffix(volume: Volume, kind: Literal["mask", "map"] = "mask") -> str:
    """File name ending for results on `volume`: ``.nii.gz`` for volumes, ``.png`` (mask) or ``.tif`` (map) for 2D.

    Examples
    --------
    >>> output_suffix(Volume(np.zeros((4, 5)))), output_suffix(Volume(np.zeros((3, 4, 5))), "map")
    ('.png', '.nii.gz')
    """
    if volume.ndim == 3:
        stack = (
            volume.affine is None and volume.source is not None and volume.source.suffix.lower() in (".tif", ".tiff")
        )
        return ".tif" if stack else ".nii.gz"
    return ".png" if kind == "mask" else ".tif"


def embed_slice(plane: int, index: int, slice2d: NDArray[Any], like: Volume) -> NDArray[Any]:
    """A result on one slice as an array of the volume's shape, 0 elsewhere, which keeps its place in the patient.

    Parameters
    ----------
    plane, index : int
        As in `Volume.slice`.
    slice2d : (H, W)
    like : Volume

    Returns
    -------
    (Z, Y, X) or (Y, X)
        Of the type of `slice2d`. For a 2D image, a copy of `slice2d`.

    Examples
    --------
    >>> embed_slice(0, 1, np.ones((2, 2), np.uint8), Volume(np.zeros((3, 2, 2)))).sum(axis=(1, 2))
    array([0, 4, 0], dtype=uint64)
    """
    slice2d = np.asarray(slice2d)
    if slice2d.shape != like.plane_shape(plane):
        raise InputError(f"A slice of shape {slice2d.shape} does not fit plane {plane}, {like.plane_shape(plane)}.")
    if not 0 <= index < like.n_slices(plane):
        raise InputError(
            f"There is no slice {index} in plane {plane}; choose one from 0 to {like.n_slices(plane) - 1}."
        )
    if like.ndim == 2:
        return slice2d.copy()
    array = np.zeros(like.shape, slice2d.dtype)
    array[(slice(None),) * plane + (index,)] = slice2d
    return array


def write_mask(path: str | os.PathLike[str], mask: NDArray[Any], like: Volume, *, overwrite: bool = False) -> Path:
    """Write integer labels.

    Parameters
    ----------
    path : path
        Ending in ``.nii.gz``, ``.nii``; ``.tif``, ``.tiff`` where there is no affine to lose; ``.png`` for a 2D image.
    mask : (Z, Y, X) or (Y, X), boolean or integer
        Of the shape of `like`; 0 is the background. Stored as uint8, or uint16 or int32 where the labels need it.
    like : Volume
        The image that was segmented. A NIfTI gets its exact affine, zooms, qform and sform codes and units.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the mask does not fit the image or the file format, the file exists, or it cannot be written.
    """
    path, mask = Path(path), np.asarray(mask)
    if mask.dtype.kind not in "bui":
        raise InputError(f"A mask holds integer labels, not {mask.dtype} values; use write_map for those.")
    _check_shape(mask, like)
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > 2**31 - 1:
        raise InputError(f"The labels run from {low} to {high}; they have to be between 0 and 2147483647.")
    labels = mask.astype(np.uint8 if high < 256 else np.uint16 if high < 65536 else np.int32)
    if path.name.lower().endswith(".png"):
        if labels.dtype == np.int32:
            raise InputError(f"A PNG holds labels up to 65535, not {high}; write a .tif instead.")
        return _write(path, lambda temporary: _save_png(temporary, labels), like, overwrite)
    return _write_array(path, labels, like, overwrite, labels=True)


def write_map(path: str | os.PathLike[str], values: NDArray[Any], like: Volume, *, overwrite: bool = False) -> Path:
    """Write a map of real values, such as probability or uncertainty, as float32.

    Parameters, returns and raises as `write_mask`, except that `path` cannot be a ``.png``.
    """
    path, values = Path(path), np.asarray(values)
    if values.dtype.kind not in "buif":
        raise InputError(f"A map holds real numbers, not {values.dtype} values.")
    _check_shape(values, like)
    if path.name.lower().endswith(".png"):
        raise InputError(f"{path.name} cannot hold a map, a PNG has no fractions; write a .tif instead.")
    return _write_array(path, values.astype(np.float32, copy=False), like, overwrite, labels=False)


@contextmanager
def atomic(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give the path of a temporary file that becomes `path` when the block ends well, and disappears when it does not.

    The temporary file lies in the same folder and has the same ending.

    Raises
    ------
    InputError
        If `path` exists and must not be replaced, its folder does not exist, or writing fails.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or allow it to be replaced.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} to write {path.name} into; create it first.")
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_array(path: Path, array: NDArray[Any], like: Volume, overwrite: bool, *, labels: bool) -> Path:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        if like.ndim == 2:
            raise InputError(f"A 2D image has no geometry for {path.name}; write a {output_suffix(like)} instead.")
        return _write(path, nifti_image(array, like, labels=labels).to_filename, None, overwrite)
    if name.endswith((".tif", ".tiff")):
        flat = None if like.affine is None else like
        return _write(path, lambda temporary: _save_tiff(temporary, array), flat, overwrite)
    raise InputError(f"{path.name} has no known ending; use {output_suffix(like, 'mask' if labels else 'map')}.")


def _write(path: Path, save: Callable[[Path], Any], flat: Volume | None, overwrite: bool) -> Path:
    if flat is not None and flat.ndim == 3:
        raise InputError(f"{path.name} would lose the geometry of the volume; write a .nii.gz instead.")
    with atomic(path, overwrite=overwrite) as temporary:
        save(temporary)
    return path


def _check_shape(array: NDArray[Any], like: Volume) -> None:
    if array.shape != like.shape:
        raise InputError(
            f"A result of shape {array.shape} does not fit the image, {like.shape}; embed_slice puts a slice in place."
        )


def _save_png(path: Path, labels: NDArray[Any]) -> None:
    from PIL import Image

    Image.fromarray(labels).save(path)


def _save_tiff(path: Path, array: NDArray[Any]) -> None:
    import tifffile

    tifffile.imwrite(path, array, photometric="minisblack", compression="zlib")
