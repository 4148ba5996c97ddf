"""Training of a model's memory of slices on synthetic clips; what it makes of a single image stays as it is.

Settings are in :mod:`memory_settings`, what is trained in :mod:`memory_parts`, the loss in :mod:`clip_loss`. Run by
``napari-uncertsam fit memory``.
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
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from napari_uncertsam.checkpoints import file_metadata, file_sha256, load_state_dict
from napari_uncertsam.engine import build_model, memory_errors
from napari_uncertsam.errors import InputError
from napari_uncertsam.training.clip_loss import Followed, Plan, clip_loss, measure_following
from napari_uncertsam.training.clips import Clip, draw_clip, first_frames
from napari_uncertsam.training.feeding import feed
from napari_uncertsam.training.memory_parts import MEMORY, prepare_memory, trained_parameters
from napari_uncertsam.training.memory_settings import MemorySettings
from napari_uncertsam.training.runs import (
    CHECKPOINT,
    CURVE,
    append_row,
    check_same,
    cut_curve,
    read_checkpoint,
    save_checkpoint,
)
from napari_uncertsam.training.seeds import generator_of

CHECKPOINT_PARTS = frozenset({"trained", "average", "optimiser", "state"})
#: Seed of the held-out clips; no run can have it.
HELD_OUT = 2**40
#: Clips on whose first frames the start of an untrained memory is fitted.
FITTED = 12
#: Seconds between checkpoints, and steps between rows of the curve.
SAVE_EVERY, ROW_EVERY = 120.0, 20

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Clips(Dataset[Clip]):
    """Clip k of a run; see :func:`draw_clip`."""

    seed: int
    size: int
    frames: int
    objects: int

    def __getitem__(self, index: int) -> Clip:
        return draw_clip(self.seed, index, self.size, frames=self.frames, objects=self.objects)


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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            prepare_memory(run.model, *first_frames(run.clips[k] for k in range(FITTED)))
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
        clips = feed(self.clips, state["step"] * settings.clips, workers)
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
        generator = generator_of(settings.seed, self.state["step"])
        self.optimiser.zero_grad(set_to_none=True)
        low = self.device.type == "cuda" and settings.precision == "bfloat16"
        for _ in range(settings.clips):
            drawn = next(clips)
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
