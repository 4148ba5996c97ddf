"""Training of the bundled model: a small `SAM2Base` learns to segment from prompts on synthetic scenes.

Read from top to bottom: settings, the schedule, the loop, the export. Run by ``napari-uncertsam fit bundled``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_uncertsam.engine import build_model
from napari_uncertsam.errors import InputError
from napari_uncertsam.training.clip_loss import Plan, clip_loss
from napari_uncertsam.training.clips import Clip, first_frames
from napari_uncertsam.training.export import write_weights
from napari_uncertsam.training.feeding import Batch, Batches, feed
from napari_uncertsam.training.interactive import Weights, interactive_loss
from napari_uncertsam.training.memory import FITTED, Clips
from napari_uncertsam.training.memory_parts import prepare_memory
from napari_uncertsam.training.ranks import Ranks, run_ranks
from napari_uncertsam.training.runs import (
    CHECKPOINT,
    CURVE,
    append_row,
    check_same,
    cut_curve,
    read_checkpoint,
    save_checkpoint,
    warm_cosine,
)
from napari_uncertsam.training.seeds import generator_of
from napari_uncertsam.training.sources import SyntheticSource
from napari_uncertsam.training.starting import start_from

CHECKPOINT_PARTS = frozenset({"model", "average", "optimiser", "state"})
#: What single images train.
SINGLE = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")
#: Frames of a clip, and the most objects that are followed in it.
CLIP_FRAMES, CLIP_OBJECTS = 7, 2
#: Steps in a row without a finite loss after which a training ends.
MOST_LOST = 20
Report = Callable[[dict[str, float]], None]
#: Of the last rounds of a batch: how often it gets so many corrections more than the fewest.
EXTRA_ROUNDS = (0.5, 0.3, 0.1, 0.1)


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
        Images per step, those of all processes together, and prompts per image; half of the prompts are boxes.
    ranks : int
        Processes that train together; see :mod:`napari_uncertsam.training.ranks`.
    sizes : tuple of int
        Sides of the scenes in pixels, multiples of 32; each step has one of them.
    rounds : int
        Fewest decodes per prompt: the opening and ``rounds - 1`` corrections; up to three more are drawn.
    start : tuple of str
        See :func:`~napari_uncertsam.training.starting.start_from`.
    learning_rate, weight_decay, warmup, clip : float
        AdamW, linear warm-up over `warmup` steps, cosine decay, gradient norm clip.
    final : float
        Share of the learning rate that is left at the end; a run that another one goes on from leaves more.
    trunk_rate : float
        Factor on the learning rate of the image encoder's trunk.
    freeze : int
        Stages of the trunk that are not trained, and the stem with them.
    clip_every : int
        Every so many steps the objects of a synthetic clip are followed, too, as SAM 2 is trained on images and videos
        together: the mask decoder learns to go by the memory. 0: the memory is not trained.
    clip_size : int
        Side of the frames in pixels, for which the model is built; 0 for the model's own.
    memory_rate : float
        Factor on the learning rate of the memory.
    boxes_until : float
        Fraction of the schedule with boxes only and no corrections: a network without weights first learns what a
        prompt is.
    balance_until : float
        Fraction of the schedule over which the cross-entropy goes from balanced to plain.
    dice : float
        Weight of soft Dice at the end; it begins with 1 and changes over the last two fifths.
    ema : float
        Decay of the averaged weights, which are what is shipped.
    precision : {"float32", "bfloat16"}
        Of the forward pass; bfloat16 is for GPUs.
    """

    steps: int = 8000
    minutes: float = 0.0
    images: int = 4
    prompts: int = 6
    ranks: int = 1
    sizes: tuple[int, ...] = (512,)
    rounds: int = 3
    start: tuple[str, ...] = ()
    learning_rate: float = 4e-4
    weight_decay: float = 0.02
    warmup: int = 150
    clip: float = 1.0
    final: float = 0.01
    trunk_rate: float = 0.15
    freeze: int = 0
    clip_every: int = 0
    clip_size: int = 0
    memory_rate: float = 3.0
    boxes_until: float = 0.0
    balance_until: float = 0.2
    dice: float = 0.5
    ema: float = 0.998
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ranks < 1 or self.images % self.ranks:
            raise InputError(
                f"{self.images} images a step cannot be shared by {self.ranks} processes; "
                f"give a multiple of {self.ranks}."
            )
        for size in (*self.sizes, self.clip_size or 32):
            if size < 32 or size % 32:
                raise InputError(f"Scenes of {size} pixels do not fit the model; give a multiple of 32.")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"The precision {self.precision!r} is unknown; give float32 or bfloat16.")

    @property
    def decisive(self) -> dict[str, Any]:
        """What may not change when a run is continued."""
        return {k: v for k, v in asdict(self).items() if k not in ("steps", "minutes")}

    def weights(self, progress: float) -> Weights:
        """Of the loss, at a share of the schedule."""
        balance = max(0.0, 1 - progress / self.balance_until) if self.balance_until else 0.0
        return Weights(balance, 1.0 + (self.dice - 1) * max(0.0, progress - 0.6) / 0.4)


