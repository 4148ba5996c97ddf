"""A mask carried by place, features, brightness and model, on an engine without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from napari_uncertsam.engine import Decoded, Embedding
from napari_uncertsam.estimators.base import decoded_logits
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.propagation import Anchor, carrying
from napari_uncertsam.propagation.carrying import SHRUNK, CarryingWalk, no_surer
from napari_uncertsam.propagation.ending import Ending
from napari_uncertsam.propagation.grids import Map, cell_mm, signed_distance
from napari_uncertsam.propagation.walking import Ground, Step
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume
from tests.fakes import FakeEngine
from tests.propagated_scenes import Mask, bright, dice, ellipsoid

SHAPE = (16, 80, 80)
TUBE = ellipsoid(SHAPE, (7.5, 40, 36), (900, 12, 14))


def said(decoded: Decoded) -> tuple[Map, Map]:
    logits = decoded_logits(decoded)[0]
    return logits, np.zeros_like(logits)


def ground_of(volume: Volume, *, zoom: bool = True, keep_image: bool = True) -> Ground:
    engine = FakeEngine()

    def look(index: int, view: View) -> Embedding:
        grey = view.crop(volume.slice(0, index))
        found = engine.embed(np.repeat(grey[..., None], 3, 2))
        return found if keep_image else replace(found, image=None)

    shape, spacing = volume.plane_shape(0), volume.plane_spacing(0)
    return Ground(engine, look, said, shape, spacing, volume.spacing[0], volume.n_slices(0), zoom)


def given(mask: Mask, index: int) -> Anchor:
    return Anchor(index, View.whole(*mask.shape[1:]), np.where(mask[index], 10, -10).astype(np.float32), confirmed=True)


def mask_of(step: Step, shape: tuple[int, int]) -> Mask:
    out = np.zeros(shape, bool)
    out[step.view.inside(*shape)] = step.view.local_map(step.mean, *shape) > 0
    return out


@pytest.mark.parametrize("zoom", [True, False])
@pytest.mark.parametrize("keep_image", [True, False])
def test_an_object_that_does_not_change_is_carried_on(zoom: bool, keep_image: bool) -> None:
    walk = CarryingWalk(ground_of(bright(TUBE), zoom=zoom, keep_image=keep_image), given(TUBE, 3), ends=True)
    for index in range(4, 16):
        step = walk.step(index)
        assert step is not None
        assert step.present
        assert step.slice_index == index
        assert step.mean.dtype == step.variance.dtype == np.float32
        assert (step.variance > 0).all()
        assert (step.view == View.whole(80, 80)) != zoom
        assert dice(mask_of(step, SHAPE[1:]), TUBE[index]) > 0.9


def test_it_ends_where_the_object_does() -> None:
    mask = TUBE.copy()
    mask[8:] = False
    walk = CarryingWalk(ground_of(bright(mask)), given(mask, 5), ends=True)
    assert [walk.step(i) is not None for i in (6, 7)] == [True, True]
    assert any(walk.step(i) is None for i in (8, 9))


def test_another_brightness_is_the_end_only_where_it_may_end() -> None:
    """The tube goes on, but in between it is of a grey that it is not at the anchor."""
    array = np.array(bright(TUBE).array)
    array[6:][TUBE[6:]] = 150
    volume = replace(bright(TUBE), array=array)
    open_end = CarryingWalk(ground_of(volume), given(TUBE, 4), ends=True)
    assert open_end.step(5) is not None
    assert open_end.step(6) is None
    closed = CarryingWalk(ground_of(volume), given(TUBE, 4), ends=False)
    assert all(closed.step(i) is not None for i in range(5, 10))


def silent(monkeypatch: pytest.MonkeyPatch) -> Ground:
    """Slices of 1 mm on which nobody says anything: neither features, nor brightness, nor the model."""
    ground = ground_of(bright(ellipsoid((60, 80, 80), (30, 40, 40), (900, 20, 20))), zoom=False, keep_image=False)
    zeros = np.zeros((64, 64), np.float32)
    monkeypatch.setattr(carrying.FeatureReadout, "read", lambda _self, _embedding, _grid: (zeros, zeros))
    monkeypatch.setattr(carrying, "decoded_logits", lambda decoded: np.stack([zeros] * len(decoded.logits)))
    monkeypatch.setattr(carrying, "presence", lambda _strangeness, _contrast: 0.0)
    return replace(ground, logits_of=lambda _decoded: (zeros, zeros))


def test_without_evidence_it_shrinks_and_ends_as_the_prior_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the mask before, what lies deeper than its depth times the expected shrinkage is left."""
    ground, tube = silent(monkeypatch), ellipsoid((60, 80, 80), (30, 40, 40), (900, 20, 20))
    walk = CarryingWalk(ground, given(tube, 2), ends=True)
    cell = cell_mm(walk._view, walk._mean.shape, (1.0, 1.0))
    prior = Ending(math.sqrt(walk._size / math.pi))
    assert prior.radius == pytest.approx(20, rel=0.02)
    surest = 1.0
    for distance in range(1, 58):
        before = signed_distance(walk._mean > 0, cell)
        step, there = walk.step(2 + distance), prior.odds(distance)
        assert (step is None) == (there < 0)
        if step is None:
            break
        share, _ = prior.shrinkage(distance - 1, distance)
        expected = before > (1 - share) * before.max()
        assert (expected == (step.mean > 0)).mean() > 0.999
        inside = 1 / (1 + math.exp(-float(step.mean.max())))
        assert 0.5 < inside < min(prior.survival(distance), surest)
        surest = inside
    assert 26 < distance < 32  # 1.5 radii, a little less for what was cut off
    assert surest < 0.52


