"""How far an object goes along the slices, before anything is seen of it there: the prior of a walk.

An object of the area ``pi R^2`` on the anchor ends, on each side, as an ellipsoid would whose half extent along the
slices is ``c R``: at the distance t its radius is ``R sqrt(1 - (t / (c R))^2)``. How long it is for its width is not
known: ``ln c ~ N(ln EXTENT, SPREAD^2)``, or it is a tube and goes on without an end, ``c = inf``, which thin objects
are more often: with the probability ``q = 1 / (1 + (R / TUBE_MM)^2)``. Two things follow for the distance t, in closed
form and by quadrature over c:

- that it is still there, ``S(t) = (1 - ABRUPT) (q + (1 - q) Phi(ln(EXTENT R / t) / SPREAD))``;
- by which share its radius shrinks from slice to slice if it is still there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

#: Half of the extent along the slices in radii, its median; and the standard deviation of its logarithm. These and the
#: next are as of 216 ends of objects of synthetic volumes (`training.volumes`, seeds from 6000).
EXTENT, SPREAD = 1.5, 0.5
#: Radius in millimetres of objects of which every other one is a tube.
TUBE_MM = 5.0
#: Probability that an object is cut off, or the walk lost, right beside the anchor.
ABRUPT = 0.1
_NODES = 64
_EXTENTS = EXTENT * np.exp(SPREAD * ndtri((np.arange(_NODES) + 0.5) / _NODES))


@dataclass(frozen=True)
class Ending:
    """The prior of one object.

    Parameters
    ----------
    radius : float
        Of the circle of its area on the anchor, in millimetres.
    """

    radius: float

    @property
    def tube(self) -> float:
        """Probability that it goes on without an end."""
        return 1 / (1 + (self.radius / TUBE_MM) ** 2)

    def survival(self, distance: float) -> float:
        """Probability that it is still there so many millimetres from the anchor.

        Examples
        --------
        >>> [round(Ending(10).survival(mm), 2) for mm in (0.0, 10 * EXTENT, 1e9)]
        [0.9, 0.54, 0.18]
        """
        closed = 1.0 if distance <= 0 else float(ndtr(math.log(EXTENT * self.radius / distance) / SPREAD))
        return (1 - ABRUPT) * (self.tube + (1 - self.tube) * closed)

    def odds(self, distance: float) -> float:
        """Log odds of :meth:`survival`."""
        there = max(self.survival(distance), 1e-12)
        return math.log(there / (1 - there))

    def shrinkage(self, near: float, far: float) -> tuple[float, float]:
        """Radius at `far`, as a share of that at `near`, if it is still there at `far`: mean and deviation.

        Parameters
        ----------
        near, far : float
            Distances from the anchor in millimetres, ``0 <= near <= far``.

        Examples
        --------
        >>> [round(value, 2) for value in Ending(10).shrinkage(0, 5)]
        [0.93, 0.1]
        >>> Ending(10).shrinkage(1000, 1010)
        (1.0, 0.0)
        """
        extents = _EXTENTS * self.radius
        alive = extents[extents > far]
        shares = np.append(np.sqrt((1 - (far / alive) ** 2) / (1 - (near / alive) ** 2)), 1.0)
        weights = np.append(np.full(len(alive), (1 - self.tube) / _NODES), self.tube)
        mean, square = (float(np.average(shares**power, weights=weights)) for power in (1, 2))
        return mean, math.sqrt(max(square - mean**2, 0.0))
