"""What the worker thread does: open volumes, keep the model that is in use, predict, refine, fit, download.

Nothing here knows Qt or napari. The engine and its cache of embeddings belong to the worker thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from napari_uncertsam import checkpoints
from napari_uncertsam.engine import DiskCache, Engine
from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.intensity import Extent
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, RefinedPrediction, Request
from napari_uncertsam.propagating import PropagationRequest, propagate
from napari_uncertsam.propagation import Propagated
from napari_uncertsam.refinement.methods import METHODS, make_method
from napari_uncertsam.ui.texts import time_text
from napari_uncertsam.volume import Volume, Window, guess_modality

CancelledCallback = Callable[[], bool]
ProgressCallback = Callable[[str, float], None]

#: Seconds below which an embedding was not computed.
_FROM_CACHE = 0.02
#: Seconds that a fit takes for an image beside its embedding.
_DRAWING = 0.2


def load_engine(model: str) -> Engine:
    """The engine of a model, on the best device there is."""
    from napari_uncertsam.engine import Sam2Engine

    return Sam2Engine.load(model)


def fit_laplace(engine: Engine, report: Callable[[Mapping[str, float]], None], cancelled: CancelledCallback) -> Path:
    """Fit the Laplace posterior of a model on synthetic images; returns its file."""
    from napari_uncertsam.training.laplace import fit_laplace as fit

    return fit(engine, report=report, cancelled=cancelled)


@dataclass(frozen=True)
class Loaded:
    """A model that is in memory, and what its methods lack.

    Parameters
    ----------
    model, device : str
    missing : frozenset of str
        Kinds of the fitted parts that some method needs and this model does not have.
    """

    model: str
    device: str
    missing: frozenset[str]


class Jobs:
    """The work of one widget.

    Parameters
    ----------
    load : callable
        Builds the engine of a model by its name.
    fit : callable
        Fits a Laplace posterior; see :func:`fit_laplace`.
    """

    def __init__(
        self,
        load: Callable[[str], Engine] = load_engine,
        fit: Callable[[Engine, Callable[[Mapping[str, float]], None], CancelledCallback], Path] = fit_laplace,
    ) -> None:
        self._load, self._fit = load, fit
        self._pipeline: Pipeline | None = None
        self._model = ""
        self._fit_seconds: dict[str, float] = {}  # by model

    def pipeline(self, model: str, progress: ProgressCallback) -> Pipeline:
        """The pipeline of a model; the one before is let go first, so that two never fill the memory."""
        if self._pipeline is None or self._model != model:
            progress(f"loading the model {model}", -1)
            self._pipeline = None
            self._pipeline, self._model = Pipeline(self._load(model), disk=DiskCache.default()), model
        return self._pipeline

    def loaded(self, model: str, progress: ProgressCallback) -> Loaded:
        """Load a model, and say where it runs and which parts it lacks."""
        return _loaded(model, self.pipeline(model, progress).engine)

    def open(self, volume: Volume, *, described: bool) -> tuple[Volume, Window, Extent]:
        """A volume with its modality, guessed unless `described`, the window to begin with, and what it holds.

        Looks at a sample of the intensities, which for a lazy array reads from disk.
        """
        if not described:
            volume = replace(volume, modality=guess_modality(volume.array, volume.rgb))
        return volume, Window.for_volume(volume), Extent.of(volume.array)

    def predict(
        self, volume: Volume, request: Request, cancelled: CancelledCallback, progress: ProgressCallback
    ) -> Prediction | Loaded:
        """Segment as requested; or say what the model lacks, if that is the part that the method needs."""
        settings = request.settings
        pipeline = self.pipeline(settings.model, progress)
        needs = pipeline.method(settings.method).needs
        if needs is not None and checkpoints.find_part(needs, pipeline.engine.sha256) is None:
            loaded = _loaded(settings.model, pipeline.engine)
            return replace(loaded, missing=loaded.missing | {needs})  # a control's part is not among the others
        prediction = pipeline.predict(volume, request, cancelled=cancelled, progress=progress)
        if (
            prediction.seconds["embed"] > _FROM_CACHE
            and checkpoints.find_part("laplace", pipeline.engine.sha256) is None
        ):
            self._estimate_fit(settings.model, prediction.seconds["embed"])
        return prediction

    def foresee(self, volume: Volume, prediction: Prediction, request: Request) -> Prediction | None:
        """What the closed form says at once to points added to a prediction; None where it, or the model, cannot."""
        if self._pipeline is None or self._model != request.settings.model:
            return None
        return self._pipeline.foresee(volume, prediction, request)

    def remeasure(
        self, volume: Volume, prediction: Prediction, measure: Measure | None, progress: ProgressCallback
    ) -> Prediction:
        """The same prediction with another measure."""
        pipeline = self.pipeline(prediction.request.settings.model, progress)
        return pipeline.remeasure(volume, prediction, measure)

    def _estimate_fit(self, model: str, embedding: float) -> None:
        from napari_uncertsam.training.laplace import LaplaceSettings

        # Of several views, or the first time, an embedding takes longer than it should: the least tells most.
        seconds = LaplaceSettings().images * (embedding + _DRAWING)
        self._fit_seconds[model] = min(seconds, self._fit_seconds.get(model, math.inf))

    def fit_seconds(self, model: str) -> float | None:
        """About how long :meth:`fit` takes; None as long as the model has not shown how fast it is."""
        return self._fit_seconds.get(model)

    def fit(self, model: str, cancelled: CancelledCallback, progress: ProgressCallback) -> Loaded:
        """Fit the Laplace posterior of a model and put it where it is found; what the model lacks after that."""
        engine = self.pipeline(model, progress).engine

        def report(row: Mapping[str, float]) -> None:
            done = row["progress"]
            left = f", {time_text(row['seconds'] * (1 / done - 1))} left" if 0 < done < 1 else ""
            progress(f"fitting Laplace for {model}{left}", done)

        path = self._fit(engine, report, cancelled)
        if checkpoints.find_part("laplace", engine.sha256) is None:
            checkpoints.install_part(path, "laplace", engine.sha256)
        return _loaded(model, engine)  # which another model may have replaced meanwhile

    def refine(
        self, volume: Volume, prediction: Prediction, cancelled: CancelledCallback, progress: ProgressCallback
    ) -> RefinedPrediction:
        """Run the automatic round."""
        pipeline = self.pipeline(prediction.request.settings.model, progress)
        return pipeline.refine(volume, prediction, cancelled=cancelled, progress=progress)

    def propagate(
        self, volume: Volume, request: PropagationRequest, cancelled: CancelledCallback, progress: ProgressCallback
    ) -> Iterator[Propagated]:
        """Fill in slices, one after the other as they become final."""
        pipeline = self.pipeline(request.settings.model, progress)
        yield from propagate(pipeline, volume, request, cancelled=cancelled, progress=progress)

    @staticmethod
    def download(name: str, cancelled: CancelledCallback, progress: ProgressCallback) -> Path:
        """Download a model of the table."""

        def report(done: int, total: int | None) -> None:
            size = f"{done / 1e6:.0f} MB" if total is None else f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
            progress(f"downloading {name}: {size}", done / total if total else -1)

        return checkpoints.download(name, progress=report, cancel=cancelled)


def _loaded(model: str, engine: Engine) -> Loaded:
    needed = {make_method(name).needs for name in METHODS}
    missing = {kind for kind in needed if kind is not None and checkpoints.find_part(kind, engine.sha256) is None}
    return Loaded(model, engine.device_label, frozenset(missing))
