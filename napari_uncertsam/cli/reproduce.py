"""``reproduce``: a paper's tables on your own data and checkpoint, beside the numbers that it printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_uncertsam.errors import CheckpointError, InputError


def reproduce(
    paper: Annotated[str, typer.Argument(help="uncertsam or medsam-u.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the results; continued if it holds an unfinished run.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder above all datasets; by default $NAPARI_UNCERTSAM_DATA, or ./data.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A name of `models list`, or a checkpoint's path; by default sam2-large (UncertSAM's) or "
            "sam2.1-base-plus (the size of MedSAM).",
            show_default=False,
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of an own checkpoint.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    datasets: Annotated[str, typer.Option(help="Only these of the paper's datasets, comma-separated.")] = "",
    split: Annotated[str, typer.Option(help="test, or what else the datasets have.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images of each, spread over all.")] = None,
    overlap: Annotated[
        str, typer.Option(help="What MedSAM-U's overlap of boxes is: iou, or coverage of the true box.")
    ] = "iou",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start over, whatever --out holds.")] = False,
) -> None:
    """Run a paper's tables and print ours beside the published numbers, with a reason where nothing can run."""
    from typing import cast

    from napari_uncertsam.cli.bars import Bar
    from napari_uncertsam.cli.evaluate import names
    from napari_uncertsam.cli.segment import load_engine
    from napari_uncertsam.evaluation import reproduce as tables
    from napari_uncertsam.evaluation.simulate.boxes import Overlap

    chosen = tables.find_paper(paper)
    settings = tables.ReproductionSettings(
        chosen.key, model or chosen.model, seed=seed, overlap=cast(Overlap, overlap), split=split
    )
    collection = tables.open_datasets(chosen, data, split=split, only=names(datasets))
    problem = (
        f"None of the datasets of {chosen.title} could be opened in {collection.root}, so nothing was run; the reasons "
        "are above, and --data names another folder."
    )
    engine = None
    if collection.found:
        try:
            engine = load_engine(settings.model, config, device)
        except CheckpointError as error:
            problem = str(error)
    if engine is None:
        show(tables.make_document(chosen, settings, collection, None, tables.NOTHING, problem=problem))
        raise InputError(problem)
    with Bar(chosen.title) as bar:
        document = tables.reproduce(
            chosen,
            collection,
            engine,
            settings,
            out,
            limit=limit,
            overwrite=overwrite,
            report=lambda progress: bar.report(progress.done, progress.total),
        )
    show(document)
    for name in (tables.DOCUMENT, tables.PAGE):
        typer.echo(str(out / name))
    if not tables.ran(document):
        raise InputError("No mask of the datasets could be measured; the reasons are above.")


def show(document: Mapping[str, Any]) -> None:
    """Print the tables, the reasons that they refer to, and how the numbers come about."""
    from rich.console import Console
    from rich.table import Table

    from napari_uncertsam.evaluation.reproduce import table as text

    console = Console(width=None if Console().is_terminal else 160)
    for published in document["tables"]:
        headings = text.headings(document, published)
        labels = headings.index("masks")
        grid = Table(title=text.title(published))
        for number, title in enumerate(headings):
            grid.add_column(title, justify="right" if number >= labels else "left")
        above: list[str] = []
        for line in text.lines(document, published):
            row, rest = line[: labels - 1], line[labels - 1 :]  # name and model once, then its datasets
            if row != above and above:
                grid.add_section()
            grid.add_row(*([""] * len(row) if row == above else row), *(part.replace(" (", "\n(") for part in rest))
            above = row
        console.print(grid)
    for number, reason in enumerate(text.reasons(document), 1):
        typer.echo(f"[{number}] {reason}")
    if not text.ran(document):
        return
    for sentence in (*text.about(document), *text.data_lines(document)):
        typer.echo(f"- {sentence}")
    for sentence in text.left_out(document):
        typer.echo(f"Left out: {sentence}", err=True)
