"""Training of the bundled model: a small `SAM2Base` learns to segment from prompts on synthetic scenes.

Read from top to bottom: settings, one step, the loop, the export. Run by ``napari-uncertsam fit bundled``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uncertsam.engine import build_model, image_features, normalise
from napari_uncertsam.errors import InputError
from napari_uncertsam.training.losses import balanced_bce, hard_iou, soft_dice_loss
from napari_uncertsam.training.runs import (
    CHECKPOINT,
    CURVE,
    append_row,
    check_same,
    read_checkpoint,
    save_checkpoint,
)
from napari_uncertsam.training.schedule import PromptBatch, corrections, first_prompts
from napari_uncertsam.training.synthetic import make_scene

CHECKPOINT_PARTS = frozenset({"model", "average", "optimiser", "generator", "state"})
FORMS = {"point": 0.4, "points": 0.3, "box+points": 0.3}


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is trained; saved beside the weights.

    Parameters
    ----------
    steps : int
        Optimiser steps that the schedule is laid out for.
    minutes : float
        If positive, the schedule follows the clock and ends after so many minutes (whatever `steps` says): the way to
        use a machine for a known time.
    images, prompts : int
        Images per step and prompts per image. Half of the prompts are boxes, half one of :data:`FORMS`.
    rounds : int
        Decodes per prompt: the opening and ``rounds - 1`` corrections.
    learning_rate, weight_decay, warmup, clip : float
        AdamW, linear warm-up over `warmup` steps, cosine decay to 1 % of the rate, gradient norm clip.
    boxes_until : float
        Fraction of the schedule with boxes only and no corrections: the network first learns what a prompt is.
    balance_until : float
        Fraction of the schedule over which the cross-entropy goes from balanced to plain.
    ema : float
        Decay of the averaged weights, which are what is shipped.
    """

    steps: int = 8000
    minutes: float = 0.0
    images: int = 4
    prompts: int = 8
    rounds: int = 2
    learning_rate: float = 7e-4
    weight_decay: float = 0.02
    warmup: int = 150
    clip: float = 1.0
    boxes_until: float = 0.08
    balance_until: float = 0.45
    ema: float = 0.998
    seed: int = 0


def initialise(model: Any) -> None:
    """Initial scales without which a network this small does not start to learn: see docs/MODEL_CARD.md."""
    with torch.no_grad():
        for level in model.image_encoder.neck.convs:
            level.conv.weight.mul_(0.1)
        model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(0.3)


