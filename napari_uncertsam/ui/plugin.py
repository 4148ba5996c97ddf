"""The widget that napari shows: the composition root, which holds the view and the coordinator together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QKeyEvent, QShowEvent
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_uncertsam.ui.coordinator import Coordinator
from napari_uncertsam.ui.dock import CLOSED, DockedWidget
from napari_uncertsam.ui.jobs import Jobs
from napari_uncertsam.ui.keys import HELP_NOTE, KEYS
from napari_uncertsam.ui.widget import RefineView

if TYPE_CHECKING:
    from napari.components import ViewerModel

TITLE = "Refine by uncertainty"


class TabKey(QObject):
    """Lets Tab reach the suggestions while the image has the keyboard: Qt would move the focus before napari sees it.

    Parameters
    ----------
    next_suggestion : callable
        Returns whether there was one; if not, Tab does what it always does.
    parent : QObject
    """

    def __init__(self, next_suggestion: Callable[[], bool], parent: QObject) -> None:
        super().__init__(parent)
        self._next = next_suggestion
        self._watched: list[QObject] = []

    def watch(self, window: QWidget) -> None:
        """Listen to the canvases of a window."""
        for canvas in window.findChildren(QOpenGLWidget):
            if canvas not in self._watched:
                canvas.installEventFilter(self)
                self._watched.append(canvas)

    def close(self) -> None:
        """Stop listening."""
        for canvas in self._watched:
            canvas.removeEventFilter(self)
        self._watched.clear()

    def eventFilter(self, _canvas: QObject | None, event: QEvent | None) -> bool:
        """Take a pressed Tab, and nothing else."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and event.key() == Qt.Key.Key_Tab:
            return self._next()
        return False


class RefineWidget(DockedWidget):
    """Dock widget "Refine by uncertainty".

    Parameters
    ----------
    napari_viewer : napari.Viewer
        napari fills it in by this name.
    jobs : Jobs, optional
        What runs on the worker thread.
    autosave : bool
        Save the work by itself, and offer to go on with earlier work.

    Notes
    -----
    When its dock is closed it ends: the mask stays, the other layers go.
    """

    def __init__(self, napari_viewer: ViewerModel, jobs: Jobs | None = None, *, autosave: bool = True) -> None:
        super().__init__()
        # The list and the help scroll: the dock is theirs from top to bottom.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.view = RefineView([(entry.label, entry.help) for entry in KEYS], HELP_NOTE, self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.coordinator = Coordinator(napari_viewer, self.view, jobs, autosave=autosave)
        self._tab = TabKey(self.coordinator.dialogue.next, self)
        self.destroyed.connect(self.coordinator.close)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Now the widget has its window."""
        super().showEvent(event)
        self._tab.watch(self.window() or self)

    def end(self) -> None:
        """Let go of the viewer, and say so in case somebody still sees the widget."""
        self._tab.close()
        self.coordinator.close()
        self.view.setEnabled(False)
        self.view.set_message(CLOSED)

    def sizeHint(self) -> QSize:
        """As wide as the list of suggestions needs."""
        return QSize(350, 760)


def make_widget(viewer: ViewerModel, jobs: Jobs | None = None, *, autosave: bool = True) -> RefineWidget:
    """Open the widget in a viewer, docked where the viewer has a window.

    For scripts: ``make_widget(viewer).coordinator`` has the session, and `wait` for what is being computed.
    """
    widget = RefineWidget(viewer, jobs, autosave=autosave)
    window = getattr(viewer, "window", None)
    if window is not None:
        window.add_dock_widget(widget, name=TITLE, area="right")
    return widget
