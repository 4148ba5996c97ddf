"""Through the slices of a volume: propagate, the object's volume, the plot of all slices, what was reviewed."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_uncertsam.ui.parts import button, heading, row
from napari_uncertsam.ui.slice_plot import SlicePlot
from napari_uncertsam.ui.slice_texts import HELPS_TIP, PROPAGATE, PROPAGATING, SlicesText
from napari_uncertsam.volumetry import SliceFacts

_WARN = "#f08c00"  # can be read on dark and on light
_PROPAGATE_TIP = "From the slices you gave to all others, both ways; corrections go on from there (G)"
_NEXT_TIP = "This slice is fine: mark it as reviewed, and go to the most uncertain one that you have not seen to ( ] )"
_VOLUME_TIP = "Of this object over all its slices, with the interval that holds the true volume with 90 % probability."


class VolumePanel(QWidget):
    """Shown for volumes only; every `..._requested` signal is something the user wants."""

    propagate_requested = Signal()
    next_requested = Signal()
    useful_requested = Signal()
    slice_requested = Signal(int)
    reviewed_requested = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._propagating, self._text = False, SlicesText()
        self._propagate = button(PROPAGATE, _PROPAGATE_TIP, self.propagate_requested)
        self._next = button("Next to review", _NEXT_TIP, self.next_requested)
        self._useful = button("Where a correction helps most", HELPS_TIP, self.useful_requested)
        self._volume, self._caption, self._counted = QLabel(), QLabel(), QLabel()
        self._volume.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._volume.setAccessibleName("Volume of the object")
        self._caption.setWordWrap(True)
        self._caption.setAccessibleName("What to look at next")
        self._counted.setToolTip("Slices that you drew or clicked on count as reviewed")
        self._reviewed = QCheckBox("Slice reviewed")
        self._reviewed.setToolTip(
            "You looked at this slice and its mask is right: it stays as it is, and propagation starts from it too (K)"
        )
        self._reviewed.clicked.connect(self.reviewed_requested)
        self.plot = SlicePlot()
        self.plot.slice_chosen.connect(self.slice_requested)
        for widget in (self._propagate, self._next, self._useful, self._reviewed):
            widget.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click leaves the keyboard with the image
        self._lay_out()
        self.set_text(SlicesText())
        self.set_reviewed(False, enabled=False)

    def _lay_out(self) -> None:
        title = QLabel("Volume")
        for label in (title, self._volume):
            label.setToolTip(_VOLUME_TIP)
        title.setEnabled(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (
            heading("Through the slices", "From the slices that you gave to the whole object"),
            self._propagate,
            row((self._next, 1), (self._useful, 1)),
            row(title, (self._volume, 1)),
            self.plot,
            self._caption,
            row(self._reviewed, (self._counted, 1)),
        ):
            layout.addWidget(part)
        self._counted.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def set_text(self, text: SlicesText) -> None:
        """Volume, caption, count, where a correction helps most, and what the button that propagates is called."""
        self._text = text
        self._volume.setText(text.volume)
        self._caption.setText(text.caption)
        self._caption.setStyleSheet(f"color: {_WARN};" if text.warns else "")
        self._caption.setVisible(bool(text.caption))
        self._counted.setText(text.counted)
        self._useful.setToolTip(text.useful)
        self._name_button()

    def set_slices(self, facts: Sequence[SliceFacts], count: int) -> None:
        """What the plot shows; `count` is how many slices the plane has."""
        self.plot.set_slices(facts, count)

    def set_present(self, index: int | None) -> None:
        """The slice that is on screen."""
        self.plot.set_present(index)

    def set_reviewed(self, reviewed: bool, *, enabled: bool) -> None:
        """Whether the present slice is reviewed, and whether there is anything to review on it."""
        self._reviewed.setChecked(reviewed)
        self._reviewed.setEnabled(enabled)

    def set_propagating(self, propagating: bool) -> None:
        """Whether a propagation is under way."""
        self._propagating = propagating
        self._name_button()

    def _name_button(self) -> None:
        self._propagate.setText(PROPAGATING if self._propagating else self._text.button)
        self._propagate.setEnabled(not self._propagating)

    def text(self) -> str:
        """All that is said, for tests."""
        labels = (self._volume, self._caption, self._counted)
        return "\n".join([*(str(label.text()) for label in labels), str(self._propagate.text())])
