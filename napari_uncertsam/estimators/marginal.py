"""Gaussian logits of which only each pixel's own mean and variance are kept: small enough for every slice."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Map, clamped, finite_maps, level_set_interval, sampled_level_sets
from napari_uncertsam.estimators.laplace.moments import mean_probability, probability_spread
from napari_uncertsam.uncertainty import binary_entropy, sigmoid


@dataclass(frozen=True, eq=False)
class MarginalBelief:
    """Logits ``f ~ N(mean, variance)`` at every pixel; all measures in closed form.

    How pixels depend on each other is not kept: areas are those of the level sets of the mean probability, as if all
    pixels were wrong together, which is the widest interval that these probabilities allow for nested masks.

    Parameters
    ----------
    mean : (h, w) float32
        Logits; clamped to +-32.
    variance : (h, w) float32
        Of the logits, not negative.
    predicted_iou : float, optional

    Raises
    ------
    InputError
        If the shapes differ or a value is not finite or a variance negative.

    Examples
    --------
    >>> belief = MarginalBelief(np.array([[2.0]]), np.array([[4.0]]))
    >>> print(belief.probability().round(3), belief.mutual_information().round(3))
    [[0.777]] [[0.175]]
    """

    mean: Map = field(repr=False)
    variance: Map = field(repr=False)
    predicted_iou: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", clamped(self.mean, 2))
        variance = finite_maps(self.variance, 2)
        if variance.shape != self.mean.shape or variance.min() < 0:
            raise InputError(f"A variance of logits is not negative and of shape {self.mean.shape}.")
        object.__setattr__(self, "variance", variance)

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""
        return self.mean.shape[0], self.mean.shape[1]

    @cached_property
    def _logits(self) -> Map:
        return np.asarray(self.mean / np.sqrt(1 + np.pi / 8 * self.variance), np.float32)

    @cached_property
    def _spread(self) -> tuple[Map, Map]:
        return probability_spread(self.mean, self.variance, mean_probability(self.mean, self.variance)[0])

    def logits(self) -> Map:
        """Logit of the mean probability, ``(h, w)``: ``mean / sqrt(1 + pi / 8 variance)`` (MacKay, 1992).

        Within 0.02 of the exact probability, and many times faster, which counts with a thousand slices.
        """
        return self._logits

    def probability(self) -> Map:
        """Mean probability, ``(h, w)`` in [0, 1]."""
        return sigmoid(self._logits)

    def entropy(self) -> Map:
        """Entropy of the mean probability in nats, ``(h, w)`` in [0, ln 2]."""
        return binary_entropy(self.probability())

    def mutual_information(self) -> Map:
        """``H(E[p]) - E[H(p)]`` in nats."""
        return np.asarray(np.maximum(self.entropy() - self._spread[1], 0), np.float32)

    def standard_deviation(self) -> Map:
        """Standard deviation of the probability, in [0, 0.5]."""
        return np.asarray(np.sqrt(self._spread[0]), np.float32)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Logits ``(n, h, w)``, each shifted by one ``-logit(u)``: the positive cells are the level set ``P > u``."""
        return sampled_level_sets(self.logits(), n, rng)

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Areas in cells of the level sets ``P > (1 + level) / 2`` and ``P > (1 - level) / 2``."""
        return level_set_interval(self.logits(), level)
