"""What the object looks like: against least squares by numpy, and histograms by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_uncertsam.engine import Embedding
from napari_uncertsam.propagation import readout
from napari_uncertsam.propagation.grids import regridded
from napari_uncertsam.propagation.readout import FeatureReadout, GreyLevels, grey_of

SIDE = 12


def embedding_of(rng: np.random.Generator, mask: np.ndarray) -> Embedding:
    """Two layers of features, of which the first tell the mask with noise."""
    fine = rng.normal(size=(5, SIDE, SIDE)) + 0.5 * np.where(mask, 1, -1)
    coarse = 3 * rng.normal(size=(4, SIDE // 2, SIDE // 2)) + 1
    layers = (torch.as_tensor(part[None], dtype=torch.float32) for part in (fine, coarse))
    return Embedding(tuple(layers), (SIDE, SIDE))


def disc(shift: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.asarray(2 * (4 - np.hypot(y - 5.5, x - 5.5 - shift)), np.float32)


def design(embedding: Embedding, first: Embedding) -> np.ndarray:
    """Features of every cell, standardised as the first slice's are, and a constant; by numpy and scipy."""

    def rows(e: Embedding) -> np.ndarray:
        fine, coarse = (f[0].double().numpy() for f in e.features)
        at = np.meshgrid(*2 * [(np.arange(SIDE) + 0.5) / 2 - 0.5], indexing="ij")
        up = [ndimage.map_coordinates(layer, at, order=1, mode="nearest") for layer in coarse]
        return np.stack([*fine, *up]).reshape(9, -1).T

    x, x0 = rows(embedding), rows(first)
    return np.column_stack([(x - x0.mean(0)) / x0.std(0, ddof=1), np.ones(len(x))])


