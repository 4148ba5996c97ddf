"""What an answer says of one Gaussian value: its sign, up to a slip."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: How often an answer is wrong, as far as the field knows: one in fifty. A slip does not weigh more than the image.
LAPSE = 0.02


def truncation(
    mean: ArrayLike, variance: ArrayLike, inside: bool, lapse: float = LAPSE
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """How an answer moves a Gaussian: alpha and beta of ``mean + c alpha`` and ``variance - c^2 beta``, and its chance.

    The answer has the probability ``Z = lapse + (1 - 2 lapse) Phi(+-mean / sqrt(variance))``; alpha and beta are the
    first derivative of log Z by the mean, and the second with the opposite sign.

    Parameters
    ----------
    mean, variance : array-like
        Of h where it is answered; they broadcast.
    inside : bool
        The answer.
    lapse : float
        Probability in [0, 0.5) that an answer is wrong whatever the truth.

    Returns
    -------
    alpha, beta, chance : float64 arrays
        `beta` is not negative; `chance` is Z.

    Examples
    --------
    Half of a standard normal has the mean sqrt(2 / pi) and the variance 1 - 2 / pi:

    >>> [round(float(v), 4) for v in truncation(0.0, 1.0, True, lapse=0.0)]
    [0.7979, 0.6366, 0.5]
    """
    from scipy.special import log_ndtr

    sign = 1.0 if inside else -1.0
    m, v = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    deviation = np.sqrt(v)
    z = sign * m / deviation
    log_density = -z * z / 2 - math.log(math.sqrt(2 * math.pi))
    log_chance = log_ndtr(z) + math.log1p(-2 * lapse)
    if lapse > 0:
        log_chance = np.logaddexp(log_chance, math.log(lapse))
    ratio = np.exp(math.log1p(-2 * lapse) + log_density - log_chance)
    return sign * ratio / deviation, np.maximum(ratio * (ratio + z), 0.0) / v, np.exp(log_chance)
