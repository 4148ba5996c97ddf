"""How much the best last layer differs from image to image: an empirical Bayes estimate of its covariance.

Of image n, the layer's output is ``z_n = z^_n + e_n`` with ``e_n ~ N(0, S)`` about what the network computes, and every
pixel is a coin, ``y_p ~ Bernoulli(sigmoid(u_p^T z_n))``, whose log-likelihood counts 1 / T: neighbouring pixels say
nearly the same. Expectation-maximisation: given S, the mode of e_n and the Gaussian about it (Newton, K unknowns); then
``S = mean(e_n e_n^T + C_n)``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_NEWTON = 5
_CHUNK = 64


def fit_scatter(
    logits: Tensor,
    features: Tensor,
    truth: Tensor,
    weight: float,
    *,
    start: Tensor | None = None,
    rounds: int = 8,
) -> Tensor:
    """Covariance of the last layer's output between images.

    Parameters
    ----------
    logits, truth : (N, P) float32
        What the network says, and the share of each pixel that the object covers.
    features : (N, K, P) float16 or float32
    weight : float
        Of the log-likelihood of a pixel: how many pixels of a map each stands for, over the temperature T.
    start : (K, K) float64, optional
    rounds : int
        Of expectation-maximisation.

    Returns
    -------
    (K, K) float64
    """
    size = features.shape[1]
    scatter = torch.eye(size, dtype=torch.float64) if start is None else start
    for _ in range(rounds):
        precision, total = torch.linalg.inv(scatter), torch.zeros_like(scatter)
        for first in range(0, len(logits), _CHUNK):
            part = slice(first, first + _CHUNK)
            mode, covariance = posterior_of_shift(logits[part], features[part], truth[part], precision, weight)
            total += mode.mT @ mode + covariance.sum(0)
        scatter = total / len(logits)
    return (scatter + scatter.mT) / 2


def posterior_of_shift(
    logits: Tensor, features: Tensor, truth: Tensor, precision: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Mode ``(N, K)`` and covariance ``(N, K, K)`` of the shift e of every image, float64, by damped Newton steps.

    Parameters as for :func:`fit_scatter`; `precision` ``(K, K)`` is that of the prior.
    """
    u = features.float()
    shift = torch.zeros(len(u), u.shape[1], dtype=torch.float64)
    value = _objective(logits, u, truth, shift, precision, weight)
    for _ in range(_NEWTON):
        gradient, hessian = _derivatives(logits, u, truth, shift, precision, weight)
        step = torch.linalg.solve(hessian, gradient)
        size = torch.ones(len(u), 1, dtype=torch.float64)
        for _ in range(6):  # halve the steps of those that would not get better
            tried = shift - size * step
            worse = _objective(logits, u, truth, tried, precision, weight) > value
            if not worse.any():
                break
            size[worse] /= 2
        else:
            size[worse] = 0
        shift = shift - size * step
        value = _objective(logits, u, truth, shift, precision, weight)
    _, hessian = _derivatives(logits, u, truth, shift, precision, weight)
    return shift, torch.linalg.inv(hessian)


def _shifted(logits: Tensor, u: Tensor, shift: Tensor) -> Tensor:
    return logits + (shift.float()[:, None] @ u)[:, 0]


def _objective(logits: Tensor, u: Tensor, truth: Tensor, shift: Tensor, precision: Tensor, weight: float) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(_shifted(logits, u, shift), truth, reduction="none")
    return weight * loss.double().sum(1) + 0.5 * ((shift @ precision) * shift).sum(1)


def _derivatives(
    logits: Tensor, u: Tensor, truth: Tensor, shift: Tensor, precision: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    p = _shifted(logits, u, shift).sigmoid()
    gradient = weight * (u @ (p - truth)[..., None])[..., 0].double() + shift @ precision
    hessian = weight * ((u * (p * (1 - p))[:, None]) @ u.mT).double() + precision
    return gradient, hessian
