"""What simulated annotators made of the predictions, as a table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_uncertsam.evaluation.report.drawing import BACK, Drawing, canvas, finish, legend, series
from napari_uncertsam.evaluation.report.figures import WIDTH
from napari_uncertsam.evaluation.report.formatting import interval, number
from napari_uncertsam.evaluation.report.tables import Cell, Column, Line, Table, count_cell
from napari_uncertsam.evaluation.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_uncertsam.evaluation.simulate import AnnotationSummary

_CLICKS_HELP = "Answers given until the target was reached; a run that never reaches it counts with the most allowed."


@dataclass(frozen=True, slots=True)
class Annotators:
    """What the section on annotators shows."""

    table: Table
    figure: list[Drawing]


def annotators(results: Results) -> Annotators | None:
    """The section; None where no annotator was simulated.

    Raises
    ------
    InputError
        If the summaries are damaged.
    """
    from napari_uncertsam.evaluation.simulate import AnnotationSummary

    summaries = [AnnotationSummary.from_dict(said) for said in results.document.get("annotators") or []]
    return Annotators(annotators_table(summaries), draw_annotators(summaries)) if summaries else None


def annotators_table(summaries: Sequence[AnnotationSummary]) -> Table:
    """A line per policy, start and rate of wrong answers: Dice before and after, and the clicks to each target."""
    titles = dict.fromkeys(needed.title for summary in summaries for needed in summary.needed)
    lines = []
    for summary in summaries:
        cells = [count_cell(summary.runs), count_cell(summary.groups), count_cell(len(summary.dice) - 1)]
        cells += [
            Cell(number(a.mean), interval(a.low, a.high), sort=a.mean) for a in (summary.dice[0], summary.dice[-1])
        ]
        found = {needed.title: needed for needed in summary.needed}
        for title in titles:
            cell = Cell(number(None))
            if title in found:
                clicks, failed = found[title].clicks, found[title].failed
                remark = f"{failed:,} never" if failed else ""
                cell = Cell(number(clicks.mean, 2), interval(clicks.low, clicks.high, 2), remark, clicks.mean)
            cells.append(cell)
        lines.append(Line((summary.policy, summary.start, f"{100 * summary.wrong_rate:g} %"), tuple(cells)))
    columns = (
        Column("Runs"),
        Column("Groups", help="Patients, volumes or images"),
        Column("Answers", help="The most that were allowed"),
        Column("Dice before", help="Mean Dice of the starting prompt"),
        Column("Dice after", help="Mean Dice after the last answer"),
        *(Column(title, "clicks", "lower", _CLICKS_HELP) for title in titles),
    )
    return Table("Answers needed", ("Policy", "Start", "Wrong answers"), columns, tuple(lines))


def draw_annotators(summaries: Sequence[AnnotationSummary]) -> list[Drawing]:
    """Dice after every answer with its interval, a line per policy; one drawing per start and rate of wrong answers."""
    from matplotlib.ticker import MaxNLocator

    kinds: dict[tuple[str, float], list[AnnotationSummary]] = {}
    for summary in summaries:
        kinds.setdefault((summary.start, summary.wrong_rate), []).append(summary)
    drawings = []
    for at, ((start, rate), chosen) in enumerate(kinds.items()):
        with canvas(WIDTH, 3.2) as figure:
            axes = figure.subplots()
            for index, summary in enumerate(chosen):
                _annotator(axes, summary, index)
            axes.set(xlabel="answers given", ylabel="mean Dice", xlim=(-0.15, None))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            legend(figure, axes)
            title = f"starting from {start}" + (f", {100 * rate:g} % of answers wrong" if rate else "")
            ends = [f"{s.policy} from {number(s.dice[0].mean, 2)} to {number(s.dice[-1].mean, 2)}" for s in chosen]
            alt = f"Mean Dice after each answer, {title}: {'; '.join(ends)}."
            drawings.append(finish(figure, f"annotators-{at}", title, alt))
    return drawings


def _annotator(axes: Axes, summary: AnnotationSummary, index: int) -> None:
    look = series(index)
    table = np.array([(a.mean, a.low, a.high) for a in summary.dice])
    clicks = np.arange(len(table))
    axes.fill_between(clicks, table[:, 1], table[:, 2], color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(clicks, table[:, 0], label=summary.policy, markeredgecolor=BACK, markeredgewidth=0.6, **look)
