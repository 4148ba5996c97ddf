"""Small fields of masks with everything dense beside them: the second route for closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from napari_uncertsam.estimators.field import NOISE, MaskField
from napari_uncertsam.estimators.truncation import LAPSE

SHAPE = (5, 4)


def draw_field(seed: int = 0, shape: tuple[int, int] = SHAPE, features: int = 3, length: float = 1.4) -> MaskField:
    """A field with random logits and features, before any answer."""
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 0.6, (features, features))
    mean, u = rng.normal(0, 1.5, shape), rng.normal(0, 1, (features, *shape))
    return MaskField.prior(mean, u, root @ root.T, length)


@dataclass(frozen=True, eq=False)
class Dense:
    """Mean and covariance of (e, h) as one Gaussian, h in raster order behind the `layer` components of e."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    layer: int
    width: int

    @classmethod
    def of(cls, field: MaskField) -> Dense:
        """Of a field without answers."""
        assert not field.steps
        height, width = field.shape
        u = field.features.reshape(-1, height * width).astype(float)
        places = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2)
        apart = ((places[:, None] - places) ** 2).sum(-1)
        noise = NOISE * np.exp(-apart / (2 * field.length**2))
        m = field.covariance
        covariance = np.block([[m, m @ u], [u.T @ m, u.T @ m @ u + noise]])
        mean = np.concatenate([np.zeros(len(m)), field.mean.ravel().astype(float)])
        return cls(mean, covariance, len(m), width)

    def place(self, y: int, x: int) -> int:
        return self.layer + y * self.width + x

    def answered(self, y: int, x: int, inside: bool, lapse: float = LAPSE) -> Dense:
        """The Gaussian with the moments of the truncated one, which are integrated numerically."""
        i = self.place(y, x)
        mean, variance, _ = truncated(self.mean[i], self.covariance[i, i], inside, lapse)
        variance = min(variance, self.covariance[i, i])  # what contradicts does not make it less certain
        column = self.covariance[:, i] / self.covariance[i, i]
        moved = self.mean + column * (mean - self.mean[i])
        shrunk = self.covariance - np.outer(column, column) * (self.covariance[i, i] - variance)
        return Dense(moved, shrunk, self.layer, self.width)

    @property
    def of_cells(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and covariance of h."""
        return self.mean[self.layer :], self.covariance[self.layer :, self.layer :]


def truncated(mean: float, variance: float, inside: bool, lapse: float) -> tuple[float, float, float]:
    """Mean, variance and mass of a normal variable times the probability of an answer, by quadrature."""
    deviation = np.sqrt(variance)

    def moment(power: int) -> float:
        def density(h: float) -> float:
            said = 1 - lapse if (h > 0) is inside else lapse
            return float(h**power * said * norm.pdf(h, mean, deviation))

        ends = sorted({mean - 12 * deviation, 0.0, mean, mean + 12 * deviation})
        return float(sum(quad(density, a, b)[0] for a, b in pairwise(ends)))

    mass, first, second = (moment(power) for power in range(3))
    return first / mass, second / mass - (first / mass) ** 2, mass
