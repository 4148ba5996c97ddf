"""Closed forms, a second route by scipy, and the same numbers from arrays and tensors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_uncertsam.errors import InputError
from napari_uncertsam.uncertainty import (
    LN2,
    area_interval,
    binary_entropy,
    logit,
    mean_uncertainty,
    mutual_information,
    sigmoid,
    standard_deviation,
)

probability_stacks = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(0, 1, allow_subnormal=False)
)


@given(hnp.arrays(np.float64, 20, elements=st.floats(0, 1)))
def test_entropy_is_scipys_and_symmetric(p: np.ndarray) -> None:
    h = binary_entropy(p, eps=1e-12)
    np.testing.assert_allclose(h, scipy.special.entr(p) + scipy.special.entr(1 - p), atol=1e-10)
    np.testing.assert_allclose(h, scipy.stats.entropy(np.stack([p, 1 - p])), atol=1e-10)
    np.testing.assert_allclose(h, binary_entropy(1 - p, eps=1e-12), atol=1e-10)
    assert h.min() >= 0
    assert h.max() <= LN2 + 1e-12


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, bool])
def test_extremes_are_finite_in_every_dtype(dtype: type) -> None:
    p = np.array([0, 1], dtype)
    assert np.isfinite(logit(p)).all()
    np.testing.assert_allclose(binary_entropy(p), 1.7e-6, rtol=0.2)  # the clamp's own entropy at eps = 1e-7
    assert binary_entropy(p).dtype == (np.float64 if dtype is np.float64 else np.float32)


def test_bfloat16_tensor_is_finite() -> None:
    h = binary_entropy(torch.tensor([0.0, 0.5, 1.0], dtype=torch.bfloat16))
    assert h.dtype == torch.float32
    np.testing.assert_allclose(h.numpy(), [0, LN2, 0], atol=1e-5)


def test_floor_of_the_papers_half_precision_clamp() -> None:
    assert binary_entropy(np.array([0.0]), eps=1e-2)[0] == pytest.approx(0.0560, abs=1e-4)


@given(hnp.arrays(np.float64, 20, elements=st.floats(-15, 15)))
def test_logit_inverts_sigmoid(x: np.ndarray) -> None:
    np.testing.assert_allclose(logit(sigmoid(x)), x, atol=1e-6)
    np.testing.assert_allclose(logit(sigmoid(x)), scipy.special.logit(scipy.special.expit(x)), atol=1e-6)


def test_members_that_disagree_carry_ln_2_and_members_that_agree_nothing() -> None:
    opposed = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(mutual_information(opposed), LN2, atol=1e-5)
    np.testing.assert_allclose(standard_deviation(opposed), 0.5)
    agreed = np.full((4, 3), 0.3)
    np.testing.assert_allclose(mutual_information(agreed), 0, atol=1e-12)
    np.testing.assert_allclose(standard_deviation(agreed), 0, atol=1e-12)


@given(probability_stacks)
def test_mutual_information_is_a_share_of_the_entropy(p: np.ndarray) -> None:
    mi = mutual_information(p)
    assert mi.min() >= 0
    assert (mi <= binary_entropy(p.mean(0)) + 1e-12).all()
    # Jensen-Shannon divergence by another route: mean Kullback-Leibler divergence to the mean.
    q = p.clip(1e-7, 1 - 1e-7)
    kl = scipy.special.rel_entr(q, q.mean(0)) + scipy.special.rel_entr(1 - q, 1 - q.mean(0))
    np.testing.assert_allclose(mi, kl.mean(0), atol=1e-5)


@given(probability_stacks)
def test_standard_deviation_is_numpys(p: np.ndarray) -> None:
    np.testing.assert_allclose(standard_deviation(p), p.std(0), atol=1e-12)


@given(probability_stacks)
def test_tensors_give_what_arrays_give(p: np.ndarray) -> None:
    t = torch.from_numpy(p)
    for function in (sigmoid, logit, binary_entropy, mutual_information, standard_deviation):
        result = function(t)
        assert isinstance(result, torch.Tensor)
        np.testing.assert_allclose(result.numpy(), function(p), atol=1e-9)
    roi = p > 0.2
    if roi.any():
        assert mean_uncertainty(t, torch.from_numpy(roi)) == pytest.approx(mean_uncertainty(p, roi))


def test_area_interval_of_a_normal_sample() -> None:
    areas = np.random.default_rng(0).normal(100, 10, 200_000)
    low, high = area_interval(areas, 0.9)
    assert (low, high) == pytest.approx((100 - 16.45, 100 + 16.45), abs=0.2)
    assert area_interval([7]) == (7, 7)


@pytest.mark.parametrize(("areas", "level"), [([], 0.9), ([1, math.nan], 0.9), ([1], 0.0), ([1], 1.0), ([1], 90)])
def test_area_interval_refuses(areas: list[float], level: float) -> None:
    with pytest.raises(InputError):
        area_interval(areas, level)


def test_mean_uncertainty_in_a_region() -> None:
    u = np.array([[0.0, 0.5], [0.1, 0.3]], np.float32)
    assert mean_uncertainty(u) == pytest.approx(0.225)
    assert mean_uncertainty(u, np.array([[False, True], [False, True]])) == pytest.approx(0.4)
    with pytest.raises(InputError, match="at least one pixel"):
        mean_uncertainty(u, np.zeros((2, 2), bool))
    with pytest.raises(InputError, match="same slice"):
        mean_uncertainty(u, np.ones((2, 3), bool))


@pytest.mark.parametrize("function", [mutual_information, standard_deviation])
@pytest.mark.parametrize("samples", [np.zeros((0, 4)), np.float64(0.5)])
def test_no_sample_is_refused(function, samples) -> None:
    with pytest.raises(InputError, match="at least one sample"):
        function(samples)
