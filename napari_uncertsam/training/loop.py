"""The training loop of every head on a frozen model: UncertSAM's schedule, checkpoints, the best by validation loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_uncertsam.engine import memory_errors
from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.training.runs import (
    CHECKPOINT,
    CURVE,
    append_row,
    check_same,
    cut_curve,
    read_checkpoint,
    save_checkpoint,
)

#: Losses of one step, in parts: each is followed back and let go before the next, so their graphs are not held at once.
StepLoss = Callable[[torch.Generator], Iterable[Tensor]]
Report = Callable[[dict[str, float]], None]
CHECKPOINT_PARTS = frozenset({"model", "best", "optimiser", "generator", "state"})
#: Seconds between checkpoints, and steps between rows of the curve.
SAVE_EVERY, ROW_EVERY = 120.0, 20


@dataclass(frozen=True)
class LoopSettings:
    """How a head is trained; the defaults are UncertSAM's (Table 3).

    Parameters
    ----------
    steps : int
        Optimiser steps, one image each.
    learning_rate : float
        Reached after a 90th of the steps (195 of 17,500), and taken back to 0 over the last 5 / 90 of them (972).
    weight_decay : float
        Of AdamW.
    decay_biases : bool
        Whether biases decay too; the paper's do not.
    clip : float
        Largest norm of the gradient.
    validate_every : int
        Steps between validations; there is one after the last step in any case.
    seed : int
        Of images and prompts.
    minutes : float
        If positive, the schedule follows the clock and ends after so many minutes, whatever `steps` says.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    steps: int = 17_500
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    decay_biases: bool = False
    clip: float = 0.1
    validate_every: int = 500
    seed: int = 0
    minutes: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "clip", "validate_every"):
            if not getattr(self, name) > 0:
                raise InputError(f"Training with {name} = {getattr(self, name)} does nothing; give a positive number.")
        for name in ("weight_decay", "minutes", "seed"):
            if not getattr(self, name) >= 0:
                raise InputError(f"The setting {name} = {getattr(self, name)} is negative; give 0 or more.")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the schedule that lies before a step; at 1 the training is over."""
        return seconds / 60 / self.minutes if self.minutes else step / self.steps

    def rate(self, progress: float) -> float:
        """Learning rate at a share of the schedule.

        Examples
        --------
        >>> settings = LoopSettings(learning_rate=1.0)
        >>> [round(settings.rate(p), 2) for p in (0.0, 1 / 180, 1 / 90, 0.5, 85 / 90, 1.0)]
        [0.0, 0.5, 1.0, 1.0, 1.0, 0.0]
        """
        return self.learning_rate * max(0.0, min(1.0, 90 * progress, 18 * (1 - progress)))

    @property
    def decisive(self) -> dict[str, Any]:
        """What may not change when a run is continued."""
        return {k: v for k, v in asdict(self).items() if k not in ("steps", "minutes", "validate_every")}


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training.

    Parameters
    ----------
    weights : dict of str to Tensor
        Of the step with the lowest validation loss, on the CPU.
    steps : int
        That were done.
    best_step : int
    validation : float
        The lowest validation loss.
    seconds : float
        Spent, earlier runs included.
    """

    weights: dict[str, Tensor]
    steps: int
    best_step: int
    validation: float
    seconds: float

    @property
    def facts(self) -> dict[str, str]:
        """For the metadata of the part."""
        return {
            "steps": str(self.steps),
            "best_step": str(self.best_step),
            "validation_loss": f"{self.validation:.6g}",
            "seconds": f"{self.seconds:.0f}",
        }


