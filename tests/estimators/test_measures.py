"""Measures of uncertainty by name, and their maps."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators import EnsembleBelief, PointBelief
from napari_uncertsam.estimators.laplace import GaussianBelief
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES, Measure, parse_measure, uncertainty_of
from napari_uncertsam.uncertainty import LN2

BELIEFS = [
    PointBelief(np.linspace(-40, 40, 12).reshape(3, 4), np.linspace(0, 0.25, 12).reshape(3, 4)),
    EnsembleBelief(np.random.default_rng(0).normal(0, 5, (9, 3, 4))),
    GaussianBelief(
        np.linspace(-40, 40, 12).reshape(3, 4), np.random.default_rng(1).normal(size=(2, 3, 4)), np.eye(2) * 9
    ),
]


def test_names() -> None:
    assert set(UNCERTAINTY_MEASURES) == set(get_args(Measure))
    for name in UNCERTAINTY_MEASURES:
        assert parse_measure(name) == name
    short = {"mi": "mutual-information", "standard-deviation": "std", "logvar": "log-variance"}
    assert {name: parse_measure(name) for name in short} == short
    for wrong in ("", "Entropy", "variance"):
        with pytest.raises(InputError, match="choose one of entropy, mutual-information, std, log-variance"):
            parse_measure(wrong)


@pytest.mark.parametrize("text", UNCERTAINTY_MEASURES.values())
def test_every_measure_says_what_it_answers_in_a_sentence(text) -> None:
    assert text.title[0].isupper()
    assert text.answers[-1] in ".?"
    assert text.unit in ("nats", "")


@pytest.mark.parametrize("belief", BELIEFS, ids=lambda belief: type(belief).__name__)
@pytest.mark.parametrize("measure", UNCERTAINTY_MEASURES)
def test_maps_are_within_the_scale(belief, measure: Measure) -> None:
    values = uncertainty_of(belief, measure)
    assert (values.shape, values.dtype) == ((3, 4), np.float32)
    assert 0 <= values.min() <= values.max() <= UNCERTAINTY_MEASURES[measure].largest + 1e-6


def test_maps_by_hand() -> None:
    half = EnsembleBelief(np.array([[[-30.0, 0.0]], [[30.0, 0.0]]]))
    np.testing.assert_allclose(uncertainty_of(half, "entropy"), [[LN2, LN2]], atol=1e-5)
    np.testing.assert_allclose(uncertainty_of(half, "mutual-information"), [[LN2, 0]], atol=1e-5)
    np.testing.assert_allclose(uncertainty_of(half, "std"), [[0.5, 0]], atol=1e-6)
    # ln 0.25 counted from -5; no variance at all is the lower limit.
    np.testing.assert_allclose(uncertainty_of(half, "log-variance"), [[5 + np.log(0.25), 0]], atol=1e-5)


def test_log_variance_rises_with_the_deviation() -> None:
    variance = np.array([[1e-6, np.exp(-5), 0.01, 0.1, 0.25]])
    values = uncertainty_of(PointBelief(np.zeros((1, 5)), variance), "log-variance")
    np.testing.assert_allclose(values, np.maximum(np.log(variance) + 5, 0), atol=1e-5)
