"""Small parts of the view: buttons, rows, lists, the help."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget
from superqt import QCollapsible


def fill(combo: QComboBox, items: Sequence[tuple[str, Any]], current: int | None, placeholder: str = "") -> None:
    """Replace the entries of a list, given as (text, data), without telling anybody."""
    combo.blockSignals(True)
    combo.clear()
    for text, data in items:
        combo.addItem(text, data)
    combo.setPlaceholderText(placeholder)
    combo.setCurrentIndex(-1 if current is None else current)
    combo.blockSignals(False)


def enable_item(combo: QComboBox, number: int, enabled: bool) -> None:
    """Let an entry of a list be chosen, or not; its tooltip stays."""
    model = combo.model()
    item = model.item(number) if isinstance(model, QStandardItemModel) else None
    if item is not None:
        item.setEnabled(enabled)


def note(about: str) -> QLabel:
    """A sentence under a choice, which can be copied."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setAccessibleName(f"Note on {about}")
    return label


def unbroken(text: str) -> str:
    """The text with line breaks before and after what is in parentheses, never within."""
    return re.sub(r"\([^)]*\)", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def combo_box(tooltip: str) -> QComboBox:
    """A list to choose from."""
    combo = QComboBox()
    combo.setToolTip(tooltip)
    # A long layer name must not widen the dock.
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(12)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo


def button(text: str, tooltip: str, signal: Any) -> QPushButton:
    """A button that emits a signal."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.clicked.connect(lambda: signal.emit())
    return made


def row(*widgets: Any) -> QWidget:
    """Widgets side by side, alone or with their stretch."""
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    for entry in widgets:
        widget, stretch = entry if isinstance(entry, tuple) else (entry, 0)
        layout.addWidget(widget, stretch)
    return holder


def heading(text: str, tooltip: str) -> QLabel:
    """The title of a part."""
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold;")
    label.setToolTip(tooltip)
    return label


def swatch(colour: str, *, round_: bool) -> QIcon:
    """What is drawn, in its colour."""
    pixmap = QPixmap(24, 24)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(colour), 3))
    if round_:
        painter.setBrush(QColor(colour))
        painter.drawEllipse(6, 6, 12, 12)
    else:
        painter.drawRect(3, 6, 18, 12)
    painter.end()
    return QIcon(pixmap)


def line() -> QFrame:
    """A thin rule between parts."""
    rule = QFrame()
    rule.setFrameShape(QFrame.Shape.HLine)
    rule.setFixedHeight(1)
    rule.setStyleSheet("background-color: rgba(128, 128, 128, 90); border: none;")
    return rule


def key_help(keys: Sequence[tuple[str, str]], note: str) -> QWidget:
    """The keys, folded away."""
    table = "".join(f"<tr><td width='82'><b>{key}</b></td><td>{text}</td></tr>" for key, text in keys)
    label = QLabel(f"<table cellspacing='2'>{table}</table><p>{note}</p>")
    label.setWordWrap(True)
    label.setAccessibleName("Keys")
    help_box = QCollapsible("Keys and help")
    help_box.addWidget(label)
    help_box.collapse(animate=False)
    return help_box
