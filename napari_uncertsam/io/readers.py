"""One door for every image file: :func:`read` and, for files that hold labels, :func:`read_labels`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.volume import Volume

#: File name endings that `read` understands.
SUFFIXES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read(path: str | os.PathLike[str]) -> Volume:
    """Read an image or a volume.

    Parameters
    ----------
    path : path
        NIfTI (``.nii``, ``.nii.gz``), PNG, JPEG, BMP or TIFF.

    Returns
    -------
    Volume
        NIfTI arrays come as ``(Z, Y, X)``, the reverse of their order in the file, and the affine's columns with them.
        An uncompressed NIfTI without scaling is a memory map: its slices are read when asked for, and the file is
        never written to. A TIFF of several pages is a volume. Pixels come as stored: the EXIF orientation of a
        photograph is not applied.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or it does not hold one grey or colour image or volume.
    """
    return _read(path, labels=False)


def read_labels(path: str | os.PathLike[str]) -> Volume:
    """Read a mask of integer labels, 0 for the background.

    Like `read`, but palette images give their indices, not colours; a mask saved as a grey RGB image gives one channel;
    whole numbers saved as floats become integers.

    Raises
    ------
    InputError
        As for `read`, and if the values are not whole numbers from 0 on.
    """
    volume = _read(path, labels=True)
    array = np.asarray(volume.array)
    if volume.rgb:
        if (array[..., :3] != array[..., :1]).any():
            raise InputError(f"{Path(path).name} is a colour image, not a mask; save the labels as grey values.")
        array = array[..., 0]
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.rint(array)).all() and abs(array).max() < 2**31):
            raise InputError(f"{Path(path).name} is not a mask: it holds values that are not whole numbers.")
        array = array.astype(np.int32)
    if array.dtype.kind == "i" and array.min() < 0:
        raise InputError(f"{Path(path).name} is not a mask: it holds the label {array.min()}; labels start at 0.")
    return replace(volume, array=array, modality="grey", rgb=False)


def sample_path(name: str) -> Path:
    """Path of a sample file inside the package: ``"abdomen_ct"`` or ``"abdomen_labels"``.

    Raises
    ------
    InputError
        If this installation has no such sample.

    Examples
    --------
    >>> sample_path("abdomen_ct").name
    'abdomen_ct.nii.gz'
    """
    path = Path(str(files("napari_uncertsam"))) / "samples" / f"{name}.nii.gz"
    if not path.is_file():
        raise InputError(f"The sample {name!r} is missing from this installation; reinstall napari-uncertsam.")
    return path


def _read(path: str | os.PathLike[str], labels: bool) -> Volume:
    path = Path(path)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose one image file in it.")
    if not path.exists():
        raise InputError(f"There is no file {path}; check the name.")
    if suffix is None:
        raise InputError(f"{path.name} has no known ending; files that can be read end in {', '.join(SUFFIXES)}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); copy it again from where it came from.")
    with _explained(path):
        if suffix in (".nii", ".nii.gz"):
            from napari_uncertsam.io.nifti import read_nifti

            return read_nifti(path, name=path.name[: -len(suffix)])
        from napari_uncertsam.io.raster import read_picture, read_tiff

        reader = read_tiff if suffix in (".tif", ".tiff") else read_picture
        return reader(path, name=path.name[: -len(suffix)], labels=labels)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into one sentence; they raise nearly everything."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    except MemoryError as error:
        raise InputError(f"{path.name} needs more memory than is free, or its header is damaged.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read; check its permissions.") from error
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
        raise InputError(f"{path.name} could not be read, it seems to be damaged or cut off: {reason}.") from error
