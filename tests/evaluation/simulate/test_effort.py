"""Clicks to a target by hand, and intervals by a second route."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate import AnnotationRun, AnnotationSummary, clicks_to_reach, summarise_runs


def run_of(dice: Sequence[float], *, stopped: str | None = None, seed: int = 0) -> AnnotationRun:
    """A run with this Dice, and the IoU of the same masks."""
    iou = tuple(d / (2 - d) for d in dice)
    return AnnotationRun("suggested", "gt-box", 0.0, seed, tuple(dice), iou, (0.1,) * len(dice), (), stopped)


RUNS = [
    run_of([0.95, 0.96, 0.97, 0.98]),
    run_of([0.70, 0.85, 0.80, 0.91]),
    run_of([0.50, 0.60, 0.86, 0.86], stopped="No suggested point was left to answer."),
    run_of([0.20, 0.30, 0.40, 0.50]),
]


@given(values=st.lists(st.floats(0, 1)), target=st.floats(0, 1))
def test_clicks_to_reach_is_the_first_that_does(values: list[float], target: float) -> None:
    k = clicks_to_reach(values, target)
    if k is None:
        assert all(v < target for v in values)
    else:
        assert values[k] >= target
        assert all(v < target for v in values[:k])


def test_number_of_clicks_by_hand() -> None:
    summary = summarise_runs(RUNS, ["a", "b", "c", "d"], seed=0)
    needed = {n.title: (n.clicks.mean, n.failed) for n in summary.needed}
    # Dice 0.85: 0, 1, 2, never (3). Dice 0.90: 0, 3, never, never. IoU 0.85 is a Dice of 0.919, IoU 0.90 of 0.947.
    assert needed == {
        "NoC@85 Dice": ((0 + 1 + 2 + 3) / 4, 1),
        "NoC@90 Dice": ((0 + 3 + 3 + 3) / 4, 2),
        "NoC@85 IoU": ((0 + 3 + 3 + 3) / 4, 3),
        "NoC@90 IoU": ((0 + 3 + 3 + 3) / 4, 3),
    }
    assert (summary.policy, summary.start, summary.wrong_rate) == ("suggested", "gt-box", 0.0)
    assert (summary.runs, summary.groups, summary.level, summary.stopped) == (4, 4, 0.95, 1)
    assert [a.mean for a in summary.dice] == pytest.approx([0.5875, 0.6775, 0.7575, 0.8125])
    assert [a.mean for a in summary.iou] == pytest.approx(np.mean([run.iou for run in RUNS], 0))


def test_intervals_are_those_of_all_ways_to_draw_groups() -> None:
    groups = ["a", "a", "b", "c"]
    summary = summarise_runs(RUNS, groups, seed=3, level=0.9)
    members = {g: [run for run, name in zip(RUNS, groups, strict=True) if name == g] for g in groups}

    def quantiles(value: list[float]) -> list[float]:
        """Of the mean over all 27 draws of three groups, with `value` per run in the order of RUNS."""
        of = dict(zip(map(id, RUNS), value, strict=True))
        draws = itertools.product(members.values(), repeat=3)
        means = [np.mean([of[id(run)] for group in drawn for run in group]) for drawn in draws]
        return [float(q) for q in np.quantile(means, [0.05, 0.95], method="inverted_cdf")]

    for k in range(4):
        for found, values in (
            (summary.dice[k], [run.dice[k] for run in RUNS]),
            (summary.iou[k], [run.iou[k] for run in RUNS]),
        ):
            assert [found.low, found.high] == pytest.approx(quantiles(values), abs=1e-9)
    clicks = summary.needed[0].clicks
    assert [clicks.low, clicks.high] == pytest.approx(quantiles([0, 1, 2, 3]), abs=1e-9)


def test_the_same_seed_gives_the_same_intervals_and_two_seeds_of_a_case_are_one_group() -> None:
    names = [str(i) for i in range(len(RUNS))]
    assert summarise_runs(RUNS, names, seed=1) == summarise_runs(RUNS, names, seed=1)
    twice = [*RUNS, *(replace(run, seed=1) for run in RUNS)]
    once, again = summarise_runs(RUNS, names, seed=1), summarise_runs(twice, names * 2, seed=1)
    assert again.groups == 4
    assert again.needed[0].failed == 2 * once.needed[0].failed
    for a, b in zip(again.dice + again.iou, once.dice + once.iou, strict=True):
        assert (a.mean, a.low, a.high) == pytest.approx((b.mean, b.low, b.high))


def test_summaries_go_through_json() -> None:
    summary = summarise_runs(RUNS, list("abcd"), seed=0, targets=(0.5, 0.9))
    assert AnnotationSummary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary


def test_one_group_has_no_interval() -> None:
    summary = summarise_runs(RUNS, ["a"] * 4, seed=0)
    assert math.isnan(summary.dice[0].low)
    plain = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert plain["dice"][0] == {"mean": pytest.approx(0.5875), "low": None, "high": None}
    back = AnnotationSummary.from_dict(plain)
    assert math.isnan(back.needed[0].clicks.high)
    assert back.to_dict() == summary.to_dict()


@pytest.mark.parametrize(
    ("runs", "groups", "message"),
    [
        ([], [], "got 0 and 0"),
        (RUNS, ["a"], "got 4 and 1"),
        ([RUNS[0], replace(RUNS[1], policy="random")], ["a", "b"], "cannot be averaged"),
        ([RUNS[0], replace(RUNS[1], start="click")], ["a", "b"], "cannot be averaged"),
        ([RUNS[0], replace(RUNS[1], wrong_rate=0.1)], ["a", "b"], "cannot be averaged"),
        ([RUNS[0], run_of([0.5])], ["a", "b"], "cannot be averaged"),
    ],
)
def test_what_cannot_be_averaged_is_refused(runs: list[AnnotationRun], groups: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        summarise_runs(runs, groups, seed=0)


def test_a_damaged_summary_is_refused() -> None:
    whole = summarise_runs(RUNS, list("abcd"), seed=0).to_dict()
    for values in ({}, whole | {"dice": [1]}, whole | {"needed": [{}]}, whole | {"more": 1}):
        with pytest.raises(InputError, match="not a summary"):
            AnnotationSummary.from_dict(values)
