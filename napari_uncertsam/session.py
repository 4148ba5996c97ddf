"""The user's verbs on one image or volume, with undo, redo and signals; no Qt, no napari, nothing that waits.

A session says what should be predicted (`requested`) and takes what was (`deliver`). Whoever runs the pipeline, a
worker thread behind the widget or a loop in a script, may be late: a prediction for a request that is no longer current
is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam import anchoring
from napari_uncertsam.annotations import Key, Patch, State
from napari_uncertsam.errors import InputError
from napari_uncertsam.prediction import Prediction, RefinedPrediction, Request, Settings
from napari_uncertsam.prompts import Box, Point, Prompts, Suggestion
from napari_uncertsam.propagating import PropagationRequest
from napari_uncertsam.propagation import Propagated
from napari_uncertsam.steps import Steps
from napari_uncertsam.volume import Window

__all__ = ["Prediction", "RefinedPrediction", "Request", "Session", "Settings"]


class Session(Steps):
    """Annotation of one volume, changed by the user's verbs.

    Parameters
    ----------
    volume : Volume
    settings : Settings, optional
    window : Window, optional
        By default the one for the volume's modality.

    Examples
    --------
    >>> from napari_uncertsam.volume import Volume
    >>> session = Session(Volume(np.zeros((32, 32), np.uint8)))
    >>> session.set_box(Box(8, 8, 20, 20))
    >>> session.request.prompts.box, session.can_undo
    (Box(y0=8.0, x0=8.0, y1=20.0, x1=20.0), True)
    >>> session.undo()
    >>> session.request is None
    True
    """

    _running: tuple[PropagationRequest, set[int]] | None = None  # the newest propagation, and the slices that came
    _unwanted: PropagationRequest | None = None  # its beginning was undone

    # --- verbs, each one step of the history ---------------------------------------------------------------------

    def set_prompts(self, prompts: Prompts) -> None:
        """Replace all prompts of the current object on this slice.

        Raises
        ------
        InputError
            If a prompt lies outside the slice; nothing is changed then.
        """
        prompts = prompts.clipped(*self.volume.plane_shape(self.plane))
        if prompts != self.prompts:
            self._change({self.key: self.entry.with_prompts(prompts)})

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
        """Remove the current object's prompts, mask and hand-painted pixels from this slice.

        What was not to be asked again still is not.
        """
        cleared = self.entry.cleared()
        if not replace(self.entry, dismissed=()).is_empty:
            self._change({self.key: cleared})

    def delete_object(self, object_id: int) -> None:
        """Remove an object from all slices; deleting one that does not exist does nothing."""
        left = self._state.without_object(object_id)
        if left.objects != self.objects or left.changed_keys(self._state):
            self._change({}, left)

    def answer(self, suggestion: Suggestion, inside: bool) -> None:
        """Accept a suggestion: a point as inside or outside; a box as the object's (or, outside, as not)."""
        if suggestion.kind == "point":
            self.add_point(suggestion.answer(inside))
        elif inside:
            self.set_box(suggestion.box)
        else:
            self.dismiss(suggestion)

    def dismiss(self, suggestion: Suggestion) -> None:
        """Answer "don't know": do not ask this again about the current object on this slice, whatever is predicted."""
        if suggestion not in self.entry.dismissed:
            self._change({self.key: replace(self.entry, dismissed=(*self.entry.dismissed, suggestion))})

    def paint(self, plane: int, index: int, new_labels: NDArray[Any]) -> None:
        """Take over pixels painted or erased by hand; they win over predictions until the prompts are cleared.

        Parameters
        ----------
        plane, index : int
        new_labels : (H, W) integer
            The slice of the label map as painted.

        Raises
        ------
        InputError
            If there is no such slice, or the labels do not fit it; nothing is changed then.
        """
        plane, index = self._checked_slice(plane, index)
        painted = self._map.touched(plane, index, np.asarray(new_labels))
        if painted is not None:
            self._paint(plane, index, painted)

    def take_overlap(self) -> int:
        """Give the current object all pixels of its mask, also those of others; returns how many changed hands."""
        mask = self.entry.local_mask()
        if mask is None:
            return 0
        labels = self._map.slice(self.plane, self.slice_index)[mask.where]
        taken = int((mask.values & (labels != self.object_id)).sum())
        if taken:
            values = np.where(mask.values, np.uint16(self.object_id), labels)
            self._paint(self.plane, self.slice_index, Patch(mask.top, mask.left, values))
        return taken

    def set_reviewed(self, index: int, reviewed: bool = True) -> None:
        """Confirm the current object's mask on a slice of the current plane, or open it again.

        A confirmed mask stays as it is, whatever is predicted or propagated later, until its prompts change.

        Raises
        ------
        InputError
            If there is no such slice, or no mask to confirm on it.
        """
        _, index = self._checked_slice(self.plane, index)
        key = replace(self.key, slice_index=index)
        entry = self._state.entry(key)
        if reviewed and not entry.patches:
            raise InputError(f"Slice {index} has no mask of object {self.object_id} to confirm; segment it first.")
        if reviewed != entry.reviewed:
            self._change({key: entry.with_review(reviewed)}, ask=False)

    def undo(self) -> None:
        """Go back one step; any number of times."""
        self._travel(back=True)

    def redo(self) -> None:
        """Take back an undo."""
        self._travel(back=False)

    # --- predictions ---------------------------------------------------------------------------------------------

    def deliver(self, prediction: Prediction) -> bool:
        """Take a prediction; False (and nothing happens) when its request is no longer current.

        A provisional one is shown and still leaves the session waiting for the model's; it never replaces that.
        """
        key, before = Key.of(prediction.request), self._state
        entry = before.entry(key)
        if self.request_of(key) != prediction.request or (prediction.provisional and entry.answers(prediction.request)):
            return False
        self._history.amend(before.with_entries({key: entry.with_prediction(prediction)}))
        self._show(before)
        if not prediction.provisional:
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
        if entry.prediction is not refined.before or self.request_of(key) != request:
            return False
        self.last_refinement = refined
        if refined.accepted:
            after = refined.prediction
            changed = replace(entry, prompts=after.request.prompts, view=after.request.view).with_prediction(after)
            self._change({key: changed}, ask=False)
            self._tell_overlap(key)
        self.refined.emit(refined)
        return True

    def deliver_propagated(self, request: PropagationRequest, results: Sequence[Propagated]) -> bool:
        """Take results of a propagation as they come; False when its anchors are not what they were, or it was undone.

        The first of a request are a step of the history, later ones belong to it.
        """
        if request.image_id != self.image_id or request is self._unwanted:
            return False
        if not anchoring.still_holds(self._state, request):
            return False
        self._take(request, anchoring.delivered(self._state, request, results), {r.slice_index for r in results})
        return True

    def finish_propagation(self, request: PropagationRequest) -> bool:
        """Say that all results came: what was propagated before is removed where nothing came this time.

        False when the anchors are not what they were, or the propagation was undone.
        """
        if request.image_id != self.image_id or request is self._unwanted:
            return False
        if not anchoring.still_holds(self._state, request):
            return False
        n_slices = self.volume.n_slices(request.plane)
        came = self._running[1] if self._running is not None and self._running[0] is request else set()
        self._take(request, anchoring.finished(self._state, request, came, n_slices), set())
        self.message.emit(self._told(request, came))
        return True

    def replace_results(self, results: Mapping[Key, Prediction | Propagated]) -> None:
        """Put results in place of what is remembered of them: of the same prompts, from the same anchors; no step."""
        before, changed = self._state, {}
        for key, result in results.items():
            entry = before.entry(key)
            if isinstance(result, Propagated):
                changed[key] = entry.with_propagated(result, entry.source)
            elif entry.prompts == result.request.prompts:
                changed[key] = entry.with_prediction(result)
        self._history.amend(before.with_entries(changed))
        self._show(before, here=False)

    # --- files ---------------------------------------------------------------------------------------------------

    def load(self, path: str | Path) -> None:
        """Take up work from a session file, as one step of the history.

        Raises
        ------
        InputError
            If it cannot be read, is damaged, or is of another image; nothing is changed then.
        """
        from napari_uncertsam.session_file import read_session, restore_session

        restore_session(self, read_session(Path(path)))

    def restore(self, state: State, window: Window, settings: Settings, plane: int, index: int) -> None:
        """Take up saved work as one step of the history; see :func:`napari_uncertsam.session_file.restore_session`."""
        self.window, self.settings = window, settings
        self.plane, self.slice_index = self._checked_slice(plane, index)
        self._change({}, state)

    # --- inside --------------------------------------------------------------------------------------------------

    def _paint(self, plane: int, index: int, painted: Patch) -> None:
        changed = self._map.paint(self._state, plane, index, painted)
        added = tuple(sorted({key.object_id for key in changed} - {*self.objects}))
        self._change(changed, replace(self._state, objects=self.objects + added), ask=False)

    def _take(self, request: PropagationRequest, state: State, came: set[int]) -> None:
        """One more part of a propagation."""
        before = self._state
        first = self._running is None or self._running[0] is not request
        if first or self._running is None:
            self._running = request, set()
            self._history.step(state)
        else:
            self._history.amend(state)
        self._running[1].update(came)
        self._show(before, here=False)
        if first:
            self.history_changed.emit()

    def _told(self, request: PropagationRequest, came: set[int]) -> str:
        if not came:
            return f"Object {request.object_id} was found on no further slice."
        slices = "slice" if len(came) == 1 else "slices"
        where = f"{min(came)} to {max(came)}" if len(came) > 1 else f"{min(came)}"
        text = f"Propagated to {len(came)} {slices} ({where})."
        keys = [Key(request.plane, index, request.object_id) for index in came]
        others = sum(self._map.withheld(self._state, key).size for key in keys)
        return f"{text} {others} pixels lie in other objects and were left there." if others else text

    def _travel(self, back: bool) -> None:
        before = self._state
        if not (self._history.undo() if back else self._history.redo()):
            return
        if back and self._running is not None:
            self._unwanted, self._running = self._running[0], None
        self._show(before)
        self.history_changed.emit()
        elsewhere = {(k.plane, k.slice_index) for k in before.changed_keys(self._state)}
        if elsewhere and (self.plane, self.slice_index) not in elsewhere:
            places = ", ".join(f"slice {index} of plane {plane}" for plane, index in sorted(elsewhere))
            self.message.emit(f"{'Undone' if back else 'Redone'} on {places}.")
        self._ask()