def test_between_two_slices_nothing_shrinks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    ground, tube = silent(monkeypatch), ellipsoid((60, 80, 80), (30, 40, 40), (900, 20, 20))
    walk = CarryingWalk(ground, given(tube, 2), given(tube, 59), ends=False)
    first = walk._mean > 0
    for index in range(3, 50):
        assert walk.step(index) is not None
    assert np.array_equal(walk._mean > 0, first)


def test_what_is_clearly_seen_goes_on_however_long_it_is() -> None:
    """A tube of 5 mm through 60 mm: 12 times its radius, on one side."""
    tube = ellipsoid((61, 64, 64), (30, 32, 30), (9000, 5, 5))
    walk = CarryingWalk(ground_of(bright(tube)), given(tube, 0), ends=True)
    for index in range(1, 61):
        step = walk.step(index)
        assert step is not None
        assert step.present
    assert dice(mask_of(step, (64, 64)), tube[60]) > 0.85


@pytest.mark.parametrize("odds", [0.01, 0.7, 8.0, math.inf])
def test_no_cell_is_surer_than_that_the_object_is_there(odds: float) -> None:
    """As the chance that two independent coins, one of the cell and one of the object, fall on the same side."""
    logits = np.array([[-3.0, 0.0, 0.2, 4.0]], np.float32)
    faded = no_surer(logits, odds)
    inside, there = 1 / (1 + np.exp(-logits[logits > 0])), 1 / (1 + math.exp(-odds))
    agree = inside * there + (1 - inside) * (1 - there)
    np.testing.assert_allclose(1 / (1 + np.exp(-faded[logits > 0])), agree, rtol=1e-5)
    assert np.array_equal(faded[logits <= 0], logits[logits <= 0])
    assert np.array_equal(faded > 0, logits > 0)


def test_it_does_not_jump_to_a_neighbour() -> None:
    other = ellipsoid(SHAPE, (7.5, 40, 66), (900, 10, 10))
    walk = CarryingWalk(ground_of(bright(TUBE | other)), given(TUBE, 3), ends=True)
    for index in range(4, 10):
        step = walk.step(index)
        assert step is not None
        assert not (mask_of(step, SHAPE[1:]) & other[index]).any()


def test_an_anchor_of_hardly_anything_ends_at_once() -> None:
    tiny = np.zeros(SHAPE, bool)
    tiny[3, 40, 40] = True
    logits = np.full((4, 4), -10, np.float32)
    logits[2, 2] = 10
    ground = ground_of(bright(tiny), zoom=False)
    # Fewer cells of the grid of a whole slice than make a mask: no walk, and no error.
    anchor = Anchor(3, View(39, 39, 2, 2), logits, confirmed=True)
    assert CarryingWalk(ground, anchor, ends=True).step(4) is None


@pytest.mark.parametrize(("gap", "pixel"), [(1.0, 1.0), (5.0, 0.7)])
def test_the_place_is_a_normal_distribution_of_the_outline(gap: float, pixel: float) -> None:
    ground = ground_of(bright(TUBE, (gap, pixel, pixel)))
    walk = CarryingWalk(ground, given(TUBE, 3), ends=True)
    before = walk._mean > 0
    place = walk._place(before)
    cell = cell_mm(walk._view, before.shape, (pixel, pixel))
    sigma = carrying.SLOPE * gap + 0.5 * min(cell)
    probability = norm.cdf(signed_distance(before, cell).astype(float) / sigma)
    limit = 1 / (1 + np.exp(-carrying._PLACE))
    np.testing.assert_allclose(1 / (1 + np.exp(-place)), probability.clip(1 - limit, limit), atol=1e-5)
    assert ((place > 0) == before).all()


def test_a_walk_is_the_same_every_time() -> None:
    first, second = (CarryingWalk(ground_of(bright(TUBE)), given(TUBE, 3), ends=True) for _ in range(2))
    for index in (4, 5, 6):
        one, two = first.step(index), second.step(index)
        assert one is not None
        assert two is not None
        assert np.array_equal(one.mean, two.mean)
        assert np.array_equal(one.variance, two.variance)


def test_the_models_variance_is_part_of_it() -> None:
    ground = ground_of(bright(TUBE))

    def doubtful(decoded: Decoded) -> tuple[Map, Map]:
        logits, _ = said(decoded)
        return logits, np.full_like(logits, 9)

    steps = []
    for how in (said, doubtful):
        step = CarryingWalk(replace(ground, logits_of=how), given(TUBE, 3), ends=True).step(4)
        assert step is not None
        steps.append(step)
    assert np.array_equal(steps[0].mean, steps[1].mean)
    more = steps[1].variance - steps[0].variance
    np.testing.assert_allclose(more, more.mean(), rtol=1e-3)
    assert more.mean() > 0


@pytest.mark.parametrize("ends", [True, False])
def test_where_it_may_end_the_model_is_asked_for_a_smaller_mask_too(
    monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    ground = ground_of(bright(TUBE))
    walk = CarryingWalk(ground, given(TUBE, 4), None if ends else given(TUBE, 9), ends=ends)
    asked: list[list[Box]] = []
    decode = ground.engine.decode

    def watched(embedding: Embedding, prompts: Sequence[Prompts]) -> Decoded:
        asked.append([p.box for p in prompts if p.box is not None])
        return decode(embedding, prompts)

    monkeypatch.setattr(ground.engine, "decode", watched)
    assert walk.step(5) is not None
    (boxes,) = asked
    assert len(boxes) == (2 if ends else 1)
    if ends:
        closed = 1 - Ending(math.sqrt(walk._size * math.prod(ground.spacing) / math.pi)).tube
        assert boxes[1].height / boxes[0].height == pytest.approx(1 - SHRUNK * closed, rel=0.05)
        assert boxes[1].centre == pytest.approx(boxes[0].centre, abs=1)
