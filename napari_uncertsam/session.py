"""The user's verbs on one image or volume, with undo, redo and signals; no Qt, no napari, nothing that waits.

A session says what should be predicted (`requested`) and takes what was (`deliver`). Whoever runs the pipeline, a
worker thread behind the widget or a loop in a script, may be late: a prediction for a request that is no longer current
is dropped.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_uncertsam.annotations import Entry, Key, State
from napari_uncertsam.errors import InputError
from napari_uncertsam.labelmap import LabelMap
from napari_uncertsam.pipeline import Prediction, RefinedPrediction, Request, Settings
from napari_uncertsam.prompts import Box, Point, Prompts, Suggestion
from napari_uncertsam.volume import Volume, Window


class Session:
    """Annotation of one volume.

    Parameters
    ----------
    volume : Volume
    settings : Settings
    window : Window, optional
        By default the one for the volume's modality.

    Examples
    --------
    >>> session = Session(Volume(np.zeros((32, 32), np.uint8)))
    >>> session.set_box(Box(8, 8, 20, 20))
    >>> session.request.prompts.box, session.can_undo
    (Box(y0=8.0, x0=8.0, y1=20.0, x1=20.0), True)
    >>> session.undo()
    >>> session.request is None
    True
    """

    requested = Signal(object)  # Request: a prediction is wanted; the newest wins
    prompts_changed = Signal()
    prediction_changed = Signal()
    suggestions_changed = Signal()
    labels_changed = Signal(int, int)  # plane, slice index
    objects_changed = Signal()
    history_changed = Signal()
    refined = Signal(object)  # RefinedPrediction
    message = Signal(str)

    def __init__(self, volume: Volume, settings: Settings | None = None, window: Window | None = None) -> None:
        self.volume = volume
        self.settings = settings or Settings()
        self.window = window or Window.for_volume(volume)
        self.image_id = uuid.uuid4().hex
        self.plane, self.slice_index = 0, volume.n_slices(0) // 2 if volume.ndim == 3 else 0
        self._map = LabelMap(volume.shape)
        self.last_refinement: RefinedPrediction | None = None
        self._state = State()
        self._undone: list[State] = []
        self._done: list[State] = []

    # --- what there is -------------------------------------------------------------------------------------------

    @property
    def labels(self) -> NDArray[np.uint16]:
        """Label map of the volume's shape, 0 for the background. Changes in place; not to be written to."""
        return self._map.labels

    @property
    def objects(self) -> tuple[int, ...]:
        """Values of the objects in the label map, in order of creation."""
        return self._state.objects

    @property
    def object_id(self) -> int:
        """The object that prompts go to."""
        return self._state.object_id

    @property
    def key(self) -> Key:
        """The current object on the current slice."""
        return Key(self.plane, self.slice_index, self.object_id)

    @property
    def entries(self) -> Mapping[Key, Entry]:
        """All entries that are not empty."""
        return self._state.entries

    @property
    def entry(self) -> Entry:
        """What there is of the current object on the current slice."""
        return self._state.entry(self.key)

    @property
    def prompts(self) -> Prompts:
        """Prompts of the current object on the current slice."""
        return self.entry.prompts

    @property
    def prediction(self) -> Prediction | None:
        """Newest prediction of the current object on the current slice."""
        return self.entry.prediction

    @property
    def is_current(self) -> bool:
        """Whether the prediction answers the present prompts and settings."""
        return self.prediction is not None and self.prediction.request == self.request

    @property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """Suggestions of the prediction, without those dismissed or answered."""
        return self.entry.open_suggestions()

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return bool(self._undone)

    @property
    def request(self) -> Request | None:
        """What should be predicted for the current object and slice; None without a box or a positive point."""
        return self._request(self.key)

    def _request(self, key: Key) -> Request | None:
        entry = self._state.entry(key)
        if entry.prompts.is_empty:
            return None
        where = (self.image_id, key.plane, key.slice_index, self.window, entry.view, key.object_id)
        return Request(*where, entry.prompts, self.settings)

    def probability_slice(self) -> NDArray[np.float32] | None:
        """Probability map (H, W) of the current object on the current slice, None without a prediction."""
        return None if self.prediction is None else self.prediction.maps.probability

    def uncertainty_slice(self) -> NDArray[np.float32] | None:
        """Uncertainty map (H, W) in nats of the current object on the current slice, None without a prediction."""
        return None if self.prediction is None else self.prediction.maps.uncertainty

    # --- where the user is ---------------------------------------------------------------------------------------

    def go_to(self, plane: int, index: int) -> None:
        """Show another slice; not a step of the history."""
        index = int(index)
        if not 0 <= index < self.volume.n_slices(plane):
            raise InputError(
                f"There is no slice {index} in plane {plane}; it has {self.volume.n_slices(plane)} slices."
            )
        if (plane, index) != (self.plane, self.slice_index):
            self.plane, self.slice_index = plane, index
            self._tell()

    def select_object(self, object_id: int) -> None:
        """Let prompts go to another object, existing or new; not a step of the history."""
        object_id = int(object_id)
        if not 1 <= object_id <= np.iinfo(np.uint16).max:
            raise InputError(f"Objects are numbered from 1 to {np.iinfo(np.uint16).max}, not {object_id}.")
        if object_id == self.object_id:
            return
        objects = self.objects if object_id in self.objects else (*self.objects, object_id)
        self._state = replace(self._state, objects=objects, object_id=object_id)
        self.objects_changed.emit()
        self._tell()

    def new_object(self) -> int:
        """Start the next object and return its number."""
        self.select_object(max(self.objects) + 1)
        return self.object_id

    def set_window(self, window: Window) -> None:
        """Change what the model sees of the intensities; the current object is predicted again."""
        if window != self.window:
            self.window = window
            self._ask()

    def set_settings(self, **changes: Any) -> None:
        """Change the model, method, zoom, number of suggestions, seed or refinement."""
        settings = replace(self.settings, **changes)
        if settings != self.settings:
            self.settings = settings
            self._ask()

    # --- verbs, each one step of the history ---------------------------------------------------------------------

    def set_prompts(self, prompts: Prompts) -> None:
        """Replace all prompts of the current object on this slice.

        Raises
        ------
        InputError
            If a prompt lies outside the slice; nothing is changed then.
        """
        prompts = prompts.clipped(*self.volume.plane_shape(self.plane))
        entry = self.entry
        if prompts == entry.prompts:
            return
        if prompts == Prompts():
            changed = Entry()
        else:
            moved = prompts.box != entry.prompts.box
            kept = None if prompts.is_empty else entry.prediction
            changed = replace(entry, prompts=prompts, view=None if moved else entry.view, prediction=kept)
        self._change({self.key: changed})

    def set_box(self, box: Box | None) -> None:
        """Draw (or remove) the box of the current object."""
        self.set_prompts(self.prompts.with_box(box))

    def add_point(self, point: Point) -> None:
        """Click inside or outside the current object."""
        self.set_prompts(self.prompts.with_point(point))

    def remove_point(self, index: int) -> None:
        """Take a click back."""
        points = self.prompts.points
        if not 0 <= index < len(points):
            raise InputError(f"There is no point {index}; this object has {len(points)} on this slice.")
        self.set_prompts(replace(self.prompts, points=points[:index] + points[index + 1 :]))

    def clear_prompts(self) -> None:
        """Remove the current object's prompts, mask and hand-painted pixels from this slice."""
        if not self.entry.is_empty:
            self._change({self.key: Entry()})

    def delete_object(self, object_id: int) -> None:
        """Remove an object from all slices."""
        changed = {k: Entry() for k in self.entries if k.object_id == object_id}
        objects = tuple(o for o in self.objects if o != object_id) or (1,)
        current = self.object_id if self.object_id in objects else objects[-1]
        self._change(changed, replace(self._state, objects=objects, object_id=current))
        self.objects_changed.emit()

    def answer(self, suggestion: Suggestion, inside: bool) -> None:
        """Accept a suggestion: a point as inside or outside; a box as the object's (or, outside, as not)."""
        if suggestion.kind == "point":
            self.add_point(suggestion.answer(inside))
        elif inside:
            self.set_box(suggestion.box)
        else:
            self.dismiss(suggestion)

    def dismiss(self, suggestion: Suggestion) -> None:
        """Do not ask about this place again."""
        self._change({self.key: replace(self.entry, dismissed=(*self.entry.dismissed, (suggestion.y, suggestion.x)))})

    def paint(self, plane: int, index: int, new_labels: NDArray[Any]) -> None:
        """Take over pixels painted or erased by hand; they win over predictions until the prompts are cleared.

        Parameters
        ----------
        plane, index : int
        new_labels : (H, W) integer
            The slice of the label map as painted.
        """
        edits = self._map.edits(plane, index, np.asarray(new_labels))
        keys = {Key(plane, index, object_id): edit for object_id, edit in edits.items()}
        changed = {key: self._state.entry(key).with_paint(edit) for key, edit in keys.items()}
        if changed:
            added = tuple(k.object_id for k in changed if k.object_id not in self.objects)
            self._change(changed, replace(self._state, objects=self.objects + added), ask=False)
            if added:
                self.objects_changed.emit()

    def take_overlap(self) -> int:
        """Give the current object all pixels of its mask, also those of others; returns how many changed hands."""
        shape = self.volume.plane_shape(self.plane)
        claimed, labels = self.entry.mask(shape), self._map.slice(self.plane, self.slice_index)
        taken = claimed & (labels != self.object_id)
        if taken.any():
            self.paint(self.plane, self.slice_index, np.where(claimed, self.object_id, labels))
        return int(taken.sum())

    def undo(self) -> None:
        """Go back one step; any number of times."""
        self._travel(self._done, self._undone)

    def redo(self) -> None:
        """Take back an undo."""
        self._travel(self._undone, self._done)

    # --- predictions ---------------------------------------------------------------------------------------------

    def deliver(self, prediction: Prediction) -> bool:
        """Take a prediction; False (and nothing happens) when its request is no longer current."""
        request = prediction.request
        key = Key.of(request)
        if self._request(key) != request:
            return False
        self._replace({key: replace(self._state.entry(key), prediction=prediction)})
        self._tell_overlap(key)
        return True

    def refine_request(self) -> Prediction:
        """The prediction to be refined now.

        Raises
        ------
        InputError
            If there is none yet.
        """
        if self.prediction is None or not self.is_current:
            raise InputError("There is no prediction to refine yet: draw a box or click inside the object first.")
        return self.prediction

    def deliver_refinement(self, refined: RefinedPrediction) -> bool:
        """Take the outcome of a refinement: one step of the history when it was accepted; False when out of date."""
        request = refined.before.request
        key = Key.of(request)
        entry = self._state.entry(key)
        if entry.prediction is not refined.before or self._request(key) != request:
            return False
        self.last_refinement = refined
        if refined.accepted:
            after = refined.prediction
            changed = replace(entry, prompts=after.request.prompts, view=after.request.view, prediction=after)
            self._change({key: changed}, ask=False)
            self._tell_overlap(key)
        self.refined.emit(refined)
        return True

    def restore(self, state: State, window: Window, settings: Settings, plane: int, index: int) -> None:
        """Take up saved work as one step of the history; see :func:`napari_uncertsam.session_file.restore_session`."""
        self.window, self.settings = window, settings
        self._change({}, state, ask=False)
        self.plane, self.slice_index = plane, index
        self.objects_changed.emit()
        self._tell()

    # --- inside --------------------------------------------------------------------------------------------------

    def _change(self, entries: Mapping[Key, Entry], state: State | None = None, ask: bool = True) -> None:
        """One step of the history."""
        self._done.append(self._state)
        self._undone.clear()
        self._replace(entries, state)
        self.history_changed.emit()
        if ask:
            self._ask()

    def _replace(self, entries: Mapping[Key, Entry], state: State | None = None) -> None:
        """Change entries within the present step of the history."""
        before = self._state
        self._state = (state or before).with_entries(entries)
        self._show(before)

    def _travel(self, source: list[State], target: list[State]) -> None:
        if not source:
            return
        before = self._state
        target.append(before)
        self._state = source.pop()
        self._show(before)
        if before.objects != self.objects or before.object_id != self.object_id:
            self.objects_changed.emit()
        self.history_changed.emit()
        self._ask()

    def _show(self, before: State) -> None:
        """Bring the label map and the listeners up to date after the state changed from `before`."""
        for plane, index in self._map.update(before, self._state):
            self.labels_changed.emit(plane, index)
        self._tell(ask=False)

    def _tell(self, ask: bool = True) -> None:
        self.prompts_changed.emit()
        self.prediction_changed.emit()
        self.suggestions_changed.emit()
        if ask:
            self._ask()

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

    def summary(self) -> dict[str, Any]:
        """What is known about the current object on the current slice, as plain values for JSON."""
        from napari_uncertsam.summary import summarise

        if self.prediction is None:
            raise InputError("There is no prediction to describe yet.")
        return summarise(self.prediction, self.last_refinement, self.volume)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write masks, maps, prompts and a summary; see :func:`napari_uncertsam.session_file.save_session`."""
        from napari_uncertsam.session_file import save_session

        return save_session(self, Path(folder), overwrite=overwrite)
