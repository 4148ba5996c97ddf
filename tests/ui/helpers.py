"""A mouse, a clock that notices when the GUI stands still, and predictions without a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import (
    mouse_double_click_callbacks,
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
)
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QPushButton

from napari_uncertsam.pipeline import Pipeline, Request
from napari_uncertsam.session import Session
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.sync import LayerSync
from tests.fakes import FakeEngine, scene


class Mouse:
    """Drags and clicks on a layer as napari's canvas would, at world positions."""

    def __init__(self, layer: Any, displayed: Sequence[int] = (0, 1), after: Callable[[], None] = lambda: None) -> None:
        self.layer, self.displayed, self.after = layer, list(displayed), after

    def _event(self, kind: str, position: Sequence[float]) -> Any:
        return SimpleNamespace(
            type=kind,
            position=np.asarray(position, float),
            view_direction=None,
            up_direction=None,
            dims_displayed=self.displayed,
            modifiers=[],
            button=1,
            buttons=[1],
            is_dragging=kind == "mouse_move",
            inverted=False,
            native=None,
            handled=False,
            pos=np.asarray(position, float)[-2:],
            dims_point=np.asarray(position, float),
        )

    def press(self, position: Sequence[float]) -> None:
        # Generators of a drag keep this wrapper, through which napari shows them the newest event.
        mouse_press_callbacks(
            self.layer, ReadOnlyWrapper(self._event("mouse_press", position), exceptions=("handled",))
        )
        self.after()

    def move(self, position: Sequence[float]) -> None:
        mouse_move_callbacks(self.layer, self._event("mouse_move", position))
        self.after()

    def release(self, position: Sequence[float]) -> None:
        mouse_release_callbacks(self.layer, self._event("mouse_release", position))
        self.after()

    def drag(self, start: Sequence[float], stop: Sequence[float], steps: int = 4) -> None:
        self.press(start)
        for share in np.linspace(0, 1, steps):
            self.move(np.asarray(start) + share * (np.asarray(stop) - np.asarray(start)))
        self.release(stop)

    def click(self, position: Sequence[float]) -> None:
        self.press(position)
        self.release(position)

    def double_click(self, position: Sequence[float]) -> None:
        mouse_double_click_callbacks(self.layer, self._event("mouse_double_click", position))
        self.after()


class Heartbeat:
    """Beats every 5 ms in the GUI thread; `longest` is the longest time it did not, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last: float | None = None
        self._timer = QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.longest = max(self.longest, now - self._last)
        self._last = now

    def __enter__(self) -> Heartbeat:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beat()
        self._timer.stop()


class Loop:
    """Session, layers and a pipeline that answers at once; no Qt, no threads.

    What is put off until the event loop runs is done before anything is looked at.
    """

    def __init__(self, viewer: Any, image: Any, session: Session, engine: FakeEngine | None = None) -> None:
        self.viewer, self.image, self._session = viewer, image, session
        self.said: list[str] = []
        self._later: list[Callable[[], None]] = []
        self.layers = LayerSet(viewer, image, lambda: session.labels)
        self.sync = LayerSync(session, self.layers, self.said.append, self._later.append)
        self.pipeline = Pipeline(engine or FakeEngine())
        self.answering = True
        self.asked: list[Request] = []
        session.requested.connect(self.answer)
        self.sync.draw_all()

    def flush(self) -> None:
        while self._later:
            self._later.pop(0)()

    @property
    def session(self) -> Session:
        self.flush()
        return self._session

    def layer(self, role: Any) -> Any:
        self.flush()
        layer = self.layers.existing(role)
        assert layer is not None
        return layer

    def mouse(self, role: Any) -> Mouse:
        return Mouse(self.layer(role), self.viewer.dims.displayed, self.flush)

    def answer(self, request: Request) -> None:
        self.asked.append(request)
        if self.answering:
            self._session.deliver(self.pipeline.predict(self._session.volume, request))


def grey() -> np.ndarray:
    return scene()[0][..., 0]


def button(opened: Any, text: str) -> QPushButton:
    (found,) = [b for b in opened.view.findChildren(QPushButton) if b.text() == text]
    return found


#: Of the text of an item, in its own case.
STARTS = Qt.MatchFlag.MatchStartsWith | Qt.MatchFlag.MatchCaseSensitive


def combo(opened: Any, item: str) -> QComboBox:
    (found,) = [c for c in opened.view.findChildren(QComboBox) if c.findText(item, STARTS) >= 0]
    return found


def press(opened: Any, key: str, *, settle: bool = True) -> None:
    """A key as the canvas gets it: the active layer is asked first."""
    handler = KeymapHandler()
    active = opened.viewer.layers.selection.active
    handler.keymap_providers = [active, opened.viewer] if active is not None else [opened.viewer]
    handler.press_key(key)
    if settle:
        opened.settle()


def pick(opened: Any, item: str) -> None:
    box = combo(opened, item)
    box.setCurrentIndex(box.findText(item, STARTS))
    box.activated.emit(box.currentIndex())
    opened.settle()


def wait_for(qtbot: Any, condition: Callable[[], bool], timeout: int = 10_000) -> None:
    qtbot.waitUntil(condition, timeout=timeout)
