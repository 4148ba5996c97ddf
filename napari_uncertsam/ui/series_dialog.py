"""Asking which of several volumes is meant."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QApplication, QDialog, QDialogButtonBox, QLabel, QListWidget, QVBoxLayout, QWidget


class ChoiceDialog(QDialog):
    """A list to choose one line from; the first is chosen to begin with, and a double click takes a line at once."""

    def __init__(self, title: str, options: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.list = QListWidget()
        self.list.addItems(list(options))
        self.list.setCurrentRow(0)
        self.list.setAccessibleName(title)
        self.list.setMinimumWidth(self.list.sizeHintForColumn(0) + 40)
        self.list.itemDoubleClicked.connect(lambda _: self.accept())
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("There are several volumes. Which one is to be opened?"))
        layout.addWidget(self.list)
        layout.addWidget(buttons)

    @property
    def chosen(self) -> int:
        """Number of the chosen line, from 0."""
        return int(self.list.currentRow())


def can_ask() -> bool:
    """Whether there is anybody to ask: a Qt application."""
    return QApplication.instance() is not None


def ask(title: str, options: Sequence[str]) -> int | None:
    """Number of the option that the person chooses, from 0; None when they cancel."""
    dialog = ChoiceDialog(title, options, QApplication.activeWindow())
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    return dialog.chosen if accepted else None
