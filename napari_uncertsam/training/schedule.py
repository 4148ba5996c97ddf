"""Prompts as a user gives them, drawn from the truth: a box or points first, then corrections where the mask is wrong.

The schedule follows METHODS of UncertSAM (box noise of 10 % of the side, at most 20 px; up to 8 points) and adds coarse
boxes and corrective clicks with the previous mask fed back, as SAM is trained. All functions are batched: ``n`` prompts
at once, each for its own ``(size, size)`` truth; coordinates are SAM's ``(x, y)`` in pixels of the model's input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN

#: Share of boxes and their noise as a fraction of the side: exact, nearly exact, the papers', coarse.
BOX_NOISE = ((0.3, 0.0), (0.2, 0.04), (0.32, 0.1), (0.18, 0.3))


@dataclass(frozen=True)
class PromptBatch:
    """`coordinates` (n, k, 2) float32 in (x, y) pixels and `labels` (n, k) int32 in SAM's code."""

    coordinates: Tensor
    labels: Tensor

    def extended(self, coordinates: Tensor, labels: Tensor) -> PromptBatch:
        """These prompts and k more points each."""
        return PromptBatch(torch.cat([self.coordinates, coordinates], 1), torch.cat([self.labels, labels], 1))


def mask_corners(truth: Tensor) -> Tensor:
    """Boxes of ``(n, s, s)`` masks as ``(n, 2, 2)`` float32: first and last pixel, each (x, y)."""
    n, _, size = truth.shape
    index = torch.arange(size, device=truth.device).expand(n, size)
    bounds = []
    for hit in (truth.any(1), truth.any(2)):  # columns, rows
        bounds.append((torch.where(hit, index, size).amin(1), torch.where(hit, index, -1).amax(1)))
    (x0, x1), (y0, y1) = bounds
    return torch.stack([torch.stack([x0, y0], 1), torch.stack([x1, y1], 1)], 1).float()


def noisy_boxes(truth: Tensor, generator: torch.Generator) -> PromptBatch:
    """Boxes of ``(n, s, s)`` masks with noise drawn per prompt from :data:`BOX_NOISE`."""
    n, _, size = truth.shape
    corners = mask_corners(truth)
    side = corners[:, 1:] - corners[:, :1] + 1
    shares, levels = (torch.tensor(column) for column in zip(*BOX_NOISE, strict=True))
    level = levels[torch.multinomial(shares, n, replacement=True, generator=generator)].to(truth.device)
    noise = torch.rand(n, 2, 2, generator=generator).to(truth.device) * 2 - 1
    shift = torch.rand(n, 1, 2, generator=generator).to(truth.device) * 2 - 1
    coarse = (level > 0.2)[:, None, None]
    reach = level[:, None, None] * side
    moved = corners + torch.where(coarse, 0.5 * noise * reach + shift * reach, noise * reach.clamp(max=20))
    moved = torch.stack([moved.amin(1), moved.amax(1)], 1).clamp(0, size - 1)
    labels = torch.tensor([[BOX_CORNER_MIN, BOX_CORNER_MAX]], dtype=torch.int32, device=truth.device)
    return PromptBatch(moved, labels.expand(n, 2))


def random_points(region: Tensor, generator: torch.Generator, depth: Tensor | None = None) -> Tensor:
    """One pixel of each ``(n, s, s)`` region, uniform, or weighted towards larger `depth`: ``(n, 2)`` (x, y).

    An empty region gives some pixel: the caller labels it by the truth there.
    """
    n, height, width = region.shape
    score = torch.rand(n, height, width, generator=generator).to(region.device)
    if depth is not None:
        score = score * depth
    flat = torch.where(region, score + 1e-6, torch.zeros_like(score)).flatten(1).argmax(1)
    return torch.stack([flat % width, flat // width], 1).float()


def inner_depth(mask: Tensor, steps: int = 3) -> Tensor:
    """Rough depth of each pixel inside its ``(n, s, s)`` region, by repeated averaging; higher in the middle."""
    depth, radius = F.avg_pool2d(mask[:, None].float(), 4), max(1, mask.shape[-1] // 128)
    for _ in range(steps):
        depth = F.avg_pool2d(depth, 2 * radius + 1, 1, radius)
    return F.interpolate(depth**4, mask.shape[-2:], mode="nearest")[:, 0]


def labelled_points(truth: Tensor, region: Tensor, generator: torch.Generator, central: bool = False) -> PromptBatch:
    """One point in each region with the label that the truth has there."""
    where = random_points(region, generator, inner_depth(region) if central else None)
    x, y = where[:, 0].long(), where[:, 1].long()
    inside = truth[torch.arange(len(truth), device=truth.device), y, x]
    return PromptBatch(where[:, None], inside[:, None].to(torch.int32))


def first_prompts(truth: Tensor, form: str, generator: torch.Generator) -> PromptBatch:
    """Opening prompts of one form.

    Parameters
    ----------
    truth : (n, s, s) bool
    form : {"box", "point", "points", "box+points"}
        A noisy box; one point inside; 2 to 8 points (the first inside, then inside or outside with equal chance);
        a box with 1 to 3 points.
    """
    central = bool(torch.rand((), generator=generator) < 0.5)
    if form == "box":
        return noisy_boxes(truth, generator)
    if form == "point":
        return labelled_points(truth, truth, generator, central)
    if form == "points":
        batch = labelled_points(truth, truth, generator, central)
        more = int(torch.randint(1, 8, (), generator=generator))
    else:
        batch = noisy_boxes(truth, generator)
        more = int(torch.randint(1, 4, (), generator=generator))
    for _ in range(more):
        inside = (torch.rand(len(truth), 1, 1, generator=generator) < 0.5).to(truth.device)
        extra = labelled_points(truth, torch.where(inside, truth, near(truth)), generator)
        batch = batch.extended(extra.coordinates, extra.labels)
    return batch


def near(truth: Tensor) -> Tensor:
    """Background within a quarter of the frame of the object, where people put negative points."""
    small, radius = F.max_pool2d(truth[:, None].float(), 4), truth.shape[-1] // 32
    rows = F.max_pool2d(small, (2 * radius + 1, 1), 1, (radius, 0))
    grown = F.max_pool2d(rows, (1, 2 * radius + 1), 1, (0, radius))
    return (F.interpolate(grown, truth.shape[-2:], mode="nearest")[:, 0] > 0) & ~truth


def corrections(truth: Tensor, logits: Tensor, generator: torch.Generator) -> PromptBatch:
    """One point in the wrong part of each prediction (anywhere where nothing is wrong), labelled by the truth.

    Parameters
    ----------
    truth : (n, s, s) bool
    logits : (n, s, s) float32
    """
    wrong = (logits > 0) != truth
    region = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, torch.ones_like(wrong))
    return labelled_points(truth, region, generator, central=True)
