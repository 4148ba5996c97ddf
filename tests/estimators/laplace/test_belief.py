"""The Gaussian belief against draws of its own distribution, made here and not by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.special import expit

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators import Belief, PointBelief
from napari_uncertsam.estimators.laplace import GaussianBelief, SampledBelief
from napari_uncertsam.uncertainty import LN2, area_interval, binary_entropy, logit

SIDE, RANK = 48, 6


def disc(*, spread: float = 1.0, seed: int = 0) -> GaussianBelief:
    """A disc with a soft edge, and features that move its edge here and there."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mean = 0.8 * (13 - np.hypot(rows - 23, columns - 25))
    waves = [
        np.sin(k * rows / SIDE + phase) * np.cos((RANK - k) * columns / SIDE) for k, phase in enumerate(range(RANK))
    ]
    half = rng.normal(size=(RANK, RANK))
    return GaussianBelief(mean, np.array(waves), spread * half @ half.T)


#: Of the disc, in cells.
AREA = float((disc().mean > 0).sum())


def draws(belief: GaussianBelief, n: int, seed: int = 1) -> NDArray[np.float64]:
    """Logits ``(n, pixels)`` from the definition."""
    e = np.random.default_rng(seed).multivariate_normal(np.zeros(len(belief.covariance)), belief.covariance, n)
    return belief.mean.ravel() + e @ belief.features.reshape(len(belief.features), -1)


def test_every_map_is_that_of_draws() -> None:
    belief = disc()
    n = 10_000
    p = expit(draws(belief, n).astype(np.float32))
    error = 5 * p.std(0) / np.sqrt(n) + 1e-5
    assert (np.abs(p.mean(0) - belief.probability().ravel()) < error).all()
    np.testing.assert_allclose(belief.entropy().ravel(), binary_entropy(p.mean(0)), atol=0.02)
    np.testing.assert_allclose(belief.standard_deviation().ravel(), p.std(0), atol=0.01)
    information = binary_entropy(p.mean(0)) - binary_entropy(p).mean(0)
    np.testing.assert_allclose(belief.mutual_information().ravel(), information, atol=0.02)
    np.testing.assert_allclose(
        belief.logits()[belief.entropy() > 0.1], logit(belief.probability())[belief.entropy() > 0.1], atol=1e-3
    )


def drawn_interval(belief: GaussianBelief, level: float = 0.9) -> tuple[float, float]:
    return area_interval(expit(draws(belief, 20_000).astype(np.float32)).sum(1), level)


@pytest.mark.parametrize(("spread", "level"), [(0.1, 0.9), (1.0, 0.9), (1.0, 0.5), (2.0, 0.9)])
def test_area_interval_along_one_direction(spread: float, level: float) -> None:
    """Where all pixels move together the interval is that of draws."""
    belief = disc()
    together = np.zeros((RANK, RANK))
    together[2, 2] = spread
    alone = GaussianBelief(belief.mean, np.ones_like(belief.features), together)
    assert alone.area_interval(level) == pytest.approx(drawn_interval(alone, level), abs=0.01 * AREA)


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.5, 2.0])
def test_area_interval_is_that_of_draws_whatever_the_directions(spread: float) -> None:
    belief = disc(spread=spread)
    assert belief.area_interval() == pytest.approx(drawn_interval(belief), abs=0.08 * AREA)


def test_area_interval_widens_with_the_spread_and_the_level() -> None:
    widths = [
        np.diff(disc(spread=spread).area_interval(level))[0]
        for spread, level in ((0, 0.9), (0.3, 0.5), (0.3, 0.9), (1, 0.9))
    ]
    assert (np.diff(widths) > 0).all()
    with pytest.raises(InputError, match=r"level 1\.5"):
        disc().area_interval(1.5)


@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_expected_area(spread: float) -> None:
    belief = disc(spread=spread)
    areas = expit(draws(belief, 5000)).sum(1)
    mean, deviation = belief.expected_area()
    assert mean == pytest.approx(areas.mean(), abs=4 * areas.std() / np.sqrt(5000))
    # To first order: the curvature of the area is missing.
    assert deviation == pytest.approx(areas.std(), rel=0.1)


def test_samples_have_the_joint_covariance(rng: np.random.Generator) -> None:
    belief = disc()
    sampled = belief.sample(20_000, rng)
    assert (sampled.shape, sampled.dtype) == ((20_000, SIDE, SIDE), np.float32)
    chosen = sampled.reshape(20_000, -1)[:, ::97]
    u = belief.features.reshape(RANK, -1)[:, ::97]
    expected = u.T @ belief.covariance @ u
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    np.testing.assert_allclose(np.cov(chosen.T) / scale, expected / scale, atol=0.04)
    np.testing.assert_allclose(expected.diagonal(), belief.variance.ravel()[::97], rtol=1e-4, atol=1e-6)
    error = 5 * np.sqrt(expected.diagonal() / len(chosen)) + 1e-5
    assert (np.abs(chosen.mean(0) - belief.mean.ravel()[::97]) < error).all()
    with pytest.raises(InputError, match="at least 1"):
        belief.sample(0, rng)


