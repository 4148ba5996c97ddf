"""Which layers are compared: what there is to choose from, and a good guess to begin with. No Qt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from psygnal import Signal

from napari_uncertsam.ui.marks import is_inspected, is_ours, role_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

Slot = Literal["image", "prediction", "truth", "probability", "uncertainty"]
SLOTS: tuple[Slot, ...] = get_args(Slot)

#: Slots that may stay empty, and what that means.
OPTIONAL: dict[Slot, str] = {
    "image": "none",
    "probability": "none: the mask stands in for it",
    "uncertainty": "entropy of the probability",
}
#: What people call such layers.
_NAMES: dict[Slot, re.Pattern[str]] = {
    "prediction": re.compile(r"pred|mask|segm|auto|output", re.IGNORECASE),
    "truth": re.compile(r"truth|\bgt\b|_gt|gt_|manual|expert|referen|annotat", re.IGNORECASE),
    "probability": re.compile(r"prob|softmax|sigmoid", re.IGNORECASE),
    "uncertainty": re.compile(r"uncert|entrop|varian|\bstd\b", re.IGNORECASE),
}


class LayerChoices:
    """Follows the viewer's layers.

    What the user chose stays as long as the layer is there; what they did not choose is guessed anew when layers come
    and go.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._chosen: dict[Slot, Layer | None] = dict.fromkeys(SLOTS)
        self._by_user: set[Slot] = set()
        for emitter in self._events():
            emitter.connect(self.refresh)
        self.refresh()

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def close(self) -> None:
        """Stop listening."""
        for emitter in self._events():
            emitter.disconnect(self.refresh)

    def chosen(self, slot: Slot) -> Layer | None:
        """The layer of a slot."""
        return self._chosen[slot]

    def options(self, slot: Slot) -> list[Layer | None]:
        """What can be chosen; None first where the slot may stay empty."""
        layers = [layer for layer in self._viewer.layers if _fits(slot, layer)]
        return [None, *layers] if slot in OPTIONAL else list(layers)

    def row(self, slot: Slot) -> int | None:
        """Place of what is chosen among the options."""
        options = self.options(slot)
        chosen = self._chosen[slot]
        return options.index(chosen) if chosen in options else None

    def choose(self, slot: Slot, row: int) -> None:
        """Choose one of the options."""
        self._chosen[slot] = self.options(slot)[row]
        self._by_user.add(slot)
        self.refresh()

    def refresh(self, _event: Any = None) -> None:
        """Look at the viewer's layers again."""
        for slot in SLOTS:
            if self._chosen[slot] not in self.options(slot):
                self._by_user.discard(slot)
                self._chosen[slot] = None
        for slot in SLOTS:
            if slot not in self._by_user:
                self._chosen[slot] = None
        for slot, guess in _GUESSES:
            if slot not in self._by_user:
                self._chosen[slot] = guess(self.options(slot), [c for c in self._chosen.values() if c is not None])
        self.changed.emit()


def _fits(slot: Slot, layer: Layer) -> bool:
    from napari.layers import Image, Labels

    if is_inspected(layer):
        return False
    grey = isinstance(layer, Image) and not layer.rgb
    if slot == "image":
        return isinstance(layer, Image) and not is_ours(layer)
    if slot == "prediction":
        return grey or isinstance(layer, Labels)
    if slot == "truth":
        return (grey or isinstance(layer, Labels)) and not is_ours(layer)
    return grey


Guess = Callable[[Sequence["Layer | None"], Sequence["Layer"]], "Layer | None"]


def _guess_truth(options: Sequence[Layer | None], taken: Sequence[Layer]) -> Layer | None:
    named = [layer for layer in _labels_first(options, taken) if _NAMES["truth"].search(layer.name)]
    if named:
        return named[0]
    # Of two masks with other names, the one that does not call itself a prediction.
    masks = [layer for layer in _masks(options, taken) if not _NAMES["prediction"].search(layer.name)]
    return masks[0] if masks and len(_masks(options, ())) > 1 else None


def _guess_prediction(options: Sequence[Layer | None], taken: Sequence[Layer]) -> Layer | None:
    masks = _masks(options, taken)
    ours = [layer for layer in masks if role_of(layer) == "mask"]
    named = [layer for layer in _labels_first(options, taken) if _NAMES["prediction"].search(layer.name)]
    named_masks = [layer for layer in masks if layer in named]
    return next(iter([*ours, *named_masks, *masks, *named]), None)


def _guess_image(options: Sequence[Layer | None], taken: Sequence[Layer]) -> Layer | None:
    free = [layer for layer in options if layer is not None and layer not in taken]
    return next((layer for layer in free if not any(p.search(layer.name) for p in _NAMES.values())), None)


def _guess_map(slot: Slot) -> Guess:
    def guess(options: Sequence[Layer | None], taken: Sequence[Layer]) -> Layer | None:
        free = [layer for layer in options if layer is not None and layer not in taken]
        ours = [layer for layer in free if role_of(layer) == slot]
        return next(iter([*ours, *(layer for layer in free if _NAMES[slot].search(layer.name))]), None)

    return guess


def _labels_first(options: Sequence[Layer | None], taken: Sequence[Layer]) -> list[Layer]:
    free = [layer for layer in options if layer is not None and layer not in taken]
    masks = _masks(options, taken)
    return [*masks, *(layer for layer in free if layer not in masks)]


def _masks(options: Sequence[Layer | None], taken: Sequence[Layer]) -> list[Layer]:
    from napari.layers import Labels

    return [layer for layer in options if isinstance(layer, Labels) and layer not in taken]


#: In this order: what is taken is not guessed again.
_GUESSES: tuple[tuple[Slot, Guess], ...] = (
    ("truth", _guess_truth),
    ("prediction", _guess_prediction),
    ("probability", _guess_map("probability")),
    ("uncertainty", _guess_map("uncertainty")),
    ("image", _guess_image),
)
