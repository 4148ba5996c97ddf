"""What the user has done so far, as immutable values: the state made of entries, and what an answer changed in one."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from napari_uncertsam.entries import REPEAT_OVERLAP, REPEAT_RADIUS, Entry, Key, Source
from napari_uncertsam.patch import Patch
from napari_uncertsam.prediction import Settings
from napari_uncertsam.volume import Window

__all__ = ["REPEAT_OVERLAP", "REPEAT_RADIUS", "Change", "Entry", "Finished", "Key", "Patch", "State"]


@dataclass(frozen=True)
class Finished:
    """A span of slices that propagation has been through, whatever it found there.

    Parameters
    ----------
    plane, object_id : int
    start, stop : int
        Slices `start` to `stop` - 1.
    source : Source
    """

    plane: int
    object_id: int
    start: int
    stop: int
    source: Source


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
    finished : frozenset of Finished
        Spans that propagation need not go through again.
    bases : mapping of str to (Window, Settings)
        What sources of propagated slices mean by their basis.
    """

    objects: tuple[int, ...] = (1,)
    object_id: int = 1
    entries: Mapping[Key, Entry] = field(default_factory=lambda: MappingProxyType({}))
    finished: frozenset[Finished] = frozenset()
    bases: Mapping[str, tuple[Window, Settings]] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def reviewed(self) -> frozenset[Key]:
        """Masks that the user has confirmed."""
        return frozenset(key for key, entry in self.entries.items() if entry.reviewed)

    @cached_property
    def _made_from(self) -> tuple[weakref.ref[State], frozenset[Key]] | None:
        """The state before and the keys that differ, where they are known: with many entries they cost to find."""
        return None

    def of_object(self, plane: int, object_id: int) -> dict[int, Entry]:
        """Entries of one object by slice, in order."""
        mine = {k.slice_index: e for k, e in self.entries.items() if k.object_id == object_id and k.plane == plane}
        return dict(sorted(mine.items()))

    def entry(self, key: Key) -> Entry:
        """The entry, empty when there is none."""
        return self.entries.get(key, Entry())

    def with_entries(self, changed: Mapping[Key, Entry]) -> State:
        """The state with some entries replaced; empty ones are dropped."""
        merged = dict(self.entries) if not isinstance(self.entries, MappingProxyType) else self.entries.copy()
        for key, entry in changed.items():
            if entry.is_empty:
                merged.pop(key, None)
            else:
                merged[key] = entry
        made = replace(self, entries=MappingProxyType(merged))
        made.__dict__["_made_from"] = weakref.ref(self), frozenset(changed)
        return made

    def with_object(self, object_id: int) -> State:
        """The state with prompts going to an object, existing or new."""
        objects = self.objects if object_id in self.objects else (*self.objects, object_id)
        return replace(self, objects=objects, object_id=object_id)

    def without_object(self, object_id: int) -> State:
        """The state without an object and all it had."""
        objects = tuple(o for o in self.objects if o != object_id) or (1,)
        current = self.object_id if self.object_id in objects else objects[-1]
        entries = MappingProxyType({k: e for k, e in self.entries.items() if k.object_id != object_id})
        finished = frozenset(done for done in self.finished if done.object_id != object_id)
        return State(objects, current, entries, finished, self.bases)

    def changed_keys(self, other: State) -> set[Key]:
        """Keys whose entries differ between two states."""
        if self.entries is other.entries:
            return set()
        made = other._made_from
        keys = made[1] if made is not None and made[0]() is self else {*self.entries, *other.entries}
        return {k for k in keys if self.entries.get(k) is not other.entries.get(k)}
