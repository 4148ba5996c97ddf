"""The reliability plot: how often the object is where a probability says so. Matplotlib is loaded when needed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QComboBox, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_uncertsam.evaluation.inspection.findings import Region
from napari_uncertsam.evaluation.metrics import ReliabilityCurve
from napari_uncertsam.ui.parts import fill, row

NOT_INSTALLED = (
    'The plot needs matplotlib; install it with pip install "napari-uncertsam[report]" and start napari again.'
)
NO_PROBABILITY = "Without a probability, reliability cannot be told: choose a probability layer and compare again."
NOTHING_YET = "Compare layers or open results to see how reliable the probabilities are."

REGIONS: tuple[tuple[str, Region], ...] = (("around the object", "_roi"), ("whole image", ""))
_SELECTED, _ALL = "#4cc9f0", "#ffb347"


@dataclass(frozen=True, eq=False)
class Curves:
    """What is drawn in a region; None for what does not exist."""

    selected: ReliabilityCurve | None = None
    pooled: ReliabilityCurve | None = None


@dataclass(frozen=True)
class PlotColours:
    """Of text and axes, and of grid lines, as CSS colours."""

    ink: str = "#f0f1f2"
    faint: str = "#5a626c"


def is_installed() -> bool:
    """Whether there is something to draw with."""
    return find_spec("matplotlib") is not None


def is_loaded() -> bool:
    """Whether there is nothing to load, or nothing more."""
    return not is_installed() or "matplotlib.figure" in sys.modules


def preload() -> None:
    """Load what draws, which takes a second, on whichever thread has the time."""
    if is_installed():
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401


class ReliabilityPanel(QWidget):
    """The curve of the selected finding and of all of them, around the object or over the image."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._region = QComboBox()
        fill(self._region, REGIONS, 0)
        self._region.setToolTip("Which pixels are counted")
        self._region.activated.connect(self.draw)
        self._text = QLabel(NOTHING_YET if is_installed() else NOT_INSTALLED)
        self._text.setWordWrap(True)
        self._text.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._text.setEnabled(False)
        self._canvas: Any = None
        self._curves: Mapping[Region, Curves] = {}
        self._has_findings = False
        self.colours = PlotColours()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 4)
        layout.addWidget(row(QLabel("Pixels"), (self._region, 1)))
        layout.addWidget(self._text, 1)
        self._layout = layout
        self.setMinimumHeight(230)

    def set_curves(self, curves: Mapping[Region, Curves], *, findings: bool) -> None:
        """Show other curves; `findings` tells whether there is anything to be reliable."""
        self._curves, self._has_findings = curves, findings
        self.draw()

    def set_colours(self, colours: PlotColours) -> None:
        """Follow the theme."""
        self.colours = colours
        self.draw()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Draw what changed while nobody looked."""
        super().showEvent(event)
        self.draw()

    def message(self) -> str:
        """What is said instead of a plot; empty where there is one."""
        return "" if self._text.isHidden() else str(self._text.text())

    def draw(self, _row: int = 0) -> None:
        """Draw, if anybody looks."""
        if not self.isVisible():
            return
        curves = self._curves.get(self._region.currentData(), Curves())
        missing = NO_PROBABILITY if self._has_findings else NOTHING_YET
        text = NOT_INSTALLED if not is_installed() else missing if curves.pooled is None else ""
        self._text.setText(text)
        self._text.setVisible(bool(text))
        if self._canvas is not None:
            self._canvas.setVisible(not text)
        if text:
            return
        canvas = self._made_canvas()
        draw_reliability(canvas.figure, curves, self.colours)
        canvas.draw_idle()

    def _made_canvas(self) -> Any:
        if self._canvas is None:
            from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
            from matplotlib.figure import Figure

            canvas: Any = FigureCanvasQTAgg
            self._canvas = canvas(Figure(layout="constrained", facecolor="none"))
            self._canvas.setStyleSheet("background: transparent;")
            # Its own hint is the size of a printed figure.
            self._canvas.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
            self._canvas.setMinimumHeight(190)
            self._canvas.setAccessibleName("Reliability plot")
            self._layout.addWidget(self._canvas, 1)
        return self._canvas


def draw_reliability(figure: Any, curves: Curves, colours: PlotColours) -> None:
    """Observed against predicted frequency, and the pixels in each bin beneath.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Emptied first.
    curves : Curves
    colours : PlotColours
    """
    figure.clear()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=colours.ink, linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.6)
    for curve, name, colour, marker in (
        (curves.pooled, "all", _ALL, "s"),
        (curves.selected, "selected", _SELECTED, "o"),
    ):
        if curve is None:
            continue
        hit = curve.pixels > 0
        label = f"{name}, ECE {curve.ece:.3f}"
        upper.plot(
            curve.confidence[hit], curve.frequency[hit], color=colour, marker=marker, markersize=4, linewidth=1.5,
            label=label, clip_on=False, zorder=3,
        )  # fmt: skip
        pixels = np.where(hit, curve.pixels, np.nan)
        lower.stairs(pixels, curve.edges, color=colour, linewidth=1.3, baseline=None)
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_ylabel("share inside")
    lower.set_yscale("log")
    lower.set_xlabel("predicted probability")
    lower.set_ylabel("pixels")
    legend = upper.legend(loc="upper left", frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_color(colours.ink)
    for axes in (upper, lower):
        axes.set_facecolor("none")
        axes.tick_params(colors=colours.ink, labelsize=8)
        axes.xaxis.label.set(color=colours.ink, fontsize=8)
        axes.yaxis.label.set(color=colours.ink, fontsize=8)
        axes.grid(color=colours.faint, linewidth=0.5)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(colours.faint)
