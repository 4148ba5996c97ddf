"""The layers of the inspector: made when there is something to show, taken away in the end. No Qt.

They hold one slice, which lies at its place in the volume: memory stays bounded, and another slice never shows the
errors of this one. Layers are held by reference, so a user may rename, hide and reorder them; one that was deleted is
made again for the next finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_uncertsam.evaluation.inspection import Picture
from napari_uncertsam.prompts import Box
from napari_uncertsam.ui.geometry import box_corners, copy_transform, millimetres_in, on_canvas
from napari_uncertsam.ui.inspect.looks import OUTLINES, make_layer
from napari_uncertsam.ui.marks import is_ours, mark_inspected
from napari_uncertsam.ui.styles import contour_width

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: Bottom first; a role is the layer's name when it is made.
Role = Literal["image", "uncertainty", "ground truth", "prediction", "error", "wrong"]
ROLES: tuple[Role, ...] = get_args(Role)

#: In the metadata of the uncertainty's layer: what its colours reach to.
_LARGEST = "napari-uncertsam largest"
#: An object fills at most this share of the canvas, so that its surroundings are seen.
_SHARE = 0.35
#: The slice does so where it is shown as a whole.
_WHOLE = 0.95
#: Pixels shown at least.
_LEAST = 64.0


@dataclass(frozen=True, eq=False)
class Place:
    """Where a picture lies.

    Parameters
    ----------
    layer : Layer, optional
        Over this layer; None beside everything else, scaled to millimetres.
    plane, index : int
        Of the slice of `layer`, where that is a volume.
    """

    layer: Layer | None = None
    plane: int = 0
    index: int = 0

    @property
    def offset(self) -> tuple[int, ...] | None:
        """Index of the slice's first pixel in the volume."""
        if self.layer is None or self.layer.ndim != 3:
            return None
        return tuple(self.index if axis == self.plane else 0 for axis in range(3))


