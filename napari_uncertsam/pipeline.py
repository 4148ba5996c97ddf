"""Request in, Prediction out: choose the view, embed it (cached), estimate, measure, suggest.

The pipeline owns the engine and its cache of embeddings, and runs on one thread at a time. It knows nothing of objects
on layers or of undo: that is :mod:`napari_uncertsam.session`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.answering import (
    added_points,
    adopted,
    answered_belief,
    answers_of,
    cells_of,
    corrected,
    honoured,
    make_field,
)
from napari_uncertsam.checkpoints import part_record
from napari_uncertsam.engine import (
    CACHE_BYTES,
    Decoded,
    DiskCache,
    Embedder,
    Embedding,
    EmbeddingCache,
    Engine,
    WatchedEngine,
    memory_errors,
)
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief, Estimator
from napari_uncertsam.estimators.field import MaskField
from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.estimators.tta.copies import LooksAtCopies
from napari_uncertsam.feeding_back import FedBack
from napari_uncertsam.measure import (
    areas,
    drawn_areas,
    drawn_on_slice,
    maps_on_slice,
    region_of_interest,
    suggestions_on_slice,
    uncertain_area,
)
from napari_uncertsam.pipeline_run import CancelledCallback, ProgressCallback, Run, record_of
from napari_uncertsam.prediction import Maps, Prediction, RefinedPrediction, Request, Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.refinement.rounds import refine as refine_rounds
from napari_uncertsam.suggestions.quality import quality_of
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from napari_uncertsam.zoom import CUT_OFF, coarse_views, enclosing, object_box, surroundings, touches_border

__all__ = ["EmbeddingCache", "Maps", "Pipeline", "Prediction", "RefinedPrediction", "Request", "Settings"]


class Pipeline:
    """Predicts with one engine.

    Parameters
    ----------
    engine : Engine
    cache_bytes : int
        Memory that cached embeddings may take.
    disk : DiskCache, optional
        Where embeddings are kept from one session to the next; nowhere by default.
    """

    def __init__(self, engine: Engine, cache_bytes: int = CACHE_BYTES, disk: DiskCache | None = None) -> None:
        self.engine = engine
        self.cache = EmbeddingCache(cache_bytes)
        self._embedder = Embedder(engine, self.cache, disk)
        self._fed_back = FedBack(engine)
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
        run = Run(volume, request, cancelled or (lambda: False), progress or (lambda _stage, _fraction: None))
        start = time.perf_counter()
        if request.prompts.is_empty:
            raise InputError("There is nothing to segment from: draw a box or click a point inside the object.")
        prompts = request.prompts.clipped(*run.shape)
        if prompts.mask is not None and request.view is None and request.settings.zoom:
            raise InputError("A mask prompt needs the view that it belongs to; give one with the request.")
        if request.view is not None and not request.view.meets(*run.shape):
            raise InputError(f"{request.view} shows nothing of the {run.shape[0]} x {run.shape[1]} image.")
        run.tell("looking at the image", 0.1)
        view, belief, used = self._believe(run, prompts)
        return self._prediction(run, view, prompts, belief, start, self._field(run, view, used, belief, prompts))

    def foresee(self, volume: Volume, prediction: Prediction, request: Request) -> Prediction | None:
        """What a request will bring, at once and without the model: answers in closed form, each a rank-1 update.

        Parameters
        ----------
        volume : Volume
        prediction : Prediction
            The one before.
        request : Request
            Of the same object, with more points.

        Returns
        -------
        Prediction or None
            A provisional one. None where the request asks for anything but more points in the view, or the settings
            leave clicks to the model.
        """
        field, points = prediction.field, added_points(prediction.request, request)
        if field is None or not points or not request.settings.conditioning:
            return None
        new = cells_of(points, prediction.view, field.shape)
        if len(new) < len(points):
            return None
        run = Run(volume, request, lambda: False, lambda _stage, _fraction: None)
        prompts, start = request.prompts.clipped(*run.shape), time.perf_counter()
        view, belief = prediction.view, prediction.belief
        after = self._prediction(run, view, prompts, belief, start, field.answered(new), prediction)
        return replace(after, provisional=True)

    def _field(self, run: Run, view: View, used: Prompts, belief: Belief, prompts: Prompts) -> MaskField | None:
        """The field of a belief after the clicks; None where nothing would be asked of it."""
        settings = run.request.settings
        clicks = answers_of(prompts) if settings.conditioning else ()
        if not clicks and (settings.n_suggestions == 0 or settings.suggest == "entropy"):
            return None
        embedding, start = self._embed(run, view), time.perf_counter()
        field = make_field(self.engine, embedding, view, used, belief, clicks=clicks)
        run.timed("decode", start)
        return field

    def remeasure(self, volume: Volume, prediction: Prediction, measure: Measure | None) -> Prediction:
        """A prediction with another measure of the same belief, as :meth:`predict` would give it; no model is asked.

        Its seconds are those of the prediction.
        """
        request = replace(prediction.request, settings=replace(prediction.request.settings, measure=measure))
        run = Run(volume, request, lambda: False, lambda _stage, _fraction: None)
        prompts, start = request.prompts.clipped(*run.shape), time.perf_counter()
        shown = self._prediction(run, prediction.view, prompts, prediction.belief, start, prediction.field)
        return replace(shown, seconds=prediction.seconds, provisional=prediction.provisional)

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
        request, view = prediction.request, prediction.view
        run = Run(volume, request, cancelled or (lambda: False), progress or (lambda _stage, _fraction: None))
        start, settings = time.perf_counter(), request.settings
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
        rounds = tuple(r.on_slice(view, engine.resolution) for r in refinement.rounds)
        if not refinement.accepted:
            return RefinedPrediction(prediction, prediction, rounds)
        prompts = adopted(refinement.prompts, given, view, run.shape, self.engine.resolution)
        run.request = replace(request, prompts=prompts, view=view if settings.zoom else request.view)
        corrects = settings.conditioning and answers_of(given)  # as where the same prompts are predicted again
        belief = self._estimate(run, view, prompts) if corrects else refinement.belief
        after = self._prediction(run, view, prompts, belief, start, self._field(run, view, prompts, belief, given))
        return RefinedPrediction(prediction, after, rounds)

    def embedding(self, raw: NDArray[Any], window: Window, view: View) -> Embedding:
        """What the model makes of a view of a slice, from a cache when the same pixels were seen before.

        Parameters and errors as for :meth:`napari_uncertsam.engine.Embedder.embedding`.
        """
        return self._embedder.embedding(raw, window, view)

    def _embed(self, run: Run, view: View) -> Embedding:
        run.stop_if_cancelled()
        start = time.perf_counter()
        embedding = self.embedding(run.raw, run.request.window, view)
        run.timed("embed", start)
        run.stop_if_cancelled()
        return embedding

    def _estimate(self, run: Run, view: View, prompts: Prompts) -> Belief:
        embedding, start = self._embed(run, view), time.perf_counter()
        if run.request.settings.conditioning:
            prompts = self._fed_back.prompts(run.request, embedding, view, prompts)
            run.timed("decode", start)
        rng = np.random.default_rng([run.request.settings.seed, 0])
        local = view.prompts_to_view(prompts, self.engine.resolution)
        with self._watched(run) as engine:
            return self.method(run.request.settings.method).estimate(engine, embedding, local, rng)

    @contextmanager
    def _watched(self, run: Run) -> Iterator[Engine]:
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

    def _believe(self, run: Run, prompts: Prompts) -> tuple[View, Belief, Prompts]:
        """Choose the view (zoom in two steps for clicks), predict, and grow the view while the object is cut off.

        Returns what the model was prompted with too: with the box that clicks led to.
        """
        (height, width), spacing = run.shape, run.spacing
        if run.request.settings.conditioning:
            prompts = corrected(prompts)
        if run.request.view is not None or not run.request.settings.zoom:
            view = run.request.view or View.whole(height, width)
            return view, self._estimate(run, view, prompts), prompts
        box = prompts.box
        if box is None:
            coarse = self._coarse_box(run, prompts)
            prompts = prompts.with_box(coarse)
            box = coarse or surroundings(prompts, height, width, spacing)
        view = View.around(enclosing(box, prompts), height, width, spacing=spacing)
        belief = self._estimate(run, view, prompts)
        for _ in range(2):
            grown = view.grown(height, width, spacing=spacing)
            if grown == view or not touches_border(belief.logits(), view, height, width):
                break
            run.tell("zooming out", 0.6)
            view = grown
            belief = self._estimate(run, view, prompts)
        return view, belief, prompts

    def _coarse_box(self, run: Run, prompts: Prompts) -> Box | None:
        """Box of a first mask from clicks; None if there is no mask.

        Every coarse view proposes a box. Of several, the one is taken whose zoomed view the model trusts most: its
        predicted intersection over union from the clicks alone, less :data:`CUT_OFF` where the coarse mask was cut off.
        """
        (height, width), spacing = run.shape, run.spacing
        proposals = []
        for view in coarse_views(prompts, height, width, self.engine.resolution, spacing):
            logits = self._decode(run, view, prompts).logits[0].float().cpu().numpy()
            box = object_box(logits, view, prompts)
            if box is not None:
                proposals.append((box.clip(height, width), touches_border(logits, view, height, width)))
        if len(proposals) < 2:
            return proposals[0][0] if proposals else None
        scores = []
        for box, cut in proposals:
            around = View.around(enclosing(box, prompts), height, width, spacing=spacing)
            zoomed = self._decode(run, around, prompts)
            scores.append(float(zoomed.iou[0]) - CUT_OFF * cut)
        return proposals[int(np.argmax(scores))][0]

    def _decode(self, run: Run, view: View, prompts: Prompts) -> Decoded:
        embedding, start = self._embed(run, view), time.perf_counter()
        decoded = self.engine.decode(embedding, [view.prompts_to_view(prompts, self.engine.resolution)])
        run.timed("decode", start)
        return decoded

    def _prediction(
        self,
        run: Run,
        view: View,
        prompts: Prompts,
        belief: Belief,
        start: float,
        field: MaskField | None = None,
        earlier: Prediction | None = None,
    ) -> Prediction:
        """Measure a belief: maps on the slice, area with its interval, suggestions, expected Dice.

        With an `earlier` prediction its suggestions, quality and interval stand: they take longer than the maps.
        """
        measure, settings = time.perf_counter(), run.request.settings
        run.tell("measuring", 0.9)
        if field is not None:
            belief = answered_belief(belief, field)
        with memory_errors(f"map the {view.height} x {view.width} pixels around the object"):
            maps = maps_on_slice(belief, view, run.shape, self.measure_of(settings))
        if settings.conditioning:
            maps = honoured(maps, answers_of(prompts))
        known = None if earlier is None else earlier.area_interval
        if earlier is not None:
            suggestions, quality = earlier.suggestions, earlier.quality
        else:
            drawn = None if field is None else drawn_on_slice(field, view, run.shape, settings.seed)
            known = drawn_areas(drawn, view, belief.shape) if field is not None and field.steps and drawn else None
            suggestions = suggestions_on_slice(belief, view, prompts, settings, run.shape, field, drawn)
            quality = None if drawn is None else quality_of(drawn)
        area, interval = areas(belief, view, maps, known)
        mean = float(maps.local_uncertainty[region_of_interest(maps, prompts)].mean(dtype=np.float64))
        run.timed("measure", measure)
        seconds = {**run.seconds, "total": time.perf_counter() - start}
        return Prediction(
            run.request,
            belief,
            view,
            maps,
            suggestions,
            mean,
            area,
            interval,
            seconds,
            self.record(run.request),
            uncertain_area(maps),
            quality,
            field,
        )

    def record(self, request: Request) -> dict[str, Any]:
        """What a reader needs to reproduce a result: model, hash, device, seed, versions."""
        settings, needs = request.settings, self.method(request.settings.method).needs
        chosen = {"method": settings.method, "measure": self.measure_of(settings), "seed": settings.seed}
        if needs is not None:
            chosen["part"] = part_record(needs, self.engine.sha256)
        return self.record_of_model() | chosen

    def record_of_model(self) -> dict[str, Any]:
        """What is the same for every result of this pipeline: model, hash, device, versions."""
        return record_of(self.engine)
