"""The field of a mask: rank-1 updates against dense matrices, moments by quadrature, draws against both."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import EnsembleBelief, PointBelief
from napari_uncertsam.estimators.field import NOISE, Answer, MaskField, field_of
from napari_uncertsam.estimators.laplace.belief import GaussianBelief
from napari_uncertsam.estimators.truncation import truncation
from tests.fields import SHAPE, Dense, draw_field, truncated

ANSWERS = [Answer(1, 1, True), Answer(4, 3, False), Answer(1, 2, False), Answer(0, 0, True)]
CELLS = np.array(list(itertools.product(range(SHAPE[0]), range(SHAPE[1]))))


def dense_after(field: MaskField, answers: list[Answer]) -> Dense:
    dense = Dense.of(field)
    for answer in answers:
        dense = dense.answered(answer.y, answer.x, answer.inside)
    return dense


@pytest.mark.parametrize("features", [0, 3])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_answers_one_after_the_other_are_those_of_the_dense_matrices(features: int, count: int) -> None:
    prior = draw_field(features=features)
    field, dense = prior.answered(ANSWERS[:count]), dense_after(prior, ANSWERS[:count])
    mean, covariance = dense.of_cells
    assert field.mean.ravel() == pytest.approx(mean, abs=1e-4)
    assert field.variance.ravel() == pytest.approx(np.diag(covariance), abs=1e-4)
    columns = field.columns(CELLS[:, 0], CELLS[:, 1]).reshape(len(CELLS), -1)
    assert columns == pytest.approx(covariance, abs=2e-4)
    assert field.covariance == pytest.approx(dense.covariance[:features, :features], abs=1e-4)
    assert field.answers == tuple(ANSWERS[:count])
    u = prior.features.reshape(features, len(CELLS))
    layer = u.T @ dense.covariance[:features, :features] @ u
    assert field.layer_variance.ravel() == pytest.approx(np.diag(layer), abs=1e-4)


def test_columns_of_every_second_cell() -> None:
    field = draw_field().answered(ANSWERS[:2])
    ys, xs = np.array([0, 3]), np.array([2, 1])
    every = field.columns(ys, xs)[:, 1::2, 1::2]
    assert field.columns(ys, xs, step=2) == pytest.approx(every, abs=1e-6)


@pytest.mark.parametrize("lapse", [0.0, 0.02, 0.3])
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (1.3, 2.6), (-2.0, 0.7), (3.0, 4.0)])
@pytest.mark.parametrize("inside", [True, False])
def test_an_answer_matches_the_moments_of_the_truncated_normal(
    mean: float, variance: float, inside: bool, lapse: float
) -> None:
    push, shrink, chance = truncation(mean, variance, inside, lapse)
    moved, left, mass = truncated(mean, variance, inside, lapse)
    assert mean + variance * push == pytest.approx(moved, abs=1e-6)
    # An answer that contradicts may as well be a slip, which spreads what is matched; it is not taken to unsettle.
    assert variance - variance**2 * shrink == pytest.approx(min(left, variance), abs=1e-6)
    assert chance == pytest.approx(mass, abs=1e-8)


def test_a_sure_field_takes_a_single_contradiction_for_a_slip() -> None:
    push, shrink, chance = truncation(-40.0, 2.5, True)
    assert chance == pytest.approx(0.02)
    assert push == pytest.approx(0, abs=1e-9)
    assert shrink == pytest.approx(0, abs=1e-9)


def test_the_order_does_not_matter_where_answers_have_nothing_to_do_with_each_other() -> None:
    """Cells twenty lengths apart, without a layer; assumed density filtering is exact then."""
    rng = np.random.default_rng(1)
    field = MaskField.prior(rng.normal(0, 1, (1, 61)), np.zeros((0, 1, 61)), np.zeros((0, 0)), 1.0)
    answers = [Answer(0, 10, True), Answer(0, 30, False), Answer(0, 50, True)]
    first = field.answered(answers)
    for order in itertools.permutations(answers):
        other = field.answered(order)
        assert other.mean == pytest.approx(first.mean, abs=1e-5)
        assert other.variance == pytest.approx(first.variance, abs=1e-5)


def test_the_order_hardly_matters_among_neighbours() -> None:
    field, said = draw_field(), [Answer(1, 1, True), Answer(1, 2, True), Answer(4, 3, False)]
    first = field.answered(said).probability()
    assert max(np.abs(field.answered(p).probability() - first).max() for p in itertools.permutations(said)) < 0.05


def test_what_is_expected_after_a_question_is_what_is_known_before() -> None:
    field = draw_field().answered(ANSWERS[:1])
    y, x = 3, 2
    chances = [float(truncation(field.mean[y, x], field.variance[y, x], inside)[2]) for inside in (True, False)]
    assert sum(chances) == pytest.approx(1)
    either = [field.answered([Answer(y, x, inside)]) for inside in (True, False)]
    assert sum(c * f.mean for c, f in zip(chances, either, strict=True)) == pytest.approx(field.mean, abs=1e-5)


@given(
    st.integers(0, 10_000), st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), st.booleans(), st.floats(0.5, 6)
)
def test_an_answer_never_unsettles(seed: int, y: int, x: int, inside: bool, length: float) -> None:
    """Without a layer neighbours are alike: all move the way that was said, and none is less certain than before."""
    field = draw_field(seed, features=0, length=length)
    after = field.answered([Answer(y, x, inside)])
    assert (after.variance <= field.variance + 1e-6).all()
    assert (after.variance > 0).all()
    moved = after.mean - field.mean
    assert ((moved if inside else -moved) >= -1e-6).all()


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("step", [1, 2])
def test_draws_have_the_moments_of_the_field(count: int, step: int) -> None:
    prior = draw_field(3)
    answers, n = ANSWERS[:count], 20_000
    draws = prior.answered(answers).sample(n, np.random.default_rng(0), step).astype(float)
    every = np.zeros(SHAPE, bool)
    every[step // 2 :: step, step // 2 :: step] = True
    mean, covariance = dense_after(prior, answers).of_cells
    kept = every.ravel()
    mean, covariance = mean[kept], covariance[np.ix_(kept, kept)]
    flat = draws.reshape(n, -1)
    variance = np.diag(covariance)
    z = (flat.mean(0) - mean) / np.sqrt(variance / n)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / n)
    zz = ((np.cov(flat.T) - covariance) / error)[np.triu_indices(len(mean))]
    for found in (z, zz):
        # Of some two hundred, the largest is beyond 3 standard errors now and then.
        assert np.abs(found).max() < 4
        assert 0.5 < np.sqrt((found**2).mean()) < 1.7


def test_the_same_generator_draws_the_same_and_answers_are_drawn_where_they_are() -> None:
    field = draw_field().answered(ANSWERS)
    first, second = (field.sample(5, np.random.default_rng(2), 3) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (5, 2, 1)
    assert first.dtype == np.float32


def test_another_length_keeps_prior_and_answers() -> None:
    field = draw_field().answered(ANSWERS)
    same = field.with_length(field.length)
    assert same.mean == pytest.approx(field.mean, abs=1e-4)
    assert same.variance == pytest.approx(field.variance, abs=1e-4)
    longer = field.with_length(5.0)
    assert longer.answers == field.answers
    assert longer.mean == pytest.approx(
        MaskField.prior(draw_field().mean, field.features, draw_field().covariance, 5.0).answered(ANSWERS).mean,
        abs=1e-4,
    )


def test_what_the_mask_has_wrong() -> None:
    field = draw_field().answered(ANSWERS[:2])
    p = field.probability().astype(float)
    assert field.wrong_area() == pytest.approx(np.minimum(p, 1 - p).sum(), abs=1e-4)
    assert np.array_equal(p > 0.5, field.mean > 0)


def test_a_field_of_a_gaussian_has_its_mean_and_its_layer() -> None:
    prior = draw_field(5)
    belief = GaussianBelief(prior.mean, prior.features, prior.covariance)
    mean, variance = field_of(belief, 2.0).scaled()
    assert np.array_equal(mean, belief.mean)
    assert variance == pytest.approx(Dense.of(prior).of_cells[1].diagonal().reshape(SHAPE) - NOISE, abs=1e-4)


def test_a_field_of_an_ensemble_has_its_logits_and_the_spread_of_its_members() -> None:
    members = np.random.default_rng(0).normal(0, 2, (4, *SHAPE)).astype(np.float32)
    field = field_of(EnsembleBelief(members), 2.0)
    spread = members.var(0)
    assert field.layer_variance == pytest.approx(spread, abs=1e-4)
    # The probit of the field's mean over all of its variance is that of the ensemble's logit over the noise alone.
    logits = EnsembleBelief(members).logits()
    assert field.mean / np.sqrt(field.variance) == pytest.approx(logits / np.sqrt(NOISE), abs=1e-4)


def test_hypotheses_are_directions_beside_those_of_the_layer() -> None:
    changes = np.random.default_rng(0).normal(0, 1, (2, *SHAPE)).astype(np.float32)
    prior = draw_field(5)
    belief = GaussianBelief(prior.mean, prior.features, prior.covariance)
    field = field_of(belief, 2.0, changes)
    assert field.variance == pytest.approx(prior.variance + (changes**2).sum(0), abs=1e-4)
    alone = field_of(PointBelief(prior.mean), 2.0, changes)
    assert alone.variance == pytest.approx(NOISE + (changes**2).sum(0), abs=1e-4)


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan")])
def test_a_length_is_positive(length: float) -> None:
    with pytest.raises(InputError, match="positive, not"):
        draw_field(length=length)


@pytest.mark.parametrize("cell", [(-1, 0), (5, 0), (0, 4)])
def test_answers_are_about_cells_of_the_grid(cell: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="not on the grid of 5 x 4"):
        draw_field().answered([Answer(*cell, True)])


def test_hypotheses_make_nothing_less_certain() -> None:
    """An answer far from everything leaves the belief as it was, however much a hypothesis is in doubt."""
    mean, own = np.full((1, 40), 1.0, np.float32), np.full((1, 1, 40), 0.5, np.float32)
    doubt = np.zeros((1, 1, 40), np.float32)
    doubt[..., :20] = 5.0
    field = MaskField.prior(mean, np.concatenate([own, doubt]), np.diag([0.0, 1.0]), 1.0, own=1)
    after = field.answered([Answer(0, 39, True)])
    (before_mean, before_variance), (after_mean, after_variance) = field.scaled(), after.scaled()
    assert after_mean[0, :20] == pytest.approx(before_mean[0, :20], abs=1e-4)
    assert after_variance[0, :20] == pytest.approx(before_variance[0, :20], abs=1e-4)
    # One in its midst moves all that the hypothesis covers, and makes it surer.
    told = field.answered([Answer(0, 0, False)])
    assert (told.mean[0, :20] < 0).all()
    assert (told.variance[0, :20] < field.variance[0, :20]).all()
