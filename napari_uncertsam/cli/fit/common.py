"""What the commands of ``fit`` share: their options, and a fit of one part of a model from options to sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from napari_uncertsam.engine import Sam2Engine
    from napari_uncertsam.training.sources import TrainingData

ModelOption = Annotated[
    str, typer.Option(help="A name of `models list`, or a checkpoint's path; +adapter behind it for its MPA adapter.")
]
ConfigOption = Annotated[str | None, typer.Option(help="Configuration of an own checkpoint.")]
DataOption = Annotated[
    str | None,
    typer.Option(help="Train on a dataset: a folder with images/ and masks/, or a known one. Synthetic without."),
]
SplitOption = Annotated[str, typer.Option(help="Of a dataset that has splits.")]
WholeOption = Annotated[
    bool, typer.Option("--whole/--zoom", help="Of --data, whole images as in the paper, or crops around an object.")
]
StepsOption = Annotated[int, typer.Option(min=1, help="Optimiser steps, one image each.")]
MinutesOption = Annotated[
    float, typer.Option(min=0, help="If above 0, end after so many minutes instead of after --steps.")
]
RateOption = Annotated[float, typer.Option(help="Learning rate; the paper's suits its 17,500 steps.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder for the part, the checkpoint and the loss curve; by default in the cache.")
]
InstallOption = Annotated[
    bool, typer.Option("--install", help="Put the result where the widget and the commands find it.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Continue from checkpoint.pt in --out, or start over.")
]


@dataclass(frozen=True)
class PartOptions:
    """Options that fitting any part of a model has; see the option types of this module for their meaning.

    Parameters
    ----------
    kind : str
        Of `napari_uncertsam.checkpoints.KINDS`.
    model, config, device, data, split, whole, seed, out, install, resume
        As given on the command line.
    """

    kind: str
    model: str = "bundled"
    config: str | None = None
    device: str = "auto"
    data: str | None = None
    split: str = "train"
    whole: bool = False
    seed: int = 0
    out: Path | None = None
    install: bool = False
    resume: bool = True


#: Fits a part in a folder, reporting rows with step, progress, seconds and measurements; gives the file of the part.
Fit = Callable[["Sam2Engine", "TrainingData", Path, Callable[[Mapping[str, float]], None]], Path]


def fit_part(options: PartOptions, fit: Fit, checkpoint_parts: frozenset[str] | None = None) -> Path:
    """Fit one part of a model with progress; draw the loss curve, install the part if asked to, and say what was done.

    Parameters
    ----------
    options : PartOptions
    fit : callable
        Takes the engine, the training data, the folder of the run and where to report.
    checkpoint_parts : frozenset of str, optional
        What a checkpoint of this training holds, by default what `train_head` saves.

    Returns
    -------
    Path of the part in the run's folder.
    """
    from napari_uncertsam.checkpoints import KINDS, install_part
    from napari_uncertsam.cli.fit.curve import RunBar, say_curve
    from napari_uncertsam.training.loop import CHECKPOINT_PARTS

    engine = open_engine(options)
    data = open_data(options)
    out = options.out or default_folder(options.kind, engine.sha256)
    start_run(out, options.resume, CHECKPOINT_PARTS if checkpoint_parts is None else checkpoint_parts)
    typer.echo(
        f"Fitting the {KINDS[options.kind]} of {engine.name} on {data.training.name}, {engine.device_label}, seed "
        f"{options.seed}; stop with Ctrl+C, continue with the same command."
    )
    with RunBar(KINDS[options.kind]) as bar:
        path = fit(engine, data, out, bar.report)
    typer.echo(f"{KINDS[options.kind][0].upper() + KINDS[options.kind][1:]}: {path}")
    say_curve(out)
    if not options.install:
        typer.echo("To use it, run the same command once more with --install: nothing is fitted again.")
    else:
        typer.echo(f"Installed for {engine.name}: {install_part(path, options.kind, engine.sha256)}")
    return path


def open_engine(options: PartOptions) -> Sam2Engine:
    """The model whose part is fitted."""
    from napari_uncertsam.engine import Sam2Engine

    return Sam2Engine.load(options.model, options.config, options.device)


def open_data(options: PartOptions) -> TrainingData:
    """Synthetic images, or the dataset that was asked for."""
    from napari_uncertsam.training.sources import dataset_data, synthetic_data

    if options.data is None:
        return synthetic_data()
    from napari_uncertsam.evaluation.datasets import open_dataset

    dataset: Any = open_dataset(options.data, split=options.split)
    return dataset_data(dataset, seed=options.seed, framing="whole" if options.whole else "zoom")


def default_folder(kind: str, sha256: str) -> Path:
    """Where a part of a checkpoint is trained unless the user says otherwise."""
    from napari_uncertsam.checkpoints import cache_dir

    return cache_dir() / "training" / sha256[:16] / kind


def start_run(out: Path, resume: bool, parts: frozenset[str]) -> None:
    """Make the folder of a run; with `resume` see that its checkpoint is whole, else drop what the run before left.

    Raises
    ------
    InputError
        If the folder is a file, or its checkpoint is damaged.
    """
    from napari_uncertsam.training.runs import CHECKPOINT, CURVE, read_checkpoint

    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out the name of a folder.")
    out.mkdir(parents=True, exist_ok=True)
    if not resume:
        (out / CURVE).unlink(missing_ok=True)
    elif (out / CHECKPOINT).exists():
        read_checkpoint(out / CHECKPOINT, parts)
