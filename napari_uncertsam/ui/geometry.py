"""Where napari's layers, slices and cursor are, in array indices of the image.

The one place that converts world coordinates. It uses a layer's whole transform (scale, translate, rotate, shear,
affine) through napari's public `data_to_world` and `world_to_data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.prompts import Box
from napari_uncertsam.volume import Volume

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Layer

#: Key of a layer's metadata under which the reader keeps the `Volume` that the layer shows.
VOLUME_KEY = "napari_uncertsam_volume"

#: What places a layer in the world; `translate` last, since the slab of a slice has its own.
_TRANSFORM = ("scale", "rotate", "shear", "affine", "units")


def displayed_slice(dims: Dims, image: Image) -> tuple[int, int] | None:
    """Plane and index of the slice of `image` that the viewer shows, or None where it shows none.

    The plane is the array axis that the slice is perpendicular to, whatever the order of the displayed axes. None is
    returned for the 3D view, for a position beyond the image, and when an axis that the image lacks is displayed.
    """
    offset = dims.ndim - image.ndim
    shown = {axis - offset for axis in dims.displayed}
    if dims.ndisplay != 2 or min(shown) < 0:
        return None
    if image.ndim == 2:
        return 0, 0
    if image.ndim != 3:
        return None
    (plane,) = set(range(3)) - shown
    index = int(np.round(_position_across(dims, image, plane, offset)))
    return (plane, index) if 0 <= index < spatial_shape(image)[plane] else None


def world_position(dims: Dims, image: Image, plane: int, index: int) -> tuple[int, float]:
    """Axis of `dims`, and the position on it, that show slice `index`; the inverse of :func:`displayed_slice`."""
    offset = dims.ndim - image.ndim
    start, step = _line_across(dims, image, plane, offset)
    return plane + offset, (index - start) / step


def _position_across(dims: Dims, image: Image, plane: int, offset: int) -> float:
    start, step = _line_across(dims, image, plane, offset)
    return start + step * float(dims.point[plane + offset])


def _line_across(dims: Dims, image: Image, plane: int, offset: int) -> tuple[float, float]:
    """Index across a plane as ``start + step * world``, as napari slices: other axes do not matter, even if oblique."""
    unit = np.zeros(3)
    unit[plane] = 1.0
    start = float(image.world_to_data(np.zeros(3))[plane])
    step = float(image.world_to_data(unit)[plane]) - start
    if dims.units is not None:
        step *= _in_base_units(dims.units[plane + offset]) / _in_base_units(image.units[plane])
    return start, step


def _in_base_units(unit: Any) -> float:
    return float((1 * unit).to_base_units().magnitude)


def grid_offset(layer: Layer, reference: Layer, tolerance: float = 0.1) -> tuple[int, ...] | None:
    """Where the array of a layer begins on the grid of another one; None where their pixels do not lie over each other.

    Parameters
    ----------
    layer, reference : Layer
        Images or labels of as many axes.
    tolerance : float
        How far a corner may be off, in pixels of the reference.
    """
    if layer.ndim != reference.ndim:
        return None
    units = [_ratio(ours, theirs) for ours, theirs in zip(layer.units, reference.units, strict=True)]
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in spatial_shape(layer)], indexing="ij"), -1).reshape(
        -1, layer.ndim
    )
    worlds = [np.multiply(layer.data_to_world(corner), units) for corner in corners]
    distances = np.asarray([reference.world_to_data(world) for world in worlds]) - corners
    offset = np.round(distances.mean(0))
    return tuple(int(n) for n in offset) if np.abs(distances - offset).max() <= tolerance else None


def on_canvas(dims: Dims, layer: Layer, positions: NDArray[Any]) -> NDArray[np.float64]:
    """``(n, ndim)`` data coordinates of a layer as ``(n, 2)`` world coordinates of the last two displayed axes."""
    worlds = np.asarray([layer.data_to_world(position) for position in positions], np.float64)
    if dims.units is not None:
        pairs = zip(layer.units, dims.units[-layer.ndim :], strict=True)
        worlds *= [_ratio(ours, shown) for ours, shown in pairs]
    return worlds[:, [axis - (dims.ndim - layer.ndim) for axis in dims.displayed[-2:]]]


def millimetres_in(unit: Any) -> float:
    """How many of a unit a millimetre is; 1 where it is no length."""
    return 1 / _millimetres(unit)


def _ratio(unit: Any, other: Any) -> float:
    """How many of the other unit one unit is; 1 where they cannot be compared, as pixels and millimetres."""
    return _in_base_units(unit) / _in_base_units(other) if (1 * unit).is_compatible_with(other) else 1.0


def to_slice(image: Image, layer: Layer, positions: NDArray[Any], plane: int) -> NDArray[np.float64]:
    """``(n, ndim)`` data coordinates of any layer as ``(n, 2)`` coordinates ``(y, x)`` of a slice of the image."""
    rows = [image.world_to_data(layer.data_to_world(position)) for position in np.asarray(positions, np.float64)]
    table = np.asarray(rows, np.float64).reshape(-1, image.ndim)
    return table if image.ndim == 2 else np.delete(table, plane, axis=1)


def from_slice(positions: Sequence[tuple[float, float]], plane: int, index: int, ndim: int) -> NDArray[np.float64]:
    """``(y, x)`` coordinates of a slice as ``(n, ndim)`` data coordinates of the image."""
    table = np.asarray(positions, np.float64).reshape(-1, 2)
    return table if ndim == 2 else np.insert(table, plane, float(index), axis=1)


def box_corners(box: Box) -> list[tuple[float, float]]:
    """Outline of a box as drawn: around the whole of its border pixels."""
    top, left, bottom, right = box.y0 - 0.5, box.x0 - 0.5, box.y1 + 0.5, box.x1 + 0.5
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def box_of_outline(corners: NDArray[np.float64]) -> Box:
    """The box whose border pixels an outline goes around; the bounding box of any other shape.

    Examples
    --------
    >>> box = Box(3, 4, 10, 12)
    >>> box_of_outline(np.array(box_corners(box))) == box
    True
    """
    (top, left), (bottom, right) = corners.min(0), corners.max(0)
    (y0, y1), (x0, x1) = ((low + 0.5, high - 0.5) for low, high in ((top, bottom), (left, right)))
    # An outline thinner than a pixel is that pixel.
    if y0 > y1:
        y0 = y1 = (top + bottom) / 2
    if x0 > x1:
        x0 = x1 = (left + right) / 2
    return Box(y0, x0, y1, x1)


def spatial_shape(image: Image) -> tuple[int, ...]:
    """Shape of an image layer at full resolution, without colour channels."""
    return tuple(int(n) for n in full_resolution(image).shape[: image.ndim])


def full_resolution(image: Image) -> Any:
    """The array of an image layer; of a multiscale image, its largest."""
    return image.data[0] if image.multiscale else image.data


def is_described(image: Image) -> bool:
    """Whether the reader kept what the file says, and the layer still shows that array."""
    kept, array = image.metadata.get(VOLUME_KEY), full_resolution(image)
    same = isinstance(kept, Volume) and tuple(kept.array.shape) == tuple(array.shape) and kept.dtype == array.dtype
    return bool(same and kept.rgb == bool(image.rgb))


def volume_of(image: Image) -> Volume:
    """The `Volume` of an image layer, with its spacing in millimetres; lazy arrays stay lazy.

    What the reader kept of the file (affine, header, modality) is used where it `is_described`; elsewhere the modality
    is not known yet.

    Raises
    ------
    InputError
        If the array cannot be used as an image.
    """
    array = full_resolution(image)
    if is_described(image):
        kept: Volume = image.metadata[VOLUME_KEY]
        return kept if kept.array is array else replace(kept, array=array)
    return Volume(array, spacing=spacing_of(image), name=image.name, rgb=bool(image.rgb))


def spacing_of(image: Image) -> tuple[float, ...]:
    """Millimetres between the voxels of an image layer along each axis; its scale as it is where no length is known."""
    origin = np.asarray(image.data_to_world(np.zeros(image.ndim)))
    columns = [np.asarray(image.data_to_world(unit)) - origin for unit in np.eye(image.ndim)]
    lengths = [float(np.linalg.norm(column)) for column in columns]
    return tuple(length * _millimetres(unit) for length, unit in zip(lengths, image.units, strict=True))


def _millimetres(unit: Any) -> float:
    quantity = 1 * unit
    return float(quantity.to("mm").magnitude) if quantity.is_compatible_with("mm") else 1.0


def has_spacing(image: Image) -> bool:
    """Whether millimetres are known: the layer has a length unit, or a scale that somebody set."""
    return any((1 * unit).is_compatible_with("mm") for unit in image.units) or not np.allclose(spacing_of(image), 1.0)


def transform_of(image: Image) -> dict[str, Any]:
    """The arguments that put a new layer over an image."""
    return {name: getattr(image, name) for name in (*_TRANSFORM, "translate", "axis_labels")}


def copy_transform(image: Image, layer: Layer, offset: tuple[int, ...] | None = None) -> None:
    """Put a layer over an image, its origin at index `offset` of the image; only what differs is set."""
    for name in _TRANSFORM:
        wanted = getattr(image, name)
        if not _same(getattr(layer, name), wanted):
            setattr(layer, name, wanted)
    translate = image.translate
    if offset is not None and any(offset):
        # T'(x) = T(x + offset) for the part of the transform before the affine.
        translate = image.affine.inverse(np.asarray(image.data_to_world(np.asarray(offset, np.float64))))
    if not np.allclose(layer.translate, translate, rtol=0, atol=1e-9):
        layer.translate = translate


def _same(a: Any, b: Any) -> bool:
    if hasattr(a, "affine_matrix"):
        a, b = a.affine_matrix, b.affine_matrix
    if isinstance(a, tuple):
        return bool(a == b)
    return bool(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-12, atol=1e-12))
