"""Clips: the same for a seed and an index, and with objects that can be prompted on the first frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_uncertsam.training.clips import PRESENT, SMALLEST, Clip, draw_clip, make_clip, make_volume_clip
from napari_uncertsam.training.feeding import feed
from napari_uncertsam.training.memory import Clips

SIDE, FRAMES = 48, 6


def check(clip: Clip) -> None:
    assert clip.images.shape == (FRAMES, 3, SIDE, SIDE)
    assert clip.images.dtype == torch.float32
    assert clip.masks.dtype == torch.bool
    assert clip.masks.shape[1:] == (FRAMES, SIDE, SIDE)
    assert 1 <= len(clip.masks) <= 2
    assert 0 <= clip.images.min() < clip.images.max() <= 1
    area = clip.masks.float().mean((2, 3))
    assert (area[:, 0] > SMALLEST).all()
    assert ((area == 0) | (area > PRESENT)).all()


def test_clips_hold_what_they_should() -> None:
    gone = 0
    for seed in range(6):
        for clip in (
            make_volume_clip(np.random.default_rng(seed), SIDE, frames=FRAMES),
            make_clip(torch.Generator().manual_seed(seed), SIDE, frames=FRAMES),
        ):
            check(clip)
            assert not torch.equal(clip.images[0], clip.images[1])
            gone += int((~clip.masks.flatten(2).any(2)).sum())
    assert gone > 0  # some objects end


def test_a_clip_follows_from_its_seed_and_index() -> None:
    first, again = (draw_clip(1, 4, SIDE, frames=FRAMES) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    other = draw_clip(1, 5, SIDE, frames=FRAMES)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers: int) -> None:
    drawn = feed(Clips(7, SIDE, FRAMES, 2), 3, workers)  # type: ignore[arg-type]
    for index in (3, 4, 5):
        clip, expected = next(drawn), draw_clip(7, index, SIDE, frames=FRAMES)
        assert torch.equal(clip.images, expected.images)  # type: ignore[attr-defined]
        assert torch.equal(clip.masks, expected.masks)  # type: ignore[attr-defined]
