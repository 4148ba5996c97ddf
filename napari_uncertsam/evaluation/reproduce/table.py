"""A reproduction as people read it: lines of a table, and ``reproduction.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from napari_uncertsam.evaluation.report.formatting import NONE, count, number, with_interval

#: Left-out masks that the page names one by one.
_NAMED = 20


def reasons(document: Mapping[str, Any]) -> list[str]:
    """Why cells could not run, each once, in the order of the tables; cells refer to them by number, from 1."""
    cells = [cell for table in document["tables"] for row in table["rows"] for cell in row["cells"]]
    return list(dict.fromkeys(cell["reason"] for cell in cells if cell["reason"]))


def ran(document: Mapping[str, Any]) -> bool:
    """Whether anything could be computed."""
    return any(cell["n"] for table in document["tables"] for row in table["rows"] for cell in row["cells"])


def headings(document: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    """Titles of the columns of :func:`lines`."""
    out = ["row", *(["published for"] if _several_models(table) else []), "dataset", "masks"]
    for name, title in document["columns"].items():
        out += [f"{title}, ours", "published", "difference"] if _printed(table, name) else [f"{title}, ours"]
    return out


def lines(document: Mapping[str, Any], table: Mapping[str, Any]) -> list[list[str]]:
    """A line of text per row and dataset: ours with its interval, the published number, and ours less it."""
    known, decimals = reasons(document), 2 if table["percent"] else 3
    out = []
    for row in table["rows"]:
        for cell in row["cells"]:
            model = [row["model"]] if _several_models(table) else []
            line = [row["name"], *model, cell["title"], _masks(document, cell, known)]
            for name in document["columns"]:
                entry = cell["values"][name]
                line.append(with_interval(entry["mean"], entry, decimals) if cell["n"] else NONE)
                if _printed(table, name):
                    line += [number(entry["published"], decimals), _signed(entry["difference"], decimals)]
            out.append(line)
    return out


def title(table: Mapping[str, Any]) -> str:
    """Name, caption, unit, and what the numbers are published for where that is one model."""
    unit = "percent" if table["percent"] else "fractions"
    model = "" if _several_models(table) else f"; published for {table['rows'][0]['model']}"
    return f"{table['name']}: {table['caption']} ({unit}{model})"


def _several_models(table: Mapping[str, Any]) -> bool:
    return len({row["model"] for row in table["rows"]}) > 1


def _masks(document: Mapping[str, Any], cell: Mapping[str, Any], known: Sequence[str]) -> str:
    """How many masks there were, and how often something happened; or the number of the reason."""
    if not cell["n"]:
        return f"not run [{known.index(cell['reason']) + 1}]"
    shares = {word: cell["values"][name]["mean"] for name, word in document["shares"].items() if name in cell["values"]}
    return ", ".join([f"{cell['n']:,}", *(f"{100 * share:.0f} % {word}" for word, share in shares.items())])


def _printed(table: Mapping[str, Any], name: str) -> bool:
    """Whether the paper's table has such a column."""
    return any(cell["values"][name]["published"] is not None for row in table["rows"] for cell in row["cells"])


def _signed(value: float | None, decimals: int) -> str:
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 and float(text) else text


def beside(table: Mapping[str, Any]) -> list[str]:
    """What is computed beside each row, as sentences; nothing for rows that nothing is computed for."""
    return [f"{row['name']}: {row['beside']}." for row in table["rows"] if row["beside"]]


def about(document: Mapping[str, Any]) -> list[str]:
    """Sentences on the model, the data, the seed and how the numbers come about."""
    record, settings, limit = document["record"], document["settings"], document["limit"]
    out = []
    if record is not None:
        said = f"checkpoint SHA-256 {record['checkpoint_sha256'] or 'unknown'}, {record['device']}, float32"
        out.append(f"Ours is {record['model']}: {said}; seed {settings['seed']}.")
    if limit is not None:
        out.append(f"Only {count(limit, 'image')} of each dataset at most, evenly spread (--limit).")
    out += document["notes"]
    out.append(f"In brackets are {100 * settings['level']:g} % bootstrap intervals over {_GROUPS}.")
    return out


_GROUPS = "images, or over patients where the dataset tells them"


def data_lines(document: Mapping[str, Any]) -> list[str]:
    """A sentence per dataset that is there."""
    return [
        f"{said['title']}: {count(said['masks'], 'mask')} in {count(said['images'], 'image')}, {said['path']}"
        for said in document["datasets"]
        if said["masks"]
    ]


def left_out(document: Mapping[str, Any]) -> list[str]:
    """What was left out, and why; many are counted only."""
    found: Sequence[Mapping[str, Any]] = document["left_out"]
    named = []
    for left in found[:_NAMED]:
        run = f" ({left['run']})" if left["run"] else ""
        named.append(f"{left['dataset']} {left['what']}{run}: {left['reason']}")
    more = len(found) - len(named)
    return [*named, f"{count(more, 'more', 'more')}, listed in reproduction.json"] if more else named


def markdown(document: Mapping[str, Any]) -> str:
    """The whole of ``reproduction.md``."""
    parts = [f"# {document['paper']['title']}: ours beside the published numbers", _bullets(about(document))]
    parts += _section("Data", _bullets(data_lines(document)))
    for table in document["tables"]:
        grid = _grid(headings(document, table), lines(document, table))
        parts += [f"## {title(table)}", grid, "What ours is:", _bullets(beside(table))]
    numbered = "\n".join(f"{k}. {reason}" for k, reason in enumerate(reasons(document), 1))
    parts += _section("Not run", numbered)
    parts += _section("Left out", _bullets(left_out(document)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, content: str) -> Iterator[str]:
    return iter([f"## {title}", content] if content else [])


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, numbers to the right."""
    labels = titles.index("masks")
    ruler = ["---"] * labels + ["---:"] * (len(titles) - labels)
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, ruler, *rows))
