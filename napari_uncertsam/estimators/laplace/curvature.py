"""Curvature of the likelihood in the last layer, exactly and from one forward pass: no autograd over pixels.

The logit of a pixel is ``f_p = u_p^T (W a + b)``: with ``a~ = [a; 1]`` it is linear in the weights, and the generalised
Gauss-Newton matrix of one image is a Kronecker product ``B (x) a~ a~^T`` with a small ``(K, K)`` matrix B:

- ``bernoulli``, every pixel a coin: ``B = sum_p w_p u_p u_p^T`` with ``w = sigmoid(f) (1 - sigmoid(f))``;
- ``softmax``, all pixels one outcome of many, as the authors' code behaves: ``B = Cov(u)`` under the softmax over
  pixels of the logits averaged in blocks of 2 x 2 (they halve the resolution).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Curvature = Literal["bernoulli", "softmax"]
CURVATURES: tuple[Curvature, ...] = get_args(Curvature)


def bernoulli_curvature(logits: Tensor, features: Tensor) -> Tensor:
    """``sum_p w_p u_p u_p^T`` for every prompt.

    Parameters
    ----------
    logits : (N, h, w)
    features : (N, K, h, w)

    Returns
    -------
    (N, K, K) float64
    """
    p = logits.double().sigmoid().flatten(1)
    u = features.double().flatten(2)
    return (u * (p * (1 - p))[:, None]) @ u.mT


def softmax_curvature(logits: Tensor, features: Tensor) -> Tensor:
    """Covariance of the halved features under the softmax over pixels; parameters and returns as for the other one.

    Notes
    -----
    Bilinear reduction to half the size is the mean over 2 x 2 blocks; averaging the logits and the features is the same
    thing, since one is linear in the other.
    """
    p = F.avg_pool2d(logits.double()[:, None], 2).flatten(1).softmax(-1)
    u = F.avg_pool2d(features.double(), 2).flatten(2)
    mean = (u @ p[..., None])[..., 0]
    return (u * p[:, None]) @ u.mT - mean[:, :, None] * mean[:, None, :]


def curvature_of(kind: Curvature, logits: Tensor, features: Tensor) -> Tensor:
    """Curvature by name."""
    return bernoulli_curvature(logits, features) if kind == "bernoulli" else softmax_curvature(logits, features)


def with_bias(hidden: Tensor) -> Tensor:
    """``a~ = [a; 1]`` of hidden vectors ``(N, C)``: ``(N, C + 1)`` float64."""
    return torch.cat([hidden.double(), torch.ones(len(hidden), 1, dtype=torch.float64, device=hidden.device)], 1)
