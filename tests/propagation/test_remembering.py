"""A walk with the memory of a SAM 2 that is small and knows nothing: its bookkeeping, not its masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from napari_uncertsam.engine import Decoded, Embedding, Sam2Engine
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import decoded_logits
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.propagating import Span, propagate
from napari_uncertsam.propagation import Anchor
from napari_uncertsam.propagation.grids import Map
from napari_uncertsam.propagation.remembering import ABSENT, NOTHING, RememberingWalk, token_spread
from napari_uncertsam.propagation.walking import Ground, Step
from napari_uncertsam.view import View
from tests.fakes import FakeEngine
from tests.propagated_scenes import asked, bright, ellipsoid, filled
from tests.tiny import tiny_engine

SHAPE = (40, 64, 64)
TUBE = ellipsoid(SHAPE, (20, 30, 30), (900, 8, 8))
VOLUME = bright(TUBE, (2.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Sam2Engine:
    return tiny_engine(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def seen(engine: Sam2Engine) -> Iterator[Sam2Engine]:
    """One that sees an object on every slice."""
    yield from _with_object_score(engine, 5.0)


@pytest.fixture
def blind(engine: Sam2Engine) -> Iterator[Sam2Engine]:
    """One that sees an object on no slice."""
    yield from _with_object_score(engine, -5.0)


def _with_object_score(engine: Sam2Engine, value: float) -> Iterator[Sam2Engine]:
    bias = engine.model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    before = bias.clone()
    with torch.no_grad():
        bias.fill_(value)
    yield engine
    with torch.no_grad():
        bias.copy_(before)


def plain(decoded: Decoded) -> tuple[Map, Map]:
    logits = decoded_logits(decoded)[0]
    return logits, np.zeros_like(logits)


class Watching:
    """The ground of a walk that remembers what was looked at; optionally every decode says a disc."""

    def __init__(self, engine: Any, *, zoom: bool = True, disc: Any = None) -> None:
        self.engine, self.disc = engine, disc
        self.looked: list[tuple[int, View]] = []
        self.ground = Ground(engine, self.look, self.logits_of, SHAPE[1:], (1.0, 1.0), 2.0, SHAPE[0], zoom)

    def look(self, index: int, view: View) -> Embedding:
        self.looked.append((index, view))
        found: Embedding = self.engine.embed(np.repeat(view.crop(VOLUME.slice(0, index))[..., None], 3, 2))
        return found

    def logits_of(self, decoded: Decoded) -> tuple[Map, Map]:
        if self.disc is None:
            return plain(decoded)
        (index, view), grid = self.looked[-1], decoded.logits.shape[-2:]
        y, x, radius = self.disc(index)
        rows = view.top + (np.arange(grid[0]) + 0.5) * view.height / grid[0] - 0.5
        columns = view.left + (np.arange(grid[1]) + 0.5) * view.width / grid[1] - 0.5
        level = (radius - np.hypot(rows[:, None] - y, columns - x)).astype(np.float32)
        return level, np.zeros_like(level)


def given(index: int) -> Anchor:
    logits = np.where(TUBE[index], 10, -10).astype(np.float32)
    return Anchor(index, View.whole(64, 64), logits, confirmed=True)


def still(_index: int) -> tuple[float, float, float]:
    return 30, 30, 8


def test_a_walk_through_all_slices(seen: Sam2Engine) -> None:
    on = Watching(seen, disc=still)
    walk = RememberingWalk(on.ground, given(4), ends=True)
    variance = []
    for index in range(5, 12):
        step = walk.step(index)
        assert step is not None
        assert (step.slice_index, step.present) == (index, True)
        assert step.mean.shape == step.variance.shape == (16, 16)
        assert step.mean.dtype == step.variance.dtype == np.float32
        assert np.isfinite(step.mean).all()
        variance.append(float(step.variance.min()))
    assert variance[-1] > variance[0] > 0
    # A slice is looked at once, and all in one view.
    assert [index for index, _ in on.looked] == [4, *range(5, 12)]
    assert len({view for _, view in on.looked}) == 1


def test_what_is_absent_for_long_has_ended(blind: Sam2Engine) -> None:
    walk = RememberingWalk(Watching(blind, disc=still).ground, given(4), ends=True)
    steps = [walk.step(index) for index in range(5, 5 + ABSENT)]
    assert steps[-1] is None
    for step in steps[:-1]:
        assert step is not None
        assert not step.present
        assert step.mean.max() <= NOTHING
    between = RememberingWalk(Watching(blind, disc=still).ground, given(4), ends=False)
    assert all(between.step(index) is not None for index in range(5, 12))


def test_what_comes_back_was_not_at_its_end(seen: Sam2Engine) -> None:
    there = {5, 6, 8, 10}
    on = Watching(seen, disc=lambda index: (30, 30, 8 if index in there else -1))
    walk = RememberingWalk(on.ground, given(4), ends=True)
    found: list[Step | None] = [walk.step(index) for index in range(5, 13)]
    present = [step.present for step in found if step is not None]
    assert present == [True, True, False, True, False, True, False]
    assert found[-1] is None


def test_memories_do_not_pile_up(seen: Sam2Engine) -> None:
    walk = RememberingWalk(Watching(seen, disc=still).ground, given(0), ends=False)
    held = []
    for index in range(1, 30):
        walk.step(index)
        kept = walk._tracker._memories["non_cond_frame_outputs"]  # type: ignore[attr-defined]
        held.append((len(kept), sum(entry["maskmem_features"] is not None for entry in kept.values())))
        assert len(walk._recent) <= 3
    assert held[-1] == held[-5]
    assert max(held)[0] < seen.model.max_obj_ptrs_in_encoder
    assert max(spatial for _, spatial in held) < seen.model.num_maskmem


def test_it_is_taken_up_in_another_view_when_the_object_leaves(seen: Sam2Engine) -> None:
    on = Watching(seen, disc=lambda index: (14 + index, 14 + index, 5))
    y, x = np.mgrid[:64, :64]
    logits = (5 - np.hypot(y - 14, x - 14)).astype(np.float32)
    walk = RememberingWalk(on.ground, Anchor(0, View.whole(64, 64), logits, confirmed=True), ends=True)
    views = []
    for index in range(1, 30):
        step = walk.step(index)
        assert step is not None
        assert step.present
        views.append(step.view)
        # The object is in the view, whole.
        assert step.view.top <= 14 + index - 4 <= 14 + index + 4 < step.view.top + step.view.height
        assert step.view.left <= 14 + index - 4 <= 14 + index + 4 < step.view.left + step.view.width
        known = walk._tracker._memories  # type: ignore[attr-defined]
        assert set(known["cond_frame_outputs"]) == {0}
        assert index in known["non_cond_frame_outputs"]
    assert len(set(views)) > 2
    # In a new view the anchor and the last three slices are looked at again, before the next.
    change = next(i for i in range(1, len(views)) if views[i] != views[i - 1])
    at = next(i for i, (_, view) in enumerate(on.looked) if view == views[change])
    assert [index for index, _ in on.looked[at : at + 5]] == [0, change - 2, change - 1, change, change + 1]


def test_without_the_zoom_the_view_stays(seen: Sam2Engine) -> None:
    on = Watching(seen, zoom=False, disc=lambda index: (14 + index, 14 + index, 5))
    walk = RememberingWalk(on.ground, given(0), ends=True)
    assert all(walk.step(index) is not None for index in range(1, 12))
    assert {view for _, view in on.looked} == {View.whole(64, 64)}


def test_both_ends_are_known(seen: Sam2Engine) -> None:
    alone = RememberingWalk(Watching(seen).ground, given(4), ends=False)
    on = Watching(seen)
    both = RememberingWalk(on.ground, given(4), given(14), ends=False)
    assert set(both._tracker._memories["cond_frame_outputs"]) == {0, 10}  # type: ignore[attr-defined]
    assert [index for index, _ in on.looked] == [4, 14]
    one, other = alone.step(5), both.step(5)
    assert one is not None
    assert other is not None
    assert one.view == other.view
    assert not np.array_equal(one.mean, other.mean)
    # Backwards the slices are numbered from the other end.
    back = RememberingWalk(on.ground, given(14), given(4), ends=False)
    assert set(back._tracker._memories["cond_frame_outputs"]) == {0, 10}  # type: ignore[attr-defined]
    assert back.step(13) is not None


def test_the_view_of_two_ends_shows_both(seen: Sam2Engine) -> None:
    small = Box(4, 4, 13, 13)
    logits = np.full((64, 64), -10, np.float32)
    logits[4:14, 4:14] = 10
    walk = RememberingWalk(
        Watching(seen).ground, Anchor(0, View.whole(64, 64), logits, confirmed=True), given(9), ends=False
    )
    whole = small.union(Box.of_mask(TUBE[9]))
    assert walk._view == View.around(whole, 64, 64, 2.0)


def test_prompts_are_remembered_as_prompts(seen: Sam2Engine) -> None:
    """A confirmed mask, and the same mask from a box, are not the same to the model."""
    box = Prompts(box=Box.of_mask(TUBE[4]))
    logits = given(4).logits
    steps = []
    for confirmed in (True, False):
        anchor = Anchor(4, View.whole(64, 64), logits, box, confirmed)
        step = RememberingWalk(Watching(seen).ground, anchor, ends=False).step(5)
        assert step is not None
        steps.append(step.mean)
    assert not np.array_equal(*steps)


def test_an_engine_without_a_memory_is_refused() -> None:
    with pytest.raises(TypeError, match="fake has no memory"):
        RememberingWalk(Watching(FakeEngine()).ground, given(4), ends=True)


def test_the_spread_of_the_tokens(seen: Sam2Engine, rng: np.random.Generator) -> None:
    decoded = seen.decode(seen.embed(np.zeros((64, 64, 3), np.uint8)), [Prompts(box=Box(10, 10, 40, 40))])
    logits = decoded.token_logits[0, 1:].double().numpy().clip(-12, 12)
    overlap = decoded.token_iou[0, 1:].double().numpy()
    weight = np.exp(10 * overlap) / np.exp(10 * overlap).sum()
    expected = np.einsum("t,thw->hw", weight, logits**2) - np.einsum("t,thw->hw", weight, logits) ** 2
    found = token_spread(decoded)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)


def test_propagation_by_memory(seen: Sam2Engine) -> None:
    work = Pipeline(seen)
    anchors, spans = [given(4), given(10)], [Span(5, 10, 4, 10), Span(11, 16, 10, None)]
    found = filled(work, VOLUME, asked(anchors, spans))
    assert set(range(5, 10)) <= set(found)
    assert all(r.record["propagation"] == "memory" for r in found.values())
    again = filled(Pipeline(seen), VOLUME, asked(anchors, spans[:1]))
    for index in range(5, 10):
        assert np.array_equal(found[index].mean, again[index].mean)
        assert np.array_equal(found[index].variance, again[index].variance)


def test_an_object_that_is_nowhere_else(blind: Sam2Engine) -> None:
    assert filled(Pipeline(blind), VOLUME, asked([given(4)], [Span(5, 40, 4, None)])) == {}


def test_an_empty_anchor_is_refused_here_too(seen: Sam2Engine) -> None:
    empty = Anchor(4, View.whole(64, 64), np.full((16, 16), -5, np.float32))
    with pytest.raises(InputError, match="mask of slice 4 is empty"):
        list(propagate(Pipeline(seen), VOLUME, asked([empty], [Span(5, 10, 4, None)])))
