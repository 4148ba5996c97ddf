"""Means with 95 % intervals over groups, per modality and over all that a box defines, as JSON and Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_cases import VESSELS

from bundled.measuring import CLICKS, OVERLAPS, SCORED
from bundled.speed import TASKS
from napari_uncertsam.evaluation.metrics.bootstrap import bootstrap_means, central_interval

Line = Mapping[str, Any]
ALL = "all but vessels"
PROMPTS = {"tight": "tight box", **{f"box-{o:g}": f"box at overlap {o:g}" for o in OVERLAPS}}
PROMPTS |= {"click": "one click, most interior pixel", "random": "one click, anywhere inside"}
SEQUENCES = {
    "click": "interior click",
    "tight": "tight box",
    "fed click": "interior click, the model alone",
    "fed tight": "tight box, the model alone",
}
#: Value to title and digits, in the order of the rows.
MEANS: dict[str, tuple[str, int]] = {key: (f"Dice, {title}", 3) for key, title in PROMPTS.items()}
MEANS |= {
    f"{key}+{k}": (f"Dice, {title} + {k} correction{'s' if k > 1 else ''}", 3)
    for key, title in SEQUENCES.items()
    for k in range(1, CLICKS + 1)
}
MEANS |= {f"{score} {key}": (f"{score}, {PROMPTS[key]}", 3) for score in ("ECE", "NLL", "AUSE") for key in SCORED}
MEANS |= {f"empty {key}": (f"share of empty masks, {PROMPTS[key]}", 2) for key in PROMPTS}
#: Of all corrections together, so a ratio of sums.
SHARES = {
    f"{what} {key}": f"share of corrections that lower the Dice{more}, {title}"
    for what, more in (("lowered", ""), ("harmed", " by more than 0.01"))
    for key, title in SEQUENCES.items()
}


def interval_of(
    table: NDArray[np.float64], groups: Sequence[str], seed: int, of: Callable[[NDArray[np.float64]], Any]
) -> dict[str, Any] | None:
    """What `of` makes of the means of columns, with its interval; None where nothing is known."""
    known = np.isfinite(table).all(1)
    table, groups = table[known], [group for group, there in zip(groups, known, strict=True) if there]
    if not len(table):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(of(table.mean(0)))
        low, high = central_interval(of(bootstrap_means(table, np.random.default_rng(seed), groups)), 0.95)
    if not math.isfinite(value):
        return None
    return {"mean": value, "interval": [low, high] if math.isfinite(low) else None, "n": len(table)}


def columns_of(lines: Sequence[Line], *names: str) -> NDArray[np.float64]:
    return np.array([[line["values"].get(name, math.nan) for name in names] for line in lines]).reshape(-1, len(names))


def summarise(lines: Sequence[Line], seed: int) -> dict[str, Any]:
    """All means and shares of one column of the table, those that it has."""
    groups = [line["group"] for line in lines]
    found = {key: interval_of(columns_of(lines, key), groups, seed, lambda m: m[..., 0]) for key in MEANS}
    for key in SHARES:
        given = f"given {key.split(' ', 1)[1]}"
        found[key] = interval_of(columns_of(lines, key, given), groups, seed, lambda m: m[..., 0] / m[..., 1])
    return {key: summary for key, summary in found.items() if summary is not None}


def compare(first: Sequence[Line], second: Sequence[Line], seed: int) -> dict[str, Any]:
    """Paired differences of two columns, first less second, over the objects that both have."""
    others = {line["case"]: line for line in second}
    pairs = [(line, others[line["case"]]) for line in first if line["case"] in others]
    if not pairs:
        return {}
    mine, theirs = zip(*pairs, strict=True)
    groups, found = [line["group"] for line in mine], {}
    for key in MEANS:
        table = np.hstack([columns_of(mine, key), columns_of(theirs, key)])
        found[key] = interval_of(table, groups, seed, lambda m: m[..., 0] - m[..., 1])
    for key in SHARES:
        names = (key, f"given {key.split(' ', 1)[1]}")
        table = np.hstack([columns_of(mine, *names), columns_of(theirs, *names)])
        found[key] = interval_of(table, groups, seed, lambda m: m[..., 0] / m[..., 1] - m[..., 2] / m[..., 3])
    return {key: summary for key, summary in found.items() if summary is not None}


def analyse(lines: Sequence[Line], columns: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Tables by part: everything that a box defines, then every modality.

    Parameters
    ----------
    lines : sequence of mapping
        Finished objects, of every column.
    columns : mapping
        Title to "who" of the lines; the first two models are compared.
    seed : int
    """
    modalities = sorted({line["modality"] for line in lines}, key=lambda m: (m in VESSELS, m))
    parts = {ALL: [line for line in lines if line["modality"] not in VESSELS]}
    parts |= {m: [line for line in lines if line["modality"] == m] for m in modalities}
    found = {}
    for part, chosen in parts.items():
        by_title = {title: [line for line in chosen if line["who"] == who] for title, who in columns.items()}
        by_title = {title: own for title, own in by_title.items() if own}
        if not by_title:
            continue
        first, *others = by_title
        found[part] = {
            "objects": len({line["case"] for line in chosen}),
            "groups": len({line["group"] for line in chosen}),
            "columns": {title: summarise(own, seed) for title, own in by_title.items()},
            "differences": {title: compare(by_title[first], by_title[title], seed) for title in others},
        }
    return found


