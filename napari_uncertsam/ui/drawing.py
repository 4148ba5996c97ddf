"""Put boxes, points, suggestions and labels into napari's layers; as little as needed is touched.

Positions are data coordinates of the layer. Setting a layer's data drops the selection and repaints, so what is there
already is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.ui.styles import (
    CHOSEN_COLOUR,
    NEGATIVE_COLOUR,
    POSITIVE_COLOUR,
    SUGGESTION_COLOUR,
    TRANSPARENT,
)

if TYPE_CHECKING:
    from napari.layers import Labels, Points, Shapes

#: Widths of the rings around suggested places, as shares of their diameter.
_RING, _CHOSEN_RING = 0.12, 0.24


def draw_boxes(layer: Shapes, outlines: Sequence[NDArray[np.float64]]) -> None:
    """Show exactly these rectangles, each ``(4, ndim)``."""
    present = [np.asarray(vertices) for vertices in layer.data]
    if len(outlines) == len(present) and all(
        kind == "rectangle" and _same_corners(a, b)
        for kind, a, b in zip(layer.shape_type, outlines, present, strict=True)
    ):
        return
    layer.data = [(vertices, "rectangle") for vertices in outlines]


def draw_points(layer: Points, positions: NDArray[np.float64], signs: Sequence[bool]) -> None:
    """Show exactly these clicks, ``(n, ndim)``, green where positive and red where not."""
    if positions.shape == layer.data.shape and np.allclose(positions, layer.data) and point_signs(layer) == list(signs):
        return
    adds_positive = next_is_positive(layer)
    layer.selected_data = set()
    layer.data = positions
    layer.features = {"positive": np.asarray(signs, bool)}
    if len(signs):
        layer.face_color = [POSITIVE_COLOUR if sign else NEGATIVE_COLOUR for sign in signs]
    set_next_sign(layer, adds_positive)
    layer.refresh()


def point_signs(layer: Points) -> list[bool]:
    """Of each point, whether it is positive; points that somebody else put there count as positive."""
    if "positive" not in layer.features:
        return [True] * len(layer.data)
    return [bool(sign) for sign in layer.features["positive"]]


def next_is_positive(layer: Points) -> bool:
    """Whether the next click is inside the object."""
    defaults = layer.feature_defaults
    return bool(defaults["positive"].iloc[0]) if "positive" in defaults else True


def set_next_sign(layer: Points, positive: bool) -> None:
    """Let the next clicks be positive (green) or negative (red)."""
    layer.selected_data = set()  # the colour of selected points would be changed too
    layer.feature_defaults = {"positive": positive}
    layer.current_face_color = POSITIVE_COLOUR if positive else NEGATIVE_COLOUR


def draw_suggested_points(
    layer: Points, positions: NDArray[np.float64], ranks: Sequence[int], chosen: int | None
) -> None:
    """Show suggested places with their rank (from 1), the chosen one highlighted and over the others."""
    if not len(ranks) and not len(layer.data):
        return
    upwards = sorted(range(len(ranks)), key=lambda number: ranks[number] == chosen)
    ranks = [ranks[number] for number in upwards]
    layer.selected_data = set()
    layer.data = positions[upwards]
    layer.features = _rank_features(ranks)
    if len(ranks):
        layer.face_color = TRANSPARENT  # what is asked about stays visible
        layer.border_color = [CHOSEN_COLOUR if rank == chosen else SUGGESTION_COLOUR for rank in ranks]
        layer.border_width = [_CHOSEN_RING if rank == chosen else _RING for rank in ranks]
    layer.refresh()


def draw_suggested_boxes(
    layer: Shapes, outlines: Sequence[NDArray[np.float64]], ranks: Sequence[int], chosen: int | None
) -> None:
    """Show suggested boxes with their rank (from 1), the chosen one highlighted."""
    if not len(ranks) and not len(layer.data):
        return
    layer.data = [(vertices, "rectangle") for vertices in outlines]
    layer.features = _rank_features(ranks)
    if len(ranks):
        layer.edge_color = [CHOSEN_COLOUR if rank == chosen else SUGGESTION_COLOUR for rank in ranks]
        layer.face_color = [TRANSPARENT] * len(ranks)


def draw_labels(layer: Labels, labels: NDArray[Any], plane: int, index: int, *, shown: bool = True) -> None:
    """Copy one slice of a label map into the layer; all of it where the layer's array has another shape.

    Where it is not `shown` nothing is drawn: napari reads the array when the slice is.
    """
    if layer.data.shape != labels.shape:
        layer.data = labels.copy()
    slice_of(layer.data, plane, index)[...] = slice_of(labels, plane, index)
    if shown:
        layer.refresh(extent=False)


def slice_of(labels: NDArray[Any], plane: int, index: int) -> NDArray[Any]:
    """A view of one slice of an image or a volume."""
    return labels if labels.ndim == 2 else np.moveaxis(labels, plane, 0)[index]


def _rank_features(ranks: Sequence[int]) -> dict[str, NDArray[Any]]:
    return {"rank": np.asarray([str(rank) for rank in ranks], dtype=str)}


def _same_corners(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two rectangles have the same corners, in any order."""
    if a.shape != b.shape:
        return False
    a, b = (v[np.lexsort(np.round(v, 6).T)] for v in (a, b))
    return bool(np.allclose(a, b, rtol=0, atol=1e-4))
