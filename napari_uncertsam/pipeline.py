"""Request in, Prediction out: choose the view, embed it (cached), estimate, measure, suggest.

The pipeline owns the engine and its cache of embeddings, and runs on one thread at a time. It knows nothing of objects
on layers or of undo: that is :mod:`napari_uncertsam.session`'s.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.engine import Embedding, Engine
from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.estimators import make_estimator
from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.prediction import Maps, Prediction, RefinedPrediction, Request, Settings
from napari_uncertsam.prompts import Box, Prompts, Suggestion
from napari_uncertsam.refinement.rounds import refine as refine_rounds
from napari_uncertsam.suggestions.ugpa import box_means, suggest_points, uncertain_box
from napari_uncertsam.uncertainty import sigmoid
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume
from napari_uncertsam.zoom import coarse_views, enclosing, fill_score, object_box, touches_border

__all__ = ["Maps", "Pipeline", "Prediction", "RefinedPrediction", "Request", "Settings"]

#: Memory that cached embeddings may take: about 60 slices of SAM 2.1, 1,000 of the bundled model.
CACHE_BYTES = 1 << 30

CancelledCallback = Callable[[], bool]
ProgressCallback = Callable[[str, float], None]


class EmbeddingCache:
    """Embeddings by content, least recently used dropped first."""

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
        run.progress("looking at the image", 0.1)
        view, belief = self._believe(run, prompts)
        return self._prediction(run, view, prompts, belief, start)

    def refine(
        self,
        volume: Volume,
        prediction: Prediction,
        *,
        cancelled: CancelledCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> RefinedPrediction:
        """Automatic rounds of UGPA (MedSAM-U) on a prediction; what is not verified is not kept.

        Parameters and errors as for :meth:`predict`.
        """
        request = prediction.request
        run = _Run(volume, request, cancelled or (lambda: False), progress or (lambda _stage, _fraction: None))
        start, settings, view = time.perf_counter(), request.settings, prediction.view
        embedding = self._embed(run, view)
        run.progress("refining", 0.5)
        refinement = refine_rounds(
            self.engine,
            embedding,
            view.prompts_to_view(request.prompts.clipped(*run.shape), self.engine.resolution),
            prediction.belief,
            make_estimator(settings.method),
            np.random.default_rng([settings.seed, 1]),
            settings.ugpa,
            rounds=settings.rounds,
            cancelled=run.cancelled,
        )
        run.stop_if_cancelled()
        run.timed("decode", start)
        if not any(r.accepted for r in refinement.rounds):
            return RefinedPrediction(prediction, prediction, refinement.rounds)
        prompts = view.prompts_to_slice(refinement.prompts, self.engine.resolution).clipped(*run.shape)
        run.request = replace(request, prompts=prompts, view=view)
        after = self._prediction(run, view, prompts, refinement.belief, start)
        return RefinedPrediction(prediction, after, refinement.rounds)

    def _embed(self, run: _Run, view: View) -> Embedding:
        """Embedding of a view, from the cache when the same pixels were seen before."""
        run.stop_if_cancelled()
        start = time.perf_counter()
        image = run.request.window.apply(view.crop(run.raw))
        digest = hashlib.sha256(f"{self.engine.name}|{self.engine.sha256}|{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        key = digest.hexdigest()
        embedding = self.cache.get(key)
        if embedding is None:
            embedding = self.engine.embed(image)
            self.cache.put(key, embedding)
        run.timed("embed", start)
        run.stop_if_cancelled()
        return embedding

    def _estimate(self, run: _Run, view: View, prompts: Prompts) -> Belief:
        embedding, start = self._embed(run, view), time.perf_counter()
        rng = np.random.default_rng([run.request.settings.seed, 0])
        estimator = make_estimator(run.request.settings.method)
        local = view.prompts_to_view(prompts, self.engine.resolution)
        belief = estimator.estimate(self.engine, embedding, local, rng)
        run.timed("decode", start)
        run.stop_if_cancelled()
        return belief

    def _believe(self, run: _Run, prompts: Prompts) -> tuple[View, Belief]:
        """Choose the view (zoom in two steps for clicks), predict, and grow the view while the object is cut off."""
        height, width = run.shape
        if run.request.view is not None or not run.request.settings.zoom:
            view = run.request.view or View.whole(height, width)
            return view, self._estimate(run, view, prompts)
        box = prompts.box
        if box is None:
            box = self._coarse_box(run, prompts)
        view = View.around(enclosing(box, prompts), height, width)
        belief = self._estimate(run, view, prompts)
        for _ in range(2):
            grown = view.grown(height, width)
            if grown == view or not touches_border(belief, view, height, width):
                break
            run.progress("zooming out", 0.6)
            view = grown
            belief = self._estimate(run, view, prompts)
        return view, belief

    def _coarse_box(self, run: _Run, prompts: Prompts) -> Box:
        """Box of a first mask from clicks, seen at several zooms; the one the model trusts most."""
        height, width = run.shape
        best: tuple[float, Box] | None = None
        for view in coarse_views(prompts, height, width, self.engine.resolution):
            embedding = self._embed(run, view)
            decoded = self.engine.decode(embedding, [view.prompts_to_view(prompts, self.engine.resolution)])
            logits = decoded.logits[0].float().cpu().numpy()
            box = object_box(logits, view, prompts)
            if box is not None:
                score = float(decoded.iou[0]) * fill_score(box, view)
                if best is None or score > best[0]:
                    best = (score, box)
        side = max(16, max(height, width) // 8)
        positive = next((p for p in prompts.points if p.positive), prompts.points[0])
        fallback = View.centred(round(positive.y), round(positive.x), side, height, width).box
        return best[1] if best else fallback.clip(height, width)

    def _prediction(self, run: _Run, view: View, prompts: Prompts, belief: Belief, start: float) -> Prediction:
        """Measure a belief: maps on the slice, area with its interval, suggestions."""
        measure = time.perf_counter()
        run.progress("measuring", 0.9)
        height, width = run.shape
        logits = view.local_map(belief.logits(), height, width)
        uncertainty = np.clip(view.local_map(belief.entropy(), height, width), 0, np.log(2))
        rows, columns = view.inside(height, width)
        maps = Maps((height, width), rows, columns, logits > 0, sigmoid(logits).astype(np.float32), uncertainty)
        cell = view.height * view.width / belief.logits().size
        low, high = belief.area_interval(0.9)
        area = float(maps.local_mask.sum())
        suggestions = suggestions_on_slice(belief, view, prompts, run.request.settings, run.shape)
        mean = float(uncertainty[_roi(maps, prompts)].mean())
        run.timed("measure", measure)
        seconds = {**run.seconds, "total": time.perf_counter() - start}
        interval = (min(low * cell, area), max(high * cell, area))
        return Prediction(
            run.request, belief, view, maps, suggestions, mean, area, interval, seconds, self.record(run.request)
        )

    def record(self, request: Request) -> dict[str, Any]:
        """What a reader needs to reproduce a result: model, hash, device, seed, versions."""
        versions = {name: _version(name) for name in ("napari-uncertsam", "torch", "sam2", "numpy")}
        return {
            "model": self.engine.name,
            "checkpoint_sha256": self.engine.sha256,
            "device": self.engine.device_label,
            "method": request.settings.method,
            "seed": request.settings.seed,
            "versions": {**versions, "python": platform.python_version()},
        }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _roi(maps: Maps, prompts: Prompts) -> tuple[slice, slice]:
    """Local rows and columns around the object and its box, with a margin of a fifth."""
    boxes = [prompts.box] if prompts.box is not None else []
    if maps.local_mask.any():
        local = Box.of_mask(maps.local_mask)
        top, left = maps.rows.start, maps.columns.start
        boxes.append(Box(local.y0 + top, local.x0 + left, local.y1 + top, local.x1 + left))
    if not boxes:
        return slice(None), slice(None)
    union = boxes[0]
    for box in boxes[1:]:
        union = union.union(box)
    union = union.expand(1.4)
    bounds = []
    for start, stop, low, high in (
        (maps.rows.start, maps.rows.stop, union.y0, union.y1),
        (maps.columns.start, maps.columns.stop, union.x0, union.x1),
    ):
        first = int(np.clip(np.floor(low) - start, 0, stop - start - 1))
        last = int(np.clip(np.ceil(high) + 1 - start, first + 1, stop - start))
        bounds.append(slice(first, last))
    return bounds[0], bounds[1]


def suggestions_on_slice(
    belief: Belief, view: View, prompts: Prompts, settings: Settings, shape: tuple[int, int]
) -> tuple[Suggestion, ...]:
    """UGPA's top-K points and its box, in slice coordinates."""
    entropy, probability = belief.entropy(), belief.probability()
    grid, (height, width) = belief.shape, shape
    known = [view.slice_to_grid(p.y, p.x, grid) for p in prompts.points]
    out = []
    for y, x, score, chance in suggest_points(entropy, probability, settings.n_suggestions, known=known):
        sy, sx = view.point_to_slice(y, x, grid)
        if -0.5 <= sy <= height - 0.5 and -0.5 <= sx <= width - 0.5:
            out.append(Suggestion("point", sy, sx, score, chance))
    box = suggested_box(belief, view, prompts, settings)
    if box is not None:
        score, chance = box_means(entropy, probability, box)
        on_slice = view.box_to_slice(box, grid).clip(height, width)
        out.append(Suggestion("box", *on_slice.centre, score, chance, on_slice))
    return tuple(out)


def suggested_box(belief: Belief, view: View, prompts: Prompts, settings: Settings) -> Box | None:
    """UGPA's refined box in cells: around the uncertain edge of the object and its mask; None when all is certain."""
    present, mask = None, belief.logits() > 0
    if prompts.box is not None:
        top, left = view.slice_to_grid(prompts.box.y0 - 0.5, prompts.box.x0 - 0.5, belief.shape)
        bottom, right = view.slice_to_grid(prompts.box.y1 + 0.5, prompts.box.x1 + 0.5, belief.shape)
        present = Box(top + 0.5, left + 0.5, bottom - 0.5, right - 0.5)
    ugpa = settings.ugpa
    box = uncertain_box(
        belief.entropy(),
        belief.probability(),
        present,
        threshold=ugpa.threshold,
        components=ugpa.components,
        floor=ugpa.floor,
        dilation=ugpa.dilation,
    )
    if box is None or not mask.any() or ugpa.extent == "uncertain":
        return box
    return box.union(Box.of_mask(mask))
