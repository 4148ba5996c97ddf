"""Goes to a finding: slice, object, camera, errors; and follows the slider to the next one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_uncertsam.evaluation.inspection import Comparison, Finding, Picture, Source, StoredEvaluation
from napari_uncertsam.ui.geometry import displayed_slice
from napari_uncertsam.ui.inspect.facing import face, is_there
from napari_uncertsam.ui.inspect.layers import InspectLayers, Place
from napari_uncertsam.ui.inspect.presenter import FindingPresenter
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.worker import Worker

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_GONE = "The ground truth is gone or has another shape; compare again to see this line."
_CHANGED = "The layers have changed since; the table still shows what was compared."


class Stage:
    """Where findings are shown.

    Parameters
    ----------
    viewer : ViewerModel
    worker : Worker
        Makes the pictures; the newest wins.
    presenter : FindingPresenter
        Knows which finding is selected.
    messages : Messages
    zooms : callable
        Whether the camera zooms to the object.
    stale : callable
        Takes a sentence, when the layers turn out to have changed.
    shown : callable
        Takes a sentence on why the selected line cannot be shown; an empty one when it is.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        worker: Worker,
        presenter: FindingPresenter,
        messages: Messages,
        zooms: Callable[[], bool],
        stale: Callable[[str], None],
        shown: Callable[[str], None],
    ) -> None:
        self._viewer, self._worker, self._presenter = viewer, worker, presenter
        self._messages, self._zooms, self._stale, self._shown = messages, zooms, stale, shown
        self.layers = InspectLayers(viewer)
        self._source: Source | None = None
        self._truth: Any = None  # the layer under the findings of a comparison
        self._moving = False
        viewer.dims.events.point.connect(self._on_dims)

    def close(self) -> None:
        """Take the layers away and stop listening."""
        self._viewer.dims.events.point.disconnect(self._on_dims)
        self._source = self._truth = None
        self.layers.close()

    def set(self, source: Source, truth: Layer | None = None) -> None:
        """Show findings of another source; of a comparison, over the layer of its truth."""
        self._worker.cancel()
        if not _alike(source, self._source) or truth is not self._truth:
            self.layers.clear()
        self._source, self._truth = source, truth

    def clear(self) -> None:
        """Show no line: what is on screen would be taken for the selected one."""
        self._worker.cancel()
        self.layers.clear()

    def go_to(self, row: int) -> None:
        """Select a line, show its slice, its object and its errors."""
        finding = self._presenter.choose(row)
        place = None if finding is None else self._place_of(finding)
        if finding is None:
            return
        if place is None:
            self._failed(_GONE)
            return
        if place.layer is not None:
            self._face(place)
        self._paint(finding, look=True)

    def _face(self, place: Place) -> None:
        self._moving = True
        try:
            face(self._viewer, place)
        finally:
            self._moving = False

    def _place_of(self, finding: Finding) -> Place | None:
        """Where a finding lies; None where the layer under it is gone."""
        if not isinstance(self._source, Comparison):
            return Place()
        inputs = self._source.inputs
        if self._truth is None or not is_there(self._viewer, self._truth, inputs.truth.volume.shape):
            return None
        return Place(self._truth, inputs.plane, finding.index)

    def _paint(self, finding: Finding, *, look: bool) -> None:
        source = self._source
        if source is not None:
            self._worker.submit(
                f"Reading {finding.row['image']}",
                lambda _cancelled, _progress: source.picture(finding),
                partial(self._painted, source, finding, look),
                self._failed,
            )

    def _failed(self, sentence: str) -> None:
        """The selected line cannot be shown, so the one before must not stay either."""
        self.clear()
        self._shown(sentence)

    def _painted(self, source: Source, finding: Finding, look: bool, picture: Picture) -> None:
        place = self._place_of(finding)
        if source is not self._source:
            return
        if place is None:
            self._failed(_GONE)
            return
        self.layers.show(picture, place)
        if place.layer is None:
            self._face(place)
        if look:
            self.layers.look(picture, place, zoom=self._zooms())
        self._shown("")
        if picture.missing:
            self._messages.complain(picture.missing)
        if picture.changed:
            self._stale(_CHANGED)

    def _on_dims(self, _event: Any = None) -> None:
        """The slider moves to another slice of the object: its line is selected and its errors are shown."""
        chosen = self._presenter.chosen
        if self._moving or chosen is None or self._truth is None or self._place_of(chosen) is None:
            return
        shown = displayed_slice(self._viewer.dims, self._truth)
        if shown is None or shown[0] != chosen.row["plane"] or shown[1] == chosen.index:
            return
        row = self._presenter.row_on(shown[1])
        finding = None if row is None else self._presenter.choose(row)
        if finding is not None:
            self._paint(finding, look=False)


def _alike(source: Source, before: Source | None) -> bool:
    """Whether layers may stay until the next picture: another comparison, or another method of one evaluation."""
    if isinstance(source, StoredEvaluation) and isinstance(before, StoredEvaluation):
        return source.results is before.results
    return isinstance(source, Comparison) and isinstance(before, Comparison)
