"""One volume and what was segmented in it so far: everything that can be asked, nothing that changes it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam import anchoring, facts
from napari_uncertsam.annotations import Change, Entry, Finished, Key, State
from napari_uncertsam.encoding import Encoder
from napari_uncertsam.entries import basis_of
from napari_uncertsam.errors import InputError
from napari_uncertsam.history import History
from napari_uncertsam.labelmap import LabelMap
from napari_uncertsam.measure import maps_on_slice
from napari_uncertsam.prediction import Maps, Prediction, RefinedPrediction, Request, Settings
from napari_uncertsam.prompts import Prompts, Suggestion
from napari_uncertsam.propagating import PropagationRequest, Span
from napari_uncertsam.propagation import Anchor, Propagated
from napari_uncertsam.volume import Volume, Window
from napari_uncertsam.volumetry import SliceFacts, VolumeEstimate

#: Pixels of a slice that is still looked at for the session file.
_LARGEST_DIGEST = 1 << 24


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
        self.model_record: Mapping[str, Any] = {}  # of results that were loaded
        self.encoder, self._digests = Encoder(), dict[str, str]()
        self._history = History()
        self._map, self._drawn = LabelMap(volume.shape), State()
        self._mapped: tuple[Propagated, str, Maps] | None = None  # the maps of a propagated slice that were shown last

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
        return self.request_of(self.key)

    def request_of(self, key: Key) -> Request | None:
        """The same for any object and slice."""
        entry = self._state.entry(key)
        if entry.prompts.is_empty:
            return None
        view = entry.view if self.settings.zoom else None
        where = (self.image_id, key.plane, key.slice_index, self.window, view, key.object_id)
        return Request(*where, entry.prompts, self.settings)

    @property
    def maps(self) -> Maps | None:
        """Maps of the current object on the current slice: of the prediction, else of what was propagated."""
        entry = self.entry
        if entry.prediction is not None:
            return entry.prediction.maps
        return self.maps_of(entry.propagated) if entry.propagated is not None and entry.has_propagated else None

    def maps_of(self, told: Propagated) -> Maps:
        """Maps of a propagated slice, with the measure that was chosen; those asked for last are kept."""
        measure, kept = self.settings.measure or "entropy", self._mapped
        if kept is None or kept[0] is not told or kept[1] != measure:
            kept = told, measure, maps_on_slice(told.belief, told.view, told.shape, measure)
            self._mapped = kept
        return kept[2]

    def probability_slice(self) -> NDArray[np.float32] | None:
        """Probability map (H, W) of the current object on the current slice, None where there are no maps."""
        maps = self.maps
        return None if maps is None else maps.probability

    def uncertainty_slice(self) -> NDArray[np.float32] | None:
        """Uncertainty map (H, W) of the current object on the current slice, None where there are no maps."""
        maps = self.maps
        return None if maps is None else maps.uncertainty

    # --- the current object through the slices of the current plane ----------------------------------------------

    @property
    def finished(self) -> frozenset[Finished]:
        """Spans that propagation need not go through again."""
        return self._state.finished

    @property
    def bases(self) -> Mapping[str, tuple[Window, Settings]]:
        """What sources of propagated slices mean by their basis."""
        return self._state.bases

    @property
    def has_results(self) -> bool:
        """Whether there is something to describe: a prediction here, or masks on slices of a volume."""
        return self.prediction is not None or (self.volume.ndim == 3 and bool(self.slice_facts()))

    def slices_of(self, object_id: int, plane: int | None = None) -> dict[int, Entry]:
        """Entries of an object by slice of a plane, by default the current one, in order."""
        return self._state.of_object(self.plane if plane is None else plane, object_id)

    @property
    def _of_object(self) -> dict[int, Entry]:
        return self.slices_of(self.object_id)

    def slice_facts(self) -> tuple[SliceFacts, ...]:
        """All slices of the current plane with a mask of the current object, in order."""
        entries = self._of_object
        stale = anchoring.stale_slices(entries)
        return tuple(facts.facts_of(index, e, index in stale) for index, e in entries.items() if e.area_px)

    def stale_slices(self) -> frozenset[int]:
        """Propagated slices of the current object and plane whose anchors have changed since."""
        return anchoring.stale_slices(self._of_object)

    def anchors(self) -> tuple[Anchor, ...]:
        """Slices from which the current object can be propagated in the current plane, in order."""
        shape = self.volume.plane_shape(self.plane)
        return tuple(anchoring.anchor_of(i, e, shape) for i, e in anchoring.anchors_of(self._of_object).items())

    def propagation_request(self) -> PropagationRequest:
        """What is to be propagated of the current object in the current plane: all that is not up to date.

        Raises
        ------
        InputError
            If the image is 2D, there is no slice to start from, or there is nothing to do.
        """
        if self.volume.ndim != 3:
            raise InputError("A 2D image has no slices to propagate to; open a volume.")
        entries, n_slices = self._of_object, self.volume.n_slices(self.plane)
        if not any(entry.area_px for entry in anchoring.anchors_of(entries).values()):
            raise InputError(
                f"There is nothing to propagate object {self.object_id} from; segment it on a slice of this plane."
            )
        basis = basis_of(self.window, self.settings)
        spans = anchoring.open_spans(self._state, self.plane, self.object_id, n_slices, basis)
        if not spans:
            raise InputError("Everything is up to date: correct a slice, and what depends on it is propagated again.")
        return self.request_of_spans(self.plane, self.object_id, spans, self.window, self.settings)

    def request_of_spans(
        self, plane: int, object_id: int, spans: tuple[Span, ...], window: Window, settings: Settings
    ) -> PropagationRequest:
        """Spans with the anchors that they name, as these are now."""
        entries, shape = self.slices_of(object_id, plane), self.volume.plane_shape(plane)
        ends = sorted({i for span in spans for i in (span.before, span.after) if i is not None})
        anchors = tuple(anchoring.anchor_of(index, entries[index], shape) for index in ends)
        return PropagationRequest(self.image_id, plane, window, object_id, settings, anchors, spans)

    def next_to_review(self) -> int | None:
        """The most uncertain slice with a propagated mask that was not reviewed, out of date or not."""
        return facts.next_to_review(self.slice_facts())

    def most_useful_slice(self) -> int | None:
        """The slice, of those that :meth:`next_to_review` goes through, whose correction is expected to settle most.

        The most uncertain one is often the far end of the object, where a correction helps few other slices; see
        :func:`napari_uncertsam.volumetry.settled_px`.
        """
        found = facts.most_useful(self.slice_facts(), self.volume, self.plane)
        return None if found is None else found[0]

    def volume_estimate(self) -> VolumeEstimate | None:
        """Volume of the current object by the slices of the current plane, None without any and for a 2D image."""
        return facts.volume_of(self.slice_facts(), self.volume, self.plane)

    # --- reports and files ---------------------------------------------------------------------------------------

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
        """What is known about the current object on the current slice and in its plane, as plain values for JSON.

        Raises
        ------
        InputError
            If there is no prediction, and in a volume no mask in this plane.
        """
        from napari_uncertsam.summary import suggestion_to_dict, summarise, volume_to_dict

        if not self.has_results:
            raise InputError("There is no prediction to describe yet: draw a box or click inside the object first.")
        document: dict[str, Any] = {"image": self.volume.name, "plane": self.plane, "slice": self.slice_index}
        if self.prediction is not None:
            document = summarise(self.prediction, self.last_refinement, self.volume)
            document["suggestions"] = [suggestion_to_dict(s) for s in self.suggestions]  # not those nobody can answer
        if self.volume.ndim == 3:
            document |= volume_to_dict(self.slice_facts(), self.volume_estimate())
        return document

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write masks, maps, prompts and a summary; see :func:`napari_uncertsam.saving.save_session`."""
        from napari_uncertsam.saving import save_session

        return save_session(self, Path(folder), overwrite=overwrite)

    def autosave(self, path: str | Path) -> Path:
        """Write the session file alone, over an older one; the work can be taken up again from it."""
        from napari_uncertsam.session_file import write_session

        return write_session(self, Path(path), overwrite=True)

    def slice_digests(self) -> dict[str, str]:
        """Digests of slices with prompts or paint, by "plane/index"; not of huge ones, which take long to read."""
        names = set()
        for key, entry in self.entries.items():
            name, (height, width) = f"{key.plane}/{key.slice_index}", self.volume.plane_shape(key.plane)
            given = entry.prompts != Prompts() or entry.painted is not None
            if given and height * width <= _LARGEST_DIGEST:
                with suppress(InputError):  # the file behind a lazy image may be gone
                    if name not in self._digests:
                        self._digests[name] = self.volume.content_digest(key.plane, key.slice_index)
                    names.add(name)
        return {name: self._digests[name] for name in sorted(names)}

    def snapshot(self) -> Workspace:
        """The present state, which later verbs do not change: to be saved on another thread, which draws its labels."""
        twin = Workspace(self.volume, self.settings, self.window)
        twin.image_id, twin.plane, twin.slice_index = self.image_id, self.plane, self.slice_index
        twin.last_refinement, twin.model_record = self.last_refinement, self.model_record
        twin.encoder, twin._digests = self.encoder, self._digests  # what is known of the same entries and slices
        twin._history = History(self._state)
        return twin
