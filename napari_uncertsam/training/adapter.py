"""Training of the MPA adapter (MedSAM-U): the image encoder's adapters and the prompt encoder, all else frozen.

Each step takes one image. Its objects are prompted with boxes, with points inside, or with both, and the loss is that
of the masks, followed back through the frozen decoder to the prompt encoder and through the image encoder to its
adapters. Run by ``napari-uncertsam fit adapter``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.adapters import AdapterSettings, MpaAdapter, attach
from napari_uncertsam.checkpoints import write_part
from napari_uncertsam.engine import image_features, memory_errors, normalise
from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN, POSITIVE
from napari_uncertsam.training.frozen import Frozen, SceneLosses, fit_head, metadata_of
from napari_uncertsam.training.loop import LoopSettings, Report
from napari_uncertsam.training.losses import focal_loss, soft_dice_loss
from napari_uncertsam.training.overlap import boxes_at_overlap
from napari_uncertsam.training.schedule import PromptBatch, mask_corners

if TYPE_CHECKING:
    from napari_uncertsam.engine import Sam2Engine
    from napari_uncertsam.training.sources import TrainingData

T = TypeVar("T")
KIND = "adapter"
Loss = Literal["standard", "as-printed"]
Form = Literal["box", "points", "box+points"]
#: Numbers of points (MedSAM-U's 3P, 5P, 10P), and overlaps of boxes; None is MedSAM's jitter outwards.
POINTS, OVERLAPS = (3, 5, 10), (None, 0.75, 0.5)
#: MedSAM's jitter: up to so many pixels of a 1024-pixel frame on each side.
JITTER, FRAME = 20, 1024
#: Images of the validation: more than for a head, since this changes the masks themselves.
VALIDATION_IMAGES = 32
#: Decodes of an image in one step, each with prompts of its own: they cost little beside the image encoder.
DECODES = 3


@dataclass(frozen=True)
class Mixture:
    """Prompts that an adapter is trained with: of each list one is drawn, uniformly.

    Parameters
    ----------
    forms : tuple of {"box", "points", "box+points"}
        All objects of an image share the form and the number of points. Of several boxes on one object (3B) each is
        trained by itself, as its mask is averaged with the others' only afterwards.
    overlaps : tuple of float or None
        Of each box with the true one (IoU).
    """

    forms: tuple[Form, ...]
    overlaps: tuple[float | None, ...] = OVERLAPS


#: By name; "paper" are MedSAM-U's training prompts, random positive points and a jittered true box.
MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        "mixture": Mixture(("box", "points", "box+points")),
        "boxes": Mixture(("box",)),
        "points": Mixture(("points",)),
        "paper": Mixture(("box+points",), (None,)),
    }
)


def paper_settings(**changes: Any) -> LoopSettings:
    """MedSAM's optimiser, AdamW at 1e-4 with a decay of 0.01, but for `changes`; its schedule is this package's."""
    return LoopSettings(**{"learning_rate": 1e-4, "weight_decay": 0.01, "clip": 1.0, **changes})


@dataclass(frozen=True, eq=False)
class Adapted(Frozen):
    """The model of an engine with an adapter attached: gradients go back through the image encoder, too."""

    def embed(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of a ``(3, s, s)`` image in [0, 1], highest resolution first."""
        with memory_errors(f"embed the image with {self.engine.name}"):
            return tuple(image_features(self.engine.model, normalise(image[None].to(self.device).float())))


def adapter_prompts(truth: Tensor, mixture: Mixture, generator: torch.Generator) -> PromptBatch:
    """Prompts for all objects of an image, of one form.

    Parameters
    ----------
    truth : (n, s, s) bool
        One object each, not empty.
    mixture : Mixture
    generator : torch.Generator
        On the CPU, whatever device `truth` is on.
    """
    form, count = _one_of(mixture.forms, generator), _one_of(POINTS, generator)
    if form == "points":
        return positive_points(truth, count, generator)
    boxes = coarse_boxes(truth, mixture.overlaps, generator)
    if form == "box":
        return boxes
    points = positive_points(truth, count, generator)
    return boxes.extended(points.coordinates, points.labels)


