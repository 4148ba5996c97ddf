"""Maps of a belief after answers."""

from __future__ import annotations

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.answered import AnsweredBelief
from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.estimators.field import NOISE, Answer, MaskField, field_of
from napari_uncertsam.estimators.laplace.belief import GaussianBelief
from napari_uncertsam.uncertainty import LN2, binary_entropy, sigmoid
from tests.fields import SHAPE, draw_field

ANSWERS = [Answer(1, 1, True), Answer(4, 3, False)]


def test_without_answers_every_map_is_the_beliefs() -> None:
    prior = draw_field(2)
    belief = GaussianBelief(prior.mean, prior.features, prior.covariance)
    answered = AnsweredBelief(field_of(belief, 2.0))
    assert answered.probability() == pytest.approx(belief.probability(), abs=1e-6)
    assert answered.logits() == pytest.approx(belief.logits(), abs=1e-4)
    assert answered.entropy() == pytest.approx(belief.entropy(), abs=1e-5)
    assert answered.mutual_information() == pytest.approx(belief.mutual_information(), abs=1e-3)
    assert answered.standard_deviation() == pytest.approx(belief.standard_deviation(), abs=1e-3)


def test_without_a_layer_the_probability_is_the_sigmoid() -> None:
    field = draw_field(features=0)
    assert AnsweredBelief(field).probability() == pytest.approx(sigmoid(field.mean), abs=1e-6)
    assert AnsweredBelief(field).mutual_information() == pytest.approx(0, abs=1e-5)


def test_after_answers_maps_fit_each_other_and_the_field() -> None:
    field = draw_field(2).answered(ANSWERS)
    belief: Belief = AnsweredBelief(field, 0.7)
    assert belief.predicted_iou == 0.7
    assert belief.shape == SHAPE
    p = belief.probability()
    assert all(m.dtype == np.float32 for m in (p, belief.logits(), belief.entropy(), belief.mutual_information()))
    assert np.array_equal(belief.logits() > 0, field.mean > 0)
    assert belief.entropy() == pytest.approx(binary_entropy(p), abs=1e-6)
    assert ((belief.mutual_information() >= 0) & (belief.mutual_information() <= belief.entropy() + 1e-6)).all()
    assert belief.entropy().max() <= LN2 + 1e-6
    assert (belief.standard_deviation() <= 0.5).all()
    # A logistic function in place of the normal one is off by a hundredth at most.
    assert p == pytest.approx(field.probability(), abs=0.02)


def test_what_is_scaled_is_the_noise_that_is_left() -> None:
    field = draw_field(2).answered(ANSWERS)
    mean, layer = field.scaled()
    kept = field.variance - field.layer_variance < NOISE  # elsewhere the layer and the noise go together
    assert kept.mean() > 0.7
    probit = field.mean / np.sqrt(field.variance)
    assert (mean / np.sqrt(layer + NOISE))[kept] == pytest.approx(probit[kept], abs=1e-4)
    assert mean / np.sqrt(layer + NOISE) == pytest.approx(probit, abs=0.1)


def test_an_answer_makes_its_surroundings_certain() -> None:
    unknown = MaskField.prior(np.zeros((9, 9)), np.zeros((0, 9, 9)), np.zeros((0, 0)), 1.5)
    answered = AnsweredBelief(unknown.answered([Answer(4, 4, True)]))
    entropy = answered.entropy()
    assert entropy[4, 4] < 0.4 < entropy[4, 6] < entropy[4, 8] == pytest.approx(LN2, abs=0.01)
    assert np.array_equal(answered.probability(), answered.probability().T)


def test_draws_and_areas() -> None:
    belief = AnsweredBelief(draw_field(2).answered(ANSWERS))
    assert belief.sample(3, np.random.default_rng(0)).shape == (3, *SHAPE)
    low, high = belief.area_interval(0.9)
    areas = (belief.sample(4000, np.random.default_rng(1)) > 0).sum((1, 2))
    assert belief.area_interval(0.9) == (low, high)
    assert abs(low - np.quantile(areas, 0.05)) <= 1
    assert abs(high - np.quantile(areas, 0.95)) <= 1
    narrow = belief.area_interval(0.5)
    assert low <= narrow[0] <= narrow[1] <= high
    with pytest.raises(InputError):
        belief.area_interval(1.5)
    with pytest.raises(InputError):
        belief.sample(0, np.random.default_rng(0))
