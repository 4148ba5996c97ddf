"""The tables of a report: means with their intervals, in the words and the order of the measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.evaluation.comparing_methods import verdict
from napari_uncertsam.evaluation.metrics import MEASURES, Measure
from napari_uncertsam.evaluation.metrics.table import Better
from napari_uncertsam.evaluation.report.formatting import NONE, decimals_for, interval, number
from napari_uncertsam.evaluation.results import Results

Summary = Mapping[str, Any]

MASKS = ("dice", "iou", "biou_2", "biou_1", "hd95", "nsd", "precision", "recall")
_RANKINGS = ("ause", "aurc", "rho_hard", "ause_reference", "rho_reference", "rho", "mean_uncertainty")
#: Whether the uncertainty points at wrong pixels, around the object and over the image.
ERRORS_ROI = (*(f"{name}_roi" for name in _RANKINGS), "confident_error")
ERRORS = _RANKINGS
PROBABILITIES = ("nll_roi", "brier_roi", "ece_roi", "nll", "brier", "ece")
MODALITIES = ("dice", "hd95", "ause_roi", "aurc_roi", "rho_hard_roi", "nll_roi", "confident_error")

UNITS = {"length": "mm or px", "nats": "nats"}
_UNCERTAINTIES = ("mean_uncertainty", "mean_uncertainty_roi")
#: Measures with a footnote: the published correlation, which can be inflated.
_MARKED = {"rho": "\N{DAGGER}", "rho_roi": "\N{DAGGER}"}
_AGREEMENT = {
    "pearson_roi": ("Pearson ROI", "Linear correlation with the mean uncertainty around the true object."),
    "spearman_roi": ("Spearman ROI", "Rank correlation with the mean uncertainty around the true object."),
    "pearson": ("Pearson", "Linear correlation with the mean uncertainty of the whole image."),
    "spearman": ("Spearman", "Rank correlation with the mean uncertainty of the whole image."),
}


@dataclass(frozen=True, slots=True)
class Column:
    """Head of a column: title, unit, which way is better, the sentence that explains it, and the sign of a footnote."""

    title: str
    unit: str = ""
    better: Better = "neither"
    help: str = ""
    mark: str = ""

    @property
    def arrow(self) -> str:
        """The better way, drawn."""
        return {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", "neither": ""}[self.better]


@dataclass(frozen=True, slots=True)
class Cell:
    """One number.

    Parameters
    ----------
    text : str
    interval, remark : str
        Shown beneath.
    sort : float, optional
        What the column is sorted by; None is last.
    best : bool
        Whether it is marked.
    verdict : {"better", "worse", ""}
        Against the reference, where the difference is significant.
    holds : bool
        Whether that holds after Holm's correction too.
    """

    text: str
    interval: str = ""
    remark: str = ""
    sort: float | None = None
    best: bool = False
    verdict: str = ""
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A row: what it is about, its numbers, and whether it is left out of the overall means."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption; `heads` are the titles of what a line is about."""

    caption: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


def measures_table(results: Results, caption: str, names: Sequence[str]) -> Table:
    """A line per prompt and method, over everything that is not set apart.

    Parameters
    ----------
    results : Results
    caption : str
    names : sequence of str
        Keys of :data:`~napari_uncertsam.evaluation.metrics.MEASURES`.
    """
    entries = [entry for entry in results.document["summary"] if entry["modality"] is None]
    compared = {(entry["prompt"], entry["method"]): entry for entry in results.comparisons}
    lines = []
    for entry, row in zip(entries, measure_cells(entries, names), strict=True):
        kind = entry["prompt"], entry["method"]
        if kind in compared:
            row = [judged(cell, name, compared[kind]) for cell, name in zip(row, names, strict=True)]
        lines.append(Line(kind, tuple(row)))
    return Table(caption, ("Prompt", "Method"), measure_columns(names, uncertainty_unit(results)), tuple(lines))


def judged(cell: Cell, name: str, comparison: Summary) -> Cell:
    """A cell of a measure with what a comparison says of it."""
    said = verdict(name, comparison)
    if said in ("", "different"):
        return cell
    return replace(cell, verdict=said, holds=comparison["measures"][name]["holm"])


def uncertainty_unit(results: Results) -> str:
    """Of what the methods show as their uncertainty."""
    units = {UNCERTAINTY_MEASURES[results.measure_of(method)].unit for method in results.methods}
    return units.pop() if len(units) == 1 else "by method"


