"""Which number of a belief is shown as its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.uncertainty import LN2

Measure = Literal["entropy", "mutual-information", "std", "log-variance"]


class MeasureText(NamedTuple):
    """What people read about a measure, and the largest value it can have.

    Attributes
    ----------
    title : str
    answers : str
        One sentence: which question it answers.
    largest : float
    unit : str
    """

    title: str
    answers: str
    largest: float
    unit: str


#: Limit of UncertSAM's predicted log-variance, on both sides of zero.
LOG_VARIANCE_LIMIT = 5.0

UNCERTAINTY_MEASURES: Mapping[str, MeasureText] = {
    "entropy": MeasureText("Entropy", "Where could the answer be either, for whatever reason?", LN2, "nats"),
    "mutual-information": MeasureText(
        "Mutual information", "Where would the model change its mind if it knew more?", LN2, "nats"
    ),
    "std": MeasureText("Standard deviation", "By how much could the probability be off?", 0.5, ""),
    "log-variance": MeasureText(
        "Log-variance",
        "The logarithm of the variance, within +-5 and counted from -5: what UncertSAM's variance network reports.",
        2 * LOG_VARIANCE_LIMIT,
        "",
    ),
}
_SHORT = {"mi": "mutual-information", "standard-deviation": "std", "logvar": "log-variance"}


def parse_measure(name: str) -> Measure:
    """A measure by its name or short name.

    Raises
    ------
    InputError
        If there is none of that name.

    Examples
    --------
    >>> parse_measure("mi")
    'mutual-information'
    """
    full = _SHORT.get(name, name)
    if full not in UNCERTAINTY_MEASURES:
        raise InputError(
            f"There is no measure {name!r} of uncertainty; choose one of {', '.join(UNCERTAINTY_MEASURES)}."
        )
    return full  # type: ignore[return-value]


def uncertainty_of(belief: Belief, measure: Measure) -> NDArray[np.float32]:
    """The map of a measure, ``(h, w)``, not negative.

    Examples
    --------
    >>> from napari_uncertsam.estimators import EnsembleBelief
    >>> belief = EnsembleBelief(np.array([[[-20.0, 3.0]], [[20.0, 3.0]]]))
    >>> print(uncertainty_of(belief, "std").round(2))
    [[0.5 0. ]]
    """
    if measure == "entropy":
        return belief.entropy()
    if measure == "mutual-information":
        return belief.mutual_information()
    deviation = belief.standard_deviation()
    if measure == "std":
        return deviation
    limit = LOG_VARIANCE_LIMIT
    log_variance = 2 * np.log(np.maximum(deviation, np.exp(-limit)))
    return np.asarray(np.clip(log_variance, -limit, limit) + limit, np.float32)
