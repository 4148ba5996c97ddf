"""UncertSAM's prompts for training (Tables 3 and 4): a box or a point, then one more point in each of eight steps.

All objects of an image open with the same form, so that their prompts are one batch without padding tokens; whether a
point is inside or outside is drawn for each. The mask of the step before is not fed back.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from napari_uncertsam.estimators.prompt_perturbation import CAP, SCALES
from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN
from napari_uncertsam.training.schedule import PromptBatch, mask_corners

#: Decodes of an image in one training step; most objects of an image.
STEPS, MAX_OBJECTS = 8, 32


def step_prompts(truth: Tensor, generator: torch.Generator, steps: int = STEPS) -> Iterator[PromptBatch]:
    """The prompts of each step, every batch with those of the step before and one point more.

    The first is a box or one point inside, with equal chance. Each point is inside or outside with equal chance,
    uniform there, and never twice the same pixel of an object while there is another.

    Parameters
    ----------
    truth : (n, s, s) bool
        One object each, not empty.
    generator : torch.Generator
        On the CPU, whatever device `truth` is on.
    steps : int

    Yields
    ------
    PromptBatch
    """
    taken = torch.zeros_like(truth)
    if torch.rand((), generator=generator) < 0.5:
        batch = perturbed_boxes(truth, generator)
    else:
        batch = _points(truth, truth, taken, generator)
    yield batch
    for _ in range(steps - 1):
        inside = (torch.rand(len(truth), 1, 1, generator=generator) < 0.5).to(truth.device)
        more = _points(truth, truth == inside, taken, generator)
        batch = batch.extended(more.coordinates, more.labels)
        yield batch


def laplace_prompts(truth: Tensor, generator: torch.Generator) -> PromptBatch:
    """Prompts that UncertSAM's Laplace posterior is fitted with: those after 1 to 8 steps, each as likely.

    Eight points, the first replaced by a box with chance 1/2, of which 0 to 7 at the end are dropped: that is the same.

    Parameters
    ----------
    truth : (n, s, s) bool
        The objects share the form and the number of points; give one at a time where they should not.
    generator : torch.Generator
    """
    kept = int(torch.randint(STEPS, (), generator=generator))
    return next(islice(step_prompts(truth, generator), kept, None))


def perturbed_boxes(truth: Tensor, generator: torch.Generator) -> PromptBatch:
    """Boxes of ``(n, s, s)`` masks, each coordinate off by up to a tenth of the side and 20 pixels of 1024, uniform."""
    n, _, size = truth.shape
    corners = mask_corners(truth)
    side = corners[:, 1:] - corners[:, :1] + 1
    reach = (SCALES["uncertsam"] * side).clamp(max=CAP * size)
    noise = 2 * torch.rand(n, 2, 2, generator=generator).to(truth.device) - 1
    moved = corners + noise * reach
    moved = torch.stack([moved.amin(1), moved.amax(1)], 1).clamp(0, size - 1)
    labels = torch.tensor([[BOX_CORNER_MIN, BOX_CORNER_MAX]], dtype=torch.int32, device=truth.device)
    return PromptBatch(moved, labels.expand(n, 2))


def choose_objects(masks: Tensor, generator: torch.Generator, most: int = MAX_OBJECTS) -> Tensor:
    """At most so many of ``(n, s, s)`` masks, drawn at random."""
    if len(masks) <= most:
        return masks
    return masks[torch.randperm(len(masks), generator=generator)[:most].to(masks.device)]


def _points(truth: Tensor, region: Tensor, taken: Tensor, generator: torch.Generator) -> PromptBatch:
    """One pixel of each region that is not taken yet, labelled by the truth; marks it as taken.

    Where a region has none left, any other pixel of the image serves; where all are taken, any again.
    """
    width, shares = truth.shape[-1], torch.rand(len(truth), generator=generator, dtype=torch.float64)
    where, labels = [], []
    for share, inside, wanted, seen in zip(shares.tolist(), truth, region, taken, strict=True):
        for candidates in (wanted & ~seen, ~seen, torch.ones_like(seen)):
            pixels = candidates.flatten().nonzero()[:, 0]
            if len(pixels):
                break
        y, x = divmod(int(pixels[int(share * len(pixels))]), width)
        seen[y, x] = True
        where.append((x, y))
        labels.append(int(inside[y, x]))
    coordinates = torch.tensor(where, dtype=torch.float32, device=truth.device)
    return PromptBatch(coordinates[:, None], torch.tensor(labels, dtype=torch.int32, device=truth.device)[:, None])
