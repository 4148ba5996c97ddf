"""Turns the viewer to a slice. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_uncertsam.ui.geometry import spatial_shape, world_position

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel

    from napari_uncertsam.ui.inspect.layers import Place


def is_there(viewer: ViewerModel, layer: Any, shape: tuple[int, ...]) -> bool:
    """Whether a layer is still in the viewer, with the shape that it had."""
    return layer in viewer.layers and spatial_shape(layer) == shape


def face(viewer: ViewerModel, place: Place) -> None:
    """Show the slice of a place, in 2D; what is displayed as it should be stays as it is."""
    dims = viewer.dims
    if dims.ndisplay != 2:
        dims.ndisplay = 2
    layer: Any = place.layer
    if layer is None or layer.ndim == 2:
        _display(dims, [dims.ndim - 2, dims.ndim - 1])
        return
    offset = dims.ndim - layer.ndim
    _display(dims, [offset + axis for axis in range(3) if axis != place.plane])
    axis, position = world_position(dims, layer, place.plane, place.index)
    dims.set_point(axis, position)


def _display(dims: Dims, axes: list[int]) -> None:
    if set(dims.displayed) != set(axes):
        dims.order = (*(axis for axis in dims.order if axis not in axes), *axes)
