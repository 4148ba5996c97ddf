"""Which object of a prediction is compared with which of the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.evaluation.inspection.stacks import Stack

PairingName = Literal["same", "overlap", "together", "one"]

#: How objects find each other: name to (title, sentence).
PAIRINGS: Mapping[PairingName, tuple[str, str]] = MappingProxyType(
    {
        "same": ("same value", "Value 1 of the prediction is compared with value 1 of the truth, and so on."),
        "overlap": ("best overlap", "Every predicted object is compared with the true one that it overlaps most."),
        "together": ("all as one", "Everything that is not 0 is one object, in prediction and truth."),
        "one": ("one pair …", "One value of the prediction is compared with one value of the truth."),
    }
)

#: Overlaps are told of where another true object would be this much better in Dice.
_CLEARLY = 0.3
_CODE = 1 << 31


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of the prediction and a value of the truth; None for all that is not 0.

    Examples
    --------
    >>> Pair(1, 5).title, Pair(2, 2).title, Pair(None, None).title
    ('1 ↔ 5', '2', 'all')
    """

    prediction: int | None
    truth: int | None

    @property
    def title(self) -> str:
        """For people."""
        ours, true = ("all" if value is None else f"{value}" for value in (self.prediction, self.truth))
        return true if ours == true else f"{ours} ↔ {true}"

    def meets(self, prediction: int, truth: int) -> bool:
        """Whether a pixel with these values belongs to either object."""
        return _is(self.prediction, prediction) or _is(self.truth, truth)


def _is(wanted: int | None, value: int) -> bool:
    return value != 0 if wanted is None else value == wanted


@dataclass(frozen=True, eq=False)
class Overlap:
    """Which values lie over each other.

    Parameters
    ----------
    slices : sequence of mapping
        Of each slice: pixels with a (predicted, true) value; (0, 0) is left out.
    one_object : bool
        The prediction is one object whatever its value: a boolean mask or probabilities.
    """

    slices: Sequence[Mapping[tuple[int, int], int]]
    one_object: bool = False

    @property
    def total(self) -> Mapping[tuple[int, int], int]:
        """Over all slices."""
        total: Counter[tuple[int, int]] = Counter()
        for found in self.slices:
            total.update(found)
        return total

    @property
    def predicted(self) -> list[int]:
        """Values of the prediction, without 0."""
        return sorted({p for found in self.slices for p, _ in found} - {0})

    @property
    def true(self) -> list[int]:
        """Values of the truth, without 0."""
        return sorted({t for found in self.slices for _, t in found} - {0})

    def on_slices(self, pair: Pair) -> list[int]:
        """Slices on which prediction or truth has the object."""
        return [k for k, found in enumerate(self.slices) if any(pair.meets(*values) for values in found)]

    def best(self) -> dict[int, tuple[int, float, float]]:
        """Of each predicted value: the true value of highest Dice, that Dice, and the Dice of the equal value."""
        total = self.total
        ours, theirs = (_sums(total, side) for side in (0, 1))
        out = {}
        for p in self.predicted:
            dices = {t: 2 * total.get((p, t), 0) / (ours[p] + theirs[t]) for t in self.true}
            best = max(dices, key=lambda t: (dices[t], -t), default=p)
            out[p] = best, dices.get(best, 0.0), dices.get(p, 0.0)
        return out


def _sums(total: Mapping[tuple[int, int], int], side: int) -> Counter[int]:
    out: Counter[int] = Counter()
    for values, count in total.items():
        out[values[side]] += count
    return out


