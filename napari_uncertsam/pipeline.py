"""Request in, Prediction out: choose the view, embed it (cached), estimate, measure, suggest.

The pipeline owns the engine and its cache of embeddings, and runs on one thread at a time. It knows nothing of objects
on layers or of undo: that is :mod:`napari_uncertsam.session`'s.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.checkpoints import part_record
from napari_uncertsam.engine import Decoded, Embedding, Engine, WatchedEngine, memory_errors
from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.estimators.base import Belief, Estimator
from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.estimators.tta.copies import LooksAtCopies
from napari_uncertsam.measure import areas, maps_on_slice, region_of_interest, suggestions_on_slice
from napari_uncertsam.prediction import Maps, Prediction, RefinedPrediction, Request, Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.refinement.rounds import refine as refine_rounds
from napari_uncertsam.view import LARGEST_SIDE, View
from napari_uncertsam.volume import Volume
from napari_uncertsam.zoom import CUT_OFF, coarse_views, enclosing, object_box, touches_border

__all__ = ["Maps", "Pipeline", "Prediction", "RefinedPrediction", "Request", "Settings"]

#: Memory that cached embeddings may take: about 60 slices of SAM 2.1, 1,000 of the bundled model.
CACHE_BYTES = 1 << 30

CancelledCallback = Callable[[], bool]
ProgressCallback = Callable[[str, float], None]


class EmbeddingCache:
    """Embeddings by content, least recently used dropped first; with them go those of changed copies of the image."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._entries: OrderedDict[str, Embedding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Embedding | None:
        """The embedding, now the most recently used, or None."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding; the newest is kept even if it alone is over the limit."""
        self._entries[key] = embedding
        self.trim()

    def trim(self) -> None:
        """Drop what was used longest ago until the rest is within the limit: entries grow as methods look at copies."""
        while len(self._entries) > 1 and sum(e.nbytes for e in self._entries.values()) > self.limit_bytes:
            self._entries.popitem(last=False)


