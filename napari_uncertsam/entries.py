"""Everything about one object on one slice, as an immutable value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.figures import Figures
from napari_uncertsam.patch import Patch
from napari_uncertsam.prediction import Prediction, Request, Settings
from napari_uncertsam.prompts import Box, Prompts, Suggestion
from napari_uncertsam.propagation import Propagated
from napari_uncertsam.view import View
from napari_uncertsam.volume import Window

#: A suggestion this close to a dismissed place or a given point, as a share of the view's side, is not made again.
REPEAT_RADIUS = 0.03
#: A box that overlaps a dismissed one this much is not suggested again.
REPEAT_OVERLAP = 0.9
#: An anchor as it was: its slice, and the token that it had then.
Place: TypeAlias = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Key:
    """One object on one slice."""

    plane: int
    slice_index: int
    object_id: int

    @classmethod
    def of(cls, request: Request) -> Key:
        """The object and slice that a request is about."""
        return cls(request.plane, request.slice_index, request.object_id)


@dataclass(frozen=True)
class Source:
    """What a propagated slice came from: the anchors at the ends of its span, None at an open one.

    `basis` is the digest of the window and the settings, see :func:`basis_of`.
    """

    before: Place | None = None
    after: Place | None = None
    basis: str = ""


@dataclass(frozen=True, eq=False)
class Entry:
    """Everything about one object on one slice.

    Parameters
    ----------
    prompts : Prompts
    view : View, optional
        Pinned by a refinement that was made in it; None chooses by the prompts.
    prediction : Prediction, optional
        The newest delivered; may be of earlier prompts while a newer one is under way.
    dismissed : tuple of Suggestion
        What the user does not know, or does not want: never to be asked again about this object on this slice.
    painted : Patch, optional
        Pixels painted (1) or erased (-1) by hand; they win over predictions.
    remembered : Patch, optional
        The mask of a prediction, or of a propagation, that is not kept itself: loaded from a file, or of long ago.
    figures : Figures, optional
        Of what is remembered.
    asked : Request, optional
        Of the prediction that is remembered.
    propagated : Propagated, optional
        From other slices; shown where there is nothing from prompts.
    source : Source, optional
        Of what was propagated; None also where it is not to be relied on any more.
    confirmed : Patch, optional
        The predicted mask as the user has reviewed it; it stays whatever is predicted or propagated later.
    """

    prompts: Prompts = field(default_factory=Prompts)
    view: View | None = None
    prediction: Prediction | None = None
    dismissed: tuple[Suggestion, ...] = ()
    painted: Patch | None = None
    remembered: Patch | None = None
    figures: Figures | None = None
    asked: Request | None = None
    propagated: Propagated | None = None
    source: Source | None = None
    confirmed: Patch | None = None

    @property
    def _masks(self) -> tuple[Patch | Prediction | Propagated | None, ...]:
        """What may give the predicted mask, the first that is there does."""
        return self.confirmed, self.prediction, self.remembered, self.propagated

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing worth keeping."""
        nothing = all(v is None for v in (*self._masks, self.painted))
        return nothing and self.prompts == Prompts() and not self.dismissed

    @property
    def reviewed(self) -> bool:
        """Whether the user has said that the mask is right."""
        return self.confirmed is not None

    @property
    def is_propagated(self) -> bool:
        """Whether there is nothing but a propagated mask, or what is remembered of one."""
        shown = self.remembered if self.propagated is None else self.propagated
        return self.prompts == Prompts() and self.prediction is None and shown is not None

    @property
    def has_propagated(self) -> bool:
        """Whether the maps of the slice are those of a propagation."""
        return self.propagated is not None and self.prediction is None and self.remembered is None

    @cached_property
    def predicted(self) -> Patch | None:
        """The predicted mask, without what was done by hand."""
        if self.confirmed is not None:
            return self.confirmed
        if self.prediction is not None:
            maps = self.prediction.maps
            return Patch(maps.rows.start, maps.columns.start, maps.local_mask)
        if self.remembered is not None or self.propagated is None:
            return self.remembered
        rows, columns, mask = self.propagated.local_mask()
        return Patch(rows.start, columns.start, mask).trimmed()

    @property
    def patches(self) -> tuple[Patch, ...]:
        """What there is to be drawn."""
        return tuple(p for p in (self.predicted, self.painted) if p is not None)

    def local_mask(self) -> Patch | None:
        """The predicted mask with what was painted and erased by hand; None when there is neither."""
        predicted, painted = self.predicted, self.painted
        mask = None if predicted is None else Patch(predicted.top, predicted.left, predicted.values.astype(np.int8))
        if painted is not None:
            mask = painted if mask is None else mask.under(painted)
        return None if mask is None else Patch(mask.top, mask.left, mask.values > 0)

    @cached_property
    def area_px(self) -> int:
        """Pixels of the mask."""
        mask = self.local_mask() if self.painted is not None else self.predicted
        return 0 if mask is None else int(np.count_nonzero(mask.values))

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The same as an array of the slice's shape ``(H, W)``."""
        full, local = np.zeros(shape, bool), self.local_mask()
        if local is not None:
            full[local.where] = local.values
        return full

    def looks_like(self, other: Entry) -> bool:
        """Whether both draw the same pixels, as far as identity tells."""
        masks = [next((m for m in e._masks if m is not None), None) for e in (self, other)]
        return self.painted is other.painted and masks[0] is masks[1]

    @cached_property
    def modelled(self) -> Figures:
        """What the model said of the mask, or of the one that it had before the user's hand."""
        if self.prediction is not None:
            return Figures.of_prediction(self.prediction)
        if self.remembered is not None:
            return self.figures or Figures.unknown(float(np.count_nonzero(self.remembered.values)))
        if self.propagated is not None:
            return Figures.of_propagated(self.propagated)
        return Figures.by_hand(self.area_px)

    @property
    def told(self) -> Figures:
        """What is known of the mask in numbers; one that was given has the area that it has."""
        told = self.modelled
        return replace(told, area_px=float(self.area_px), area_sd_px=0.0) if self.is_given else told

    @property
    def is_given(self) -> bool:
        """Whether the mask is exactly what the user wants: painted, or reviewed."""
        return self.painted is not None or self.reviewed

    @property
    def is_anchor(self) -> bool:
        """Whether propagation starts here: from a mask that was given, or predicted from prompts."""
        if self.is_given:
            return True
        mask = self.remembered if self.prediction is None else self.prediction
        prompted = not self.prompts.is_empty and mask is not None
        return prompted and self.area_px > 0

    @cached_property
    def token(self) -> str:
        """The same as long as nothing changes from which propagation starts; equal for equal work in another process.

        A prediction is known by its request, because equal requests have equal predictions.
        """
        request = self.asked if self.prediction is None else self.prediction.request
        if not self.is_given and request is not None:
            provisional = self.prediction is not None and self.prediction.provisional
            return _digest(request.prompts, request.view, basis_of(request.window, request.settings), provisional)
        mask = self.local_mask()
        mask = None if mask is None else mask.trimmed()
        if mask is None:
            return _digest(self.prompts, self.is_given)
        bits = hashlib.sha256(np.packbits(mask.values).tobytes()).hexdigest()
        return _digest(self.prompts, self.is_given, mask.top, mask.left, mask.values.shape, bits)

    def open_suggestions(self) -> tuple[Suggestion, ...]:
        """Suggestions of the prediction, without those dismissed or answered."""
        if self.prediction is None:
            return ()
        radius = REPEAT_RADIUS * max(self.prediction.view.height, self.prediction.view.width)
        places = [(s.y, s.x) for s in self.dismissed if s.box is None] + [(p.y, p.x) for p in self.prompts.points]
        boxes = [s.box for s in self.dismissed if s.box is not None]

        def is_open(s: Suggestion) -> bool:
            if s.box is not None:
                return s.box != self.prompts.box and all(s.box.iou(b) < REPEAT_OVERLAP for b in boxes)
            return all(np.hypot(s.y - y, s.x - x) > radius for y, x in places)

        return tuple(filter(is_open, self.prediction.suggestions))

    def with_prompts(self, prompts: Prompts) -> Entry:
        """The entry with other prompts: without any, what was propagated is left.

        There is no mask from them when there is nothing to segment from. The first click on a propagated mask keeps
        what that says of the object: its box becomes a prompt too. Changed prompts have to be reviewed anew.
        """
        if prompts == Prompts():
            return replace(self.cleared(), propagated=self.propagated, source=self.source)
        view = self.view
        if self.is_propagated and self.area_px and prompts.box is None and prompts.mask is None:
            prompts = prompts.with_box(self._box())
        if view is not None:
            seen = view.box
            inside = (seen.y0 <= p.y <= seen.y1 and seen.x0 <= p.x <= seen.x1 for p in prompts.points)
            view = view if prompts.box == self.prompts.box and all(inside) else None
        kept = replace(self, prompts=prompts, view=view, confirmed=None)
        return replace(kept._forgetful(), prediction=None) if prompts.is_empty else kept

    def answers(self, request: Request) -> bool:
        """Whether the model's prediction for a request is there."""
        prediction = self.prediction
        return prediction is not None and not prediction.provisional and prediction.request == request

    def cleared(self) -> Entry:
        """Nothing but what is not to be asked again: what somebody does not know they do not know next time either."""
        return Entry(dismissed=self.dismissed)

    def with_prediction(self, prediction: Prediction) -> Entry:
        """The entry with a newer prediction."""
        return replace(self._forgetful(), prediction=prediction)

    def with_propagated(self, told: Propagated | None, source: Source | None) -> Entry:
        """The entry with what propagation says by now, or no longer says anything."""
        left = self._forgetful() if self.is_propagated else self
        return replace(left, propagated=told, source=source)

    def with_review(self, reviewed: bool) -> Entry:
        """The entry with its mask confirmed, or open again; what was propagated is out of date then."""
        if not reviewed:
            return replace(self, confirmed=None, source=None)
        mask = None if self.predicted is None else self.predicted.trimmed()
        return replace(self, confirmed=mask or Patch(0, 0, np.zeros((1, 1), bool)))

    def with_paint(self, edits: Patch) -> Entry:
        """The entry with newer edits on top."""
        return replace(self, painted=edits.trimmed() if self.painted is None else self.painted.under(edits))

    @property
    def heavy(self) -> tuple[Prediction | Propagated, ...]:
        """What takes memory."""
        return tuple(v for v in (self.prediction, self.propagated) if v is not None)

    def faded(self, value: Prediction | Propagated) -> Entry:
        """The entry with its mask in place of one of those, which takes a fraction of the memory."""
        if value is self.propagated and self.prediction is not None:
            return replace(self, propagated=None)
        shown = replace(self, confirmed=None)
        mask = None if shown.predicted is None else shown.predicted.trimmed()
        asked = None if self.prediction is None else self.prediction.request
        left = replace(self, prediction=None, propagated=None, remembered=mask, asked=asked)
        return replace(left, figures=self.modelled)

    def _forgetful(self) -> Entry:
        return replace(self, remembered=None, figures=None, asked=None)

    def _box(self) -> Box | None:
        mask = self.local_mask()
        return None if mask is None else mask.box


def basis_of(window: Window, settings: Settings) -> str:
    """Digest of what masks depend on besides the prompts."""
    chosen = (settings.model, settings.method, settings.zoom, settings.seed, settings.conditioning)
    return _digest(window.low, window.high, *chosen)


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:24]
