"""Level and width of a window of the user's own."""

from __future__ import annotations

import math

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QWidget

_LARGEST = 1e12


class WindowFields(QWidget):
    """Two fields side by side; :attr:`changed` tells what was entered."""

    #: Level and width, in the intensities of the image.
    changed = Signal(float, float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._level = _field("Level", "Intensity shown as middle grey; Hounsfield units for CT", layout)
        self._width = _field("Width", "From black to white, in the same units", layout)
        for field in (self._level, self._width):
            field.valueChanged.connect(lambda _: self.changed.emit(*self.values()))

    def values(self) -> tuple[float, float]:
        """Level and width."""
        return self._level.value(), self._width.value()

    def set_values(self, level: float, width: float) -> None:
        """Show a window without telling anybody; its width says how fine the fields are."""
        if self.values() == (level, width):
            return
        decimals = min(9, max(0, 2 - math.floor(math.log10(width)))) if width > 0 else 0
        # Half a Hounsfield unit is what an odd width takes.
        decimals = max(decimals, 1 if level % 1 or width % 1 else 0)
        step = 10.0 ** round(math.log10(width) - 1.3) if width > 0 else 1.0
        for field, value in ((self._level, level), (self._width, width)):
            field.blockSignals(True)
            field.setDecimals(decimals)
            field.setMinimum(10.0**-decimals if field is self._width else -_LARGEST)
            field.setSingleStep(max(step, 10.0**-decimals))
            field.setValue(value)
            field.blockSignals(False)


def _field(name: str, tooltip: str, layout: QHBoxLayout) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setRange(-_LARGEST, _LARGEST)
    field.setKeyboardTracking(False)  # 400 is not to be seen as 4, 40, 400
    field.setToolTip(tooltip)
    field.setAccessibleName(name)
    field.setMinimumWidth(70)
    label = QLabel(name)
    label.setToolTip(tooltip)
    layout.addWidget(label)
    layout.addWidget(field, 1)
    return field
