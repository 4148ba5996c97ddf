"""What the user draws, moves, deletes or paints on the layers becomes a verb of the session; no Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.session import Session
from napari_uncertsam.ui import drawing
from napari_uncertsam.ui.geometry import box_of_outline, displayed_slice, to_slice
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.styles import Role

#: Events of Points and Shapes that come after a change; the others announce one.
_AFTER = ("added", "changed", "removed")
#: A drag shorter than this, in pixels of the screen, was a click that napari made a small rectangle of.
_SHORTEST_DRAG = 4.0
_READ: tuple[Role, ...] = ("boxes", "points", "mask")


class LayerReader:
    """Listens to `boxes`, `points` and `mask`.

    Parameters
    ----------
    session : Session
    layers : LayerSet
    say : callable
        Takes one sentence for the user.
    defer : callable
        Runs a function after napari has finished with the present mouse event.
    """

    #: Boxes and points were read; what the session made of them has to be drawn, all of it.
    read = Signal()
    #: The mouse button is up again: what was not drawn meanwhile can be.
    released = Signal()

    def __init__(
        self,
        session: Session,
        layers: LayerSet,
        say: Callable[[str], None],
        defer: Callable[[Callable[[], None]], None],
    ) -> None:
        self._session, self._layers, self._say, self._defer = session, layers, say, defer
        self._image = layers.image
        #: Role of the layer on which the mouse button is down.
        self.held: Role | None = None
        #: The user changed boxes or points, and the session does not know it yet.
        self.unread = False
        self._echo = False
        self._clicked = False  # the newest rectangle comes from a click, not from a drag
        self._stroke: tuple[int, int, NDArray[Any]] | None = None  # plane, index and labels when a stroke began

    def listen(self, role: Role, layer: Any) -> None:
        """Listen to a layer if its role is one that the user draws on."""
        if role in _READ:
            layer.mouse_drag_callbacks.append(self._on_drag)
            for emitter, slot in self._listeners(role, layer):
                emitter.connect(slot)

    def close(self) -> None:
        """Stop listening."""
        for role in _READ:
            layer: Any = self._layers.existing(role)
            if layer is not None:
                layer.mouse_drag_callbacks.remove(self._on_drag)
                for emitter, slot in self._listeners(role, layer):
                    emitter.disconnect(slot)

    @contextmanager
    def own_changes(self) -> Iterator[None]:
        """Events while we draw ourselves are echoes."""
        before, self._echo = self._echo, True
        try:
            yield
        finally:
            self._echo = before

    def _listeners(self, role: Role, layer: Any) -> list[tuple[Any, Callable[[Any], None]]]:
        if role == "mask":
            events = layer.events
            return [
                (events.paint, self._on_painted),
                (events.data, self._on_painted),
                (events.selected_label, self._on_label),
            ]
        return [(layer.events.data, self._on_drawn)]

    def _on_drag(self, layer: Any, event: Any) -> Iterator[None]:
        """While the mouse button is down on a layer, a prediction that arrives must not change it under the hand."""
        self.held = self._layers.role_of(layer)
        if self.held == "mask":
            here = (self._session.plane, self._session.slice_index)
            self._stroke = (*here, drawing.slice_of(layer.data, *here).copy())
        draws_by_drag = self.held == "boxes" and str(layer.mode) in ("add_rectangle", "add_ellipse")
        start = np.asarray(event.pos, np.float64)
        try:
            yield
            while event.type == "mouse_move":
                yield
            moved = float(np.abs(np.asarray(event.pos, np.float64) - start).max())
            self._clicked = draws_by_drag and moved < _SHORTEST_DRAG
        finally:
            self._defer(self._released)

    def _released(self) -> None:
        self.held = self._stroke = None
        self._read_prompts()
        self.released.emit()

    def _on_drawn(self, event: Any) -> None:
        if self._echo or str(event.action).lower().rpartition(".")[2] not in _AFTER:
            return
        first, self.unread = not self.unread, True
        # While the mouse is down, points report every step of a move: read when it is released.
        if first and self.held is None:
            self._defer(self._read_prompts)

    def _read_prompts(self) -> None:
        """Make the session's prompts what is drawn; put the drawing back where the session refuses it."""
        if not self.unread:
            return
        self.unread = False
        clicked, self._clicked = self._clicked, False
        if displayed_slice(self._layers.viewer.dims, self._image) is None:
            self._say("Boxes and points are drawn on a slice: show the image in 2D, at one of its slices.")
        else:
            try:
                prompts = replace(self._session.prompts, box=self._read_box(clicked), points=self._read_points())
                self._session.set_prompts(prompts)
            except InputError as error:
                self._say(str(error))
        self.read.emit()

    def _read_box(self, clicked: bool) -> Box | None:
        """The newest shape; not one that a click left behind."""
        layer: Any = self._layers.existing("boxes")
        if layer is None:
            return self._session.prompts.box
        if clicked:
            self._say("That was a click: to draw a box, press the mouse button and drag over the object.")
            return self._session.prompts.box
        if not len(layer.data):
            return None
        return box_of_outline(to_slice(self._image, layer, layer.data[-1], self._session.plane))

    def _read_points(self) -> tuple[Point, ...]:
        layer: Any = self._layers.existing("points")
        if layer is None:
            return self._session.prompts.points
        positions = to_slice(self._image, layer, layer.data, self._session.plane)
        # What a refinement made up stays so where it lies; a point that was moved or turned is the user's.
        made_up = {(round(p.y, 6), round(p.x, 6), p.positive) for p in self._session.prompts.points if not p.given}
        return tuple(
            Point(y, x, sign, given=(round(float(y), 6), round(float(x), 6), sign) not in made_up)
            for (y, x), sign in zip(positions, drawing.point_signs(layer), strict=True)
        )

    def _on_painted(self, _event: Any) -> None:
        if self._echo:
            return
        if self.held == "mask":
            self.read_mask()
        else:
            self._defer(self.read_mask)  # napari announces what a script paints before it does it

    def read_mask(self) -> None:
        """Hand painted pixels to the session, on every slice that was touched."""
        layer: Any = self._layers.existing("mask")
        if layer is None:
            return
        labels, painted = self._session.labels, layer.data
        if painted.shape != labels.shape or painted.dtype != labels.dtype:
            self._say("The mask layer has to keep the shape and type it has; it was put back.")
            with self.own_changes():
                layer.data = labels.copy()
            return
        for plane, index in self._touched(layer):
            now, new = drawing.slice_of(labels, plane, index), drawing.slice_of(painted, plane, index)
            before = now
            if self._stroke is not None and self._stroke[:2] == (plane, index):
                before = self._stroke[2]  # a prediction may have arrived since; it is not the user's doing
            self._session.paint(plane, index, np.where(new != before, new, now))
        self._stroke = None

    def _touched(self, layer: Any) -> list[tuple[int, int]]:
        """Slices on which the layer differs from the session: the one displayed; any, if it was painted in 3D."""
        labels, plane, here = self._session.labels, self._session.plane, self._session.slice_index
        indices = range(labels.shape[plane]) if labels.ndim == 3 else range(1)
        if layer.n_edit_dimensions == 2 and not self._agree(layer, plane, here):
            indices = range(here, here + 1)
        return [(plane, index) for index in indices if not self._agree(layer, plane, index)]

    def _agree(self, layer: Any, plane: int, index: int) -> bool:
        shown, known = (drawing.slice_of(a, plane, index) for a in (layer.data, self._session.labels))
        return np.array_equal(shown, known)

    def _on_label(self, _event: Any) -> None:
        layer: Any = self._layers.existing("mask")
        if not self._echo and layer is not None and int(layer.selected_label) in self._session.objects:
            self._session.select_object(int(layer.selected_label))
