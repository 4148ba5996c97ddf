"""Volumes with one bright object, and what is propagated from slices of it, for tests of propagation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Request, Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.propagating import PropagationRequest, Span, propagate
from napari_uncertsam.propagation import Anchor, Propagated
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine

Mask = NDArray[np.bool_]
Triple = tuple[float, float, float]
WINDOW = Window(0, 255)


def ellipsoid(shape: tuple[int, int, int], centre: Triple, radii: Triple) -> Mask:
    """Voxels of an ellipsoid."""
    axes = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside: Mask = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) <= 1
    return inside


def bright(mask: Mask, spacing: Triple = (1.0, 1.0, 1.0)) -> Volume:
    """A volume in which a mask is bright."""
    grain = np.random.default_rng(0).normal(0, 4, mask.shape)
    return Volume(np.clip(np.where(mask, 220, 30) + grain, 0, 255).astype(np.uint8), spacing=spacing)


def pipeline() -> Pipeline:
    """One without a model."""
    return Pipeline(FakeEngine())


def predicted_anchor(work: Pipeline, volume: Volume, mask: Mask, index: int, plane: int = 0, **settings: Any) -> Anchor:
    """What the model makes of the box of a mask on one slice."""
    prompts = Prompts(box=Box.of_mask(mask.take(index, plane)))
    chosen = Settings(**{"method": "entropy", **settings})
    found = work.predict(volume, Request("image", plane, index, WINDOW, None, 1, prompts, chosen))
    return Anchor(index, found.view, found.belief.logits(), prompts)


def asked(anchors: Iterable[Anchor], spans: Iterable[Span], plane: int = 0, **settings: Any) -> PropagationRequest:
    """A request."""
    chosen = Settings(**{"method": "entropy", **settings})
    return PropagationRequest("image", plane, WINDOW, 1, chosen, tuple(anchors), tuple(spans))


def outwards(anchor: Anchor, count: int) -> tuple[Span, ...]:
    """The two open spans beside a single anchor."""
    index = anchor.slice_index
    return Span(0, index, None, index), Span(index + 1, count, index, None)


def filled(work: Pipeline, volume: Volume, request: PropagationRequest) -> dict[int, Propagated]:
    """All results by slice, each of which comes once."""
    results = list(propagate(work, volume, request))
    found = {result.slice_index: result for result in results}
    assert len(found) == len(results)
    return found


def stacked(results: Iterable[Propagated], anchors: Iterable[Anchor], shape: tuple[int, ...], plane: int = 0) -> Mask:
    """The mask of a whole volume."""
    out = np.zeros(shape, bool)
    slices = np.moveaxis(out, plane, 0)
    for result in results:
        rows, columns, mask = result.local_mask()
        slices[result.slice_index, rows, columns] = mask
    height, width = slices.shape[1:]
    for anchor in anchors:
        where = anchor.view.inside(height, width)
        slices[anchor.slice_index][where] = anchor.view.local_map(anchor.logits, height, width) > 0
    return out


def dice(mask: Mask, truth: Mask) -> float:
    """Overlap of two masks."""
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def extent(mask: Mask, plane: int = 0) -> tuple[int, int]:
    """First and last slice of a mask."""
    there = np.flatnonzero(np.moveaxis(mask, plane, 0).any((1, 2)))
    return int(there[0]), int(there[-1])
