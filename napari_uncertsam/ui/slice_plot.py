"""The uncertainty of each slice as a bar; a click goes there. Painted by Qt, in the colours of the theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QBrush,
    QColor,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygonF,
    QResizeEvent,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_uncertsam.ui.slice_texts import is_looked_at, is_own, plot_text, slice_text
from napari_uncertsam.ui.styles import BOX_COLOUR, POSITIVE_COLOUR
from napari_uncertsam.volumetry import SliceFacts

#: Of bars: slices that the person gave, and what was propagated.
OWN_COLOUR, PROPAGATED_COLOUR = BOX_COLOUR, "#f98e09"
REVIEWED_COLOUR = POSITIVE_COLOUR
_HEIGHT, _MARGIN, _TOP, _DOTS, _NUMBERS = 96, 6, 15, 8, 14
#: The axis goes over the object and this much more, and at least so many slices.
_BEYOND, _FEWEST = 0.15, 12
#: The scale goes at least up to this, in nats: certain slices look certain.
_LOWEST_TOP = 0.05
_FADED = 80


@dataclass
class _Bar:
    """All slices whose bars begin in the same column of pixels."""

    left: int
    right: int
    worst: SliceFacts
    own: bool
    reviewed: bool
    stale: bool


class SlicePlot(QWidget):
    """Mean uncertainty of every slice with a mask; the arrow keys move once it has the keyboard (Tab)."""

    #: Index of a slice that the user wants to see.
    slice_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._facts: dict[int, SliceFacts] = {}
        self._count = 1
        self._present: int | None = None
        self._first, self._stop = 0, 1  # slices on the axis
        self._picture: QPixmap | None = None
        self._dragged_to: int | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)
        # A click must not take the keyboard away from the image.
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Uncertainty of each slice")

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(300, _HEIGHT)

    # -- what is shown -------------------------------------------------------------------------------------------

    def set_slices(self, facts: Sequence[SliceFacts], count: int) -> None:
        """Show other slices; `count` is how many the plane has."""
        self._facts, self._count = {f.slice_index: f for f in facts}, max(count, 1)
        self._first, self._stop = _axis(list(self._facts), self._count)
        self.setAccessibleDescription(plot_text(facts))
        self._repaint_all()

    def set_present(self, index: int | None) -> None:
        """Mark the slice that is on screen; nothing else is painted again."""
        if index != self._present:
            self._present = index
            self.update()

    def slice_at(self, x: float) -> int:
        """The slice under a place of the widget; of several under one pixel, the most uncertain."""
        count = self._stop - self._first
        place = math.floor((x - _MARGIN) / self._width * count)
        if count > self._width:
            pixel = math.floor(x - _MARGIN)
            step = count / self._width
            here = range(self._first + math.ceil(pixel * step), self._first + math.ceil((pixel + 1) * step))
            known = [fact for index in here if (fact := self._facts.get(index)) is not None]
            if known:
                return max(known, key=_height).slice_index
        return min(max(self._first + place, self._first), self._stop - 1)

    def place_of(self, index: int) -> float:
        """Where the middle of a slice is; the inverse of :meth:`slice_at`."""
        return _MARGIN + (index - self._first + 0.5) * self._width / (self._stop - self._first)

    @property
    def _width(self) -> int:
        return max(self.width() - 2 * _MARGIN, 1)

    @property
    def _bottom(self) -> int:
        return self.height() - _NUMBERS - _DOTS

    @property
    def top(self) -> float:
        """The largest value of the scale, in nats."""
        return max([_LOWEST_TOP, *map(_height, self._facts.values())])

    # -- painting ------------------------------------------------------------------------------------------------

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """The bars as they were painted last, and the present slice."""
        if self._picture is None:
            self._picture = self._painted()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._picture)
        if self._present is not None:
            self._paint_present(painter, self._present)
        if self.hasFocus():
            painter.setPen(QPen(self._ink, 1, Qt.PenStyle.DotLine))
            painter.drawRect(QRectF(0.5, 0.5, self.width() - 1, self.height() - 1))
        painter.end()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Paint for the new size."""
        super().resizeEvent(event)
        self._repaint_all()

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() in (
            QEvent.Type.PaletteChange,
            QEvent.Type.StyleChange,
            QEvent.Type.FontChange,
        ):
            self._repaint_all()

    def _repaint_all(self) -> None:
        self._picture = None
        self.update()

    @property
    def _ink(self) -> QColor:
        return self.palette().color(self.foregroundRole())

    def _painted(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        picture = QPixmap(max(round(self.width() * ratio), 1), max(round(self.height() * ratio), 1))
        picture.setDevicePixelRatio(ratio)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_axis(painter)
        top = self.top
        for bar in self._bars():
            self._paint_bar(painter, bar, top)
        painter.end()
        return picture

    def _bars(self) -> list[_Bar]:
        """What to paint, each column of pixels once: with many slices the most uncertain of a column counts."""
        bars: dict[int, _Bar] = {}
        step = self._width / (self._stop - self._first)
        for index, fact in self._facts.items():
            left = math.floor((index - self._first) * step)
            right = max(math.floor((index - self._first + 1) * step), left + 1)
            bar = bars.get(left)
            if bar is None:
                bars[left] = _Bar(left, right, fact, is_own(fact), fact.reviewed, fact.stale)
                continue
            bar.right = max(bar.right, right)
            bar.own, bar.stale = bar.own or is_own(fact), bar.stale or fact.stale
            bar.reviewed = bar.reviewed and is_looked_at(fact)
            bar.worst = max(bar.worst, fact, key=_height)
        return list(bars.values())

    def _paint_bar(self, painter: QPainter, bar: _Bar, top: float) -> None:
        height = max((self._bottom - _TOP) * _height(bar.worst) / top, 2.0)
        gap = 1 if bar.right - bar.left >= 3 else 0
        width = bar.right - bar.left - gap
        area = QRectF(_MARGIN + bar.left, self._bottom - height, width, height)
        colour = QColor(OWN_COLOUR if bar.own else PROPAGATED_COLOUR)
        if bar.stale:
            _paint_stale(painter, area, colour)
        else:
            painter.fillRect(area, colour)
        size = min(max(width, 1), 4)
        below = QRectF(area.center().x() - size / 2, self._bottom + 3, size, 4)
        if bar.own:  # whose bar may be too low to be seen
            painter.fillRect(below, QColor(OWN_COLOUR))
        elif bar.reviewed:
            _paint_dot(painter, below)

    def _paint_axis(self, painter: QPainter) -> None:
        ink, faint = self._ink, QColor(self._ink)
        faint.setAlpha(90)
        painter.setPen(QPen(faint, 1))
        right = _MARGIN + self._width
        painter.drawLine(QPointF(_MARGIN, self._bottom + 0.5), QPointF(right, self._bottom + 0.5))
        font = painter.font()
        font.setPointSizeF(max(font.pointSizeF() - 2, 6.5))
        painter.setFont(font)
        ink.setAlpha(190)
        painter.setPen(ink)
        line = QRectF(_MARGIN, self.height() - _NUMBERS, self._width, _NUMBERS)
        painter.drawText(line, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom, f"slice {self._first}")
        painter.drawText(line, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignBottom, f"{self._stop - 1}")
        self._paint_legend(painter, line)
        if self._facts:
            head = QRectF(_MARGIN, 0, self._width, _TOP - 2)
            flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(head, flags, f"uncertainty, up to {self.top:.2f} nats")

    def _paint_legend(self, painter: QPainter, line: QRectF) -> None:
        """What the colours mean, of those that are there, between the numbers of the first and the last slice."""
        ink, metrics = painter.pen().color(), painter.fontMetrics()
        entries = self._legend()
        widths = [metrics.horizontalAdvance(text) + 14 for text, _ in entries]
        taken = metrics.horizontalAdvance(f"slice {self._first}{self._stop - 1}") + 16
        if sum(widths) > line.width() - taken:
            return
        x = line.center().x() - sum(widths) / 2
        for (text, paint), width in zip(entries, widths, strict=True):
            paint(painter, QRectF(x, line.bottom() - 9.5, 6, 6))
            painter.setPen(ink)
            place = QRectF(x + 8, line.top(), width, line.height())
            painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom, text)
            x += width

    def _legend(self) -> list[tuple[str, Callable[[QPainter, QRectF], None]]]:
        facts = self._facts.values()
        own, fresh, stale = QColor(OWN_COLOUR), QColor(PROPAGATED_COLOUR), QColor(PROPAGATED_COLOUR)
        entries: list[tuple[str, bool, Callable[[QPainter, QRectF], None]]] = [
            ("yours", any(is_own(f) for f in facts), lambda p, at: p.fillRect(at, own)),
            ("propagated", any(not is_own(f) for f in facts), lambda p, at: p.fillRect(at, fresh)),
            ("outdated", any(f.stale for f in facts), lambda p, at: _paint_stale(p, at, stale)),
            ("reviewed", any(f.reviewed for f in facts), _paint_dot),
        ]
        return [(text, paint) for text, there, paint in entries if there]

    def _paint_present(self, painter: QPainter, index: int) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self._ink
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ink)
        middle = (_TOP + self._bottom) / 2
        if index < self._first:  # beyond the axis: where it would be
            painter.drawPolygon(_triangle((0, middle), (5, middle - 4), (5, middle + 4)))
        elif index >= self._stop:
            end = self.width()
            painter.drawPolygon(_triangle((end, middle), (end - 5, middle - 4), (end - 5, middle + 4)))
        else:
            x = self.place_of(index)
            painter.drawPolygon(_triangle((x, _TOP + 2), (x - 4, _TOP - 4), (x + 4, _TOP - 4)))
            painter.setPen(QPen(ink, 1.5))
            painter.drawLine(QPointF(x, _TOP), QPointF(x, self._bottom + 4))

    # -- what the user does --------------------------------------------------------------------------------------

    def event(self, event: QEvent | None) -> bool:
        """Say what is known of the slice under the mouse."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.tip_at(event.pos().x()), self)
            return True
        return super().event(event)

    def tip_at(self, x: float) -> str:
        """What is known of the slice under a place of the widget."""
        here = self.slice_at(x)
        fact = self._facts.get(here)
        return slice_text(fact) if fact is not None else f"slice {here}: no mask"

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Go to a slice."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._dragged_to = None
            self._drag(event.position().x())

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Go along, as a slider does."""
        if event is not None and event.buttons() & Qt.MouseButton.LeftButton:
            self._drag(event.position().x())
        elif event is not None and QToolTip.isVisible():  # it goes from bar to bar with the mouse
            QToolTip.showText(event.globalPosition().toPoint(), self.tip_at(event.position().x()), self)

    def _drag(self, x: float) -> None:
        index = self.slice_at(x)
        if index != self._dragged_to:
            self._dragged_to = index
            self.slice_chosen.emit(index)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Left and right, to the first and to the last slice with a mask."""
        if event is None or self._present is None:
            return
        moves: dict[int, Callable[[int], int]] = {
            Qt.Key.Key_Left: lambda here: here - 1,
            Qt.Key.Key_Right: lambda here: here + 1,
            Qt.Key.Key_Home: lambda here: min(self._facts, default=here),
            Qt.Key.Key_End: lambda here: max(self._facts, default=here),
        }
        move = moves.get(event.key())
        if move is None:
            super().keyPressEvent(event)
            return
        index = min(max(move(self._present), 0), self._count - 1)
        if index != self._present:
            self.slice_chosen.emit(index)


def _height(fact: SliceFacts) -> float:
    """What a bar shows; nothing where the uncertainty is not known."""
    return fact.uncertainty if math.isfinite(fact.uncertainty) else 0.0


def _paint_stale(painter: QPainter, area: QRectF, colour: QColor) -> None:
    faded = QColor(colour)
    faded.setAlpha(_FADED)
    painter.fillRect(area, faded)
    painter.fillRect(area, QBrush(colour, Qt.BrushStyle.BDiagPattern))


def _paint_dot(painter: QPainter, area: QRectF) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(REVIEWED_COLOUR))
    painter.drawEllipse(area)


def _axis(indices: Sequence[int], count: int) -> tuple[int, int]:
    """First slice on the axis and the one after the last: the object and its surroundings, all where that is much.

    Examples
    --------
    >>> _axis([], 90), _axis([40, 59], 90), _axis([5, 80], 90)
    ((0, 90), (37, 63), (0, 90))
    """
    if not indices:
        return 0, count
    low, high = min(indices), max(indices) + 1
    beyond = max(math.ceil(_BEYOND * (high - low)), (_FEWEST - (high - low) + 1) // 2)
    low, high = max(low - beyond, 0), min(high + beyond, count)
    return (low, high) if high - low < 0.8 * count else (0, count)


def _triangle(*corners: tuple[float, float]) -> QPolygonF:
    return QPolygonF([QPointF(x, y) for x, y in corners])
