"""How the memory of a model is trained."""

from __future__ import annotations

from dataclasses import dataclass

from napari_uncertsam.errors import InputError
from napari_uncertsam.training.runs import warm_cosine


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
        return warm_cosine(progress, step, self.warmup)
