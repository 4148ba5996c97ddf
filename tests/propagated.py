"""Propagated results made by hand, where a test is about what happens to them and not about how they come to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from napari_uncertsam.errors import Cancelled
from napari_uncertsam.pipeline_run import CancelledCallback, ProgressCallback
from napari_uncertsam.prompts import Box
from napari_uncertsam.propagating import PropagationRequest
from napari_uncertsam.propagation import Propagated
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume


def propagated(
    index: int, shape: tuple[int, int], box: Box, anchors: tuple[int, ...] = (), *, plane: int = 0, **more: Any
) -> Propagated:
    """A result whose mask fills `box`, in a view of the whole slice with a cell for every pixel."""
    mean = np.full(shape, -4, np.float16)
    mean[int(box.y0) : int(box.y1) + 1, int(box.x0) : int(box.x1) + 1] = 4
    area = float((mean > 0).sum())
    told = {"area_px": area, "area_sd_px": 2.0, "uncertain_px": 3.0, "mean_uncertainty": 0.1, "expected_dice": 0.9}
    view = View.whole(*shape)
    return Propagated(plane, index, shape, view, mean, np.ones(shape, np.float16), anchors, **{**told, **more})


def fake_propagate(box_of: Callable[[int], Box | None]) -> Callable[..., Iterator[Propagated]]:
    """A stand-in for `propagate`: on every slice of a span the mask that `box_of` names, or None."""

    def propagate(
        _pipeline: object,
        volume: Volume,
        request: PropagationRequest,
        *,
        cancelled: CancelledCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> Iterator[Propagated]:
        shape = volume.plane_shape(request.plane)
        for span in request.spans:
            ends = tuple(i for i in (span.before, span.after) if i is not None)
            for index in range(span.start, span.stop):
                if cancelled is not None and cancelled():
                    raise Cancelled("Cancelled.")
                if progress is not None:
                    progress("propagating", (index - span.start) / (span.stop - span.start))
                box = box_of(index)
                if box is not None:
                    yield propagated(index, shape, box, ends, plane=request.plane)

    return propagate
