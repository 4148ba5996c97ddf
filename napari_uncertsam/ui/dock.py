"""A widget that ends when its dock is closed, and goes on when it is hidden, floated or tabbed."""

from __future__ import annotations

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

CLOSED = "This panel was closed; open it again from the menu."


class DockedWidget(QWidget):
    """Base of our dock widgets.

    Taken out of its dock (the cross of the dock, or ``viewer.window.remove_dock_widget``) it ends: napari does not
    delete it, and nobody sees it any more. Hiding, floating or tabbing the dock leaves it at work.
    """

    def __init__(self) -> None:
        super().__init__()
        self._docked = False

    def end(self) -> None:
        """Let go of the viewer; called once the dock is gone."""
        raise NotImplementedError

    def changeEvent(self, event: QEvent | None) -> None:
        """End when the dock goes."""
        super().changeEvent(event)
        if event is None or event.type() != QEvent.Type.ParentChange:
            return
        if self.parent() is not None:
            self._docked = True
        elif self._docked:
            self.end()
