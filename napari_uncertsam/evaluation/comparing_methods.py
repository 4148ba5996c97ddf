"""Which methods differ from a reference, prompt by prompt: paired differences over cases, with intervals.

Two means whose intervals overlap may still differ, because both are over the same cases: what is drawn here are the
differences of each case. Whole groups are drawn, and all measures of a method are of the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.evaluation.metrics import MEASURES, bootstrap_means
from napari_uncertsam.evaluation.metrics.bootstrap import central_interval
from napari_uncertsam.evaluation.results import Row
from napari_uncertsam.evaluation.summarising import plain

#: The single prediction: what other methods are compared with, wherever it is among them.
REFERENCE = "entropy"
RESAMPLES = 2000
#: Smaller differences are rounding: methods that change nothing about a case would differ in its last digits, and
#: where most cases are such ones, the sign of the rounding would decide on which side of 0 an interval ends.
ROUNDING = 1e-6

#: "different" is significant too, of a measure of which neither more nor less is better.
Verdict = Literal["better", "worse", "different", ""]


def reference_of(methods: Sequence[str]) -> str:
    """The method that the others are compared with: the single prediction, else the first one.

    Examples
    --------
    >>> reference_of(["laplace", "entropy"]), reference_of(["laplace", "prompt"])
    ('entropy', 'laplace')
    """
    return REFERENCE if REFERENCE in methods else methods[0]


def compare_methods(
    rows: Sequence[Row], methods: Sequence[str], *, apart: Sequence[str], seed: int, level: float
) -> list[dict[str, Any]]:
    """Every other method against the reference: every measure, over the cases that both have.

    Parameters
    ----------
    rows : sequence of Row
    methods : sequence of str
        Of the settings, in their order, which decides the reference; see :func:`reference_of`.
    apart : sequence of str
        Modalities that are left out, as they are of the overall means.
    seed : int
        Of the bootstrap, which draws whole groups.
    level : float
        Of the intervals.

    Returns
    -------
    list of dict
        "comparisons" of :class:`~napari_uncertsam.evaluation.results.Results`; empty with a single method.
    """
    reference = reference_of(methods)
    kept: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if row["modality"] not in apart:
            kept.setdefault((row["prompt"], row["method"]), {})[row["case"]] = row
    out: list[dict[str, Any]] = []
    for prompt in dict.fromkeys(prompt for prompt, _ in kept):
        usual = kept.get((prompt, reference), {})
        found = []
        for method in methods:
            other = kept.get((prompt, method), {})
            shared = [case for case in usual if case in other]
            if method != reference and shared:
                measures = _compare([other[c] for c in shared], [usual[c] for c in shared], seed, level)
                groups = len({usual[case]["group"] for case in shared})
                entry = {"prompt": prompt, "method": method, "reference": reference}
                found.append(entry | {"n": len(shared), "groups": groups, "measures": measures})
        _correct(found, level)
        out += found
    return out


def verdict(name: str, entry: Mapping[str, Any]) -> Verdict:
    """What a comparison says of a measure; empty where the interval of the difference holds 0.

    Parameters
    ----------
    name : str
        Of the measure.
    entry : mapping
        An entry of "comparisons".
    """
    found, better = entry["measures"][name], MEASURES[name].better
    if not found["significant"]:
        return ""
    if better == "neither":
        return "different"
    return "better" if (found["difference"] > 0) == (better == "higher") else "worse"


def _compare(rows: Sequence[Row], usual: Sequence[Row], seed: int, level: float) -> dict[str, dict[str, Any]]:
    """All measures of rows against those of the reference, case by case."""
    mine, theirs = (_table(part) for part in (rows, usual))
    difference = mine - theirs
    difference[np.abs(difference) < ROUNDING] = 0
    paired = np.where(np.isfinite(difference), theirs, math.nan)
    draws = bootstrap_means(
        np.hstack([difference, paired]), np.random.default_rng(seed), [row["group"] for row in usual], RESAMPLES
    )
    count = len(MEASURES)
    return {
        name: _entry(name, difference[:, k], paired[:, k], draws[:, k], draws[:, count + k], level)
        for k, name in enumerate(MEASURES)
    }


def _table(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([[math.nan if row[name] is None else row[name] for name in MEASURES] for row in rows], np.float64)


def _entry(
    name: str,
    difference: NDArray[np.float64],
    paired: NDArray[np.float64],
    drawn: NDArray[np.float64],
    drawn_reference: NDArray[np.float64],
    level: float,
) -> dict[str, Any]:
    """One measure: differences (n,) of cases, the reference's values (n,), and the means (r,) of both in the draws."""
    better, known = MEASURES[name].better, np.isfinite(difference)
    n = int(known.sum())
    low, high = central_interval(drawn, level)
    mean, usual = (float(values[known].mean()) if n else math.nan for values in (difference, paired))
    improved = math.nan
    if n and better != "neither":
        improved = float((difference[known] > 0 if better == "higher" else difference[known] < 0).mean())
    ratio = dict.fromkeys(("value", "low", "high"), math.nan)
    if better == "lower" and usual > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = central_interval(drawn / np.where(drawn_reference > 0, drawn_reference, math.nan), level)
        ratio = {"value": mean / usual, "low": bounds[0], "high": bounds[1]}
    return {
        "reference": plain(usual),
        "difference": plain(mean),
        "low": plain(low),
        "high": plain(high),
        "n": n,
        "improved": plain(improved),
        "relative": {end: plain(value) for end, value in ratio.items()},
        "p": plain(_p_value(drawn)),
        "significant": bool(low > 0 or high < 0),
    }


def _p_value(drawn: NDArray[np.float64]) -> float:
    """Two-sided: twice the smaller share of draws on either side of 0, counting one draw more on each."""
    found = drawn[np.isfinite(drawn)]
    if not found.size:
        return math.nan
    below, above = (int(np.count_nonzero(side)) for side in (found <= 0, found >= 0))
    return min(1.0, 2 * (min(below, above) + 1) / (found.size + 1))


def _correct(entries: Sequence[dict[str, Any]], level: float) -> None:
    """Holm's correction over the methods of a prompt, each measure for itself: adds "holm" to every measure.

    Methods that differ in what their uncertainty shows only have the same masks and probabilities: of equal differences
    one counts.
    """
    for name in MEASURES:
        found = [entry["measures"][name] for entry in entries]
        tests = {(m["p"], m["difference"], m["low"], m["high"]): m["significant"] for m in found if m["p"] is not None}
        held = set()
        for rank, key in enumerate(sorted(tests)):
            if not tests[key] or key[0] > (1 - level) / (len(tests) - rank):
                break
            held.add(key)
        for measure in found:
            measure["holm"] = (measure["p"], measure["difference"], measure["low"], measure["high"]) in held
