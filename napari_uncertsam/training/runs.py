"""The folder of a training run: its loss curve, and a checkpoint from which it goes on to the same numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from napari_uncertsam.errors import InputError

CHECKPOINT, CURVE = "checkpoint.pt", "curve.csv"


def warm_cosine(progress: float, step: int, warmup: int, final: float = 0.01) -> float:
    """Factor on a learning rate: linear warm-up over so many steps, cosine decay to `final` over the schedule.

    Examples
    --------
    >>> [round(warm_cosine(p, 100, 10), 3) for p in (0.0, 0.5, 1.0)]
    [1.0, 0.505, 0.01]
    """
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return min(1.0, (step + 1) / warmup) * (final + (1 - final) * cosine)


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a loss curve, which gets its header with the first; what is not a number is left empty."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, row.keys())
        if new:
            writer.writeheader()
        writer.writerow({k: "" if math.isnan(v) else round(v, 5) for k, v in row.items()})


def cut_curve(path: Path, step: int) -> None:
    """Drop rows after a step: the run goes on from an earlier checkpoint and comes by there again."""
    if not path.is_file():
        return
    head, *rows = path.read_text("utf-8").splitlines(keepends=True)
    kept = [row for row in rows if float(row.partition(",")[0]) <= step]
    path.write_text("".join([head, *kept]), "utf-8")


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint; the file is complete, or the one before is still there."""
    partial = path.with_suffix(".part")
    torch.save(dict(content), partial)
    partial.replace(path)


def read_checkpoint(path: Path, names: frozenset[str] | set[str]) -> dict[str, Any]:
    """Read a checkpoint that has to hold everything in `names`.

    Raises
    ------
    InputError
        If the file is damaged or something else.
    """
    import pickle

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        complete = isinstance(content, dict) and set(names) <= set(content)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, TypeError, KeyError):
        complete = False
    if not complete:
        raise InputError(f"{path} is damaged or no training checkpoint; delete it or use --no-resume.")
    return dict(content)


def check_same(earlier: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with what was begun differently.

    Raises
    ------
    InputError
        If a value differs; the sentence names the earlier ones.
    """
    other = [f"{key} = {earlier.get(key, 'nothing')}" for key in now if earlier.get(key) != now[key]]
    if other:
        raise InputError(
            f"The checkpoint in {folder} was trained with {', '.join(other)}; use the same or --no-resume."
        )
