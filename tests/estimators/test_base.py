"""Beliefs: closed forms, the same numbers by a second route, and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, log_expit, logsumexp

from napari_uncertsam.errors import EngineError, InputError
from napari_uncertsam.estimators import ESTIMATORS, Belief, EnsembleBelief, Estimator, PointBelief
from napari_uncertsam.estimators.base import decoded_logits, level_set_areas
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.uncertainty import LN2, binary_entropy
from tests.fakes import FakeEngine, scene

maps = hnp.arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.floats(-40, 40, width=32))
stacks = hnp.arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 3), elements=st.floats(-40, 40, width=32))


def check(belief: Belief) -> None:
    """What holds for every belief."""
    assert isinstance(belief, Belief)
    shape = belief.shape
    for values, top in (
        (belief.probability(), 1),
        (belief.entropy(), LN2),
        (belief.mutual_information(), LN2),
        (belief.standard_deviation(), 0.5),
    ):
        assert values.shape == shape
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= top + 1e-6
    logits = belief.logits()
    assert logits.dtype == np.float32
    assert np.abs(logits).max() <= 32
    np.testing.assert_allclose(belief.probability(), expit(logits.astype(np.float64)), atol=1e-6)
    np.testing.assert_allclose(belief.entropy(), binary_entropy(expit(logits.astype(np.float64))), atol=2e-6)
    samples = belief.sample(3, np.random.default_rng(0))
    assert samples.shape == (3, *shape)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    narrow, wide = belief.area_interval(0.5), belief.area_interval(0.95)
    assert 0 <= wide[0] <= narrow[0] + 1e-9
    assert narrow[0] <= narrow[1]
    assert narrow[1] <= wide[1] + 1e-9
    assert wide[1] <= logits.size


@given(maps)
def test_point_belief(logits: np.ndarray) -> None:
    belief = PointBelief(logits)
    check(belief)
    assert (belief.mutual_information() == 0).all()
    assert (belief.standard_deviation() == 0).all()
    np.testing.assert_array_equal(belief.logits() > 0, logits > 0)
    low, high = belief.area_interval(0.9)
    assert low <= (logits > 0).sum() <= high


@given(stacks)
def test_ensemble_belief(members: np.ndarray) -> None:
    belief = EnsembleBelief(members)
    check(belief)
    p = expit(members.clip(-32, 32).astype(np.float64))
    np.testing.assert_allclose(belief.probability(), p.mean(0), atol=1e-6)
    np.testing.assert_allclose(belief.standard_deviation(), p.std(0), atol=1e-5)
    clipped = members.clip(-32, 32).astype(np.float64)
    expected = logsumexp(log_expit(clipped), axis=0) - logsumexp(log_expit(-clipped), axis=0)
    np.testing.assert_allclose(belief.logits(), expected, atol=1e-4)


@given(maps, st.floats(0.05, 0.95))
def test_an_ensemble_of_one_is_a_point_belief(logits: np.ndarray, level: float) -> None:
    point, single = PointBelief(logits), EnsembleBelief(np.stack([logits, logits]))
    np.testing.assert_allclose(single.logits(), point.logits(), atol=1e-4)
    np.testing.assert_allclose(single.mutual_information(), 0, atol=2e-6)
    # Pooled at 500 levels instead of exactly: cells within a level of the cut may fall on the other side.
    for exact, pooled, cut in zip(
        point.area_interval(level), single.area_interval(level), ((1 + level) / 2, (1 - level) / 2), strict=True
    ):
        slack = (np.abs(point.probability() - cut) <= 3 / 500).sum()
        assert abs(exact - pooled) <= slack + 1e-9


def test_members_that_flatly_disagree_carry_ln_2() -> None:
    belief = EnsembleBelief(np.array([[[-30.0, 5.0]], [[30.0, 5.0]]]))
    np.testing.assert_allclose(belief.mutual_information(), [[LN2, 0]], atol=1e-5)
    np.testing.assert_allclose(belief.logits(), [[0, 5]], atol=1e-5)
    np.testing.assert_allclose(belief.standard_deviation(), [[0.5, 0]], atol=1e-6)
    # Half of the time one certain cell, half of the time two.
    assert belief.area_interval(0.9) == (1, 2)


def test_level_sets_by_brute_force(rng: np.random.Generator) -> None:
    p = rng.random((9, 11))
    levels = (np.arange(50) + 0.5) / 50
    np.testing.assert_array_equal(level_set_areas(p, 50), [(p > u).sum() for u in levels])


def test_area_interval_is_that_of_the_samples(rng: np.random.Generator) -> None:
    belief = PointBelief(rng.normal(0, 3, (20, 20)))
    areas = (belief.sample(4000, rng) > 0).sum((1, 2))
    np.testing.assert_allclose(np.quantile(areas, [0.05, 0.95]), belief.area_interval(0.9), rtol=0.05)
    np.testing.assert_allclose((belief.sample(4000, rng) > 0).mean(0), belief.probability(), atol=0.04)


def test_ensemble_samples_are_members(rng: np.random.Generator) -> None:
    members = rng.normal(size=(3, 4, 4)).astype(np.float32)
    samples = EnsembleBelief(members).sample(300, rng)
    counts = [sum(np.array_equal(s, m) for s in samples) for m in members]
    assert sum(counts) == 300
    assert min(counts) > 60


def test_variance_map_is_the_standard_deviation() -> None:
    belief = PointBelief(np.zeros((2, 2)), variance=np.full((2, 2), 0.04))
    np.testing.assert_allclose(belief.standard_deviation(), 0.2, atol=1e-6)


def test_extreme_logits_of_no_object_are_clamped() -> None:
    assert PointBelief(np.full((2, 2), -1024.0)).logits().tolist() == [[-32, -32], [-32, -32]]


@pytest.mark.parametrize("bad", [np.zeros(3), np.full((2, 2), np.nan), np.zeros((0, 4))])
def test_bad_maps_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="2-dimensional"):
        PointBelief(bad)
    with pytest.raises(InputError, match="3-dimensional"):
        EnsembleBelief(bad)


def test_bad_variance_samples_and_level_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="variance"):
        PointBelief(np.zeros((2, 2)), variance=np.zeros((2, 3)))
    with pytest.raises(InputError, match="variance"):
        PointBelief(np.zeros((2, 2)), variance=np.full((2, 2), -1.0))
    for belief in (PointBelief(np.zeros((2, 2))), EnsembleBelief(np.zeros((1, 2, 2)))):
        with pytest.raises(InputError, match="at least 1"):
            belief.sample(0, rng)
        with pytest.raises(InputError, match="level"):
            belief.area_interval(1.0)


def test_a_model_that_gives_nan_is_an_engine_error() -> None:
    engine = FakeEngine()
    decoded = engine.decode(engine.embed(scene()[0]), [Prompts(box=Box(40, 34, 87, 97))])
    decoded.logits[0, 0, 0] = torch.nan
    with pytest.raises(EngineError, match="not numbers"):
        decoded_logits(decoded)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_method_of_the_table_is_an_estimator(name: str) -> None:
    estimator = make_method(name)
    assert isinstance(estimator, Estimator)
    assert estimator.name == name
    assert estimator.title
    assert estimator.answers.endswith("?")


def test_unknown_method_names_the_choices() -> None:
    with pytest.raises(InputError, match=r"'magic'.*entropy, prompt"):
        make_method("magic")


def test_entropy_of_half_is_ln_2() -> None:
    assert PointBelief(np.zeros((1, 1))).entropy().item() == pytest.approx(math.log(2), abs=1e-6)