@dataclass
class _Run:
    """One prediction under way: the slice, how to stop, and where the time went."""

    volume: Volume
    request: Request
    cancelled: CancelledCallback
    progress: ProgressCallback
    seconds: dict[str, float] = field(default_factory=lambda: {"embed": 0.0, "decode": 0.0, "measure": 0.0})
    share: float = 0.0

    @cached_property
    def raw(self) -> NDArray[Any]:
        """The slice with its own intensities."""
        return self.volume.slice(self.request.plane, self.request.slice_index)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the slice."""
        height, width = self.raw.shape[:2]
        return height, width

    def stop_if_cancelled(self) -> None:
        """Raise `Cancelled` when a newer request waits or the user pressed Cancel."""
        if self.cancelled():
            raise Cancelled("The prediction was cancelled.")

    def tell(self, stage: str, share: float) -> None:
        """Report progress; the share never falls, also where a stage comes again in a larger view."""
        self.share = max(self.share, share)
        self.progress(stage, self.share)

    def timed(self, stage: str, start: float) -> None:
        """Add the time since `start` to a stage."""
        self.seconds[stage] += time.perf_counter() - start


class Pipeline:
    """Predicts with one engine.

    Parameters
    ----------
    engine : Engine
    cache_bytes : int
        Memory that cached embeddings may take.
    """

    def __init__(self, engine: Engine, cache_bytes: int = CACHE_BYTES) -> None:
        self.engine = engine
        self.cache = EmbeddingCache(cache_bytes)
        self._methods: dict[str, Estimator] = {}

    def method(self, name: str) -> Estimator:
        """The method of that name, made once: it may have read a fitted part."""
        if name not in self._methods:
            self._methods[name] = make_method(name)
        return self._methods[name]

    def measure_of(self, settings: Settings) -> Measure:
        """What the uncertainty map shows: the measure asked for if the method has it, else the method's own."""
        own = self.method(settings.method).measures
        return settings.measure if settings.measure is not None and settings.measure in own else own[0]

    def predict(
        self,
        volume: Volume,
        request: Request,
        *,
        cancelled: CancelledCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> Prediction:
        """Segment one object on one slice.

        Parameters
        ----------
        volume : Volume
            The one that ``request.image_id`` names.
        request : Request
        cancelled : callable, optional
            Asked between stages whether to stop.
        progress : callable, optional
            Told ``(stage, fraction)``.

        Raises
        ------
        InputError
            If there is nothing to segment from, or a prompt lies outside the slice.
        Cancelled
            When `cancelled` said so.
        EngineError
            If memory runs out.
        """
        run = _Run(volume, request, cancelled or (lambda: False), progress or (lambda _stage, _fraction: None))
        start = time.perf_counter()
        if request.prompts.is_empty:
            raise InputError("There is nothing to segment from: draw a box or click a point inside the object.")
        prompts = request.prompts.clipped(*run.shape)
        if prompts.mask is not None and request.view is None and request.settings.zoom:
            raise InputError("A mask prompt needs the view that it belongs to; give one with the request.")
        if request.view is not None and not request.view.meets(*run.shape):
            raise InputError(f"{request.view} shows nothing of the {run.shape[0]} x {run.shape[1]} image.")
        run.tell("looking at the image", 0.1)
        view, belief = self._believe(run, prompts)
        return self._prediction(run, view, prompts, belief, start)

    def remeasure(self, volume: Volume, prediction: Prediction, measure: Measure | None) -> Prediction:
        """A prediction with another measure of the same belief, as :meth:`predict` would give it; no model is asked.

        Its seconds are those of the prediction.
        """
        request = prediction.request
        request = replace(request, settings=replace(request.settings, measure=measure))
        run = _Run(volume, request, lambda: False, lambda _stage, _fraction: None)
        prompts = request.prompts.clipped(*run.shape)
        shown = self._prediction(run, prediction.view, prompts, prediction.belief, time.perf_counter())
        return replace(shown, seconds=prediction.seconds)

    def refine(
        self,
        volume: Volume,
        prediction: Prediction,
        *,
        cancelled: CancelledCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> RefinedPrediction:
        """Automatic rounds of UGPA (MedSAM-U) on a prediction; what is not verified is not kept.

        Parameters and errors as for :meth:`predict`. The user's own points are kept as they are; of what is added, the
        part outside the image is left out.
        """
        request = prediction.request
        run = _Run(volume, request, cancelled or (lambda: False), progress or (lambda _stage, _fraction: None))
        start, settings, view = time.perf_counter(), request.settings, prediction.view
        given = request.prompts.clipped(*run.shape)
        embedding = self._embed(run, view)
        run.tell("refining", 0.5)
        with self._watched(run) as engine:
            refinement = refine_rounds(
                engine,
                embedding,
                view.prompts_to_view(given, engine.resolution),
                prediction.belief,
                self.method(settings.method),
                np.random.default_rng([settings.seed, 1]),
                settings.ugpa,
                rounds=settings.rounds,
                cancelled=run.cancelled,
            )
        if not any(r.accepted for r in refinement.rounds):
            return RefinedPrediction(prediction, prediction, refinement.rounds)
        prompts = self._adopted(run, view, given, refinement.prompts)
        run.request = replace(request, prompts=prompts, view=view if settings.zoom else request.view)
        after = self._prediction(run, view, prompts, refinement.belief, start)
        return RefinedPrediction(prediction, after, refinement.rounds)

    def _adopted(self, run: _Run, view: View, given: Prompts, refined: Prompts) -> Prompts:
        """Prompts of a refinement on the slice: the user's points to the last digit, and what was added to them."""
        on_slice = view.prompts_to_slice(refined, self.engine.resolution)
        added = tuple(p for p in on_slice.points[len(given.points) :] if p.is_in(*run.shape))
        box = on_slice.box
        box = box.clip(*run.shape) if box is not None and box.meets(*run.shape) else given.box
        return replace(on_slice, points=(*given.points, *added), box=box)

    def _embed(self, run: _Run, view: View) -> Embedding:
        """Embedding of a view, from the cache when the same pixels were seen before.

        A huge view is thinned out to what the model can tell apart; prompts stay in the view's own pixels.
        """
        run.stop_if_cancelled()
        start, shape = time.perf_counter(), (view.height, view.width)
        pixels = view.crop(run.raw, LARGEST_SIDE)
        if pixels.dtype.kind == "f" and np.isnan(pixels).all():
            raise InputError("Every pixel around the prompt is NaN, so there is nothing to see; choose another place.")
        image = run.request.window.apply(pixels)
        digest = hashlib.sha256(f"{self.engine.name}|{self.engine.sha256}|{image.shape}|{shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        key = digest.hexdigest()
        embedding = self.cache.get(key)
        if embedding is None:
            embedding = replace(self.engine.embed(image), shape=shape)
            self.cache.put(key, embedding)
        run.timed("embed", start)
        run.stop_if_cancelled()
        return embedding

    def _estimate(self, run: _Run, view: View, prompts: Prompts) -> Belief:
        embedding = self._embed(run, view)
        rng = np.random.default_rng([run.request.settings.seed, 0])
        local = view.prompts_to_view(prompts, self.engine.resolution)
        with self._watched(run) as engine:
            return self.method(run.request.settings.method).estimate(engine, embedding, local, rng)

    @contextmanager
    def _watched(self, run: _Run) -> Iterator[Engine]:
        """The engine as a method gets it; what the method takes beyond embedding counts as decoding.

        A method may embed changed copies of the image, which is slow: each is told and timed, and a place to stop.
        """
        method = self.method(run.request.settings.method)
        total = method.copies if isinstance(method, LooksAtCopies) else 0
        start, before, seen = time.perf_counter(), run.seconds["embed"], 0

        @contextmanager
        def copy() -> Iterator[None]:
            nonlocal seen
            run.stop_if_cancelled()
            of_all = f" of {total}" if total else ""
            run.tell(f"looking at changed copy {seen + 1}{of_all}", 0.1 + 0.5 * seen / max(total, seen + 1))
            seen, began = seen + 1, time.perf_counter()
            yield
            run.timed("embed", began)

        try:
            yield WatchedEngine(self.engine, copy, run.stop_if_cancelled)
        finally:
            if seen:
                self.cache.trim()
        run.timed("decode", start + run.seconds["embed"] - before)
        run.stop_if_cancelled()

    def _believe(self, run: _Run, prompts: Prompts) -> tuple[View, Belief]:
        """Choose the view (zoom in two steps for clicks), predict, and grow the view while the object is cut off."""
        height, width = run.shape
        if run.request.view is not None or not run.request.settings.zoom:
            view = run.request.view or View.whole(height, width)
            return view, self._estimate(run, view, prompts)
        box = prompts.box
        if box is None:
            coarse = self._coarse_box(run, prompts)
            prompts = prompts.with_box(coarse)
            box = coarse or self._surroundings(run, prompts)
        view = View.around(enclosing(box, prompts), height, width)
        belief = self._estimate(run, view, prompts)
        for _ in range(2):
            grown = view.grown(height, width)
            if grown == view or not touches_border(belief.logits(), view, height, width):
                break
            run.tell("zooming out", 0.6)
            view = grown
            belief = self._estimate(run, view, prompts)
        return view, belief

    def _coarse_box(self, run: _Run, prompts: Prompts) -> Box | None:
        """Box of a first mask from clicks; None if there is no mask.

        Every coarse view proposes a box. Of several, the one is taken whose zoomed view the model trusts most: its
        predicted intersection over union from the clicks alone, less :data:`CUT_OFF` where the coarse mask was cut off.
        """
        height, width = run.shape
        proposals: list[tuple[Box, bool]] = []
        for view in coarse_views(prompts, height, width, self.engine.resolution):
            logits = self._decode(run, view, prompts).logits[0].float().cpu().numpy()
            box = object_box(logits, view, prompts)
            if box is not None:
                proposals.append((box.clip(height, width), touches_border(logits, view, height, width)))
        if len(proposals) < 2:
            return proposals[0][0] if proposals else None
        scores = []
        for box, cut in proposals:
            zoomed = self._decode(run, View.around(enclosing(box, prompts), height, width), prompts)
            scores.append(float(zoomed.iou[0]) - CUT_OFF * cut)
        return proposals[int(np.argmax(scores))][0]

    def _decode(self, run: _Run, view: View, prompts: Prompts) -> Decoded:
        embedding, start = self._embed(run, view), time.perf_counter()
        decoded = self.engine.decode(embedding, [view.prompts_to_view(prompts, self.engine.resolution)])
        run.timed("decode", start)
        return decoded

    @staticmethod
    def _surroundings(run: _Run, prompts: Prompts) -> Box:
        """An eighth of the slice about the first positive click, where no mask was found."""
        height, width = run.shape
        positive = next((p for p in prompts.points if p.positive), prompts.points[0])
        side = max(16, max(height, width) // 8)
        return View.centred(round(positive.y), round(positive.x), side, height, width).box.clip(height, width)

    def _prediction(self, run: _Run, view: View, prompts: Prompts, belief: Belief, start: float) -> Prediction:
        """Measure a belief: maps on the slice, area with its interval, suggestions."""
        measure = time.perf_counter()
        run.tell("measuring", 0.9)
        with memory_errors(f"map the {view.height} x {view.width} pixels around the object"):
            maps = maps_on_slice(belief, view, run.shape, self.measure_of(run.request.settings))
        area, interval = areas(belief, view, maps)
        suggestions = suggestions_on_slice(belief, view, prompts, run.request.settings, run.shape)
        mean = float(maps.local_uncertainty[region_of_interest(maps, prompts)].mean(dtype=np.float64))
        run.timed("measure", measure)
        seconds = {**run.seconds, "total": time.perf_counter() - start}
        return Prediction(
            run.request, belief, view, maps, suggestions, mean, area, interval, seconds, self.record(run.request)
        )

    def record(self, request: Request) -> dict[str, Any]:
        """What a reader needs to reproduce a result: model, hash, device, seed, versions."""
        settings = request.settings
        chosen = {"method": settings.method, "measure": self.measure_of(settings), "seed": settings.seed}
        needs = self.method(settings.method).needs
        if needs is not None:
            chosen["part"] = part_record(needs, self.engine.sha256)
        return self.record_of_model() | chosen

    def record_of_model(self) -> dict[str, Any]:
        """What is the same for every result of this pipeline: model, hash, device, versions."""
        versions = {name: _version(name) for name in ("napari-uncertsam", "torch", "sam2", "numpy")}
        adapter = getattr(self.engine, "adapter", None)  # which only a model that can have one knows of
        return {
            "model": self.engine.name,
            "checkpoint_sha256": self.engine.sha256,
            **({"adapter": dict(adapter)} if adapter else {}),
            "device": self.engine.device_label,
            "versions": {**versions, "python": platform.python_version()},
        }


@cache
def _version(name: str) -> str:
    # Looked up in the file system, which takes a millisecond.
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
