"""One volume and what was segmented in it so far: everything that can be asked, nothing that changes it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Change, Entry, Key, State
from napari_uncertsam.errors import InputError
from napari_uncertsam.history import History
from napari_uncertsam.labelmap import LabelMap
from napari_uncertsam.prediction import Prediction, RefinedPrediction, Request, Settings
from napari_uncertsam.prompts import Prompts, Suggestion
from napari_uncertsam.volume import Volume, Window


class Workspace:
    """Annotation of one volume, to be looked at and saved; :class:`napari_uncertsam.session.Session` changes it.

    Parameters
    ----------
    volume : Volume
    settings : Settings, optional
    window : Window, optional
        By default the one for the volume's modality.
    """

    def __init__(self, volume: Volume, settings: Settings | None = None, window: Window | None = None) -> None:
        self.volume = volume
        self.settings = settings or Settings()
        self.window = window or Window.for_volume(volume)
        self.image_id = uuid.uuid4().hex
        self.plane, self.slice_index = 0, volume.n_slices(0) // 2 if volume.ndim == 3 else 0
        self.last_refinement: RefinedPrediction | None = None
        self._history = History()
        self._map, self._drawn = LabelMap(volume.shape), State()

    @property
    def _state(self) -> State:
        return self._history.state

    @property
    def labels(self) -> NDArray[np.uint16]:
        """Label map of the volume's shape, 0 for the background. Changes in place; not to be written to."""
        self._draw()
        return self._map.labels

    def _draw(self) -> list[tuple[int, int]]:
        """Bring the label map up to date; the slices that changed."""
        before, self._drawn = self._drawn, self._state
        return self._map.update(before, self._drawn)

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
        """Whether the prediction answers the present prompts and settings, and the model made it."""
        request = self.request
        return request is not None and self.entry.answers(request)

    @property
    def last_change(self) -> Change | None:
        """What the last step changed, if it was an answer for the current object on the current slice."""
        before = self._history.before
        return None if before is None else Change.between(before.entry(self.key), self.entry)

    @property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """Suggestions of the prediction, without those dismissed or answered."""
        return self.entry.open_suggestions()

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return self._history.can_redo

    @property
    def request(self) -> Request | None:
        """What should be predicted for the current object and slice; None without a box or a positive point."""
        return self._request(self.key)

    def _request(self, key: Key) -> Request | None:
        entry = self._state.entry(key)
        if entry.prompts.is_empty:
            return None
        view = entry.view if self.settings.zoom else None
        where = (self.image_id, key.plane, key.slice_index, self.window, view, key.object_id)
        return Request(*where, entry.prompts, self.settings)

    def probability_slice(self) -> NDArray[np.float32] | None:
        """Probability map (H, W) of the current object on the current slice, None without a prediction."""
        return None if self.prediction is None else self.prediction.maps.probability

    def uncertainty_slice(self) -> NDArray[np.float32] | None:
        """Uncertainty map (H, W) of the current object on the current slice, None without a prediction."""
        return None if self.prediction is None else self.prediction.maps.uncertainty

    def ranked_slices(self) -> list[int]:
        """Slices of the current plane with a prediction, most uncertain first.

        A slice with several objects counts as uncertain as its most uncertain one.
        """
        means: dict[int, float] = {}
        for key, entry in self.entries.items():
            if key.plane == self.plane and entry.prediction is not None:
                mean = entry.prediction.mean_uncertainty
                means[key.slice_index] = max(mean, means.get(key.slice_index, mean))
        return sorted(means, key=lambda index: (-means[index], index))

    def summary(self) -> dict[str, Any]:
        """What is known about the current object on the current slice, as plain values for JSON.

        Raises
        ------
        InputError
            If there is no prediction.
        """
        from napari_uncertsam.summary import suggestion_to_dict, summarise

        if self.prediction is None:
            raise InputError("There is no prediction to describe yet: draw a box or click inside the object first.")
        document = summarise(self.prediction, self.last_refinement, self.volume)
        document["suggestions"] = [suggestion_to_dict(s) for s in self.suggestions]  # not those nobody can answer
        return document

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write masks, maps, prompts and a summary; see :func:`napari_uncertsam.session_file.save_session`."""
        from napari_uncertsam.session_file import save_session

        return save_session(self, Path(folder), overwrite=overwrite)

    def autosave(self, path: str | Path) -> Path:
        """Write the session file alone, over an older one; the work can be taken up again from it."""
        from napari_uncertsam.session_file import session_to_dict, write_json

        return write_json(Path(path), session_to_dict(self), overwrite=True)

    def snapshot(self) -> Workspace:
        """The present state, which later verbs do not change: to be saved on another thread, which draws its labels."""
        twin = Workspace(self.volume, self.settings, self.window)
        twin.image_id, twin.plane, twin.slice_index = self.image_id, self.plane, self.slice_index
        twin.last_refinement = self.last_refinement
        twin._history = History(self._state)
        return twin
