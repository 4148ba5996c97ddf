"""Keeps a session and the layers in step, both ways, on `napari.components.ViewerModel`; no Qt.

What the user draws, moves, deletes or paints becomes a verb of the session; what the session then says is drawn. The
layers are never the truth: a drawing that the session refuses is put back as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Patch
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.prompts import Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.ui import drawing
from napari_uncertsam.ui.geometry import box_corners, displayed_slice, from_slice
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.outline import ChangeOutline
from napari_uncertsam.ui.reading import LayerReader
from napari_uncertsam.ui.styles import Role, heat_limits
from napari_uncertsam.ui.texts import measure_of

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
        self.session, self.layers, self._defer = session, layers, defer
        self.viewer, self.image = layers.viewer, layers.image
        self._reader = LayerReader(session, layers, say, defer)
        self._drawn: Any = None  # prompts, plane and index that boxes and points show
        self._chosen: int | None = None
        self._asks = True  # whether suggestions are shown
        self._outline = ChangeOutline(layers)
        self._outlined: Patch | None = None
        self._measure, self._limits = "", (0.0, 0.0)  # that the colours of `uncertainty` are for
        self._to_draw: list[Callable[[], None]] = []
        self._undrawn: set[tuple[int, int]] = set()  # slices whose labels changed during a stroke
        self._signals: tuple[tuple[Any, Callable[..., None]], ...] = (
            (session.prompts_changed, self._draw_prompts),
            (session.prediction_changed, self._on_prediction),
            (session.suggestions_changed, self._on_suggestions),
            (session.labels_changed, self._draw_labels),
            (session.objects_changed, self._draw_object),
            (layers.created, self._on_created),
            (self._reader.read, self._redraw_prompts),
            (self._reader.released, self._on_released),
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
        self._draw_object()
        self._on_prediction()
        self._on_suggestions()

    def choose(self, index: int | None, *, asks: bool = True) -> None:
        """Highlight one of the session's suggestions, or show none of them as long as nothing is asked.

        Drawn at once, before the maps: whoever reads the question must not see the numbers of the one before.
        """
        steps = (self._draw_suggested_points, self._draw_suggested_boxes)
        if (index, asks) == (self._chosen, self._asks) and steps[0] not in self._to_draw:
            return
        self._chosen, self._asks = index, asks
        self._to_draw = [step for step in self._to_draw if step not in steps]
        for step in steps:
            step()

    def outline(self, changed: Patch | None) -> None:
        """Outline what an answer changed on the present slice, or nothing any more."""
        self._outlined = changed
        self._soon(self._draw_outline)

    def draw_maps(self) -> None:
        """Show the two maps again: another measure is wanted."""
        self._on_prediction()

    @property
    def is_held(self) -> bool:
        """Whether the user is drawing at this moment."""
        return self._reader.held is not None or self._reader.unread

    @property
    def is_drawn(self) -> bool:
        """Whether the layers show all of the session; drawing takes a few turns of the event loop."""
        return not self._to_draw

    def close(self) -> None:
        """Stop listening, to the session, the viewer and the layers."""
        self._to_draw.clear()
        for name in _DIMS:
            getattr(self.viewer.dims.events, name).disconnect(self._on_dims)
        for signal, slot in self._signals:
            signal.disconnect(slot)
        self._reader.close()

    def _on_created(self, role: Role, layer: Any) -> None:
        self._reader.listen(role, layer)
        if role == "uncertainty":
            self._measure = ""
        elif role == "mask":
            self._reader.read_mask()  # a mask that is taken up again may have been painted on meanwhile
            self._draw_object()
        elif role in ("boxes", "points"):
            self._redraw_prompts()

    def _on_dims(self, _event: Any = None) -> None:
        slot = self.slot
        if slot is not None:
            self.session.go_to(*slot)
        else:
            self.outline(None)

    def _on_released(self) -> None:
        undrawn, self._undrawn = self._undrawn, set()
        for slot in sorted(undrawn):
            self._draw_labels(*slot)
        self._draw_prompts()

    def _place(self, positions: list[tuple[float, float]]) -> NDArray[np.float64]:
        return from_slice(positions, self.session.plane, self.session.slice_index, self.image.ndim)

    def _layer_for(self, role: Role, wanted: bool) -> Any:
        """The layer of a role; one that the user deleted is made again only when there is something to show."""
        return self.layers.get(role) if wanted else self.layers.existing(role)

    def _redraw_prompts(self) -> None:
        self._drawn = None
        self._draw_prompts()

    def _draw_prompts(self) -> None:
        session = self.session
        current = (session.prompts, session.plane, session.slice_index)
        if self._reader.unread or self._reader.held in ("boxes", "points") or current == self._drawn:
            return  # what is being drawn, a polygon between two clicks for example, is left alone
        self._drawn = current
        box, points = session.prompts.box, session.prompts.points
        with self._reader.own_changes():
            layer = self._layer_for("boxes", box is not None)
            if layer is not None:
                drawing.draw_boxes(layer, [] if box is None else [self._place(box_corners(box))])
            layer = self._layer_for("points", bool(points))
            if layer is not None:
                drawing.draw_points(layer, self._place([(p.y, p.x) for p in points]), [p.positive for p in points])

    def _on_prediction(self) -> None:
        self._soon(self._draw_uncertainty, self._draw_probability)

    def _on_suggestions(self) -> None:
        self._soon(self._draw_suggested_points, self._draw_suggested_boxes)

    def _soon(self, *steps: Callable[[], None]) -> None:
        """Draw one thing per turn of the event loop, and what changed twice once: the window never waits for all."""
        idle = not self._to_draw
        self._to_draw += [step for step in steps if step not in self._to_draw]
        if idle:
            self._defer(self._draw_next)

    def _draw_next(self) -> None:
        if self._to_draw:
            self._to_draw[0]()
        if self._to_draw:  # not closed meanwhile
            del self._to_draw[0]
        if self._to_draw:
            self._defer(self._draw_next)

    def _draw_uncertainty(self) -> None:
        session = self.session
        self.layers.show_map("uncertainty", session.uncertainty_slice(), session.plane, session.slice_index)
        layer: Any = self.layers.existing("uncertainty")
        maps = session.maps
        if layer is None or maps is None:
            return
        prediction = session.prediction
        measure = (session.settings.measure or "entropy") if prediction is None else measure_of(prediction)
        limits = heat_limits(measure, maps.local_uncertainty)
        # Limits that the user has set stay as long as they are for the same measure.
        if measure != self._measure or tuple(layer.contrast_limits) == self._limits:
            layer.contrast_limits_range = (0.0, UNCERTAINTY_MEASURES[measure].largest)
            layer.contrast_limits = limits
            self._limits = limits
        self._measure = measure

    def _draw_probability(self) -> None:
        session = self.session
        self.layers.show_map("probability", session.probability_slice(), session.plane, session.slice_index)

    def _draw_suggested_points(self) -> None:
        places = [(rank, (s.y, s.x)) for rank, s in enumerate(self._suggestions, 1) if s.kind == "point"]
        layer = self._layer_for("suggested points", bool(places))
        if layer is not None:
            positions = self._place([position for _, position in places])
            drawing.draw_suggested_points(layer, positions, [rank for rank, _ in places], self._chosen_rank)

    def _draw_suggested_boxes(self) -> None:
        boxes = [(rank, s.box) for rank, s in enumerate(self._suggestions, 1) if s.box is not None]
        layer = self._layer_for("suggested boxes", bool(boxes))
        if layer is not None:
            outlines = [self._place(box_corners(box)) for _, box in boxes]
            drawing.draw_suggested_boxes(layer, outlines, [rank for rank, _ in boxes], self._chosen_rank)

    def _draw_outline(self) -> None:
        here = (self.session.plane, self.session.slice_index)
        if self._outlined is None or self.is_held or self.slot != here:
            self._outline.clear()
        else:
            self._outline.show(self._outlined, *here)

    @property
    def _suggestions(self) -> tuple[Suggestion, ...]:
        return self.session.suggestions if self._asks else ()

    @property
    def _chosen_rank(self) -> int | None:
        return None if self._chosen is None else self._chosen + 1

    def _draw_labels(self, plane: int, index: int) -> None:
        if self._reader.held == "mask":
            self._undrawn.add((plane, index))
            return
        labels = self.session.labels
        layer = self._layer_for("mask", bool(drawing.slice_of(labels, plane, index).any()))
        if layer is not None:
            with self._reader.own_changes():
                drawing.draw_labels(layer, labels, plane, index, shown=self._is_shown(plane, index))
                if self.slot is None:
                    self._soon(self._refresh_mask)  # once for all slices that a propagation brings

    def _is_shown(self, plane: int, index: int) -> bool:
        """Whether the viewer shows any part of a slice, in 2D."""
        slot = self.slot
        return slot is not None and (slot[0] != plane or slot[1] == index)

    def _refresh_mask(self) -> None:
        layer: Any = self.layers.existing("mask")
        if layer is not None:
            layer.refresh(extent=False)

    def _draw_object(self) -> None:
        layer: Any = self.layers.existing("mask")
        if layer is not None:
            with self._reader.own_changes():
                layer.selected_label = self.session.object_id
