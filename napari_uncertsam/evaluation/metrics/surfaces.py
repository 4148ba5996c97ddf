"""How far two outlines are apart, in millimetres where the spacing is known.

The surface of a mask are its elements that have a direct neighbour (4 in 2D, 6 in 3D) outside of it or lie on the
border of the array; distances are those between the centres of surface elements, found with SciPy's k-d tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics.inputs import Float, Mask, as_masks
from napari_uncertsam.evaluation.metrics.masks import bounding_slices


class SurfaceDistances(NamedTuple):
    """From every surface element of one mask to the nearest of the other.

    Attributes
    ----------
    to_truth : (n,) float64
        From the predicted surface.
    to_prediction : (m,) float64
        From the true surface.
    """

    to_truth: Float
    to_prediction: Float

    def hausdorff(self, percentile: float = 95.0) -> float:
        """The larger of the two percentiles; 0 if both masks are empty, infinite if one is.

        100 is the Hausdorff distance itself.
        """
        if not 0 <= percentile <= 100:
            raise InputError(f"A percentile is between 0 and 100, not {percentile:g}; the usual one is 95.")
        if self.to_truth.size == 0 or self.to_prediction.size == 0:
            return 0.0 if self.to_truth.size == self.to_prediction.size else np.inf
        return max(float(np.percentile(d, percentile)) for d in self)

    def dice(self, tolerance: float) -> float:
        """Share of both surfaces that lies within `tolerance` of the other, in [0, 1]; 1 if both masks are empty."""
        if not tolerance >= 0:
            raise InputError(f"The tolerance of a surface distance is at least 0, not {tolerance:g}.")
        total = self.to_truth.size + self.to_prediction.size
        near = sum(int(np.count_nonzero(d <= tolerance)) for d in self)
        return near / total if total else 1.0


def surface_distances(
    prediction: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """Distances between the surfaces of two masks.

    Parameters
    ----------
    prediction, truth : 2D or 3D array of the same shape
    spacing : sequence of float, optional
        Millimetres per element along each axis; 1 by default, and distances are then in elements.

    Raises
    ------
    InputError
        If the shapes differ or the spacing does not fit.
    """
    a, b = as_masks(prediction, truth)
    steps = np.ones(a.ndim) if spacing is None else np.asarray(spacing, np.float64)
    if steps.shape != (a.ndim,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise InputError(
            f"The spacing {spacing} does not fit masks of {a.ndim} axes; one positive number each is needed."
        )
    points = [_surface(mask) * steps for mask in (a, b)]
    if not points[0].size or not points[1].size:
        # With nothing on the other side the distance is not defined; the number of elements still counts.
        return SurfaceDistances(*(np.full(len(p), np.inf) for p in points))
    there, back = (KDTree(points[1 - i], balanced_tree=False).query(points[i])[0] for i in (0, 1))
    return SurfaceDistances(np.asarray(there, np.float64), np.asarray(back, np.float64))


def hausdorff_distance(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    spacing: Sequence[float] | None = None,
    percentile: float = 95.0,
) -> float:
    """The 95 % Hausdorff distance: the larger of both directed percentiles of the surface distances.

    Parameters
    ----------
    prediction, truth, spacing
        See :func:`surface_distances`.
    percentile : float
        100 for the Hausdorff distance itself.

    Returns
    -------
    float
        In the unit of the spacing; 0 if both masks are empty, infinite if one is.

    Examples
    --------
    >>> a, b = np.zeros((2, 9, 9), bool)
    >>> a[4, 1], b[4, 6] = True, True
    >>> hausdorff_distance(a, b, spacing=(1.0, 0.5))
    2.5
    """
    return surface_distances(prediction, truth, spacing).hausdorff(percentile)


def surface_dice(
    prediction: NDArray[Any], truth: NDArray[Any], tolerance: float, spacing: Sequence[float] | None = None
) -> float:
    """Normalised surface distance: share of both surfaces within `tolerance` of the other (Nikolov et al., 2021).

    Parameters
    ----------
    prediction, truth, spacing
        See :func:`surface_distances`.
    tolerance : float
        In the unit of the spacing; what counts as an acceptable deviation.

    Returns
    -------
    float
        In [0, 1]; 1 if both masks are empty, 0 if one is.
    """
    return surface_distances(prediction, truth, spacing).dice(tolerance)


def _surface(mask: Mask) -> NDArray[np.float64]:
    """Indices (n, ndim) of the elements with a direct neighbour outside of the mask."""
    around = bounding_slices(mask)
    if around is None:
        return np.empty((0, mask.ndim))
    inner = mask[around]
    # Beyond its bounding box, and beyond the array, there is nothing of the mask: both count as outside.
    shell = inner & ~ndimage.binary_erosion(inner)
    return np.add(np.argwhere(shell), [s.start for s in around], dtype=np.float64)
