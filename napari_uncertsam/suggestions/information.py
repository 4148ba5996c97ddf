"""Where an answer is expected to teach most, in closed form: the expected reduction of the uncertain area.

The uncertain area is how many cells the mask is expected to have wrong, ``sum_r min(P_r, 1 - P_r)``. Either answer at p
moves every cell that is correlated with p (:mod:`napari_uncertsam.estimators.field`), and the area that is left is
weighted with how likely either is: the value of information for the area that is wrong. Points are picked one after the
other, each in the field as it will be once those before got their likelier answer, so that they lie where each teaches
something new (the closed form's counterpart of BatchBALD, Kirsch et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.field import NOISE, Answer
from napari_uncertsam.estimators.truncation import truncation
from napari_uncertsam.uncertainty import binary_entropy

if TYPE_CHECKING:
    from torch import Tensor

    from napari_uncertsam.estimators.field import MaskField
    from napari_uncertsam.prompts import Box
    from napari_uncertsam.suggestions.quality import Drawn

#: By what points are ranked: the area that an answer corrects, or what it says of the last layer (BALD).
Ranking = Literal["area", "mutual-information"]

#: Places that are considered: the most uncertain ones of a lattice.
CANDIDATES = 160
#: Cells along a side on which gains are added up; finer grids are thinned out.
SIDE = 64
#: Cells that are surer than this, in nats, are not asked about: one answer in 50 the other way.
LEAST_ENTROPY = 0.1
#: So many gains are worked out at once.
_AT_ONCE = 40
#: Gains below this many cells are none.
LEAST_GAIN = 1e-3


@dataclass(frozen=True, slots=True)
class InformativePoint:
    """A cell, its probability of being inside, and by how many cells an answer reduces the uncertain area."""

    y: int
    x: int
    probability: float
    gain: float


def expected_reduction(field: MaskField, ys: NDArray[np.intp], xs: NDArray[np.intp]) -> NDArray[np.float64]:
    """By how much an answer at each of n cells is expected to reduce the uncertain area, in cells.

    Parameters
    ----------
    field : MaskField
    ys, xs : (n,) int

    Returns
    -------
    (n,) float64
        Never below zero but for rounding: what is expected of knowing more is not less.

    Examples
    --------
    Undecided cells on the left, decided ones on the right:

    >>> from napari_uncertsam.estimators.field import MaskField
    >>> mean = np.array([[0.0, 0.0, 0.0, 9.0, 9.0]])
    >>> field = MaskField.prior(mean, np.zeros((0, 1, 5)), np.zeros((0, 0)), length=1.0)
    >>> print(expected_reduction(field, np.array([0, 0]), np.array([1, 4])).round(2))
    [0.78 0.  ]
    """
    import torch

    step = max(1, max(field.shape) // SIDE)
    every = (slice(step // 2, None, step),) * 2
    mean = torch.from_numpy(np.array(field.mean[every])).ravel()
    variance = torch.from_numpy(np.array(field.variance[every])).ravel()
    columns = torch.from_numpy(field.columns(ys, xs, step).reshape(len(ys), -1))
    left = torch.zeros(len(ys))
    for inside in (True, False):
        parts = truncation(field.mean[ys, xs], field.variance[ys, xs], inside)
        push, shrink, chance = (torch.from_numpy(part.astype(np.float32)) for part in parts)
        z = columns.square().mul_(shrink[:, None]).neg_().add_(variance).clamp_(min=1e-3 * NOISE).rsqrt_()
        z.mul_(columns.mul(push[:, None]).add_(mean).abs_())
        left += chance * _tail(z)
    before = _tail((mean.abs() * variance.rsqrt())[None])
    return (before - left).numpy().astype(np.float64) * step * step


def suggest_informative(
    field: MaskField,
    k: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
    known: Iterable[tuple[float, float]] = (),
    known_radius: float = 1.0,
    ranking: Ranking = "area",
    candidates: int = CANDIDATES,
) -> list[InformativePoint]:
    """The k questions that teach most, one after the other; fewer if no other teaches anything.

    Parameters
    ----------
    field : MaskField
    k : int
    allowed : (h, w) bool, optional
        Where may be asked; everywhere by default.
    known : iterable of (y, x)
        Cells near these are not asked about: answered already, or nobody knows.
    known_radius : float
        In cells.
    ranking : {"area", "mutual-information"}
        By the expected reduction of the uncertain area, or by what the answer says of the last layer
        (BALD, Houlsby et al. 2011). The gain is reported either way.
    candidates : int
        Places that are considered.

    Raises
    ------
    InputError
        If k is negative or there is no such ranking.
    """
    if k < 0:
        raise InputError(f"The number of suggested points is at least 0, not {k}.")
    if ranking not in get_args(Ranking):
        raise InputError(f"There is no ranking {ranking!r}; choose one of {', '.join(get_args(Ranking))}.")
    probability = field.probability()
    places = _lattice(field, probability, allowed, list(known), known_radius, candidates)
    gains, found = np.full(len(places), np.inf), list[InformativePoint]()
    while len(found) < k and len(places):
        _refresh(gains, field, places, everywhere=ranking != "area")
        score = gains if ranking == "area" else _bald(field)[places[:, 0], places[:, 1]]
        best = int(np.where(gains > LEAST_GAIN, score, -np.inf).argmax())
        if gains[best] <= LEAST_GAIN:
            break
        y, x = (int(v) for v in places[best])
        found.append(InformativePoint(y, x, float(probability[y, x]), float(gains[best])))
        field = field.answered([Answer(y, x, bool(field.mean[y, x] > 0))])
        gains[best] = 0.0
    return found


def _refresh(gains: NDArray[np.float64], field: MaskField, places: NDArray[np.intp], *, everywhere: bool) -> None:
    """Work gains out again, the largest first, until none of an earlier field can be the best.

    What taught little before an answer hardly teaches more after it, so that few have to be worked out.
    """
    order = np.argsort(-gains, kind="stable")
    for start in range(0, len(order), _AT_ONCE):
        now, rest = order[start : start + _AT_ONCE], order[start + _AT_ONCE :]
        asked = now[gains[now] > 0]
        if len(asked):
            gains[asked] = expected_reduction(field, places[asked, 0], places[asked, 1])
        if not everywhere and (not len(rest) or gains[order[: start + _AT_ONCE]].max() >= gains[rest].max()):
            return


def box_gain(drawn: Drawn, present: Box, proposed: Box, rng: np.random.Generator) -> float:
    """By how much an answer to "use this box instead?" is expected to reduce the uncertain area, in cells.

    The box of a drawn mask says which of the two the answer would be: the one with the larger overlap. What that
    teaches is how much surer the draws of either answer are than as many draws taken at random.

    Parameters
    ----------
    drawn : Drawn
    present, proposed : Box
        In cells.
    rng : numpy.random.Generator
    """
    from napari_uncertsam.prompts import Box

    step, start = drawn.step, drawn.step // 2
    masks = drawn.masks[drawn.masks.any((1, 2))]
    if len(masks) < 2:
        return 0.0
    boxes = (Box.of_mask(mask) for mask in masks)
    cells = (Box(b.y0 * step + start, b.x0 * step + start, b.y1 * step + start, b.x1 * step + start) for b in boxes)
    better = np.array([cell.iou(proposed) > cell.iou(present) for cell in cells])
    gain = _split_area(masks, rng.permutation(better)) - _split_area(masks, better)
    return float(max(gain, 0.0)) * step * step


def _split_area(masks: NDArray[np.bool_], split: NDArray[np.bool_]) -> float:
    """Uncertain area that is left on average when it is known on which side of a split the truth is."""
    left = 0.0
    for side in (split, ~split):
        if side.any():
            p = masks[side].mean(0)
            left += side.mean() * float(np.minimum(p, 1 - p).sum())
    return left


def _lattice(
    field: MaskField,
    probability: NDArray[np.float32],
    allowed: NDArray[np.bool_] | None,
    known: list[tuple[float, float]],
    radius: float,
    most: int,
) -> NDArray[np.intp]:
    """The most uncertain cells of a lattice, ``(n, 2)``, most uncertain first."""
    height, width = field.shape
    entropy = binary_entropy(probability)
    step = max(1, max(height, width) // (SIDE // 2))
    offered = np.zeros((height, width), bool)
    offered[step // 2 :: step, step // 2 :: step] = True
    if min(height, width) <= SIDE // 4:
        offered[...] = True  # a tiny grid has no cells to spare
    offered &= entropy > LEAST_ENTROPY
    if allowed is not None:
        offered &= allowed
    rows, columns = np.ogrid[:height, :width]
    for y, x in known:
        offered &= (rows - y) ** 2 + (columns - x) ** 2 > radius**2
    places = np.argwhere(offered)
    order = np.argsort(-entropy[offered], kind="stable")[:most]
    return np.asarray(places[order])


def _bald(field: MaskField) -> NDArray[np.float32]:
    from napari_uncertsam.estimators.answered import AnsweredBelief

    return AnsweredBelief(field).mutual_information()


def _tail(z: Tensor) -> Tensor:
    """``sum Phi(-z)`` over the last axis; `z` is used up."""
    import torch

    return torch.erfc(z.mul_(2**-0.5)).sum(-1).mul_(0.5)
