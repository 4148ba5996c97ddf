"""``models list``, ``models download`` and ``models verify``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uncertsam.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

models_app = typer.Typer(help="The model checkpoints: list, download, verify.", no_args_is_help=True)

_SENTENCES = {
    "ok": "is complete and as published",
    "missing": "is not downloaded",
    "corrupt": "is damaged; run `napari-uncertsam models download {name}` after deleting {path}",
    "unverified": "is there and opens, but no checksum was published to compare it with",
}


@models_app.command("list")
def list_() -> None:
    """List every model, its size, licence, and whether its file is here."""
    from rich.console import Console
    from rich.table import Table

    from napari_uncertsam.checkpoints import cache_dir, list_models

    table = Table(box=None, pad_edge=False)
    for column in ("model", "MB", "here", "licence", "what it is"):
        table.add_column(column, justify="right" if column == "MB" else "left", no_wrap=column == "model")
    for row in list_models():
        size = "" if row.size is None else f"{row.size / 1e6:.0f}"
        table.add_row(row.name, size, "yes" if row.downloaded else "no", row.licence, row.title)
    # A pipe has no width; wrapped cells would break whoever reads line by line.
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
    typer.echo(f"Downloads are kept in {cache_dir()}")


@models_app.command()
def download(name: Annotated[str, typer.Argument(help="As in `models list`.")]) -> None:
    """Download a model, continuing where an earlier attempt was cut, and check its sha256."""
    path = _download(name)
    typer.echo(f"{name} is ready: {path}")


def _download(name: str) -> Path:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from napari_uncertsam.checkpoints import cached
    from napari_uncertsam.checkpoints import download as fetch

    cached(name)  # an unknown name is told before a bar is drawn
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        return fetch(name, progress=lambda done, total: bar.update(task, completed=done, total=total))


@models_app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One model; without it, every model that is here.")] = None,
) -> None:
    """Compare checkpoint files with their published sha256; exit code 2 when one is damaged or NAME is missing."""
    from napari_uncertsam.checkpoints import CHECKPOINTS, cached
    from napari_uncertsam.checkpoints import verify as check

    names = [name] if name is not None else [n for n in CHECKPOINTS if cached(n) is not None]
    bad = []
    for each in names:
        status = check(each)
        sentence = _SENTENCES[status].format(name=each, path=cached(each))
        typer.echo(f"{each}: {status}")
        if status in ("missing", "corrupt"):
            bad.append(f"{each} {sentence}")
        elif status == "unverified":
            typer.echo(f"{each} {sentence}.", err=True)
    if not names:
        typer.echo("No model is here yet; see `napari-uncertsam models list`.")
    if bad:
        hint = f"; get it with `napari-uncertsam models download {name}`" if bad[0].endswith("downloaded") else ""
        raise CheckpointError("; ".join(bad) + hint + ".")
