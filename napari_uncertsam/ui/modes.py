"""Which layer the mouse draws on, and how: boxes, points inside, points outside. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_uncertsam.ui.drawing import next_is_positive, set_next_sign
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.styles import Role

if TYPE_CHECKING:
    from napari.components import ViewerModel


class PromptModes:
    """Sets the mode, and tells of it when the user changes it with napari's own controls.

    Parameters
    ----------
    viewer : ViewerModel
    tell : callable
        Takes "box", "positive", "negative", or "" for anything else.
    """

    def __init__(self, viewer: ViewerModel, tell: Callable[[str], None]) -> None:
        self._viewer, self._tell = viewer, tell
        self._layers: LayerSet | None = None
        viewer.layers.selection.events.active.connect(self._show)

    def follow(self, layers: LayerSet | None) -> None:
        """Draw on these layers from now on."""
        if self._layers is not None:
            self._layers.created.disconnect(self._on_created)
        self._layers = layers
        if layers is not None:
            layers.created.connect(self._on_created)
        self._show()

    def set(self, mode: str) -> None:
        """Let the mouse draw a "box", or "positive" or "negative" points; a layer that was deleted is made again."""
        if self._layers is None:
            return
        layer: Any = self._layers.boxes if mode == "box" else self._layers.points
        layer.visible = True
        self._viewer.layers.selection.active = layer
        if mode == "box":
            layer.selected_data = set()
            layer.mode = "add_rectangle"
        else:
            layer.mode = "add"
            set_next_sign(layer, mode == "positive")
        self._show()

    def current(self) -> str:
        """The mode that is set."""
        active: Any = self._viewer.layers.selection.active
        role = self._layers.role_of(active) if self._layers is not None and active is not None else None
        if role == "boxes" and str(active.mode).startswith("add"):
            return "box"
        if role == "points" and str(active.mode) == "add":
            return "positive" if next_is_positive(active) else "negative"
        return ""

    def close(self) -> None:
        """Stop listening."""
        self.follow(None)
        self._viewer.layers.selection.events.active.disconnect(self._show)

    def _on_created(self, role: Role, layer: Any) -> None:
        if role in ("boxes", "points"):
            layer.events.mode.connect(self._show)

    def _show(self, _event: Any = None) -> None:
        self._tell(self.current())
