"""A volume with a prediction that is wrong in known places, and how a user handles the inspector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QPushButton
from scipy import ndimage

from napari_uncertsam.evaluation.metrics import dice
from napari_uncertsam.ui.inspect.plugin import InspectWidget

SHAPE = (10, 60, 80)
SCALE = (3.0, 0.5, 2.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """An object on slices 2 to 7, whose prediction is shifted, more on each slice, and missing on the last one."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray

    def dice(self, index: int) -> float:
        return dice(self.prediction[index], self.truth[index])


def scene(shape: tuple[int, int, int] = SHAPE) -> Scene:
    truth, soft = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    y, x = np.indices(shape[1:])
    for k in range(2, 8):
        disk = ((y - 20 - k) / 11) ** 2 + ((x - 30 - 2 * k) / 14) ** 2
        truth[k] = disk <= 1
        if k < 7:
            soft[k] = np.roll(ndimage.gaussian_filter((disk <= 1).astype(np.float32), 1.0 + 0.3 * k), k - 2, axis=1)
    image = np.random.default_rng(0).normal(100, 5, shape).astype(np.float32) + 40 * truth
    return Scene(image, truth, (soft > 0.5).astype(np.uint8), soft)


def click_row(view: Any, at: int) -> None:
    """A click on the line that is shown at a place."""
    table = view.table.table
    index = table.model().index(at, 0)
    table.scrollTo(index)
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualRect(index).center() + QPoint(0, 0))


def click_head(view: Any, title: str) -> None:
    """A click on the head of a column."""
    table = view.table.table
    column = titles(view).index(title)
    table.scrollTo(table.model().index(0, column))
    head = table.horizontalHeader()
    at = QPoint(head.sectionViewportPosition(column) + 8, head.height() // 2)
    QTest.mouseClick(head.viewport(), Qt.MouseButton.LeftButton, pos=at)


def titles(view: Any) -> list[str]:
    model = view.table.table.model()
    return [
        model.headerData(k, Qt.Orientation.Horizontal, Qt.ItemDataRole.DisplayRole) for k in range(model.columnCount())
    ]


def column(view: Any, title: str) -> list[str]:
    """What is written below a head."""
    at = titles(view).index(title)
    return [line[at] for line in view.table.cells()]


def combo(view: Any, name: str) -> QComboBox:
    (found,) = [box for box in view.findChildren(QComboBox) if box.accessibleName() == name]
    return found


def choose(view: Any, name: str, text: str) -> None:
    """Pick an entry of a list."""
    box = combo(view, name)
    at = box.findText(text)
    assert at >= 0, [box.itemText(k) for k in range(box.count())]
    box.setCurrentIndex(at)
    box.activated.emit(at)


def button(view: Any, text: str) -> QPushButton:
    (found,) = [b for b in view.findChildren(QPushButton) if b.text() == text]
    return found


def press_key(viewer: Any, key: str) -> None:
    """A key as the canvas gets it: the active layer is asked first."""
    handler = KeymapHandler()
    active = viewer.layers.selection.active
    handler.keymap_providers = [active, viewer] if active is not None else [viewer]
    handler.press_key(key)


class Inspecting:
    """The widget in a viewer, with what tests ask of it."""

    def __init__(self, viewer: Any, widget: InspectWidget) -> None:
        self.viewer, self.widget = viewer, widget
        self.view, self.coordinator = widget.view, widget.coordinator

    def settle(self) -> None:
        assert self.coordinator.wait(20)

    def compare(self) -> None:
        button(self.view, "Compare").click()
        self.settle()

    def layer(self, name: str) -> Any:
        return self.viewer.layers[name]

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]

    @property
    def message(self) -> str:
        return self.view.message()

    @property
    def chosen(self) -> Any:
        return self.coordinator.presenter.chosen