def train_head(
    module: nn.Module,
    step_loss: StepLoss,
    validate: Callable[[], float],
    settings: LoopSettings,
    out: Path,
    *,
    stamp: Mapping[str, str],
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    resume: bool = True,
) -> Trained:
    """Train a module; goes on from the checkpoint in `out` to the same numbers as without an interruption.

    Parameters
    ----------
    module : torch.nn.Module
        On its device, initialised; changed in place and left as of the last step. All of it is trained.
    step_loss : callable
        Takes the generator, the only source of randomness; gives the parts of a step's loss, which is their sum.
    validate : callable
        Validation loss of the module as it is, the same whenever it is called.
    settings : LoopSettings
    out : Path
        Folder for ``checkpoint.pt`` (every two minutes, when stopped, and at the end) and ``curve.csv`` (step,
        progress, loss, validation where there was one, seconds).
    stamp : mapping of str to str
        What else decides the result (model, images, settings of the head): a run with another one is not continued.
    report : callable, optional
        Gets every row of the curve.
    cancelled : callable, optional
        Asked before each step whether to stop.
    resume : bool
        Whether to go on from a checkpoint.

    Raises
    ------
    InputError
        If the checkpoint is damaged or belongs to another training, or the loss is no longer a number.
    Cancelled
        When `cancelled` said so; the checkpoint is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(module, settings, out, {**stamp, **settings.decisive})
    if resume and (out / CHECKPOINT).exists():
        run.restore()
    else:
        (out / CURVE).unlink(missing_ok=True)
    run.train(step_loss, validate, report or (lambda _row: None), cancelled or (lambda: False))
    best = {name: value.detach().cpu() for name, value in run.best.items()}
    state = run.state
    return Trained(best, state["step"], state["best_step"], state["best_loss"], state["seconds"])


@dataclass(eq=False)
class _Run:
    """A training under way: everything that a checkpoint holds."""

    module: nn.Module
    settings: LoopSettings
    out: Path
    stamp: dict[str, Any]
    state: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.optimiser = make_optimiser(self.module, self.settings)
        self.generator = torch.Generator().manual_seed(self.settings.seed)
        self.best = _copy(self.module)
        self.state = {
            "step": 0,
            "seconds": 0.0,
            "best_step": 0,
            "best_loss": math.inf,
            "validated": -1,
            "window": [],
            "stamp": self.stamp,
        }

    def train(
        self,
        step_loss: StepLoss,
        validate: Callable[[], float],
        report: Report,
        cancelled: Callable[[], bool],
    ) -> None:
        state, start, saved = self.state, time.monotonic() - self.state["seconds"], time.monotonic()
        while (progress := self.settings.progress(state["step"], state["seconds"])) < 1:
            if cancelled():
                self.save()
                raise Cancelled("The training was stopped; the same command goes on from here.")
            before = self.generator.get_state()
            try:
                state["window"].append(self.step(step_loss))
            except KeyboardInterrupt:  # nothing was changed yet but the generator
                self.generator.set_state(before)
                self.save()
                raise
            self.update(progress)
            state["seconds"] = time.monotonic() - start
            over = self.settings.progress(state["step"], state["seconds"]) >= 1
            if state["step"] % self.settings.validate_every == 0 or over:
                self.validate(validate)
            if state["step"] % ROW_EVERY == 0 or state["validated"] == state["step"]:
                self.write_row(report)
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        if state["validated"] != state["step"]:  # continued with fewer steps than were done already
            self.validate(validate)
            self.write_row(report)
        self.save()

    def step(self, step_loss: StepLoss) -> float:
        """Gradients of one step, and its loss."""
        self.module.train()
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        with memory_errors("train on an image"):
            for part in step_loss(self.generator):
                part.backward()  # type: ignore[no-untyped-call]
                total += part.item()
        if not math.isfinite(total):
            raise InputError(
                f"The loss of step {self.state['step'] + 1} is not a number; start over with a lower learning rate."
            )
        return total

    def update(self, progress: float) -> None:
        """One step of the optimiser; the rate is that at the middle of the step, so that no step does nothing."""
        half = 0.0 if self.settings.minutes else 0.5 / self.settings.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate(progress + half)
        nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
        self.optimiser.step()
        self.state["step"] += 1

    def validate(self, validate: Callable[[], float]) -> None:
        self.module.eval()
        with torch.no_grad():
            loss = validate()
        self.state["validated"], self.state["validation"] = self.state["step"], loss
        if loss < self.state["best_loss"]:
            self.state["best_loss"], self.state["best_step"] = loss, self.state["step"]
            self.best = _copy(self.module)

    def write_row(self, report: Report) -> None:
        state = self.state
        window, fresh = state["window"], state["validated"] == state["step"]
        row = {
            "step": float(state["step"]),
            "progress": min(1.0, self.settings.progress(state["step"], state["seconds"])),
            "loss": sum(window) / len(window) if window else math.nan,
            "validation": state["validation"] if fresh else math.nan,
            "seconds": state["seconds"],
        }
        window.clear()
        append_row(self.out / CURVE, row)
        report(row)

    def save(self) -> None:
        content = {
            "model": self.module.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "state": dict(self.state),
        }
        save_checkpoint(self.out / CHECKPOINT, content)

    def restore(self) -> None:
        path = self.out / CHECKPOINT
        content = read_checkpoint(path, CHECKPOINT_PARTS)
        check_same(content["state"].get("stamp", {}), self.stamp, self.out)
        try:
            self.module.load_state_dict(content["model"])
            self.optimiser.load_state_dict(content["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path} is a checkpoint of another model; use --no-resume or another folder.") from error
        self.best = content["best"]
        self.generator.set_state(content["generator"])
        self.state = dict(content["state"])
        cut_curve(self.out / CURVE, self.state["step"])


def make_optimiser(module: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW over all that can be trained, biases without decay unless the settings say otherwise."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    biases = [p for name, p in named if name.endswith("bias") and not settings.decay_biases]
    rest = [p for name, p in named if not name.endswith("bias") or settings.decay_biases]
    groups = [
        {"params": rest, "weight_decay": settings.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
