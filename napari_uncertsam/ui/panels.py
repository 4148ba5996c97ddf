"""Parts of the widget's view: the list of suggestions, the result card, the line that says what is going on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_uncertsam.ui.parts import unbroken
from napari_uncertsam.ui.question_texts import SuggestionRow
from napari_uncertsam.ui.styles import NEGATIVE_COLOUR, POSITIVE_COLOUR
from napari_uncertsam.ui.texts import ResultText, pixels_text

#: Work that takes longer than this shows its progress and can be cancelled.
SHOW_PROGRESS_AFTER_MS = 1000
_ROW_HEIGHT = 27
_GOOD, _WARN = "#2ecc71", "#ffb347"
_DICE_TIP = (
    "How well the mask is likely to overlap with the true one, 1 at best: the model's own estimate from masks that it "
    "holds possible, with the interval of 90 %. How it was calibrated, and where it fails: docs/SUGGESTIONS.md."
)
_INVITATION = "Draw a box or click a point: the places where an answer helps most appear here."
_REASON_TIP = "Why the refinement was kept or not."


class SuggestionList(QWidget):
    """Ranked suggestions, each with the buttons inside, outside and don't know."""

    answered = Signal(int, bool)
    dismissed = Signal(int)
    chosen = Signal(int)

    _COLUMNS = ("#", "worth", "P(inside)", "", "", "")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._table = QTableWidget(0, len(self._COLUMNS), self)
        self._table.setHorizontalHeaderLabels(self._COLUMNS)
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self._table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        # Letters belong to the keys of the widget, not to a search in the list.
        self._table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._table.setShowGrid(False)
        self._table.setAccessibleName("Suggestions")
        header, numbers = self._table.horizontalHeader(), self._table.verticalHeader()
        assert header is not None  # Qt always has them; its type hints do not say so
        assert numbers is not None
        numbers.setDefaultSectionSize(_ROW_HEIGHT)
        numbers.hide()
        self._header = header
        header.setMinimumSectionSize(24)
        for column in range(len(self._COLUMNS)):
            fixed = column > 2
            header.setSectionResizeMode(
                column, QHeaderView.ResizeMode.Fixed if fixed else QHeaderView.ResizeMode.Stretch
            )
            if fixed:
                header.resizeSection(column, 30)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Fixed)
        header.resizeSection(0, 40)
        header.setSectionsClickable(False)
        self._empty = QLabel(_INVITATION)
        self._empty.setWordWrap(True)
        self._empty.setEnabled(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._empty)
        layout.addWidget(self._table)
        self._table.currentCellChanged.connect(self._on_row)
        self.set_rows((), None)

    def set_rows(self, rows: Sequence[SuggestionRow], chosen: int | None) -> None:
        """Show suggestions; `chosen` is a row number from 0."""
        self._table.blockSignals(True)
        self._table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            self._fill(number, row)
        self._table.blockSignals(False)
        self._table.setVisible(bool(rows))
        self._empty.setVisible(not rows)
        self._table.setFixedHeight(self._header.sizeHint().height() + 4 + _ROW_HEIGHT * len(rows))
        self.set_chosen(chosen)

    def set_invitation(self, text: str) -> None:
        """What is said where there are no suggestions; by default, how to come by some."""
        self._empty.setText(text or _INVITATION)

    def set_chosen(self, chosen: int | None) -> None:
        """Highlight a row, or none."""
        self._table.blockSignals(True)
        if chosen is None:
            self._table.clearSelection()
            self._table.setCurrentCell(-1, -1)
        else:
            self._table.setCurrentCell(chosen, 0)
        self._table.blockSignals(False)

    def _fill(self, number: int, row: SuggestionRow) -> None:
        label = f"{row.rank}" if row.kind == "point" else f"{row.rank} ▭"
        gain = pixels_text(max(row.gain, 0.0), None) if math.isfinite(row.gain) else "-"
        inside = f"{100 * row.probability:.0f} %" if row.kind == "point" else "-"
        for column, text in enumerate((label, gain, inside)):
            item = QTableWidgetItem(text.replace("less than ", "< "))
            item.setToolTip(row.tooltip)
            item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            self._table.setItem(number, column, item)
        if self._table.cellWidget(number, 3) is None:
            self._add_buttons(number)
        button = self._table.cellWidget(number, 3)
        if button is not None:
            button.setToolTip("Inside the object (Y)" if row.kind == "point" else "Use this box (Y)")

    def _add_buttons(self, number: int) -> None:
        """Inside, outside, don't know; they stay with the row whatever it shows."""
        for column, text, tip, colour, action in (
            (3, "✓", "Inside the object (Y)", POSITIVE_COLOUR, partial(self.answered.emit, number, True)),
            (4, "✗", "Outside the object (U)", NEGATIVE_COLOUR, partial(self.answered.emit, number, False)),
            (5, "?", "Don't know: do not ask about this place again (D)", "", partial(self.dismissed.emit, number)),
        ):
            button = QToolButton()
            button.setText(text)
            button.setToolTip(tip)
            button.setAccessibleName(tip)
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            style = "QToolButton { font-weight: bold; }"
            button.setStyleSheet(f"{style} QToolButton:enabled {{ color: {colour}; }}" if colour else style)
            # Later: an answer shortens the list, and with it goes the button whose click is being handled.
            button.clicked.connect(lambda _checked=False, act=action: QTimer.singleShot(0, act))
            self._table.setCellWidget(number, column, button)

    def _on_row(self, row: int, _column: int, _before: int, _before_column: int) -> None:
        if row >= 0:
            self.chosen.emit(row)


