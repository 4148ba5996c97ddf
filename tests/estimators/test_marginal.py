"""Beliefs of which only each pixel's mean and variance are kept, against exact expectations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.estimators.laplace.moments import mean_probability
from napari_uncertsam.estimators.marginal import MarginalBelief
from napari_uncertsam.uncertainty import LN2, binary_entropy

MEANS, VARIANCES = np.meshgrid(np.linspace(-32, 32, 129), np.append(0, np.geomspace(1e-3, 1e4, 60)), indexing="ij")


def quadrature(mean: float, variance: float) -> tuple[float, float, float]:
    """Mean and standard deviation of the probability, and its mutual information, by summing over the Gaussian."""
    z = np.linspace(-9, 9, 4001)
    weight = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    p = expit(mean + z * np.sqrt(variance))
    first = float(weight @ p)
    spread = float(weight @ (p - first) ** 2) ** 0.5
    return first, spread, float(binary_entropy(np.array(first)) - weight @ binary_entropy(p))


def test_probability_is_within_two_percent_of_the_exact_one() -> None:
    belief = MarginalBelief(MEANS, VARIANCES)
    exact, _ = mean_probability(MEANS, VARIANCES)
    assert isinstance(belief, Belief)
    assert np.abs(belief.probability() - exact).max() < 0.02
    np.testing.assert_allclose(belief.probability()[:, 0], expit(MEANS[:, 0]), atol=1e-6)
    # Doubt pulls to a half and never over it.
    assert (np.abs(belief.logits()) <= np.abs(MEANS) + 1e-5).all()
    assert (np.sign(belief.logits()) == np.sign(MEANS)).all()


def test_measures_stay_in_their_ranges() -> None:
    belief = MarginalBelief(MEANS, VARIANCES)
    entropy, information, spread = belief.entropy(), belief.mutual_information(), belief.standard_deviation()
    assert belief.shape == entropy.shape == information.shape == spread.shape == MEANS.shape
    assert entropy.dtype == information.dtype == spread.dtype == np.float32
    assert 0 <= entropy.min() <= entropy.max() <= LN2 + 1e-6
    assert information.min() >= 0
    assert (information <= entropy).all()
    assert 0 <= spread.min() <= spread.max() <= 0.5
    np.testing.assert_allclose(entropy, binary_entropy(belief.probability()), atol=1e-6)
    # Without a variance nothing is to be learned of the weights.
    assert information[:, 0].max() < 1e-3
    assert spread[:, 0].max() < 3e-3


@given(st.floats(-10, 10), st.floats(0, 50))
def test_measures_against_quadrature(mean: float, variance: float) -> None:
    belief = MarginalBelief(np.full((1, 1), mean), np.full((1, 1), variance))
    probability, spread, information = quadrature(mean, variance)
    assert belief.probability().item() == pytest.approx(probability, abs=0.02)
    assert belief.standard_deviation().item() == pytest.approx(spread, abs=4e-3)
    # The entropy of the approximate probability is off by up to its slope times 0.02.
    assert belief.mutual_information().item() == pytest.approx(information, abs=0.06)


def test_samples_are_level_sets(rng: np.random.Generator) -> None:
    belief = MarginalBelief(rng.normal(0, 3, (6, 7)), rng.uniform(0, 9, (6, 7)))
    samples = belief.sample(4000, rng) > 0
    assert samples.shape == (4000, 6, 7)
    np.testing.assert_allclose(samples.mean(0), belief.probability(), atol=0.03)
    # Nested: of two of them, one holds the other.
    areas = samples.sum((1, 2))
    order = np.argsort(areas)
    assert (samples[order][:-1] <= samples[order][1:]).all()
    low, high = belief.area_interval(0.9)
    # Nine in ten of them have an area within the interval.
    assert ((areas >= low) & (areas <= high)).mean() == pytest.approx(0.9, abs=0.1)
    assert low <= (belief.logits() > 0).sum() <= high


def test_area_interval_by_hand() -> None:
    probability = np.array([[0.99, 0.96, 0.94, 0.5, 0.06, 0.04, 0.01]])
    belief = MarginalBelief(np.log(probability / (1 - probability)), np.zeros((1, 7)))
    assert belief.area_interval(0.9) == (2, 5)
    assert belief.area_interval(0.97) == (1, 6)
    with pytest.raises(InputError):
        belief.area_interval(1.5)


@pytest.mark.parametrize(
    ("mean", "variance"),
    [
        (np.zeros((2, 2)), np.full((2, 2), -1.0)),
        (np.zeros((2, 2)), np.zeros((2, 3))),
        (np.zeros((2, 2)), np.full((2, 2), np.nan)),
        (np.full((2, 2), np.nan), np.zeros((2, 2))),
        (np.zeros(4), np.zeros(4)),
    ],
)
def test_what_is_no_distribution(mean: np.ndarray, variance: np.ndarray) -> None:
    with pytest.raises(InputError):
        MarginalBelief(mean, variance)


def test_means_are_clamped() -> None:
    belief = MarginalBelief(np.array([[-1000.0, 1000.0]]), np.zeros((1, 2)))
    assert belief.mean.tolist() == [[-32, 32]]
