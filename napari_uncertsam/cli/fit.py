"""``fit bundled``: train the model that comes with the package."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_uncertsam.errors import InputError

fit_app = typer.Typer(help="Train what the package can train.", no_args_is_help=True)

_WEIGHTS = Path(__file__).parents[1] / "weights"


@fit_app.callback()
def _group() -> None:
    """Train what the package can train."""


@fit_app.command()
def bundled(
    out: Annotated[Path, typer.Option(help="Folder for the weights, the checkpoint and the loss curve.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the schedule.")] = 8000,
    minutes: Annotated[
        float, typer.Option(min=0, help="If above 0, end after so many minutes instead of after --steps.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, scenes and prompts.")] = 0,
    images: Annotated[int, typer.Option(min=1, help="Synthetic images per step.")] = 4,
    prompts: Annotated[int, typer.Option(min=2, help="Prompts per image.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Continue from checkpoint.pt in --out, or start over.")
    ] = True,
    install: Annotated[
        bool, typer.Option("--install", help="Put the result into this installation as its bundled model.")
    ] = False,
) -> None:
    """Train the bundled model on synthetic images; writes bundled.safetensors, curve.csv and curve.png."""
    if prompts % 2:
        raise InputError(f"{prompts} prompts per image cannot be halved between boxes and points; give an even number.")
    _prepare(out, resume)
    from napari_uncertsam.devices import choose_device, device_label
    from napari_uncertsam.training.bundled import Settings, fit

    chosen = choose_device(device)
    settings = Settings(steps=steps, minutes=minutes, images=images, prompts=prompts, seed=seed)
    typer.echo(f"Training on {device_label(chosen)}, seed {seed}; stop with Ctrl+C, continue with the same command.")
    with _Bar() as bar:
        weights = fit(
            settings, out, config=_WEIGHTS / "bundled.yaml", device=str(chosen), report=bar.report, resume=resume
        )
    typer.echo(f"Weights: {weights}")
    curve = out / "curve.csv"
    if curve.is_file():  # a run of a few steps has none
        typer.echo(f"Loss curve: {plot_curve(curve) or curve}")
    if install:
        target = _WEIGHTS / "bundled.safetensors"
        partial = target.with_name(".bundled.part")
        shutil.copyfile(weights, partial)
        partial.replace(target)
        typer.echo(f"Installed as the bundled model: {target}")


def _prepare(out: Path, resume: bool) -> None:
    """Make the folder; without `resume` remove the curve of the run that is given up; else check its checkpoint."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out the name of a folder.")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if not resume:
        (out / "curve.csv").unlink(missing_ok=True)
    elif checkpoint.exists():
        import pickle

        import torch

        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
            complete = {"model", "average", "optimiser", "generator", "state"} <= set(content)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, TypeError):
            complete = False
        if not complete:
            raise InputError(f"{checkpoint} is damaged or no training checkpoint; delete it or use --no-resume.")


class _Bar:
    """A progress bar with the time left, from the training loop's reports."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn

        columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), "{task.fields[left]}")
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("training", total=1.0, left="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self._progress.update(self._task, completed=1.0, left="")
        self._progress.stop()

    def report(self, row: dict[str, Any]) -> None:
        """Show one row of the curve."""
        # Rich estimates from the last seconds; the loop knows all of its own, earlier runs included.
        left = row["seconds"] * (1 - row["progress"]) / max(row["progress"], 1e-6)
        text = f"step {row['step']:.0f}  loss {row['loss']:.3f}  IoU {row['iou']:.3f}"
        self._progress.update(
            self._task, completed=row["progress"], description=text, left=f"{left / 60:.0f} min left", refresh=True
        )


def plot_curve(curve: Path) -> Path | None:
    """Draw ``curve.csv`` as ``curve.png`` beside it.

    Returns
    -------
    Path or None
        None where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    with curve.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    for axes, name, colour in ((left, "loss", "tab:red"), (right, "iou", "tab:blue")):
        axes.plot([int(float(r["step"])) for r in rows], [float(r[name]) for r in rows], color=colour, linewidth=0.8)
        axes.set_ylabel("IoU of the opening prediction" if name == "iou" else name, color=colour)
    left.set_xlabel("step")
    right.set_ylim(0, 1)
    picture = curve.with_suffix(".png")
    figure.savefig(picture, dpi=120)
    return picture
