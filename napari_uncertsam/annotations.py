"""What the user has done so far, as immutable values: entries per object and slice, and the state made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.prediction import Prediction, Request
from napari_uncertsam.prompts import Box, Prompts, Suggestion
from napari_uncertsam.view import View

#: A suggestion this close to a dismissed place or a given point, as a share of the view's side, is not made again.
REPEAT_RADIUS = 0.03
#: A box that overlaps a dismissed one this much is not suggested again.
REPEAT_OVERLAP = 0.9


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
class Patch:
    """Values on a rectangle of a slice, 0 elsewhere: on a large slice only what is there takes memory.

    Parameters
    ----------
    top, left : int
        Where `values` lie in the slice.
    values : (h, w)
        A mask (bool), or pixels set by hand (int8: 1 painted, -1 erased, 0 untouched).
    """

    top: int
    left: int
    values: NDArray[Any]

    @property
    def where(self) -> tuple[slice, slice]:
        """Rows and columns of the slice."""
        height, width = self.values.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def trimmed(self) -> Patch | None:
        """The part that is not zero, as an array of its own; None when there is none."""
        if not self.values.any():
            return None
        box = Box.of_mask(self.values != 0)
        top, left, bottom, right = (int(v) for v in (box.y0, box.x0, box.y1, box.x1))
        return Patch(self.top + top, self.left + left, self.values[top : bottom + 1, left : right + 1].copy())

    def under(self, newer: Patch) -> Patch | None:
        """Both in one; `newer` counts where it is not zero."""
        both = self.padded(newer)
        both = Patch(both.top, both.left, both.values.copy()) if both is self else both
        np.copyto(both.part(newer), newer.values, where=newer.values != 0)
        return both.trimmed()

    def without(self, hidden: Patch) -> Patch | None:
        """The patch with 0 where another one is not zero."""
        values = np.where(hidden.padded(self).part(self) != 0, self.values.dtype.type(0), self.values)
        return Patch(self.top, self.left, values).trimmed()

    def padded(self, other: Patch) -> Patch:
        """The same values on the smallest rectangle that holds both; itself where it does already."""
        (rows, columns), (more_rows, more_columns) = self.where, other.where
        top, left = min(rows.start, more_rows.start), min(columns.start, more_columns.start)
        bottom, right = max(rows.stop, more_rows.stop), max(columns.stop, more_columns.stop)
        if (bottom - top, right - left) == self.values.shape:
            return self
        both = Patch(top, left, np.zeros((bottom - top, right - left), self.values.dtype))
        both.part(self)[...] = self.values
        return both

    def part(self, other: Patch) -> NDArray[Any]:
        """A writable view of the values under another patch, which has to lie inside this one."""
        height, width = other.values.shape
        top, left = other.top - self.top, other.left - self.left
        return self.values[top : top + height, left : left + width]


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
    dismissed : tuple of Suggestion
        What the user does not know, or does not want: never to be asked again about this object on this slice.
    painted : Patch, optional
        Pixels painted (1) or erased (-1) by hand; they win over predictions.
    remembered : Patch, optional
        The mask of a prediction that is not kept itself: loaded from a file, or of long ago.
    """

    prompts: Prompts = field(default_factory=Prompts)
    view: View | None = None
    prediction: Prediction | None = None
    dismissed: tuple[Suggestion, ...] = ()
    painted: Patch | None = None
    remembered: Patch | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing worth keeping."""
        nothing = all(v is None for v in (self.prediction, self.painted, self.remembered))
        return nothing and self.prompts == Prompts() and not self.dismissed

    @property
    def predicted(self) -> Patch | None:
        """The predicted mask, without what was done by hand."""
        if self.prediction is None:
            return self.remembered
        maps = self.prediction.maps
        return Patch(maps.rows.start, maps.columns.start, maps.local_mask)

    @property
    def patches(self) -> tuple[Patch, ...]:
        """What there is to be drawn."""
        return tuple(p for p in (self.predicted, self.painted) if p is not None)

    def local_mask(self) -> Patch | None:
        """The predicted mask with what was painted and erased by hand; None when there is neither."""
        predicted, painted = self.predicted, self.painted
        mask = None if predicted is None else Patch(predicted.top, predicted.left, predicted.values.astype(np.int8))
        if painted is not None:
            mask = painted if mask is None else mask.under(painted)
        return None if mask is None else Patch(mask.top, mask.left, mask.values > 0)

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The same as an array of the slice's shape ``(H, W)``."""
        full, local = np.zeros(shape, bool), self.local_mask()
        if local is not None:
            full[local.where] = local.values
        return full

    def looks_like(self, other: Entry) -> bool:
        """Whether both draw the same pixels, as far as identity tells."""
        masks = [e.remembered if e.prediction is None else e.prediction for e in (self, other)]
        return self.painted is other.painted and masks[0] is masks[1]

    def open_suggestions(self) -> tuple[Suggestion, ...]:
        """Suggestions of the prediction, without those dismissed or answered."""
        if self.prediction is None:
            return ()
        radius = REPEAT_RADIUS * max(self.prediction.view.height, self.prediction.view.width)
        places = [(s.y, s.x) for s in self.dismissed if s.box is None] + [(p.y, p.x) for p in self.prompts.points]
        boxes = [s.box for s in self.dismissed if s.box is not None]

        def is_open(s: Suggestion) -> bool:
            if s.box is not None:
                return s.box != self.prompts.box and all(s.box.iou(b) < REPEAT_OVERLAP for b in boxes)
            return all(np.hypot(s.y - y, s.x - x) > radius for y, x in places)

        return tuple(filter(is_open, self.prediction.suggestions))

    def with_prompts(self, prompts: Prompts) -> Entry:
        """The entry with other prompts: empty without any, without a mask when there is nothing to segment from."""
        if prompts == Prompts():
            return self.cleared()
        view = self.view
        if view is not None:
            seen = view.box
            inside = (seen.y0 <= p.y <= seen.y1 and seen.x0 <= p.x <= seen.x1 for p in prompts.points)
            view = view if prompts.box == self.prompts.box and all(inside) else None
        kept = replace(self, prompts=prompts, view=view)
        return replace(kept, prediction=None, remembered=None) if prompts.is_empty else kept

    def answers(self, request: Request) -> bool:
        """Whether the model's prediction for a request is there."""
        prediction = self.prediction
        return prediction is not None and not prediction.provisional and prediction.request == request

    def cleared(self) -> Entry:
        """Nothing but what is not to be asked again: what somebody does not know they do not know next time either."""
        return Entry(dismissed=self.dismissed)

    def with_prediction(self, prediction: Prediction) -> Entry:
        """The entry with a newer prediction."""
        return replace(self, prediction=prediction, remembered=None)

    def with_paint(self, edits: Patch) -> Entry:
        """The entry with newer edits on top."""
        return replace(self, painted=edits.trimmed() if self.painted is None else self.painted.under(edits))

    def faded(self) -> Entry:
        """The entry with its mask in place of the prediction, which takes a fraction of the memory."""
        mask = None if self.predicted is None else self.predicted.trimmed()
        return replace(self, prediction=None, remembered=mask)


