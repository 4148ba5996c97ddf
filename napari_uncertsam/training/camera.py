"""The camera: which objects are asked for, and what part of the canvas is seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.fields import Dice, blur

#: How a zoomed view frames its object: ranges of the view's side over the object's extent.
FRAMINGS = {"usual": (1.25, 2.6), "tight": (1.02, 1.3), "surroundings": (3.3, 8.0)}
FRAMING_WEIGHTS = {"usual": 0.66, "tight": 0.14, "surroundings": 0.2}


def look(dice: Dice, image: Tensor, masks: Tensor, size: int, zoom: float) -> tuple[Tensor, Tensor]:
    """Square crop around the first mask (with probability `zoom`), or the whole frame, resampled to `size`."""
    _, height, width = image.shape
    side, cy, cx = float(max(height, width)), height / 2, width / 2
    if dice.chance(zoom):
        rows, columns = masks[0].any(1).nonzero()[:, 0], masks[0].any(0).nonzero()[:, 0]
        y0, y1, x0, x1 = (v.item() for v in (rows[0], rows[-1], columns[0], columns[-1]))
        extent = max(y1 - y0, x1 - x0) + 1
        low, high = FRAMINGS[dice.choice(FRAMING_WEIGHTS)]
        side = extent * dice.log_uniform(low, high)
        # Beyond the canvas is nothing to look at.
        side = max(min(side, dice.uniform(0.75, 1.02) * max(height, width)), 1.02 * extent)
        slack = (side - extent) / 2
        cy, cx = ((a + b + 1) / 2 + slack * dice.uniform(-0.9, 0.9) for a, b in ((y0, y1), (x0, x1)))
        if side <= min(height, width) and dice.chance(0.96):  # the plugin's views stay inside the image, too
            cy, cx = (min(max(c, side / 2), n - side / 2) for c, n in ((cy, height), (cx, width)))
    angle = dice.uniform(-0.3, 0.3) if dice.chance(0.3) else 0.0
    offset = (torch.arange(size) + 0.5) / size - 0.5
    v, u = torch.meshgrid(offset, offset, indexing="ij")
    if dice.chance(0.5):
        u = -u
    y = cy + side * (v * math.cos(angle) + u * math.sin(angle))
    x = cx + side * (-v * math.sin(angle) + u * math.cos(angle))
    where = torch.stack([x * 2 / width - 1, y * 2 / height - 1], -1)[None]
    if side > 1.5 * size:
        image = blur(image, 0.35 * side / size)
    grey = image.stride(0) == 0  # one channel, expanded
    mode = "bicubic" if side < 0.5 * size and dice.chance(0.3) else "bilinear"
    seen = F.grid_sample(
        (image[:1] if grey else image)[None], where, mode=mode, padding_mode="border", align_corners=False
    )[0].clamp(0, 1)
    inside = F.grid_sample(masks[None].float(), where, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return seen.expand(3, -1, -1).contiguous(), inside > 0.5


def visible(dice: Dice, labels: Tensor, count: int, max_objects: int) -> Tensor | None:
    """Masks of up to `max_objects` objects that are visible enough, in random order; None where there is none."""
    areas = torch.bincount(labels.flatten(), minlength=count + 1)[1:]
    candidates = torch.where((areas >= 25) & (areas < 0.7 * labels.numel()))[0] + 1
    if len(candidates) == 0:
        return None
    if len(candidates) > max_objects:  # large ones are asked for more often than specks
        weights = areas[candidates - 1].float() ** 0.3
        order = torch.multinomial(weights, max_objects, generator=dice.generator)
    else:
        order = torch.randperm(len(candidates), generator=dice.generator)
    return labels[None] == candidates[order][:, None, None]


def discernible(image: Tensor, masks: Tensor) -> Tensor:
    """Whether each object ``(n, h, w)`` differs from its surroundings in mean, or has an edge: ``(n,)`` bool.

    Both are measured on ``(3, h, w)`` at about 96 pixels, where noise is averaged out as it is for an eye.
    """
    step = max(1, image.shape[1] // 96)
    grey = F.avg_pool2d(image, step)
    inside = F.avg_pool2d(masks.float(), step)[:, None]
    near, core = F.max_pool2d(inside, 7, 1, 3), -F.max_pool2d(-inside, 3, 1, 1)
    ring, edge = (near - inside).clamp(min=0), (F.max_pool2d(inside, 3, 1, 1) - core).clamp(min=0)
    body = torch.where(core.sum((2, 3), keepdim=True) > 4, core, inside)

    def mean(values: Tensor, weight: Tensor) -> Tensor:
        return (values * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp(min=1e-3)

    within, around = mean(grey, body), mean(grey, ring)
    spread = mean((grey - around) ** 2, ring).sqrt()
    difference = (within - around).abs()
    apart = ((difference > 0.02) & (difference > 0.45 * spread)).any(1)[:, 0, 0]
    slope = F.pad(grey.diff(dim=1).abs(), (0, 0, 0, 1)) + F.pad(grey.diff(dim=2).abs(), (0, 1))
    slope = slope.amax(0, keepdim=True)
    along, elsewhere = mean(slope, edge), mean(slope, ring + body)
    seam = ((along > 1.3 * elsewhere) & (along > 0.02))[:, 0, 0, 0]
    return apart | seam
