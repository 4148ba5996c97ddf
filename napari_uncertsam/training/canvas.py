"""The canvas on which scenes are painted, and the painter with random materials."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.fields import Dice, grid, smooth_noise, texture
from napari_uncertsam.training.photographs import photograph_crop
from napari_uncertsam.training.shapes import SHAPE_WEIGHTS, SHAPES

Window = tuple[slice, slice]
EVERYWHERE: Window = (slice(None), slice(None))


class Canvas:
    """An image and, for every pixel, the number of the object that is visible there.

    Parameters
    ----------
    dice : Dice
    height, width : int
    channels : int
        1 for grey modalities: the image is ``(channels, height, width)``.

    Attributes
    ----------
    image : (channels, h, w) float32
    labels : (h, w) int64
        0 is background; objects count from 1.
    softness : float
        Width of edges, in units of half the frame.
    """

    def __init__(self, dice: Dice, height: int, width: int, channels: int = 1) -> None:
        self.dice, self.height, self.width, self.channels = dice, height, width, channels
        self.pixel = 2 / max(height, width)
        self.softness = dice.log_uniform(0.3, 2.0) * self.pixel
        self.y, self.x = grid(height, width)
        # Levels are smooth: large canvases evaluate them at half the resolution and interpolate.
        self.halved = min(height, width) >= 128
        half = grid((height + 1) // 2, (width + 1) // 2) if self.halved else (self.y, self.x)
        rows, columns = half[0].shape
        warp = smooth_noise(dice, rows, columns, dice.uniform(2, 5), 2) * dice.uniform(0, 0.05)
        self.coarse_y, self.coarse_x = half[0] + warp[0], half[1] + warp[1]
        self.labels = torch.zeros(height, width, dtype=torch.int64)
        self.image = torch.zeros(channels, height, width)
        self.count = 0

    def level(self, shape: Callable[[Tensor, Tensor], Tensor], cy: float = 0.0, cx: float = 0.0) -> Tensor:
        """Level ``(h, w)`` of ``shape(y, x)`` with its origin at ``(cy, cx)``, outlines slightly warped."""
        level = shape(self.coarse_y - cy, self.coarse_x - cx)
        if self.halved:
            size = (self.height, self.width)
            level = F.interpolate(level[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        return level

    def shape(self, cy: float, cx: float, radius: float, kind: str | None = None, aspect: float = 0.0) -> Tensor:
        """Level of a random shape at ``(cy, cx)``."""
        kind, aspect = kind or self.dice.choice(SHAPE_WEIGHTS), aspect or self.dice.log_uniform(0.45, 1.0)
        return self.level(lambda y, x: SHAPES[kind](self.dice, y, x, radius, aspect), cy, cx)

    def noise(self, cells: float, channels: int = 1) -> Tensor:
        """Smooth noise of unit variance over the canvas."""
        return smooth_noise(self.dice, self.height, self.width, cells, channels)

    def window(self, cy: float, cx: float, reach: float) -> Window:
        """Pixels within `reach` of ``(cy, cx)``, for small objects; empty where that is off the canvas."""
        centre = (cy / self.pixel + self.height / 2, cx / self.pixel + self.width / 2)
        r, size = reach / self.pixel + 2, (self.height, self.width)
        low, high = ([min(max(int(c + sign * r), 0), s) for c, s in zip(centre, size, strict=True)] for sign in (-1, 1))
        return slice(low[0], high[0]), slice(low[1], high[1])

    def blend(
        self,
        level: Tensor,
        surface: Tensor | float,
        *,
        where: Window = EVERYWHERE,
        softness: float | None = None,
        opacity: float = 1.0,
    ) -> None:
        """Change the image as :meth:`put` does, but not whose the pixels are: a hair on a lesion, a reflection."""
        alpha = torch.sigmoid(level * (2 / (softness or self.softness))) * opacity
        part = self.image[:, where[0], where[1]]
        part += (surface - part) * alpha

    def put(
        self,
        level: Tensor,
        surface: Tensor | float,
        label: int | None = None,
        *,
        where: Window = EVERYWHERE,
        softness: float | None = None,
        opacity: float = 1.0,
    ) -> int:
        """Put a region on top; `label` keeps it part of an existing object (0: of the background).

        `level` (and a `surface` with an extent) are given on the window `where`.
        """
        self.blend(level, surface, where=where, softness=softness, opacity=opacity)
        if label is None:
            self.count += 1
            label = self.count
        self.labels[where][level > 0] = label
        return label


class Painter(Canvas):
    """A colour canvas with random materials at a contrast of its own."""

    def __init__(self, dice: Dice, height: int, width: int) -> None:
        super().__init__(dice, height, width, 3)
        self.colour = dice.chance(0.45)
        self.softness = dice.log_uniform(0.3, 3.0) * self.pixel
        self.contrast = dice.log_uniform(0.06, 0.8)  # how far neighbouring regions differ
        self.texture_strength = dice.log_uniform(0.01, 0.2)
        self.base = dice.uniform(0.1, 0.9)

    def fill(self, surface: Tensor) -> None:
        """Cover the whole canvas, as background."""
        self.image = surface.expand(3, self.height, self.width).clone()

    def material(self, mean: Tensor | None = None, natural: float = 0.12) -> Tensor:
        """Appearance of one region: ``(3, h, w)``, a colour with texture and shading, or a piece of photograph."""
        dice = self.dice
        if dice.chance(natural):
            crop = photograph_crop(dice, self.height, self.width)
            return crop if self.colour else crop.mean(0, keepdim=True)
        if mean is None:
            mean = self.mean_colour()
        strength = self.texture_strength * dice.log_uniform(0.3, 2.0)
        channels = 3 if self.colour and dice.chance(0.25) else 1
        surface = strength * texture(dice, self.height, self.width, channels)
        if dice.chance(0.4):  # shading across the region
            angle = dice.uniform(0, 2 * math.pi)
            surface = surface + (self.y * math.sin(angle) + self.x * math.cos(angle)) * dice.uniform(0, 0.25)
        return mean[:, None, None] + surface

    def mean_colour(self) -> Tensor:
        """A colour at the scene's contrast from its base level: ``(3,)``, or ``(1,)`` where the scene is grey."""
        level = self.base + self.contrast * self.dice.uniform(-1, 1)
        if not self.colour:
            return torch.full((1,), level)
        return level + self.contrast * 0.7 * (torch.rand(3, generator=self.dice.generator) - 0.5) * 2

    def paint(self, level: Tensor, surface: Tensor, label: int | None = None) -> int:
        """Put a region on top, at times see-through or with a rim; `label` as in :meth:`put`."""
        dice = self.dice
        if dice.chance(0.2):  # rim: a membrane, a cortex, a highlight along the edge
            rim = torch.exp(-((level / (dice.uniform(1.0, 3.0) * self.pixel)) ** 2))
            self.image += rim * dice.uniform(-0.3, 0.3)
        # see-through, as glass, smoke or a faint lesion
        return self.put(level, surface, label, opacity=dice.uniform(0.35, 0.8) if dice.chance(0.15) else 1.0)

    def parts(self, level: Tensor, label: int, cy: float, cx: float, radius: float) -> None:
        """Inner structure that belongs to the object: a necrotic core, a marking, a second material."""
        for _ in range(self.dice.integer(1, 4)):
            r = radius * self.dice.uniform(0.15, 0.6)
            dy, dx = (radius * self.dice.uniform(-0.6, 0.6) for _ in range(2))
            self.paint(torch.minimum(self.shape(cy + dy, cx + dx, r), level), self.material(), label)
