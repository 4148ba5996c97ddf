"""Coarse boxes of training keep what they promise, and are drawn as those of the evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.evaluation.simulate import box_at_overlap
from napari_uncertsam.prompts import Box
from napari_uncertsam.training.overlap import TOLERANCE, box_iou, boxes_at_overlap

SIZE = 128


@st.composite
def corners(draw: st.DrawFn, smallest: int = 8) -> torch.Tensor:
    """A few boxes of whole pixels inside the image, those that fill it included."""
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        sides = []
        for _ in range(2):
            start = draw(st.integers(0, SIZE - smallest))
            sides.append((start, draw(st.integers(start + smallest, SIZE)) - 1))
        boxes.append([[sides[0][0], sides[1][0]], [sides[0][1], sides[1][1]]])
    return torch.tensor(boxes, dtype=torch.float32)


def as_box(corners: torch.Tensor) -> Box:
    (x0, y0), (x1, y1) = corners.tolist()
    return Box(y0, x0, y1, x1)


@given(true=corners(), overlap=st.sampled_from([0.5, 0.75]), seed=st.integers(0, 2**31))
def test_overlap_is_the_one_asked_for(true: torch.Tensor, overlap: float, seed: int) -> None:
    drawn = boxes_at_overlap(true, overlap, torch.Generator().manual_seed(seed), SIZE)
    for ours, box in zip(drawn, true, strict=True):
        assert abs(as_box(ours).iou(as_box(box)) - overlap) <= TOLERANCE + 1e-4
    assert drawn.min() >= 0
    assert drawn.max() <= SIZE - 1
    assert (drawn[:, 0] <= drawn[:, 1]).all()


@given(one=corners(1), seed=st.integers(0, 2**31))
def test_overlaps_are_those_of_boxes(one: torch.Tensor, seed: int) -> None:
    other = torch.rand(one.shape, generator=torch.Generator().manual_seed(seed)).mul(SIZE).sort(1).values
    expected = [as_box(a).iou(as_box(b)) for a, b in zip(one, other, strict=True)]
    assert box_iou(one, other).tolist() == pytest.approx(expected, abs=1e-5)


def test_boxes_are_spread_as_in_the_evaluation() -> None:
    true, box = torch.tensor([[[40.0, 50.0], [79.0, 89.0]]]).expand(600, 2, 2), Box(50, 40, 89, 79)
    ours = boxes_at_overlap(true, 0.5, torch.Generator().manual_seed(0), SIZE)
    rng = np.random.default_rng(0)
    drawn = [box_at_overlap(box, 0.5, rng, (SIZE, SIZE)) for _ in range(600)]
    theirs = np.array([[[b.x0, b.y0], [b.x1, b.y1]] for b in drawn])
    for measure in (lambda b: b.mean(1), lambda b: b[:, 1] - b[:, 0]):
        a, b = measure(ours.numpy()), measure(theirs)
        np.testing.assert_allclose(a.mean(0), b.mean(0), atol=1.5)
        np.testing.assert_allclose(a.std(0), b.std(0), rtol=0.1)


def test_a_pixel_gets_the_closest_there_is() -> None:
    true = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[30.0, 30.0], [60.0, 60.0]]])
    drawn = boxes_at_overlap(true, 0.5, torch.Generator().manual_seed(0), SIZE)
    assert torch.isfinite(drawn).all()
    assert as_box(drawn[1]).iou(as_box(true[1])) == pytest.approx(0.5, abs=TOLERANCE + 1e-4)
