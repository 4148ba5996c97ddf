"""Losses for masks: cross-entropy balanced between object and background or plain, focal, soft Dice, a variance's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def balanced_bce(logits: Tensor, target: Tensor, balance: float) -> Tensor:
    """Cross-entropy per mask, in nats.

    Parameters
    ----------
    logits, target : (..., h, w)
        `target` in [0, 1]; soft values are pixels that the object covers in part.
    balance : float in [0, 1]
        0: mean over all pixels (a proper score: calibrated probabilities); 1: object and background weigh the same
        whatever their areas (without it a small network does not start to learn); between: a mixture.

    Returns
    -------
    (...) tensor
    """
    target = target.expand_as(logits)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    plain = loss.mean((-2, -1))
    if balance == 0:
        return plain
    inside = (loss * target).sum((-2, -1)) / target.sum((-2, -1)).clamp(min=1)
    outside = (loss * (1 - target)).sum((-2, -1)) / (1 - target).sum((-2, -1)).clamp(min=1)
    return balance * (inside + outside) / 2 + (1 - balance) * plain


def soft_dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft Dice coefficient per mask, in [0, 1].

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> round(soft_dice_loss(40 * (mask - 0.5), mask).item(), 6)
    0.0
    """
    probability = logits.sigmoid()
    shared = (probability * target).sum((-2, -1))
    return 1 - (2 * shared + smooth) / (probability.sum((-2, -1)) + target.sum((-2, -1)) + smooth)


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Cross-entropy per mask that counts pixels by how wrong they are, in nats: mean of ``a (1 - p)^gamma (-ln p)``.

    Parameters
    ----------
    logits, target : (..., h, w)
        `target` is 0 or 1; `p` is the probability of what is true there.
    alpha : float
        Weight `a` of the object's pixels; the background's is ``1 - alpha``.
    gamma : float
        0: no pixel counts less for being right already.

    Returns
    -------
    (...) tensor

    Examples
    --------
    >>> import torch
    >>> round(focal_loss(torch.zeros(1, 1), torch.ones(1, 1)).item(), 4)  # 0.25 * 0.5 ** 2 * ln 2
    0.0433
    """
    target = target.expand_as(logits)
    surprise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (logits.sigmoid() - target).abs()
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * wrong**gamma * surprise).mean((-2, -1))


def heteroscedastic_loss(logits: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of the truth under ``Normal(P, exp(s))``, less its constant: mean over the pixels.

    ``0.5 (exp(-s) (P - M)^2 + s)`` is smallest where ``exp(s)`` is the expected squared error of the probability P.

    Parameters
    ----------
    logits, log_variance, target : (..., h, w)

    Returns
    -------
    (...) tensor

    Examples
    --------
    >>> import torch
    >>> zero = torch.zeros(1, 1)  # P = 1/2, and it is wrong by 1/2: best at s = ln 1/4
    >>> [round(heteroscedastic_loss(zero, zero + s, zero).item(), 3) for s in (-2.0, -1.386, 0.0)]
    [-0.076, -0.193, 0.125]
    """
    error = logits.sigmoid() - target
    return 0.5 * ((-log_variance).exp() * error.square() + log_variance).mean((-2, -1))


@torch.no_grad()
def hard_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of ``logits > 0`` and ``target > 0.5`` per mask."""
    mask, truth = logits > 0, target > 0.5
    union = (mask | truth).sum((-2, -1)).clamp(min=1)
    return (mask & truth).sum((-2, -1)) / union
