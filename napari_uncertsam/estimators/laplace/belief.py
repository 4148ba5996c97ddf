"""Gaussian logits with a covariance of low rank: every question of a belief answered without a sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import LOGIT_LIMIT, Map, check_level, clamped, level_set_areas, positive_count
from napari_uncertsam.estimators.laplace.moments import (
    Moments,
    logistic_moments,
    mackay_probability,
    mean_probability,
)
from napari_uncertsam.uncertainty import EPSILON, area_interval, binary_entropy

#: Equally likely values of the area's main direction that an area interval looks at.
AREA_NODES = 16


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
        If the shapes do not fit or a value is not finite.

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
        if not np.isfinite(covariance).all():
            raise InputError("The covariance of the last layer is not finite; fit the Laplace posterior again.")
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""
        return self.mean.shape[0], self.mean.shape[1]

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        """``R`` ``(K, r)`` with ``R R^T = covariance``: directions without variance are left out, so r may be 0."""
        values, vectors = np.linalg.eigh(self.covariance)
        kept = values > max(values[-1], 0) * 1e-12
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
        off = self.covariance - np.diag(np.diag(self.covariance))
        if not off.any():
            import torch

            u = torch.from_numpy(self.features.reshape(len(self.features), -1))
            v = torch.from_numpy(np.diag(self.covariance).astype(np.float32)) @ (u * u)
            return np.asarray(v.numpy().reshape(self.shape))
        return np.asarray((self.project(self.factor) ** 2).sum(0), np.float32)

    @cached_property
    def moments(self) -> Moments:
        """Mean, variance and expected entropy of the probability; see :func:`logistic_moments`."""
        return logistic_moments(self.mean, self.variance)

    @cached_property
    def _mean_probability(self) -> tuple[Map, Map]:
        """Mean probability and its logit; cheaper than all moments, which are looked at first."""
        if "moments" in vars(self):
            return self.moments.probability, self.moments.logit
        return mean_probability(self.mean, self.variance)

    def logits(self) -> Map:
        """Logit of the mean probability, ``(h, w)``; of the sign of `mean`, so the mask is that of the model."""
        limit = min(LOGIT_LIMIT, float(np.log1p(-self.eps) - np.log(self.eps)) if self.eps > EPSILON else LOGIT_LIMIT)
        return np.asarray(np.clip(self._mean_probability[1], -limit, limit), np.float32)

    def probability(self) -> Map:
        """Mean probability, ``(h, w)`` in [0, 1]."""
        probability = self._mean_probability[0]
        return np.clip(probability, self.eps, 1 - self.eps) if self.eps > EPSILON else probability

    def entropy(self) -> Map:
        """Entropy of the mean probability in nats, ``(h, w)`` in [0, ln 2]."""
        return binary_entropy(self.probability(), self.eps)

    def mutual_information(self) -> Map:
        """``H(E[p]) - E[H(p)]`` in nats: what knowing the last layer would settle."""
        return np.asarray(np.maximum(binary_entropy(self.moments.probability) - self.moments.entropy, 0), np.float32)

    def standard_deviation(self) -> Map:
        """Standard deviation of the probability, in [0, 0.5]."""
        return np.asarray(np.sqrt(self.moments.variance), np.float32)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Logits of `n` draws, ``(n, h, w)``, correlated over pixels as the weights make them."""
        noise = rng.standard_normal((self.factor.shape[1], positive_count(n)))
        return np.asarray(self.project(self.factor @ noise) + self.mean, np.float32)

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval of the area in cells, from the joint Gaussian and what the probabilities leave open besides.

        The area changes fastest along one direction d of the K-dimensional Gaussian, the gradient of the expected area
        ``sum_p E[sigmoid'(f_p)] u_p``. Along d, at equally likely values, the other directions are integrated out in
        closed form; each of these masks is then a level set ``P > u`` as in the other beliefs.
        """
        check_level(level)
        return area_interval([level_set_areas(p) for p in self.along_area(AREA_NODES)], level)

    def expected_area(self) -> tuple[float, float]:
        """Mean of ``sum_p sigmoid(f_p)`` in cells, and its standard deviation to first order in the joint Gaussian."""
        return float(self.moments.probability.sum(dtype=np.float64)), float(np.linalg.norm(self._area_gradient()))

    def _area_gradient(self) -> NDArray[np.float64]:
        """Derivative of the expected area in the r directions of :attr:`factor`."""
        slope = self.moments.probability.astype(np.float64) * (1 - self.moments.probability) - self.moments.variance
        return np.asarray(self.factor.T @ (self.features.reshape(len(self.features), -1) @ slope.ravel()))

    def along_area(self, n: int) -> NDArray[np.float32]:
        """Probabilities ``(n, h, w)`` at n equally likely places along the direction that changes the area most.

        By MacKay's approximation, which is a tenth of the work: its errors of both signs hardly matter to an area.
        """
        from scipy.special import ndtri

        gradient = self._area_gradient()
        length = np.linalg.norm(gradient)
        if length == 0:
            return self.moments.probability[None]
        shift = self.project((self.factor @ (gradient / length))[:, None])[0]
        rest = np.maximum(self.variance - shift**2, 0)
        places = ndtri((np.arange(n) + 0.5) / n).astype(np.float32)
        return mackay_probability(self.mean + places[:, None, None] * shift, rest)
