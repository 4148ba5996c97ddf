"""Synthetic volumes: deterministic, labelled, and of the geometry that they say."""

from __future__ import annotations

import numpy as np
import pytest

from napari_uncertsam.training.volumes import _Painter, make_phantom

SHAPE = (10, 40, 48)


def test_a_seed_gives_one_volume() -> None:
    first, again, other = (make_phantom(np.random.default_rng(seed), SHAPE) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert first.spacing == again.spacing
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", range(6))
def test_volumes_hold_what_they_should(seed: int) -> None:
    phantom = make_phantom(np.random.default_rng(seed), SHAPE, (2.0, 4.0))
    assert phantom.image.shape == phantom.labels.shape == SHAPE
    assert phantom.image.dtype == np.float32
    assert phantom.labels.dtype == np.uint8
    assert 0 <= phantom.image.min() < phantom.image.max() <= 1
    assert 2 <= phantom.spacing[0] <= 4
    assert phantom.spacing[1:] == (1, 1)
    assert 1 <= len(np.unique(phantom.labels)) - 1 <= 20
    assert phantom.labels.max() <= 11 + 4 + 3
    assert (phantom.labels == 0).any()


def test_the_distance_of_slices_can_be_given() -> None:
    assert make_phantom(np.random.default_rng(0), SHAPE, (2.5, 2.5)).spacing[0] == pytest.approx(2.5)


def plain_painter(spacing: tuple[float, float, float] = (3.0, 1.0, 1.0)) -> _Painter:
    """One whose space is not warped."""
    painter = _Painter(np.random.default_rng(1), SHAPE, spacing)
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, spacing, strict=True)]
    painter.z, painter.y, painter.x = np.meshgrid(*(a.astype(np.float32) for a in axes), indexing="ij")
    return painter


def test_ellipsoids_are_measured_in_millimetres() -> None:
    painter = plain_painter()
    level = painter.ellipsoid(np.array([0.0, 1.0, -2.0]), np.array([12.0, 9.0, 9.0]), 0.0)
    volume = (level > 0).sum() * np.prod(painter.spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * 12 * 9 * 9, rel=0.03)
    # On an axis the level is the depth below the surface, scaled to the smallest radius.
    assert level.max() == pytest.approx(9, abs=1.5)
    centre = np.argwhere(level > 0).mean(0) * painter.spacing - (np.array(SHAPE) - 1) / 2 * painter.spacing
    np.testing.assert_allclose(centre, [0, 1, -2], atol=0.3)


def test_noise_is_of_unit_variance_and_as_smooth_as_asked() -> None:
    painter = plain_painter()
    steps = []
    for length in (3.0, 12.0):
        noise = painter.noise(length)
        assert noise.shape == SHAPE
        assert noise.std() == pytest.approx(1, abs=1e-3)
        steps.append(float(np.abs(np.diff(noise, axis=2)).mean()))
    assert steps[1] < steps[0] / 2


def test_what_is_painted_covers_what_was_there() -> None:
    painter = plain_painter()
    first, second = (np.where(painter.x < side, 10, -10).astype(np.float32) for side in (5, -5))
    painter.paint(first)
    painter.paint(second)
    assert np.unique(painter.labels).tolist() == [0, 1, 2]
    assert np.array_equal(painter.labels, np.where(painter.x < -5, 2, np.where(painter.x < 5, 1, 0)))
    painter.paint(np.where(painter.x < 0, 10, -10).astype(np.float32), labelled=False)
    assert np.array_equal(painter.labels, np.where((painter.x >= 0) & (painter.x < 5), 1, 0))


def test_vessels_go_through_all_slices() -> None:
    painter = plain_painter()
    painter.vessel()
    assert (painter.labels == 1).any((1, 2)).mean() > 0.5
