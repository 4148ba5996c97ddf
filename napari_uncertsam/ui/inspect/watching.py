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


class Staleness:
    """Whether what is shown in the table is out of date, also while something newer is being measured.

    A newer comparison watches its layers from its beginning, but what is shown stays watched until that has come.

    Parameters
    ----------
    viewer : ViewerModel
    tell : callable
        Takes a sentence when what is shown is out of date.
    """

    def __init__(self, viewer: ViewerModel, tell: Callable[[str], None]) -> None:
        self._viewer, self._tell = viewer, tell
        self._shown = LayerWatch(viewer, tell)
        self._coming: LayerWatch | None = None
        self._heard = ""  # of the layers that are being measured

    def begin(self, layers: Sequence[Layer]) -> LayerWatch:
        """These layers are being measured; returns what :meth:`accept` or :meth:`drop` takes in the end."""
        self.drop(self._coming)
        self._heard = ""
        self._coming = LayerWatch(self._viewer, self._on_coming)
        self._coming.follow(layers)
        return self._coming

    def accept(self, coming: LayerWatch) -> str:
        """What was measured is shown now; returns a sentence if it is out of date already."""
        self._shown.close()
        self._shown, self._coming = coming, None
        return self._heard

    def drop(self, coming: LayerWatch | None) -> None:
        """Nothing came of it: what was shown is watched as before."""
        if coming is not None:
            coming.close()
        if coming is self._coming:
            self._coming = None

    def close(self) -> None:
        """Watch nothing."""
        self.drop(self._coming)
        self._shown.close()

    def _on_coming(self, reason: str) -> None:
        # Once it is what is shown, there is nothing to wait for.
        if self._coming is None:
            self._tell(reason)
        else:
            self._heard = reason
