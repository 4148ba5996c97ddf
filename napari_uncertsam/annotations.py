"""What the user has done so far, as immutable values: entries per object and slice, and the states of the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.prediction import Prediction, Request
from napari_uncertsam.prompts import Prompts, Suggestion
from napari_uncertsam.view import View

#: A suggestion this close to a dismissed place or a given point, as a share of the view's side, is not made again.
REPEAT_RADIUS = 0.03


@dataclass(frozen=True, slots=True)
class Key:
    """One object on one slice."""

    plane: int
    slice_index: int
    object_id: int

    @classmethod
    def of(cls, request: Request) -> Key:
        """The object and slice that a request is about."""
        return cls(request.plane, request.slice_index, request.object_id)


@dataclass(frozen=True, eq=False)
class Painted:
    """Pixels painted or erased by hand on a slice; they win over predictions.

    Parameters
    ----------
    top, left : int
        Where `values` lie in the slice.
    values : (h, w) int8
        1 painted, -1 erased, 0 untouched.
    """

    top: int
    left: int
    values: NDArray[np.int8]

    @classmethod
    def of_slice(cls, edits: NDArray[np.int8]) -> Painted | None:
        """The touched part of a slice-sized array of edits; None when nothing was touched."""
        rows, columns = np.flatnonzero(edits.any(1)), np.flatnonzero(edits.any(0))
        if rows.size == 0:
            return None
        top, left = int(rows[0]), int(columns[0])
        return cls(top, left, edits[top : rows[-1] + 1, left : columns[-1] + 1].copy())

    def on_slice(self, shape: tuple[int, int]) -> NDArray[np.int8]:
        """Slice-sized array of edits."""
        out = np.zeros(shape, np.int8)
        height, width = self.values.shape
        out[self.top : self.top + height, self.left : self.left + width] = self.values
        return out


@dataclass(frozen=True, eq=False)
class Entry:
    """Everything about one object on one slice.

    Parameters
    ----------
    prompts : Prompts
    view : View, optional
        Pinned by a refinement that was made in it; None chooses by the prompts.
    prediction : Prediction, optional
        The newest delivered; may be of earlier prompts while a newer one is under way.
    dismissed : tuple of (y, x)
        Suggested places that the user does not want to be asked about again.
    painted : Painted, optional
    """

    prompts: Prompts = field(default_factory=Prompts)
    view: View | None = None
    prediction: Prediction | None = None
    dismissed: tuple[tuple[float, float], ...] = ()
    painted: Painted | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing worth keeping."""
        return self.prompts == Prompts() and self.prediction is None and self.painted is None

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool: the predicted mask with what was painted and erased by hand."""
        mask = np.zeros(shape, bool) if self.prediction is None else self.prediction.maps.mask
        if self.painted is not None:
            height, width = self.painted.values.shape
            where = np.s_[self.painted.top : self.painted.top + height, self.painted.left : self.painted.left + width]
            mask[where] |= self.painted.values > 0
            mask[where] &= self.painted.values >= 0
        return mask

    def open_suggestions(self) -> tuple[Suggestion, ...]:
        """Suggestions of the prediction, without those dismissed or answered."""
        if self.prediction is None:
            return ()
        radius = REPEAT_RADIUS * max(self.prediction.view.height, self.prediction.view.width)
        known = [*self.dismissed, *((p.y, p.x) for p in self.prompts.points)]
        return tuple(
            s
            for s in self.prediction.suggestions
            if not (s.kind == "box" and s.box == self.prompts.box)
            and all(np.hypot(s.y - y, s.x - x) > radius for y, x in known)
        )

    def with_paint(self, edits: NDArray[np.int8]) -> Entry:
        """The entry with newer edits (slice-sized, 0 leaves earlier ones) on top."""
        if self.painted is not None:
            edits = np.where(edits == 0, self.painted.on_slice(edits.shape), edits).astype(np.int8)
        return replace(self, painted=Painted.of_slice(edits))


@dataclass(frozen=True, eq=False)
class State:
    """What undo and redo move between.

    Parameters
    ----------
    objects : tuple of int
        In order of creation: where masks overlap, the earlier object keeps its pixels.
    object_id : int
        The one that prompts go to.
    entries : mapping of Key to Entry
    """

    objects: tuple[int, ...] = (1,)
    object_id: int = 1
    entries: Mapping[Key, Entry] = field(default_factory=lambda: MappingProxyType({}))

    def entry(self, key: Key) -> Entry:
        """The entry, empty when there is none."""
        return self.entries.get(key, Entry())

    def with_entries(self, changed: Mapping[Key, Entry]) -> State:
        """The state with some entries replaced; empty ones are dropped."""
        merged = {k: e for k, e in {**self.entries, **changed}.items() if not e.is_empty}
        return replace(self, entries=MappingProxyType(merged))

    def changed_keys(self, other: State) -> set[Key]:
        """Keys whose entries differ between two states."""
        return {k for k in {*self.entries, *other.entries} if self.entries.get(k) is not other.entries.get(k)}

    def rank(self, key: Key) -> tuple[int, int, int]:
        """Sorting key: by slice, then by the object's order of creation; objects that are gone come last."""
        order = self.objects.index(key.object_id) if key.object_id in self.objects else len(self.objects)
        return key.plane, key.slice_index, order
