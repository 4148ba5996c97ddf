"""From rows of measures to means with intervals, and to how far uncertainty tells good predictions from bad ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_uncertsam.evaluation.metrics import (
    MEASURES,
    bootstrap_correlation,
    bootstrap_intervals,
    correlation,
    rank_correlation,
)
from napari_uncertsam.evaluation.results import Row


def plain(value: float) -> float | None:
    """A number for JSON, which knows neither nan nor infinity."""
    return float(value) if math.isfinite(value) else None


def kinds(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The pairs of prompt and method that occur, in order."""
    return list(dict.fromkeys((row["prompt"], row["method"]) for row in rows))


def summarise_rows(rows: Sequence[Row], *, apart: Sequence[str], seed: int, level: float) -> list[dict[str, Any]]:
    """Mean and interval of every measure: of all cases that are not set apart, then by modality.

    Parameters
    ----------
    rows : sequence of Row
    apart : sequence of str
        Modalities that are left out of the overall means.
    seed : int
        Of the bootstrap, which draws whole groups; all intervals of a part draw the same ones.
    level : float
        Of the intervals.

    Returns
    -------
    list of dict
        "summary" of :class:`~napari_uncertsam.evaluation.results.Results`.
    """
    out = []
    for prompt, method in kinds(rows):
        chosen = [row for row in rows if (row["prompt"], row["method"]) == (prompt, method)]
        parts: dict[str | None, list[Row]] = {None: [row for row in chosen if row["modality"] not in apart]}
        for row in chosen:
            parts.setdefault(row["modality"], []).append(row)
        if len(parts) == 2 and not apart:
            parts = {None: parts[None]}  # one modality is the whole
        out += [
            {"prompt": prompt, "method": method, "modality": modality} | _summary(part, seed, level)
            for modality, part in parts.items()
            if part
        ]
    return out


def _summary(rows: Sequence[Row], seed: int, level: float) -> dict[str, Any]:
    table = np.array([[math.nan if row[name] is None else row[name] for name in MEASURES] for row in rows], np.float64)
    groups = [row["group"] for row in rows]
    low, high = bootstrap_intervals(table, np.random.default_rng(seed), groups, level)
    known = np.isfinite(table)
    measures = {
        name: {
            "mean": plain(table[known[:, k], k].mean()) if known[:, k].any() else None,
            "low": plain(low[k]),
            "high": plain(high[k]),
            "n": int(known[:, k].sum()),
        }
        for k, name in enumerate(MEASURES)
    }
    return {"n": len(rows), "groups": len(set(groups)), "measures": measures}


def overall_means(summary: Sequence[dict[str, Any]], prompt: str) -> dict[str, dict[str, float | None]]:
    """``{method: {measure: mean}}`` of all that is not set apart, for one prompt."""
    return {
        part["method"]: {name: value["mean"] for name, value in part["measures"].items()}
        for part in summary
        if part["prompt"] == prompt and part["modality"] is None
    }


def summarise_agreement(rows: Sequence[Row], *, apart: Sequence[str], seed: int, level: float) -> list[dict[str, Any]]:
    """Over cases: does mean uncertainty go with 1 - Dice? Pearson's and Spearman's correlation with intervals.

    Parameters and returns as :func:`summarise_rows`; the list is "agreement" of
    :class:`~napari_uncertsam.evaluation.results.Results`.
    """
    out = []
    for prompt, method in kinds(rows):
        chosen = [
            row for row in rows if (row["prompt"], row["method"]) == (prompt, method) and row["modality"] not in apart
        ]
        if not chosen:
            continue
        lack = np.array([1 - row["dice"] for row in chosen])
        entry: dict[str, Any] = {"prompt": prompt, "method": method, "n": len(chosen)}
        for ending in ("", "_roi"):
            mean = np.array([row[f"mean_uncertainty{ending}"] for row in chosen])
            groups = [row["group"] for row in chosen]
            for name, statistic in (("pearson", correlation), ("spearman", rank_correlation)):
                low, high = bootstrap_correlation(
                    mean, lack, np.random.default_rng(seed), groups, ranks=name == "spearman", level=level
                )
                value = statistic(mean, lack)
                entry[name + ending] = {"value": plain(value), "low": plain(low), "high": plain(high)}
        out.append(entry)
    return out
