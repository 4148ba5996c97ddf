"""The table of findings: sorted by any column with what is undefined last, filtered by any measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QVBoxLayout, QWidget

from napari_uncertsam.evaluation.inspection import NO_FILTER, Filter, Finding
from napari_uncertsam.ui.inspect.texts import Column

_ROW_HEIGHT = 24
#: Room for the arrow in a head, and for a long name.
_ARROW, _WIDEST = 12, 190
#: Columns are as wide as what stands in so many lines.
_MEASURED_LINES = 200
_NO_PARENT = QModelIndex()


class FindingModel(QAbstractTableModel):
    """Findings as rows: those that a filter accepts, sorted by a column with what is undefined last either way.

    Sorted and filtered here, not in a model between this and the table: Qt would ask back for every comparison.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.findings: tuple[Finding, ...] = ()
        self.columns: tuple[Column, ...] = ()
        #: Of each line that is shown, its place in the source.
        self.shown: list[int] = []
        self._filter = NO_FILTER
        self._order: tuple[str, bool] | None = None

    def set_findings(self, findings: Sequence[Finding], columns: Sequence[Column]) -> None:
        """Show other findings, or other columns of them."""
        self.beginResetModel()
        self.findings, self.columns = tuple(findings), tuple(columns)
        self.shown = self._sorted()
        self.endResetModel()

    def set_filter(self, chosen: Filter) -> None:
        """Show only what a filter accepts."""
        self.beginResetModel()
        self._filter = chosen
        self.shown = self._sorted()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Qt's name for sorting by a column."""
        if not 0 <= column < len(self.columns):
            return
        self.beginResetModel()
        self._order = self.columns[column].name, order == Qt.SortOrder.DescendingOrder
        self.shown = self._sorted()
        self.endResetModel()

    def order(self) -> tuple[str, bool] | None:
        """The column that is sorted by, and whether the largest comes first."""
        return self._order

    def _sorted(self) -> list[int]:
        rows = [row for row, finding in enumerate(self.findings) if self._filter.accepts(finding)]
        at = None if self._order is None else self.column_of(self._order[0])
        if self._order is None or at is None:
            return rows
        values = {row: self.columns[at].value(self.findings[row]) for row in rows}
        known = [row for row in rows if values[row] is not None]
        known.sort(key=values.__getitem__, reverse=self._order[1])
        return known + [row for row in rows if values[row] is None]

    def rowCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Qt's name for the number of lines."""
        return 0 if parent.isValid() else len(self.shown)

    def columnCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Qt's name for the number of columns."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell shows."""
        if not index.isValid():
            return None
        finding, column = self.findings[self.shown[index.row()]], self.columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(finding)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{finding.row['case']}\n{column.help}"
        return _alignment(column) if role == Qt.ItemDataRole.TextAlignmentRole else None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Titles of the columns."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self.columns):
            return None
        column = self.columns[section]
        told = {
            Qt.ItemDataRole.DisplayRole: column.title,
            Qt.ItemDataRole.ToolTipRole: column.help,
            Qt.ItemDataRole.TextAlignmentRole: _alignment(column, head=True),
        }
        return told.get(Qt.ItemDataRole(role))

    def column_of(self, name: str) -> int | None:
        """Place of a column."""
        return next((k for k, column in enumerate(self.columns) if column.name == name), None)


def _alignment(column: Column, *, head: bool = False) -> Qt.AlignmentFlag:
    """Names begin, and measures end, below one another; in a head the arrow is at the end."""
    if column.name in ("image", "object"):
        return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
    side = Qt.AlignmentFlag.AlignHCenter if head or column.name == "slice" else Qt.AlignmentFlag.AlignRight
    return side | Qt.AlignmentFlag.AlignVCenter


