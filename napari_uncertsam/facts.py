"""What there is to know of an object's slices in one plane: kind, area, uncertainty, reviewed, out of date."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from napari_uncertsam.annotations import Entry
from napari_uncertsam.volume import Volume
from napari_uncertsam.volumetry import (
    Kind,
    SliceFacts,
    VolumeEstimate,
    estimate_volume,
    settled_px,
    slice_distance,
    voxel_mm3,
)


def facts_of(index: int, entry: Entry, stale: bool) -> SliceFacts:
    """Facts of one slice."""
    told = entry.told
    numbers = (told.uncertainty, told.area_px, told.area_sd_px, told.uncertain_px, told.expected_dice)
    return SliceFacts(index, kind_of(entry), *numbers, entry.reviewed, stale)


def kind_of(entry: Entry) -> Kind:
    """Where the mask of an entry comes from."""
    if entry.painted is not None:
        return "painted"
    if entry.prediction is not None:
        return "prompted"
    if entry.remembered is not None and not entry.is_propagated:
        return "remembered"
    return "propagated"


def next_to_review(facts: Iterable[SliceFacts]) -> int | None:
    """The most uncertain slice that nobody has looked at: propagated and not reviewed.

    One of which the uncertainty is not known comes first.
    """
    left = _not_looked_at(facts)

    def urgency(fact: SliceFacts) -> tuple[float, int]:
        return (math.inf if math.isnan(fact.uncertainty) else fact.uncertainty, -fact.slice_index)

    return max(left, key=urgency).slice_index if left else None


def most_useful(facts: Iterable[SliceFacts], volume: Volume, plane: int) -> tuple[int, float] | None:
    """The slice, of those that nobody has looked at, whose correction is expected to settle most, and how many pixels.

    Only the uncertain area of slices that nobody has looked at counts: the others stay as they are.
    """
    left = _not_looked_at(facts)
    if volume.ndim != 3 or not left:
        return None
    settled = settled_px(left, slice_distance(volume, plane))
    best = int(settled.argmax())
    return left[best].slice_index, float(settled[best])


def _not_looked_at(facts: Iterable[SliceFacts]) -> list[SliceFacts]:
    return [f for f in facts if f.kind == "propagated" and not f.reviewed]


def volume_of(facts: Sequence[SliceFacts], volume: Volume, plane: int) -> VolumeEstimate | None:
    """Volume of the object on slices of a plane; None without any, and for a 2D image."""
    if volume.ndim != 3 or not facts:
        return None
    distance = slice_distance(volume, plane)
    positions = [f.slice_index * distance for f in facts]
    areas, sds = [f.area_px for f in facts], [f.area_sd_px for f in facts]
    return estimate_volume(areas, sds, positions, voxel_mm3(volume))
