"""Batches of scenes for the bundled model, drawn by other processes while the model learns.

Batch number k follows from the seed and k alone: how many processes draw, and where a run was interrupted, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_uncertsam.training.seeds import generator_of
from napari_uncertsam.training.sources import Source

Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Batch:
    """Scenes of one size.

    Parameters
    ----------
    images : (b, 3, s, s) float32 in [0, 1]
    truths : (b, p, s, s) bool
        One object for each prompt; every other one is what the camera is on.
    """

    images: Tensor
    truths: Tensor


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """What a loader draws from: batch k of a run.

    Parameters
    ----------
    source : Source
    seed : int
    images, prompts : int
        Scenes in a batch, and objects of each (the same one several times where a scene has fewer).
    sizes : tuple of int
        Sides in pixels; a batch has one of them, each as likely.
    """

    source: Source
    seed: int
    images: int
    prompts: int
    sizes: tuple[int, ...]

    def __getitem__(self, index: int) -> Batch:
        generator = generator_of(self.seed, index)
        size = self.sizes[int(torch.randint(len(self.sizes), (), generator=generator))]
        images, truths = [], []
        for _ in range(self.images):
            scene = self.source.draw(generator, size)
            chosen = torch.randint(0, len(scene.masks), (self.prompts,), generator=generator)
            chosen[::2] = 0
            images.append(scene.image)
            truths.append(scene.masks[chosen])
        return Batch(torch.stack(images), torch.stack(truths))


class _From(Sampler[int]):
    """Numbers from `start` on, `every` apart."""

    def __init__(self, start: int, every: int) -> None:
        self.start, self.every = start, every

    def __iter__(self) -> Iterator[int]:
        index = self.start
        while True:
            yield index
            index += self.every


def feed(batches: Dataset[Drawn], start: int, workers: int, *, every: int = 1) -> Iterator[Drawn]:
    """Batches number `start`, ``start + every`` and so on, without end.

    With no workers they are drawn when they are asked for.
    """
    options: dict[str, Any] = {}
    if workers:
        options = {"prefetch_factor": 4, "worker_init_fn": _one_thread, "multiprocessing_context": "fork"}
    loader = DataLoader(batches, batch_size=None, sampler=_From(start, every), num_workers=workers, **options)
    return iter(loader)


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
