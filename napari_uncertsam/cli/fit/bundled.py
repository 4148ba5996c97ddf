"""``fit bundled``: train the model that comes with the package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from napari_uncertsam.cli.fit.common import DeviceOption, MinutesOption, ResumeOption, start_run
from napari_uncertsam.cli.fit.curve import RunBar, say_curve
from napari_uncertsam.errors import InputError

_WEIGHTS = Path(__file__).parents[2] / "weights"


def fit_bundled(
    out: Annotated[Path, typer.Option(help="Folder for the weights, the checkpoint and the loss curve.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the schedule.")] = 8000,
    minutes: MinutesOption = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, scenes and prompts.")] = 0,
    images: Annotated[int, typer.Option(min=1, help="Synthetic images per step.")] = 4,
    prompts: Annotated[int, typer.Option(min=2, help="Prompts per image.")] = 8,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
    install: Annotated[
        bool, typer.Option("--install", help="Put the result into this installation as its bundled model.")
    ] = False,
) -> None:
    """Train the bundled model on synthetic images; writes bundled.safetensors, curve.csv and curve.png."""
    if prompts % 2:
        raise InputError(f"{prompts} prompts per image cannot be halved between boxes and points; give an even number.")
    from napari_uncertsam.devices import choose_device, device_label
    from napari_uncertsam.training.bundled import CHECKPOINT_PARTS, Settings, fit

    start_run(out, resume, CHECKPOINT_PARTS)
    chosen = choose_device(device)
    settings = Settings(steps=steps, minutes=minutes, images=images, prompts=prompts, seed=seed)
    typer.echo(f"Training on {device_label(chosen)}, seed {seed}; stop with Ctrl+C, continue with the same command.")
    with RunBar() as bar:
        weights = fit(
            settings, out, config=_WEIGHTS / "bundled.yaml", device=str(chosen), report=bar.report, resume=resume
        )
    typer.echo(f"Weights: {weights}")
    say_curve(out)
    if install:
        target = _WEIGHTS / "bundled.safetensors"
        partial = target.with_name(".bundled.part")
        shutil.copyfile(weights, partial)
        partial.replace(target)
        typer.echo(f"Installed as the bundled model: {target}")
