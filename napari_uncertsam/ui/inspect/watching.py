"""Notices when what was compared is not what is there any more. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: Events of a layer after which its measures may be others; not every kind of layer has all.
_EVENTS = ("data", "paint", "labels_update", "scale", "rotate", "shear", "affine", "translate")


class LayerWatch:
    """Tells, in a sentence, that one of some layers has changed or is gone.

    Parameters
    ----------
    viewer : ViewerModel
    tell : callable
        Takes the sentence.
    """

    def __init__(self, viewer: ViewerModel, tell: Callable[[str], None]) -> None:
        self._viewer, self._tell = viewer, tell
        self._connected: list[tuple[Any, Callable[..., None]]] = []

    def follow(self, layers: Sequence[Layer]) -> None:
        """Watch these layers, and no others."""
        self.close()
        for layer in layers:
            for name in _EVENTS:
                if hasattr(layer.events, name):
                    self._connect(getattr(layer.events, name), partial(self._on_changed, layer))
        if layers:
            self._connect(self._viewer.layers.events.removed, partial(self._on_removed, tuple(layers)))

    def close(self) -> None:
        """Watch nothing."""
        for emitter, slot in self._connected:
            emitter.disconnect(slot)
        self._connected.clear()

    def _connect(self, emitter: Any, slot: Callable[..., None]) -> None:
        emitter.connect(slot)
        self._connected.append((emitter, slot))

    def _on_changed(self, layer: Layer, _event: Any = None) -> None:
        self._tell(f"'{layer.name}' has changed since; the table still shows what was compared.")

    def _on_removed(self, layers: Sequence[Layer], event: Any) -> None:
        if any(layer is event.value for layer in layers):
            self._tell(f"'{event.value.name}' was removed; the table still shows what was compared.")
