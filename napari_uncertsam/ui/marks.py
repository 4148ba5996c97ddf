"""Which layers are ours: a mark in their metadata, for every widget in the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Layer

_ROLE = "napari_uncertsam_role"
_INSPECTOR = "inspector"


def mark(role: str, layer: Layer) -> None:
    """Say that a layer is ours, and which one."""
    layer.metadata[_ROLE] = role


def unmark(layer: Layer) -> None:
    """A layer becomes the user's own."""
    layer.metadata.pop(_ROLE, None)


def is_ours(layer: Layer) -> bool:
    """Whether a layer was made by this or any other of our widgets, and is not the user's own."""
    return _ROLE in layer.metadata


def role_of(layer: Layer) -> str:
    """Which of our layers this is; "" for one of the user's."""
    return str(layer.metadata.get(_ROLE, ""))


def mark_inspected(role: str, layer: Layer) -> None:
    """Say that a layer was made by an inspector: it shows errors, and is nothing to be compared itself."""
    mark(f"{_INSPECTOR}: {role}", layer)


def is_inspected(layer: Layer) -> bool:
    """Whether a layer was made by an inspector."""
    return role_of(layer).startswith(_INSPECTOR)
