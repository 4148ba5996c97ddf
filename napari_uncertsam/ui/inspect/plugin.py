"""The widget that napari shows: the composition root, which holds the view and the coordinator together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout

from napari_uncertsam.ui.dock import CLOSED, DockedWidget
from napari_uncertsam.ui.inspect.coordinator import InspectCoordinator
from napari_uncertsam.ui.inspect.keys import HELP_NOTE, KEYS, TABLE_KEYS
from napari_uncertsam.ui.inspect.view import InspectView

if TYPE_CHECKING:
    from napari.components import ViewerModel

TITLE = "Inspect failures"


class InspectWidget(DockedWidget):
    """Dock widget "Inspect failures".

    Parameters
    ----------
    napari_viewer : napari.Viewer
        napari fills it in by this name.

    Notes
    -----
    When its dock is closed it ends, and its layers go.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        shown_keys = [*TABLE_KEYS, *((entry.label, entry.help) for entry in KEYS)]
        self.view = InspectView(shown_keys, HELP_NOTE, self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.coordinator = InspectCoordinator(napari_viewer, self.view)
        self.destroyed.connect(self.coordinator.close)

    def compare(self) -> None:
        """Compare the chosen layers; for scripts, ``coordinator.wait()`` waits for it."""
        self.coordinator.compare()

    def open_results(self, path: str | Path) -> None:
        """Show the results of an evaluation."""
        self.coordinator.open_results(path)

    def end(self) -> None:
        """Let go of the viewer, and say so in case somebody still sees the widget."""
        self.coordinator.close()
        self.view.setEnabled(False)
        self.view.set_message(CLOSED)

    def sizeHint(self) -> QSize:
        """Wide enough for the table's usual columns."""
        return QSize(470, 900)


def make_inspector(viewer: ViewerModel) -> InspectWidget:
    """Open the inspector in a viewer, docked where the viewer has a window.

    For scripts: ``make_inspector(viewer).open_results(folder)``.
    """
    widget = InspectWidget(viewer)
    window = getattr(viewer, "window", None)
    if window is not None:
        window.add_dock_widget(widget, name=TITLE, area="right")
    return widget
