"""The layers that the widget owns: made when needed, kept over the image, given back when the widget goes.

Works on `napari.components.ViewerModel`; no Qt. Layers are held by reference, so a user may rename, hide and reorder
them; one that was deleted is made again when there is something to show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_uncertsam.ui.geometry import copy_transform, spatial_shape
from napari_uncertsam.ui.styles import ROLES, Role, contour_width, make_layer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points, Shapes


_OUTLINED: tuple[Role, ...] = ("mask", "changed")


class LayerSet:
    """The eight layers over one image, by role.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
        The layer that is segmented; 2D, or a volume.
    labels : callable
        Returns the label volume that a new `mask` layer starts with; it is copied.
    """

    #: (role, layer): a layer was made and is in the viewer.
    created = Signal(str, object)

    def __init__(self, viewer: ViewerModel, image: Image, labels: Callable[[], NDArray[Any]]) -> None:
        self.viewer, self.image, self._labels = viewer, image, labels
        self._layers: dict[Role, Layer] = {}
        self._slot = (0, 0)
        self._places: dict[Role, tuple[int, ...] | None] = {}
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        for name in ("scale", "rotate", "shear", "affine", "translate", "units"):
            getattr(image.events, name).connect(self._on_transform)

    # -- getting one ---------------------------------------------------------------------------------------------

    def existing(self, role: Role) -> Layer | None:
        """The layer of a role, or None when it is not there (not yet, or deleted by the user)."""
        return self._layers.get(role)

    def get(self, role: Role) -> Layer:
        """The layer of a role, made if it is not there."""
        return self._layers.get(role) or self._make(role)

    @property
    def boxes(self) -> Shapes:
        """`boxes`: what the user drew."""
        return cast("Shapes", self.get("boxes"))

    @property
    def points(self) -> Points:
        """`points`: where the user clicked."""
        return cast("Points", self.get("points"))

    @property
    def mask(self) -> Labels:
        """`mask`: one value per object."""
        return cast("Labels", self.get("mask"))

    def make_all(self) -> None:
        """Make every layer that is not there."""
        for role in ROLES:
            self.get(role)

    def adopt(self, role: Role, layer: Layer) -> None:
        """Take a layer that is in the viewer already as ours."""
        layer.name = role
        copy_transform(self.image, layer)
        self._layers[role] = layer
        self.created.emit(role, layer)

    def role_of(self, layer: Layer) -> Role | None:
        """Which of our layers this is, or None."""
        return next((role for role, mine in self._layers.items() if mine is layer), None)

    def _make(self, role: Role) -> Layer:
        mask = None
        if role == "mask":
            labels = self._labels()
            # Of a big volume without labels, zeros cost no memory until they are painted over.
            mask = labels.copy() if labels.any() else np.zeros(labels.shape, labels.dtype)
        layer = make_layer(role, self.image, self._slab(None), mask)
        if role in _OUTLINED and self.viewer.dims.ndisplay == 2:
            layer.contour = contour_width(self.image)
        layers = self.viewer.layers
        selected = set(layers.selection)
        layers.insert(self._position(role), layer)
        if selected:
            # A new layer must not take the mouse away from the one that is drawn on.
            layers.selection = selected
        self._layers[role] = layer
        self.created.emit(role, layer)
        return layer

    def _position(self, role: Role) -> int:
        """Above the image and above those of our layers that belong below."""
        below = [self.image, *(mine for r, mine in self._layers.items() if ROLES.index(r) < ROLES.index(role))]
        places = [self.viewer.layers.index(layer) for layer in below if layer in self.viewer.layers]
        return max(places) + 1 if places else len(self.viewer.layers)

    # -- maps of one slice ---------------------------------------------------------------------------------------

    def show_map(self, role: Role, values: NDArray[np.float32] | None, plane: int, index: int) -> None:
        """Show a ``(H, W)`` map on a slice, or none.

        The layer holds a single slice, moved to its place in the volume: memory stays bounded, and another slice
        never shows this one's map.
        """
        layer = self._layers.get(role)
        if layer is None:
            if values is None:
                return
            layer = self.get(role)
        self._slot = (plane, index)
        slab = self._slab(values)
        if values is not None or layer.data.shape != slab.shape or layer.data.any():
            layer.data = slab
        copy_transform(self.image, layer, self._offset())

    def _slab(self, values: NDArray[np.float32] | None) -> NDArray[np.float32]:
        shape, plane = spatial_shape(self.image), self._slot[0]
        if values is None:
            values = np.zeros(shape if len(shape) == 2 else np.delete(shape, plane), np.float32)
        return values if len(shape) == 2 else np.expand_dims(values, plane)

    def _offset(self) -> tuple[int, ...] | None:
        plane, index = self._slot
        return tuple(index if axis == plane else 0 for axis in range(3)) if self.image.ndim == 3 else None

    def place(self, role: Role, offset: tuple[int, ...] | None) -> None:
        """Put the origin of a layer at an index of the image, and keep it there whatever becomes of the image's."""
        self._places[role] = offset
        layer = self._layers.get(role)
        if layer is not None:
            copy_transform(self.image, layer, offset)

    # -- what the user does --------------------------------------------------------------------------------------

    def _on_removed(self, event: Any) -> None:
        role = self.role_of(event.value)
        if role is not None:
            del self._layers[role]

    def _on_ndisplay(self, _event: Any = None) -> None:
        """Outlines exist in 2D only; napari would warn of them again and again in 3D."""
        for role in _OUTLINED:
            layer: Any = self._layers.get(role)
            if layer is not None:
                layer.contour = contour_width(self.image) if self.viewer.dims.ndisplay == 2 else 0

    def _on_transform(self, _event: Any = None) -> None:
        for role, layer in self._layers.items():
            on_slice = role in ("uncertainty", "probability")
            copy_transform(self.image, layer, self._offset() if on_slice else self._places.get(role))

    def close(self, *, keep_mask_as: str | None = None) -> None:
        """Let go of the image: a mask that holds something becomes the user's own layer, the others are removed."""
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        for name in ("scale", "rotate", "shear", "affine", "translate", "units"):
            getattr(self.image.events, name).disconnect(self._on_transform)
        layers, self._layers = self._layers, {}
        for role, layer in layers.items():
            if layer not in self.viewer.layers:
                continue
            if role == "mask" and layer.data.any():
                layer.name = keep_mask_as or layer.name
            else:
                self.viewer.layers.remove(layer)
