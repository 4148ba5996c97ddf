"""The true mask as the sign of a Gaussian field, which answers condition in closed form, all pixels at once.

A belief says how likely every cell is inside. It does not say which cells are wrong together, and that is what one
answer teaches about the rest. Here the truth is ``h > 0`` with

    h_p = mean_p + u_p^T e + g_p,    e ~ N(0, M),    Cov(g_p, g_r) = kappa exp(-|p - r|^2 / (2 length^2)).

The first part is the last layer's posterior (METHODS of Laplace: every pixel moves with every other that looks alike to
the model). The second is the logistic noise of the decoder, ``P = sigmoid(f) = P(f + g > 0)``, which independent pixels
would make of salt and pepper: errors come in patches, so it is correlated over a length. An answer at p says of which
sign h_p is. Matching mean and variance of that truncated Gaussian (assumed density filtering; Minka 2001, Rasmussen and
Williams 2006, section 3.6) changes the mean by a multiple of one column of the covariance, and the covariance by the
outer product of that column: a rank-1 update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief, EnsembleBelief, Map
from napari_uncertsam.estimators.laplace.belief import GaussianBelief
from napari_uncertsam.estimators.truncation import truncation

if TYPE_CHECKING:
    from torch import Tensor

#: Variance of the normal noise that makes of a threshold about a logistic function (MacKay): pi / 8 its inverse.
NOISE = 8 / math.pi
#: Correlation length of the noise relative to the square root of the object's box.
LENGTH = 0.17
#: No cell is known better than this share of the noise.
_FLOOR = 1e-3
#: The noise keeps at least a tenth of the variance that answers leave.
_MOST_LAYER = 0.9


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody said of a cell of the grid: `y`, `x` from 0, and whether it is inside of the object."""

    y: int
    x: int
    inside: bool