def modality_tables(results: Results) -> list[Table]:
    """A table per prompt with a line per modality and method; none where all is of one, which is then the whole."""
    entries = [entry for entry in results.document["summary"] if entry["modality"] is not None]
    apart = set(results.document["settings"]["apart"])
    if len({entry["modality"] for entry in entries}) < 2 and not apart:
        return []
    tables = []
    for prompt in results.prompts:
        chosen = sorted((e for e in entries if e["prompt"] == prompt), key=lambda e: str(e["modality"]).casefold())
        lines = []
        for entry, row in zip(chosen, measure_cells(chosen, MODALITIES), strict=True):
            sizes = (count_cell(entry["n"]), count_cell(entry["groups"]))
            lines.append(Line((entry["modality"], entry["method"]), (*sizes, *row), entry["modality"] in apart))
        columns = (Column("Cases"), Column("Groups", help="Patients, volumes or images"), *measure_columns(MODALITIES))
        tables.append(Table(f"Prompt {prompt}", ("Modality", "Method"), columns, tuple(lines)))
    return tables


def agreement_table(results: Results) -> Table:
    """Correlation over cases of the mean uncertainty with 1 - Dice."""
    lines = []
    for entry in results.document["agreement"]:
        cells = [count_cell(entry["n"])]
        for name in _AGREEMENT:
            found = entry[name]
            between = interval(found["low"], found["high"])
            cells.append(Cell(number(found["value"]), between, sort=found["value"]))
        lines.append(Line((entry["prompt"], entry["method"]), tuple(cells)))
    columns = [Column(title, better="higher", help=text) for title, text in _AGREEMENT.values()]
    caption = "Correlation of the mean uncertainty with 1 \N{MINUS SIGN} Dice, over cases"
    return Table(caption, ("Prompt", "Method"), (Column("Cases"), *columns), tuple(lines))


def measure_columns(names: Sequence[str], uncertainty: str = "nats") -> tuple[Column, ...]:
    """Heads of columns of measures; `uncertainty` is the unit of mean uncertainties."""
    return tuple(
        Column(m.title, unit_of(name, uncertainty), m.better, m.help, _MARKED.get(name, ""))
        for name, m in ((name, MEASURES[name]) for name in names)
    )


def unit_of(name: str, uncertainty: str) -> str:
    """Unit of a measure, as a head has it; `uncertainty` is that of mean uncertainties."""
    unit = MEASURES[name].unit
    return uncertainty if name in _UNCERTAINTIES else UNITS.get(unit, unit)


def measure_cells(entries: Sequence[Summary], names: Sequence[str]) -> list[list[Cell]]:
    """Means with intervals: a row per summary, a cell per measure; the best method of each prompt is marked."""
    rows: list[list[Cell]] = [[] for _ in entries]
    for name in names:
        decimals = decimals_for((e["measures"][name]["mean"] for e in entries), MEASURES[name].unit)
        best = _best(entries, name, decimals)
        for number_of_row, (entry, row) in enumerate(zip(entries, rows, strict=True)):
            found = entry["measures"][name]
            remark = f"{found['n']} of {entry['n']} cases" if found["n"] < entry["n"] else ""
            between = interval(found["low"], found["high"], decimals)
            text = number(found["mean"], decimals)
            row.append(Cell(text, between, remark, found["mean"], number_of_row in best))
    return rows


def count_cell(value: int) -> Cell:
    """A number of things."""
    return Cell(f"{value:,}", sort=value)


def _best(entries: Sequence[Summary], name: str, decimals: int) -> set[int]:
    """Rows with the best mean, as shown, among the methods of their prompt and modality; none where all are alike."""
    measure = MEASURES[name]
    if measure.better == "neither":
        return set()
    kinds: dict[tuple[Any, Any], dict[int, float]] = {}
    for row, entry in enumerate(entries):
        mean = entry["measures"][name]["mean"]
        # A mean over fewer cases, of those that have a distance at all, is no fair rival; one group proves nothing.
        if mean is not None and entry["measures"][name]["n"] == entry["n"] and entry["groups"] > 1:
            kinds.setdefault((entry["prompt"], entry["modality"]), {})[row] = round(mean, decimals)
    marked = set()
    for means in kinds.values():
        if len(set(means.values())) > 1:
            wanted = max(means.values()) if measure.better == "higher" else min(means.values())
            marked |= {row for row, mean in means.items() if mean == wanted}
    return marked


def glossary(uncertainty: str = "nats") -> list[tuple[Measure, str, str]]:
    """Every measure with its unit and what is better, in words; `uncertainty` is the unit of mean uncertainties."""
    words = {"higher": "higher", "lower": "lower", "neither": NONE}
    return [(m, unit_of(name, uncertainty) or NONE, words[m.better]) for name, m in MEASURES.items()]
