"""Figures as inline SVG: text stays text, and colours are variables of the page, so that they follow its scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that stand for variables of the page: text and axes, grid lines, background. Matplotlib wants real ones.
INK, FAINT, BACK = "#010101", "#010102", "#010103"
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)", BACK: "var(--card)"}
#: Colours, marker and dashes of a series, told apart without colour too.
SERIES = 6
_MARKERS = "osD^vP"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (8, 2)), (0, (3, 3)))
_VARIABLES |= {f"#0102{number:02x}": f"var(--series-{number})" for number in range(SERIES)}

#: Letters that go into an inch, letters that the line beside a name takes, and inches between lines of a legend.
_LETTERS, _HANDLE, _LEGEND_LINE = 13.5, 9, 0.2

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    # Names come from files: a dollar sign is a dollar sign.
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture of a figure: a title, what it shows in a sentence, and the ``<svg>`` element."""

    title: str
    alt: str
    svg: str


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure in the style of the report, in inches; draw and call :func:`finish` inside the block."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def finish(figure: Figure, name: str, title: str, alt: str, tips: Mapping[str, Sequence[str]] | None = None) -> Drawing:
    """The figure as a drawing.

    Parameters
    ----------
    figure : Figure
    name : str
        Unique on the page; the beginning of every id in the drawing.
    title, alt : str
        See :class:`Drawing`.
    tips : mapping, optional
        By the gid of a line of markers: what each of them says when it is pointed at.
    """
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", metadata=nothing)
    return Drawing(title, alt, _inline(stream.getvalue(), name, alt, tips or {}))


def series(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of a series by its number; after :data:`SERIES` colours they come in other pairs."""
    colour, shape = number % SERIES, (number + number // SERIES) % SERIES
    return {"color": f"#0102{colour:02x}", "marker": _MARKERS[shape], "linestyle": _DASHES[shape]}


def legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, above them; the figure grows by the lines it needs beyond the first."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        fitting = int(_LETTERS * figure.get_figwidth() / (max(map(len, labels)) + _HANDLE))
        columns = min(len(labels), 3, max(1, fitting))
        figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * (-(-len(labels) // columns) - 1))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=3)


def _inline(svg: str, name: str, alt: str, tips: Mapping[str, Sequence[str]]) -> str:
    """An SVG file as an element of a page: without prolog, size and style sheet, its ids its own."""
    root = ElementTree.fromstring(svg[svg.index("<svg") :])
    for element in list(root.iter()):
        element.tag = _local(element.tag)
        for child in [c for c in element if _local(c.tag) in ("metadata", "style")]:
            element.remove(child)
        if (gid := element.get("id")) in tips:
            _add_tips(element, tips[str(gid)])
        attributes = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _own(key, value, name) for key, value in attributes.items()})
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _own(key: str, value: str, name: str) -> str:
    """An attribute with the page's colours, its ids and references beginning with the drawing's name."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-")
    value = value.replace("url(#", f"url(#{name}-")
    return re.sub("#[0-9a-f]{6}", lambda hit: _VARIABLES.get(hit[0], hit[0]), value)


def _add_tips(line: ElementTree.Element, texts: Sequence[str]) -> None:
    """Give the markers of a line a title each, which browsers show as a tip."""
    markers = [element for element in line.iter() if _local(element.tag) == "use"]
    if len(markers) == len(texts):
        for marker, text in zip(markers, texts, strict=True):
            ElementTree.SubElement(marker, "title").text = text


def _local(tag: str) -> str:
    """A name without its namespace, as HTML has it."""
    return tag.rpartition("}")[2]