class ResultCard(QWidget):
    """How good the mask may be: expected Dice, area with its interval, uncertainty before and after; the last run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(10)
        layout.setVerticalSpacing(3)
        layout.setColumnStretch(1, 1)
        self._titles: dict[str, QLabel] = {}
        self._values: dict[str, QLabel] = {}
        for row, (name, title, tip) in enumerate(
            (
                ("dice", "Dice", _DICE_TIP),
                ("area", "Area", "Of the mask, with the interval that holds the true area with 90 % probability."),
                ("uncertain", "Uncertain area", "How many pixels the mask is expected to have wrong."),
                ("uncertainty", "Uncertainty", ResultText().tip),
                ("reason", "", _REASON_TIP),
                ("run", "Last run", "Seconds, model, and the device it ran on."),
            )
        ):
            label, value = QLabel(title), QLabel("-")
            label.setEnabled(False)
            value.setWordWrap(True)
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            value.setAccessibleName(title or "What was tried")
            for widget in (label, value):
                widget.setToolTip(tip)
                widget.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
            layout.addWidget(label, row, 0)
            layout.addWidget(value, row, 1)
            self._titles[name], self._values[name] = label, value
        self.set_result(ResultText())

    def set_result(self, text: ResultText) -> None:
        """Show a result."""
        mark = {"kept": " ✓", "refused": " (not kept)"}.get(text.verdict, "")
        colour = {"kept": _GOOD, "refused": _WARN}.get(text.verdict, "")
        for widget in (self._titles["uncertainty"], self._values["uncertainty"]):
            widget.setToolTip(text.tip)
        self._values["uncertainty"].setText(text.uncertainty + mark)
        self._values["uncertainty"].setStyleSheet(f"color: {colour};" if colour else "")
        for name, shown in (("dice", text.dice), ("uncertain", text.uncertain), ("reason", text.reason)):
            self._values[name].setText(unbroken(shown))
            for widget in (self._titles[name], self._values[name]):
                widget.setVisible(bool(shown))
        self._values["reason"].setToolTip(f"{_REASON_TIP}\n{text.rounds}".strip())
        self._values["area"].setText(unbroken(text.area))
        self._values["run"].setText(text.run)

    def set_device(self, text: str) -> None:
        """Model and device, as long as nothing has run."""
        if self._values["run"].text() == ResultText().run:
            self._values["run"].setText(text)

    def text(self) -> str:
        """All that is shown, for tests and screen readers."""
        return "\n".join(value.text() for value in self._values.values()).replace("\N{NO-BREAK SPACE}", " ")


class StatusLine(QWidget):
    """One sentence, an answer that can be given to it, and the progress of anything slow with Cancel."""

    cancelled = Signal()
    acted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._message, self._action = QLabel(""), QPushButton()
        self._message.setWordWrap(True)
        self._message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._message.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self._action.hide()
        self._action.clicked.connect(self._on_action)
        self._bar, self._cancel = QProgressBar(), QPushButton("Cancel")
        self._bar.setTextVisible(True)
        self._cancel.setToolTip("Stop what is being computed; nothing is lost")
        self._cancel.clicked.connect(self.cancelled)
        self._slow = QWidget()
        slow = QHBoxLayout(self._slow)
        slow.setContentsMargins(0, 0, 0, 0)
        slow.addWidget(self._bar, 1)
        slow.addWidget(self._cancel)
        self._slow.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 0)
        for widget in (self._message, self._action, self._slow):
            layout.addWidget(widget)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SHOW_PROGRESS_AFTER_MS)
        self._timer.timeout.connect(self._slow.show)

    def set_message(self, text: str, *, error: bool = False, action: str = "") -> None:
        """Say a sentence, with a button that answers it or without."""
        self._message.setText(text)
        self._message.setStyleSheet(f"color: {QColor(_WARN).name()};" if error else "")
        self._action.setText(action)
        self._action.setVisible(bool(action))

    def message(self) -> str:
        """The sentence."""
        return str(self._message.text())

    def set_busy(self, busy: bool) -> None:
        """Work begins or has ended; the bar comes up only if it lasts."""
        if busy:
            self._timer.start()
        else:
            self._timer.stop()
            self._slow.hide()

    def set_progress(self, text: str, fraction: float) -> None:
        """What is being done, and how much of it in [0, 1]; below 0 where that is not known."""
        # Not Qt's moving bar for "unknown": beside an OpenGL canvas each of its steps paints the whole window again.
        self._bar.setValue(round(100 * max(fraction, 0)))
        self._bar.setFormat(text)
        self._bar.setToolTip(text)

    def _on_action(self) -> None:
        self._action.hide()
        self.acted.emit()


class StatusView(QWidget):
    """A view with a status line, to which the sentences and the progress of both widgets go."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._status = StatusLine()

    def set_message(self, text: str, *, error: bool = False, action: str = "") -> None:
        """Say a sentence, with a button that answers it or without."""
        self._status.set_message(text, error=error, action=action)

    def message(self) -> str:
        """The sentence that is shown."""
        return self._status.message()

    def set_busy(self, busy: bool) -> None:
        """Whether something is being computed or read."""
        self._status.set_busy(busy)

    def set_progress(self, text: str, fraction: float) -> None:
        """What is being done, and how much of it in [0, 1]; below 0 where that is not known."""
        self._status.set_progress(text, fraction)
