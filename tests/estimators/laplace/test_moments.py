"""Moments of a logistic function of a Gaussian against dense quadrature; bounds are what was measured, rounded up."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from napari_uncertsam.estimators.laplace import logistic_moments, mackay_probability
from napari_uncertsam.estimators.laplace.moments import SLOPES, WEIGHTS, mean_probability
from napari_uncertsam.uncertainty import LN2, binary_entropy

MEANS = np.concatenate([np.linspace(-12, 12, 49), [-32.0, -20, -16, 16, 20, 32, 1e-3]])
VARIANCES = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 33)])


@cache
def quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, variance and expected entropy, each ``(variances, means)``.

    The trapezoidal rule at 6,001 places within 12 standard deviations is exact here: the logistic function of the
    widest Gaussian has its poles ``pi / 100`` off the axis, eight steps, which leaves an error of e^-49.
    """
    z = np.linspace(-12, 12, 6001)
    weight = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    rows = []
    for v in VARIANCES:
        f = MEANS[:, None] + np.sqrt(v) * z
        p = expit(f)
        mean = p @ weight
        rows.append((mean, (p - mean[:, None]) ** 2 @ weight, (np.logaddexp(0, f) - f * p) @ weight))
    means, spreads, entropies = (np.array(column) for column in zip(*rows, strict=True))
    return means, spreads, entropies


def grid(kind: type) -> tuple[NDArray, NDArray]:
    return MEANS[None].astype(kind), VARIANCES[:, None].astype(kind)


@pytest.mark.parametrize(("kind", "bound"), [(np.float64, 6e-7), (np.float32, 9e-7)])
def test_mean_probability_within_a_millionth(kind: type, bound: float) -> None:
    """METHODS 5.5, test 4: below 1e-6."""
    moments = logistic_moments(*grid(kind))
    assert moments.probability.dtype == kind
    assert np.abs(moments.probability - quadrature()[0]).max() < bound
    probability, logit = mean_probability(*grid(kind))
    np.testing.assert_allclose(probability, moments.probability, atol=1e-7)
    np.testing.assert_allclose(logit, moments.logit, rtol=1e-5)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_variance_and_expected_entropy(kind: type) -> None:
    _, spread, entropy = quadrature()
    moments = logistic_moments(*grid(kind))
    assert np.abs(moments.variance - spread).max() < 3e-6
    # The mixture's derivative is less exact than itself; where the spread is not tiny that does not matter.
    wide = np.broadcast_to(VARIANCES[:, None] > 0.01, spread.shape)
    assert np.abs(np.sqrt(moments.variance) - np.sqrt(spread)).max() < 2e-3
    assert np.abs(np.sqrt(moments.variance) - np.sqrt(spread))[wide].max() < 1.2e-3
    assert np.abs(moments.entropy - entropy).max() < 1e-5
    information = binary_entropy(moments.probability) - moments.entropy
    assert np.abs(information - (binary_entropy(quadrature()[0]) - entropy)).max() < 1e-5


def test_logit_is_that_of_the_mean_probability_as_far_as_the_mixture_reaches() -> None:
    means, variances = grid(np.float64)
    true = quadrature()[0]
    logit = logistic_moments(means, variances).logit
    near = np.minimum(true, 1 - true) > 1e-4
    assert np.abs(logit - np.log(true / (1 - true)))[near].max() < 0.006
    # Beyond, Gaussian tails say surer than the logistic function would, and never less sure than a millionth.
    far = np.abs(means) >= 16
    assert (np.sign(logit) == np.sign(means)).all()
    assert (np.abs(logit[0])[far[0]] > 16).all()


def test_mackay_within_two_hundredths() -> None:
    error = np.abs(mackay_probability(*grid(np.float64)) - quadrature()[0])
    assert 0.01 < error.max() < 0.02


def test_the_mixture_is_one() -> None:
    assert sum(WEIGHTS) == pytest.approx(1, abs=1e-9)
    assert min(WEIGHTS) > 0
    assert min(SLOPES) > 0


means = st.floats(-1e4, 1e4).filter(lambda mu: mu == 0 or abs(mu) > 1e-20)
variances = st.floats(0, 1e12)


@given(means, variances, st.sampled_from([np.float32, np.float64]))
def test_the_mask_is_that_of_the_mean(mu: float, v: float, kind: type) -> None:
    """METHODS 5.5, test 3: sign(mu) is that of E - 1/2, however certain or uncertain, and the ranges hold."""
    moments = logistic_moments(kind(mu), kind(v))
    assert np.sign(moments.logit) == np.sign(kind(mu))
    assert (moments.probability > 0.5) <= (mu > 0)
    assert (moments.probability < 0.5 - 1e-7) <= (mu < 0)
    if abs(mu) > 1e-5 * np.sqrt(1 + v):  # nearer, single precision cannot tell the probability from a half
        assert (moments.probability > 0.5) == (mu > 0)
    assert 0 <= moments.probability <= 1
    assert 0 <= moments.variance <= 0.25 + 1e-6
    assert 0 <= moments.entropy <= LN2 + 1e-6
    mirrored = logistic_moments(kind(-mu), kind(v))
    assert mirrored.probability == pytest.approx(1 - moments.probability, abs=1e-7)
    assert mirrored.logit == -moments.logit
    assert mirrored.variance == pytest.approx(moments.variance, abs=1e-7)
    assert mirrored.entropy == moments.entropy


@given(st.floats(0.01, 15), st.floats(0, 1e4), st.floats(1.01, 10))
def test_a_wider_gaussian_is_nearer_to_a_half_and_a_larger_mean_surer(mu: float, v: float, factor: float) -> None:
    here, wider, surer = (
        logistic_moments(np.float64(m), np.float64(s)).logit for m, s in ((mu, v), (mu, factor * v), (factor * mu, v))
    )
    assert wider <= here <= surer


def test_shapes_broadcast_and_types() -> None:
    moments = logistic_moments(np.zeros((3, 1), np.float32), np.ones(4))
    assert {values.shape for values in moments} == {(3, 4)}
    assert {values.dtype for values in moments} == {np.dtype(np.float32)}
    read_only = np.ones(4)
    read_only.setflags(write=False)
    logistic_moments(read_only, read_only)
    np.testing.assert_array_equal(read_only, 1)
