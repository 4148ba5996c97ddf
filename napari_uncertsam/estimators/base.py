"""What an estimator believes about a mask: one contract for every kind of uncertainty, and its two simplest kinds.

Maps are float32 arrays ``(h, w)`` on the model's low-resolution grid over the view. Entropies are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_uncertsam.errors import EngineError, InputError
from napari_uncertsam.uncertainty import EPSILON, area_interval, binary_entropy, logit, mutual_information, sigmoid
from napari_uncertsam.uncertainty import standard_deviation as _standard_deviation

if TYPE_CHECKING:
    from torch import Tensor

    from napari_uncertsam.engine import Decoded, Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts

Map = NDArray[np.float32]

#: Logits are clamped to this magnitude, as `SAM2ImagePredictor` clamps what it gives back; -1024 means "no object".
LOGIT_LIMIT = 32.0
#: Level sets per member when the areas of an ensemble are pooled.
LEVELS = 500


@runtime_checkable
class Belief(Protocol):
    """A distribution over masks of one object in one view."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""

    @property
    def predicted_iou(self) -> float | None:
        """The model's own estimate of the mask's intersection over union, where it gives one."""

    def logits(self) -> Map:
        """Logit of the mean probability, within +-32; the mask is where it is positive."""

    def probability(self) -> Map:
        """Mean probability of belonging to the object, in [0, 1]."""

    def entropy(self) -> Map:
        """Entropy of the mean probability in nats, in [0, ln 2]."""

    def mutual_information(self) -> Map:
        """The part of the entropy that the samples disagree about, in nats, in [0, ln 2]."""

    def standard_deviation(self) -> Map:
        """Standard deviation of the probability, in [0, 0.5]; a predicted error may be larger."""

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Logits of `n` masks that the object might have, ``(n, h, w)``."""

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval that holds the object's area with probability `level`, in grid cells."""


@runtime_checkable
class Estimator(Protocol):
    """Turns prompts on an embedded image into a :class:`Belief`."""

    @property
    def name(self) -> str:
        """Key in :data:`napari_uncertsam.estimators.ESTIMATORS`."""

    @property
    def title(self) -> str:
        """Name for people."""

    @property
    def answers(self) -> str:
        """One sentence: which question its uncertainty answers."""

    @property
    def needs(self) -> str | None:
        """Kind of the fitted part it needs, see `napari_uncertsam.checkpoints.KINDS`; None for none."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Measures that say something about its beliefs; the first is shown unless the user chooses another."""

    def estimate(self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator) -> Belief:
        """Belief for prompts in pixel coordinates of the embedded view."""


@dataclass(frozen=True, eq=False)
class PointBelief:
    """A single prediction: it knows how sure each pixel is, but not which pixels are wrong together.

    Pixels are taken to be fully correlated: the object is one of the level sets ``P > u`` with u uniform in (0, 1).
    That is the widest spread of areas that these probabilities allow for nested masks, so the area interval is
    conservative: independent errors of single pixels would average out.

    Parameters
    ----------
    logits_map : (h, w) float32
        Finite; clamped to +-32.
    variance : (h, w) float32, optional
        Variance of the probability, where a method predicts one; only :meth:`standard_deviation` uses it.
    predicted_iou : float, optional

    Raises
    ------
    InputError
        If a map has another shape or is not finite.

    Examples
    --------
    >>> belief = PointBelief(np.array([[-4.0, 0.0, 4.0]]))
    >>> print(belief.entropy().round(2))
    [[0.09 0.69 0.09]]
    >>> belief.area_interval(0.9)
    (1.0, 2.0)
    """

    logits_map: Map = field(repr=False)
    variance: Map | None = field(default=None, repr=False)
    predicted_iou: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "logits_map", clamped(self.logits_map, 2))
        if self.variance is not None:
            variance = finite_maps(self.variance, 2)
            if variance.shape != self.shape or variance.min() < 0:
                raise InputError(f"A variance map is non-negative and {self.shape}, not {variance.shape}.")
            object.__setattr__(self, "variance", variance)

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""
        return self.logits_map.shape[0], self.logits_map.shape[1]

    def logits(self) -> Map:
        """Logits of the prediction, ``(h, w)``, within +-32."""
        return self.logits_map

    def probability(self) -> Map:
        """Probability, ``(h, w)`` in [0, 1]."""
        return sigmoid(self.logits_map)

    def entropy(self) -> Map:
        """Entropy in nats, ``(h, w)`` in [0, ln 2]."""
        return binary_entropy(self.probability())

    def mutual_information(self) -> Map:
        """Zero: a single prediction has nothing to disagree with."""
        return np.zeros(self.shape, np.float32)

    def standard_deviation(self) -> Map:
        """Square root of the predicted variance; zero where there is none."""
        return np.zeros(self.shape, np.float32) if self.variance is None else np.sqrt(self.variance)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Logits ``(n, h, w)``, each shifted by one ``-logit(u)``: the positive cells are the level set ``P > u``."""
        return sampled_level_sets(self.logits_map, n, rng)

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Areas in cells of the level sets ``P > (1 + level) / 2`` and ``P > (1 - level) / 2``."""
        return level_set_interval(self.logits_map, level)


