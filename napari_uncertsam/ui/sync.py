"""Keeps a session and the layers in step, both ways, on `napari.components.ViewerModel`; no Qt.

What the user draws, moves, deletes or paints becomes a verb of the session; what the session then says is drawn. The
layers are never the truth: a drawing that the session refuses is put back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.session import Session
from napari_uncertsam.ui import drawing
from napari_uncertsam.ui.geometry import box_corners, box_of_outline, displayed_slice, from_slice, to_slice
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.styles import Role

#: Events of Points and Shapes that come after a change; the others announce one.
_AFTER = ("added", "changed", "removed")
#: A drag shorter than this, in pixels of the screen, was a click that napari made a small rectangle of.
_SHORTEST_DRAG = 4.0
_DIMS = ("point", "order", "ndisplay", "ndim")


class LayerSync:
    """Session on one side, layers and slider on the other.

    Parameters
    ----------
    session : Session
        Of `layers.image`.
    layers : LayerSet
    say : callable
        Takes one sentence for the user.
    defer : callable
        Runs a function after napari has finished with the present mouse event; by default at once.
    """

    def __init__(
        self,
        session: Session,
        layers: LayerSet,
        say: Callable[[str], None],
        defer: Callable[[Callable[[], None]], None] = lambda function: function(),
    ) -> None:
        self.session, self.layers, self._say, self._defer = session, layers, say, defer
        self.viewer, self.image = layers.viewer, layers.image
        self._drawing = False  # we are changing a layer ourselves
        self._unread = False  # the user changed boxes or points
        self._drawn: Any = None  # prompts, plane and index that boxes and points show
        self._chosen: int | None = None
        self._held: str | None = None  # role of the layer on which the mouse button is down
        self._stroke: tuple[int, int, NDArray[Any]] | None = None  # plane, index and labels when a stroke began
        self._clicked = False  # the newest rectangle comes from a click, not from a drag
        self._undrawn: set[tuple[int, int]] = set()  # slices whose labels changed during a stroke
        layers.created.connect(self._on_created)
        self._signals: tuple[tuple[Any, Callable[..., None]], ...] = (
            (session.prompts_changed, self._draw_prompts),
            (session.prediction_changed, self._draw_maps),
            (session.suggestions_changed, self._draw_suggestions),
            (session.labels_changed, self._draw_labels),
            (session.objects_changed, self._draw_object),
        )
        for signal, slot in self._signals:
            signal.connect(slot)
        for name in _DIMS:
            getattr(self.viewer.dims.events, name).connect(self._on_dims)
        self._on_dims()

    @property
    def slot(self) -> tuple[int, int] | None:
        """Plane and index that the viewer shows, None in 3D or beyond the image."""
        return displayed_slice(self.viewer.dims, self.image)

    def draw_all(self) -> None:
        """Show everything the session has, in layers that are made if needed."""
        self.layers.make_all()
        self._draw_prompts()
        self._draw_maps()
        self._draw_suggestions()
        self._draw_object()

    def choose(self, index: int | None) -> None:
        """Highlight one of the session's suggestions."""
        if index != self._chosen:
            self._chosen = index
            self._draw_suggestions()

    def close(self) -> None:
        """Stop listening, to the session, the viewer and the layers."""
        for name in _DIMS:
            getattr(self.viewer.dims.events, name).disconnect(self._on_dims)
        self.layers.created.disconnect(self._on_created)
        for signal, slot in self._signals:
            signal.disconnect(slot)
        for role in ("boxes", "points", "mask"):
            layer: Any = self.layers.existing(role)
            if layer is not None:
                layer.mouse_drag_callbacks.remove(self._on_drag)
                for emitter, slot in self._listeners(role, layer):
                    emitter.disconnect(slot)

    # -- from the user to the session ----------------------------------------------------------------------------

    def _listeners(self, role: Role, layer: Any) -> list[tuple[Any, Callable[[Any], None]]]:
        if role == "mask":
            events = layer.events
            return [
                (events.paint, self._on_painted),
                (events.data, self._on_painted),
                (events.selected_label, self._on_label),
            ]
        return [(layer.events.data, self._on_drawn)]

    def _on_created(self, role: Role, layer: Any) -> None:
        if role not in ("boxes", "points", "mask"):
            return
        layer.mouse_drag_callbacks.append(self._on_drag)
        for emitter, slot in self._listeners(role, layer):
            emitter.connect(slot)
        if role == "mask":
            self._read_mask()  # a mask that is taken up again may have been painted on meanwhile
            self._draw_object()
        else:
            self._draw_prompts(force=True)

    @contextmanager
    def _own_changes(self) -> Iterator[None]:
        """Events while we draw are echoes."""
        before, self._drawing = self._drawing, True
        try:
            yield
        finally:
            self._drawing = before

    def _on_dims(self, _event: Any = None) -> None:
        slot = self.slot
        if slot is not None:
            self.session.go_to(*slot)

    def _on_drag(self, layer: Any, event: Any) -> Iterator[None]:
        """While the mouse button is down on a layer, a prediction that arrives must not change it under the hand."""
        self._held = self.layers.role_of(layer)
        if self._held == "mask":
            here = (self.session.plane, self.session.slice_index)
            self._stroke = (*here, drawing.slice_of(layer.data, *here).copy())
        draws_by_drag = self._held == "boxes" and str(layer.mode) in ("add_rectangle", "add_ellipse")
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
        self._held = self._stroke = None
        undrawn, self._undrawn = self._undrawn, set()
        for slot in sorted(undrawn):
            self._draw_labels(*slot)
        if self._unread:
            self._read_prompts()
        else:
            self._draw_prompts()

    def _on_drawn(self, event: Any) -> None:
        if self._drawing or str(event.action).lower().rpartition(".")[2] not in _AFTER:
            return
        first, self._unread = not self._unread, True
        # While the mouse is down, points report every step of a move: read when it is released.
        if first and self._held is None:
            self._defer(self._read_prompts)

    def _read_prompts(self) -> None:
        """Make the session's prompts what is drawn; put the drawing back where the session refuses it."""
        if not self._unread:
            return
        self._unread = False
        clicked, self._clicked = self._clicked, False
        if self.slot is None:
            self._say("Boxes and points are drawn on a slice: show the image in 2D, at one of its slices.")
        else:
            try:
                prompts = replace(self.session.prompts, box=self._read_box(clicked), points=self._read_points())
                self.session.set_prompts(prompts)
            except InputError as error:
                self._say(str(error))
        self._draw_prompts(force=True)

    def _read_box(self, clicked: bool) -> Box | None:
        """The newest shape; not one that a click left behind."""
        layer: Any = self.layers.existing("boxes")
        if layer is None:
            return self.session.prompts.box
        if clicked:
            self._say("That was a click: to draw a box, press the mouse button and drag over the object.")
            return self.session.prompts.box
        if not len(layer.data):
            return None
        return box_of_outline(to_slice(self.image, layer, layer.data[-1], self.session.plane))

    def _read_points(self) -> tuple[Point, ...]:
        layer: Any = self.layers.existing("points")
        if layer is None:
            return self.session.prompts.points
        positions = to_slice(self.image, layer, layer.data, self.session.plane)
        return tuple(Point(y, x, sign) for (y, x), sign in zip(positions, drawing.point_signs(layer), strict=True))

    def _on_painted(self, _event: Any) -> None:
        if self._drawing:
            return
        if self._held == "mask":
            self._read_mask()
        else:
            self._defer(self._read_mask)  # napari announces what a script paints before it does it

    def _read_mask(self) -> None:
        """Hand painted pixels to the session, on every slice that was touched."""
        layer: Any = self.layers.existing("mask")
        if layer is None:
            return
        labels, painted = self.session.labels, layer.data
        if painted.shape != labels.shape or painted.dtype != labels.dtype:
            self._say("The mask layer has to keep the shape and type it has; it was put back.")
            with self._own_changes():
                layer.data = labels.copy()
            return
        for plane, index in self._touched(layer):
            now, new = drawing.slice_of(labels, plane, index), drawing.slice_of(painted, plane, index)
            before = now
            if self._stroke is not None and self._stroke[:2] == (plane, index):
                before = self._stroke[2]  # a prediction may have arrived since; it is not the user's doing
            self.session.paint(plane, index, np.where(new != before, new, now))
        self._stroke = None

    def _touched(self, layer: Any) -> list[tuple[int, int]]:
        """Slices on which the layer differs from the session: the one displayed; any, if it was painted in 3D."""
        labels, plane, here = self.session.labels, self.session.plane, self.session.slice_index
        indices = range(labels.shape[plane]) if labels.ndim == 3 else range(1)
        if layer.n_edit_dimensions == 2 and not self._agree(layer, plane, here):
            indices = range(here, here + 1)
        return [(plane, index) for index in indices if not self._agree(layer, plane, index)]

    def _agree(self, layer: Any, plane: int, index: int) -> bool:
        shown, known = (drawing.slice_of(a, plane, index) for a in (layer.data, self.session.labels))
        return np.array_equal(shown, known)

    def _on_label(self, _event: Any) -> None:
        layer: Any = self.layers.existing("mask")
        if not self._drawing and layer is not None and int(layer.selected_label) in self.session.objects:
            self.session.select_object(int(layer.selected_label))

    # -- from the session to the layers --------------------------------------------------------------------------

    def _place(self, positions: list[tuple[float, float]]) -> NDArray[np.float64]:
        return from_slice(positions, self.session.plane, self.session.slice_index, self.image.ndim)

    def _layer_for(self, role: Role, wanted: bool) -> Any:
        """The layer of a role; one that the user deleted is made again only when there is something to show."""
        return self.layers.get(role) if wanted else self.layers.existing(role)

    def _draw_prompts(self, force: bool = False) -> None:
        session = self.session
        current = (session.prompts, session.plane, session.slice_index)
        if self._held in ("boxes", "points") or (current == self._drawn and not force):
            return  # what is being drawn, a polygon between two clicks for example, is left alone
        self._drawn = current
        box, points = session.prompts.box, session.prompts.points
        with self._own_changes():
            layer = self._layer_for("boxes", box is not None)
            if layer is not None:
                drawing.draw_boxes(layer, [] if box is None else [self._place(box_corners(box))])
            layer = self._layer_for("points", bool(points))
            if layer is not None:
                drawing.draw_points(layer, self._place([(p.y, p.x) for p in points]), [p.positive for p in points])

    def _draw_maps(self) -> None:
        here = self.session.plane, self.session.slice_index
        self.layers.show_map("uncertainty", self.session.uncertainty_slice(), *here)
        self.layers.show_map("probability", self.session.probability_slice(), *here)

    def _draw_suggestions(self) -> None:
        ranked = list(enumerate(self.session.suggestions, start=1))
        chosen = None if self._chosen is None else self._chosen + 1
        places = [(rank, (s.y, s.x)) for rank, s in ranked if s.kind == "point"]
        layer = self._layer_for("suggested points", bool(places))
        if layer is not None:
            positions = self._place([position for _, position in places])
            drawing.draw_suggested_points(layer, positions, [rank for rank, _ in places], chosen)
        boxes = [(rank, s.box) for rank, s in ranked if s.box is not None]
        layer = self._layer_for("suggested boxes", bool(boxes))
        if layer is not None:
            outlines = [self._place(box_corners(box)) for _, box in boxes]
            drawing.draw_suggested_boxes(layer, outlines, [rank for rank, _ in boxes], chosen)

    def _draw_labels(self, plane: int, index: int) -> None:
        if self._held == "mask":
            self._undrawn.add((plane, index))
            return
        labels = self.session.labels
        layer = self._layer_for("mask", bool(drawing.slice_of(labels, plane, index).any()))
        if layer is not None:
            with self._own_changes():
                drawing.draw_labels(layer, labels, plane, index)

    def _draw_object(self) -> None:
        layer: Any = self.layers.existing("mask")
        if layer is not None:
            with self._own_changes():
                layer.selected_label = self.session.object_id
