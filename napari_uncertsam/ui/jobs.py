"""What the worker thread does: open volumes, keep the model that is in use, predict, refine, download.

Nothing here knows Qt or napari. The engine and its cache of embeddings belong to the worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from napari_uncertsam import checkpoints
from napari_uncertsam.engine import Engine
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, RefinedPrediction, Request
from napari_uncertsam.volume import Volume, Window, guess_modality

CancelledCallback = Callable[[], bool]
ProgressCallback = Callable[[str, float], None]


def load_engine(model: str) -> Engine:
    """The engine of a model, on the best device there is."""
    from napari_uncertsam.engine import Sam2Engine

    return Sam2Engine.load(model)


class Jobs:
    """The work of one widget.

    Parameters
    ----------
    load : callable
        Builds the engine of a model by its name.
    """

    def __init__(self, load: Callable[[str], Engine] = load_engine) -> None:
        self._load = load
        self._pipeline: Pipeline | None = None
        self._model = ""

    def pipeline(self, model: str, progress: ProgressCallback) -> Pipeline:
        """The pipeline of a model; the one before is let go first, so that two never fill the memory."""
        if self._pipeline is None or self._model != model:
            progress(f"loading the model {model}", -1)
            self._pipeline = None
            self._pipeline, self._model = Pipeline(self._load(model)), model
        return self._pipeline

    def device(self, model: str, progress: ProgressCallback) -> str:
        """Load a model and say where it runs."""
        return self.pipeline(model, progress).engine.device_label

    def open(self, volume: Volume, *, described: bool) -> tuple[Volume, Window]:
        """A volume with its modality, guessed unless `described`, and the window to begin with.

        Looks at a sample of the intensities, which for a lazy array reads from disk.
        """
        if not described:
            volume = replace(volume, modality=guess_modality(volume.array, volume.rgb))
        return volume, Window.for_volume(volume)

    def predict(
        self, volume: Volume, request: Request, cancelled: CancelledCallback, progress: ProgressCallback
    ) -> Prediction:
        """Segment as requested."""
        pipeline = self.pipeline(request.settings.model, progress)
        return pipeline.predict(volume, request, cancelled=cancelled, progress=progress)

    def refine(
        self, volume: Volume, prediction: Prediction, cancelled: CancelledCallback, progress: ProgressCallback
    ) -> RefinedPrediction:
        """Run the automatic round."""
        pipeline = self.pipeline(prediction.request.settings.model, progress)
        return pipeline.refine(volume, prediction, cancelled=cancelled, progress=progress)

    @staticmethod
    def download(name: str, cancelled: CancelledCallback, progress: ProgressCallback) -> Path:
        """Download a model of the table."""

        def report(done: int, total: int | None) -> None:
            size = f"{done / 1e6:.0f} MB" if total is None else f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
            progress(f"downloading {name}: {size}", done / total if total else -1)

        return checkpoints.download(name, progress=report, cancel=cancelled)