def decode_all_tokens(
    model: Any, features: list[Tensor], prompts: PromptBatch, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Logits of all mask tokens (n, t, h, w), predicted IoU (n, t) and object score (n, 1) for n prompts."""
    encoder = model.sam_prompt_encoder
    sparse, dense = encoder(points=(prompts.coordinates, prompts.labels), boxes=None, masks=mask)
    out = model.sam_mask_decoder.predict_masks(
        image_embeddings=features[-1],
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=features[:-1],
    )
    return out[0], out[1], out[3]


def mask_loss(outputs: tuple[Tensor, ...], target: Tensor, balance: float, dice_weight: float) -> Tensor:
    """Loss of the single-mask token, the best of the multi-mask tokens, and the two quality heads."""
    logits, iou, score = outputs
    upsampled = F.interpolate(logits[:, :1], target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    single = balanced_bce(upsampled, target, balance) + dice_weight * soft_dice_loss(upsampled, target)
    small = F.interpolate(target[:, None], logits.shape[-2:], mode="area")
    several = balanced_bce(logits[:, 1:], small, balance) + dice_weight * soft_dice_loss(logits[:, 1:], small)
    quality = (iou - hard_iou(logits, small)).abs().mean()
    presence = F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
    return single.mean() + 0.4 * several.amin(1).mean() + 0.2 * quality + 0.02 * presence


def scene_batch(
    settings: Settings, size: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Images ``(b, 3, s, s)`` in [0, 1] and truths ``(b, p, s, s)``; half of the prompts are on the camera's object."""
    images, truths = [], []
    for _ in range(settings.images):
        scene = make_scene(generator, size)
        images.append(scene.image)
        others = torch.randint(0, len(scene.masks), (settings.prompts,), generator=generator)
        others[::2] = 0
        truths.append(scene.masks[others])
    return torch.stack(images).to(device), torch.stack(truths).to(device)


def groups(settings: Settings, progress: float, generator: torch.Generator) -> Iterator[tuple[slice, str]]:
    """Halves of the prompts with their form; a half shares its form so that no padding tokens are needed."""
    if progress < settings.boxes_until:
        yield slice(0, settings.prompts), "box"
        return
    drawn = torch.multinomial(torch.tensor(list(FORMS.values())), 1, generator=generator).item()
    half = settings.prompts // 2
    yield slice(0, half), "box"
    yield slice(half, settings.prompts), list(FORMS)[int(drawn)]


def training_loss(model: Any, settings: Settings, progress: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Loss of one batch, and the mean IoU of its opening predictions."""
    device = next(model.parameters()).device
    images, truths = scene_batch(settings, model.image_size, generator, device)
    features = image_features(model, normalise(images))
    balance = max(0.0, 1 - progress / settings.balance_until)
    dice_weight = 1.0 if progress < 0.6 else 1.0 - 0.7 * (progress - 0.6) / 0.4
    loss, quality = torch.zeros((), device=device), []
    rounds = 1 if progress < settings.boxes_until else settings.rounds
    for which, form in groups(settings, progress, generator):
        truth = truths[:, which].flatten(0, 1)
        count = truth.shape[0] // len(images)
        repeated = [f.repeat_interleave(count, 0) for f in features]
        target = F.avg_pool2d(truth[:, None].float(), 2)[:, 0]
        prompts, mask = first_prompts(truth, form, generator), None
        for turn in range(rounds):
            outputs = decode_all_tokens(model, repeated, prompts, mask)
            loss = loss + mask_loss(outputs, target, balance, dice_weight) * (count / settings.prompts / rounds)
            chosen = outputs[0][:, 0].detach()
            if turn == 0:
                small = F.interpolate(target[:, None], chosen.shape[-2:], mode="area")[:, 0]
                quality.append(hard_iou(chosen, small).mean().item())
            if turn + 1 < rounds:
                full = F.interpolate(chosen[:, None], truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
                more = corrections(truth, full, generator)
                prompts = prompts.extended(more.coordinates, more.labels)
                feed = bool(torch.rand((), generator=generator) < 0.8)
                mask = chosen[:, None].clamp(-32, 32) if feed else None
    return loss, sum(quality) / len(quality)


class Averaged:
    """Exponential moving average of a model's weights and buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model; faster during the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[key].lerp_(value, 1 - decay)


def schedule(progress: float, step: int, settings: Settings) -> float:
    """Factor on the learning rate: warm-up, then cosine decay to 1 %."""
    return min(1.0, (step + 1) / settings.warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def fit(
    settings: Settings,
    out: Path,
    *,
    config: Path,
    device: str = "cpu",
    report: Callable[[dict[str, float]], None] | None = None,
    resume: bool = True,
) -> Path:
    """Train and write ``bundled.safetensors`` under `out`; resumes from ``checkpoint.pt`` when there is one.

    Parameters
    ----------
    settings : Settings
    out : Path
        Folder for the checkpoint (every two minutes), the loss curve ``curve.csv`` and the weights.
    config : Path
        Model configuration in sam2's format.
    device : str
    report : callable, optional
        Gets ``{"step", "progress", "loss", "iou", "seconds"}`` every 20 steps.

    Returns
    -------
    Path of the weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    model = build_model(config).to(device).train()
    initialise(model)
    average = Averaged(model, settings.ema)
    optimiser = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    checkpoint = out / CHECKPOINT
    if resume and checkpoint.exists():
        state = _restore(checkpoint, settings, model, average, optimiser, generator)
    else:
        (out / CURVE).unlink(missing_ok=True)
    state["settings"] = asdict(settings)
    _loop(settings, out, model, average, optimiser, generator, state, report)
    return export(average.state, settings, state, out / "bundled.safetensors")


def _loop(
    settings: Settings,
    out: Path,
    model: nn.Module,
    average: Averaged,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    state: dict[str, Any],
    report: Callable[[dict[str, float]], None] | None,
) -> None:
    start, saved, window = time.monotonic() - state["seconds"], time.monotonic(), []
    while True:
        state["seconds"] = time.monotonic() - start
        progress = state["seconds"] / 60 / settings.minutes if settings.minutes else state["step"] / settings.steps
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule(progress, state["step"], settings)
        loss, iou = training_loss(model, settings, progress, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimiser.step()
        state["step"] += 1
        average.update(model, state["step"])
        window.append((loss.item(), iou))
        if state["step"] % 20 == 0:
            row = {"step": state["step"], "progress": progress, "seconds": state["seconds"]}
            row |= {
                name: sum(column) / len(window)
                for name, column in zip(("loss", "iou"), zip(*window, strict=True), strict=True)
            }
            window.clear()
            append_row(out / CURVE, row)
            if report:
                report(row)
        if time.monotonic() - saved > 120:
            _save(out / CHECKPOINT, model, average, optimiser, generator, state)
            saved = time.monotonic()
    _save(out / CHECKPOINT, model, average, optimiser, generator, state)


def _save(
    path: Path, model: nn.Module, average: Averaged, optimiser: Any, generator: torch.Generator, state: Any
) -> None:
    content = {
        "model": model.state_dict(),
        "average": average.state,
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "state": dict(state),
    }
    save_checkpoint(path, content)


def _restore(
    path: Path, settings: Settings, model: nn.Module, average: Averaged, optimiser: Any, generator: torch.Generator
) -> dict[str, Any]:
    content = read_checkpoint(path, CHECKPOINT_PARTS)
    now = {k: v for k, v in asdict(settings).items() if k not in ("steps", "minutes")}
    check_same(content["state"].get("settings", now), now, path.parent)
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        raise InputError(f"{path} is a checkpoint of another model; use --no-resume or another folder.") from error
    average.state = {k: v.to(average.state[k].device) for k, v in content["average"].items()}
    optimiser.load_state_dict(content["optimiser"])
    generator.set_state(content["generator"])
    return dict(content["state"])


def export(weights: dict[str, Tensor], settings: Settings, state: dict[str, Any], path: Path) -> Path:
    """Write the weights as safetensors (float32) with the settings in its metadata."""
    from safetensors.torch import save_file

    metadata = {"settings": json.dumps(asdict(settings)), "state": json.dumps(state), "torch": torch.__version__}
    tensors = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    save_file(tensors, path, metadata=metadata)
    return path
