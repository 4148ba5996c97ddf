"""From where to where an object is propagated through the slices of a plane, and what of it is up to date.

Anchors are slices that the user gave: from prompts, painted, or reviewed. What lies between two of them, and beyond the
first and the last, are spans. A slice from which everything was erased by hand is an anchor too: the object ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Entry, Finished, Key, Patch, State
from napari_uncertsam.entries import Place, Source, basis_of
from napari_uncertsam.propagating import PropagationRequest, Span
from napari_uncertsam.propagation import Anchor, Propagated
from napari_uncertsam.view import View

#: Logit of a pixel that the user has put into the mask, or its negative.
SURE = 10.0
#: A given mask is handed on with at most this many cells a side, in a view that is larger by half, or by this many
#: pixels where that is more.
LARGEST_GRID, SMALLEST_MARGIN = 256, 16


def anchor_of(index: int, entry: Entry, shape: tuple[int, int]) -> Anchor:
    """What propagation starts from on one slice.

    The logits are those of the prediction, so that its doubts go on, or +-10 where the mask was given or is all that is
    kept.
    """
    prediction = entry.prediction
    if prediction is not None and not entry.is_given:
        return Anchor(index, prediction.view, prediction.belief.logits(), entry.prompts, token=entry.token)
    view, mask = _cut_out(entry.local_mask(), shape)
    logits = np.where(mask, np.float32(SURE), np.float32(-SURE))
    return Anchor(index, view, logits, entry.prompts, entry.is_given, entry.token)


def anchors_of(entries: Mapping[int, Entry]) -> dict[int, Entry]:
    """Those entries of an object, by slice, from which propagation starts."""
    return {index: entry for index, entry in entries.items() if entry.is_anchor}


def spans_between(anchors: Mapping[int, Entry], n_slices: int) -> tuple[Span, ...]:
    """What lies between anchors, given by slice in order; nothing beyond an anchor where the object ends."""
    known: list[tuple[int, bool]] = [(index, entry.area_px > 0) for index, entry in anchors.items()]
    found = []
    for (low, starts), (high, ends) in zip([(-1, False), *known], [*known, (n_slices, False)], strict=True):
        if high - low > 1 and (starts or ends):
            found.append(Span(low + 1, high, low if starts else None, high if ends else None))
    return tuple(found)


def source_of(span: Span, tokens: Mapping[int, object], basis: str) -> Source:
    """The anchors at the ends of a span by their tokens, with the digest of window and settings."""

    def place(index: int | None) -> Place | None:
        return None if index is None else (index, str(tokens[index]))

    return Source(place(span.before), place(span.after), basis)


def stale_slices(entries: Mapping[int, Entry]) -> frozenset[int]:
    """Propagated slices, of one object by slice in order, whose anchors have changed since.

    That is: an anchor looks different or is gone, or there is another one nearer by. Propagated slices that were only
    confirmed do not make those beside them out of date.
    """
    anchors = anchors_of(entries)
    before = _nearest(entries, anchors, ascending=True)
    after = _nearest(entries, anchors, ascending=False)
    stale = []
    for index, entry in entries.items():
        if entry.is_propagated and not entry.is_given:
            source = entry.source
            fresh = source is not None and source.before in before[index] and source.after in after[index]
            if not fresh:
                stale.append(index)
    return frozenset(stale)


def _nearest(
    entries: Mapping[int, Entry], anchors: Mapping[int, Entry], *, ascending: bool
) -> dict[int, tuple[Place | None, ...]]:
    """For each slice the anchors on one side that it may come from, None for the open end."""
    found: dict[int, tuple[Place | None, ...]] = {}
    valid: tuple[Place | None, ...] = (None,)
    for index in sorted(entries, reverse=not ascending):
        found[index] = valid
        entry = anchors.get(index)
        if entry is None:
            continue
        here: Place | None = (index, entry.token) if entry.area_px else None
        only_confirmed = entry.is_propagated and entry.painted is None
        valid = (*valid, here) if only_confirmed else (here,)
    return found


def open_spans(state: State, plane: int, object_id: int, n_slices: int, basis: str) -> tuple[Span, ...]:
    """Spans that are not up to date: not finished from just these anchors, or with slices that are out of date."""
    entries = state.of_object(plane, object_id)
    anchors, stale = anchors_of(entries), stale_slices(entries)
    tokens = {index: entry.token for index, entry in anchors.items()}
    wanted = []
    for span in spans_between(anchors, n_slices):
        finished = Finished(plane, object_id, span.start, span.stop, source_of(span, tokens, basis))
        if finished not in state.finished or any(span.start <= index < span.stop for index in stale):
            wanted.append(span)
    return tuple(wanted)


def still_holds(state: State, request: PropagationRequest) -> bool:
    """Whether all anchors of a request are what they were."""
    for anchor in request.anchors:
        entry = state.entries.get(Key(request.plane, anchor.slice_index, request.object_id))
        if entry is None or not entry.is_anchor or entry.token != anchor.token:
            return False
    return True


def delivered(state: State, request: PropagationRequest, results: Sequence[Propagated]) -> State:
    """The state with results of a request; a reviewed or painted mask stays on top of them."""
    tokens, basis = _tokens(request), basis_of(request.window, request.settings)
    changed = {}
    for told in results:
        span = next((s for s in request.spans if s.start <= told.slice_index < s.stop), None)
        if span is not None:
            key = Key(request.plane, told.slice_index, request.object_id)
            changed[key] = state.entry(key).with_propagated(told, source_of(span, tokens, basis))
    if basis not in state.bases:
        bases = MappingProxyType({**state.bases, basis: (request.window, request.settings)})
        state = replace(state, bases=bases)
    return state.with_entries(changed)


def finished(state: State, request: PropagationRequest, came: Iterable[int], n_slices: int) -> State:
    """The state after all results of a request came, for the slices `came`.

    What was propagated before is removed where nothing came this time, and where no span leads any more.
    """
    plane, object_id, came = request.plane, request.object_id, frozenset(came)
    entries = state.of_object(plane, object_id)
    asked = {index for span in request.spans for index in range(span.start, span.stop)}
    current = spans_between(anchors_of(entries), n_slices)
    reached = {index for span in current for index in range(span.start, span.stop)}
    changed = {}
    for index, entry in entries.items():
        gone = index in asked - came or (index not in reached and not entry.is_anchor)
        if gone and (entry.propagated is not None or (entry.is_propagated and not entry.is_given)):
            changed[Key(plane, index, object_id)] = entry.with_propagated(None, None)
    tokens, basis = _tokens(request), basis_of(request.window, request.settings)
    new = [Finished(plane, object_id, s.start, s.stop, source_of(s, tokens, basis)) for s in request.spans]
    kept = {f for f in state.finished if (f.plane, f.object_id) != (plane, object_id) or not _overlaps(f, request)}
    return replace(state.with_entries(changed), finished=frozenset({*kept, *new}))


def _tokens(request: PropagationRequest) -> dict[int, object]:
    return {anchor.slice_index: anchor.token for anchor in request.anchors}


def _overlaps(done: Finished, request: PropagationRequest) -> bool:
    return any(done.start < span.stop and span.start < done.stop for span in request.spans)


def _cut_out(mask: Patch | None, shape: tuple[int, int]) -> tuple[View, NDArray[np.bool_]]:
    """A mask on a grid over a view around it; the whole slice where there is no mask."""
    box = None if mask is None else mask.box
    if mask is None or box is None:
        return View.whole(*shape), np.zeros([min(n, LARGEST_GRID) for n in shape], bool)
    (top, height), (left, width) = _grown(box.y0, box.y1), _grown(box.x0, box.x1)
    view = View(top, left, height, width)
    pixels = np.zeros((height, width), bool)
    tight = mask.trimmed()
    if tight is not None:
        rows, columns = tight.values.shape
        pixels[tight.top - top :, tight.left - left :][:rows, :columns] = tight.values
    if max(height, width) <= LARGEST_GRID:
        return view, pixels
    return view, _thinned(pixels)


def _grown(low: float, high: float) -> tuple[int, int]:
    """First index and length of an interval with its margins."""
    size = int(high) - int(low) + 1
    margin = max(-(-size // 4), SMALLEST_MARGIN // 2)
    return int(low) - margin, size + 2 * margin


def _thinned(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    import torch
    from torch.nn import functional as F

    grid = [min(n, LARGEST_GRID) for n in pixels.shape]
    source = torch.as_tensor(pixels)[None, None].float()
    shares = F.interpolate(source, grid, mode="bilinear", align_corners=False, antialias=True)[0, 0]
    return np.asarray((shares > 0.5).numpy())
