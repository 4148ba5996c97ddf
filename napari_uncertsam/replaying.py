"""Computing a saved session again: every prompted slice is predicted, and what is up to date is propagated, as it was.

With the same model on the same machine the label map is the same afterwards, bit for bit, and there are maps again
where there had been masks alone. Masks whose origin is gone stay as they were saved: propagated ones that were out of
date, those of another model, and all that was painted or reviewed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from napari_uncertsam import anchoring
from napari_uncertsam.annotations import Key
from napari_uncertsam.entries import Source
from napari_uncertsam.errors import Cancelled
from napari_uncertsam.pipeline_run import CancelledCallback, ProgressCallback
from napari_uncertsam.prediction import Request
from napari_uncertsam.propagating import Span, propagate

if TYPE_CHECKING:
    from napari_uncertsam.pipeline import Pipeline
    from napari_uncertsam.session import Session


def replay(
    session: Session,
    pipeline: Pipeline,
    *,
    cancelled: CancelledCallback | None = None,
    progress: ProgressCallback | None = None,
) -> None:
    """Compute all results of a session again, in place of what is remembered of them; not a step of its history.

    Parameters
    ----------
    session : Session
        As it was loaded.
    pipeline : Pipeline
        With the engine of the session's model.
    cancelled : callable, optional
        Asked between slices whether to stop.
    progress : callable, optional
        Told ``(stage, fraction)``.

    Raises
    ------
    Cancelled
        When `cancelled` said so; what was computed until then is kept.
    EngineError
        If memory runs out.
    """
    stop, tell = cancelled or (lambda: False), progress or (lambda _stage, _fraction: None)
    asked = {key: request for key in list(session.entries) if (request := _asked(session, key)) is not None}
    total, done = len(asked) + sum(len(wanted) for wanted in _propagated(session).values()), 0
    for key, request in asked.items():
        if stop():
            raise Cancelled("Only a part of the session was computed again.")
        tell(f"predicting slice {key.slice_index}", done / total)
        session.replace_results({key: pipeline.predict(session.volume, request, cancelled=stop)})
        done += 1
    for (plane, object_id, source), wanted in _propagated(session).items():
        span, (window, settings) = _span(session, plane, object_id, source), session.bases[source.basis]
        spanned = session.request_of_spans(plane, object_id, (span,), window, settings)
        for told in propagate(pipeline, session.volume, spanned, cancelled=stop):
            if told.slice_index in wanted:
                wanted.remove(told.slice_index)
                session.replace_results({Key(plane, told.slice_index, object_id): told})
                done += 1
                tell(f"propagating to slice {told.slice_index}", done / total)
            if not wanted:
                break


def _asked(session: Session, key: Key) -> Request | None:
    """What the mask of a slice was predicted from; None where there are no prompts, or it was of another model."""
    entry = session.entries[key]
    made = entry.asked if entry.prediction is None else entry.prediction.request
    request = made if made is not None and made.prompts == entry.prompts else session.request_of(key)
    return request if request is not None and request.settings.model == session.settings.model else None


def _propagated(session: Session) -> dict[tuple[int, int, Source], set[int]]:
    """Slices that were propagated from anchors that are still the same, by plane, object and source."""
    found: dict[tuple[int, int, Source], set[int]] = defaultdict(set)
    for plane, object_id in sorted({(key.plane, key.object_id) for key in session.entries}):
        entries = session.slices_of(object_id, plane)
        stale = anchoring.stale_slices(entries)
        for index, entry in entries.items():
            source = entry.source
            if source is None or not entry.is_propagated or entry.is_given or index in stale:
                continue
            _, settings = session.bases.get(source.basis, (None, None))
            if settings is not None and settings.model == session.settings.model:
                found[plane, object_id, source].add(index)
    return found


def _span(session: Session, plane: int, object_id: int, source: Source) -> Span:
    """The span that a source belongs to; at an open end as far as it was finished, else up to the border."""
    before, after = (None if end is None else end[0] for end in (source.before, source.after))
    start = 0 if before is None else before + 1
    stop = session.volume.n_slices(plane) if after is None else after
    for done in session.finished:
        if (done.plane, done.object_id, done.source) == (plane, object_id, source):
            start, stop = done.start, done.stop
    return Span(start, stop, before, after)
