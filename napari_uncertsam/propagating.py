"""Propagation asked for and given: a frozen request in, one result after the other out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_uncertsam.pipeline_run import CancelledCallback, ProgressCallback
from napari_uncertsam.prediction import Settings
from napari_uncertsam.propagation import Anchor, Propagated
from napari_uncertsam.volume import Volume, Window

if TYPE_CHECKING:
    from napari_uncertsam.pipeline import Pipeline


@dataclass(frozen=True)
class Span:
    """Slices `start` to `stop` - 1, to be filled from an anchor below and / or one above them.

    Parameters
    ----------
    start, stop : int
    before, after : int, optional
        Slice of the anchor next to the span; None at an open end, where the object may end on its way.
    """

    start: int
    stop: int
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, eq=False)
class PropagationRequest:
    """Everything that affects a propagation.

    Parameters
    ----------
    image_id : str
    plane : int
    window : Window
    object_id : int
    settings : Settings
    anchors : tuple of Anchor
        By slice; those that the spans name.
    spans : tuple of Span
    """

    image_id: str
    plane: int
    window: Window
    object_id: int
    settings: Settings
    anchors: tuple[Anchor, ...]
    spans: tuple[Span, ...]

    def anchor(self, slice_index: int) -> Anchor:
        """The anchor on a slice."""
        return next(a for a in self.anchors if a.slice_index == slice_index)


def propagate(
    pipeline: Pipeline,
    volume: Volume,
    request: PropagationRequest,
    *,
    cancelled: CancelledCallback | None = None,
    progress: ProgressCallback | None = None,
) -> Iterator[Propagated]:
    """Fill the spans of a request, slice by slice as they become final.

    Raises
    ------
    Cancelled
        When `cancelled` said so.
    EngineError
        If memory runs out.
    """
    raise NotImplementedError