def scan(
    prediction: Stack,
    truth: Stack,
    plane: int,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda _: None,
) -> Overlap:
    """Read two masks once and count which values lie over each other.

    Parameters
    ----------
    prediction, truth : Stack
        Of one shape; a fractional prediction counts as one object of value 1 where it is above 0.5.
    plane : int
    cancelled, progress : callable

    Raises
    ------
    InputError
        If either is no mask.
    Cancelled
    """
    slices, count = [], truth.volume.n_slices(plane)
    for index in range(count):
        if cancelled():
            raise Cancelled("The comparison was cancelled.")
        ours = predicted_labels(prediction, plane, index)
        slices.append(_count(ours, truth.labels(plane, index)))
        progress((index + 1) / count)
    return Overlap(slices, prediction.is_fractional or prediction.volume.dtype.kind == "b")


def predicted_labels(prediction: Stack, plane: int, index: int) -> NDArray[Any]:
    """The values of objects on a slice of the prediction; 1 where a fractional one is above 0.5."""
    if not prediction.is_fractional:
        return prediction.labels(plane, index)
    probability = prediction.probability(plane, index)
    assert probability is not None  # a prediction covers all slices
    return (probability > 0.5).astype(np.uint8)


def _count(prediction: NDArray[Any], truth: NDArray[Any]) -> dict[tuple[int, int], int]:
    either = (prediction != 0) | (truth != 0)
    ours, theirs = (_indexed(values[either]) for values in (prediction, truth))
    codes, counts = np.unique(ours[1] * _CODE + theirs[1], return_counts=True)
    pairs = zip(codes.tolist(), counts.tolist(), strict=True)
    return {(int(ours[0][code // _CODE]), int(theirs[0][code % _CODE])): n for code, n in pairs}


def _indexed(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct values and, of every pixel, which of them it is."""
    distinct, which = np.unique(values, return_inverse=True)
    return distinct, which.astype(np.int64)


def pairs_of(overlap: Overlap, how: PairingName, one: Pair | None = None) -> list[Pair]:
    """The objects to be compared.

    Parameters
    ----------
    overlap : Overlap
    how : {"same", "overlap", "together", "one"}
        See :data:`PAIRINGS`. With "same", a prediction that is one object whatever its value is compared with all of
        the truth, and where each side has a single value these two are compared.
    one : Pair, optional
        For "one".

    Raises
    ------
    InputError
        If a value does not occur, or nothing does.
    """
    predicted, true = overlap.predicted, overlap.true
    if how not in get_args(PairingName):
        raise InputError(f"Objects cannot be paired by {how!r}; use one of {', '.join(get_args(PairingName))}.")
    if not predicted and not true:
        raise InputError("Prediction and truth are both empty, so there is nothing to compare.")
    if not true:
        raise InputError("The truth is empty, so there is nothing to compare with; choose another layer.")
    if how == "one":
        return [_checked(one, predicted, true)]
    if how == "together" or (overlap.one_object and how == "same"):
        return [Pair(None, None)]
    if how == "overlap":
        return [Pair(p, t if dice else p) for p, (t, dice, _) in overlap.best().items()] or [Pair(t, t) for t in true]
    if len(predicted) == len(true) == 1:
        return [Pair(predicted[0], true[0])]
    return [Pair(value, value) for value in sorted({*predicted, *true})]


def _checked(one: Pair | None, predicted: Sequence[int], true: Sequence[int]) -> Pair:
    if one is None:
        raise InputError("Choose a value of the prediction and one of the truth to compare.")
    for value, values, name in ((one.prediction, predicted, "prediction"), (one.truth, true, "truth")):
        if value not in values:
            there = ", ".join(str(v) for v in values[:12]) + (", …" if len(values) > 12 else "")
            raise InputError(f"The {name} has no value {value}; it has {there or 'nothing but 0'}.")
    return one


def better_by_overlap(overlap: Overlap, pairs: Sequence[Pair]) -> tuple[int, int] | None:
    """A predicted and a true value that go together clearly better than the pairs say; None where all is well."""
    paired = {p.prediction: p.truth for p in pairs}
    for value, (best, dice, same) in overlap.best().items():
        if paired.get(value) == value != best and dice >= same + _CLEARLY:
            return value, best
    return None
