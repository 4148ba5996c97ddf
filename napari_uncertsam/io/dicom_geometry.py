"""From the positions of slices to their order, the affine of the volume, and what is unusual about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.io.dicom_values import Frame
from napari_uncertsam.io.orientation import MAX_COSINE, oblique_degrees, oblique_note

#: From DICOM's axes (left, posterior, superior) to those of this package (right, anterior, superior).
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Slices closer than this, in millimetres, are at the same position.
SAME_POSITION = 1e-3
#: Part of the distance between slices by which distances may differ without a note.
_EVEN = 0.02
#: Part of it by which a gap may differ from a whole number of slices and still be missing slices.
_WHOLE = 0.1
_GAPS_NAMED = 5


@dataclass(frozen=True)
class Arranged:
    """Slices in the order of the array, from the lowest along their normal to the highest, and their geometry."""

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]


def normal_of(frame: Frame) -> NDArray[np.float64]:
    """The unit normal of a slice with an orientation: the cross product of its rows and columns, LPS."""
    assert frame.orientation is not None
    normal: NDArray[np.float64] = np.cross(frame.orientation[:3], frame.orientation[3:])
    return normal / np.linalg.norm(normal)


def heights(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Position of each slice along the normal of the first, in millimetres."""
    return _positions(frames) @ normal_of(frames[0])


def arrange(frames: Sequence[Frame]) -> Arranged:
    """Sort the slices of one volume by position, drop repeated ones, and work out the affine.

    Parameters
    ----------
    frames : sequence of Frame
        At least one, all with positions and the same orientation and pixel spacing.

    Returns
    -------
    Arranged
        Distances between slices come from their positions: the mean where they are even, else the median. With a
        gantry tilt the affine is sheared, and the first spacing is the distance between the planes of the slices, so
        that the product of all three is the volume of a voxel.
    """
    kept, notes = _without_repeats(frames)
    positions, normal = _positions(kept), normal_of(kept[0])
    along = positions @ normal
    step, uneven = _step(along, kept[0])
    notes += uneven
    climb = normal if len(kept) == 1 else (positions[-1] - positions[0]) / (along[-1] - along[0])
    first = kept[0]
    assert first.orientation is not None
    rows, columns = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = climb * step
    affine[:3, 1] = np.multiply(first.orientation[3:], rows)
    affine[:3, 2] = np.multiply(first.orientation[:3], columns)
    affine[:3, 3] = positions[0]
    affine = LPS_TO_RAS @ affine
    if first.spacing is None:
        notes.append(
            "The distance between pixels is unknown and taken as 1 mm: lengths and volumes are not to be used."
        )
    sideways = positions - positions[0] - np.outer(along - along[0], climb)
    notes += _tilt_notes(affine, climb, normal, float(np.linalg.norm(sideways, axis=1).max()), min(rows, columns))
    return Arranged(tuple(kept), affine, (step, rows, columns), tuple(notes))


def _positions(frames: Sequence[Frame]) -> NDArray[np.float64]:
    return np.array([frame.position for frame in frames], np.float64)


def _without_repeats(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    along = heights(frames)
    clusters: list[list[int]] = []
    for index in np.argsort(along, kind="stable"):
        if clusters and along[index] - along[clusters[-1][0]] <= SAME_POSITION:
            clusters[-1].append(int(index))
        else:
            clusters.append([int(index)])
    kept = [min(same, key=lambda i: (frames[i].instance, str(frames[i].path))) for same in clusters]
    dropped = len(frames) - len(kept)
    if not dropped:
        return [frames[i] for i in kept], []
    slices = "1 slice lies" if dropped == 1 else f"{dropped} slices lie"
    note = f"{slices} at a position that another one has already; the one with the lowest number was kept at each."
    return [frames[i] for i in kept], [note]


def _step(along: NDArray[np.float64], first: Frame) -> tuple[float, list[str]]:
    """Distance between neighbouring slices, and notes where it is not everywhere the same."""
    if len(along) == 1:
        if first.thickness is not None:
            return first.thickness, []
        return 1.0, ["The thickness of the only slice is unknown and taken as 1 mm."]
    steps = np.diff(along)
    median = float(np.median(steps))
    multiple = np.rint(steps / median)
    gaps = (multiple >= 2) & (np.abs(steps - multiple * median) <= _WHOLE * median)
    off = float(np.abs(steps[~gaps] - median).max())
    notes = []
    if gaps.any():
        notes.append(_gap_note(along, np.flatnonzero(gaps), int((multiple[gaps] - 1).sum()), median))
    if off > _EVEN * median:
        notes.append(
            f"The slices are not evenly spaced: distances differ by up to {off:.2f} mm from their median, "
            f"{median:.2f} mm, which is used; volumes in mL are approximate."
        )
    if notes:
        return median, notes
    return float(along[-1] - along[0]) / (len(along) - 1), []


def _gap_note(along: NDArray[np.float64], gaps: NDArray[np.intp], missing: int, median: float) -> str:
    places = [f"{along[i]:.1f} and {along[i + 1]:.1f} mm" for i in gaps[:_GAPS_NAMED]]
    more = f", and at {len(gaps) - _GAPS_NAMED} more places" if len(gaps) > _GAPS_NAMED else ""
    slices = "1 slice is" if missing == 1 else f"{missing} slices are"
    return (
        f"{slices} missing, between {'; between '.join(places)} along the normal of the slices{more}: slices are shown "
        f"{median:.2f} mm apart, and what lies beyond a gap is out of place; volumes in mL are approximate."
    )


def _tilt_notes(
    affine: NDArray[np.float64], climb: NDArray[np.float64], normal: NDArray[np.float64], sideways: float, pixel: float
) -> list[str]:
    notes = []
    across = float(np.linalg.norm(climb - (climb @ normal) * normal))
    tilt = math.degrees(math.atan2(across, float(climb @ normal)))
    tilted = math.sin(math.radians(tilt)) > MAX_COSINE
    if tilted:
        notes.append(
            f"The slices are tilted by {tilt:.1f} degrees against the direction in which they are stacked (gantry "
            "tilt): the other two planes are sheared, and results can be written as DICOM SEG but not as NIfTI."
        )
    if sideways > max(0.01, 0.1 * pixel):
        notes.append(
            f"The slices are shifted sideways against each other by up to {sideways:.2f} mm; "
            "the other two planes and distances across slices are approximate."
        )
    # With a tilt along one axis both angles are the same, and one note is enough.
    if not tilted or oblique_degrees(affine) > tilt + 0.1:
        notes += oblique_note(affine)
    return notes
