"""The label map of a volume: one value per object, earlier objects keep their pixels.

The map follows from the state alone, whatever way led to it: undo and redo bring every pixel back. An object has the
voxels of its predicted masks in all planes. What was done by hand comes first: a painted voxel belongs to the object it
was painted for, an erased one does not belong to the object. Only the rectangle under what changed is drawn again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Entry, Key, Patch, State
from napari_uncertsam.errors import InputError

#: First and last + 1 index of a part of the volume along its three axes.
Bounds: TypeAlias = tuple[tuple[int, int], ...]
#: Rows that are compared at once, in pixels.
_BLOCK_SIZE = 1 << 22


class LabelMap:
    """Masks of all objects in one array of the volume's shape.

    Parameters
    ----------
    shape : tuple of int
        ``(Y, X)`` or ``(Z, Y, X)``.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.labels: NDArray[np.uint16] = np.zeros(shape, np.uint16)
        self._keys: dict[tuple[int, int], set[Key]] = {}  # by plane and slice: there may be thousands

    @property
    def _volume(self) -> NDArray[np.uint16]:
        return self.labels[None] if self.labels.ndim == 2 else self.labels

    def slice(self, plane: int, index: int) -> NDArray[np.uint16]:
        """A writable view of one slice."""
        picked: NDArray[np.uint16] = np.moveaxis(self._volume, plane, 0)[index]
        return picked

    def update(self, before: State, after: State) -> list[tuple[int, int]]:
        """Bring the map from one state to another.

        Returns
        -------
        list of (plane, index)
            The slices that changed.
        """
        changed: dict[tuple[int, int], list[Patch]] = {}
        for key in before.changed_keys(after):
            old, new = before.entry(key), after.entry(key)
            here = self._keys.setdefault((key.plane, key.slice_index), set())
            (here.add if key in after.entries else here.discard)(key)
            if not old.looks_like(new) and (old.patches or new.patches):
                changed.setdefault((key.plane, key.slice_index), []).extend((*old.patches, *new.patches))
        for (plane, index), patches in changed.items():
            bounds = _bounds(plane, index, patches)
            part = self._volume[tuple(slice(*b) for b in bounds)]
            part[...] = drawn(after, bounds, self._near(bounds))
        return sorted(changed)

    def _near(self, bounds: Bounds) -> Iterator[Key]:
        """Keys of all entries that may reach into a part of the volume."""
        for plane in range(3):
            for index in range(*bounds[plane]):
                yield from self._keys.get((plane, index), ())

    def withheld(self, state: State, key: Key) -> NDArray[np.uint16]:
        """Values of the other objects that keep pixels of an object's mask, one per such pixel."""
        mask = state.entry(key).local_mask()
        if mask is None:
            return np.zeros(0, np.uint16)
        others: NDArray[np.uint16] = self.slice(key.plane, key.slice_index)[mask.where][mask.values]
        kept: NDArray[np.uint16] = others[(others != 0) & (others != key.object_id)]
        return kept

    def touched(self, plane: int, index: int, painted: NDArray[Any]) -> Patch | None:
        """The part of a hand-painted slice that differs from the map; None when nothing does.

        Raises
        ------
        InputError
            If the painted slice has another shape, or holds something else than labels.
        """
        old = self.slice(plane, index)
        if painted.shape != old.shape:
            raise InputError(f"The painted slice has the shape {painted.shape}, the image {old.shape}.")
        if painted.dtype.kind not in "bui":
            raise InputError(f"Labels are integers, not {painted.dtype}.")
        rows, columns = np.zeros(old.shape[0], bool), np.zeros(old.shape[1], bool)
        step = max(1, _BLOCK_SIZE // old.shape[1])
        for start in range(0, old.shape[0], step):  # a huge slice takes no second one for the comparison
            differs = painted[start : start + step] != old[start : start + step]
            rows[start : start + step] = differs.any(1)
            columns |= differs.any(0)
        if not rows.any():
            return None
        (top, bottom), (left, right) = ((int(v[0]), int(v[-1])) for v in map(np.flatnonzero, (rows, columns)))
        values = painted[top : bottom + 1, left : right + 1]
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > np.iinfo(np.uint16).max:
            raise InputError(f"Labels run from 0 to {np.iinfo(np.uint16).max}, not from {low} to {high}.")
        return Patch(top, left, values.astype(np.uint16))

    def paint(self, state: State, plane: int, index: int, painted: Patch) -> dict[Key, Entry]:
        """Entries that make a slice of the map look as it was painted by hand.

        Whoever had, or would otherwise get, a pixel that was given to another object or erased, loses it; what was done
        to it by hand in another plane no longer counts.

        Parameters
        ----------
        state : State
        plane, index : int
        painted : Patch of labels
        """
        old, new = self.slice(plane, index)[painted.where], painted.values
        touched, bounds = new != old, _bounds(plane, index, [painted])
        wanted = np.where(touched, new.astype(np.int32), -1)
        edits = {int(v): np.zeros(new.shape, np.int8) for v in np.union1d(old[touched], new[touched]) if v}
        changed: dict[Key, Entry] = {}
        for key in self._near(bounds):
            entry = state.entry(key)
            if not any(_meets(key, patch, bounds) for patch in entry.patches):
                continue
            claim = _slice_of(_claimed({key: entry}, bounds), plane) & touched & (new != key.object_id)
            if claim.any():
                edits.setdefault(key.object_id, np.zeros(new.shape, np.int8))[claim] = -1
            if key.plane != plane:
                changed[key] = _superseded(key, entry, bounds, plane, wanted)
        for object_id, edit in edits.items():
            edit[touched & (old == object_id)] = -1
            edit[touched & (new == object_id)] = 1
            key = Key(plane, index, object_id)
            changed[key] = state.entry(key).with_paint(Patch(painted.top, painted.left, edit))
        return {key: entry for key, entry in changed.items() if entry is not state.entries.get(key)}


def drawn(state: State, bounds: Bounds, keys: Iterable[Key]) -> NDArray[np.uint16]:
    """Labels of a part of the volume, from the state alone; `keys` are those of entries that may reach into it."""
    labels = np.zeros([stop - start for start, stop in bounds], np.uint16)
    by_object: dict[int, dict[Key, Entry]] = {object_id: {} for object_id in state.objects}
    for key in keys:
        entry = state.entry(key)
        if any(_meets(key, patch, bounds) for patch in entry.patches):
            by_object.setdefault(key.object_id, {})[key] = entry
            for into, values in _parts(labels, key, entry.painted, bounds):
                into[(values > 0) & (into == 0)] = key.object_id
    for object_id, entries in by_object.items():
        if entries:
            claim = _claimed(entries, bounds)
            for key, entry in entries.items():
                for into, values in _parts(claim, key, entry.painted, bounds):
                    into &= values >= 0
            labels[claim & (labels == 0)] = object_id
    return labels


def _claimed(entries: dict[Key, Entry], bounds: Bounds) -> NDArray[np.bool_]:
    """Voxels that entries were predicted, or painted, to have."""
    claim = np.zeros([stop - start for start, stop in bounds], bool)
    for key, entry in entries.items():
        for patch in entry.patches:
            for into, values in _parts(claim, key, patch, bounds):
                into |= values > 0
    return claim


def _superseded(key: Key, entry: Entry, bounds: Bounds, plane: int, wanted: NDArray[np.int32]) -> Entry:
    """An entry of another plane without its edits that newer ones (labels, -1 for none) speak against."""
    newer = np.full([stop - start for start, stop in bounds], -1, np.int32)
    _slice_of(newer, plane)[...] = wanted
    if entry.painted is None:
        return entry
    left = Patch(entry.painted.top, entry.painted.left, entry.painted.values.copy())
    for into, values in _parts(newer, key, left, bounds):
        against = np.where(into == key.object_id, values < 0, values > 0) & (into >= 0)
        values[against] = 0
        if against.any():
            return replace(entry, painted=left.trimmed())
    return entry


def _bounds(plane: int, index: int, patches: Iterable[Patch]) -> Bounds:
    """The part of the volume that holds patches of one slice."""
    spans = [patch.where for patch in patches]
    flat = [(min(s[axis].start for s in spans), max(s[axis].stop for s in spans)) for axis in (0, 1)]
    flat.insert(plane, (index, index + 1))
    return tuple(flat)


def _slice_of(array: NDArray[Any], plane: int) -> NDArray[Any]:
    """A part of the volume that is one slice thick as that slice."""
    picked: NDArray[Any] = np.moveaxis(array, plane, 0)[0]
    return picked


def _meets(key: Key, patch: Patch, bounds: Bounds) -> bool:
    place = [(s.start, s.stop) for s in patch.where]
    place.insert(key.plane, (key.slice_index, key.slice_index + 1))
    return all(max(a, c) < min(b, d) for (a, b), (c, d) in zip(place, bounds, strict=True))


def _parts(
    array: NDArray[Any], key: Key, patch: Patch | None, bounds: Bounds
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Where a patch lies in an array over `bounds`: writable views of the array and of the patch, if they meet."""
    if patch is None or not _meets(key, patch, bounds):
        return
    into, values = np.moveaxis(array, key.plane, 0)[key.slice_index - bounds[key.plane][0]], patch.values
    spans = [b for axis, b in enumerate(bounds) if axis != key.plane]
    for axis, (span, (start, stop)) in enumerate(zip(patch.where, spans, strict=True)):
        low, high = max(span.start, start), min(span.stop, stop)
        cut: list[slice] = [slice(None)] * 2
        cut[axis] = slice(low - start, high - start)
        into = into[tuple(cut)]
        cut[axis] = slice(low - span.start, high - span.start)
        values = values[tuple(cut)]
    yield into, values
