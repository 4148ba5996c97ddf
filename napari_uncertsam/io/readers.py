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
from napari_uncertsam.io.choice import ChoiceNeededError
from napari_uncertsam.io.dicom_files import DIRECTORY, is_dicom
from napari_uncertsam.volume import Volume

#: File name endings that `read` understands.
SUFFIXES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read(path: str | os.PathLike[str], *, series: int | str | None = None, volume: int | None = None) -> Volume:
    """Read an image or a volume.

    Parameters
    ----------
    path : path
        NIfTI (``.nii``, ``.nii.gz``), PNG, JPEG, BMP or TIFF; a DICOM file, or a folder with a DICOM series.
    series : int or str, optional
        Which DICOM series, where there are several: its number in `list_series`, or its UID.
    volume : int, optional
        Which volume of a NIfTI that holds several, from 0.

    Returns
    -------
    Volume
        NIfTI arrays come as ``(Z, Y, X)``, the reverse of their order in the file, and the affine's columns with them.
        An uncompressed NIfTI stays on disk: its slices are read when asked for, and the file is never written to. So
        do the slices of a DICOM series; see :func:`napari_uncertsam.io.dicom.read_dicom`. `Volume.notes` says what
        is unusual about the geometry. A TIFF of several pages is a volume. Pixels come as stored: the EXIF orientation
        of a photograph is not applied.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or it does not hold one grey or colour image or volume. It is a
        `ChoiceNeededError` where there are several volumes and none was chosen.
    """
    return _read(path, labels=False, series=series, volume=volume)


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


def _read(
    path: str | os.PathLike[str], labels: bool, series: int | str | None = None, volume: int | None = None
) -> Volume:
    path = Path(path)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    dicom = suffix is None and path.is_file() and (is_dicom(path) or path.name == DIRECTORY)
    if path.is_dir() or dicom:
        if volume is not None:
            raise InputError(f"{path.name} is DICOM; choose with series=... (--series), not by volume {volume}.")
        from napari_uncertsam.io.dicom import read_dicom

        return read_dicom(path, series=series)
    if not path.exists():
        raise InputError(f"There is no file {path}; check the name.")
    if suffix is None:
        raise InputError(
            f"{path.name} has no known ending and is not DICOM; files that can be read end in {', '.join(SUFFIXES)}."
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); copy it again from where it came from.")
    if series is not None:
        raise InputError(f"{path.name} is not DICOM, so there is no series {series} to choose; leave series out.")
    with _explained(path):
        if suffix in (".nii", ".nii.gz"):
            from napari_uncertsam.io.nifti import read_nifti

            return read_nifti(path, name=path.name[: -len(suffix)], volume=volume)
        if volume not in (None, 0):
            raise InputError(f"there is no volume {volume} in it, it holds one; leave the choice out.")
        from napari_uncertsam.io.raster import read_picture, read_tiff

        reader = read_tiff if suffix in (".tif", ".tiff") else read_picture
        return reader(path, name=path.name[: -len(suffix)], labels=labels)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into one sentence; they raise nearly everything."""
    try:
        yield
    except ChoiceNeededError as error:
        raise ChoiceNeededError(f"{path.name}: {error}", error.argument, error.options, error.values) from error
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    except MemoryError as error:
        raise InputError(f"{path.name} needs more memory than is free, or its header is damaged.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read; check its permissions.") from error
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
        raise InputError(f"{path.name} could not be read, it seems to be damaged or cut off: {reason}.") from error
