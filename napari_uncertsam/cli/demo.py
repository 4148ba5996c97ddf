"""``demo``: napari on the sample CT with a first prediction; where nobody can see a window, a picture of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_uncertsam.errors import InputError


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the results where there is no display.")] = Path(
        "demo-output"
    ),
) -> None:
    """Open napari on a sample CT with a box, its mask, uncertainty and suggestions; without a display, save them."""
    from napari_uncertsam.cli.display import has_display, virtual_display

    if has_display():
        from napari_uncertsam.ui.demo import show

        show()
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out the name of a folder.")
    with virtual_display() as where:
        typer.echo(f"There is no display here, so napari opens in a virtual one ({where}).")
        from napari_uncertsam.ui.demo import save

        result = save(out)
    typer.echo(result.sentence)
    for path in result.paths:
        typer.echo(str(path))
