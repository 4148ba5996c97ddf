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
    start: Annotated[
        list[str],
        typer.Option(
            help="What to begin with: imagenet (the trunk; extra `train`), random, or a checkpoint, of which all is "
            "taken that fits. Several may be given; later ones win."
        ),
    ] = ["imagenet"],  # noqa: B006  (typer reads it, nobody changes it)
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the schedule.")] = 8000,
    minutes: MinutesOption = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, scenes and prompts.")] = 0,
    images: Annotated[int, typer.Option(min=1, help="Synthetic images per step.")] = 4,
    prompts: Annotated[int, typer.Option(min=2, help="Prompts per image.")] = 6,
    size: Annotated[
        list[int], typer.Option(help="Sides of the scenes in pixels; each step has one of those given.")
    ] = [512],  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, help="Fewest decodes per prompt: the opening and corrections.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Reached after the warm-up.")] = 4e-4,
    final: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the learning rate that is left at the end.")
    ] = 0.01,
    freeze: Annotated[int, typer.Option(min=0, max=7, help="Stages of the trunk that are not trained.")] = 0,
    clip_every: Annotated[
        int, typer.Option(min=0, help="Every so many steps a synthetic clip is followed, too, by the memory; 0: never.")
    ] = 0,
    clip_size: Annotated[int, typer.Option(min=0, help="Side of its frames in pixels; 0 for the model's.")] = 0,
    boxes_until: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the schedule with boxes only, for a start from random weights."),
    ] = 0.0,
    dice: Annotated[float, typer.Option(min=0, help="Weight of soft Dice at the end; it begins with 1.")] = 0.5,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 on a GPU.")] = "float32",
    ranks: Annotated[int, typer.Option(min=1, help="Processes that train together: one for each core, or GPU.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes beside each that draw scenes; for a GPU.")] = 0,
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

    chosen = choose_device(device)
    settings = Settings(
        steps=steps,
        minutes=minutes,
        images=images,
        prompts=prompts,
        ranks=ranks,
        sizes=tuple(size),
        rounds=rounds,
        start=tuple(s for s in start if s != "random"),
        learning_rate=learning_rate,
        final=final,
        freeze=freeze,
        clip_every=clip_every,
        clip_size=clip_size,
        boxes_until=boxes_until,
        dice=dice,
        precision=precision,
        seed=seed,
    )
    start_run(out, resume, CHECKPOINT_PARTS)
    typer.echo(f"Training on {device_label(chosen)}, seed {seed}; stop with Ctrl+C, continue with the same command.")
    with RunBar() as bar:
        weights = fit(
            settings,
            out,
            config=_WEIGHTS / "bundled.yaml",
            device=str(chosen),
            workers=workers,
            report=bar.report,
            resume=resume,
        )
    typer.echo(f"Weights: {weights}")
    say_curve(out)
    if install:
        target = _WEIGHTS / "bundled.safetensors"
        partial = target.with_name(".bundled.part")
        shutil.copyfile(weights, partial)
        partial.replace(target)
        typer.echo(f"Installed as the bundled model: {target}")
