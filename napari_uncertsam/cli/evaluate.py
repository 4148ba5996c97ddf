"""``evaluate``: methods and prompts on a dataset with true masks; tables, a report, and what the inspector opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from napari_uncertsam.evaluation.cases import Dataset
    from napari_uncertsam.evaluation.results import Results

#: With fewer groups, bootstrap intervals are known to be too narrow.
FEW_GROUPS = 10
#: Measures that the command prints, as far as there is room; the files have all of them.
SHOWN = ("dice", "biou_2", "hd95", "rho_hard_roi", "ause_roi", "nll_roi", "ece_roi")


def names(text: str) -> tuple[str, ...]:
    """Names from a comma-separated list, without empty ones.

    Examples
    --------
    >>> names("entropy, prompt,")
    ('entropy', 'prompt')
    """
    return tuple(name for part in text.split(",") if (name := part.strip()))


def evaluate(
    dataset: Annotated[
        str, typer.Argument(help="Folder with images/ and masks/, or a known dataset's folder or name.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; continued if it holds an unfinished evaluation.")],
    methods: Annotated[
        str | None,
        typer.Option(
            help="Uncertainty methods, comma-separated; METHOD:MEASURE for another measure. Without it entropy and "
            "laplace, or prompt where the model has no posterior yet."
        ),
    ] = None,
    prompts: Annotated[
        str,
        typer.Option(help="Comma-separated: gt-box, noisy-box, box-R, boxes-N-R, points-K, click; joined by +."),
    ] = "gt-box",
    model: Annotated[str, typer.Option(help="A name of `models list`, or a checkpoint's path.")] = "bundled",
    config: Annotated[str | None, typer.Option(help="Configuration of an own checkpoint.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="Folder above all datasets; by default $NAPARI_UNCERTSAM_DATA, or ./data.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of datasets that have splits.")] = "test",
    every: Annotated[int | None, typer.Option(min=1, help="Of a volume, every so many slices.")] = None,
    min_area: Annotated[int | None, typer.Option(min=1, help="Leave out objects of fewer pixels on a slice.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images, spread over all.")] = None,
    zoom: Annotated[bool, typer.Option("--zoom/--no-zoom", help="Look at the prompt's surroundings only.")] = True,
    window: Annotated[
        str | None, typer.Option(help='Intensities: a CT preset such as "lung", or LOW,HIGH; automatic without it.')
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Of the normalised surface distance, mm or pixels.")] = 2.0,
    apart: Annotated[str, typer.Option(help="Modalities to leave out of the overall means, comma-separated.")] = "",
    annotators: Annotated[
        str,
        typer.Option(
            help="Simulated annotators, comma-separated: information (the widget's questions), mutual-information, "
            "entropy, ugpa, random, largest-error."
        ),
    ] = "",
    clicks: Annotated[int, typer.Option(min=0, help="Answers of an annotator at most.")] = 10,
    wrong_rate: Annotated[float, typer.Option(min=0, max=1, help="How often an annotator errs.")] = 0.0,
    conditioning: Annotated[
        bool,
        typer.Option(
            "--conditioning/--no-conditioning",
            help="An annotator's answers condition the mask, or only prompt the model.",
        ),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Keep predictions, to look at them later.")] = True,
    worst: Annotated[int, typer.Option(min=0, help="Pictures of so many worst cases in the report.")] = 12,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start over, whatever --out holds.")] = False,
) -> None:
    """Measure methods and prompts on a dataset; write results.json, results.csv and report.html."""
    from napari_uncertsam.cli.bars import Bar
    from napari_uncertsam.cli.segment import default_method, load_engine, parse_window
    from napari_uncertsam.evaluation import benchmark
    from napari_uncertsam.evaluation.datasets import open_dataset
    from napari_uncertsam.evaluation.simulate import parse_prompts
    from napari_uncertsam.pipeline import Pipeline

    settings = benchmark.EvaluationSettings(
        ("entropy",) if methods is None else tuple(dict.fromkeys(names(methods))),
        parse_prompts(prompts),
        model=model,
        zoom=zoom,
        seed=seed,
        tolerance=tolerance,
        apart=names(apart),
        annotators=tuple(dict.fromkeys(names(annotators))),
        clicks=clicks,
        wrong_rate=wrong_rate,
        conditioning=conditioning,
        maps=maps,
        window=parse_window(window),
    )
    options = {name: v for name, v in (("every", every), ("min_area", min_area)) if v is not None}
    opened = open_dataset(dataset, root=data, split=split, **options)
    pipeline = Pipeline(load_engine(model, config, device))
    if methods is None:
        settings = replace(settings, methods=("entropy", default_method(pipeline.engine)))
    with Bar(opened.name) as bar:
        results = benchmark.evaluate(
            opened,
            pipeline,
            settings,
            out,
            opened=opened_with(dataset, data, split if has_splits(opened) else None, options),
            limit=limit,
            overwrite=overwrite,
            report=lambda progress: bar.report(progress.done, progress.total),
            say=lambda sentence: typer.echo(sentence, err=True),
        )
    show(results)
    typer.echo(write(results, worst))


def has_splits(dataset: Dataset) -> bool:
    """Whether it matters which split was asked for; a plain folder has none."""
    from napari_uncertsam.evaluation.datasets import FolderDataset

    return not isinstance(dataset, FolderDataset)


def opened_with(where: str, root: Path | None, split: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """What opens the dataset again from any folder: its path, or its name and the folder above all datasets."""
    from napari_uncertsam.evaluation.datasets import data_root

    by_name = not Path(where).is_dir()
    place = (
        {"where": where, "root": str(data_root(root).resolve())} if by_name else {"where": str(Path(where).resolve())}
    )
    return place | {"split": split, "options": options}


def show(results: Results) -> None:
    """Print what was left out, the means, and what annotators reached."""
    from rich.console import Console

    document = results.document
    for failure in document["failed"]:
        typer.echo(f"Left out: {failure['image']}: {failure['reason']}", err=True)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(_means(results, columns=max(1, (console.width - 32) // 16)))
    if document["annotators"]:
        console.print(_effort(document["annotators"]))


def _means(results: Results, columns: int) -> Table:
    """Means of all that is not set apart, of as many measures as there is room for, and which differ."""
    from rich.table import Table

    from napari_uncertsam.evaluation.comparing_methods import verdict
    from napari_uncertsam.evaluation.metrics import MEASURES

    document = results.document
    compared = {(entry["prompt"], entry["method"]): entry for entry in results.comparisons}
    said, shown = document["dataset"], SHOWN[:columns]
    title = f"{said['name']}: {said['cases']} objects in {said['images']} images, {said['groups']} groups"
    table = Table(title=title, caption=_caption(results, left=len(SHOWN) - len(shown)))
    for column in ("prompt", "method", "n"):
        table.add_column(column, no_wrap=column == "n", overflow="fold")
    units = "/".join(sorted({row["unit"] for row in document["cases"]}, key=("mm", "px").index))
    for name in shown:
        unit = f" ({units})" if MEASURES[name].unit == "length" else ""
        table.add_column(MEASURES[name].title + unit, justify="right", no_wrap=True)
    for part in document["summary"]:
        if part["modality"] is None:
            entry = compared.get((part["prompt"], part["method"]))
            values = [_cell(part["measures"][name], part["n"], verdict(name, entry) if entry else "") for name in shown]
            table.add_row(part["prompt"], part["method"].replace(":", ":\n"), str(part["n"]), *values)
    return table


def _caption(results: Results, left: int) -> str:
    """What the numbers are, how far to trust their intervals, and what is not among them."""
    document = results.document
    level, groups = document["settings"]["level"], document["dataset"]["groups"]
    if groups == 1:
        sentences = ["Means; a single group has no interval."]
    else:
        sentences = [f"Means with {100 * level:g} % bootstrap intervals over groups."]
        if groups < FEW_GROUPS:
            sentences.append(f"Of {groups} groups they are not to be trusted, and often too narrow.")
        if results.comparisons:
            reference = results.comparisons[0]["reference"]
            sentences.append(f"Better and worse: than {reference}, case by case, where that interval excludes 0.")
    apart = [name for name in document["settings"]["apart"] if any(r["modality"] == name for r in document["cases"])]
    if apart:
        sentences.append(f"Set apart: {', '.join(apart)}.")
    if left:
        sentences.append(f"{left} more measures had no room here.")
    return " ".join(sentences)


def _cell(value: Mapping[str, Any], n: int, verdict: str) -> str:
    if value["mean"] is None:
        return "-"
    text = f"{value['mean']:.3f}" + (f" (n {value['n']})" if value["n"] < n else "")
    if value["low"] is None:
        return text
    return f"{text}\n{value['low']:.3f}-{value['high']:.3f}" + (f"\n{verdict}" if verdict else "")


def _effort(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """What the annotators reached."""
    from rich.table import Table

    table = Table(
        title="Simulated annotators", caption="NoC: answers until Dice reaches it; the most allowed if never."
    )
    for column in ("start", "annotator", "Dice before", "after all", "NoC@85", "NoC@90"):
        table.add_column(column, justify="left" if column in ("start", "annotator") else "right")
    for found in summaries:
        needed = {n["target"]: n["clicks"]["mean"] for n in found["needed"] if n["measure"] == "dice"}
        dice = [found["dice"][k]["mean"] for k in (0, -1)]
        table.add_row(
            found["start"], found["policy"], *(f"{v:.3f}" for v in dice), *(f"{v:.2f}" for v in needed.values())
        )
    return table


def write(results: Results, worst: int) -> str:
    """Write the report; the sentence says where everything is, or why there is no report."""
    from napari_uncertsam.evaluation.report import write_report
    from napari_uncertsam.evaluation.results import REPORT, RESULTS, TABLE

    files = f"{results.folder / RESULTS}\n{results.folder / TABLE}"
    try:
        return f"{files}\n{write_report(results, results.folder / REPORT, worst=worst)}"
    except InputError as error:
        return f"{files}\nThere is no report: {error}"
