"""A belief after answers: the field's, in closed form, with the maps that every belief has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.base import LOGIT_LIMIT, Map, check_level, positive_count
from napari_uncertsam.estimators.field import MaskField
from napari_uncertsam.estimators.laplace.moments import Moments, logistic_moments
from napari_uncertsam.uncertainty import area_interval, binary_entropy

#: Draws behind an interval of the area, and cells along the longer side that they are drawn on.
DRAWS, DRAWN_SIDE = 256, 64


@dataclass(frozen=True, eq=False)
class AnsweredBelief:
    """What is believed of a mask once cells of it were answered; made by :class:`MaskField`.

    Parameters
    ----------
    mask_field : MaskField
        With its answers.
    predicted_iou : float, optional
        The model's estimate, which knows of the answers only as far as they were prompts.

    Examples
    --------
    >>> from napari_uncertsam.estimators.field import Answer
    >>> unknown = MaskField.prior(np.zeros((1, 3)), np.zeros((0, 1, 3)), np.zeros((0, 0)), length=1.0)
    >>> belief = AnsweredBelief(unknown.answered([Answer(0, 0, False)]))
    >>> print(belief.logits() > 0, belief.entropy().round(2))
    [[False False False]] [[0.39 0.61 0.69]]
    """

    mask_field: MaskField = field(repr=False)
    predicted_iou: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""
        return self.mask_field.shape

    @cached_property
    def moments(self) -> Moments:
        """Probability, its logit, its variance and its expected entropy given the last layer."""
        return logistic_moments(*self.mask_field.scaled())

    def logits(self) -> Map:
        """Logit of the probability, ``(h, w)``; of the sign of the field's mean."""
        return np.asarray(np.clip(self.moments.logit, -LOGIT_LIMIT, LOGIT_LIMIT), np.float32)

    def probability(self) -> Map:
        """Probability of belonging to the object, ``(h, w)`` in [0, 1]."""
        return np.asarray(self.moments.probability, np.float32)

    def entropy(self) -> Map:
        """Entropy of the probability in nats, ``(h, w)`` in [0, ln 2]."""
        return binary_entropy(self.probability())

    def mutual_information(self) -> Map:
        """What knowing the last layer would settle, in nats: less with every answer."""
        return np.asarray(np.maximum(self.entropy() - self.moments.entropy, 0), np.float32)

    def standard_deviation(self) -> Map:
        """Standard deviation of the probability over last layers, in [0, 0.5]."""
        return np.asarray(np.sqrt(self.moments.variance), np.float32)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draws of the field, ``(n, h, w)``: masks with the patches of error that the object may have."""
        return self.mask_field.sample(positive_count(n), rng)

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central interval of the area of the drawn masks, in cells; the same draws every time."""
        check_level(level)
        step = -(-max(self.shape) // DRAWN_SIDE)  # rounded up
        areas = (self.mask_field.sample(DRAWS, np.random.default_rng(0), step) > 0).sum((1, 2)) * step * step
        return area_interval(areas, level)
