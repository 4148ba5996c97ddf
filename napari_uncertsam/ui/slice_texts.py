"""What the panel of a volume says: its slices, the object's volume, what to look at next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_uncertsam.annotations import Entry
from napari_uncertsam.figures import NORMAL_90
from napari_uncertsam.ui.texts import ResultText, area_interval_text, pixels_text
from napari_uncertsam.volumetry import SliceFacts, VolumeEstimate

NOT_KNOWN = "not known yet"
PROPAGATE, PROPAGATE_AGAIN, PROPAGATING = "Propagate", "Propagate again", "Propagating …"
REVIEWED = "This slice is reviewed: its mask stays as it is."
OWN = "This slice is yours already: it counts as reviewed."
ALREADY = "Propagating already: Cancel stops it, and keeps what has come so far."
OUTDATED = "The propagation has stopped: what it started from was changed. Propagate again when you are done."
CORRECT = "Click inside or outside to correct this slice, then propagate again."
ONE_IMAGE = "This image has a single slice: there is no other to look at."
NOTHING_YET = "No slice of this plane has been segmented yet: draw a box on one, then propagate it."
ALL_OWN = "Every slice with a mask is your own: Propagate (G) fills in the others."
HELPS_TIP = (
    "Go to the slice whose correction is expected to settle most uncertain mask, there and on its neighbours; "
    "nothing is marked as reviewed ( [ )"
)
_KINDS = {
    "prompted": "yours",
    "painted": "painted by you",
    "propagated": "propagated",
    "remembered": "yours, from before",
}


@dataclass(frozen=True)
class SlicesText:
    """The lines of the panel; an empty one is not shown.

    `button` is the name of the button that propagates, `warns` whether `caption` is about something to be done, and
    `useful` what the button that goes to where a correction helps most does.
    """

    volume: str = NOT_KNOWN
    caption: str = ""
    counted: str = ""
    button: str = PROPAGATE
    warns: bool = False
    useful: str = HELPS_TIP


def slices_text(
    facts: Sequence[SliceFacts],
    estimate: VolumeEstimate | None,
    next_slice: int | None,
    voxel_ml: float | None = None,
    useful: tuple[int, float] | None = None,
) -> SlicesText:
    """Describe all slices of an object.

    Parameters
    ----------
    facts : sequence of SliceFacts
        Of the current plane.
    estimate : VolumeEstimate, optional
    next_slice : int, optional
        The most uncertain slice that nobody has looked at.
    voxel_ml : float, optional
        Of a voxel, where the spacing is not known: the volume is given in voxels then.
    useful : (int, float), optional
        The slice whose correction is expected to settle most, and how many pixels.
    """
    stale = sum(f.stale for f in facts)
    if stale:
        caption = f"{_slices(stale)} from before your last correction: propagate again."
    elif next_slice is not None:
        caption = f"Most uncertain not yet looked at: slice {next_slice} ( ] )"
    elif not facts:
        caption = "Draw a box or click on one slice or a few, then propagate."
    elif all(is_own(f) for f in facts):
        caption = "Propagate (G) fills in the slices between yours and beyond."
    else:
        caption = ""
    button = PROPAGATE_AGAIN if stale else PROPAGATE
    helps = HELPS_TIP if useful is None else useful_text(*useful)
    return SlicesText(volume_text(estimate, voxel_ml), caption, counted_text(facts), button, bool(stale), helps)


def useful_text(index: int, settled_px: float) -> str:
    """What a correction of a slice is good for.

    Examples
    --------
    >>> useful_text(31, 840.2)
    'Slice 31: correcting it is expected to settle 840 px of uncertain mask here and on its neighbours ( [ )'
    """
    settled = f"{pixels_text(settled_px, None)} of uncertain mask"
    return f"Slice {index}: correcting it is expected to settle {settled} here and on its neighbours ( [ )"


def is_own(fact: SliceFacts) -> bool:
    """Whether the person drew, clicked or painted on this slice."""
    return fact.kind != "propagated"


def is_looked_at(fact: SliceFacts) -> bool:
    """Whether the person has seen to this slice."""
    return fact.reviewed or is_own(fact)


def counted_text(facts: Sequence[SliceFacts]) -> str:
    """How many slices the person has seen to."""
    return f"{sum(is_looked_at(f) for f in facts)} of {len(facts)} slices reviewed" if facts else ""


def all_reviewed_text(facts: Sequence[SliceFacts]) -> str:
    """That nothing is left to look at."""
    return f"All {len(facts)} slices are reviewed." if len(facts) != 1 else "The only slice is reviewed."


def volume_text(estimate: VolumeEstimate | None, voxel_ml: float | None = None) -> str:
    """The volume with its 90 % interval, in millilitres, or in voxels of `voxel_ml` where the spacing is not known.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> volume_text(SimpleNamespace(ml=34.21, low_ml=31.0, high_ml=37.94))
    '34.2 mL (90 %: 31.0 to 37.9)'
    >>> volume_text(SimpleNamespace(ml=0.5, low_ml=0.4, high_ml=0.62), voxel_ml=0.001)
    '500 voxels (90 %: 400 to 620)'
    """
    if estimate is None:
        return NOT_KNOWN
    values = (estimate.ml, estimate.low_ml, estimate.high_ml)
    if voxel_ml is not None:
        volume, low, high = (f"{v / voxel_ml:,.0f}" for v in values)
        return f"{volume} voxels (90 %: {low} to {high})"
    digits = _digits(estimate.ml)
    volume, low, high = (f"{v:,.{digits}f}" for v in values)
    return f"{volume} mL (90 %: {low} to {high})"


def _digits(value: float) -> int:
    """Decimals that show three digits of a value."""
    return min(max(0, 2 - math.floor(math.log10(value))), 4) if value > 0 else 1


def slice_text(fact: SliceFacts) -> str:
    """One slice in a line, for a tooltip.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> kind = {"kind": "propagated", "stale": False, "reviewed": False}
    >>> slice_text(SimpleNamespace(slice_index=23, uncertainty=0.214, area_px=812.2, **kind))
    'slice 23: uncertainty 0.21, area 812 px, propagated, not reviewed'
    """
    uncertainty = f"uncertainty {fact.uncertainty:.2f}" if math.isfinite(fact.uncertainty) else "uncertainty not known"
    kind = _KINDS.get(fact.kind, fact.kind)
    if fact.stale:
        kind += " before your last correction"
    parts = [uncertainty, f"area {pixels_text(fact.area_px, None)}", kind]
    if not is_own(fact):
        parts.append("reviewed" if fact.reviewed else "not reviewed")
    return f"slice {fact.slice_index}: {', '.join(parts)}"


def plot_text(facts: Sequence[SliceFacts]) -> str:
    """The plot in words, for screen readers."""
    known = [f for f in facts if math.isfinite(f.uncertainty)]
    if not known:
        return f"{len(facts)} slices with a mask."
    worst = max(known, key=lambda f: f.uncertainty)
    return f"{len(facts)} slices with a mask. The most uncertain is {slice_text(worst)}."


def propagated_text(entry: Entry, pixel_mm: tuple[float, float] | None) -> ResultText:
    """The result card of a slice that has only what propagation says.

    Parameters
    ----------
    entry : Entry
    pixel_mm : (float, float), optional
        Millimetres per pixel, where known.
    """
    told = entry.told
    half = NORMAL_90 * told.area_sd_px
    uncertainty, dice, area, uncertain = "not known", "", pixels_text(told.area_px, pixel_mm), ""
    if math.isfinite(half):
        area = area_interval_text(told.area_px, max(told.area_px - half, 0.0), told.area_px + half, pixel_mm)
    if math.isfinite(told.uncertainty):
        uncertainty = f"entropy {told.uncertainty:.4f} nats"
        uncertain = pixels_text(told.uncertain_px, pixel_mm)
    if told.expected_dice is not None and math.isfinite(told.expected_dice):
        dice = f"likely {told.expected_dice:.2f}"
    return ResultText(uncertainty=uncertainty, dice=dice, area=area, uncertain=uncertain, run=_origin_text(entry))


def _origin_text(entry: Entry) -> str:
    """Which slices a propagated one came from."""
    if entry.propagated is not None:
        sources = set(entry.propagated.anchors)
    else:
        source = entry.source
        sources = (
            set() if source is None else {place[0] for place in (source.before, source.after) if place is not None}
        )
    names = " and ".join(str(index) for index in sorted(sources))
    return f"propagated from slice{'s' * (len(sources) > 1)} {names}" if sources else "propagated"


def stopped_text(slices: int) -> str:
    """That the user stopped a propagation."""
    return f"The propagation was stopped; {_kept(slices)}."


def _kept(slices: int) -> str:
    return f"{slices} slices are kept" if slices != 1 else "1 slice is kept"


def _slices(count: int) -> str:
    return f"{count} slices are" if count != 1 else "1 slice is"
