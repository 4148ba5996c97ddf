"""Gaussian logits with a covariance of low rank: every question of a belief answered without a sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import EnsembleBelief, Map, check_level, clamped, logit_limit, positive_count
from napari_uncertsam.estimators.laplace.moments import mean_probability, probability_spread
from napari_uncertsam.uncertainty import EPSILON, area_interval, binary_entropy, sigmoid


@dataclass(frozen=True, eq=False)
class GaussianBelief:
    """Logits ``f = mean + features^T e`` with ``e ~ N(0, covariance)``, jointly over all pixels.

    Parameters
    ----------
    mean : (h, w) float32
        Logits; clamped to +-32.
    features : (K, h, w) float32
        Upscaled features u.
    covariance : (K, K)
        Of the last layer's output, symmetric and not negative.
    predicted_iou : float, optional
    eps : float
        Distance that probabilities keep from 0 and 1. With 0.01 they are those of UncertSAM's code, whose mean
        probabilities are bfloat16: logits within +-4.595, no entropy below 0.056 nats.

    Raises
    ------
    InputError
        If the shapes do not fit, or the covariance cannot be one.

    Examples
    --------
    One pixel whose logit is ``N(2, 4)``:

    >>> belief = GaussianBelief(np.array([[2.0]]), np.ones((1, 1, 1)), np.array([[4.0]]))
    >>> print(belief.probability().round(3), belief.mutual_information().round(3))
    [[0.775]] [[0.177]]
    """

    mean: Map = field(repr=False)
    features: NDArray[np.float32] = field(repr=False)
    covariance: NDArray[np.float64] = field(repr=False)
    predicted_iou: float | None = None
    eps: float = EPSILON

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", clamped(self.mean, 2))
        features, covariance = np.asarray(self.features, np.float32), np.asarray(self.covariance, np.float64)
        rank = len(features)
        if features.shape != (rank, *self.mean.shape) or covariance.shape != (rank, rank):
            raise InputError(
                f"Logits of shape {self.mean.shape} need features (K, h, w) and a covariance (K, K), "
                f"not {features.shape} and {covariance.shape}."
            )
        if not np.isfinite(covariance).all() or (np.diag(covariance) < 0).any():
            raise InputError("The covariance of the last layer is not a covariance; fit the Laplace posterior again.")
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""
        return self.mean.shape[0], self.mean.shape[1]

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        """``R`` ``(K, r)`` with ``R R^T = covariance``: directions without variance are left out, so r may be 0."""
        import torch

        # NumPy's BLAS has threads of its own, and beside those of torch a small matrix takes 20 ms.
        values, vectors = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(self.covariance)))
        kept = values > max(values[-1], 0.0) * 1e-12
        return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))

    def project(self, vectors: NDArray[np.float64]) -> NDArray[np.float32]:
        """``vectors^T u_p`` at every pixel, ``(n, h, w)``, for vectors ``(K, n)`` of the last layer's output."""
        import torch

        u = torch.from_numpy(self.features.reshape(len(self.features), -1))
        out = torch.from_numpy(np.asarray(vectors.T, np.float32)) @ u
        return np.asarray(out.numpy().reshape(-1, *self.shape))

    @cached_property
    def variance(self) -> Map:
        """Variance of the logits, ``u_p^T M u_p``, ``(h, w)``."""
        import torch

        u = torch.from_numpy(self.features.reshape(len(self.features), -1))
        diagonal = np.diag(self.covariance)
        if (self.covariance == np.diag(diagonal)).all():
            v = torch.from_numpy(diagonal.astype(np.float32)) @ (u * u)
        else:
            v = (torch.from_numpy(self.covariance.astype(np.float32)) @ u).mul_(u).sum(0).clamp_(min=0)
        return np.asarray(v.numpy().reshape(self.shape))

    @cached_property
    def mean_probability(self) -> tuple[Map, Map]:
        """Mean probability and its logit."""
        return mean_probability(self.mean, self.variance)

    @cached_property
    def spread(self) -> tuple[Map, Map]:
        """Variance and expected entropy of the probability."""
        return probability_spread(self.mean, self.variance, self.mean_probability[0])

    def logits(self) -> Map:
        """Logit of the mean probability, ``(h, w)``; of the sign of `mean`, so the mask is that of the model."""
        limit = logit_limit(self.eps)
        return np.asarray(np.clip(self.mean_probability[1], -limit, limit), np.float32)

    def probability(self) -> Map:
        """Mean probability, ``(h, w)`` in [0, 1]."""
        probability = self.mean_probability[0]
        return np.clip(probability, self.eps, 1 - self.eps) if self.eps > EPSILON else probability

    def entropy(self) -> Map:
        """Entropy of the mean probability in nats, ``(h, w)`` in [0, ln 2]."""
        return binary_entropy(self.probability(), self.eps)

    def mutual_information(self) -> Map:
        """``H(E[p]) - E[H(p)]`` in nats: what knowing the last layer would settle."""
        return np.asarray(np.maximum(binary_entropy(self.mean_probability[0]) - self.spread[1], 0), np.float32)

    def standard_deviation(self) -> Map:
        """Standard deviation of the probability, in [0, 0.5]."""
        return np.asarray(np.sqrt(self.spread[0]), np.float32)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Logits of `n` draws, ``(n, h, w)``, correlated over pixels as the weights make them."""
        noise = rng.standard_normal((self.factor.shape[1], positive_count(n)))
        return np.asarray(self.project(self.factor @ noise) + self.mean, np.float32)

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central interval of the area ``A = sum_p sigmoid(f_p)`` in cells, from the joint Gaussian.

        To first order A changes along one direction d of the K-dimensional Gaussian only, that of the gradient of the
        expected area, ``sum_p E[sigmoid'(f_p)] u_p``. A quantile of A is its value at that quantile of d, the other
        directions integrated out in closed form.
        """
        check_level(level)
        # Where the first order is no guide (cells that move against each other) the area may fall along d.
        low, high = sorted(self.area_along(np.array([(1 - level) / 2, (1 + level) / 2])))
        return float(low), float(high)

    def expected_area(self) -> tuple[float, float]:
        """Mean of ``sum_p sigmoid(f_p)`` in cells, and its standard deviation to first order in the joint Gaussian."""
        return float(self.mean_probability[0].sum(dtype=np.float64)), float(np.linalg.norm(self._area_gradient()))

    def _area_gradient(self) -> NDArray[np.float64]:
        """Derivative of the expected area in the r directions of :attr:`factor`."""
        import torch

        probability = self.mean_probability[0]
        slope = (probability * (1 - probability) - self.spread[0]).ravel()
        # By torch: NumPy would turn the features into doubles first.
        total = torch.from_numpy(self.features.reshape(len(self.features), -1)) @ torch.from_numpy(slope)
        return np.asarray(self.factor.T @ total.double().numpy())

    def area_along(self, quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected area in cells, given that the direction that changes it most is at these quantiles."""
        from scipy.special import ndtri

        gradient = self._area_gradient()
        length = np.linalg.norm(gradient)
        if length == 0:
            return np.full(len(quantiles), self.probability().sum(dtype=np.float64))
        shift = self.project((self.factor @ (gradient / length))[:, None])[0]
        rest = np.maximum(self.variance - shift**2, 0)
        places = ndtri(quantiles).astype(np.float32)
        return np.array([mean_probability(self.mean + z * shift, rest)[0].sum(dtype=np.float64) for z in places])


@dataclass(frozen=True, eq=False)
class SampledBelief(EnsembleBelief):
    """Draws from a :class:`GaussianBelief` in its place; its area interval is of the same quantity as there."""

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central interval of ``sum_p sigmoid(f_p)`` over the draws, in cells."""
        return area_interval(sigmoid(self.members).sum((1, 2), dtype=np.float64), level)
