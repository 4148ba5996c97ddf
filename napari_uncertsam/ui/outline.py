"""What an answer changed, outlined for a moment; no Qt.

The layer stays and is empty in between: napari takes a tenth of a second to put a layer into a window and again to take
it out, and its list would jump with every answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Patch
from napari_uncertsam.ui.geometry import spatial_shape
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.styles import CAME, LEFT, contour_width

#: napari's outlines take as long as pixels times squared width; of more than this, they are filled instead.
_LARGEST, _WIDEST, _FILLED = 2_500_000, 4, 0.6
#: Pixels around what changed, so that the outline closes at the edge of the layer.
_MARGIN = 1


class ChangeOutline:
    """Fills the layer `changed`, which holds no more than the changed rectangle.

    Parameters
    ----------
    layers : LayerSet
    """

    def __init__(self, layers: LayerSet) -> None:
        self._layers, self._image = layers, layers.image

    def show(self, changed: Patch, plane: int, index: int) -> None:
        """Outline pixels that came to the mask (values above 0) and those that left it (below 0).

        A change over a large part of a large slice is filled.
        """
        values, top, left = self._framed(changed, plane)
        offset = (top, left)
        if self._image.ndim == 3:
            values = np.expand_dims(values, plane)
            offset = tuple(np.insert(offset, plane, index).tolist())
        layer: Any = self._layers.get("changed")
        width = min(contour_width(self._image), _WIDEST)
        width = width if values.size * width**2 <= _LARGEST else 0
        layer.contour, layer.opacity = width, 1.0 if width else _FILLED
        layer.data = values
        self._layers.place("changed", offset)

    def clear(self) -> None:
        """Outline nothing."""
        layer: Any = self._layers.existing("changed")
        if layer is not None and layer.data.any():
            layer.data = np.zeros((1,) * self._image.ndim, np.uint8)
            self._layers.place("changed", None)

    def _framed(self, changed: Patch, plane: int) -> tuple[NDArray[np.uint8], int, int]:
        """The values as labels with a margin that stays on the slice, and where they lie."""
        shape = spatial_shape(self._image)
        height, width = shape if len(shape) == 2 else np.delete(shape, plane).tolist()
        rows, columns = changed.where
        before = (min(_MARGIN, rows.start), min(_MARGIN, columns.start))
        after = (min(_MARGIN, height - rows.stop), min(_MARGIN, width - columns.stop))
        labels = np.where(changed.values > 0, CAME, np.where(changed.values < 0, LEFT, 0)).astype(np.uint8)
        framed = np.pad(labels, tuple(zip(before, after, strict=True)))
        return framed, rows.start - before[0], columns.start - before[1]
