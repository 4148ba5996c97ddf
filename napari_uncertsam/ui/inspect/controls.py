"""The upper part of the inspector: what is compared, and which findings are shown in which order."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_uncertsam.evaluation.inspection import NO_FILTER, PAIRINGS, PRESETS, Filter, Pair
from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.ui.inspect.choices import SLOTS, Slot
from napari_uncertsam.ui.inspect.texts import DROP_HINT
from napari_uncertsam.ui.parts import button, combo_box, fill, row

_SLOTS: dict[Slot, tuple[str, str]] = {
    "image": ("Image", "What was segmented; its spacing is used for distances"),
    "prediction": ("Prediction", "A mask with a value per object, or probabilities, which are cut at 0.5"),
    "truth": ("Ground truth", "The true mask, with a value per object"),
    "probability": ("Probability", "In [0, 1]; for calibration and for |P \N{MINUS SIGN} M|"),
    "uncertainty": ("Uncertainty", "In nats; by default the entropy of the probability"),
}
_LARGEST_LABEL = 2**31 - 1


class LayerPanel(QWidget):
    """Which layers are compared, and how their objects find each other."""

    layer_requested = Signal(str, int)
    pairing_requested = Signal(str)
    compare_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        form = QFormLayout(self)
        form.setContentsMargins(6, 8, 6, 6)
        form.setSpacing(5)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._slots: dict[str, QComboBox] = {}
        for slot in SLOTS:
            title, tip = _SLOTS[slot]
            box = combo_box(tip)
            box.setAccessibleName(title)
            box.activated.connect(lambda place, chosen=slot: self.layer_requested.emit(chosen, place))
            form.addRow(title, box)
            self._slots[slot] = box
        self._pairing = combo_box("Which predicted object is compared with which true one")
        self._pairing.setAccessibleName("Objects")
        fill(self._pairing, [(title, name) for name, (title, _) in PAIRINGS.items()], 0)
        for place, (_, tip) in enumerate(PAIRINGS.values()):
            self._pairing.setItemData(place, tip, Qt.ItemDataRole.ToolTipRole)
        self._pairing.activated.connect(lambda _: self.pairing_requested.emit(self._pairing.currentData()))
        form.addRow("Objects", self._pairing)
        self._values = [QSpinBox(), QSpinBox()]
        names = ("Value of the prediction", "Value of the ground truth")
        for number, name in zip(self._values, names, strict=True):
            number.setRange(1, _LARGEST_LABEL)
            number.setAccessibleName(name)
            number.setToolTip(name)
        self._pair = row((self._values[0], 1), QLabel("with"), (self._values[1], 1))
        form.addRow("Values", self._pair)
        self._form = form
        form.setRowVisible(self._pair, False)
        self.compare = button("Compare", "Measure every object on every slice", self.compare_requested)
        self.compare.setMinimumHeight(30)
        self.compare.setStyleSheet("QPushButton { font-weight: bold; }")
        form.addRow(self.compare)

    def set_layers(self, slot: Slot, names: Sequence[str], current: int | None) -> None:
        """Layers to choose from."""
        fill(self._slots[slot], [(name, None) for name in names], current, "choose a layer")
        self._slots[slot].setToolTip(_SLOTS[slot][1] if current is None else f"{names[current]}\n{_SLOTS[slot][1]}")

    def set_pairing(self, name: str) -> None:
        """How objects find each other."""
        self._pairing.setCurrentIndex(self._pairing.findData(name))
        self._form.setRowVisible(self._pair, name == "one")

    def pair(self) -> Pair:
        """The one pair of values."""
        prediction, truth = (box.value() for box in self._values)
        return Pair(prediction, truth)


class ResultsPanel(QWidget):
    """An evaluation's folder, and which of its prompts and methods is shown."""

    open_requested = Signal()
    kind_requested = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = QLabel(DROP_HINT)
        self._name.setWordWrap(True)
        self._prompt = combo_box("What the model was given")
        self._method = combo_box("Where the uncertainty comes from")
        for box, name in ((self._prompt, "Prompt"), (self._method, "Method")):
            box.setAccessibleName(name)
            box.activated.connect(self._on_kind)
        form = QFormLayout()
        form.setSpacing(5)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Prompt", self._prompt)
        form.addRow("Method", self._method)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 8, 6, 6)
        layout.addWidget(self._name)
        layout.addLayout(form)
        opening = button("Open results…", "Choose the folder of an evaluation", self.open_requested)
        opening.setMinimumHeight(30)
        layout.addStretch(1)
        layout.addWidget(opening)
        self.set_results("", (), "", (), "")

    def set_results(self, text: str, prompts: Sequence[str], prompt: str, methods: Sequence[str], method: str) -> None:
        """Which evaluation is open; an empty text for none."""
        self._name.setText(text or DROP_HINT)
        for box, names, current in ((self._prompt, prompts, prompt), (self._method, methods, method)):
            fill(box, [(name, None) for name in names], list(names).index(current) if current in names else None)
            box.setEnabled(bool(names))

    def _on_kind(self, _row: int) -> None:
        self.kind_requested.emit(self._prompt.currentText(), self._method.currentText())


