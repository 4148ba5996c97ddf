"""What the user of the inspector sees: emits what is wanted and shows what it is told. No logic, no napari."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QFileDialog,
    QFrame,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_uncertsam.evaluation.inspection import Filter, Finding
from napari_uncertsam.evaluation.inspection.findings import Region
from napari_uncertsam.evaluation.results import RESULTS
from napari_uncertsam.ui.inspect.cards import FindingCard
from napari_uncertsam.ui.inspect.controls import LayerPanel, OrderPanel, ResultsPanel
from napari_uncertsam.ui.inspect.looks import ERROR_COLOUR, FALSE_INSIDE, FALSE_OUTSIDE, PREDICTION_COLOUR, TRUTH_COLOUR
from napari_uncertsam.ui.inspect.plot import Curves, ReliabilityPanel
from napari_uncertsam.ui.inspect.table import FindingTable
from napari_uncertsam.ui.inspect.texts import CardRow, Column
from napari_uncertsam.ui.panels import StatusView
from napari_uncertsam.ui.parts import button, key_help, line, row, swatch

_STALE_COLOUR = "#ffb347"


class InspectView(StatusView):
    """The controls; every `..._requested` signal is something the user wants."""

    layer_requested = Signal(str, int)
    pairing_requested = Signal(str)
    compare_requested = Signal()
    open_requested = Signal()
    results_requested = Signal(str)
    kind_requested = Signal(str, str)
    preset_requested = Signal(str)
    order_requested = Signal(str, bool)
    filter_measure_requested = Signal(str)
    filter_requested = Signal(object)
    columns_requested = Signal(object)
    finding_requested = Signal(int)
    copy_requested = Signal()
    export_requested = Signal()
    cancel_requested = Signal()
    action_requested = Signal()

    def __init__(self, keys: Sequence[tuple[str, str]] = (), note: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(6, 6, 6, 6)
        column.setSpacing(7)
        column.addWidget(self._sources())
        column.addWidget(self._order_panel())
        parts = QSplitter(Qt.Orientation.Vertical)
        parts.setChildrenCollapsible(False)
        parts.addWidget(self._findings())
        parts.addWidget(self._details())
        parts.setStretchFactor(0, 1)
        parts.setStretchFactor(1, 0)
        column.addWidget(parts, 1)
        column.addWidget(key_help(keys, note))
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        self._status.cancelled.connect(self.cancel_requested)
        self._status.acted.connect(self.action_requested)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 6)
        layout.addWidget(area, 1)
        layout.addWidget(line())
        layout.addWidget(self._status)
        self.setMinimumWidth(380)
        self.setAcceptDrops(True)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _sources(self) -> QWidget:
        self.layers = LayerPanel()
        self.layers.layer_requested.connect(self.layer_requested)
        self.layers.pairing_requested.connect(self.pairing_requested)
        self.layers.compare_requested.connect(self.compare_requested)
        self.results = ResultsPanel()
        self.results.open_requested.connect(self.open_requested)
        self.results.kind_requested.connect(self.kind_requested)
        self._tabs = QTabWidget()
        self._tabs.addTab(self.layers, "Layers")
        self._tabs.addTab(self.results, "Evaluation")
        self._tabs.setTabToolTip(0, "Compare layers of the viewer")
        self._tabs.setTabToolTip(1, "Look at the results of an evaluation")
        _fit_to_page(self._tabs)
        return self._tabs

    def _order_panel(self) -> QWidget:
        self.order = OrderPanel()
        self.order.preset_requested.connect(self.preset_requested)
        self.order.filter_measure_requested.connect(self.filter_measure_requested)
        self.order.filter_requested.connect(self.filter_requested)
        self.order.columns_requested.connect(self.columns_requested)
        return self.order

    def _findings(self) -> QWidget:
        self.table = FindingTable()
        self.table.setMinimumHeight(150)
        self.table.chosen.connect(self.finding_requested)
        self.table.sorted_by.connect(self.order_requested)
        self._count, self._stale = QLabel(), QLabel("out of date")
        self._stale.setStyleSheet(f"color: {_STALE_COLOUR};")
        self._stale.hide()
        self._zoom = QCheckBox("Zoom")
        self._zoom.setChecked(True)
        self._zoom.setToolTip("Zoom to the object when going to a line; otherwise the camera is only centred on it")
        self._copy = button("Copy", "Copy what the table shows, to be pasted into a spreadsheet", self.copy_requested)
        self._export = button("Export…", "Save the shown lines with all measures as CSV", self.export_requested)
        foot = row(self._count, self._stale, (QWidget(), 1), self._zoom, self._copy, self._export)
        holder = QWidget()
        layout = QVBoxLayout(holder)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(4)
        layout.addWidget(self.table, 1)
        layout.addWidget(foot)
        self._legends = _legend(_ERRORS), _legend(_OUTLINES)
        for legend in self._legends:
            layout.addWidget(legend)
        self.set_outlines(False)
        return holder

    def _details(self) -> QWidget:
        self.card, self.plot = FindingCard(), ReliabilityPanel()
        self._about = QTabWidget()
        self._about.addTab(self.card, "Measures")
        self._about.addTab(self.plot, "Reliability")
        _fit_to_page(self._about)
        return self._about

    # -- what is shown -------------------------------------------------------------------------------------------

    def show_source(self, name: str) -> None:
        """Bring the tab "layers" or "results" to the front."""
        self._tabs.setCurrentWidget(self.results if name == "results" else self.layers)

    def set_findings(self, findings: Sequence[Finding], columns: Sequence[Column]) -> None:
        """The lines of the table."""
        self.table.set_findings(findings, columns)
        for widget in (self._copy, self._export):
            widget.setEnabled(bool(findings))

    def set_count(self, text: str) -> None:
        """How many lines are shown."""
        self._count.setText(text)

    def set_stale(self, reason: str) -> None:
        """Whether the layers have changed since, and how; empty when not."""
        self._stale.setVisible(bool(reason))
        self._stale.setToolTip(reason)

    def set_outlines(self, shown: bool) -> None:
        """Whether truth and prediction are drawn by the widget, and are to be told apart."""
        self._legends[1].setVisible(shown)

    def set_filter(self, chosen: Filter) -> None:
        """Show only some lines."""
        self.order.set_filter(chosen)
        self.table.set_filter(chosen)

    def set_card(self, title: str, rows: Sequence[CardRow]) -> None:
        """The selected finding."""
        self.card.set_finding(title, rows)

    def set_digest(self, text: str, notes: Sequence[str]) -> None:
        """All findings."""
        self.card.set_digest(text, notes)

    def set_curves(self, curves: Mapping[Region, Curves], *, findings: bool) -> None:
        """Reliability of the selected finding and of all."""
        self.plot.set_curves(curves, findings=findings)

    def zooms(self) -> bool:
        """Whether going to a line zooms to its object."""
        return bool(self._zoom.isChecked())

    # -- questions -----------------------------------------------------------------------------------------------

    def ask_results(self) -> str:
        """The folder of an evaluation, empty when the user changed their mind."""
        return str(QFileDialog.getExistingDirectory(self, "Open the results of an evaluation"))

    def ask_dataset(self) -> str:
        """The folder to which a dataset was moved, empty when the user changed their mind."""
        return str(QFileDialog.getExistingDirectory(self, "Find the dataset that was evaluated"))

    def ask_file(self, name: str) -> str:
        """A file to save a table to, empty when the user changed their mind."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", name, "CSV (*.csv)")
        return str(path)

    def to_clipboard(self, text: str) -> None:
        """Put text where it can be pasted from."""
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)

    # -- dropping a folder ---------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take the folder of an evaluation, and leave everything else to napari."""
        if event is not None and _evaluation_in(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open it."""
        path = _evaluation_in(event) if event is not None else ""
        if event is not None and path:
            event.acceptProposedAction()
            self.results_requested.emit(path)


def _fit_to_page(tabs: QTabWidget) -> None:
    """Let tabs be as high as the page that is shown needs, not as the highest."""

    def fit(current: int) -> None:
        for number in range(tabs.count()):
            page = tabs.widget(number)
            if page is not None:
                vertical = QSizePolicy.Policy.Preferred if number == current else QSizePolicy.Policy.Ignored
                page.setSizePolicy(QSizePolicy.Policy.Preferred, vertical)

    tabs.currentChanged.connect(fit)
    tabs.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
    fit(tabs.currentIndex())


#: Colour, whether it is filled rather than an outline, and what it means.
_ERRORS = (
    (FALSE_INSIDE, True, "falsely inside"),
    (FALSE_OUTSIDE, True, "falsely outside"),
    (ERROR_COLOUR, True, "error, bright is large"),
)
_OUTLINES = ((TRUTH_COLOUR, False, "outline of the truth"), (PREDICTION_COLOUR, False, "of the prediction"))


def _legend(entries: Sequence[tuple[str, bool, str]]) -> QWidget:
    """What the colours on the canvas mean."""
    parts: list[QWidget] = []
    for colour, filled, text in entries:
        icon, label = QLabel(), QLabel(text)
        icon.setPixmap(swatch(colour, round_=filled).pixmap(12, 12))
        parts += [icon, label]
    legend = row(*parts, (QWidget(), 1))
    legend.setToolTip(
        "Layers 'wrong', 'error' (|P \N{MINUS SIGN} M|, dark 0 to bright 1), 'ground truth' and 'prediction'"
    )
    return legend


def _evaluation_in(event: QDropEvent) -> str:
    """The one folder, or results file, that is dragged; empty for anything else."""
    data = event.mimeData()
    paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()] if data is not None else []
    return str(paths[0]) if len(paths) == 1 and (paths[0].is_dir() or paths[0].name == RESULTS) else ""
