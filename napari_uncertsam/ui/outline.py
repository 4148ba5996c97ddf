"""What an answer changed, outlined for a moment in a layer of its own; no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Patch
from napari_uncertsam.ui.geometry import copy_transform, spatial_shape, transform_of
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.marks import mark
from napari_uncertsam.ui.styles import CAME_COLOUR, LEFT_COLOUR, TRANSPARENT, contour_width

if TYPE_CHECKING:
    from napari.layers import Labels

NAME = "changed"
_CAME, _LEFT = 1, 2
#: Pixels around what changed, so that the outline closes at the edge of the layer.
_MARGIN = 1


class ChangeOutline:
    """A layer over the image that holds the changed rectangle alone, and is there only while it shows something.

    Parameters
    ----------
    layers : LayerSet
        Over whose image it is shown.
    """

    def __init__(self, layers: LayerSet) -> None:
        self._layers, self._viewer, self._image = layers, layers.viewer, layers.image
        self._layer: Labels | None = None

    def show(self, changed: Patch, plane: int, index: int) -> None:
        """Outline pixels that came to the mask (values above 0) in white and those that left it (below 0) in red."""
        values, top, left = self._framed(changed, plane)
        offset = (top, left)
        if self._image.ndim == 3:
            values = np.expand_dims(values, plane)
            offset = tuple(np.insert(offset, plane, index).tolist())
        layer = self._layer
        if layer is None or layer not in self._viewer.layers or not layer.contour:
            self.clear()
            layer = _make_layer(values, self._image)
            copy_transform(self._image, layer, offset)
            self._insert(layer)
        else:
            layer.data = values
            copy_transform(self._image, layer, offset)

    def flatten(self) -> None:
        """Draw no outlines: napari has them in 2D only, and warns elsewhere."""
        if self._layer is not None:
            self._layer.contour = 0

    def clear(self) -> None:
        """Take the layer away."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            selected = set(self._viewer.layers.selection) - {layer}
            self._viewer.layers.remove(layer)
            self._viewer.layers.selection = selected

    def _framed(self, changed: Patch, plane: int) -> tuple[NDArray[np.uint8], int, int]:
        """The values as labels with a margin that stays on the slice, and where they lie."""
        shape = spatial_shape(self._image)
        height, width = shape if len(shape) == 2 else np.delete(shape, plane).tolist()
        rows, columns = changed.where
        before = (min(_MARGIN, rows.start), min(_MARGIN, columns.start))
        after = (min(_MARGIN, height - rows.stop), min(_MARGIN, width - columns.stop))
        labels = np.where(changed.values > 0, _CAME, np.where(changed.values < 0, _LEFT, 0)).astype(np.uint8)
        framed = np.pad(labels, tuple(zip(before, after, strict=True)))
        return framed, rows.start - before[0], columns.start - before[1]

    def _insert(self, layer: Labels) -> None:
        """Under what the user draws on; what is selected stays selected."""
        self._layer = layer
        mark(NAME, layer)
        layers = self._viewer.layers
        below = self._layers.existing("mask")
        place = layers.index(below if below is not None else self._image) + 1
        selected = set(layers.selection)
        layers.insert(place, layer)
        layers.selection = selected


def _make_layer(values: NDArray[np.uint8], image: Any) -> Labels:
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    colours = {None: TRANSPARENT, 0: TRANSPARENT, _CAME: CAME_COLOUR, _LEFT: LEFT_COLOUR}
    layer = Labels(
        values, name=NAME, opacity=1.0, colormap=DirectLabelColormap(color_dict=colours), **transform_of(image)
    )
    layer.contour = contour_width(image)
    layer.editable = False
    return layer
