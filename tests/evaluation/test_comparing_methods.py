"""Paired comparisons by a loop in the definition's own words, and on cases whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from napari_uncertsam.evaluation.comparing_methods import compare_methods, reference_of, verdict
from napari_uncertsam.evaluation.metrics import MEASURES

Rows = list[dict[str, Any]]
SHARED: dict[str, Any] = {"apart": (), "seed": 3, "level": 0.95}


def make_rows(
    rng: np.random.Generator, methods: dict[str, float], *, cases: int = 24, groups: int = 8, prompt: str = "gt-box"
) -> Rows:
    """Rows whose measures are of one case alike for all methods, but for a shift by method and a little noise."""
    rows = []
    for case in range(cases):
        hard = rng.uniform(0.3, 0.7)
        for method, shift in methods.items():
            values = {name: float(hard + shift + rng.normal(0, 0.02)) for name in MEASURES}
            about = {"case": f"image/{case}", "group": f"group {case % groups}", "modality": "CT"}
            rows.append(about | {"prompt": prompt, "method": method, **values})
    return rows


def test_by_drawing_groups_in_a_loop(rng: np.random.Generator) -> None:
    rows = make_rows(rng, {"entropy": 0.0, "other": 0.004}, cases=40, groups=10)
    [entry] = compare_methods(rows, ["entropy", "other"], **SHARED)
    assert (entry["prompt"], entry["method"], entry["reference"]) == ("gt-box", "other", "entropy")
    assert (entry["n"], entry["groups"]) == (40, 10)
    usual, other = ([row for row in rows if row["method"] == m] for m in ("entropy", "other"))
    draws = np.random.default_rng(17)
    for name in ("dice", "nll_roi"):
        by_group: dict[str, list[tuple[float, float]]] = {}
        for a, b in zip(usual, other, strict=True):
            by_group.setdefault(a["group"], []).append((a[name], b[name]))
        names = list(by_group)
        means, ratios = [], []
        for _ in range(4000):
            drawn = [pair for k in draws.integers(10, size=10) for pair in by_group[names[k]]]
            first, second = np.mean(drawn, 0)
            means.append(second - first)
            ratios.append(second / first - 1)
        found = entry["measures"][name]
        pairs = np.array([pair for part in by_group.values() for pair in part])
        difference = pairs[:, 1] - pairs[:, 0]
        assert found["difference"] == pytest.approx(difference.mean())
        assert found["reference"] == pytest.approx(pairs[:, 0].mean())
        np.testing.assert_allclose((found["low"], found["high"]), np.quantile(means, [0.025, 0.975]), atol=8e-4)
        assert found["p"] == pytest.approx(
            2 * min(np.mean(np.array(means) <= 0), np.mean(np.array(means) >= 0)), abs=0.06
        )
        assert found["significant"] == (not found["low"] <= 0 <= found["high"])
        wins = difference > 0 if name == "dice" else difference < 0
        assert found["improved"] == pytest.approx(wins.mean())
        if name == "dice":  # a score has no ratio
            assert found["relative"] == {"value": None, "low": None, "high": None}
        else:
            assert found["relative"]["value"] == pytest.approx(pairs[:, 1].mean() / pairs[:, 0].mean() - 1)
            bounds = found["relative"]["low"], found["relative"]["high"]
            np.testing.assert_allclose(bounds, np.quantile(ratios, [0.025, 0.975]), atol=2e-3)


def test_what_is_always_larger_is_better_or_worse_as_the_measure_has_it(rng: np.random.Generator) -> None:
    rows = make_rows(rng, {"entropy": 0.0, "more": 0.5, "less": -0.2, "same": 0.0})
    for row in rows:
        if row["method"] == "same":
            row |= {name: next(r for r in rows if r["case"] == row["case"])[name] for name in MEASURES}
    more, less, same = compare_methods(rows, ["entropy", "more", "less", "same"], **SHARED)
    for name, measure in MEASURES.items():
        expected = {"higher": ("better", "worse"), "lower": ("worse", "better"), "neither": ("different", "different")}
        assert (verdict(name, more), verdict(name, less)) == expected[measure.better]
        assert verdict(name, same) == ""
        assert same["measures"][name]["p"] == 1.0
        assert more["measures"][name]["holm"]
        assert more["measures"][name]["low"] > 0
        assert more["measures"][name]["improved"] == {"higher": 1.0, "lower": 0.0, "neither": None}[measure.better]


def test_all_measures_are_of_the_same_draws(rng: np.random.Generator) -> None:
    rows = make_rows(rng, {"entropy": 0.0, "other": 0.01})
    for row in rows:
        row["iou"], row["ause"] = row["dice"], 3 * row["dice"]
    [entry] = compare_methods(rows, ["entropy", "other"], **SHARED)
    dice, iou, ause = (entry["measures"][name] for name in ("dice", "iou", "ause"))
    assert dice == iou
    for end in ("low", "high", "difference"):
        assert ause[end] == pytest.approx(3 * dice[end])


def test_only_cases_that_both_have_and_none_set_apart(rng: np.random.Generator) -> None:
    rows = make_rows(rng, {"entropy": 0.0, "other": 0.1})
    for row in rows:
        if row["case"] == "image/0":
            row["modality"], row["dice"] = "OCTA", -99.0
        if row["case"] == "image/1" and row["method"] == "other":
            row["hd95"] = None  # nothing was predicted
    rows = [row for row in rows if (row["case"], row["method"]) != ("image/2", "entropy")]
    [entry] = compare_methods(rows, ["entropy", "other"], apart=("OCTA",), seed=0, level=0.95)
    assert entry["n"] == entry["measures"]["dice"]["n"] == 22
    assert entry["measures"]["hd95"]["n"] == 21
    assert entry["measures"]["dice"]["difference"] == pytest.approx(0.1, abs=0.02)


def test_a_single_group_proves_nothing(rng: np.random.Generator) -> None:
    [entry] = compare_methods(make_rows(rng, {"a": 0.0, "b": 0.5}, groups=1), ["a", "b"], **SHARED)
    found = entry["measures"]["dice"]
    assert found["difference"] == pytest.approx(0.5, abs=0.02)
    assert (found["low"], found["high"], found["p"], found["significant"], found["holm"]) == (
        *(None, None, None),
        *(False, False),
    )


def test_one_method_and_prompts_by_themselves(rng: np.random.Generator) -> None:
    assert compare_methods(make_rows(rng, {"prompt": 0.0}), ["prompt"], **SHARED) == []
    assert reference_of(("prompt", "laplace")) == "prompt"
    rows = make_rows(rng, {"prompt": 0.0, "laplace": 0.3})
    rows += make_rows(rng, {"prompt": 0.0, "laplace": -0.3}, prompt="click")
    first, second = compare_methods(rows, ["prompt", "laplace"], **SHARED)
    assert [e["reference"] for e in (first, second)] == ["prompt", "prompt"]
    assert (verdict("dice", first), verdict("dice", second)) == ("better", "worse")


def test_rounding_is_no_difference(rng: np.random.Generator) -> None:
    """A method that changes two cases of 24: one draw in eight has neither of them, and a mean of 0."""
    rows = make_rows(rng, {"entropy": 0.0, "other": 0.0}, groups=24)
    for usual, other in zip(rows[::2], rows[1::2], strict=True):
        kept = usual["case"] in ("image/3", "image/8")
        other |= {name: usual[name] + (0.1 if kept else 1e-8) for name in MEASURES}
    [entry] = compare_methods(rows, ["entropy", "other"], **SHARED)
    for name, measure in MEASURES.items():
        found = entry["measures"][name]
        assert (found["low"], found["significant"]) == (0.0, False)
        assert found["p"] > 0.1
        assert found["improved"] == {"higher": pytest.approx(2 / 24), "lower": 0.0, "neither": None}[measure.better]


def test_holm_by_hand(rng: np.random.Generator) -> None:
    methods = {"entropy": 0.0} | {f"m{k}": 0.0022 * k for k in range(8)}
    entries = compare_methods(make_rows(rng, methods, cases=30, groups=30), list(methods), **SHARED)
    held = 0
    for name in MEASURES:
        found = sorted((entry["measures"][name] for entry in entries), key=lambda m: float(m["p"]))
        adjusted, highest = [], 0.0
        for rank, measure in enumerate(found):
            highest = max(highest, (len(found) - rank) * measure["p"])
            adjusted.append(highest <= 0.05 and measure["significant"])
        assert [m["holm"] for m in found] == adjusted
        held += sum(adjusted)
    significant = sum(m["significant"] for entry in entries for m in entry["measures"].values())
    assert 0 < held < significant


def test_equal_differences_count_once_for_holm(rng: np.random.Generator) -> None:
    methods = {"entropy": 0.0} | {f"m{k}": 0.006 for k in range(3)}
    rows = make_rows(rng, methods, groups=24)
    alone = compare_methods(rows, list(methods), **SHARED)
    copies = rows + [row | {"method": f"copy {row['method']}"} for row in rows if row["method"] != "entropy"]
    names = [*methods, *(f"copy m{k}" for k in range(3))]
    both = compare_methods(copies, names, **SHARED)
    holm = [[entry["measures"][name]["holm"] for name in MEASURES] for entry in both]
    assert holm[:3] == holm[3:] == [[entry["measures"][name]["holm"] for name in MEASURES] for entry in alone]
    assert len({h for row in holm for h in row}) == 2


def test_nothing_but_plain_numbers(rng: np.random.Generator) -> None:
    rows = make_rows(rng, {"entropy": 0.0, "other": 0.1})
    for row in rows:
        row["hd95"], row["ece"] = None, 0.0
    [entry] = compare_methods(rows, ["entropy", "other"], **SHARED)
    assert entry["measures"]["hd95"]["n"] == 0
    assert entry["measures"]["hd95"]["difference"] is None
    assert entry["measures"]["ece"]["relative"]["value"] is None
    numbers = [v for m in entry["measures"].values() for v in (*m.values(), *m["relative"].values())]
    assert all(math.isfinite(v) for v in numbers if isinstance(v, float))