def test_the_same_generator_gives_the_same_samples() -> None:
    first, again, other = (disc().sample(3, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_an_ensemble_of_samples_agrees() -> None:
    belief = disc()
    drawn = SampledBelief(belief.sample(4000, np.random.default_rng(0)))
    np.testing.assert_allclose(drawn.probability(), belief.probability(), atol=0.03)
    assert drawn.area_interval() == pytest.approx(drawn_interval(belief), abs=0.03 * AREA)


def test_a_diagonal_covariance_takes_a_short_cut_to_the_same_variance() -> None:
    belief = disc()
    diagonal = np.diag(np.diag(belief.covariance))
    short = GaussianBelief(belief.mean, belief.features, diagonal)
    whole = (np.einsum("kl,lhw->khw", diagonal, belief.features) * belief.features).sum(0)
    np.testing.assert_allclose(short.variance, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose((short.project(short.factor) ** 2).sum(0), whole, rtol=1e-4, atol=1e-5)


def test_without_variance_it_is_a_single_prediction(rng: np.random.Generator) -> None:
    belief = disc(spread=0)
    point = PointBelief(belief.mean)
    assert not belief.variance.any()
    assert np.abs(belief.probability() - point.probability()).max() < 1e-6
    assert belief.mutual_information().max() < 1e-5
    assert belief.standard_deviation().max() < 2e-3
    np.testing.assert_allclose(belief.entropy(), point.entropy(), atol=1e-5)
    certain = np.abs(belief.mean) > 9
    np.testing.assert_allclose(belief.logits()[~certain], belief.mean[~certain], atol=0.005)
    np.testing.assert_array_equal(belief.sample(2, rng), [belief.mean] * 2)
    expected = expit(belief.mean.astype(float)).sum()
    assert belief.area_interval() == pytest.approx((expected, expected), abs=1e-3)
    assert belief.expected_area() == pytest.approx((expected, 0), abs=1e-3)


grids = hnp.arrays(np.float32, (2, 3), elements=st.floats(-100, 100, width=32))


@settings(max_examples=50)
@given(grids, hnp.arrays(np.float32, (2, 2, 3), elements=st.floats(-50, 50, width=32)), st.floats(0, 1e6))
def test_maps_stay_in_range_and_the_mask_is_the_models(mean: Any, features: Any, size: float) -> None:
    belief = GaussianBelief(mean, features, size * np.array([[1.0, 0.4], [0.4, 0.5]]))
    assert isinstance(belief, Belief)
    np.testing.assert_array_equal(belief.logits() > 0, mean > 0)
    assert np.abs(belief.logits()).max() <= 32
    for values, largest in (
        (belief.probability(), 1),
        (belief.entropy(), LN2),
        (belief.mutual_information(), LN2),
        (belief.standard_deviation(), 0.5),
    ):
        assert values.dtype == np.float32
        assert values.shape == belief.shape == (2, 3)
        assert 0 <= values.min() <= values.max() <= largest + 1e-6
    low, high = belief.area_interval()
    assert 0 <= low <= high <= 6


def test_order_of_questions_does_not_matter() -> None:
    """Some maps share work: the answers are the same whichever is asked first."""
    first, second = disc(), disc()
    first.mutual_information()
    np.testing.assert_allclose(first.probability(), second.probability(), atol=1e-6)
    np.testing.assert_allclose(first.logits(), second.logits(), rtol=1e-4)
    np.testing.assert_allclose(second.mutual_information(), first.mutual_information(), atol=1e-6)


def test_a_floor_of_the_probability() -> None:
    belief = disc()
    floored = GaussianBelief(belief.mean, belief.features, belief.covariance, eps=1e-2)
    np.testing.assert_allclose(floored.probability(), belief.probability().clip(0.01, 0.99), atol=1e-6)
    limit = np.log(0.99 / 0.01)
    np.testing.assert_allclose(floored.logits(), belief.logits().clip(-limit, limit), atol=1e-5)
    assert floored.entropy().min() == pytest.approx(0.0560, abs=5e-5)


MEAN, U, M = np.zeros((4, 5)), np.ones((2, 4, 5)), np.eye(2)


@pytest.mark.parametrize(
    ("mean", "features", "covariance", "said"),
    [
        (np.zeros(4), U, M, "2-dimensional"),
        (np.full((4, 5), np.nan), U, M, "finite"),
        (MEAN, np.ones((2, 5, 4)), M, r"\(2, 5, 4\)"),
        (MEAN, np.ones((2, 20)), M, r"\(2, 20\)"),
        (MEAN, U, np.eye(3), r"\(3, 3\)"),
        (MEAN, U, np.ones(2), r"\(2,\)"),
        (MEAN, U, np.array([[np.inf, 0], [0, 1]]), "not a covariance"),
        (MEAN, U, -np.eye(2), "not a covariance"),
    ],
)
def test_what_does_not_fit_is_refused(mean: Any, features: Any, covariance: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        GaussianBelief(mean, features, covariance)
