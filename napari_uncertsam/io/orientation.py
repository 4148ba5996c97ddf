"""What an affine says of the orientation of a volume: how oblique it is, and whether it is sheared."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Largest cosine between two axes of a volume that still counts as a right angle; 0.06 degrees.
MAX_COSINE = 1e-3
#: Smallest angle to the axes of the body, in degrees, that is worth a note; rounded headers are off by less.
_MIN_DEGREES = 0.1


def directions(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors, (3, 3), along which the array axes run: the columns of an affine without their lengths."""
    linear: NDArray[np.float64] = affine[:3, :3]
    unit: NDArray[np.float64] = linear / np.linalg.norm(linear, axis=0)
    return unit


def shear_degrees(affine: NDArray[np.float64]) -> float:
    """How far the worst pair of axes is from a right angle, in degrees; 0 up to `MAX_COSINE`.

    Examples
    --------
    >>> shear_degrees(np.diag([2.0, 1.0, 1.0, 1.0]))
    0.0
    """
    unit = directions(affine)
    cosine = float(np.abs((unit.T @ unit)[np.triu_indices(3, 1)]).max())
    return math.degrees(math.asin(min(cosine, 1.0))) if cosine > MAX_COSINE else 0.0


def oblique_degrees(affine: NDArray[np.float64]) -> float:
    """Largest angle between an array axis and the axis of the body that is nearest to it, in degrees, 0 to 54.8.

    Examples
    --------
    >>> oblique_degrees(np.diag([-2.0, 1.0, 1.0, 1.0]))
    0.0
    """
    unit = np.abs(directions(affine))
    # By the sine, since the arc cosine of nearly 1 keeps half of the digits only.
    sines = np.sqrt(np.maximum(0.0, np.sum(unit**2, axis=0) - unit.max(axis=0) ** 2))
    return float(np.degrees(np.arcsin(np.minimum(sines, 1.0))).max())


def oblique_note(affine: NDArray[np.float64]) -> tuple[str, ...]:
    """A note where the slices of a volume do not run along the axes of the body."""
    angle = oblique_degrees(affine)
    if angle < _MIN_DEGREES:
        return ()
    return (
        f"The volume is oblique: its axes are up to {angle:.1f} degrees off the axes of the body, "
        "so its planes are not exactly axial, coronal and sagittal.",
    )
