"""The label map of a volume: one value per object, earlier objects keep their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Key, State
from napari_uncertsam.errors import InputError


class LabelMap:
    """Masks of all objects in one array of the volume's shape.

    Parameters
    ----------
    shape : tuple of int
        ``(Y, X)`` or ``(Z, Y, X)``.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.labels: NDArray[np.uint16] = np.zeros(shape, np.uint16)

    def slice(self, plane: int, index: int) -> NDArray[np.uint16]:
        """A writable view of one slice."""
        whole = self.labels[None] if self.labels.ndim == 2 else np.moveaxis(self.labels, plane, 0)
        picked: NDArray[np.uint16] = whole[index]
        return picked

    def update(self, before: State, after: State) -> list[tuple[int, int]]:
        """Bring the map from one state to another.

        On a slice that changed, the masks of all its objects are drawn again in order of creation, each only where no
        earlier object (or object annotated in another plane) is.

        Returns
        -------
        list of (plane, index)
            The slices that were touched.
        """
        changed = before.changed_keys(after)
        slices = sorted({(k.plane, k.slice_index) for k in changed})
        drawn = sorted(
            (k for k in {*before.entries, *after.entries} if (k.plane, k.slice_index) in slices), key=after.rank
        )
        for key in drawn:
            labels = self.slice(key.plane, key.slice_index)
            labels[labels == key.object_id] = 0
        for key in drawn:
            labels = self.slice(key.plane, key.slice_index)
            labels[after.entry(key).mask(labels.shape) & (labels == 0)] = key.object_id
        return slices

    def withheld(self, state: State, key: Key) -> NDArray[np.uint16]:
        """Values of the other objects that keep pixels of an object's mask, one per such pixel."""
        labels = self.slice(key.plane, key.slice_index)
        height, width = labels.shape
        others: NDArray[np.uint16] = labels[state.entry(key).mask((height, width))]
        kept: NDArray[np.uint16] = others[(others != 0) & (others != key.object_id)]
        return kept

    def edits(self, plane: int, index: int, painted: NDArray[Any]) -> dict[int, NDArray[np.int8]]:
        """What a hand-painted slice changes, per object: 1 where it gained a pixel, -1 where it lost one.

        Raises
        ------
        InputError
            If the painted slice has another shape.
        """
        old = self.slice(plane, index)
        if painted.shape != old.shape:
            raise InputError(f"The painted slice has the shape {painted.shape}, the image {old.shape}.")
        touched, out = painted != old, {}
        for object_id in (int(v) for v in np.union1d(old[touched], painted[touched]) if v > 0):
            out[object_id] = np.zeros(old.shape, np.int8)
            out[object_id][touched & (old == object_id)] = -1
            out[object_id][touched & (painted == object_id)] = 1
        return out
