"""Batches that follow from their number alone, whoever draws them."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from napari_uncertsam.training.feeding import Batch, Batches, feed
from napari_uncertsam.training.synthetic import Scene


class Squares:
    """Scenes of one to three squares at places that the generator says."""

    name = "squares"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        count = int(torch.randint(1, 4, (), generator=generator))
        masks = torch.zeros(count, size, size, dtype=torch.bool)
        for k in range(count):
            masks[k, 4 * k : 4 * k + 3, : 3 + k] = True
        return Scene(torch.rand(3, size, size, generator=generator), masks)


def batches(seed: int = 0) -> Batches:
    return Batches(Squares(), seed, images=2, prompts=4, sizes=(32, 64))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.truths, other.truths)


def test_a_batch_has_an_object_for_each_prompt_and_half_are_the_cameras() -> None:
    sizes = set()
    for k in range(12):
        batch = batches()[k]
        sizes.add(batch.images.shape[-1])
        assert batch.images.shape == (2, 3, *batch.truths.shape[-2:])
        assert batch.truths.shape[:2] == (2, 4)
        first = torch.zeros_like(batch.truths[0, 0])
        first[:3, :3] = True
        assert (batch.truths[:, ::2] == first).all()
    assert sizes == {32, 64}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_from_their_number(workers: int) -> None:
    drawn = list(islice(feed(batches(), 3, workers, every=2), 3))
    assert all(same(one, batches()[k]) for one, k in zip(drawn, (3, 5, 7), strict=True))
    assert not same(batches()[3], batches(1)[3])
