"""How many answers it takes: quality after every answer, and the number of clicks to a target, over many cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics import bootstrap_intervals
from napari_uncertsam.evaluation.simulate.annotator import AnnotationRun

#: Measures of a mask that an annotation is followed by.
Quality = Literal["dice", "iou"]
QUALITIES: tuple[Quality, ...] = ("dice", "iou")
#: NoC@85 and NoC@90.
TARGETS = (0.85, 0.90)


@dataclass(frozen=True, slots=True)
class Average:
    """A mean over runs and its interval; `low` and `high` are nan where there are fewer than two groups."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON, which has no nan: None instead."""
        return {name: None if math.isnan(v) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> Average:
        """The way back."""
        return cls(
            *(math.nan if values[name] is None else float(values[name] or 0) for name in ("mean", "low", "high"))
        )


@dataclass(frozen=True, slots=True)
class ClicksNeeded:
    """Number of clicks to a target (NoC).

    Parameters
    ----------
    measure : {"dice", "iou"}
    target : float
        In [0, 1]; 0.9 is NoC@90.
    clicks : Average
        Answers given until the target was reached, the starting prompt not counted. As is usual, a run that never
        reaches it counts with the largest number of answers that was allowed.
    failed : int
        Runs that never reached it.
    """

    measure: Quality
    target: float
    clicks: Average
    failed: int

    @property
    def title(self) -> str:
        """For tables, such as "NoC@90 Dice"."""
        return f"NoC@{100 * self.target:g} {'Dice' if self.measure == 'dice' else 'IoU'}"


@dataclass(frozen=True)
class AnnotationSummary:
    """Runs of one policy from one starting prompt, over many cases.

    Parameters
    ----------
    policy, start : str
    wrong_rate : float
    runs, groups : int
        How many.
    level : float
        Of the intervals.
    dice, iou : tuple of Average
        After 0, 1, ..., k answers.
    needed : tuple of ClicksNeeded
        For every measure and target.
    stopped : int
        Runs that ended before the last answer because there was nothing left to ask.
    conditioning : bool
        Whether answers conditioned the mask, or were prompts alone.
    """

    policy: str
    start: str
    wrong_rate: float
    runs: int
    groups: int
    level: float
    dice: tuple[Average, ...]
    iou: tuple[Average, ...]
    needed: tuple[ClicksNeeded, ...]
    stopped: int
    conditioning: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is None."""
        curves = {name: [a.to_dict() for a in getattr(self, name)] for name in QUALITIES}
        needed = [asdict(n) | {"clicks": n.clicks.to_dict()} for n in self.needed]
        return asdict(self) | curves | {"needed": needed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnnotationSummary:
        """The way back.

        Raises
        ------
        InputError
            If something is missing or is not what it should be.
        """
        try:
            fields: dict[str, Any] = {"conditioning": False, **values}  # before there was a choice
            for name in QUALITIES:
                fields[name] = tuple(map(Average.from_dict, values[name]))
            needed = [{**n, "clicks": Average.from_dict(n["clicks"])} for n in values["needed"]]
            return cls(**{**fields, "needed": tuple(ClicksNeeded(**n) for n in needed)})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"This is not a summary of simulated annotations: {error}.") from error


def clicks_to_reach(values: Sequence[float], target: float) -> int | None:
    """The smallest number of answers after which a measure is at least `target`; None where it never is.

    Parameters
    ----------
    values : sequence of float
        After 0, 1, ... answers.
    target : float

    Examples
    --------
    >>> clicks_to_reach([0.7, 0.88, 0.86, 0.93], 0.85), clicks_to_reach([0.7], 0.85)
    (1, None)
    """
    return next((k for k, value in enumerate(values) if value >= target), None)


def summarise_runs(
    runs: Sequence[AnnotationRun],
    groups: Sequence[str],
    *,
    seed: int,
    level: float = 0.95,
    targets: Sequence[float] = TARGETS,
) -> AnnotationSummary:
    """Means over runs with intervals by cluster bootstrap.

    Parameters
    ----------
    runs : sequence of AnnotationRun
        Of one policy, start, rate and number of answers; any seeds and cases.
    groups : sequence of str
        One for each run; runs of one group, such as a patient's, are drawn together. Runs that differ in the seed alone
        belong into one group.
    seed : int
        Of the bootstrap; all intervals draw the same groups.
    level : float
        In (0, 1).
    targets : sequence of float
        For the number of clicks.

    Raises
    ------
    InputError
        If there is no run, they are not of one kind, or the groups do not fit.
    """
    if not runs or len(groups) != len(runs):
        raise InputError(f"A summary needs runs with one group each; got {len(runs)} and {len(groups)}.")
    first, k = runs[0], len(runs[0].dice) - 1
    kinds = {(r.policy, r.start, r.wrong_rate, r.conditioning, len(r.dice), len(r.iou)) for r in runs}
    if len(kinds) > 1 or len(first.iou) != k + 1:
        raise InputError("Runs of different policies, starts, rates or numbers of answers cannot be averaged.")
    aims = [(quality, target) for quality in QUALITIES for target in targets]
    reached = [[clicks_to_reach(getattr(run, quality), target) for run in runs] for quality, target in aims]
    columns = [*zip(*(run.dice + run.iou for run in runs), strict=True)]
    columns += [tuple(k if clicks is None else clicks for clicks in column) for column in reached]
    table = np.array(columns, np.float64).T
    intervals = bootstrap_intervals(table, np.random.default_rng(seed), groups, level)
    averages = [Average(*map(float, column)) for column in zip(table.mean(0), *intervals, strict=True)]
    needed = zip(aims, averages[2 * (k + 1) :], reached, strict=True)
    return AnnotationSummary(
        first.policy,
        first.start,
        first.wrong_rate,
        len(runs),
        len(set(groups)),
        level,
        dice=tuple(averages[: k + 1]),
        iou=tuple(averages[k + 1 : 2 * (k + 1)]),
        needed=tuple(ClicksNeeded(*aim, average, column.count(None)) for aim, average, column in needed),
        stopped=sum(run.stopped is not None for run in runs),
        conditioning=first.conditioning,
    )
