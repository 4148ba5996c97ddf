"""NIfTI: arrays as ``(Z, Y, X)`` with an affine that fits that order, and images with the geometry of their source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.volume import Volume, guess_modality

#: Millimetres per unit of length in the header; "unknown" is taken as millimetres, as everybody does.
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
#: What the geometry of a NIfTI consists of. Everything else in a header describes the source, not its masks.
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def read_nifti(path: Path, name: str) -> Volume:
    """Read a NIfTI-1 or -2 file; raises what nibabel raises.

    Integers without scaling keep their type; scaled values are float32.
    """
    import nibabel as nib

    image: Any = nib.load(path)
    is_nifti = isinstance(image, nib.Nifti1Image)
    if not is_nifti:
        raise InputError("it is not a NIfTI file, whatever its name says.")
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise InputError(
            f"it holds a series of volumes, shape {shape}; pick one volume and save it on its own "
            f"(nibabel: image.slicer[..., 0])."
        )
    dtype = image.get_data_dtype()
    rgb = dtype.names is not None
    if dtype.kind == "c" or 0 in shape:
        Volume(np.empty(shape, dtype))  # Raises the sentence without reading the values.
    values = _values(image.dataobj, (*shape, 1, 1)[:3])
    units = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    return Volume(
        values,
        affine=_reversed(np.diag([units, units, units, 1.0]) @ _usable_affine(image)),
        modality=guess_modality(values, rgb),
        name=name,
        source=path,
        rgb=rgb,
        header=image.header,
    )


def nifti_image(array: NDArray[Any], like: Volume, *, labels: bool) -> Any:
    """A nibabel image of a ``(Z, Y, X)`` array with the affine, zooms, qform and sform codes and units of `like`."""
    import nibabel as nib

    known = isinstance(like.header, nib.Nifti1Header)
    header: Any = like.header if known else None
    is_nifti2 = isinstance(like.header, nib.Nifti2Header)
    kind: Any = nib.Nifti2Image if is_nifti2 else nib.Nifti1Image
    fresh = kind.header_class()
    units = 1.0
    if header is not None:
        for field in _GEOMETRY:
            fresh[field] = header[field]
        units = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    else:
        fresh.set_xyzt_units("mm")
    fresh.set_data_shape(array.shape[::-1])
    fresh.set_data_dtype(array.dtype)
    fresh.set_intent("label" if labels else "none")
    affine = _reversed(like.affine if like.affine is not None else _plain_affine(like.spacing))
    # nibabel leaves the header's own qform and sform alone when they already say the same as the affine.
    return kind(array.T, np.diag([1 / units, 1 / units, 1 / units, 1.0]) @ affine, fresh, dtype=array.dtype)


def is_label_map(volume: Volume) -> bool:
    """Whether the file says that its values are labels, as the masks written by this package do."""
    import nibabel as nib

    known, header = isinstance(volume.header, nib.Nifti1Header), volume.header
    return known and bool(header.get_intent()[0] == "label")


def _values(proxy: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The values of an array proxy as ``(Z, Y, X[, channels])``, a memory map where that is possible."""
    raw: NDArray[Any] = proxy.get_unscaled().reshape(shape, order="F").T
    if raw.dtype.names is not None:
        return np.ascontiguousarray(raw).view(np.uint8).reshape(*raw.shape, len(raw.dtype.names))
    if (proxy.slope, proxy.inter) != (1, 0):
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: NDArray[Any] = raw.astype(np.float32)
            scaled *= np.float32(proxy.slope)
            scaled += np.float32(proxy.inter)
        return scaled
    if raw.dtype.kind == "f" and raw.dtype.itemsize > 8:
        return raw.astype(np.float64)
    return np.asarray(raw)


def _usable_affine(image: Any) -> NDArray[np.float64]:
    """The file's affine, or one from its zooms where that is singular or not finite."""
    affine = np.array(image.affine, np.float64)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if np.isfinite(affine).all() and lengths.all() and abs(np.linalg.det(affine[:3, :3] / lengths)) >= 1e-6:
        return affine
    zooms = [float(abs(z)) if np.isfinite(z) and z else 1.0 for z in (*image.header.get_zooms(), 1.0, 1.0)[:3]]
    return np.diag([*zooms, 1.0])


def _plain_affine(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """For volumes of unknown orientation: the last array axis along x, the first along z."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing[::-1])[:, ::-1]
    return affine


def _reversed(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine for indices in reverse order."""
    return affine[:, [2, 1, 0, 3]]
