"""How far every method is from the reference, as a table of paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.report.formatting import decimals_for, signed, signed_interval
from napari_uncertsam.evaluation.report.tables import Cell, Column, Line, Table, judged
from napari_uncertsam.evaluation.results import Results

#: Errors as a share of the reference's, all others as they are.
DIFFERENCES = ("dice", "biou_2", "rho_hard_roi", "ause_roi", "nll_roi", "brier_roi", "ece_roi", "confident_error")


def differences_table(results: Results, names: Sequence[str] = DIFFERENCES) -> Table | None:
    """A line per prompt and method that is not the reference; None where nothing was compared.

    Parameters
    ----------
    results : Results
    names : sequence of str
        Keys of :data:`~napari_uncertsam.evaluation.metrics.MEASURES`.
    """
    compared = results.comparisons
    if not compared:
        return None
    columns, cells = [], []
    for name in names:
        measure = MEASURES[name]
        lower = measure.better == "lower"
        columns.append(Column(measure.title, "%" if lower else "", measure.better, measure.help))
        decimals = 1 if lower else decimals_for(entry["measures"][name]["difference"] for entry in compared)
        cells.append([judged(_cell(entry["measures"][name], lower, decimals), name, entry) for entry in compared])
    lines = [
        Line((entry["prompt"], entry["method"]), row)
        for entry, row in zip(compared, zip(*cells, strict=True), strict=True)
    ]
    caption = f"Differences from {compared[0]['reference']}, mean over cases"
    return Table(caption, ("Prompt", "Method"), tuple(columns), tuple(lines))


def _cell(found: Mapping[str, Any], relative: bool, decimals: int) -> Cell:
    """A difference, or what it is in per cent of the reference, with the share of cases that are better."""
    value, low, high = found["difference"], found["low"], found["high"]
    if relative:
        value, low, high = (
            None if share is None else 100 * share for share in (found["relative"][k] for k in ("value", "low", "high"))
        )
    better = "" if found["improved"] is None else f"{100 * found['improved']:.0f} % of {found['n']}"
    return Cell(signed(value, decimals), signed_interval(low, high, decimals), better, value)
