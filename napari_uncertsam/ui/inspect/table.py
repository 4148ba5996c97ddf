"""The table of findings: sorted by any column with what is undefined last, filtered by any measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QVBoxLayout, QWidget

from napari_uncertsam.evaluation.inspection import NO_FILTER, Filter, Finding
from napari_uncertsam.ui.inspect.texts import Column

_ROW_HEIGHT = 24
#: Room for the arrow in a head, and for a long name.
_ARROW, _WIDEST = 12, 190
_NO_PARENT = QModelIndex()


class FindingModel(QAbstractTableModel):
    """Findings as rows, in the order of their source."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.findings: tuple[Finding, ...] = ()
        self.columns: tuple[Column, ...] = ()

    def set_findings(self, findings: Sequence[Finding], columns: Sequence[Column]) -> None:
        """Show other findings, or other columns of them."""
        self.beginResetModel()
        self.findings, self.columns = tuple(findings), tuple(columns)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Qt's name for the number of findings."""
        return 0 if parent.isValid() else len(self.findings)

    def columnCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Qt's name for the number of columns."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell shows."""
        if not index.isValid():
            return None
        finding, column = self.findings[index.row()], self.columns[index.column()]
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


class FindingOrder(QSortFilterProxyModel):
    """Sorts by value, undefined last in either direction, and leaves out what the filter does."""

    def __init__(self, model: FindingModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model, self._filter = model, NO_FILTER
        self.setSourceModel(model)

    def set_filter(self, chosen: Filter) -> None:
        """Show only what a filter accepts."""
        self._filter = chosen
        self.invalidate()

    def filterAcceptsRow(self, row: int, _parent: QModelIndex) -> bool:
        """Qt's question for the filter."""
        return self._filter.accepts(self._model.findings[row])

    def lessThan(self, left: QModelIndex, right: QModelIndex) -> bool:
        """Qt's question for the order; asked the other way round when it is descending."""
        column = self._model.columns[left.column()]
        a, b = (column.value(self._model.findings[index.row()]) for index in (left, right))
        if a is None or b is None:
            descending = self.sortOrder() == Qt.SortOrder.DescendingOrder
            return (b if descending else a) is not None
        return bool(a < b)


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
        self._order = FindingOrder(self._model, self)
        self.table = _Lines(self)
        self.table.setModel(self._order)
        self._set_up()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        self._silent = False
        selection = self.table.selectionModel()
        assert selection is not None  # Qt makes one with the model; its type hints do not say so
        selection.currentRowChanged.connect(self._on_current)
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
        self._header = header
        header.sectionClicked.connect(self._on_header)
        table.setSortingEnabled(True)

    # -- what is shown -------------------------------------------------------------------------------------------

    def set_findings(self, findings: Sequence[Finding], columns: Sequence[Column]) -> None:
        """Show findings; the order stays where its column does."""
        order = self.order()
        self._model.set_findings(findings, columns)
        self._fit_columns()
        if order is not None and self._model.column_of(order[0]) is not None:
            self.sort_by(*order)

    def _fit_columns(self) -> None:
        self.table.resizeColumnsToContents()
        for column in range(len(self._model.columns)):
            self.table.setColumnWidth(column, min(self.table.columnWidth(column) + _ARROW, _WIDEST))

    def sort_by(self, name: str, descending: bool) -> None:
        """Sort by a column."""
        column = self._model.column_of(name)
        if column is not None:
            direction = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
            self.table.sortByColumn(column, direction)

    def order(self) -> tuple[str, bool] | None:
        """The column that the table is sorted by, and whether the largest comes first."""
        column = self._order.sortColumn()
        if not 0 <= column < len(self._model.columns):
            return None
        return self._model.columns[column].name, self._order.sortOrder() == Qt.SortOrder.DescendingOrder

    def set_filter(self, chosen: Filter) -> None:
        """Show only what a filter accepts."""
        self._order.set_filter(chosen)

    def rows(self) -> list[int]:
        """The lines that are shown, in their order."""
        indices = (self._order.index(k, 0) for k in range(self._order.rowCount()))
        return [self._order.mapToSource(index).row() for index in indices]

    def cells(self) -> list[list[str]]:
        """What is written in the lines that are shown."""
        shown = self._order
        return [
            [str(shown.data(shown.index(row, column))) for column in range(shown.columnCount())]
            for row in range(shown.rowCount())
        ]

    def select(self, row: int | None) -> None:
        """Select a line, or none, without telling anybody."""
        self._silent = True
        index = _NO_PARENT if row is None else self._order.mapFromSource(self._model.index(row, 0))
        if index.isValid():
            self.table.selectRow(index.row())
            self.table.scrollTo(self._order.index(index.row(), 0))
        else:
            self.table.clearSelection()
            self.table.setCurrentIndex(QModelIndex())
        self._silent = False

    def selected(self) -> int | None:
        """The selected line."""
        index = self.table.currentIndex()
        return self._order.mapToSource(index).row() if index.isValid() else None

    def step(self, by: int) -> None:
        """Select the line after or before, as if with the keyboard."""
        count, index = self._order.rowCount(), self.table.currentIndex()
        at = index.row() + by if index.isValid() else 0
        if 0 <= at < count:
            self.table.selectRow(at)

    # -- what the user does --------------------------------------------------------------------------------------

    def _on_current(self, current: QModelIndex, _before: QModelIndex) -> None:
        if current.isValid() and not self._silent:
            self._tell(current)

    def _tell(self, index: QModelIndex) -> None:
        self.chosen.emit(self._order.mapToSource(index).row())

    def _on_header(self, section: int) -> None:
        order = self.order()
        if order is not None and section < len(self._model.columns):
            self.sorted_by.emit(*order)