def weights_of(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and weights by which both classes count the same and unsure cells less."""
    target = np.where(logits.ravel() > 0, 1.0, -1.0)
    share = (target > 0).mean()
    weight = np.where(target > 0, 0.5 / share, 0.5 / (1 - share)) * np.tanh(np.abs(logits.ravel()) / 4)
    return target, weight


def test_one_slice_is_ridge_regression(rng: np.random.Generator) -> None:
    logits = disc()
    embedding = embedding_of(rng, logits > 0)
    found = FeatureReadout()
    found.learn(embedding, logits)
    mean, variance = found.read(embedding, (SIDE, SIDE))
    x = design(embedding, embedding)
    target, weight = weights_of(logits)
    # The prior is that many more equations, "each weight is 0".
    prior = np.sqrt(readout.PRECISION) * np.eye(x.shape[1])
    rows = np.vstack([x * np.sqrt(weight)[:, None], prior])
    w, *_ = np.linalg.lstsq(rows, np.append(target * np.sqrt(weight), np.zeros(len(prior))))
    expected = (x @ w).clip(-readout.LIMIT, readout.LIMIT)
    np.testing.assert_allclose(mean.ravel(), expected, atol=1e-4)
    precision = (x * weight[:, None]).T @ x + readout.PRECISION * np.eye(x.shape[1])
    np.testing.assert_allclose(variance.ravel(), np.diag(x @ np.linalg.inv(precision) @ x.T), rtol=1e-3)
    assert np.corrcoef(mean.ravel(), target)[0, 1] > 0.7


def test_later_slices_count_less_and_less(rng: np.random.Generator) -> None:
    masks = [disc(shift) for shift in (0.0, 1.0, 2.0)]
    slices = [embedding_of(rng, mask > 0) for mask in masks]
    found = FeatureReadout()
    for embedding, mask in zip(slices, masks, strict=True):
        found.learn(embedding, mask)
    mean, variance = found.read(slices[1], (SIDE, SIDE))
    precision, moment = readout.PRECISION * np.eye(10), np.zeros(10)
    counts = (1.0, readout.PACE * readout.DECAY, readout.PACE)
    for embedding, mask, count in zip(slices, masks, counts, strict=True):
        x = design(embedding, slices[0])
        target, weight = weights_of(mask)
        precision += count * (x * weight[:, None]).T @ x
        moment += count * (x * weight[:, None]).T @ target
    x = design(slices[1], slices[0])
    expected = (x @ np.linalg.solve(precision, moment)).clip(-readout.LIMIT, readout.LIMIT)
    np.testing.assert_allclose(mean.ravel(), expected, atol=1e-4)
    np.testing.assert_allclose(variance.ravel(), np.diag(x @ np.linalg.inv(precision) @ x.T), rtol=1e-3)


def test_given_slices_are_never_forgotten(rng: np.random.Generator) -> None:
    first, second = (embedding_of(rng, disc() > 0) for _ in range(2))
    found = FeatureReadout()
    found.learn(first, disc())
    found.learn(second, disc(), given=True)
    precision = readout.PRECISION * np.eye(10)
    for embedding in (first, second):
        x = design(embedding, first)
        precision += (x * weights_of(disc())[1][:, None]).T @ x
    x = design(second, first)
    _, variance = found.read(second, (SIDE, SIDE))
    np.testing.assert_allclose(variance.ravel(), np.diag(x @ np.linalg.inv(precision) @ x.T), rtol=1e-3)


def test_what_was_learned_makes_it_surer(rng: np.random.Generator) -> None:
    embedding = embedding_of(rng, disc() > 0)
    found = FeatureReadout()
    found.learn(embedding, disc())
    _, before = found.read(embedding, (SIDE, SIDE))
    found.learn(embedding_of(rng, disc() > 0), disc())
    _, after = found.read(embedding, (SIDE, SIDE))
    assert (after < before).all()
    assert (after > 0).all()


def test_other_grids_and_masks_of_one_kind(rng: np.random.Generator) -> None:
    embedding = embedding_of(rng, disc() > 0)
    found = FeatureReadout()
    with pytest.raises(RuntimeError, match="nothing was learned"):
        found.read(embedding, (SIDE, SIDE))
    found.learn(embedding, regridded(disc(), (30, 20)))
    full, _ = found.read(embedding, (SIDE, SIDE))
    mean, variance = found.read(embedding, (7, 9))
    np.testing.assert_allclose(mean, regridded(full, (7, 9)), atol=1e-5)
    assert variance.shape == (7, 9)
    empty = FeatureReadout()
    empty.learn(embedding, np.full((SIDE, SIDE), -9, np.float32))
    mean, variance = empty.read(embedding, (SIDE, SIDE))
    assert np.isfinite(mean).all()
    assert np.isfinite(variance).all()


def test_wide_embeddings_are_read_out_on_a_coarser_grid(rng: np.random.Generator) -> None:
    side = 2 * readout.FINEST
    embedding = Embedding((torch.as_tensor(rng.normal(size=(1, 2, side, side)), dtype=torch.float32),), (side, side))
    found = FeatureReadout()
    found.learn(embedding, np.where(np.arange(side) < 40, 9, -9).astype(np.float32) * np.ones((side, 1), np.float32))
    assert found.read(embedding, (side, side))[0].shape == (side, side)


def test_grey_levels_are_ratios_of_smoothed_histograms(rng: np.random.Generator) -> None:
    mask = disc() > 0
    grey = np.clip(rng.normal(np.where(mask, 0.7, 0.4), 0.1), 0, 1).astype(np.float32)
    found = GreyLevels.of(grey, mask)
    smooth = ndimage.gaussian_filter(grey, 0.7)
    kernel = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    kernel /= kernel.sum()
    shares = []
    for part in (mask, ~mask):
        counts, _ = np.histogram(smooth[part], bins=len(found.ratio), range=(0, 1))
        shares.append(np.convolve(np.pad(counts / part.sum(), 4, mode="symmetric"), kernel, "valid"))
    rare = readout._RARE
    np.testing.assert_allclose(found.ratio, np.log((shares[0] + rare) / (shares[1] + rare)), atol=1e-6)
    read = found.read(grey)
    np.testing.assert_allclose(read, found.ratio[(smooth * len(found.ratio)).astype(int)], atol=1e-6)
    assert read[mask].mean() > 1 > -1 > read[~mask].mean()


def test_grey_levels_that_tell_nothing() -> None:
    grey, mask = np.full((8, 8), 0.3, np.float32), np.eye(8, dtype=bool)
    np.testing.assert_allclose(GreyLevels.of(grey, mask).read(grey), 0, atol=1e-6)
    white = np.ones((8, 8), np.float32)
    np.testing.assert_allclose(GreyLevels.of(white, mask).read(white), 0, atol=1e-6)


def test_strangeness_is_in_standard_deviations() -> None:
    grey = np.array([[0.2, 0.4, 0.6, 0.9]], np.float32)
    mask = np.array([[True, False, True, False]])
    levels = GreyLevels.of(grey, mask)
    assert levels.mean == pytest.approx(0.4)
    # Half a percent of grey is no difference, however even the object.
    assert levels.deviation == pytest.approx(0.2, abs=0.05)
    assert levels.strangeness(grey, mask) == pytest.approx(0, abs=1e-5)
    other = np.array([[False, False, False, True]])
    assert levels.strangeness(grey, other) == pytest.approx(0.5 / levels.deviation, rel=1e-5)


def test_grey_of_an_embedding() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :, 0], image[:2, :, 1], image[:2, :, 2] = 255, 0, 51
    feature = (torch.zeros(1, 1, 2, 2),)
    assert grey_of(Embedding(feature, (4, 4)), (4, 4)) is None
    found = grey_of(Embedding(feature, (4, 4), image), (4, 4))
    assert found is not None
    np.testing.assert_allclose(found[:, 0], [0.4, 0.4, 0, 0], atol=1e-6)


def test_what_was_walked_does_not_count_among_what_was_given(rng: np.random.Generator) -> None:
    """As if nothing had been walked; a second slice that is given counts, also when it comes later."""
    masks = [disc(shift) for shift in (0.0, 1.0, 2.0)]
    slices = [embedding_of(rng, mask > 0) for mask in masks]
    found, alone = FeatureReadout(), FeatureReadout()
    for readouts, k in (((found, alone), 0), ((found,), 1)):
        for each in readouts:
            each.learn(slices[k], masks[k])
    grid = (SIDE, SIDE)
    np.testing.assert_allclose(found.read_given(slices[2], grid), alone.read(slices[2], grid)[0], atol=1e-5)
    assert not np.allclose(found.read(slices[2], grid)[0], alone.read(slices[2], grid)[0], atol=1e-2)
    for each in (found, alone):
        each.learn(slices[2], masks[2], given=True)
    np.testing.assert_allclose(found.read_given(slices[1], grid), alone.read(slices[1], grid)[0], atol=1e-5)
    with pytest.raises(RuntimeError, match="nothing was learned"):
        FeatureReadout().read_given(slices[0], grid)
