"""How a training is going: a bar with the time left, and its loss curve as a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import typer

#: What a row says besides its measurements.
_BOOKKEEPING = ("step", "progress", "seconds")
_TITLES = {"iou": "IoU", "corrected": "corrected IoU"}
_LABELS = {
    "iou": "IoU of the opening prediction",
    "corrected": "after the last correction",
    "validation": "validation loss",
}
#: Drawn on the right, from 0 to 1.
_RATIOS = ("iou", "corrected", "dice", "validation_dice")


class RunBar:
    """A progress bar with the time left, from the rows that a training reports.

    Parameters
    ----------
    title : str
        Shown before the first row.
    """

    def __init__(self, title: str = "training") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn

        columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), "{task.fields[left]}")
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(title, total=1.0, left="")
        self._measured: dict[str, float] = {}

    def __enter__(self) -> RunBar:
        self._progress.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._progress.update(self._task, completed=1.0, left="")
        # What cannot work is said in one sentence; how far it came is worth a line when it was stopped.
        self._progress.live.transient = error is not None and issubclass(error, Exception)
        self._progress.stop()

    def report(self, row: Mapping[str, float]) -> None:
        """Show one row: ``step``, ``progress`` in [0, 1], ``seconds`` and measurements; NaN keeps the one before."""
        # Rich estimates from the last seconds; the loop knows all of its own, earlier runs included.
        left = row["seconds"] * (1 - row["progress"]) / max(row["progress"], 1e-6)
        self._measured |= {k: v for k, v in row.items() if k not in _BOOKKEEPING and not math.isnan(v)}
        values = (f"{_TITLES.get(name, name)} {value:.3f}" for name, value in self._measured.items())
        self._progress.update(
            self._task,
            completed=row["progress"],
            description="  ".join([f"step {row['step']:.0f}", *values]),
            left=f"{left / 60:.0f} min left",
            refresh=True,
        )


def say_curve(out: Path) -> None:
    """Draw the loss curve of a run and say where it is; a run of a few steps may have none."""
    curve = out / "curve.csv"
    if curve.is_file():
        typer.echo(f"Loss curve: {plot_curve(curve) or curve}")


def plot_curve(curve: Path) -> Path | None:
    """Draw ``curve.csv`` as ``curve.png`` beside it: losses on the left, intersection over union on the right.

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
    names = [name for name in (rows[0] if rows else ()) if name not in _BOOKKEEPING]
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    axes = {name: left for name in names}
    ratios = [name for name in names if name in _RATIOS]
    if ratios:
        right = left.twinx()
        right.set_ylim(0, 1)
        axes |= dict.fromkeys(ratios, right)
    styles = zip(names, ("tab:red", "tab:blue", "tab:green", "tab:purple"), strict=False)
    for name, colour in styles:
        points = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        steps, values = zip(*points, strict=True) if points else ((), ())
        style = ".-" if len(points) < len(rows) or len(points) < 3 else "-"  # a line needs two points to be seen
        label = _LABELS.get(name, name)
        axes[name].plot(steps, values, style, color=colour, linewidth=0.8, label=label)
    for single in set(axes.values()):
        shown = [name for name in names if axes[name] is single]
        single.set_ylabel(" and ".join(_LABELS.get(name, name) for name in shown))
    left.set_xlabel("step")
    if names:
        figure.legend(loc="outside upper center", ncols=len(names))
    picture = curve.with_suffix(".png")
    figure.savefig(picture, dpi=120)
    return picture