def analyse_volumes(lines: Sequence[Line], columns: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Dice in 3D by where the volumes come from, then over all."""
    parts = {m: [line for line in lines if line["modality"] == m] for m in sorted({line["modality"] for line in lines})}
    parts["all volumes"] = list(lines)
    found: dict[str, Any] = {}
    for part, chosen in parts.items():
        for title, who in columns.items():
            own = [line for line in chosen if line["who"] == who]
            groups = [line["group"] for line in own]
            means = {
                key: interval_of(columns_of(own, key), groups, seed, lambda m: m[..., 0])
                for key in ("middle slice", "3D")
            }
            if own:
                seconds = float(sum(line["seconds"] for line in own))
                found.setdefault(part, {})[title] = {**means, "objects": len(own), "seconds": seconds}
    return found


def cell(summary: Mapping[str, Any] | None, digits: int = 3, sign: str = "") -> str:
    if summary is None:
        return ""
    text = f"{summary['mean']:{sign}.{digits}f}"
    if summary["interval"] is None:
        return text
    low, high = (f"{end:{sign}.{digits}f}" for end in summary["interval"])
    return f"{text} ({low} to {high})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def part_table(found: Mapping[str, Any], compared: str | None) -> str:
    """One part: a row per measure that any column has."""
    columns = found["columns"]
    difference = found["differences"].get(compared, {}) if compared else {}
    head = ["", *columns, *([f"{next(iter(columns))} less {compared}"] if difference else [])]
    rows = []
    for key, (title, digits) in {**MEANS, **{key: (title, 2) for key, title in SHARES.items()}}.items():
        cells = [cell(summaries.get(key), digits) for summaries in columns.values()]
        if any(cells):
            rows.append([title, *cells, *([cell(difference.get(key), digits, "+")] if difference else [])])
    return table(head, rows)


def speed_table(speed: Mapping[str, Any]) -> str:
    head = ["ms, median (90th percentile)", *speed["ms"]]
    rows = [
        [title, *(f"{ms[task]['median']:.1f} ({ms[task]['p90']:.1f})" for ms in speed["ms"].values())]
        for task, title in TASKS.items()
    ]
    return table(head, rows)


def volume_table(volumes: Mapping[str, Any]) -> str:
    head = ["", "column", "objects", "Dice, middle slice", "Dice, 3D", "seconds"]
    rows = [
        [part, title, str(s["objects"]), cell(s["middle slice"]), cell(s["3D"]), f"{s['seconds']:.0f}"]
        for part, by_title in volumes.items()
        for title, s in by_title.items()
    ]
    return table(head, rows)


def markdown(document: Mapping[str, Any]) -> str:
    """``results.md``."""
    models = document["models"]
    compared = list(models)[1] if len(models) > 1 else None
    told = [f"{title}: {m['bytes']:,} bytes, SHA-256 {m['sha256'][:12]}" for title, m in models.items()]
    lines = ["# The bundled model, measured", ""]
    lines += [
        f"Mean (95 % interval, groups resampled). Method entropy, {document['settings']}. " + "; ".join(told) + "."
    ]
    for part, found in document["objects"].items():
        lines += ["", f"## {part}: {found['objects']} objects, {found['groups']} groups", ""]
        lines.append(part_table(found, compared))
    if document.get("volumes"):
        lines += ["", "## One tight box on the middle slice, propagated", "", volume_table(document["volumes"])]
    if document.get("speed"):
        s = document["speed"]
        size = " x ".join(map(str, s["slice"]))
        lines += [
            "",
            "## Speed",
            "",
            f"{size} slice, {s['threads']} threads, {s['repeats']} turns, load {s['load']:.1f}",
        ]
        lines += ["", speed_table(s)]
    return "\n".join(lines) + "\n"
