"""How a workspace changes: one step of the history after the other, each told to whoever listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from psygnal import Signal

from napari_uncertsam.annotations import Entry, Key, State
from napari_uncertsam.errors import InputError
from napari_uncertsam.volume import Window
from napari_uncertsam.workspace import Workspace

#: Largest value of an object in the label map.
LAST_OBJECT = int(np.iinfo(np.uint16).max)


class Steps(Workspace):
    """A workspace with signals, and with what is no step: where the user is, and what was chosen.

    Parameters
    ----------
    volume : Volume
    settings : Settings, optional
    window : Window, optional
        By default the one for the volume's modality.
    """

    requested = Signal(object)  # Request: a prediction is wanted; the newest wins
    prompts_changed = Signal()
    prediction_changed = Signal()
    suggestions_changed = Signal()
    labels_changed = Signal(int, int)  # plane, slice index
    objects_changed = Signal()
    history_changed = Signal()
    propagation_changed = Signal()  # what there is to know of the slices
    reviewed_changed = Signal()
    changed = Signal()  # anything that a session file holds
    refined = Signal(object)  # RefinedPrediction
    message = Signal(str)

    # --- where the user is ---------------------------------------------------------------------------------------

    def go_to(self, plane: int, index: int) -> None:
        """Show another slice; not a step of the history.

        Raises
        ------
        InputError
            If there is no such slice.
        """
        plane, index = self._checked_slice(plane, index)
        if (plane, index) != (self.plane, self.slice_index):
            other = plane != self.plane
            self.plane, self.slice_index = plane, index
            self._tell()
            if other:
                self.propagation_changed.emit()
            self._ask()

    def select_object(self, object_id: int) -> None:
        """Let prompts go to another object, existing or new; not a step of the history.

        Raises
        ------
        InputError
            If the number does not fit into the label map.
        """
        object_id = int(object_id)
        if not 1 <= object_id <= LAST_OBJECT:
            raise InputError(f"Objects are numbered from 1 to {LAST_OBJECT}, not {object_id}.")
        if object_id != self.object_id:
            self._history.amend(self._state.with_object(object_id))
            self.objects_changed.emit()
            self._tell()
            self.propagation_changed.emit()
            self.changed.emit()
            self._ask()

    def new_object(self) -> int:
        """Start the next object and return its number."""
        self.select_object(max(self.objects) + 1)
        return self.object_id

    def set_window(self, window: Window) -> None:
        """Change what the model sees of the intensities; the current object is predicted again."""
        if window != self.window:
            self.window = window
            self.changed.emit()
            self._ask()

    def set_settings(self, **changes: Any) -> None:
        """Change the model, method, measure, zoom, number of suggestions, seed or refinement."""
        settings = replace(self.settings, **changes)
        if settings != self.settings:
            self.settings = settings
            self.changed.emit()
            self._ask()

    # --- inside --------------------------------------------------------------------------------------------------

    def _checked_slice(self, plane: int, index: int) -> tuple[int, int]:
        plane, index = int(plane), int(index)
        count = self.volume.n_slices(plane)
        if not 0 <= index < count:
            raise InputError(f"There is no slice {index} in plane {plane}; choose one from 0 to {count - 1}.")
        return plane, index

    def _change(self, entries: Mapping[Key, Entry], state: State | None = None, ask: bool = True) -> None:
        """One step of the history."""
        before = self._state
        self._history.step((state or before).with_entries(entries))
        self._show(before)
        self.history_changed.emit()
        if ask:
            self._ask()

    def _show(self, before: State, *, here: bool = True) -> None:
        """Bring the label map and the listeners up to date after the state changed from `before`.

        With ``here=False`` those of the present slice hear of it only if that changed: results come for many slices.
        """
        for plane, index in self._draw():
            self.labels_changed.emit(plane, index)
        objects = before.objects != self.objects or before.object_id != self.object_id
        if objects:
            self.objects_changed.emit()
        keys = before.changed_keys(self._state)
        if here or any((k.plane, k.slice_index) == (self.plane, self.slice_index) for k in keys):
            self._tell()
        self.propagation_changed.emit()
        if any(before.entry(key).reviewed != self._state.entry(key).reviewed for key in keys):
            self.reviewed_changed.emit()
        self.changed.emit()

    def _tell(self) -> None:
        self.prompts_changed.emit()
        self.prediction_changed.emit()
        self.suggestions_changed.emit()

    def _tell_overlap(self, key: Key) -> None:
        others = self._map.withheld(self._state, key)
        if others.size:
            names = ", ".join(str(v) for v in np.unique(others))
            self.message.emit(
                f"{others.size} pixels of object {key.object_id} lie in object {names} and were left there."
            )

    def _ask(self) -> None:
        """Say what should be predicted, if that is not what there is."""
        request = self.request
        if request is not None and not self.is_current:
            self.requested.emit(request)
