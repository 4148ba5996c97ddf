"""Propagation asked for and given: a frozen request in, one result after the other out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_uncertsam.engine import Decoded, Embedding, Engine, RemembersSlices
from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.estimators.base import Estimator, decoded_logits
from napari_uncertsam.estimators.laplace import Laplace
from napari_uncertsam.estimators.marginal import MarginalBelief
from napari_uncertsam.measure import cells_on_slice
from napari_uncertsam.pipeline_run import CancelledCallback, ProgressCallback
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box
from napari_uncertsam.propagation import Anchor, Propagated
from napari_uncertsam.propagation.carrying import CarryingWalk
from napari_uncertsam.propagation.grids import Map, area_px
from napari_uncertsam.propagation.remembering import RememberingWalk
from napari_uncertsam.propagation.walking import Ground, LogitsOf, Step, Walk, merged
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window

if TYPE_CHECKING:
    from napari_uncertsam.pipeline import Pipeline


@dataclass(frozen=True)
class Span:
    """Slices `start` to `stop` - 1, to be filled from an anchor below and / or one above them.

    Parameters
    ----------
    start, stop : int
    before, after : int, optional
        Slice of the anchor next to the span; None at an open end, where the object may end on its way.
    """

    start: int
    stop: int
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, eq=False)
class PropagationRequest:
    """Everything that affects a propagation.

    Parameters
    ----------
    image_id : str
    plane : int
    window : Window
    object_id : int
    settings : Settings
    anchors : tuple of Anchor
        By slice; those that the spans name.
    spans : tuple of Span
    """

    image_id: str
    plane: int
    window: Window
    object_id: int
    settings: Settings
    anchors: tuple[Anchor, ...]
    spans: tuple[Span, ...]

    def anchor(self, slice_index: int) -> Anchor:
        """The anchor on a slice."""
        return next(a for a in self.anchors if a.slice_index == slice_index)


def propagate(
    pipeline: Pipeline,
    volume: Volume,
    request: PropagationRequest,
    *,
    cancelled: CancelledCallback | None = None,
    progress: ProgressCallback | None = None,
) -> Iterator[Propagated]:
    """Fill the spans of a request, slice by slice as they become final.

    With the model's memory where it was trained, else by carrying the mask (:mod:`napari_uncertsam.propagation`). What
    a span becomes depends on the slices at its ends alone, not on the other spans.

    Parameters
    ----------
    pipeline : Pipeline
        Of the model that the request's settings name.
    volume : Volume
    request : PropagationRequest
    cancelled : callable, optional
        Asked before every slice whether to stop.
    progress : callable, optional
        Told ``(text, fraction)``.

    Yields
    ------
    Propagated
        In a span with one anchor by the distance from it, until the object ends; in a span with two from the one above
        to the one below.

    Raises
    ------
    InputError
        If a slice cannot be read, or an anchor's mask is empty.
    CheckpointError
        If the method lacks its fitted part.
    Cancelled
        When `cancelled` said so.
    EngineError
        If memory runs out.
    """
    total = max(sum(span.stop - span.start for span in request.spans), 1)
    work = _Propagation(pipeline, volume, request, cancelled or (lambda: False))
    tell = progress or (lambda _text, _fraction: None)
    done, passed = 0, 0
    for span in request.spans:
        for step in work.steps(span):
            done += 1
            tell(f"slice {step.slice_index}, {done} done", min((passed + work.looked) / total, 1.0))
            yield work.result(step, span)
        passed += span.stop - span.start
        work.looked = 0


class _Propagation:
    """One request under way."""

    def __init__(
        self, pipeline: Pipeline, volume: Volume, request: PropagationRequest, cancelled: CancelledCallback
    ) -> None:
        self._pipeline, self._volume, self._request, self._cancelled = pipeline, volume, request, cancelled
        self.looked = 0.0  # slices of the present span
        engine, plane, settings = pipeline.engine, request.plane, request.settings
        self._remembers = isinstance(engine, RemembersSlices) and engine.has_memory
        self._ground = Ground(
            engine,
            self._look,
            _logits_of(pipeline.method(settings.method), engine),
            volume.plane_shape(plane),
            volume.plane_spacing(plane),
            volume.spacing[plane],
            volume.n_slices(plane),
            settings.zoom,
        )
        self._record = pipeline.record_of_model() | {
            "method": settings.method,
            "seed": settings.seed,
            "propagation": "memory" if self._remembers else "carried",
        }

    def _look(self, index: int, view: View) -> Embedding:
        if self._cancelled():
            raise Cancelled("The propagation was cancelled.")
        return self._pipeline.embedding(self._volume.slice(self._request.plane, index), self._request.window, view)

    def _walk(self, start: int, towards: int | None, *, ends: bool) -> Walk:
        anchor = self._request.anchor(start)
        if not (anchor.logits > 0).any():
            raise InputError(f"The mask of slice {start} is empty; draw the object there, or take its prompts away.")
        other = None if towards is None else self._request.anchor(towards)
        if not self._remembers:
            return CarryingWalk(self._ground, anchor, other, ends=ends)
        return RememberingWalk(self._ground, anchor, other, ends=ends)

    def steps(self, span: Span) -> Iterator[Step]:
        """What there is on the slices of a span."""
        indices = range(span.start, span.stop)
        if span.before is not None and span.after is not None:
            yield from self._between(span.before, span.after, indices)
        elif span.before is not None:
            yield from self._outwards(span.before, indices)
        elif span.after is not None:
            yield from self._outwards(span.after, indices[::-1])

    def _outwards(self, anchor: int, indices: range) -> Iterator[Step]:
        """Away from an anchor until the object ends; absent slices count only when it comes back behind them."""
        held: list[Step] = []
        walk = self._walk(anchor, None, ends=True)
        for index in indices:
            step = walk.step(index)
            self.looked += 1
            if step is None:
                return
            held.append(step)
            if step.present:
                yield from held
                held.clear()

    def _between(self, before: int, after: int, indices: range) -> Iterator[Step]:
        """From both ends, merged as :meth:`_share` says; the object does not end in between."""
        forward: dict[int, Step] = {}
        walk = self._walk(before, after, ends=False)
        for index in indices:
            step = walk.step(index)
            self.looked += 0.5
            if step is None:
                break
            forward[index] = step
        back = self._walk(after, before, ends=False)
        lost = False
        for index in indices[::-1]:
            step = None if lost else back.step(index)
            lost = lost or step is None
            self.looked += 0.5
            known = forward.get(index)
            if step is not None and known is not None:
                yield merged(step, known, self._share(before, after, index))
            elif step is not None or known is not None:
                yield step or known  # type: ignore[misc]

    def _share(self, before: int, after: int, index: int) -> float:
        """Weight of what came from `before`: by the distance, and by the root of the area, for a tip tells little."""
        weights = []
        for slot in (before, after):
            anchor = self._request.anchor(slot)
            weights.append(math.sqrt(area_px(anchor.logits > 0, anchor.view)) / abs(index - slot))
        return weights[0] / sum(weights)

    def result(self, step: Step, span: Span) -> Propagated:
        """A step with its figures."""
        mean, variance = step.mean.astype(np.float16), step.variance.clip(0, 6e4).astype(np.float16)
        belief = MarginalBelief(mean.astype(np.float32), variance.astype(np.float32))
        anchors = [slot for slot in (span.before, span.after) if slot is not None]
        anchors.sort(key=lambda slot: abs(slot - step.slice_index))
        shape = self._ground.shape
        figures = figures_of(belief, step.view, shape)
        return Propagated(
            self._request.plane,
            step.slice_index,
            shape,
            step.view,
            mean,
            variance,
            tuple(anchors),
            *figures,
            self._record,
        )


def figures_of(belief: MarginalBelief, view: View, shape: tuple[int, int]) -> tuple[float, float, float, float, float]:
    """Figures of one slice: area, its deviation and the uncertain area in pixels; mean entropy in nats; expected Dice.

    The deviation is that of the level sets of the probability. The entropy is averaged over the mask's box and a margin
    of a fifth, over the view where there is no mask. The Dice is ``2 sum_M P / (|M| + sum P)`` for the mask M.
    """
    grid = belief.shape
    cell = (view.height / grid[0]) * (view.width / grid[1])
    on_slice = cells_on_slice(grid, view, shape)
    probability, entropy = belief.probability() * on_slice, belief.entropy()
    mask = (probability > 0.5) & on_slice
    area = float((view.local_map(belief.mean, *shape) > 0).sum())
    low, high = (float((probability > level).sum()) for level in (0.95, 0.05))
    wrong = float(np.minimum(probability, 1 - probability).sum(dtype=np.float64, where=on_slice)) * cell
    around = on_slice
    if mask.any():
        box = Box.of_mask(mask).expand(1.4)
        around = np.zeros_like(mask)
        rows, columns = (slice(max(0, int(a)), int(b) + 2) for a, b in ((box.y0, box.y1), (box.x0, box.x1)))
        around[rows, columns] = True
        around &= on_slice
    mean = float(entropy[around].mean(dtype=np.float64)) if around.any() else 0.0
    inside, size = float(probability[mask].sum(dtype=np.float64)), float(mask.sum())
    total = size + float(probability.sum(dtype=np.float64))
    dice = 2 * inside / total if total > 0 else 1.0
    return area, (high - low) * cell / (2 * 1.645), wrong, mean, dice


def _logits_of(method: Estimator, engine: Engine) -> LogitsOf:
    """Logits and their variance by the method: in closed form for Laplace; methods of several decodes give none."""
    if isinstance(method, Laplace):
        posteriors = method.posteriors_of(engine)

        def gaussian(decoded: Decoded) -> tuple[Map, Map]:
            belief = method.belief_of(decoded, 0, posteriors)
            return belief.mean, belief.variance

        return gaussian

    def plain(decoded: Decoded) -> tuple[Map, Map]:
        logits = decoded_logits(decoded)[0]
        return logits, np.zeros_like(logits)

    return plain
