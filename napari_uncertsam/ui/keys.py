"""The keys of the widget: one table, bound while the widget is open on the viewer and on layers that are ours.

napari asks the active layer first, so a key that a layer of the user's has for itself stays with that layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from napari_uncertsam.ui.styles import Role


@dataclass(frozen=True)
class Key:
    """A key as napari names it, the verb it stands for, and what the help says.

    `shown` is its name for people, where that differs.
    """

    key: str
    verb: str
    help: str
    shown: str = ""

    @property
    def label(self) -> str:
        """The key for people."""
        return self.shown or self.key


KEYS = (
    Key("B", "draw_box", "draw a box around the object"),
    Key("P", "draw_positive", "click points inside the object"),
    Key("X", "draw_negative", "click points outside of it"),
    Key("N", "new_object", "next object"),
    Key("Tab", "next_suggestion", "look at the next suggestion"),
    Key("Y", "accept_inside", "the suggestion is inside the object (a box: use it)"),
    Key("U", "accept_outside", "the suggestion is outside (a box: keep yours)"),
    Key("D", "dismiss", "don't know: do not ask about this suggestion again"),
    Key("R", "refine", "refine by uncertainty"),
    Key("Control-Z", "undo", "undo", "Ctrl+Z"),
    Key("Control-Shift-Z", "redo", "redo", "Ctrl+Shift+Z"),
    Key("G", "propagate", "propagate from your slices to all others of the volume"),
    Key("K", "toggle_reviewed", "this slice is reviewed, or it is not"),
    Key("]", "next_uncertain_slice", "this slice is fine: go to the most uncertain one not yet reviewed"),
    Key("[", "most_useful_slice", "go to the slice where a correction helps most; nothing is marked as reviewed"),
)

#: On `mask`, napari's own painting keys stay; only its undo, which knows nothing of predictions, is replaced.
_ON_MASK = ("undo", "redo")

HELP_NOTE = (
    "Keys work while the image has the keyboard (click on it once) and the selected layer has no use of its own for "
    "them; the layers of this widget leave them all to it, 'mask' only undo and redo."
)


class KeyBindings:
    """Binds the table to a set of verbs.

    Parameters
    ----------
    viewer : ViewerModel or Viewer
    verbs : mapping of str to callable
        What to call, without arguments, for every verb of :data:`KEYS`.
    """

    def __init__(self, viewer: Any, verbs: Mapping[str, Callable[[], Any]]) -> None:
        self._viewer, self._verbs = viewer, verbs
        self._before = {entry.key: viewer.keymap.get(_coerce(entry.key)) for entry in KEYS}
        self._bind(viewer)

    def bind_layer(self, role: Role, layer: Any) -> None:
        """Bind the keys on one of our layers."""
        self._bind(layer, _ON_MASK if role == "mask" else None)

    def close(self) -> None:
        """Give the viewer back the keys it had; our layers keep theirs only as long as they are ours."""
        for key, function in self._before.items():
            self._viewer.bind_key(key, function, overwrite=True)

    def release_layer(self, layer: Any) -> None:
        """Take our keys off a layer that becomes the user's own."""
        for entry in KEYS:
            layer.keymap.pop(_coerce(entry.key), None)

    def _bind(self, target: Any, only: tuple[str, ...] | None = None) -> None:
        for entry in KEYS:
            if only is None or entry.verb in only:
                target.bind_key(entry.key, self._caller(entry.verb), overwrite=True)

    def _caller(self, verb: str) -> Callable[[Any], None]:
        def call(_target: Any) -> None:
            self._verbs[verb]()

        call.__doc__ = next(entry.help for entry in KEYS if entry.verb == verb)
        return call


def _coerce(key: str) -> Any:
    from napari.utils.key_bindings import coerce_keybinding

    return coerce_keybinding(key)