@dataclass(frozen=True, eq=False)
class _Step:
    """One conditioning: what is needed to follow it for further columns and for draws.

    `column` and `layer` are covariances of h and e with h at the cell before it, `shrink` is beta of the update,
    `before` and `after` are mean and variance of h at the cell.
    """

    answer: Answer
    column: NDArray[np.float32]
    layer: NDArray[np.float64]
    shrink: float
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True, eq=False)
class MaskField:
    """The field over a grid, as far as it was answered.

    Parameters
    ----------
    mean : (h, w) float32
        Of h given the answers so far.
    variance : (h, w) float32
        Of h given the answers so far; at first that of the last layer and :data:`NOISE`.
    features : (K, h, w) float32
        u; K may be 0.
    covariance : (K, K) float64
        M, given the answers so far.
    length : float
        Correlation length of the noise in cells.
    own : int
        So many of the features are the belief's own; the others are hypotheses, which tell where an answer counts but
        are no part of the belief's probabilities.
    start : (h, w) float32
        Variance of h before any answer.
    steps : tuple
        Of the answers so far.

    Raises
    ------
    InputError
        If the length is not positive.

    Examples
    --------
    One answer in the middle of seven undecided cells, with a correlation length of one cell:

    >>> unknown = MaskField.prior(np.zeros((1, 7)), np.zeros((0, 1, 7)), np.zeros((0, 0)), length=1.0)
    >>> print(unknown.answered([Answer(0, 3, True)]).probability().round(2))
    [[0.5  0.54 0.7  0.88 0.7  0.54 0.5 ]]
    """

    mean: Map = field(repr=False)
    variance: Map = field(repr=False)
    features: NDArray[np.float32] = field(repr=False)
    covariance: NDArray[np.float64] = field(repr=False)
    length: float
    own: int
    start: Map = field(repr=False)
    steps: tuple[_Step, ...] = field(default=(), repr=False)

    @classmethod
    def prior(
        cls,
        mean: NDArray[np.floating],
        features: NDArray[np.floating],
        covariance: NDArray[np.floating],
        length: float,
        own: int | None = None,
    ) -> MaskField:
        """The field before any answer, for logits ``mean + features^T N(0, covariance)``; all features its own."""
        if not length > 0:
            raise InputError(f"The correlation length of a field is positive, not {length}.")
        u = np.asarray(features, np.float32)
        matrix = np.asarray(covariance, np.float64)
        spread = _quadratic(u, matrix) + np.float32(NOISE)
        return cls(
            np.asarray(mean, np.float32), spread, u, matrix, float(length), len(u) if own is None else own, spread
        )

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of the grid."""
        return self.mean.shape[0], self.mean.shape[1]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What was said so far."""
        return tuple(step.answer for step in self.steps)

    @cached_property
    def layer_variance(self) -> Map:
        """Variance of the logits that is left to the belief's own features, ``u^T M u``, ``(h, w)``."""
        return _quadratic(self.features[: self.own], self.covariance[: self.own, : self.own])

    # -- what the field says --------------------------------------------------------------------------------------

    def scaled(self) -> tuple[Map, Map]:
        """Mean and variance of the logits, in units of the noise that is left: what a belief makes its maps of.

        Without answers they are those the field was made of, so that every probability is the belief's to the last
        digit. Answers leave a share of the variance of h, and the belief keeps that share of its own: hypotheses tell
        where an answer counts, and make nothing less certain.
        """
        if not self.steps:
            return self.mean, self.layer_variance
        first = _quadratic(self.features[: self.own], self._first_covariance[: self.own, : self.own])
        total = (first + np.float32(NOISE)) * (self.variance / self.start)
        layer = np.minimum(self.layer_variance, _MOST_LAYER * total)
        scale = np.float32(NOISE) / (total - layer)
        return self.mean * np.sqrt(scale), np.asarray(layer * scale, np.float32)

    def probability(self) -> Map:
        """``P(h > 0)``, ``(h, w)`` in [0, 1]."""
        from scipy.special import ndtr

        return np.asarray(ndtr(self.mean / np.sqrt(self.variance)), np.float32)

    def wrong_area(self) -> float:
        """How many cells the mask ``mean > 0`` is expected to have wrong, ``sum min(P, 1 - P)``."""
        from scipy.special import ndtr

        return float(ndtr(-np.abs(self.mean) / np.sqrt(self.variance)).sum(dtype=np.float64))

    def noise_columns(self, ys: NDArray[np.intp], xs: NDArray[np.intp], step: int = 1) -> NDArray[np.float32]:
        """Covariance of the noise at cells ``(ys, xs)`` with every `step`-th cell before answers, ``(n, h', w')``."""
        rows, columns = (np.exp(-d * d / (2 * self.length**2)) for d in self._distances(ys, xs, step))
        return np.asarray(NOISE * rows[:, :, None] * columns[:, None, :], np.float32)

    def _distances(
        self, ys: NDArray[np.intp], xs: NDArray[np.intp], step: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        height, width = self.shape
        return (
            np.asarray(ys, float)[:, None] - np.arange(step // 2, height, step),
            np.asarray(xs, float)[:, None] - np.arange(step // 2, width, step),
        )

    def columns(self, ys: NDArray[np.intp], xs: NDArray[np.intp], step: int = 1) -> NDArray[np.float32]:
        """Covariance of h at cells ``(ys, xs)`` with h at every `step`-th cell, given the answers: ``(n, h', w')``."""
        import torch

        out = self.noise_columns(ys, xs, step)
        every = (slice(step // 2, None, step),) * 2
        if len(self.features):
            # The covariance of e before any answer: steps hold what they took away.
            weights = np.asarray(self._first_covariance @ self.features[:, ys, xs], np.float32)
            u = np.ascontiguousarray(self.features[(slice(None), *every)])
            out += (
                (torch.from_numpy(weights.T.copy()) @ torch.from_numpy(u.reshape(len(u), -1)))
                .numpy()
                .reshape(out.shape)
            )
        for taken in self.steps:
            c = taken.column
            out -= np.float32(taken.shrink) * c[ys, xs][:, None, None] * c[every]
        return out

    @cached_property
    def _first_covariance(self) -> NDArray[np.float64]:
        matrix = self.covariance.copy()
        for taken in self.steps:
            matrix += taken.shrink * np.outer(taken.layer, taken.layer)
        return matrix

    def with_length(self, length: float) -> MaskField:
        """The field with another correlation length, and the same answers."""
        first = MaskField.prior(self._start_mean, self.features, self._first_covariance, length, self.own)
        return first.answered(self.answers)

    # -- answers --------------------------------------------------------------------------------------------------

    def answered(self, answers: Iterable[Answer]) -> MaskField:
        """The field after more answers, one after the other.

        Raises
        ------
        InputError
            If a cell is not on the grid.
        """
        now = self
        for answer in answers:
            now = now._after(answer)
        return now

    def _after(self, answer: Answer) -> MaskField:
        y, x, (height, width) = answer.y, answer.x, self.shape
        if not (0 <= y < height and 0 <= x < width):
            raise InputError(f"The cell ({y}, {x}) is not on the grid of {height} x {width}.")
        push, shrink, _ = truncation(float(self.mean[y, x]), float(self.variance[y, x]), answer.inside)
        return self._conditioned(answer, float(push), float(shrink))

    def _conditioned(self, answer: Answer, push: float, shrink: float) -> MaskField:
        y, x = answer.y, answer.x
        mean, variance = float(self.mean[y, x]), float(self.variance[y, x])
        column = self.columns(np.array([y]), np.array([x]))[0]
        # After an answer e and the noise are correlated too, so that M u is not all of it.
        layer = self._first_covariance @ self.features[:, y, x]
        for earlier in self.steps:
            layer -= earlier.shrink * float(earlier.column[y, x]) * earlier.layer
        after = (mean + variance * push, max(variance - variance**2 * shrink, _FLOOR * NOISE))
        taken = _Step(answer, column, layer, shrink, (mean, variance), after)
        return replace(
            self,
            mean=self.mean + np.float32(push) * column,
            variance=np.maximum(self.variance - np.float32(shrink) * column**2, np.float32(_FLOOR * NOISE)),
            covariance=self.covariance - shrink * np.outer(layer, layer),
            steps=(*self.steps, taken),
        )

    # -- draws ----------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator, step: int = 1) -> NDArray[np.float32]:
        """Draws of h on every `step`-th cell, ``(n, h', w')``: an object that might be there is where one is positive.

        Draws from the prior are moved answer by answer, so that mean and covariance are those of the rank-1 updates
        (Matheron's rule). The cells with answers are drawn too, whatever the step.
        """
        import torch

        height, width = self.shape
        rows, columns = np.arange(step // 2, height, step), np.arange(step // 2, width, step)
        asked = self.answers
        ys, xs = np.array([a.y for a in asked], int), np.array([a.x for a in asked], int)
        at_rows, at_columns = np.unique([*rows, *ys]), np.unique([*columns, *xs])
        roots = [_root(places, self.length) for places in (at_rows, at_columns)]
        size = (n, roots[0].shape[1], roots[1].shape[1])
        noise = torch.from_numpy(rng.standard_normal(size, np.float32))
        draws = (roots[0] @ noise @ roots[1].T).numpy() * np.float32(math.sqrt(NOISE))
        draws += self._start_mean[np.ix_(at_rows, at_columns)]
        if len(self.features):
            weights = rng.multivariate_normal(np.zeros(len(self.features)), self._first_covariance, n, method="eigh")
            u = np.ascontiguousarray(self.features[:, at_rows][:, :, at_columns]).reshape(len(self.features), -1)
            draws += (torch.from_numpy(weights.astype(np.float32)) @ torch.from_numpy(u)).numpy().reshape(draws.shape)
        for taken in self.steps:
            self._move(draws, taken, at_rows, at_columns)
        kept = np.ix_(np.arange(n), np.searchsorted(at_rows, rows), np.searchsorted(at_columns, columns))
        return np.ascontiguousarray(draws[kept])

    @cached_property
    def _start_mean(self) -> Map:
        mean = self.mean.copy()
        for taken in self.steps:
            (before, variance), (after, _) = taken.before, taken.after
            mean -= np.float32((after - before) / variance) * taken.column
        return mean

    @staticmethod
    def _move(draws: NDArray[np.float32], taken: _Step, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        (mean, variance), (new_mean, new_variance) = taken.before, taken.after
        here = draws[:, np.searchsorted(rows, taken.answer.y), np.searchsorted(columns, taken.answer.x)]
        there = new_mean + math.sqrt(new_variance / variance) * (here - mean)
        pull = taken.column[np.ix_(rows, columns)] / np.float32(variance)
        draws += (there - here).astype(np.float32)[:, None, None] * pull


def field_of(belief: Belief, length: float, hypotheses: NDArray[np.floating] | None = None) -> MaskField:
    """The field of a belief: its probabilities, and what of its kind is known about pixels that are wrong together.

    Parameters
    ----------
    belief : Belief
        A Gaussian gives features and covariance of the last layer; an ensemble the deviations of its members; any other
        nothing, so that only neighbours are correlated.
    length : float
        Correlation length of the noise in cells.
    hypotheses : (n, h, w) float32, optional
        By how much the logits change under other assumptions, such as a box that was drawn beside the object:
        directions in which the whole mask may be wrong, one standard deviation each.
    """
    mean: NDArray[np.floating]
    if isinstance(belief, GaussianBelief):
        mean, features, covariance = belief.mean, belief.features, belief.covariance
    else:
        mean, features = belief.logits(), np.zeros((0, *belief.shape), np.float32)
        if isinstance(belief, EnsembleBelief) and len(belief.members) > 1:
            features = (belief.members - belief.members.mean(0)) / np.float32(math.sqrt(len(belief.members)))
            # The probability of the mean stays that of the ensemble: the spread is beside it and not in it.
            mean = mean * np.sqrt(1 + (features**2).sum(0) / np.float32(NOISE))
        covariance = np.eye(len(features))
    if hypotheses is None or not len(hypotheses):
        return MaskField.prior(mean, features, covariance, length)
    grown = np.eye(len(features) + len(hypotheses))
    grown[: len(features), : len(features)] = covariance
    return MaskField.prior(mean, np.concatenate([features, hypotheses]), grown, length, len(features))


def _quadratic(u: NDArray[np.float32], matrix: NDArray[np.float64]) -> Map:
    """``u_p^T matrix u_p`` at every cell, ``(h, w)``, not negative."""
    import torch

    if not len(u):
        return np.zeros(u.shape[1:], np.float32)
    flat = torch.from_numpy(u.reshape(len(u), -1))
    product = torch.from_numpy(matrix.astype(np.float32)) @ flat
    return np.asarray(product.mul_(flat).sum(0).clamp_(min=0).numpy().reshape(u.shape[1:]))


def _root(places: NDArray[np.intp], length: float) -> Tensor:
    """A square root of the noise's correlation between places along one axis, ``(places, r)`` float32.

    The correlation is smooth: of as many directions as there are places, a few times their number of lengths matter.
    """
    import torch

    apart = torch.from_numpy(places.astype(np.float64))
    kernel = torch.exp(-((apart[:, None] - apart) ** 2) / (2 * length**2))
    values, vectors = torch.linalg.eigh(kernel)
    kept = values > 1e-7 * values[-1]
    root: Tensor = (vectors[:, kept] * values[kept].sqrt()).float()
    return root