class OrderPanel(QWidget):
    """Presets, a filter by any measure, and which measures are columns."""

    preset_requested = Signal(str)
    #: The measure to filter by; empty for none.
    filter_measure_requested = Signal(str)
    filter_requested = Signal(object)
    columns_requested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._preset = combo_box("What to look for")
        self._preset.setAccessibleName("Order")
        fill(self._preset, [(preset.title, preset.name) for preset in PRESETS.values()], 0, "own order")
        for number, preset in enumerate(PRESETS.values()):
            self._preset.setItemData(number, preset.help, Qt.ItemDataRole.ToolTipRole)
        self._preset.activated.connect(lambda _: self.preset_requested.emit(self._preset.currentData()))
        self._columns = QPushButton("Columns")
        self._columns.setToolTip("Which measures are columns")
        self._menu = QMenu(self._columns)
        self._columns.setMenu(self._menu)
        self._actions: dict[str, QAction] = {}
        self._make_menu()
        self._measure = combo_box("Show only lines whose measure is at most, or at least, a value")
        self._measure.setAccessibleName("Filter by")
        fill(self._measure, [("all lines", ""), *((m.title, name) for name, m in MEASURES.items())], 0)
        self._relation = QComboBox()
        fill(self._relation, [("≤", "<="), ("≥", ">=")], 0)
        self._relation.setAccessibleName("At most or at least")
        self._value = QDoubleSpinBox()
        self._value.setRange(-1e6, 1e6)
        self._value.setDecimals(3)
        self._value.setSingleStep(0.05)
        self._value.setKeyboardTracking(False)
        self._value.setAccessibleName("Filter value")
        self._measure.activated.connect(lambda _: self.filter_measure_requested.emit(self._measure.currentData()))
        self._relation.activated.connect(self._on_filter)
        self._value.valueChanged.connect(self._on_filter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(row(QLabel("Order"), (self._preset, 1), self._columns))
        layout.addWidget(row(QLabel("Show"), (self._measure, 1), self._relation, self._value))
        self.set_filter(NO_FILTER)

    def _make_menu(self) -> None:
        for name, measure in MEASURES.items():
            action = QAction(measure.title, self._menu)
            action.setCheckable(True)
            action.setToolTip(measure.help)
            action.triggered.connect(self._on_columns)
            self._menu.addAction(action)
            self._actions[name] = action
        self._menu.setToolTipsVisible(True)

    def set_preset(self, name: str) -> None:
        """Which preset is shown; empty for an order of the user's own."""
        self._preset.setCurrentIndex(self._preset.findData(name) if name else -1)

    def set_filter(self, chosen: Filter) -> None:
        """Which filter is shown."""
        for widget in (self._relation, self._value):
            widget.blockSignals(True)
            widget.setEnabled(bool(chosen.measure))
        self._measure.setCurrentIndex(self._measure.findData(chosen.measure))
        self._relation.setCurrentIndex(self._relation.findData(chosen.relation))
        self._value.setValue(chosen.value)
        for widget in (self._relation, self._value):
            widget.blockSignals(False)

    def set_columns(self, measures: Sequence[str]) -> None:
        """Which measures are columns."""
        for name, action in self._actions.items():
            action.setChecked(name in measures)

    def _on_filter(self, _value: float = 0) -> None:
        self.filter_requested.emit(
            Filter(self._measure.currentData(), self._relation.currentData(), self._value.value())
        )

    def _on_columns(self, _checked: bool = False) -> None:
        self.columns_requested.emit([name for name, action in self._actions.items() if action.isChecked()])
