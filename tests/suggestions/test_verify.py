"""Verification: what is accepted, what is refused, and that the reason says so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators import Belief, EnsembleBelief, PointBelief
from napari_uncertsam.prompts import Box
from napari_uncertsam.suggestions import Evidence, Verification, cells_in, pixelwise
from napari_uncertsam.suggestions import verify as verify_evidence
from napari_uncertsam.uncertainty import binary_entropy, sigmoid

SHAPE = (32, 32)


def verify(before: Belief, after: Belief, roi: np.ndarray | None = None, **options: Any) -> Verification:
    """Beliefs without anything beside them."""
    return verify_evidence(Evidence(before), Evidence(after), roi, **options)


def square(side: int, strength: float, outside: float = -8.0, iou: float | None = None) -> PointBelief:
    logits = np.full(SHAPE, outside)
    logits[:side, :side] = strength
    return PointBelief(logits, predicted_iou=iou)


def test_a_clearer_mask_is_accepted_and_a_vaguer_one_is_not() -> None:
    vague, clear = square(16, 0.5), square(16, 4.0)
    kept = verify(vague, clear)
    assert kept.accepted
    assert kept.before > kept.after
    assert kept.area_ratio == 1
    assert "fell from" in kept.reason
    refused = verify(clear, vague)
    assert not refused.accepted
    assert "Kept the earlier mask" in refused.reason
    assert "rose from" in refused.reason
    same = verify(clear, clear)
    assert not same.accepted
    assert "stayed" in same.reason


def test_the_mean_is_that_of_the_region() -> None:
    roi = cells_in(SHAPE, Box(0, 0, 15, 15))
    before, after = square(16, 0.5), square(16, 4.0, outside=-0.5)
    result = verify(before, after, roi)
    assert result.before == pytest.approx(binary_entropy(sigmoid(np.float64(0.5))), rel=1e-5)
    assert result.accepted
    assert not verify(before, after, roi, rule="mean-entropy-image").accepted


@pytest.mark.parametrize("rule", ["mean-entropy-roi", "mean-entropy-image", "per-pixel"])
def test_collapse_to_an_empty_mask_is_refused_though_it_is_certain(rule: str) -> None:
    before, empty = square(16, 0.5), PointBelief(np.full(SHAPE, -20.0))
    result = verify(before, empty, rule=rule)
    assert not result.accepted
    assert result.area_ratio == 0
    assert "empty" in result.reason
    # Which is what the guard is for: without it the same rule is glad to take it.
    assert verify(before, empty, rule=rule, guard=None).accepted


@given(st.integers(1, 32), st.integers(1, 32))
def test_guard_limits_the_area_both_ways(before: int, after: int) -> None:
    result = verify(square(before, 0.5), square(after, 9.0), rule="mean-entropy-image")
    ratio = after**2 / before**2
    assert result.area_ratio == pytest.approx(ratio)
    if not 0.25 <= ratio <= 4:
        assert not result.accepted
        assert "times the area" in result.reason
    else:
        assert result.accepted


def test_a_mask_where_there_was_none_is_judged_by_the_rule_alone() -> None:
    nothing, clear = PointBelief(np.full(SHAPE, -0.5)), square(16, 9.0)
    found = verify(nothing, clear)
    assert found.accepted
    assert found.area_ratio == math.inf
    both = verify(nothing, PointBelief(np.full(SHAPE, -9.0)))
    assert not both.accepted
    assert math.isnan(both.area_ratio)


def test_size_normalised_does_not_reward_shrinking() -> None:
    before, smaller = square(16, 3.0, outside=-12), square(10, 3.0, outside=-12)
    assert verify(before, smaller, rule="mean-entropy-image").accepted
    assert verify(before, smaller, rule="size-normalised").after == pytest.approx(
        verify(before, smaller, rule="size-normalised").before, rel=1e-2
    )
    assert verify(before, PointBelief(np.full(SHAPE, -32.0)), rule="size-normalised", guard=None).after > 1


def test_predicted_iou_is_better_when_larger_and_needed() -> None:
    low, high, unknown = square(16, 1.0, iou=0.4), square(16, 1.0, iou=0.8), square(16, 1.0)
    assert verify(low, high, rule="predicted-iou").accepted
    assert not verify(high, low, rule="predicted-iou").accepted
    refused = verify(low, unknown, rule="predicted-iou")
    assert not refused.accepted
    assert "does not tell" in refused.reason


@given(st.integers(0, 10_000))
def test_pixelwise_choice_is_nowhere_more_uncertain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = PointBelief(rng.normal(0, 3, (6, 7))), EnsembleBelief(rng.normal(0, 3, (3, 6, 7)))
    mixed = pixelwise(before, after)
    np.testing.assert_allclose(mixed.entropy(), np.minimum(before.entropy(), after.entropy()), atol=2e-6)
    chosen = after.entropy() < before.entropy()
    np.testing.assert_array_equal(mixed.logits(), np.where(chosen, after.logits(), before.logits()))
    deviation = np.where(chosen, after.standard_deviation(), 0)
    np.testing.assert_allclose(mixed.standard_deviation(), deviation, atol=1e-4)


def test_bad_arguments_are_refused() -> None:
    a, b = square(4, 1.0), PointBelief(np.zeros((3, 3)))
    with pytest.raises(InputError, match="mean-entropy-roi"):
        verify(a, a, rule="coin")
    with pytest.raises(InputError, match="different grids"):
        verify(a, b)
    with pytest.raises(InputError, match="no pixel"):
        verify(a, a, np.zeros(SHAPE, bool))


def test_rules_from_the_beliefs_own_probabilities() -> None:
    probability = np.array([[0.9, 0.8, 0.3, 0.1]])
    before = PointBelief(np.log(probability / (1 - probability)))
    after = PointBelief(np.array([[8.0, 8.0, -8.0, -8.0]]))
    found = verify(before, after, rule="expected-dice")
    assert found.before == pytest.approx(2 * 1.7 / (2.1 + 2), abs=1e-5)
    assert found.after == pytest.approx(1, abs=1e-3)
    assert found.accepted
    assert verify(before, after, rule="expected-iou").before == pytest.approx(1.7 / 2.4, abs=1e-5)
    lengths = verify(before, after, rule="entropy-per-outline")
    assert lengths.before == pytest.approx(float(binary_entropy(probability).sum()), abs=1e-5)  # an outline of one
    empty = PointBelief(np.full((1, 4), -8.0))
    assert verify(empty, empty, rule="entropy-per-outline", guard=None).before == math.inf


def test_agreement_asks_for_masks_of_other_boxes_only_when_it_is_the_rule() -> None:
    asked = []

    def redrawn(side: int) -> np.ndarray:
        asked.append(side)
        return np.stack([square(16, 4.0).logits(), square(side, 4.0).logits()])

    before = Evidence(square(16, 4.0), lambda: redrawn(8))
    after = Evidence(square(16, 4.0), lambda: redrawn(16))
    assert not verify_evidence(before, after, rule="mean-entropy-roi").accepted
    assert asked == []
    found = verify_evidence(before, after, rule="agreement")
    assert found.before == pytest.approx((1 + 2 * 64 / (256 + 64)) / 2)
    assert found.after == pytest.approx(1)
    assert found.accepted
    assert asked == [8, 16]
    assert "does not tell" in verify(square(16, 4.0), square(16, 4.0), rule="agreement").reason


def test_hypotheses_ask_for_a_margin_and_the_models_consent() -> None:
    def judge(expected: float, iou: float | None, rule: str = "hypotheses-iou", **options: Any) -> Verification:
        before = Evidence(square(16, 4.0, iou=0.7), expected=0.7)
        return verify_evidence(before, Evidence(square(14, 4.0, iou=iou), expected=expected), rule=rule, **options)

    assert judge(0.9, 0.8).accepted
    assert judge(0.9, None).accepted  # a model that does not tell does not object
    close = judge(0.75, 0.8)
    assert not close.accepted
    assert "by less than 0.08" in close.reason
    assert judge(0.75, 0.8, margin=0.01).accepted
    against = judge(0.9, 0.71)
    assert not against.accepted
    assert against.reason.startswith("Kept the earlier mask")
    assert "from 0.700 to 0.710" in against.reason
    assert judge(0.9, 0.71, "hypotheses").accepted
    assert not judge(math.nan, 0.9).accepted


def test_hypotheses_and_entropy_have_to_agree() -> None:
    rule = "hypotheses-entropy"
    vague, clear = square(16, 1.0), square(16, 4.0)
    accepted = verify_evidence(Evidence(vague, expected=0.7), Evidence(clear, expected=0.8), rule=rule)
    assert accepted.accepted
    assert (accepted.before, accepted.after) == (0.7, 0.8)
    refused = verify_evidence(Evidence(clear, expected=0.7), Evidence(vague, expected=0.8), rule=rule)
    assert not refused.accepted
    assert "but the mean uncertainty of the view went from" in refused.reason
