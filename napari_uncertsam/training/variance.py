"""Training of the variance network (UncertSAM, App. C): the head learns how far off the frozen model's masks are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.checkpoints import write_part
from napari_uncertsam.estimators.variance_head import VarianceHead
from napari_uncertsam.training.frozen import Frozen, SceneLosses, fit_head, metadata_of
from napari_uncertsam.training.loop import LoopSettings, Report
from napari_uncertsam.training.losses import heteroscedastic_loss
from napari_uncertsam.training.steps import step_prompts

if TYPE_CHECKING:
    from napari_uncertsam.engine import Sam2Engine
    from napari_uncertsam.training.sources import TrainingData

#: UncertSAM's for this head; the rest is as for every head.
WEIGHT_DECAY = 1e-4
KIND = "variance"


def paper_settings(**changes: Any) -> LoopSettings:
    """UncertSAM's settings for the variance network, but for `changes`."""
    return LoopSettings(**{"weight_decay": WEIGHT_DECAY, **changes})


def variance_losses(head: VarianceHead, frozen: Frozen) -> SceneLosses:
    """Losses of one scene: one for each of the eight steps, the mean over objects and pixels of the model's input."""

    def losses(features: tuple[Tensor, ...], truth: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        target = truth.float()
        for prompts in step_prompts(truth, generator):
            with torch.no_grad():
                decoded = frozen.decode(features, prompts)
            log_variance = _enlarged(head.of_chosen(decoded), truth.shape[-1])
            logits = _enlarged(decoded.logits, truth.shape[-1])
            yield heteroscedastic_loss(logits, log_variance, target).mean()

    return losses


def fit_variance(
    engine: Sam2Engine,
    data: TrainingData,
    settings: LoopSettings,
    out: Path,
    *,
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    resume: bool = True,
) -> Path:
    """Train the variance head of a model and write ``variance.safetensors`` under `out`.

    Parameters
    ----------
    engine : Sam2Engine
    data : TrainingData
    settings : LoopSettings
        See :func:`paper_settings`.
    out : Path
        Folder for the part, the checkpoint and the loss curve.
    report, cancelled, resume
        As in :func:`napari_uncertsam.training.loop.train_head`.

    Returns
    -------
    Path of the part.

    Raises
    ------
    InputError
        If `out` holds another training, or the images cannot be used.
    EngineError
        If memory runs out.
    """
    frozen = Frozen(engine)
    head = VarianceHead.of_model(engine.model, settings.seed)
    trained = fit_head(
        head,
        frozen,
        variance_losses(head, frozen),
        data,
        settings,
        out,
        stamp={"head": KIND},
        report=report,
        cancelled=cancelled,
        resume=resume,
    )
    metadata = metadata_of(trained, settings, data, engine)
    return write_part(out / f"{KIND}.safetensors", KIND, engine.sha256, trained.weights, metadata)


def _enlarged(maps: Tensor, size: int) -> Tensor:
    """Maps ``(n, h, w)`` at the size of the model's input, bilinear."""
    return F.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]