def training_loss(
    model: Any, batch: Batch, settings: Settings, progress: float, generator: torch.Generator
) -> tuple[float, ...]:
    """Follow the loss of one batch back; gives it with the mean IoU of the opening and of the last predictions."""
    opening = progress < settings.boxes_until
    extra = int(torch.multinomial(torch.tensor(EXTRA_ROUNDS), 1, generator=generator)) if settings.rounds > 1 else 0
    rounds = 1 if opening else settings.rounds + extra
    parts: list[Tensor] = []
    first, last = [], []
    with autocast(settings, batch.images.device):
        weights = settings.weights(progress)
        for loss, quality in interactive_loss(model, batch, rounds, weights, generator, only_boxes=opening):
            parts.append(loss)
            first.append(quality[0])
            last.append(quality[-1])
    loss = torch.stack(parts).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), sum(first) / len(first), sum(last) / len(last)


def autocast(settings: Settings, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward pass at the precision of the settings."""
    return torch.autocast(device.type, torch.bfloat16) if settings.precision == "bfloat16" else nullcontext()


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
    """Factor on the learning rate: warm-up, then cosine decay."""
    return warm_cosine(progress, step, settings.warmup, settings.final)


def fit(
    settings: Settings,
    out: Path,
    *,
    config: Path,
    device: str = "cpu",
    workers: int = 0,
    report: Report | None = None,
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
    workers : int
        Processes that draw scenes; the result does not depend on it.
    report : callable, optional
        Gets ``{"step", "progress", "seconds", "loss", "iou", "corrected"}`` every 20 steps: the mean IoU of the opening
        predictions and of those after the last correction.

    Returns
    -------
    Path of the weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    run_ranks(settings.ranks, _train, settings, out, config, device, workers, resume, report=report)
    content = read_checkpoint(out / CHECKPOINT, CHECKPOINT_PARTS)
    return export(content["average"], settings, content["state"], out / "bundled.safetensors")


def _train(
    ranks: Ranks,
    settings: Settings,
    out: Path,
    config: Path,
    device: str,
    workers: int,
    resume: bool,
    report: Report | None = None,
) -> None:
    """What one process does."""
    torch.manual_seed(settings.seed)
    where = f"{device}:{ranks.rank}" if device == "cuda" and ranks.size > 1 else device
    run = _Run(settings, out, build_model(config, image_size=settings.clip_size or None).to(where).eval(), ranks)
    if resume and (out / CHECKPOINT).exists():
        run.restore()
    else:
        start_from(run.model, settings.start)
        if settings.clip_every:
            run.prepare()
        run.average = Averaged(run.model, settings.ema)
        if ranks.first:
            (out / CURVE).unlink(missing_ok=True)
    images = settings.images // ranks.size
    batches = Batches(SyntheticSource(), settings.seed, images, settings.prompts, settings.sizes)
    own = feed(batches, ranks.rank + ranks.size * run.state["step"], workers, every=ranks.size)
    run.train(own, report or (lambda _row: None))


class _Run:
    """A training under way: everything that a checkpoint holds."""

    def __init__(self, settings: Settings, out: Path, model: Any, ranks: Ranks) -> None:
        self.settings, self.out, self.model, self.ranks = settings, out, model, ranks
        trunk = model.image_encoder.trunk
        if hasattr(trunk, "freeze"):
            trunk.freeze = settings.freeze
        named: dict[str, list[nn.Parameter]] = {"trunk": [], "single": [], "memory": []}
        for name, parameter in model.named_parameters():
            inside = "trunk" if name.startswith("image_encoder.trunk.") else "single"
            named[inside if name.startswith(SINGLE) else "memory"].append(parameter)
        if not settings.clip_every:
            named.pop("memory")
        self.trained = [p for parameters in named.values() for p in parameters]
        factors = {"trunk": settings.trunk_rate, "single": 1.0, "memory": settings.memory_rate}
        rate = settings.learning_rate
        groups = [{"params": parameters, "rate": rate * factors[name]} for name, parameters in named.items()]
        self.clips = Clips(settings.seed, model.image_size, CLIP_FRAMES, CLIP_OBJECTS)
        self.optimiser = torch.optim.AdamW(groups, rate, weight_decay=settings.weight_decay)
        self.average, self.lost = Averaged(model, settings.ema), 0
        self.state: dict[str, Any] = {"step": 0, "seconds": 0.0, "settings": asdict(settings)}

    def train(self, batches: Iterator[Batch], report: Report) -> None:
        """Until the schedule is over."""
        settings, state = self.settings, self.state
        start, saved, window = time.monotonic() - state["seconds"], time.monotonic(), []
        device = next(self.model.parameters()).device
        while True:
            state["seconds"] = time.monotonic() - start
            progress = state["seconds"] / 60 / settings.minutes if settings.minutes else state["step"] / settings.steps
            progress = self.ranks.agree(progress)
            if progress >= 1:
                break
            batch = next(batches)
            moved = Batch(batch.images.to(device), batch.truths.to(device))
            if measured := self.step(moved, progress):
                window.append(measured)
            if state["step"] % 20 == 0 and self.ranks.first and window:
                row = {"step": state["step"], "progress": progress, "seconds": state["seconds"]}
                columns = zip(("loss", "iou", "corrected"), zip(*window, strict=True), strict=True)
                row |= {name: sum(column) / len(window) for name, column in columns}
                window.clear()
                append_row(self.out / CURVE, row)
                report(row)
            if time.monotonic() - saved > 120 and self.ranks.first and not self.lost:
                self.save()
                saved = time.monotonic()
        if self.ranks.first:
            self.save()

    def step(self, batch: Batch, progress: float) -> tuple[float, ...]:
        """One step of the optimiser; prompts follow from the seed, the process and the number of the step."""
        factor, step = schedule(progress, self.state["step"], self.settings), self.state["step"]
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * factor
        generator = generator_of(self.settings.seed, step, self.ranks.rank)
        for parameter in self.trained:  # a step may not use all of them, and all processes exchange the same
            parameter.grad = torch.zeros_like(parameter)
        measured = training_loss(self.model, batch, self.settings, progress, generator)
        if self.settings.clip_every and step % self.settings.clip_every == 0:
            self.follow(step, generator)
        measured = self.ranks.average([p.grad for p in self.trained if p.grad is not None], measured)
        norm = nn.utils.clip_grad_norm_(self.trained, self.settings.clip)
        self.state["step"] += 1
        if math.isfinite(measured[0]) and torch.isfinite(norm):
            self.optimiser.step()
            self.average.update(self.model, self.state["step"])
            self.lost = 0
            return measured
        self.lost += 1  # one scene that overflowed must not undo hours
        if self.lost > MOST_LOST:
            raise InputError(
                f"The loss was not a number for {self.lost} steps; start over with a lower learning rate. The "
                "checkpoint is that of before."
            )
        return ()

    def follow(self, step: int, generator: torch.Generator) -> None:
        """Follow the loss of a clip back."""
        device = next(self.model.parameters()).device
        drawn = self.clips[FITTED + self.ranks.rank + self.ranks.size * step]
        clip, plan = Clip(drawn.images.to(device), drawn.masks.to(device)), Plan.drawn(generator, drawn.masks)
        with autocast(self.settings, device):
            loss = clip_loss(self.model, clip, plan, generator, prompted=True)
        loss.backward()  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Give a memory that was never trained something to start from."""
        prepare_memory(self.model, *first_frames(self.clips[k] for k in range(FITTED)))

    def save(self) -> None:
        """Write the checkpoint."""
        content = {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimiser": self.optimiser.state_dict(),
            "state": dict(self.state),
        }
        save_checkpoint(self.out / CHECKPOINT, content)

    def restore(self) -> None:
        """Go on from the checkpoint."""
        path = self.out / CHECKPOINT
        content = read_checkpoint(path, CHECKPOINT_PARTS)
        earlier = Settings(**content["state"].get("settings", {}))
        check_same(earlier.decisive, self.settings.decisive, self.out)
        try:
            self.model.load_state_dict(content["model"])
        except RuntimeError as error:
            raise InputError(f"{path} is a checkpoint of another model; use --no-resume or another folder.") from error
        self.average.state = {k: v.to(self.average.state[k].device) for k, v in content["average"].items()}
        self.optimiser.load_state_dict(content["optimiser"])
        self.state = {**content["state"], "settings": asdict(self.settings)}
        cut_curve(self.out / CURVE, self.state["step"])


def export(weights: dict[str, Tensor], settings: Settings, state: dict[str, Any], path: Path) -> Path:
    """Write the weights in half precision, with the settings in the file's metadata."""
    metadata = {
        "model": "bundled",
        "settings": json.dumps(asdict(settings)),
        "state": json.dumps(state),
        "torch": torch.__version__,
    }
    return write_weights(weights, path, metadata)
