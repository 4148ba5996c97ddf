"""Fit the Laplace posterior of a model: look at images, try every setting, keep the best."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_uncertsam.checkpoints import installed_path, write_part
from napari_uncertsam.engine import Engine
from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.training.laplace_choice import Candidate, fit_tokens, how_many
from napari_uncertsam.training.laplace_data import collect
from napari_uncertsam.training.laplace_settings import LaplaceSettings
from napari_uncertsam.training.runs import CURVE, append_row

if TYPE_CHECKING:
    from napari_uncertsam.training.sources import Source

__all__ = ["LaplaceSettings", "fit_laplace", "posterior_facts"]

#: What was collected of the images, in the folder of a run.
COLLECTED = "checkpoint.pt"
#: Share of a fit that is looking at images.
LOOKING = 0.7


def fit_laplace(
    engine: Engine,
    out: str | Path | None = None,
    *,
    source: Source | None = None,
    settings: LaplaceSettings | None = None,
    work: Path | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Fit a posterior for every mask token and write it as a part of the engine's checkpoint.

    Parameters
    ----------
    engine : Engine
    out : path, optional
        File; by default where the widget and the commands look for it.
    source : Source, optional
        Images with masks; synthetic ones by default.
    settings : LaplaceSettings, optional
    work : Path, optional
        Folder in which what was collected is kept, and taken up again.
    report : callable, optional
        Told ``{"progress", "seconds", "step"}`` after every image.
    cancelled : callable, optional

    Returns
    -------
    Path of the part.

    Raises
    ------
    InputError
        If there is nothing to fit to, or the model has no hash to belong to.
    Cancelled
        When `cancelled` said so; what was collected is kept in `work`.
    """
    from napari_uncertsam.training.sources import SyntheticSource

    settings, source = settings or LaplaceSettings(), source or SyntheticSource()
    if not engine.sha256:
        raise InputError(f"The model {engine.name} has no checkpoint file that a posterior could belong to.")

    about = {"checkpoint": engine.sha256, "source": source.name, "seed": settings.seed, "prompts": settings.prompts}
    about |= {"schedule": settings.schedule, "pixels": "around the object"}
    progress = _Progress(settings, report or (lambda _row: None), cancelled or (lambda: False), work)
    tokens = collect(
        engine,
        source,
        images=settings.images,
        prompts=settings.prompts,
        schedule=settings.schedule,
        seed=settings.seed,
        keep=None if work is None else work / COLLECTED,
        stamp=about,
        report=progress.collected,
        cancelled=cancelled,
    )
    posteriors, facts = fit_tokens(tokens, settings, progress.chosen_from(len(tokens)))
    path = installed_path("laplace", engine.sha256) if out is None else Path(out)
    metadata = about | {"settings": asdict(settings), "tokens": facts, "torch": torch.__version__}
    text = {"structure": facts[0]["structure"], "fit": json.dumps(metadata)}
    return write_part(path, "laplace", engine.sha256, posteriors.tensors(), text)


class _Progress:
    """How far a fit is: looking at images is most of it, choosing the rest."""

    def __init__(
        self,
        settings: LaplaceSettings,
        report: Callable[[dict[str, float]], None],
        cancelled: Callable[[], bool],
        work: Path | None,
    ) -> None:
        self._settings, self._report, self._cancelled = settings, report, cancelled
        self._curve = None if work is None else work / CURVE
        self._seconds = 0.0

    def collected(self, done: int, seconds: float) -> None:
        """So many images were looked at."""
        self._seconds = seconds
        self._report({"progress": LOOKING * done / self._settings.images, "seconds": seconds, "step": float(done)})

    def chosen_from(self, tokens: int) -> Callable[[Candidate], None]:
        """What is told every candidate: stops when it is asked to, reports, and draws the curve."""
        total, start, count = how_many(self._settings, tokens), time.monotonic(), itertools.count(1)
        if self._curve is not None:
            self._curve.unlink(missing_ok=True)

        def tried(candidate: Candidate) -> None:
            if self._cancelled():
                raise Cancelled("The fit was stopped; the same command goes on from here.")
            number = next(count)
            progress = LOOKING + (1 - LOOKING) * min(number / total, 1)
            row = {
                "step": float(self._settings.images + number),
                "progress": progress,
                "seconds": self._seconds + time.monotonic() - start,
            }
            self._report(row | {"held-out NLL": candidate.nll})
            if self._curve is not None:
                append_row(self._curve, row | {"held-out NLL": candidate.nll})

        return tried


def posterior_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """How a stored posterior was fitted, from the metadata of its part."""
    return dict(json.loads(metadata.get("fit", "{}")))
