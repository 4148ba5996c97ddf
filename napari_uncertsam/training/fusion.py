"""Training of dense embedding fusion (UncertSAM, App. D) and of its controls, on a frozen model.

Each of the eight steps of the prompt schedule is seen twice: a first pass without gradient, and a second through the
frozen decoder with the first one's mask and uncertainty, which is what the loss is of. Run by ``napari-uncertsam fit
fusion``.

Two things differ from the paper. Laplace's first pass is in closed form, where the paper averages 100 samples: the same
mean without their noise. And the fusion starts from letting the mask prompt through as it is, where the paper's starts
at random and has to learn that first; ``start="random"`` is the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.checkpoints import file_sha256, read_part, require_part, write_part
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import LOGIT_LIMIT
from napari_uncertsam.estimators.laplace import LaplacePosteriors, mean_probability
from napari_uncertsam.estimators.laplace.curvature import with_bias
from napari_uncertsam.refinement.dense_fusion import TOKEN_LIMIT, VARIANTS
from napari_uncertsam.refinement.fusion_head import FusionHead, Start
from napari_uncertsam.training.frozen import VALIDATION_IMAGES, Frozen, fit_head, metadata_of
from napari_uncertsam.training.losses import focal_loss, hard_iou, soft_dice_loss
from napari_uncertsam.training.steps import step_prompts
from napari_uncertsam.uncertainty import binary_entropy

if TYPE_CHECKING:
    from napari_uncertsam.engine import Decoded, Sam2Engine
    from napari_uncertsam.refinement.dense_fusion import Variant
    from napari_uncertsam.training.loop import LoopSettings, Report
    from napari_uncertsam.training.schedule import PromptBatch
    from napari_uncertsam.training.sources import TrainingData

#: What a first pass gives to the second: logits and uncertainty, both ``(n, h, w)``.
Look = tuple[Tensor, Tensor]
#: Control to kind of part; the first is no control.
CONTROLS: Mapping[str, str] = MappingProxyType({kind.partition("-")[2]: kind for kind in VARIANTS})
#: Weight of the focal loss beside Dice and the IoU head's.
FOCAL_WEIGHT = 20.0


@dataclass(frozen=True, eq=False)
class FusionLosses:
    """Losses of one scene, for :func:`napari_uncertsam.training.frozen.fit_head`.

    Parameters
    ----------
    frozen : Frozen
    head : FusionHead
        What is trained.
    variant : Variant
    posteriors : LaplacePosteriors, optional
        For the variants that start from Laplace.
    """

    frozen: Frozen
    head: FusionHead
    variant: Variant
    posteriors: LaplacePosteriors | None = None

    def __call__(self, features: tuple[Tensor, ...], truth: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """The loss of each step of the schedule, whose sum is the scene's."""
        for prompts in step_prompts(truth, generator):
            with torch.no_grad():
                look = first_look(self.frozen.decode(features, prompts), self.variant, self.posteriors)
            yield fusion_loss(self.second(features, prompts, look), truth)

    def second(self, features: tuple[Tensor, ...], prompts: PromptBatch, look: Look) -> Decoded:
        """Decode again with the first mask as mask prompt, its dense embedding fused with the uncertainty."""
        logits, uncertainty = look

        def change(dense: Tensor) -> Tensor:
            fused: Tensor = self.head(dense, uncertainty[:, None])
            return fused

        return self.frozen.decode(features, prompts, logits[:, None], dense=change)


def first_look(decoded: Decoded, variant: Variant, posteriors: LaplacePosteriors | None) -> Look:
    """What :meth:`DenseFusion.first_pass` gives, for all prompts of a decode at once."""
    if variant.first == "laplace":
        assert posteriors is not None
        logits, entropy = laplace_look(decoded, posteriors)
        return logits, torch.ones_like(logits) if variant.ones else entropy
    if variant.first == "token-0":
        logits = decoded.token_logits[:, 0].clamp(-TOKEN_LIMIT, TOKEN_LIMIT)
    else:
        logits = decoded.logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    return logits, torch.ones_like(logits)