class InspectLayers:
    """The layers of one inspector.

    Parameters
    ----------
    viewer : ViewerModel
    """

    #: A layer was made and is in the viewer.
    created = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: dict[Role, Layer] = {}
        self._visible: dict[Role, bool] = {}  # of layers that are taken away, as the user had them
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)

    def existing(self, role: Role) -> Layer | None:
        """The layer of a role, or None."""
        return self._layers.get(role)

    def show(self, picture: Picture, place: Place) -> None:
        """Show a picture; layers that it has nothing for are emptied."""
        arrays = _arrays(picture)
        for role in ROLES:
            values = arrays.get(role)
            if values is None:
                self._remove(role)
            else:
                self._put(role, values, place, picture)

    def clear(self) -> None:
        """Take all layers away."""
        for role in ROLES:
            self._remove(role)

    def close(self) -> None:
        """Take all layers away and stop listening."""
        self.clear()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)

    def look(self, picture: Picture, place: Place, *, zoom: bool) -> None:
        """Centre the camera on the object of a picture that is shown, and zoom to it or keep the zoom."""
        layer = self._layers.get("error") or self._layers.get("ground truth")
        if layer is None:
            return
        box, viewer = picture.box, self._viewer
        rows, columns = (n for axis, n in enumerate(layer.data.shape) if place.offset is None or axis != place.plane)
        low, high = self._extent(layer, place, box)
        whole = np.subtract(*self._extent(layer, place, Box(0, 0, rows - 1, columns - 1))[::-1])
        camera = viewer.scene.camera
        centre = (low + high) / 2
        camera.center = (camera.center[0], float(centre[0]), float(centre[1]))
        if zoom:
            pixel = (high - low).max() / max(box.height, box.width)
            wanted = np.minimum(np.maximum((high - low) / _SHARE, _LEAST * pixel), whole / _WHOLE)
            camera.zoom = float((np.asarray(viewer.canvas.size[-2:]) / wanted).min())

    def _extent(self, layer: Layer, place: Place, box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where a box of the slice begins and ends on the canvas."""
        positions = np.asarray(box_corners(box))
        if place.offset is not None:
            positions = np.insert(positions, place.plane, 0.0, axis=1)
        world = on_canvas(self._viewer.dims, layer, positions)
        return world.min(0), world.max(0)

    # -- one layer -----------------------------------------------------------------------------------------------

    def _put(self, role: Role, values: NDArray[Any], place: Place, picture: Picture) -> None:
        data = values if place.offset is None else np.expand_dims(values, place.plane)
        layer = self._layers.get(role)
        if layer is not None and data.ndim != layer.data.ndim:  # grey and colour, or slice and slab
            self._remove(role)
            layer = None
        if layer is None:
            layer = make_layer(role, data)
            layer.visible = self._visible.get(role, layer.visible)
            mark_inspected(role, layer)
            # Placed before it is inserted, or the sliders would follow it through the world.
            self._place(layer, role, place, picture)
            self._insert(role, layer)
        else:
            layer.data = data
            self._place(layer, role, place, picture)

    def _place(self, layer: Layer, role: Role, place: Place, picture: Picture) -> None:
        if place.layer is not None:
            copy_transform(place.layer, layer, place.offset)
        else:
            _scale(layer, picture.spacing, self._viewer)
        if role in OUTLINES:
            self._outline(layer)
        limits = picture.scene.limits if role == "image" and picture.scene is not None else None
        if limits is not None and limits[0] < limits[1]:
            layer.contrast_limits = limits
        if (
            role == "uncertainty"
            and picture.scene is not None
            and layer.metadata.get(_LARGEST) != picture.scene.largest
        ):
            # Of another measure than before; the user's own limits stay for as long as it is the same.
            layer.metadata[_LARGEST] = picture.scene.largest
            layer.contrast_limits_range = layer.contrast_limits = (0, picture.scene.largest)

    def _insert(self, role: Role, layer: Layer) -> None:
        layers = self._viewer.layers
        active, selected = layers.selection.active, set(layers.selection)
        layers.insert(self._position(role), layer)
        self._layers[role] = layer
        if active is not None and is_ours(active):
            # What is being drawn on, by another of our widgets, stays at hand.
            layers.selection = selected
        self.created.emit(layer)

    def _position(self, role: Role) -> int:
        """Above those of our layers that belong below, and above all of the user's."""
        layers = self._viewer.layers
        above = [mine for other, mine in self._layers.items() if ROLES.index(other) > ROLES.index(role)]
        return min((layers.index(layer) for layer in above if layer in layers), default=len(layers))

    def _remove(self, role: Role) -> None:
        layer = self._layers.pop(role, None)
        if layer is not None and layer in self._viewer.layers:
            self._visible[role] = layer.visible
            self._viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        for role, layer in list(self._layers.items()):
            if layer is event.value:
                del self._layers[role]

    def _on_ndisplay(self, _event: Any = None) -> None:
        """Outlines exist in 2D only; napari would warn of them again and again in 3D."""
        for role, layer in self._layers.items():
            if role in OUTLINES:
                self._outline(layer)

    def _outline(self, layer: Any) -> None:
        wanted = contour_width(layer) if self._viewer.dims.ndisplay == 2 else 0
        if layer.contour != wanted:
            layer.contour = wanted


def _arrays(picture: Picture) -> dict[Role, NDArray[Any] | None]:
    arrays: dict[Role, NDArray[Any] | None] = {"error": picture.error, "wrong": picture.wrong}
    scene = picture.scene
    if scene is not None:
        prediction = None if scene.prediction is None else scene.prediction.astype(np.uint8)
        arrays |= {"image": scene.image, "uncertainty": scene.uncertainty, "prediction": prediction}
        arrays |= {"ground truth": scene.truth.astype(np.uint8)}
    return arrays


def _scale(layer: Layer, spacing: tuple[float, float], viewer: ViewerModel) -> None:
    """Millimetres, in the unit that the viewer shows."""
    units = viewer.dims.units
    if units is not None and layer.units != units[-2:]:
        layer.units = units[-2:]
    steps = [mm * millimetres_in(unit) for mm, unit in zip(spacing, layer.units, strict=True)]
    if not np.allclose(layer.scale, steps):
        layer.scale = steps
