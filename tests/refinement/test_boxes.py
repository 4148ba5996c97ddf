"""The boxes that a round tries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.refinement.boxes import hypothesise, neighbours
from napari_uncertsam.refinement.grid import Grid
from napari_uncertsam.view import View
from tests.fakes import FakeEngine, scene

OBJECT = Box(40, 34, 87, 97)
WHOLE = View.whole(128, 128)
GRID = Grid(WHOLE, (64, 64), 256)


@given(st.tuples(*[st.integers(0, 60)] * 2), st.integers(4, 40), st.integers(4, 40))
def test_neighbours_surround_the_box(corner: tuple[int, int], height: int, width: int) -> None:
    y, x = corner
    box = Box(y, x, y + height - 1, x + width - 1)
    found = neighbours(box)
    assert len(set(found)) == len(found) == 22
    assert box not in found
    assert all(other.iou(box) > 0.3 for other in found)
    # As many to one side as to the other.
    np.testing.assert_allclose(np.mean([b.centre for b in found], 0), box.centre, atol=1e-9)


def test_hypotheses_start_with_the_present_prompts_and_keep_the_points() -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    prompts = WHOLE.prompts_to_view(Prompts((Point(64, 64), Point(5, 5, False)), OBJECT), engine.resolution)
    assert prompts.box is not None
    start = GRID.box_to_cells(prompts.box)
    tried = hypothesise(engine, embedding, prompts, start, GRID, extra=[Box(1, 2, 30, 40)])
    assert tried.prompts[0] is prompts
    assert tried.boxes[:2] == (start, Box(1, 2, 30, 40))
    assert len(tried.boxes) == len(tried.prompts) == len(tried.logits) == len(tried.overlaps)
    assert len(tried.boxes) > 40
    assert all(p.points == prompts.points for p in tried.prompts)
    for box, given_prompts in zip(tried.boxes, tried.prompts, strict=True):
        assert given_prompts.box is not None
        cells = GRID.box_to_cells(given_prompts.box)
        np.testing.assert_allclose(
            (cells.y0, cells.x0, cells.y1, cells.x1), (box.y0, box.x0, box.y1, box.x1), atol=1e-5
        )
    assert engine.decode_calls == 2
    again = engine.decode(embedding, tried.prompts).logits.numpy()
    np.testing.assert_allclose(tried.logits, again, atol=1e-5)
    assert tried.expected_dice(start, embedding.image).shape == (len(tried.boxes),)


def test_masks_that_contradict_the_user_are_not_faithful() -> None:
    engine = FakeEngine(doubt=-6)
    embedding = engine.embed(scene()[0])
    inside = WHOLE.prompts_to_view(Prompts((Point(64, 64),), OBJECT), engine.resolution)
    assert inside.box is not None
    tried = hypothesise(engine, embedding, inside, GRID.box_to_cells(inside.box), GRID)
    assert tried.faithful(GRID).all()  # the fake engine obeys
    logits = tried.logits.copy()
    row, column = (round(v) for v in GRID.points_to_cells(inside.points)[0])
    logits[3, row, column] = -1
    changed = type(tried)(tried.boxes, tried.prompts, logits, tried.overlaps)
    assert np.flatnonzero(~changed.faithful(GRID)).tolist() == [3]


def test_an_empty_mask_has_no_box_to_go_on_with() -> None:
    engine = FakeEngine()
    embedding = engine.embed(np.zeros((128, 128, 3), np.uint8))
    prompts = WHOLE.prompts_to_view(Prompts(box=OBJECT), engine.resolution)
    assert prompts.box is not None
    tried = hypothesise(engine, embedding, prompts, GRID.box_to_cells(prompts.box), GRID)
    assert len(tried.boxes) == 23
    assert tried.expected_dice(tried.boxes[0], embedding.image) == pytest.approx(1)  # all agree on nothing