def laplace_look(decoded: Decoded, posteriors: LaplacePosteriors) -> Look:
    """Logit of Laplace's mean probability, of the token that the model chose, and its entropy in nats."""
    covariance = torch.cat(
        [
            posteriors.tokens[token].output_covariance(with_bias(hidden[token : token + 1].cpu()))
            for token, hidden in zip(decoded.token.tolist(), decoded.token_hidden, strict=True)
        ]
    )
    u = decoded.features.flatten(2)
    variance = ((covariance.float().to(u.device) @ u) * u).sum(1).clamp(min=0).view_as(decoded.logits)
    mean = decoded.logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    found = mean_probability(mean.cpu().numpy(), variance.cpu().numpy())
    probability, logits = (torch.as_tensor(m).to(u.device) for m in found)
    return logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT), binary_entropy(probability)


def fusion_loss(decoded: Decoded, truth: Tensor) -> Tensor:
    """Loss of a second pass: 20 focal (alpha 0.25, gamma 2) + Dice + |predicted - true IoU|, the mean over objects.

    Parameters
    ----------
    decoded : Decoded
        Its chosen token is what is trained, as it is what is used.
    truth : (n, s, s) bool
        At the resolution of the model's input; the logits are interpolated to it.
    """
    target = truth.float()
    logits = F.interpolate(decoded.logits[:, None], truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    quality = (decoded.iou - hard_iou(logits, target)).abs()
    return (FOCAL_WEIGHT * focal_loss(logits, target) + soft_dice_loss(logits, target) + quality).mean()


def kind_of(control: str) -> str:
    """Kind of the part of a control.

    Raises
    ------
    InputError
        If there is no such control.

    Examples
    --------
    >>> kind_of(""), kind_of("sam-ones")
    ('fusion', 'fusion-sam-ones')
    """
    if control not in CONTROLS:
        raise InputError(f"There is no control {control!r}; choose one of {', '.join(filter(None, CONTROLS))}.")
    return CONTROLS[control]


def fit_fusion(
    engine: Sam2Engine,
    data: TrainingData,
    settings: LoopSettings,
    out: Path,
    *,
    control: str = "",
    start: Start = "identity",
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    resume: bool = True,
    validation_images: int = VALIDATION_IMAGES,
) -> Path:
    """Train dense fusion, or one of its controls, and write the part; resumes from the checkpoint in `out`.

    Parameters
    ----------
    engine : Sam2Engine
    data : TrainingData
    settings : LoopSettings
        The paper decays the weights by 0.01 (the default); its authors' code by 0.001 in the controls.
    out : Path
        Folder for the checkpoint, the loss curve and the part.
    control : str
        "laplace-ones", "sam-ones" or "token0-ones"; empty for the method itself. See
        :data:`napari_uncertsam.refinement.dense_fusion.VARIANTS`.
    start : {"identity", "random"}
        See :class:`FusionHead`.
    report, cancelled, resume, validation_images
        See :func:`napari_uncertsam.training.frozen.fit_head`.

    Returns
    -------
    Path of the part.

    Raises
    ------
    InputError
        If there is no such control, or the checkpoint in `out` belongs to another training.
    CheckpointError
        If the first pass needs a Laplace posterior that was not fitted.
    Cancelled
        When `cancelled` said so.
    """
    kind = kind_of(control)
    variant, posteriors, stamp = VARIANTS[kind], None, {"head": kind, "start": start}
    if variant.first == "laplace":
        path = require_part("laplace", engine.sha256, engine.name)
        posteriors = LaplacePosteriors.of_part(read_part(path, "laplace", engine.sha256))
        stamp["laplace_sha256"] = file_sha256(path)
    frozen, head = Frozen(engine), FusionHead.of_model(engine.model, start, settings.seed)
    trained = fit_head(
        head,
        frozen,
        FusionLosses(frozen, head, variant, posteriors),
        data,
        settings,
        out,
        stamp=stamp,
        report=report,
        cancelled=cancelled,
        resume=resume,
        validation_images=validation_images,
    )
    metadata = stamp | metadata_of(trained, settings, data, engine)
    return write_part(out / f"{kind}.safetensors", kind, engine.sha256, trained.weights, metadata)
