"""UncertSAM's prompts: their forms, labels, places and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN, POSITIVE, Box
from napari_uncertsam.training.steps import (
    MAX_OBJECTS,
    STEPS,
    choose_objects,
    laplace_prompts,
    perturbed_boxes,
    step_prompts,
)

SIZE = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rectangles(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    """Masks of rows y0..y1 and columns x0..x1, both included."""
    masks = torch.zeros(len(boxes), SIZE, SIZE, dtype=torch.bool)
    for mask, (y0, x0, y1, x1) in zip(masks, boxes, strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return masks


THREE = rectangles((5, 10, 24, 40), (30, 30, 30, 30), (0, 0, 63, 63))


@pytest.mark.parametrize("seed", range(6))
def test_every_step_has_one_point_more_and_keeps_the_others(seed: int) -> None:
    batches = list(step_prompts(THREE, generator(seed)))
    assert len(batches) == STEPS == 8
    boxed = bool((batches[0].labels[:, 0] == BOX_CORNER_MIN).all())
    for k, batch in enumerate(batches):
        assert batch.coordinates.shape == (3, k + 1 + boxed, 2)
        assert (batch.coordinates.dtype, batch.labels.dtype) == (torch.float32, torch.int32)
        assert torch.equal(batch.coordinates, batches[-1].coordinates[:, : k + 1 + boxed])
        assert torch.equal(batch.labels, batches[-1].labels[:, : k + 1 + boxed])
    if boxed:
        assert batches[0].labels.tolist() == [[BOX_CORNER_MIN, BOX_CORNER_MAX]] * 3
    else:
        assert batches[0].labels.tolist() == [[POSITIVE]] * 3
    again = list(step_prompts(THREE, generator(seed)))
    assert torch.equal(batches[-1].coordinates, again[-1].coordinates)


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_the_truth_s_and_no_pixel_comes_twice(seed: int) -> None:
    last = list(step_prompts(THREE, generator(seed)))[-1]
    for truth, places, labels in zip(THREE, last.coordinates, last.labels, strict=True):
        points = [(int(y), int(x), int(k)) for (x, y), k in zip(places, labels, strict=True) if k < 2]
        assert all(int(truth[y, x]) == label for y, x, label in points)
        assert len({(y, x) for y, x, _ in points}) == len(points)


def test_when_all_pixels_are_taken_they_come_again() -> None:
    tiny = torch.tensor([[[True, False], [False, False]]])
    last = list(step_prompts(tiny, generator(1), steps=12))[-1]
    assert last.labels.shape[1] >= 12
    points = last.coordinates[0, last.labels[0] < 2]
    assert len({tuple(p.tolist()) for p in points}) == 4


def test_how_often_a_box_and_how_often_inside() -> None:
    truth = rectangles((10, 10, 29, 29))
    runs = [list(step_prompts(truth, generator(seed), steps=4)) for seed in range(400)]
    boxes = sum(int(run[0].labels[0, 0] == BOX_CORNER_MIN) for run in runs)
    assert stats.binomtest(boxes, 400, 0.5).pvalue > 0.01
    later = torch.cat([run[-1].labels[0, -3:] for run in runs])
    assert stats.binomtest(int(later.sum()), len(later), 0.5).pvalue > 0.01


def test_first_points_are_uniform_inside_and_later_ones_on_both_sides() -> None:
    truth = rectangles((10, 10, 13, 13))
    first, outside = np.zeros((4, 4), int), []
    for seed in range(1200):
        run = list(step_prompts(truth, generator(seed), steps=2))
        (x, y), label = run[0].coordinates[0, 0].int().tolist(), int(run[0].labels[0, 0])
        if label == POSITIVE:
            first[y - 10, x - 10] += 1
        if run[1].labels[0, -1] == 0:
            outside.append(run[1].coordinates[0, -1].tolist())
    assert first.sum() > 500
    assert stats.chisquare(first.ravel()).pvalue > 0.01
    assert stats.kstest(np.array(outside)[:, 1] / SIZE, "uniform").pvalue > 0.001


@given(
    y0=st.integers(0, 60),
    x0=st.integers(0, 60),
    height=st.integers(1, 64),
    width=st.integers(1, 64),
    seed=st.integers(0),
)
def test_boxes_are_off_by_a_tenth_of_the_side_and_20_pixels_of_1024(
    y0: int, x0: int, height: int, width: int, seed: int
) -> None:
    y1, x1 = min(y0 + height, SIZE) - 1, min(x0 + width, SIZE) - 1
    [mask] = rectangles((y0, x0, y1, x1))
    exact = Box.of_mask(mask.numpy())
    [(low, high)] = perturbed_boxes(mask[None], generator(seed % 2**31)).coordinates.tolist()
    largest = 20 * SIZE / 1024
    for got, want, side in zip(
        (*low, *high), (exact.x0, exact.y0, exact.x1, exact.y1), 2 * (exact.width, exact.height), strict=True
    ):
        assert abs(got - want) <= min(0.1 * side, largest) + 1e-4
        assert 0 <= got <= SIZE - 1
    assert low[0] <= high[0]
    assert low[1] <= high[1]


def test_box_noise_fills_its_range() -> None:
    truth = rectangles((20, 22, 39, 41)).expand(3000, -1, -1)
    moved = perturbed_boxes(truth, generator()).coordinates - torch.tensor([[22.0, 20.0], [41.0, 39.0]])
    reach = min(2.0, 20 * SIZE / 1024)
    assert stats.kstest(moved.flatten().numpy(), "uniform", (-reach, 2 * reach)).pvalue > 0.001


def test_laplace_has_one_to_eight_prompts_half_of_them_with_a_box() -> None:
    counts, boxes = np.zeros(9, int), 0
    for seed in range(800):
        batch = laplace_prompts(THREE[:2], generator(seed))
        boxed = bool(batch.labels[0, 0] == BOX_CORNER_MIN)
        boxes += boxed
        counts[batch.labels.shape[1] - boxed] += 1
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 0.01
    assert stats.binomtest(boxes, 800, 0.5).pvalue > 0.01


def test_at_most_32_objects() -> None:
    few, many = torch.zeros(5, 2, 2, dtype=torch.bool), torch.arange(50)[:, None, None].expand(50, 2, 2)
    assert choose_objects(few, generator()) is few
    chosen = choose_objects(many, generator())
    assert len(chosen) == MAX_OBJECTS == 32
    assert len(chosen[:, 0, 0].unique()) == 32
