"""What is on screen about a source: its lines in an order, the selected one, all of them. Reads it, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from napari_uncertsam.evaluation.inspection import (
    NO_FILTER,
    PRESETS,
    Filter,
    Finding,
    Source,
    findings_as_csv,
    pooled_curve,
    reliability_of,
)
from napari_uncertsam.evaluation.inspection.findings import Region, Relation
from napari_uncertsam.evaluation.metrics import MEASURES, ReliabilityCurve
from napari_uncertsam.ui.inspect.plot import REGIONS, Curves
from napari_uncertsam.ui.inspect.texts import (
    card_rows,
    columns_of,
    digest_text,
    finding_title,
    is_known,
    order_text,
    shown_text,
    usual_columns,
)
from napari_uncertsam.ui.inspect.view import InspectView

_FIRST = next(iter(PRESETS))


class FindingPresenter:
    """Shows findings in the view.

    Parameters
    ----------
    view : InspectView
    """

    def __init__(self, view: InspectView) -> None:
        self._view = view
        self._source: Source | None = None
        self._notes: tuple[str, ...] = ()
        self._columns: list[str] | None = None  # None until the user wants others than the usual ones
        self._first = ""  # the measure of a preset stands before the others
        self._pooled: dict[Region, ReliabilityCurve | None] = {}
        self._preset = ""  # empty for an order of the user's own
        self._ordered = False
        #: The selected finding.
        self.chosen: Finding | None = None
        self._show_all()

    def show(self, source: Source, notes: Sequence[str] = (), *, anew: bool = False) -> int | None:
        """Show another source; returns the line to begin with: the one that was selected, or the first.

        Order, filter and columns stay as they are; `anew` begins with the worst of all lines.
        """
        before = None if anew else self.chosen
        self._source, self._notes, self.chosen = source, tuple(notes), None
        self._pooled = {region: pooled_curve(source.findings, region) for _, region in REGIONS}
        self._show_all()
        if anew or not self._ordered:
            self.apply(_FIRST)
        rows = self._view.table.rows()
        if before is not None:
            case = before.row["case"]
            rows = [k for k in rows if source.findings[k].row["case"] == case] or rows
        return rows[0] if rows else None

    def _show_all(self) -> None:
        source = self._source
        measures = self._measures()
        self._view.order.set_columns(measures)
        self._view.set_findings(*(((), ()) if source is None else (source.findings, columns_of(source, measures))))
        self._view.set_digest("" if source is None else digest_text(source), self._notes)
        self._show_count()
        self.choose(None)

    def _measures(self) -> list[str]:
        """The columns, in their order."""
        if self._source is None:
            return []
        wanted = usual_columns(self._source) if self._columns is None else self._columns
        first = [self._first] if self._first else []
        return [*first, *(name for name in MEASURES if name in wanted and name not in first)]

    def _show_count(self) -> None:
        source = self._source
        if source is None or not source.findings:
            self._view.set_count("")
        else:
            self._view.set_count(shown_text(len(self._view.table.rows()), len(source.findings), source.noun))

    # -- the selected line ---------------------------------------------------------------------------------------

    def choose(self, row: int | None) -> Finding | None:
        """Select a line, or none."""
        source = self._source
        self.chosen = None if row is None or source is None else source.findings[row]
        if self._view.table.selected() != row:
            self._view.table.select(row)
        self._view.set_card(finding_title(self.chosen), card_rows(source, self.chosen))
        curves = {
            region: Curves(
                None if self.chosen is None else reliability_of(self.chosen, region), self._pooled.get(region)
            )
            for _, region in REGIONS
        }
        self._view.set_curves(curves, findings=source is not None and bool(source.findings))
        return self.chosen

    def row_on(self, index: int) -> int | None:
        """The line of the selected object on another slice."""
        if self._source is None or self.chosen is None:
            return None
        title = self.chosen.title
        places = ((f.index, f.title) for f in self._source.findings)
        return next((row for row, place in enumerate(places) if place == (index, title)), None)

    # -- order, filter, columns ----------------------------------------------------------------------------------

    def apply(self, name: str) -> str:
        """Sort and filter by a preset; returns a sentence where that says nothing."""
        preset, self._ordered = PRESETS[name], self._source is not None
        self._preset = name
        self._view.order.set_preset(name)
        self._first = preset.measure
        self._redraw_columns()
        self._view.table.sort_by(preset.measure, preset.descending)
        self.filter(preset.filter)
        if self._source is not None and self._source.findings and not is_known(self._source, preset.measure):
            title = MEASURES[preset.measure].title
            return f"No {self._source.noun} has the measure '{title}', so there is nothing to sort by."
        return preset.help

    def sorted_by_user(self) -> str:
        """The order is no preset's any more; returns a sentence on what it is."""
        self._preset = ""
        self._view.order.set_preset("")
        order, source = self._view.table.order(), self._source
        if order is None or source is None:
            return ""
        measured = order[0] in MEASURES
        titles = {column.name: column.title for column in columns_of(source, [order[0]] if measured else [])}
        return order_text(titles.get(order[0], order[0]), measured, descending=order[1])

    def filter(self, chosen: Filter) -> None:
        """Show only some lines."""
        self._view.set_filter(chosen)
        self._show_count()

    def filtered_by_user(self, chosen: Filter) -> str | None:
        """Show only some lines; returns a sentence where that makes the order another than the preset's."""
        self.filter(chosen)
        kept = bool(self._preset) and chosen == PRESETS[self._preset].filter
        return None if kept else self.sorted_by_user()

    def filter_by(self, measure: str) -> str | None:
        """Begin to filter by a measure: the worse half is shown, until the user says where to cut."""
        if not measure:
            return self.filtered_by_user(NO_FILTER)
        found = [] if self._source is None else [f.measure(measure) for f in self._source.findings]
        known = [value for value in found if value is not None]
        relation: Relation = "<=" if MEASURES[measure].better == "higher" else ">="
        cut = round(median(known), 3) if known else 0.0
        return self.filtered_by_user(Filter(measure, relation, cut))

    def set_columns(self, measures: Sequence[str]) -> None:
        """Show other measures as columns."""
        self._columns, self._first = list(measures), ""
        self._redraw_columns()

    def _redraw_columns(self) -> None:
        source, chosen = self._source, self.chosen
        self._view.order.set_columns(self._measures())
        if source is not None:
            self._view.table.set_findings(source.findings, columns_of(source, self._measures()))
            self._view.table.select(None if chosen is None else list(source.findings).index(chosen))

    # -- out -----------------------------------------------------------------------------------------------------

    def as_csv(self, *, shown_columns: bool = False, delimiter: str = ",") -> str:
        """The lines that are shown, in their order, with all measures or with those that are columns."""
        if self._source is None:
            return ""
        findings = [self._source.findings[row] for row in self._view.table.rows()]
        measures = self._measures() if shown_columns else None
        return findings_as_csv(findings, measures, delimiter=delimiter)
