"""``prepare``: bring a source of UncertSAM's benchmark into the benchmark's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    name: Annotated[
        str,
        typer.Argument(help="big, coift, cod10k, msd-spleen, istd, sbu, flare7k or trans10k.", show_default=False),
    ],
    raw: Annotated[Path, typer.Argument(help="Folder with the publisher's files, extracted.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder above all datasets; NAME gets a folder in it.", show_default=False)],
    split: Annotated[str, typer.Option(help="test, val or train, as far as the publisher has them.")] = "test",
    min_pixels: Annotated[
        int, typer.Option(min=0, help="Connected components have to be larger than so many pixels.")
    ] = 1000,
    closings: Annotated[
        int, typer.Option(min=0, help="Dilations, then erosions, by 3 x 3 before components are told apart.")
    ] = 2,
    quality: Annotated[
        int, typer.Option(min=1, max=95, help="Of pictures that are not JPEGs already; those are copied.")
    ] = 95,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files that are damaged or do not fit, and list them.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a split that was prepared before.")] = False,
) -> None:
    """Bring a source of UncertSAM's benchmark into its layout, OUT/NAME/SPLIT; continues an interrupted run."""
    from napari_uncertsam.cli.bars import Bar
    from napari_uncertsam.evaluation.datasets.known import find_known
    from napari_uncertsam.evaluation.datasets.prepare import Options
    from napari_uncertsam.evaluation.datasets.prepare import prepare as run

    title = find_known(name).title
    options = Options(min_pixels=min_pixels, closings=closings, quality=quality)
    with Bar(f"{title}, {split}") as bar:
        done = run(
            name,
            raw,
            out,
            split=split,
            options=options,
            overwrite=overwrite,
            skip_bad=skip_bad,
            report=bar.report,
        )
    for sentence in done.skipped.values():
        typer.echo(f"Left out: {sentence}", err=True)
    if done.empty:
        typer.echo(f"Left out, because no object is large enough: {done.empty}")
    typer.echo(f"{title}, {split}: {done.images} images with {done.masks} masks in {done.folder}")
