"""``reproduction.json``: means with intervals beside the published numbers, and a reason where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_uncertsam.evaluation.datasets import KNOWN
from napari_uncertsam.evaluation.metrics import bootstrap_intervals
from napari_uncertsam.evaluation.reproduce.opening import Collection
from napari_uncertsam.evaluation.reproduce.paper import Beside, Paper, ReproductionSettings
from napari_uncertsam.evaluation.reproduce.published import PublishedRow, PublishedTable
from napari_uncertsam.evaluation.summarising import plain

FORMAT, VERSION = "napari-uncertsam reproduction", 1


@dataclass(frozen=True, slots=True)
class Left:
    """What was left out: an image that could not be read (no run), or a mask for one thing that is computed."""

    dataset: str
    what: str
    run: str | None
    reason: str


@dataclass(frozen=True)
class Found:
    """What was computed.

    Parameters
    ----------
    images : mapping of str to int
        How many were looked at, by dataset.
    rows : mapping of str to sequence of mapping
        By dataset: "case", "group", "run" and "values" (by measure), a row per mask and run.
    left : sequence of Left
    """

    images: Mapping[str, int]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    left: Sequence[Left]


#: Nothing was computed.
NOTHING = Found({}, {}, ())


def make_document(
    paper: Paper,
    settings: ReproductionSettings,
    collection: Collection,
    record: Mapping[str, Any] | None,
    found: Found,
    *,
    limit: int | None = None,
    problem: str = "",
) -> dict[str, Any]:
    """What ``reproduction.json`` holds.

    Parameters
    ----------
    paper : Paper
    settings : ReproductionSettings
    collection : Collection
    record : mapping or None
        Of the model; None if none ran.
    found : Found
    limit : int, optional
        Images that were looked at of each dataset at most.
    problem : str
        Why nothing ran although there is data: a sentence.

    Returns
    -------
    dict
        - "format", "version", "paper" (key and title), "settings", "limit", "record";
        - "notes": sentences on how the numbers come about;
        - "columns": ``{measure: title}`` of what is printed; "shares": ``{measure: word}`` of what is said beside;
        - "datasets": ``[{"key", "title", "path", "images", "masks", "groups", "reason"}]``, the last null where there
          are masks;
        - "tables": ``[{"name", "caption", "percent", "rows"}]`` with rows ``{"name", "model", "run", "beside",
          "cells"}`` and cells ``{"dataset", "title", "n", "reason", "values"}``, by measure ``{"mean", "low", "high",
          "published", "difference"}`` in the unit of the table. A cell without n has a reason. The average's dataset
          is null. Measures that no table prints, such as how often a round was kept, have no published number;
        - "left_out": ``[{"dataset", "what", "run", "reason"}]``.
    """
    datasets = [_dataset(key, collection, found, problem) for key in paper.datasets]
    there = tuple(said["key"] for said in datasets if said["masks"])
    table = _Tables(paper, settings, found, {said["key"]: said["reason"] for said in datasets})
    return {
        "format": FORMAT,
        "version": VERSION,
        "paper": {"key": paper.key, "title": paper.title},
        "settings": settings.to_dict(),
        "limit": limit,
        "record": None if record is None else dict(record),
        "notes": paper.notes(settings, record, there),
        "columns": {name: title for name, (title, _) in paper.columns.items()},
        "shares": dict(paper.shares),
        "datasets": datasets,
        "tables": [table.document(published) for published in paper.tables],
        "left_out": [asdict(left) for left in found.left],
    }


def _dataset(key: str, collection: Collection, found: Found, problem: str) -> dict[str, Any]:
    """What there is of a dataset, and why nothing was computed where nothing was."""
    rows, dataset = found.rows.get(key, ()), collection.found.get(key)
    masks = len({row["case"] for row in rows})
    reason: str | None = None
    if dataset is None:
        reason = collection.missing[key]
    elif not masks:
        first = next((left.reason for left in found.left if left.dataset == key), "its masks are empty.")
        reason = problem or f"No mask could be measured: {first}"
    return {
        "key": key,
        "title": KNOWN[key].title,
        "path": None if dataset is None else str(dataset.root),
        "images": found.images.get(key, 0),
        "masks": masks,
        "groups": len({row["group"] for row in rows}),
        "reason": reason,
    }


@dataclass(frozen=True)
class _Tables:
    """Makes the tables of the document."""

    paper: Paper
    settings: ReproductionSettings
    found: Found
    #: By dataset.
    reasons: Mapping[str, str | None]

    def document(self, table: PublishedTable) -> dict[str, Any]:
        """One table."""
        rows = [self._row(table, row) for row in table.rows]
        return {"name": table.name, "caption": table.caption, "percent": table.percent, "rows": rows}

    def _row(self, table: PublishedTable, row: PublishedRow) -> dict[str, Any]:
        beside = self.paper.beside(table, row)
        cells = []
        for number, column in enumerate(table.columns):
            published = {name: values[number] for name, values in row.values.items()}
            values, count = self._summary(column.dataset, beside.run)
            reason = beside.said if beside.run is None else self._reason(column.dataset, beside.run, count)
            cells.append(
                {
                    "dataset": column.dataset,
                    "title": column.title,
                    "n": count or None,
                    "reason": reason,
                    "values": self._values(values, published, table.percent),
                }
            )
        if row.average:
            cells.append(self._average(cells, beside, row))
        return {
            "name": row.name,
            "model": row.model,
            "run": beside.run,
            "beside": None if beside.run is None else beside.said,
            "cells": cells,
        }

    def _reason(self, dataset: str, run: str, count: int) -> str | None:
        """Why a cell is empty although something could be computed there."""
        if count or self.reasons[dataset] is not None:
            return self.reasons[dataset]
        left = (left.reason for left in self.found.left if (left.dataset, left.run) == (dataset, run))
        return f"No mask could be measured: {next(left, 'there was none.')}"

    def _summary(self, dataset: str, run: str | None) -> tuple[dict[str, dict[str, float | None]], int]:
        """Mean and interval of every measure, as fractions, and the number of masks."""
        rows = [row for row in self.found.rows.get(dataset, ()) if row["run"] == run]
        if not rows:
            return {}, 0
        names = list(rows[0]["values"])
        table = np.array([[row["values"][name] for name in names] for row in rows], np.float64)
        rng, groups = np.random.default_rng(self.settings.seed), [row["group"] for row in rows]
        low, high = bootstrap_intervals(table, rng, groups, self.settings.level)
        means = table.mean(0)
        return {
            name: {"mean": float(means[k]), "low": plain(low[k]), "high": plain(high[k])}
            for k, name in enumerate(names)
        }, len(rows)

    def _values(
        self, values: Mapping[str, Mapping[str, float | None]], published: Mapping[str, float], percent: bool
    ) -> dict[str, dict[str, float | None]]:
        """Ours beside the published, in the unit of the table; what is no column, as a fraction."""
        out = {}
        for name in dict.fromkeys((*self.paper.columns, *values)):
            shown = name in self.paper.columns
            ours = {
                k: v if v is None else v * (100 if percent and shown else 1) for k, v in values.get(name, _NONE).items()
            }
            printed = published.get(self.paper.columns[name][1]) if shown else None
            mean = ours["mean"]
            difference = None if mean is None or printed is None else mean - printed
            out[name] = {**ours, "published": printed, "difference": difference}
        return out

    def _average(self, cells: Sequence[Mapping[str, Any]], beside: Beside, row: PublishedRow) -> dict[str, Any]:
        """The mean of the columns, where all of them could be computed; its interval is not known."""
        empty = [cell["title"] for cell in cells if not cell["n"]]
        reason = beside.said if beside.run is None else None
        if empty and reason is None:
            reason = f"An average needs every column, and there is nothing for {', '.join(empty)}."
        values: dict[str, dict[str, float | None]] = {}
        if not empty:
            for name in self.paper.columns:
                mean = float(np.mean([cell["values"][name]["mean"] for cell in cells]))
                values[name] = {**_NONE, "mean": mean}
        return {
            "dataset": None,
            "title": "Average",
            "n": None if empty else sum(cell["n"] for cell in cells),
            "reason": reason,
            "values": self._values(values, row.average, False),
        }


_NONE: Mapping[str, float | None] = {"mean": None, "low": None, "high": None}
