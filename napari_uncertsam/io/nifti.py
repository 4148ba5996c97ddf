"""NIfTI: arrays as ``(Z, Y, X)`` with an affine that fits that order, and images with the geometry of their source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.io.choice import ChoiceNeededError
from napari_uncertsam.io.orientation import oblique_note, shear_degrees
from napari_uncertsam.io.scaled import ScaledArray, scaled
from napari_uncertsam.volume import ArrayLike, Volume, guess_modality

#: Millimetres per unit of length in the header; "unknown" is taken as millimetres, as everybody does.
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
#: deflate packs no better than about 1 : 1032; a header that speaks of more is damaged.
_MAX_RATIO = 1100
#: What the geometry of a NIfTI consists of. Everything else in a header describes the source, not its masks.
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def read_nifti(path: Path, name: str, volume: int | None = None) -> Volume:
    """Read a NIfTI-1 or -2 file, or volume number `volume` of a series; raises what nibabel raises.

    Integers without scaling keep their type; scaled values are float32. What is not compressed stays on disk until it
    is asked for.
    """
    import nibabel as nib

    image: Any = nib.load(path)
    is_nifti = isinstance(image, nib.Nifti1Image)
    if not is_nifti:
        raise InputError("it is not a NIfTI file, whatever its name says.")
    shape = tuple(int(n) for n in image.shape)
    dtype = image.get_data_dtype()
    rgb = dtype.names is not None
    if dtype.kind == "c" or 0 in shape:
        Volume(np.empty(shape[:3], dtype))  # Raises the sentence without reading the values.
    index = _chosen(shape, volume)
    affine = _usable_affine(image)
    shear = shear_degrees(affine)
    if shear:
        raise InputError(
            f"its axes are {shear:.1f} degrees away from right angles (a sheared affine), so its voxels are no boxes; "
            "resample it to a grid with right angles first."
        )
    values = _values(image.dataobj, (*shape, 1, 1)[:3], index)
    units = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    affine = _reversed(np.diag([units, units, units, 1.0]) @ affine)
    return Volume(
        values,
        affine=affine,
        modality=guess_modality(values, rgb),
        name=name if index is None else f"{name} {index}",
        source=path,
        rgb=rgb,
        header=image.header,
        notes=(*_unknown_orientation(image.header), *oblique_note(affine)),
    )


def nifti_image(array: NDArray[Any], like: Volume, *, labels: bool) -> Any:
    """A nibabel image of a ``(Z, Y, X)`` array with the affine, zooms, qform and sform codes and units of `like`.

    Raises
    ------
    InputError
        If `like` is sheared; see `check_nifti_geometry`.
    """
    import nibabel as nib

    check_nifti_geometry(like)
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
    image = kind(array.T, np.diag([1 / units, 1 / units, 1 / units, 1.0]) @ affine, fresh, dtype=array.dtype)
    if header is None and like.affine is not None:  # from a scanner: both forms say so
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
    return image


def check_nifti_geometry(volume: Volume) -> None:
    """Raise a sentence where a NIfTI cannot hold the geometry of `volume`: where its axes are not at right angles.

    Raises
    ------
    InputError
    """
    shear = 0.0 if volume.affine is None else shear_degrees(volume.affine)
    if shear:
        raise InputError(
            f"{volume.name or 'The volume'} is sheared: its slices are tilted by {shear:.1f} degrees against the way "
            "they are stacked, which a NIfTI cannot hold faithfully; write a DICOM SEG, or resample the volume first."
        )


def is_label_map(volume: Volume) -> bool:
    """Whether the file says that its values are labels, as the masks written by this package do."""
    import nibabel as nib

    known, header = isinstance(volume.header, nib.Nifti1Header), volume.header
    return known and bool(header.get_intent()[0] == "label")


def _chosen(shape: tuple[int, ...], volume: int | None) -> int | None:
    """Number of the volume that is meant; None where the file holds a single one.

    Raises
    ------
    ChoiceNeededError, InputError
        If it holds several and none or a missing one was asked for.
    """
    lengths = [n for n in shape[3:] if n > 1]
    if len(lengths) > 1:
        raise InputError(f"it has {len(shape)} axes, shape {shape}; save the volume to be segmented on its own.")
    count = lengths[0] if lengths else 1
    if volume is not None and not 0 <= volume < count:
        held = "one volume" if count == 1 else f"{count} volumes, 0 to {count - 1}"
        raise InputError(f"there is no volume {volume} in it, it holds {held}; choose another, or none.")
    if count == 1:
        return None
    if volume is None:
        raise ChoiceNeededError(
            f"it holds {count} volumes, shape {shape}; choose one with volume=K (--volume K), 0 to {count - 1}.",
            "volume",
            [f"Volume {number}" for number in range(count)],
            range(count),
        )
    return volume


def _values(proxy: Any, shape: tuple[int, ...], index: int | None) -> ArrayLike:
    """The values of one volume of an array proxy as ``(Z, Y, X[, channels])``, lazy where that is possible."""
    is_scaled = (proxy.slope, proxy.inter) != (1, 0)
    compressed = Path(proxy.file_like).suffix.lower() in (".gz", ".bz2", ".zst")
    if compressed:
        if is_scaled and proxy.dtype.names is None:
            return _streamed(proxy, shape, index or 0, float(proxy.slope), float(proxy.inter))
        raw = _streamed(proxy, shape, index or 0)
    else:
        mapped: NDArray[Any] = proxy.get_unscaled()
        raw = mapped.reshape((*shape, -1), order="F")[..., index or 0].T
    if raw.dtype.names is not None:
        return np.ascontiguousarray(raw).view(np.uint8).reshape(*raw.shape, len(raw.dtype.names))
    if is_scaled:
        return ScaledArray(raw, float(proxy.slope), float(proxy.inter))
    if raw.dtype.kind == "f" and raw.dtype.itemsize > 8:
        return raw.astype(np.float64)
    return np.asarray(raw)


def _streamed(
    proxy: Any, shape: tuple[int, ...], index: int, slope: float | None = None, intercept: float = 0.0
) -> NDArray[Any]:
    """One volume of a compressed file, decompressed and scaled slice by slice, so that it is held only once."""
    from nibabel.openers import ImageOpener

    columns, rows, slices = shape
    size = columns * rows * proxy.dtype.itemsize
    if size * slices > _MAX_RATIO * max(1, Path(proxy.file_like).stat().st_size):
        raise InputError(f"its header speaks of {size * slices:,} bytes, which so small a file cannot hold.")
    values = np.empty((slices, rows, columns), proxy.dtype if slope is None else np.float32)
    with ImageOpener(proxy.file_like) as file:
        file.seek(proxy.offset + index * size * slices)
        for position in range(slices):
            content = file.read(size)
            if len(content) < size:
                raise InputError(f"it ends within slice {position} of {slices}; copy it again from where it came from.")
            part = np.frombuffer(content, proxy.dtype).reshape(rows, columns)
            values[position] = part if slope is None else scaled(part, slope, intercept)
    return values


def _unknown_orientation(header: Any) -> tuple[str, ...]:
    if int(header["qform_code"]) or int(header["sform_code"]):
        return ()
    return (
        "The orientation is unknown (the qform and sform codes are 0): "
        "left and right, front and back may be exchanged.",
    )


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