@dataclass(frozen=True, eq=False)
class Change:
    """What an answer did to the mask of one object on one slice.

    Parameters
    ----------
    before, after : Entry
        Each with its prediction; `after` may be provisional.
    """

    before: Entry
    after: Entry

    @classmethod
    def between(cls, before: Entry, after: Entry) -> Change | None:
        """What a step of the history changed.

        None unless it was an answer (a point more, or a suggested box taken), that is predicted by now, with the same
        settings as what was there before.
        """
        old, new = before.prediction, after.prediction
        if old is None or new is None or old is new or new.request.prompts != after.prompts:
            return None
        asked, told = before.prompts, after.prompts
        pointed = told.box == asked.box and len(told.points) == len(asked.points) + 1
        boxed = told.box != asked.box and told.box in {s.box for s in old.suggestions}
        if not (pointed or boxed) or told.points[: len(asked.points)] != asked.points:
            return None
        same = replace(old.request, prompts=told, view=new.request.view) == new.request
        return cls(before, after) if same else None

    @property
    def uncertain_px(self) -> tuple[float, float]:
        """The uncertain area before and after, in pixels."""
        old, new = self.before.prediction, self.after.prediction
        return (0.0 if old is None else old.uncertain_px, 0.0 if new is None else new.uncertain_px)

    @property
    def is_provisional(self) -> bool:
        """Whether the model has not been asked yet."""
        return self.after.prediction is not None and self.after.prediction.provisional

    @cached_property
    def pixels(self) -> Patch | None:
        """Pixels that came to the mask (1) or left it (-1), int8; None where it stayed as it was.

        What was done by hand stays as it is and does not count.
        """
        old, new = self.before.predicted, self.after.predicted
        if old is None or new is None:
            return None
        left, came = old.padded(new), new.padded(old)
        differs = Patch(left.top, left.left, left.values != came.values).trimmed()
        if differs is None:
            return None
        changed = Patch(differs.top, differs.left, came.part(differs).astype(np.int8) - left.part(differs))
        return changed if self.after.painted is None else changed.without(self.after.painted)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """How many pixels came to the mask, and how many left it."""
        if self.pixels is None:
            return 0, 0
        return int((self.pixels.values > 0).sum()), int((self.pixels.values < 0).sum())


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

    def with_object(self, object_id: int) -> State:
        """The state with prompts going to an object, existing or new."""
        objects = self.objects if object_id in self.objects else (*self.objects, object_id)
        return replace(self, objects=objects, object_id=object_id)

    def without_object(self, object_id: int) -> State:
        """The state without an object and all it had."""
        objects = tuple(o for o in self.objects if o != object_id) or (1,)
        current = self.object_id if self.object_id in objects else objects[-1]
        entries = MappingProxyType({k: e for k, e in self.entries.items() if k.object_id != object_id})
        return State(objects, current, entries)

    def changed_keys(self, other: State) -> set[Key]:
        """Keys whose entries differ between two states."""
        if self.entries is other.entries:
            return set()
        return {k for k in {*self.entries, *other.entries} if self.entries.get(k) is not other.entries.get(k)}
