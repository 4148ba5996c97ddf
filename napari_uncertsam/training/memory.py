"""Training of a model's memory of slices on synthetic clips; what it makes of a single image stays as it is.

Read from top to bottom: settings, what is trained, where it starts, the run, the export. Run by ``napari-uncertsam fit
memory``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from napari_uncertsam.checkpoints import file_metadata, file_sha256, load_state_dict
from napari_uncertsam.engine import build_model, memory_errors
from napari_uncertsam.errors import InputError
from napari_uncertsam.training.clip_loss import Followed, Plan, clip_features, clip_loss, measure_following
from napari_uncertsam.training.clips import Clip, draw_clip
from napari_uncertsam.training.feeding import feed
from napari_uncertsam.training.runs import (
    CHECKPOINT,
    CURVE,
    append_row,
    check_same,
    cut_curve,
    read_checkpoint,
    save_checkpoint,
)

CHECKPOINT_PARTS = frozenset({"trained", "average", "optimiser", "state"})
#: Parts of a SAM 2 that only following objects uses, and the score that says whether an object is there.
MEMORY = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "sam_mask_decoder.pred_obj_score_head.",
)
#: The mask decoder but for what makes part of the frozen features.
DECODER, FEATURES = "sam_mask_decoder.", ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")
#: Seed of the held-out clips; no run can have it.
HELD_OUT = 2**40
#: Seconds between checkpoints, and steps between rows of the curve.
SAVE_EVERY, ROW_EVERY = 120.0, 20

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class MemorySettings:
    """Everything that decides what is trained; saved beside the weights.

    Parameters
    ----------
    steps : int
        Optimiser steps that the schedule is laid out for.
    minutes : float
        If positive, the schedule follows the clock and ends after so many minutes, whatever `steps` says.
    clips, frames, objects : int
        Clips per step, frames of each, and the most objects that are followed in one.
    size : int
        Side of the frames in pixels, a multiple of 32; 0 for the model's.
    learning_rate, weight_decay, warmup, clip : float
        AdamW, linear warm-up over `warmup` steps, cosine decay to 1 % of the rate, gradient norm clip.
    decoder_rate : float
        Factor on the learning rate of the mask decoder; 0 leaves it as it is, and with it all single images.
    ema : float
        Decay of the averaged weights, which are what is written.
    precision : {"float32", "bfloat16"}
        Of the forward pass; bfloat16 is for GPUs.
    validation, validate_every : int
        Held-out clips, and steps between two measurements on them.
    seed : int

    Raises
    ------
    InputError
        If a number is out of range.
    """

    steps: int = 1500
    minutes: float = 0.0
    clips: int = 1
    frames: int = 8
    objects: int = 2
    size: int = 0
    learning_rate: float = 6e-4
    decoder_rate: float = 0.0
    weight_decay: float = 0.02
    warmup: int = 60
    clip: float = 1.0
    ema: float = 0.99
    precision: str = "float32"
    validation: int = 16
    validate_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "clips", "objects", "learning_rate", "warmup", "clip", "validation", "validate_every"):
            if not getattr(self, name) > 0:
                raise InputError(f"Training with {name} = {getattr(self, name)} does nothing; give a positive number.")
        for name in ("minutes", "decoder_rate", "weight_decay", "seed", "size"):
            if not getattr(self, name) >= 0:
                raise InputError(f"The setting {name} = {getattr(self, name)} is negative; give 0 or more.")
        if self.frames < 2:
            raise InputError(f"In {self.frames} frames there is nothing to follow; give at least 2.")
        if self.size % 32:
            raise InputError(f"The size {self.size} is no multiple of 32; give one, or 0 for the model's own.")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"There is no precision {self.precision!r}; give float32 or bfloat16.")

    def factor(self, progress: float, step: int) -> float:
        """Of the learning rate: warm-up, then cosine decay to 1 %."""
        return min(1.0, (step + 1) / self.warmup) * (0.01 + 0.495 * (1 + math.cos(math.pi * min(progress, 1.0))))


@dataclass(frozen=True)
class Clips(Dataset[Clip]):
    """Clip k of a run; see :func:`draw_clip`."""

    seed: int
    size: int
    frames: int
    objects: int

    def __getitem__(self, index: int) -> Clip:
        return draw_clip(self.seed, index, self.size, frames=self.frames, objects=self.objects)


def trained_parameters(model: nn.Module, decoder: bool) -> dict[str, nn.Parameter]:
    """What is trained, by name; everything else of the model is frozen."""
    chosen = {}
    for name, parameter in model.named_parameters():
        wanted = name.startswith(MEMORY) or (decoder and name.startswith(DECODER) and not name.startswith(FEATURES))
        parameter.requires_grad_(wanted)
        if wanted:
            chosen[name] = parameter
    return chosen


def prepare_memory(model: Any, images: Tensor) -> None:
    """Where a memory that was never trained starts from: it changes nothing yet, and looks at the same place.

    The residual branches of the memory attention begin with zeros, and its last normalisation is fitted so that it
    gives back, as nearly as a gain and an offset for each channel can, the embedding that a single image has. Equal
    biases of queries and keys make the rotary attention to memories a local one.

    Parameters
    ----------
    model : SAM2Base
    images : (b, 3, s, s) in [0, 1]
        What the normalisation is fitted on.
    """
    attention = model.memory_attention
    with torch.no_grad():
        for layer in attention.layers:
            cross = layer.cross_attn_image
            for last in (layer.self_attn.out_proj, cross.out_proj, layer.linear2):
                last.weight.mul_(0.02)
                last.bias.zero_()
            for projection in (cross.q_proj, cross.k_proj):
                projection.weight.mul_(0.3)
                projection.bias.fill_(2.0)
        for block in model.memory_encoder.fuser.layers:
            if block.gamma is not None:
                block.gamma.fill_(0.1)
        wanted = clip_features(model, images)[-1]
        plain = wanted
        if model.directly_add_no_mem_embed:
            plain = wanted - model.no_mem_embed.reshape(1, -1, 1, 1)
        if attention.pos_enc_at_input:
            plain = plain + 0.1 * model.image_encoder.neck.position_encoding(plain)
        channels = plain.movedim(1, -1).flatten(0, -2)
        given = nn.functional.layer_norm(channels, channels.shape[-1:], eps=attention.norm.eps)
        target = wanted.movedim(1, -1).flatten(0, -2)
        centred = given - given.mean(0)
        gain = (centred * target).sum(0) / centred.square().sum(0).clamp(min=1e-6)
        attention.norm.weight.copy_(gain)
        attention.norm.bias.copy_(target.mean(0) - gain * given.mean(0))


def fit_memory(
    settings: MemorySettings,
    out: Path,
    *,
    weights: Path,
    config: Path | str,
    device: str = "cpu",
    workers: int = 0,
    report: Report | None = None,
    resume: bool = True,
) -> tuple[Path, str]:
    """Train the memory of a model; goes on from ``checkpoint.pt`` in `out` to the same numbers.

    Parameters
    ----------
    settings : MemorySettings
    out : Path
        Folder for the checkpoint (every two minutes), ``curve.csv``, and the weights, under the name of `weights`.
    weights : Path
        Where to start: a safetensors file. Where its metadata says that its memory is trained, that is trained further.
    config : Path or str
        The model's configuration in sam2's format.
    device : str
    workers : int
        Processes that make clips beside this one; how many there are changes no number.
    report : callable, optional
        Gets ``step``, ``progress``, ``loss``, ``dice`` (of the held-out clips, where they were measured) and
        ``seconds`` every 20 steps.
    resume : bool

    Returns
    -------
    Path of the weights, and a sentence on how well objects are followed.
    """
    target = out / f"{weights.stem}.safetensors"
    if target.exists() and target.resolve() == weights.resolve():
        raise InputError(f"{weights} would be overwritten by what is made of it; give --out another folder.")
    out.mkdir(parents=True, exist_ok=True)
    model = build_model(config, image_size=settings.size or None)
    state, metadata = load_state_dict(weights), file_metadata(weights)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{weights} does not fit the configuration {Path(config).name}; give its own.") from error
    run = _Run(settings, out, model.to(device).eval(), file_sha256(weights))
    if metadata.get("memory") != "trained":
        prepare_memory(run.model, torch.stack([c.images[0] for c in run.held_out]).to(device))
    run.begin(resume)
    run.loop(workers, report or (lambda _row: None))
    return _export(run, state, metadata, target), run.sentence()


class _Run:
    """A training under way."""

    def __init__(self, settings: MemorySettings, out: Path, model: Any, sha256: str) -> None:
        self.settings, self.out, self.model = settings, out, model
        self.device = next(model.parameters()).device
        self.clips = Clips(settings.seed, model.image_size, settings.frames, settings.objects)
        held_out = Clips(HELD_OUT, model.image_size, settings.frames, settings.objects)
        self.held_out = [held_out[k] for k in range(settings.validation)]
        self.parameters = trained_parameters(model, settings.decoder_rate > 0)
        self.stamp = {k: v for k, v in asdict(settings).items() if k not in ("steps", "minutes", "validate_every")}
        self.stamp["weights"] = sha256

    def begin(self, resume: bool) -> None:
        """Optimiser and averages, from the beginning or from the checkpoint."""
        settings = self.settings
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            rate = 1.0 if name.startswith(MEMORY) else settings.decoder_rate
            decay = settings.weight_decay if name.endswith("weight") and parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
        self.optimiser = torch.optim.AdamW(
            [{"params": p, "factor": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
            settings.learning_rate,
        )
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.state: dict[str, Any] = {"step": 0, "seconds": 0.0, "measured": -1, "stamp": self.stamp, "window": []}
        if resume and (self.out / CHECKPOINT).exists():
            self._restore()
        else:
            (self.out / CURVE).unlink(missing_ok=True)

    def _restore(self) -> None:
        path = self.out / CHECKPOINT
        content = read_checkpoint(path, CHECKPOINT_PARTS)
        check_same(content["state"].get("stamp", {}), self.stamp, self.out)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(content["trained"][name])
                self.average[name].copy_(content["average"][name])
        self.optimiser.load_state_dict(content["optimiser"])
        self.state = dict(content["state"])
        cut_curve(self.out / CURVE, self.state["step"])

    def loop(self, workers: int, report: Report) -> None:
        """Train until the schedule has ended."""
        state, settings, saved = self.state, self.settings, time.monotonic()
        start = saved - state["seconds"]
        if state["measured"] < 0:
            self._measure("before")
        clips = feed(cast(Any, self.clips), state["step"] * settings.clips, workers)
        try:
            while (progress := self.progress()) < 1:
                loss = self._gradient(clips)
                self._update(progress)
                state["window"].append(loss)
                state["seconds"] = time.monotonic() - start
                if state["step"] % settings.validate_every == 0:
                    self._measure("after")
                if state["step"] % ROW_EVERY == 0:
                    self._row(report)
                if time.monotonic() - saved > SAVE_EVERY:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:  # a step that was not finished has changed nothing
            self._save()
            raise
        if state["measured"] != state["step"]:
            self._measure("after")
            self._row(report)
        self._save()

    def progress(self) -> float:
        """Share of the schedule that is done."""
        minutes, state = self.settings.minutes, self.state
        return float(state["seconds"] / 60 / minutes if minutes else state["step"] / self.settings.steps)

    def _gradient(self, clips: Any) -> float:
        """Gradients of one step, and its loss; clips are followed back one after the other."""
        settings, total = self.settings, 0.0
        generator = torch.Generator().manual_seed((settings.seed << 32) + self.state["step"])
        self.optimiser.zero_grad(set_to_none=True)
        low = self.device.type == "cuda" and settings.precision == "bfloat16"
        for _ in range(settings.clips):
            drawn = cast(Clip, next(clips))
            clip = Clip(drawn.images.to(self.device), drawn.masks.to(self.device))
            plan = Plan.drawn(generator, drawn.masks)
            with memory_errors("train on a clip"):
                with torch.autocast("cuda", torch.bfloat16) if low else nullcontext():
                    loss = clip_loss(self.model, clip, plan, generator, prompted=settings.decoder_rate > 0)
                (loss / settings.clips).backward()  # type: ignore[no-untyped-call]
            total += loss.item() / settings.clips
        if not math.isfinite(total):
            raise InputError(
                f"The loss of step {self.state['step'] + 1} is not a number; start over with a lower learning rate."
            )
        return total

    @torch.no_grad()
    def _update(self, progress: float) -> None:
        settings, step = self.settings, self.state["step"]
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * settings.factor(progress, step)
        nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip)
        self.optimiser.step()
        self.state["step"] = step + 1
        decay = min(settings.ema, (2 + step) / (11 + step))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter, 1 - decay)

    def averaged(self) -> Any:
        """A model with the averaged weights."""
        model = deepcopy(self.model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.average:
                    parameter.copy_(self.average[name])
        return model

    def _measure(self, when: str) -> None:
        self.state[when] = asdict(measure_following(self.averaged(), self.held_out))
        self.state["measured"] = self.state["step"]

    def _row(self, report: Report) -> None:
        state = self.state
        window, fresh = state["window"], state["measured"] == state["step"]
        row = {
            "step": float(state["step"]),
            "progress": min(1.0, self.progress()),
            "seconds": state["seconds"],
            "loss": sum(window) / len(window) if window else math.nan,
            "dice": state["after"]["dice"] if fresh and "after" in state else math.nan,
        }
        window.clear()
        append_row(self.out / CURVE, row)
        report(row)

    def _save(self) -> None:
        content = {
            "trained": {name: p.detach() for name, p in self.parameters.items()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "state": {**self.state, "window": list(self.state["window"])},
        }
        save_checkpoint(self.out / CHECKPOINT, content)

    def sentence(self) -> str:
        """How well the objects of the held-out clips are followed."""
        before, after = Followed(**self.state["before"]), Followed(**self.state.get("after", self.state["before"]))
        return (
            f"Mean Dice over {after.frames} followed frames of {len(self.held_out)} held-out synthetic clips: "
            f"{before.dice:.3f} before, {after.dice:.3f} after {self.state['step']} steps; the opening mask carried on "
            f"unchanged has {after.unmoved:.3f}. Whether the object is there was right on {before.presence:.0%} of the "
            f"frames before, on {after.presence:.0%} after."
        )


def _export(run: _Run, state: dict[str, Tensor], metadata: dict[str, str], path: Path) -> Path:
    """The weights that the training began with, the trained ones replaced, each in the type that it had."""
    from safetensors.torch import save_file

    trained = {name: value.cpu().to(state[name].dtype) for name, value in run.average.items()}
    facts = {k: v for k, v in run.state.items() if k in ("step", "seconds", "before", "after")}
    settings = {**asdict(run.settings), **facts, "torch": torch.__version__}
    partial = path.with_suffix(".part")
    save_file(
        {k: v.contiguous() for k, v in {**state, **trained}.items()},
        partial,
        metadata={**metadata, "memory": "trained", "memory_settings": json.dumps(settings)},
    )
    partial.replace(path)
    return path