class _Lines(QTableView):
    """Tells when the current line is pressed again."""

    again = Signal(QModelIndex)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Compare what was current before with what is pressed."""
        before = self.currentIndex()
        super().mousePressEvent(event)
        pressed = QModelIndex() if event is None else self.indexAt(event.position().toPoint())
        if before.isValid() and pressed.isValid() and pressed.row() == before.row():
            self.again.emit(pressed)


class FindingTable(QWidget):
    """The table, with one line selected or none. Lines are known by their place in the source."""

    #: A line was selected by mouse or keyboard, or clicked again.
    chosen = Signal(int)
    #: The user sorted by a column: its name, and whether the largest comes first.
    sorted_by = Signal(str, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = FindingModel(self)
        self.table = _Lines(self)
        self.table.setModel(self._model)
        self._set_up()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        self._silent = False
        self._selected: int | None = None
        selection = self.table.selectionModel()
        assert selection is not None  # Qt makes one with the model; its type hints do not say so
        selection.currentRowChanged.connect(self._on_current)
        self._model.modelReset.connect(self._show_selected)
        self.table.again.connect(self._tell)
        self.table.activated.connect(self._tell)

    def _set_up(self) -> None:
        table = self.table
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.setAccessibleName("Findings")
        header, numbers = table.horizontalHeader(), table.verticalHeader()
        assert header is not None
        assert numbers is not None
        numbers.setDefaultSectionSize(_ROW_HEIGHT)
        numbers.hide()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setMinimumSectionSize(44)
        header.setResizeContentsPrecision(_MEASURED_LINES)
        self._header = header
        header.sectionClicked.connect(self._on_header)
        table.setSortingEnabled(True)

    # -- what is shown -------------------------------------------------------------------------------------------

    def set_findings(self, findings: Sequence[Finding], columns: Sequence[Column]) -> None:
        """Show findings, none of them selected; the order stays where its column does."""
        self._selected = None
        self._model.set_findings(findings, columns)
        self._fit_columns()
        order = self.order()
        column = None if order is None else self._model.column_of(order[0])
        if order is not None:
            # Where its column is gone there is no arrow, rather than one on whichever column has its place.
            self._header.setSortIndicator(-1 if column is None else column, _direction(order[1]))

    def _fit_columns(self) -> None:
        self.table.resizeColumnsToContents()
        for column in range(len(self._model.columns)):
            self.table.setColumnWidth(column, min(self.table.columnWidth(column) + _ARROW, _WIDEST))

    def sort_by(self, name: str, descending: bool) -> None:
        """Sort by a column."""
        column = self._model.column_of(name)
        if column is not None:
            self.table.sortByColumn(column, _direction(descending))

    def order(self) -> tuple[str, bool] | None:
        """The measure that the table is sorted by, and whether the largest comes first."""
        return self._model.order()

    def set_filter(self, chosen: Filter) -> None:
        """Show only what a filter accepts."""
        self._model.set_filter(chosen)

    def rows(self) -> list[int]:
        """The lines that are shown, in their order."""
        return list(self._model.shown)

    def cells(self) -> list[list[str]]:
        """What is written in the lines that are shown."""
        findings = [self._model.findings[row] for row in self._model.shown]
        return [[column.text(finding) for column in self._model.columns] for finding in findings]

    def select(self, row: int | None) -> None:
        """Select a line, or none, without telling anybody."""
        self._selected = row
        self._show_selected()

    def _show_selected(self) -> None:
        """Qt forgets what is selected whenever other lines are shown."""
        shown = self._model.shown
        self._silent = True
        if self._selected in shown:
            at = shown.index(self._selected)
            self.table.selectRow(at)
            self.table.scrollTo(self._model.index(at, 0))
        else:
            self.table.clearSelection()
            self.table.setCurrentIndex(QModelIndex())
        self._silent = False

    def selected(self) -> int | None:
        """The selected line."""
        return self._selected

    def step(self, by: int) -> None:
        """Select the line after or before, as if with the keyboard."""
        count, index = self._model.rowCount(), self.table.currentIndex()
        at = index.row() + by if index.isValid() else 0
        if 0 <= at < count:
            self.table.selectRow(at)

    # -- what the user does --------------------------------------------------------------------------------------

    def _on_current(self, current: QModelIndex, _before: QModelIndex) -> None:
        if current.isValid() and not self._silent:
            self._tell(current)

    def _tell(self, index: QModelIndex) -> None:
        self._selected = self._model.shown[index.row()]
        self.chosen.emit(self._selected)

    def _on_header(self, section: int) -> None:
        order = self.order()
        if order is not None and section < len(self._model.columns):
            self.sorted_by.emit(*order)


def _direction(descending: bool) -> Qt.SortOrder:
    return Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
