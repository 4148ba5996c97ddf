"""The figures of a report: distribution of Dice, risk and coverage, Dice against uncertainty, reliability.

Every figure is a list of drawings, one per prompt, with a series per method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_uncertsam.evaluation.metrics import ReliabilityCurve
from napari_uncertsam.evaluation.metrics.table import COVERAGES
from napari_uncertsam.evaluation.report.drawing import INK, Drawing, canvas, finish, legend, series
from napari_uncertsam.evaluation.report.formatting import count, number, with_interval
from napari_uncertsam.evaluation.report.tables import uncertainty_unit
from napari_uncertsam.evaluation.results import Results, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Measured around the true object, and over the image.
REGIONS = (("_roi", "around the object"), ("", "whole image"))
#: Of a drawing, in inches; all have the same, so that their letters have the same size.
WIDTH = 5.8
#: A scatter plot shows at most this many cases, evenly spaced in the order of the dataset.
LARGEST_SCATTER = 1500


def included(results: Results, prompt: str, method: str) -> list[Row]:
    """Rows of a prompt and a method without the modalities that are set apart."""
    apart = set(results.document["settings"]["apart"])
    return [row for row in results.select(prompt, method) if row["modality"] not in apart]


def predicting(results: Results) -> dict[str, int]:
    """Methods with the number of their series; of those that differ in the measure only the first: masks are alike."""
    first: dict[str, str] = {}
    for method in results.methods:
        first.setdefault(method.partition(":")[0], method)
    return {method: number for number, method in enumerate(first.values())}


def numbered(results: Results) -> dict[str, int]:
    """All methods with the number of their series: those of :func:`predicting` have the first ones."""
    order = [*predicting(results), *results.methods]
    return {method: number for number, method in enumerate(dict.fromkeys(order))}


def draw_dice(results: Results) -> list[Drawing]:
    """Share of cases at or below a Dice, as steps."""
    lowest = _lowest_dice(results)
    drawings = []
    for at, prompt in enumerate(results.prompts):
        with canvas(WIDTH, 3.0) as figure:
            axes = figure.subplots()
            said = []
            for method, index in predicting(results).items():
                dice = np.sort([row["dice"] for row in included(results, prompt, method)])
                if dice.size:
                    line = series(index) | {"marker": ""}
                    axes.ecdf(dice, label=method, **line)
                    said.append(f"{method}: median {number(float(np.median(dice)), 2)}, lowest {number(dice[0], 2)}")
            axes.set(xlim=(lowest, 1.01), ylim=(-0.02, 1.02), xlabel="Dice", ylabel="share of cases at or below")
            legend(figure, axes)
            alt = f"Distribution of Dice for {prompt}; {'; '.join(said)}."
            drawings.append(finish(figure, f"dice-{at}", prompt, alt))
    return drawings


def _lowest_dice(results: Results) -> float:
    """Where axes of Dice begin: a tenth below the lowest one, at 0 where that is low."""
    lowest = np.floor(10 * min(row["dice"] for row in results.rows)) / 10
    return float(lowest - 0.02) if lowest > 0.3 else -0.02


def draw_risk(results: Results) -> list[Drawing]:
    """Share of wrong pixels among the most certain ones, the mean over cases, around the object and over the image."""
    drawings = []
    for at, prompt in enumerate(results.prompts):
        with canvas(WIDTH, 2.7) as figure:
            panels = figure.subplots(1, len(REGIONS))
            for axes, (region, title) in zip(panels, REGIONS, strict=True):
                for method, index in numbered(results).items():
                    curves = [row["curves"][f"risk{region}"] for row in included(results, prompt, method)]
                    if curves:
                        axes.plot(COVERAGES, np.mean(curves, 0), label=method, markevery=3, **series(index))
                axes.set(xlim=(0, 1.02), title=title)
                axes.set_ylim(bottom=0)
            panels[0].set_ylabel("share of them wrong")
            figure.supxlabel("share of pixels kept, most certain first", fontsize="medium")
            legend(figure, panels[0])
            alt = f"Risk against coverage for {prompt}, {' and '.join(title for _, title in REGIONS)}."
            drawings.append(finish(figure, f"risk-{at}", prompt, alt))
    return drawings


def draw_agreement(results: Results) -> list[Drawing]:
    """Dice against the mean uncertainty around the object: a panel per method, a point per case."""
    known = {(entry["prompt"], entry["method"]): entry for entry in results.document["agreement"]}
    apart = set(results.document["settings"]["apart"])
    lowest, shown = _lowest_dice(results), {method: results.measure_of(method) for method in results.methods}
    alike, unit = len(set(shown.values())) == 1, uncertainty_unit(results)
    drawings = []
    for at, prompt in enumerate(results.prompts):
        columns = min(len(results.methods), 3)
        lines = -(-len(results.methods) // columns)
        with canvas(WIDTH, 0.5 + (2.5 if columns < 3 else 2.1) * lines) as figure:
            panels = figure.subplots(lines, columns, squeeze=False, sharex=alike, sharey=True)
            said: list[str] = []
            tips: dict[str, list[str]] = {}
            for index, axes in enumerate(panels.flat):
                if index >= len(results.methods):
                    axes.set_visible(False)
                    continue
                method = results.methods[index]
                tips |= _scatter(axes, results.select(prompt, method), apart, numbered(results)[method])
                found = known.get((prompt, method), {}).get("pearson_roi", {"value": None, "low": None, "high": None})
                words = f"r = {with_interval(found['value'], found, 2)}"
                widest = _widest(results, [m for m in results.methods if shown[m] == shown[method]])
                least = 0.1 if shown[method] == "entropy" else 1e-6
                name = method.replace(":", ":\n")
                axes.set(title=f"{name}\n{words}", xlim=(0, 1.07 * max(widest, least)), ylim=(lowest, 1.02))
                said.append(f"{method} {words}")
            figure.supxlabel(f"mean uncertainty around the object{f' [{unit}]' if unit else ''}", fontsize="medium")
            figure.supylabel("Dice", fontsize="medium")
            alt = f"Dice against mean uncertainty for {prompt}; correlation with 1 - Dice: {'; '.join(said)}."
            drawings.append(finish(figure, f"agreement-{at}", prompt, alt, tips))
    return drawings


def _widest(results: Results, methods: Sequence[str]) -> float:
    """The largest mean uncertainty of some methods."""
    return max((row["mean_uncertainty_roi"] for row in results.rows if row["method"] in methods), default=0.0)


def _scatter(axes: Axes, rows: Sequence[Row], apart: set[str], index: int) -> dict[str, list[str]]:
    """Points of the cases, hollow where set apart; and what they say, by the gid of their line."""
    if len(rows) > LARGEST_SCATTER:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, LARGEST_SCATTER).astype(int)]
    look = series(index) | {"linestyle": "none", "markersize": 5}
    tips = {}
    for name, hollow in (("in", False), ("apart", True)):
        chosen = [row for row in rows if (row["modality"] in apart) == hollow]
        if chosen:
            points = [(row["mean_uncertainty_roi"], row["dice"]) for row in chosen]
            fill = "none" if hollow else look["color"]
            gid = f"{name}-{index}"
            axes.plot(*zip(*points, strict=True), gid=gid, markerfacecolor=fill, alpha=0.65, clip_on=False, **look)
            tips[gid] = [f"{row['case']}, {row['modality']}: Dice {number(row['dice'])}" for row in chosen]
    return tips


def draw_reliability(results: Results) -> list[Drawing]:
    """Observed against predicted frequency in ten bins over the pixels of all cases, with the pixels beneath."""
    drawings = []
    for at, prompt in enumerate(results.prompts):
        with canvas(WIDTH, 3.7) as figure:
            panels = figure.subplots(2, len(REGIONS), height_ratios=(3, 1), sharex=True)
            said = []
            for column, (region, title) in enumerate(REGIONS):
                upper, lower = panels[:, column]
                upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
                for method, index in predicting(results).items():
                    curve = pooled_reliability(included(results, prompt, method), region)
                    if curve is not None:
                        _reliability(upper, lower, curve, index, method)
                pixels = sum(sum(row["curves"][f"reliability{region}"][0]) for row in _first(results, prompt))
                upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=f"{title}\n{count(pixels, 'pixel')}")
                lower.set(yscale="log", xlabel="predicted probability")
                lower.yaxis.set_major_formatter(_short)
                lower.yaxis.set_minor_formatter("")
                said.append(f"{title}, {count(pixels, 'pixel')}")
            panels[0, 0].set_ylabel("share inside the object")
            panels[1, 0].set_ylabel("pixels")
            legend(figure, panels[0, 0])
            alt = f"Reliability for {prompt}: observed against predicted frequency, {'; '.join(said)}."
            drawings.append(finish(figure, f"reliability-{at}", prompt, alt))
    return drawings


def pooled_reliability(rows: Sequence[Row], region: str) -> ReliabilityCurve | None:
    """The curve over the pixels of all rows; None without any.

    Parameters
    ----------
    rows : sequence of Row
    region : {"", "_roi"}
    """
    if not rows:
        return None
    return ReliabilityCurve.of_sums(*np.sum([row["curves"][f"reliability{region}"] for row in rows], axis=0))


def _short(value: float, _: int | None = None) -> str:
    """A number of pixels at a tick, such as 10k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _first(results: Results, prompt: str) -> list[Row]:
    return included(results, prompt, results.methods[0])


def _reliability(upper: Axes, lower: Axes, curve: ReliabilityCurve, index: int, method: str) -> None:
    look = series(index)
    hit = curve.pixels > 0
    upper.plot(curve.confidence[hit], curve.frequency[hit], label=method, clip_on=False, **look)
    steps = np.where(hit, curve.pixels, np.nan)
    lower.stairs(steps, curve.edges, color=look["color"], linestyle=look["linestyle"], linewidth=1.3, baseline=None)
