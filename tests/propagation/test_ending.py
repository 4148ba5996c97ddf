"""The prior of how far an object goes along the slices, against integrals over its extent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import lognorm

from napari_uncertsam.propagation.ending import ABRUPT, EXTENT, SPREAD, TUBE_MM, Ending

RADII = (3.0, 10.0, 40.0)


def expected(ending: Ending, near: float, far: float, power: int) -> float:
    """Moment of the share, over extents beyond `far` and tubes."""
    prior = lognorm(SPREAD, scale=EXTENT * ending.radius)

    def share(extent: float) -> float:
        return float(math.sqrt((1 - (far / extent) ** 2) / (1 - (near / extent) ** 2)) ** power * prior.pdf(extent))

    closed, _ = quad(share, far, 30 * ending.radius, points=[1.1 * far, 2 * far], limit=200)
    tube = ending.tube
    return (tube + (1 - tube) * closed) / (tube + (1 - tube) * float(prior.sf(far)))


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("share", [0.01, 0.5, EXTENT, 3.0, 50.0])
def test_survival_is_that_of_a_log_normal_extent_or_of_a_tube(radius: float, share: float) -> None:
    ending, distance = Ending(radius), share * radius
    there = (1 - ABRUPT) * (ending.tube + (1 - ending.tube) * lognorm.sf(distance, SPREAD, scale=EXTENT * radius))
    assert ending.survival(distance) == pytest.approx(there, rel=1e-9)
    assert ending.odds(distance) == pytest.approx(math.log(there / (1 - there)))


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(("near", "far"), [(0.0, 0.3), (0.3, 0.6), (0.9, 1.2), (1.4, 1.6)])
def test_the_radius_shrinks_as_the_integral_over_extents_says(radius: float, near: float, far: float) -> None:
    ending, near, far = Ending(radius), near * radius, far * radius
    mean, deviation = ending.shrinkage(near, far)
    first, second = expected(ending, near, far, 1), expected(ending, near, far, 2)
    assert mean == pytest.approx(first, abs=0.02)
    assert deviation == pytest.approx(math.sqrt(second - first**2), abs=0.03)


@given(st.floats(0.5, 100), st.floats(0, 3000), st.floats(0, 50))
def test_nothing_grows_by_the_prior_and_nothing_comes_back(radius: float, near: float, gap: float) -> None:
    ending = Ending(radius)
    mean, deviation = ending.shrinkage(near, near + gap)
    assert 0 < mean <= 1 + 1e-12
    assert 0 <= deviation <= 0.5
    assert ending.survival(near + gap) <= ending.survival(near)
    assert ending.odds(near + gap) <= ending.odds(near)


def test_thin_objects_are_tubes_more_often() -> None:
    assert Ending(TUBE_MM).tube == 0.5
    assert Ending(TUBE_MM / 3).tube == pytest.approx(0.9)
    assert Ending(TUBE_MM * 3).tube == pytest.approx(0.1)
    assert Ending(TUBE_MM).survival(1e9) == pytest.approx((1 - ABRUPT) / 2)
    assert Ending(10).shrinkage(1000, 1010) == (1.0, 0.0)
