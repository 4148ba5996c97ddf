"""Prompts drawn from the truth: on the image, and labelled as the truth has it."""

from __future__ import annotations

import pytest
import torch

from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN, NEGATIVE, POSITIVE
from napari_uncertsam.training.interactive import FORMS
from napari_uncertsam.training.schedule import (
    BOX_NOISE,
    corrections,
    first_prompts,
    inner_depth,
    near,
    noisy_boxes,
    random_points,
)

SIZE = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truths(n: int = 6) -> torch.Tensor:
    """Rectangles of many sizes, one of a single pixel, one that fills the frame, one that is empty but for a corner."""
    masks = torch.zeros(n, SIZE, SIZE, dtype=torch.bool)
    for k in range(n):
        masks[k, 5 + k : 20 + 5 * k, 10 : 20 + 6 * k] = True
    masks[0] = False
    masks[0, 30, 40] = True
    masks[1] = True
    masks[2] = False
    masks[2, 63, 63] = True
    return masks


def labels_at(truth: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    x, y = coordinates[..., 0].long(), coordinates[..., 1].long()
    return truth[torch.arange(len(truth))[:, None], y, x].int()


@pytest.mark.parametrize("form", ["box", *FORMS])
@pytest.mark.parametrize("seed", range(5))
def test_prompts_of_every_form_are_labelled_by_the_truth(form: str, seed: int) -> None:
    truth = truths()
    batch = first_prompts(truth, form, generator(seed))
    n, k, _ = batch.coordinates.shape
    assert batch.labels.shape == (n, k) == (6, k)
    assert batch.labels.dtype == torch.int32
    assert batch.coordinates.dtype == torch.float32
    assert batch.coordinates.min() >= 0
    assert batch.coordinates.max() <= SIZE - 1
    corners = 2 if form.startswith("box") else 0
    if corners:
        assert batch.labels[:, :2].tolist() == [[BOX_CORNER_MIN, BOX_CORNER_MAX]] * n
        assert (batch.coordinates[:, 0] <= batch.coordinates[:, 1]).all()
    points, labels = batch.coordinates[:, corners:], batch.labels[:, corners:]
    assert torch.equal(labels, labels_at(truth, points))
    low, high = {"box": (0, 0), "point": (1, 1), "points": (2, 8), "box+points": (1, 3)}[form]
    assert low <= points.shape[1] <= high
    if form in ("point", "points"):
        assert (labels[:, 0] == POSITIVE).all()
    assert torch.equal(batch.coordinates, first_prompts(truth, form, generator(seed)).coordinates)


def test_box_noise_is_what_it_says() -> None:
    truth = torch.zeros(4000, SIZE, SIZE, dtype=torch.bool)
    truth[:, 20:40, 16:46] = True
    exact = torch.tensor([[16.0, 20.0], [45.0, 39.0]])
    boxes = noisy_boxes(truth, generator()).coordinates
    moved = (boxes - exact).abs()
    assert (moved.amax((1, 2)) == 0).float().mean().item() == pytest.approx(BOX_NOISE[0][0], abs=0.03)
    side = torch.tensor([30.0, 20.0])
    assert (moved <= 1.5 * 0.3 * side + 1e-4).all()
    fine = (moved <= 0.1 * side + 1e-4).all(2).all(1)
    assert fine.float().mean() > sum(share for share, level in BOX_NOISE if level <= 0.1) - 0.03


def test_points_are_in_their_region_and_central_ones_deeper() -> None:
    region = torch.zeros(400, SIZE, SIZE, dtype=torch.bool)
    region[:, 8:56, 8:56] = True
    edge = []
    for depth in (None, inner_depth(region)):
        where = random_points(region, generator(), depth)
        assert labels_at(region, where[:, None]).all()
        edge.append(torch.minimum(where - 8, 55 - where).amin(1).mean())
    assert edge[1] > edge[0]
    empty = random_points(torch.zeros(2, SIZE, SIZE, dtype=torch.bool), generator())
    assert ((empty >= 0) & (empty < SIZE)).all()


def test_negative_points_are_near_the_object() -> None:
    truth = truths()[3:4]
    around = near(truth)
    assert not (around & truth).any()
    assert around.any()
    rows, columns = torch.where(around[0])
    assert rows.min() >= 8 - SIZE // 4
    assert columns.max() <= 38 + SIZE // 4
    assert not near(torch.ones(1, SIZE, SIZE, dtype=torch.bool)).any()


def test_corrections_are_where_the_mask_is_wrong() -> None:
    truth = truths()
    logits = torch.where(truth, 1.0, -1.0)
    logits[3, 8:12, 10:20] = -1.0  # missing
    logits[4, 50:60, 50:60] = 1.0  # too much
    batch = corrections(truth, logits, generator())
    assert batch.coordinates.shape == (6, 1, 2)
    assert batch.labels[3].item() == POSITIVE
    assert batch.labels[4].item() == NEGATIVE
    x, y = batch.coordinates[:, 0, 0].long(), batch.coordinates[:, 0, 1].long()
    for k in (3, 4):
        assert (logits[k, y[k], x[k]] > 0) != truth[k, y[k], x[k]]
    assert torch.equal(batch.labels, labels_at(truth, batch.coordinates))
