"""The keys of the inspector, on its own layers only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari_uncertsam.ui.keys import Key

KEYS = (
    Key(".", "next", "next line of the table"),
    Key(",", "previous", "line before"),
)
#: What the table does by itself.
TABLE_KEYS = (("↑ ↓", "walk through the table"), ("Enter", "go to the selected line again"))

HELP_NOTE = (
    "A click on a line goes there; a click on a head sorts, a second one turns the order round. The keys . and , work "
    "while the image has the keyboard and a layer of this widget is selected. Magenta pixels are falsely inside, blue "
    "ones falsely outside."
)


def bind(layer: Any, verbs: Mapping[str, Callable[[], Any]]) -> None:
    """Bind the keys on a layer that is ours."""
    for entry in KEYS:
        layer.bind_key(entry.key, _caller(verbs[entry.verb], entry.help), overwrite=True)


def _caller(verb: Callable[[], Any], text: str) -> Callable[[Any], None]:
    def call(_layer: Any) -> None:
        verb()

    call.__doc__ = text
    return call
