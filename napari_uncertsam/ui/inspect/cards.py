"""The selected finding beside the mean of all, and what is said of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_uncertsam.ui.inspect.texts import INTERVAL_NOTE, CardRow

#: The measures stand in two blocks side by side.
_BLOCKS = 2


class FindingCard(QWidget):
    """Measures of the selected finding and their means; a sentence on all findings; what could not be told."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._digest, self._notes = (QLabel() for _ in range(3))
        self._title.setStyleSheet("font-weight: bold;")
        for label in (self._title, self._digest, self._notes):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._notes.setEnabled(False)
        self._digest.setToolTip(INTERVAL_NOTE)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        self._cells: list[tuple[QLabel, QLabel, QLabel]] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 4)
        layout.setSpacing(6)
        layout.addWidget(self._title)
        layout.addLayout(self._grid)
        layout.addWidget(self._digest)
        layout.addWidget(self._notes)
        layout.addStretch(1)

    def set_finding(self, title: str, rows: Sequence[CardRow]) -> None:
        """Show the selected finding."""
        self._title.setText(title)
        if len(self._cells) != len(rows):
            self._build(rows)
        for (name, value, mean), row in zip(self._cells, rows, strict=True):
            name.setText(row.title)
            value.setText(row.value)
            mean.setText(row.mean)
            for label in (name, value, mean):
                label.setToolTip(row.help)

    def set_digest(self, text: str, notes: Sequence[str]) -> None:
        """Say something of all findings."""
        self._digest.setText(text)
        self._digest.setVisible(bool(text))
        self._notes.setText(" ".join(notes))
        self._notes.setVisible(bool(notes))

    def text(self) -> str:
        """All that is shown, for tests and screen readers."""
        cells = [" ".join(label.text() for label in cell) for cell in self._cells]
        return "\n".join([self._title.text(), *cells, self._digest.text(), self._notes.text()])

    def _build(self, rows: Sequence[CardRow]) -> None:
        half = -(-len(rows) // _BLOCKS)
        for block in range(_BLOCKS):
            for offset, text in enumerate(("", "this", "mean")):
                head = QLabel(text)
                head.setEnabled(False)
                head.setAlignment(Qt.AlignmentFlag.AlignRight)
                self._grid.addWidget(head, 0, 4 * block + offset)
            self._grid.setColumnStretch(4 * block, 1)
        self._grid.setColumnMinimumWidth(3, 10)
        for number, row in enumerate(rows):
            block, at = divmod(number, half)
            name, value, mean = QLabel(row.title), QLabel(), QLabel()
            name.setEnabled(False)
            for offset, label in enumerate((name, value, mean)):
                if offset:
                    label.setAlignment(Qt.AlignmentFlag.AlignRight)
                    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                self._grid.addWidget(label, at + 1, 4 * block + offset)
            mean.setEnabled(False)
            self._cells.append((name, value, mean))
