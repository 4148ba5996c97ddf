"""The report as a reader meets it: its tables, its sources and its text, by the standard library's parser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

#: Elements without an end.
VOID = {"meta", "wbr", "img", "br", "link", "hr", "input"}


@dataclass
class ReadCell:
    text: str = ""
    attributes: dict[str, str | None] = field(default_factory=dict)
    small: list[str] = field(default_factory=list)


@dataclass
class ReadTable:
    caption: str = ""
    heads: list[ReadCell] = field(default_factory=list)
    rows: list[list[ReadCell]] = field(default_factory=list)

    def cell(self, column: str, *heads: str) -> ReadCell:
        """The cell under a head that starts with `column`, in the row that starts with `heads`."""
        titles = [head.text for head in self.heads]
        at = next(i for i, title in enumerate(titles) if title == column)
        [row] = [row for row in self.rows if tuple(c.text for c in row[: len(heads)]) == heads]
        return row[at]


class Page(HTMLParser):
    """Parses a page; elements that are not closed in order fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[ReadTable] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._open: list[tuple[str, str]] = []
        self._row_in_head = False
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in VOID:
            return
        kind = str(attributes.get("class") or "")
        self._open.append((tag, kind))
        if tag == "table":
            self.tables.append(ReadTable())
        if tag == "thead":
            self._row_in_head = True
        if tag == "tr" and not self._row_in_head:
            self.tables[-1].rows.append([])
        if tag in ("td", "th"):
            place = self.tables[-1].heads if self._row_in_head else self.tables[-1].rows[-1]
            place.append(ReadCell(attributes=attributes))

    def handle_endtag(self, tag: str) -> None:
        opened = self._open.pop()
        assert opened[0] == tag, f"<{opened[0]}> is closed by </{tag}>"
        if tag == "thead":
            self._row_in_head = False

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if "script" in tags:
            self.scripts.append(data)
        elif "style" not in tags:
            self.words.append(data)
        if "caption" in tags:
            self.tables[-1].caption += data
        if "td" in tags or "th" in tags:
            place = self.tables[-1].heads if self._row_in_head else self.tables[-1].rows[-1]
            inner = self._open[-1]
            if inner[0] == "span" and "small" in inner[1]:
                place[-1].small.append(data)
            elif inner[0] in ("td", "th") or inner[1] == "part":
                place[-1].text = (place[-1].text + data).strip().replace("\xa0", "")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, caption: str) -> ReadTable:
        [found] = [t for t in self.tables if t.caption.startswith(caption)]
        return found

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]
