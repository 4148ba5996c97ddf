"""``fit memory``: train a model to follow objects through the slices of a volume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from napari_uncertsam.cli.fit.common import ConfigOption, DeviceOption, MinutesOption, ResumeOption, start_run
from napari_uncertsam.cli.fit.curve import RunBar, say_curve
from napari_uncertsam.errors import InputError

_TARGET = Path(__file__).parents[2] / "weights" / "bundled.safetensors"


def fit_memory(
    out: Annotated[Path, typer.Option(help="Folder for the weights, the checkpoint and the loss curve.")],
    weights: Annotated[str, typer.Option(help="`bundled`, or the safetensors file of a model.")] = "bundled",
    config: ConfigOption = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the schedule.")] = 1500,
    minutes: MinutesOption = 0.0,
    size: Annotated[int, typer.Option(min=0, help="Side of the frames, a multiple of 32; 0 for the model's.")] = 0,
    objects: Annotated[int, typer.Option(min=1, help="Most objects that are followed in a clip.")] = 2,
    decoder_rate: Annotated[
        float, typer.Option(min=0, help="Rate of the mask decoder as a fraction; 0 keeps single images as they are.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of clips and prompts.")] = 0,
    device: DeviceOption = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw clips; changes no number.")] = 0,
    resume: ResumeOption = True,
    install: Annotated[
        bool, typer.Option("--install", help="Put the result into this installation as its bundled model.")
    ] = False,
) -> None:
    """Train the memory of a model on synthetic volumes; its masks of single images stay as they are."""
    from napari_uncertsam.checkpoints import resolve
    from napari_uncertsam.devices import choose_device, device_label
    from napari_uncertsam.training import memory
    from napari_uncertsam.training.memory_settings import MemorySettings

    found = resolve(weights, config)
    if install and Path(found.config).name != "bundled.yaml":
        raise InputError("Only a model of bundled.yaml can be the bundled one; give it to --config, or no --install.")
    if found.path.suffix != ".safetensors":
        raise InputError(f"{found.path} is no safetensors file; give one to --weights.")
    start_run(out, resume, memory.CHECKPOINT_PARTS)
    chosen = choose_device(device)
    settings = MemorySettings(
        steps=steps,
        minutes=minutes,
        size=size,
        objects=objects,
        decoder_rate=decoder_rate,
        seed=seed,
        precision="bfloat16" if chosen.type == "cuda" else "float32",
    )
    typer.echo(
        f"Training the memory of {found.name} on {device_label(chosen)}, seed {seed}; stop with Ctrl+C, continue with "
        "the same command."
    )
    with RunBar("memory") as bar:
        path, sentence = memory.fit_memory(
            settings,
            out,
            weights=found.path,
            config=found.config,
            device=str(chosen),
            workers=workers,
            report=bar.report,
            resume=resume,
        )
    typer.echo(sentence)
    typer.echo(f"Weights: {path}")
    say_curve(out)
    if install:
        partial = _TARGET.with_name(".bundled.part")
        shutil.copyfile(path, partial)
        partial.replace(_TARGET)
        typer.echo(f"Installed as the bundled model: {_TARGET}")
