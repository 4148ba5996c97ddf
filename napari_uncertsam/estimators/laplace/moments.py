"""Expectations of a logistic function of a Gaussian, in closed form.

A pixel's logit is Gaussian, ``f ~ N(mu, v)``. The logistic function is nearly a mixture of five normal distribution
functions, ``sigmoid(x) = sum_i c_i Phi(s_i x)`` within 6e-7, and a normal distribution function averaged over a
Gaussian is one again. With ``t_i = 1 / sqrt(1 + s_i^2 v)`` and the normal density ``phi_i = phi(s_i t_i mu)``:

- ``E[sigmoid(f)] = sum_i c_i Phi(s_i t_i mu)``;
- its slope is ``E[sigmoid'(f)] = sum_i c_i s_i t_i phi_i``, and ``sigmoid^2 = sigmoid - sigmoid'`` gives the variance;
- the entropy of a coin is ``H(sigmoid(x)) = softplus(x) - x sigmoid(x)``, and integrating the mixture once turns that
  into ``sum_i c_i phi(s_i x) / s_i``, so ``E[H(sigmoid(f))] = sum_i (c_i / s_i) t_i phi_i``.

No sampling, no table and no quadrature; the error is that of the mixture, whatever the variance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

#: Weights and slopes of the five normal distribution functions: least squares to the logistic function, reweighted
#: until the largest error is as small as it gets, 5.96e-7.
WEIGHTS = (0.0232921275, 0.2075907717, 0.4298118983, 0.2949722739, 0.0443329286)
SLOPES = (0.2914807646, 0.4109147037, 0.5761984444, 0.8039017569, 1.1227165627)
#: Where a tail is nothing in single precision; beyond, arithmetic with its last digits is slow.
_FAR = 9.0
#: Beyond this the mixture's tails, being Gaussian, fall off faster than the logistic function's.
_TAIL = 1e-30


class Moments(NamedTuple):
    """Expectations over ``f ~ N(mu, v)``, all of the shape of mu.

    Attributes
    ----------
    probability : array
        ``E[sigmoid(f)]``, in [0, 1].
    logit : array
        Its logit, of the sign of mu; within 0.005 where the probability is in [1e-4, 1 - 1e-4], larger in magnitude
        beyond, where the tails of the mixture fall off faster than those of the logistic function.
    variance : array
        ``Var[sigmoid(f)]``, in [0, 0.25].
    entropy : array
        ``E[H(sigmoid(f))]`` in nats, in [0, ln 2]: what each sample leaves open.
    """

    probability: NDArray[Any]
    logit: NDArray[Any]
    variance: NDArray[Any]
    entropy: NDArray[Any]


def logistic_moments(mean: ArrayLike, variance: ArrayLike) -> Moments:
    """Moments of the probability of a Gaussian logit; see the module for the equations.

    Parameters
    ----------
    mean, variance : array-like of float
        Of the logit; the variance is not negative. They broadcast.

    Returns
    -------
    Moments
        float64 if both are given so; float32 otherwise, and wrong by 1e-6 at most.

    Examples
    --------
    >>> moments = logistic_moments(np.array([0.0, 2.0]), np.array([4.0, 0.0]))
    >>> print(moments.probability.round(4), moments.entropy.round(4))
    [0.5    0.8808] [0.462  0.3653]
    """
    probability, logit = mean_probability(mean, variance)
    return Moments(probability, logit, *probability_spread(mean, variance, probability))


def mean_probability(mean: ArrayLike, variance: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean probability and its logit, the first two of :func:`logistic_moments`."""
    import torch

    mu, v = _tensors(mean, variance)
    a, x = mu.abs(), torch.empty_like(mu)
    tail = torch.zeros_like(mu)
    for c, s in zip(WEIGHTS, SLOPES, strict=True):
        torch.mul(v, s * s, out=x).add_(1).rsqrt_().mul_(a).mul_(s * math.sqrt(0.5)).clamp_(max=_FAR)
        tail.add_(torch.erfc(x), alpha=c / 2)
    probability, logit = _from_tail(mu, a, tail)
    return probability.numpy(), logit.numpy()


def probability_spread(
    mean: ArrayLike, variance: ArrayLike, probability: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Variance and expected entropy, the last two of :func:`logistic_moments`, where the mean probability is known."""
    import torch

    mu, v = _tensors(mean, variance)
    t, x = torch.empty_like(mu), torch.empty_like(mu)
    slope, doubt = torch.zeros_like(mu), torch.zeros_like(mu)
    for c, s in zip(WEIGHTS, SLOPES, strict=True):
        # In place: a map fits into the processor's cache, a dozen do not.
        torch.mul(v, s * s, out=t).add_(1).rsqrt_()
        torch.mul(mu, t, out=x).mul_(s * math.sqrt(0.5)).clamp_(-_FAR, _FAR)
        x.square_().neg_().exp_().mul_(t)
        slope.add_(x, alpha=c * s / math.sqrt(2 * math.pi))
        doubt.add_(x, alpha=c / s / math.sqrt(2 * math.pi))
    p = torch.from_numpy(np.asarray(probability))
    # A difference of nearly equal numbers where the variance is small: never below zero.
    spread = (p * (1 - p)).sub_(slope).clamp_(min=0)
    return spread.numpy(), doubt.clamp_(max=math.log(2)).numpy()


def _tensors(mean: ArrayLike, variance: ArrayLike) -> tuple[Tensor, Tensor]:
    import torch

    given = [np.asarray(values) for values in (mean, variance)]
    kind = np.float64 if all(values.dtype == np.float64 for values in given) else np.float32
    # Copies: torch does not take read-only arrays.
    mu, v = (torch.from_numpy(np.array(values, kind)) for values in np.broadcast_arrays(*given))
    return mu, v


def _from_tail(mu: Tensor, a: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and logit from ``1 - E[sigmoid(|f|)]``, at most a half: exact in the tails, and of the sign of mu."""
    import torch

    tail.clamp_(max=0.5).masked_fill_(mu == 0, 0.5)
    probability = torch.where(mu > 0, 1 - tail, tail)
    logit = torch.log(1 - tail) - torch.log(tail.clamp(min=_TAIL))
    # Where the tail rounds to a half the logit still has a sign, which is that of mu; a zero has none.
    return probability, torch.copysign(torch.maximum(logit, a * 1e-6), mu).masked_fill_(mu == 0, 0)


def mackay_probability(mean: ArrayLike, variance: ArrayLike) -> NDArray[np.floating[Any]]:
    """MacKay's approximation ``sigmoid(mu / sqrt(1 + pi v / 8))`` of ``E[sigmoid(f)]``: fast, wrong by up to 0.02.

    Examples
    --------
    >>> float(mackay_probability(2.0, 4.0).round(3))
    0.777
    """
    from scipy.special import expit

    mu, v = np.asarray(mean), np.asarray(variance)
    return np.asarray(expit(mu / np.sqrt(1 + np.float32(np.pi / 8) * v)))