def positive_points(truth: Tensor, count: int, generator: torch.Generator) -> PromptBatch:
    """So many pixels inside each object, uniform, none twice (MedSAM-U's kP); all, and again, of a smaller object."""
    score = torch.rand(truth.shape, generator=generator).to(truth.device)
    flat = torch.where(truth, 1 + score, score).flatten(1)
    order = flat.topk(count).indices
    inside = truth.flatten(1).gather(1, order)
    order = torch.where(inside, order, order[:, :1])
    where = torch.stack([order % truth.shape[-1], order // truth.shape[-1]], -1).float()
    return PromptBatch(where, torch.full(order.shape, POSITIVE, dtype=torch.int32, device=truth.device))


def coarse_boxes(truth: Tensor, overlaps: tuple[float | None, ...], generator: torch.Generator) -> PromptBatch:
    """A box for each object, at an overlap drawn for each; None: each side moved outwards by up to 20 px of 1024."""
    n, _, size = truth.shape
    corners = mask_corners(truth)
    kind = torch.randint(len(overlaps), (n,), generator=generator).to(truth.device)
    boxes = torch.empty_like(corners)
    for index, overlap in enumerate(overlaps):
        chosen = kind == index
        if not chosen.any():
            continue
        if overlap is None:
            reach = torch.rand(int(chosen.sum()), 2, 2, generator=generator).to(truth.device) * JITTER * size / FRAME
            sign = torch.tensor([-1.0, 1.0], device=truth.device)[:, None]
            boxes[chosen] = (corners[chosen] + sign * reach).clamp(0, size - 1)
        else:
            boxes[chosen] = boxes_at_overlap(corners[chosen], overlap, generator, size)
    labels = torch.tensor([[BOX_CORNER_MIN, BOX_CORNER_MAX]], dtype=torch.int32, device=truth.device)
    return PromptBatch(boxes, labels.expand(n, 2))


def mask_loss(logits: Tensor, target: Tensor, loss: Loss = "standard") -> Tensor:
    """Focal and Dice loss with equal weights (MedSAM-U, eq. 15), for each mask.

    Parameters
    ----------
    logits, target : (n, h, w)
        `target` is 0 or 1, not empty.
    loss : {"standard", "as-printed"}
        "standard": the two-class focal loss, mean over the pixels, and Dice smoothed by 1. "as-printed": the focal
        term of the equation, ``-a sum (1 - p)^g ln p`` over all pixels, those of the background included, and Dice
        without smoothing. alpha = 0.25 and gamma = 2 in both, which the paper leaves open.

    Returns
    -------
    (n,) tensor
    """
    if loss == "standard":
        return focal_loss(logits, target) + soft_dice_loss(logits, target)
    focal = -0.25 * ((1 - logits.sigmoid()) ** 2 * F.logsigmoid(logits)).sum((-2, -1))
    return focal + soft_dice_loss(logits, target, smooth=0.0)


def adapter_losses(adapted: Adapted, mixture: Mixture, loss: Loss = "standard", decodes: int = DECODES) -> SceneLosses:
    """Loss of one scene: the mean over its objects and decodes, in one part since these share the image encoder."""

    def losses(features: tuple[Tensor, ...], truth: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        total = torch.zeros((), device=truth.device)
        for _ in range(decodes):
            low = adapted.decode(features, adapter_prompts(truth, mixture, generator)).logits
            logits = F.interpolate(low[:, None], truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
            total = total + mask_loss(logits, truth.float(), loss).mean() / decodes
        yield total

    return losses


def fit_adapter(
    engine: Sam2Engine,
    data: TrainingData,
    settings: LoopSettings,
    out: Path,
    *,
    adapter: AdapterSettings | None = None,
    prompts: str = "mixture",
    loss: Loss = "standard",
    decodes: int = DECODES,
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    resume: bool = True,
    validation_images: int = VALIDATION_IMAGES,
) -> Path:
    """Train the adapter of a model and write ``adapter.safetensors`` under `out`; the model is as before afterwards.

    Parameters
    ----------
    engine : Sam2Engine
        Without an adapter.
    data : TrainingData
    settings : LoopSettings
        See :func:`paper_settings`.
    out : Path
        Folder for the part, the checkpoint and the loss curve.
    adapter : AdapterSettings, optional
    prompts : str
        Of :data:`MIXTURES`.
    loss : {"standard", "as-printed"}
        See :func:`mask_loss`.
    decodes : int
        Of an image in one step, each with other prompts.
    report, cancelled, resume, validation_images
        As in :func:`napari_uncertsam.training.frozen.fit_head`.

    Returns
    -------
    Path of the part.

    Raises
    ------
    InputError
        If the model has an adapter, an option is unknown, or the checkpoint in `out` belongs to another training.
    Cancelled
        When `cancelled` said so.
    """
    adapter = adapter or AdapterSettings()
    check_options(prompts, loss)
    if engine.adapter is not None:
        raise InputError(f"{engine.name} has an adapter already; fit one for the model without it.")
    adapted, mpa = Adapted(engine), MpaAdapter.of_model(engine.model, adapter, settings.seed)
    stamp = {"head": KIND, "prompts": prompts, "loss": loss, "decodes": str(decodes)} | {
        k: str(v) for k, v in asdict(adapter).items()
    }
    with attach(engine.model, mpa):
        trained = fit_head(
            mpa,
            adapted,
            adapter_losses(adapted, MIXTURES[prompts], loss, decodes),
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
    return write_part(out / f"{KIND}.safetensors", KIND, engine.sha256, trained.weights, metadata)


def check_options(prompts: str, loss: str) -> None:
    """Refuse a name that is unknown.

    Raises
    ------
    InputError
    """
    for what, name, known in (("mixture of prompts", prompts, tuple(MIXTURES)), ("loss", loss, get_args(Loss))):
        if name not in known:
            raise InputError(f"There is no {what} {name!r}; choose one of {', '.join(known)}.")


def _one_of(values: tuple[T, ...], generator: torch.Generator) -> T:
    return values[int(torch.randint(len(values), (), generator=generator))]