@dataclass(frozen=True, eq=False)
class EnsembleBelief:
    """Several predictions, equally likely.

    The area interval pools the level sets of every member (a member drawn at random, then ``P > u`` of it), so it holds
    both what members disagree about and what each leaves open; areas of the members' masks alone would be too narrow.

    Parameters
    ----------
    members : (n, h, w) float32
        Logits, n >= 1, finite; clamped to +-32.
    predicted_iou : float, optional
    eps : float
        Distance that mean probabilities keep from 0 and 1.

    Raises
    ------
    InputError
        If `members` has another shape or is not finite.

    Examples
    --------
    >>> belief = EnsembleBelief(np.array([[[-20.0, 3.0]], [[20.0, 3.0]]]))
    >>> print(belief.entropy().round(2), belief.mutual_information().round(2))
    [[0.69 0.19]] [[0.69 0.  ]]
    """

    members: NDArray[np.float32] = field(repr=False)
    predicted_iou: float | None = None
    eps: float = EPSILON

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", clamped(self.members, 3))

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""
        return self.members.shape[1], self.members.shape[2]

    @cached_property
    def _logits(self) -> Map:
        from scipy.special import log_expit

        # log of the mean probability less log of the mean of its complement: exact where either rounds to 1.
        inside, outside = (np.logaddexp.reduce(log_expit(sign * self.members), axis=0) for sign in (1, -1))
        limit = logit_limit(self.eps)
        return clamped(np.clip(inside - outside, -limit, limit), 2)

    def logits(self) -> Map:
        """Logit of the mean of the members' probabilities, ``(h, w)``, within +-32."""
        return self._logits

    def probability(self) -> Map:
        """Mean of the members' probabilities, ``(h, w)`` in [0, 1]."""
        return sigmoid(self._logits)

    def entropy(self) -> Map:
        """Entropy of the mean probability in nats, ``(h, w)`` in [0, ln 2]."""
        return binary_entropy(self.probability())

    def mutual_information(self) -> Map:
        """``H(mean p) - mean H(p)`` over the members, in nats."""
        return mutual_information(sigmoid(self.members))

    def standard_deviation(self) -> Map:
        """Standard deviation of the members' probabilities (divisor n)."""
        return _standard_deviation(sigmoid(self.members))

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Logits of `n` members drawn with replacement, ``(n, h, w)``."""
        return self.members[rng.integers(len(self.members), size=positive_count(n))]

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central interval of the pooled areas, in cells; see the class."""
        return area_interval([level_set_areas(p) for p in sigmoid(self.members)], level)


def sampled_level_sets(logits: Map, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Logits ``(n, h, w)``, each shifted by one ``-logit(u)``: the positive cells are the level set ``P > u``."""
    shift = logit(rng.random((positive_count(n), 1, 1))).astype(np.float32)
    return np.asarray(logits - shift, np.float32)


def level_set_interval(logits: Map, level: float) -> tuple[float, float]:
    """Areas in cells of the level sets ``P > (1 + level) / 2`` and ``P > (1 - level) / 2``."""
    check_level(level)
    low, high = logit(np.array([(1 + level) / 2, (1 - level) / 2]))
    return float((logits > low).sum()), float((logits > high).sum())


def level_set_areas(probability: ArrayLike, levels: int = LEVELS) -> NDArray[np.int64]:
    """Areas of the sets ``P > u`` at the midpoints ``u = (j + 0.5) / levels``, falling with j.

    Examples
    --------
    >>> level_set_areas([0.0, 0.3, 1.0], 4).tolist()
    [2, 1, 1, 1]
    """
    bins = np.ceil(np.asarray(probability, np.float64).ravel() * levels - 0.5).astype(np.int64)
    counts = np.bincount(bins, minlength=levels + 1)
    return np.asarray(counts.sum() - counts.cumsum()[:levels], np.int64)


def logit_limit(eps: float) -> float:
    """Largest logit of a probability that keeps `eps` from 0 and 1; :data:`LOGIT_LIMIT` for the usual distance."""
    return LOGIT_LIMIT if eps <= EPSILON else float(np.log1p(-eps) - np.log(eps))


def decoded_logits(decoded: Decoded) -> NDArray[np.float32]:
    """Logits ``(N, h, w)`` of a decode as an array of its own.

    Raises
    ------
    EngineError
        If the model gave back NaN.
    """
    return finite_logits(decoded.logits)


def finite_logits(logits: Tensor) -> NDArray[np.float32]:
    """A model's logits as an array of its own, within +-32; raises as :func:`decoded_logits`."""
    array = np.array(logits.detach().float().cpu().numpy(), np.float32)
    if np.isnan(array).any():
        raise EngineError("The model gave back values that are not numbers; choose another model or run on the CPU.")
    return np.clip(array, -LOGIT_LIMIT, LOGIT_LIMIT)


def decoded_iou(decoded: Decoded) -> float:
    """Mean over the prompts of the model's predicted intersection over union."""
    return float(decoded.iou.detach().float().mean().cpu())


def finite_maps(values: ArrayLike, dimensions: int) -> NDArray[np.float32]:
    """A read-only float32 array; raises `InputError` if it is not finite or not of that many dimensions."""
    array = np.array(values, np.float32)
    if array.ndim != dimensions or 0 in array.shape or not np.isfinite(array).all():
        raise InputError(f"A belief is made of finite {dimensions}-dimensional maps, not of shape {array.shape}.")
    array.setflags(write=False)
    return array


def clamped(values: ArrayLike, dimensions: int) -> NDArray[np.float32]:
    """Logits within +-32, checked as :func:`finite_maps`."""
    return finite_maps(np.clip(np.asarray(values, np.float32), -LOGIT_LIMIT, LOGIT_LIMIT), dimensions)


def positive_count(n: int) -> int:
    """The number of samples, if it is one."""
    if n < 1:
        raise InputError(f"The number of samples is at least 1, not {n}.")
    return n


def check_level(level: float) -> None:
    """Raise `InputError` for a level that is not between 0 and 1."""
    if not 0 < level < 1:
        raise InputError(f"The level {level} of an area interval is not between 0 and 1; use for example 0.9.")
