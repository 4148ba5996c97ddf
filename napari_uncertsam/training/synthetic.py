"""Domain-randomised synthetic images with exact masks: what the bundled model learns from.

A scene is a background, and layers of shapes in one of several layouts (scattered objects, organs that touch inside a
body, cells, a single object), each region with its own intensity, texture and shading; then an acquisition (blur,
partial volume, bias field, correlated noise, speckle, gamma, inversion, low contrast) and a camera that crops around
one object, as the plugin's zoom does. Photographs that ship inside scikit-image serve as textures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.fields import SHAPE_WEIGHTS, SHAPES, Dice, grid, smooth_noise, texture

#: Photographs in scikit-image's wheel, used as textures only.
PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "rocket",
    "retina",
    "stereo_motorcycle",
)
LAYOUTS = {"scattered": 0.3, "organs": 0.33, "cells": 0.12, "single": 0.25}


@dataclass(frozen=True)
class Scene:
    """One training image.

    Parameters
    ----------
    image : (3, h, w) float32 in [0, 1]
    masks : (n, h, w) bool
        Visible part of every object with at least the minimum area; the first is the one the camera is on.
    """

    image: Tensor
    masks: Tensor


@lru_cache(maxsize=1)
def photographs() -> tuple[Tensor, ...]:
    """The photographs as ``(3, h, w)`` float32 in [0, 1], at most 384 pixels on the longer side."""
    from skimage import data

    out = []
    for name in PHOTOGRAPHS:
        loaded = getattr(data, name)()
        array = torch.as_tensor((loaded[0] if isinstance(loaded, tuple) else loaded).copy()).float() / 255
        array = array[..., :3].movedim(-1, 0) if array.ndim == 3 else array.expand(3, *array.shape)
        scale = min(1.0, 384 / max(array.shape[1:]))
        size = [max(1, round(s * scale)) for s in array.shape[1:]]
        out.append(F.interpolate(array[None], size, mode="bilinear", antialias=True, align_corners=False)[0])
    return tuple(out)


def photograph_crop(dice: Dice, height: int, width: int) -> Tensor:
    """A random crop, flipped and rescaled, of one of the photographs: ``(3, h, w)`` in [0, 1]."""
    photo = photographs()[dice.integer(0, len(PHOTOGRAPHS))]
    rows, columns = photo.shape[1:]
    side = min(dice.uniform(0.2, 1.0) * min(rows, columns), min(rows, columns))
    h, w = (max(8, int(side * s / max(height, width))) for s in (height, width))
    top, left = dice.integer(0, rows - h + 1), dice.integer(0, columns - w + 1)
    crop = photo[:, top : top + h, left : left + w]
    crop = crop.flip(2) if dice.chance(0.5) else crop
    return F.interpolate(crop[None], (height, width), mode="bilinear", align_corners=False)[0]


class Painter:
    """Paints regions on a canvas while keeping track of which object is visible where."""

    def __init__(self, dice: Dice, height: int, width: int) -> None:
        self.dice, self.height, self.width = dice, height, width
        self.colour = dice.chance(0.42)
        self.softness = dice.log_uniform(0.3, 3.0) * 2 / max(height, width)
        self.contrast = dice.log_uniform(0.06, 0.8)  # how far neighbouring regions differ
        self.texture_strength = dice.log_uniform(0.01, 0.2)
        y, x = grid(height, width)
        warp = smooth_noise(dice, height, width, dice.uniform(2, 5), 2) * dice.uniform(0, 0.06)
        self.y, self.x = y + warp[0], x + warp[1]
        self.labels = torch.zeros(height, width, dtype=torch.int64)
        self.base = dice.uniform(0.1, 0.9)
        self.image = self.material(natural=0.35)
        self.count = 0

    def material(self, mean: Tensor | None = None, natural: float = 0.12) -> Tensor:
        """Appearance of one region: ``(3, h, w)``, a colour with texture and shading, or a piece of photograph."""
        dice = self.dice
        if dice.chance(natural):
            crop = photograph_crop(dice, self.height, self.width)
            return crop if self.colour else crop.mean(0, keepdim=True).expand(3, -1, -1)
        if mean is None:
            mean = self.mean_colour()
        strength = self.texture_strength * dice.log_uniform(0.3, 2.0)
        channels = 3 if self.colour and dice.chance(0.3) else 1
        surface = mean[:, None, None] + strength * texture(dice, self.height, self.width, channels)
        if dice.chance(0.4):  # shading across the region
            angle = dice.uniform(0, 2 * math.pi)
            ramp = self.y * math.sin(angle) + self.x * math.cos(angle)
            surface = surface + ramp * dice.uniform(0, 0.25)
        return surface

    def mean_colour(self) -> Tensor:
        """A colour at the scene's contrast from its base level: ``(3,)``."""
        dice = self.dice
        level = self.base + self.contrast * dice.uniform(-1, 1)
        if not self.colour:
            return torch.full((3,), level)
        return level + self.contrast * 0.7 * (torch.rand(3, generator=dice.generator) - 0.5) * 2

    def shape(self, cy: float, cx: float, radius: float, kind: str | None = None) -> Tensor:
        """Level of a random shape at ``(cy, cx)``."""
        dice = self.dice
        kind = kind or dice.choice(SHAPE_WEIGHTS)
        return SHAPES[kind](dice, self.y - cy, self.x - cx, radius, dice.log_uniform(0.45, 1.0))

    def paint(self, level: Tensor, surface: Tensor, label: int | None = None) -> int:
        """Put a region on top; `label` keeps it part of an existing object (0: of the background)."""
        dice = self.dice
        alpha = torch.sigmoid(level / self.softness * 2)
        if dice.chance(0.15):  # see-through, as glass, smoke or a faint lesion
            alpha = alpha * dice.uniform(0.35, 0.8)
        if dice.chance(0.2):  # rim: a membrane, a cortex, a highlight along the edge
            rim = torch.exp(-((level / (dice.uniform(1.0, 3.0) * 2 / max(self.height, self.width))) ** 2))
            self.image = self.image + rim * dice.uniform(-0.3, 0.3)
        self.image = self.image * (1 - alpha) + surface * alpha
        if label is None:
            self.count += 1
            label = self.count
        self.labels = torch.where(level > 0, label, self.labels)
        return label

    def parts(self, level: Tensor, label: int, cy: float, cx: float, radius: float) -> None:
        """Inner structure that belongs to the object: a necrotic core, a marking, a second material."""
        for _ in range(self.dice.integer(1, 4)):
            r = radius * self.dice.uniform(0.15, 0.6)
            dy, dx = (radius * self.dice.uniform(-0.6, 0.6) for _ in range(2))
            inner = torch.minimum(self.shape(cy + dy, cx + dx, r), level)
            self.paint(inner, self.material(), label)


def _scattered(painter: Painter, count: int, low: float, high: float) -> None:
    dice = painter.dice
    for _ in range(count):
        radius = dice.log_uniform(low, high)
        cy, cx = dice.uniform(-0.85, 0.85), dice.uniform(-0.85, 0.85)
        level = painter.shape(cy, cx, radius)
        label = painter.paint(level, painter.material())
        if dice.chance(0.25):
            painter.parts(level, label, cy, cx, radius)


def _organs(painter: Painter) -> None:
    """A body whose inside is divided among touching organs (a warped Voronoi partition), fat and vessels between."""
    dice = painter.dice
    body = painter.shape(dice.uniform(-0.1, 0.1), dice.uniform(-0.1, 0.1), dice.uniform(0.7, 1.6), "star")
    painter.paint(body, painter.material(natural=0.0))
    count = dice.integer(4, 15)
    centres = torch.rand(count, 2, generator=dice.generator) * 1.8 - 0.9
    weights = torch.rand(count, generator=dice.generator) * dice.uniform(0, 0.25)
    height, width = painter.height, painter.width
    warp = smooth_noise(dice, height, width, dice.uniform(3, 8), 2) * dice.uniform(0, 0.07)
    y, x = painter.y + warp[0], painter.x + warp[1]
    distance = torch.stack(
        [
            torch.sqrt((y - cy) ** 2 + (x - cx) ** 2) - w
            for (cy, cx), w in zip(centres.tolist(), weights.tolist(), strict=True)
        ]
    )
    nearest, gap = torch.topk(distance, 2, dim=0, largest=False).values, dice.uniform(-0.02, 0.06)
    owner = distance.argmin(0)
    for k in range(count):
        if dice.chance(0.25):
            continue  # stays fat
        others = torch.where(owner == k, nearest[1], nearest[0])
        level = torch.minimum((others - distance[k]) / 2 - gap, body)
        cap = dice.uniform(0.25, 0.8) - distance[k]
        painter.paint(torch.minimum(level, cap), painter.material(natural=0.04))
    _scattered(painter, dice.integer(0, 5), 0.03, 0.2)


def _cells(painter: Painter) -> None:
    """Many similar objects on one ground, touching at times."""
    dice = painter.dice
    pitch = dice.uniform(0.25, 0.7)
    radius = pitch * dice.uniform(0.3, 0.62)
    kind = dice.choice({"star": 0.8, "polygon": 0.1, "ring": 0.1})
    surface, steps = painter.material(), int(1 / pitch) + 1
    for i in range(-steps, steps + 1):
        for j in range(-steps, steps + 1):
            if dice.chance(0.25) or max(abs(i), abs(j)) * pitch > 1.1:
                continue
            cy, cx = (k * pitch + dice.uniform(-0.4, 0.4) * pitch for k in (i, j))
            level = painter.shape(cy, cx, radius * dice.uniform(0.7, 1.25), kind)
            shade = dice.uniform(-0.15, 0.15) * painter.contrast
            label = painter.paint(level, surface + shade)
            if dice.chance(0.1):
                painter.parts(level, label, cy, cx, radius)


def _acquire(dice: Dice, image: Tensor, colour: bool) -> Tensor:
    """What scanners and cameras do to an image: blur, bias, noise, speckle, gamma, inversion, contrast."""
    _, height, width = image.shape
    if dice.chance(0.5):
        image = blur(image, dice.log_uniform(0.4, 2.2))
    if dice.chance(0.4):
        image = image * (1 + dice.uniform(0.05, 0.4) * smooth_noise(dice, height, width, dice.uniform(1, 3)))
    channels = 3 if colour else 1
    if dice.chance(0.75):
        noise = dice.normal(channels, height, width)
        if dice.chance(0.4):
            noise = blur(noise, dice.uniform(0.5, 1.5))
            noise = noise / noise.std()
        image = image + dice.log_uniform(0.004, 0.12) * noise
    if dice.chance(0.12):
        speckle = blur(dice.normal(1, height, width), dice.uniform(0.4, 1.2))
        image = image * (1 + dice.uniform(0.1, 0.6) * speckle / speckle.std())
    low, high = torch.quantile(image.flatten()[:: max(1, image.numel() // 4096)], torch.tensor([0.01, 0.99])).tolist()
    if dice.chance(0.6):
        low, high = low - dice.uniform(0, 0.5), high + dice.uniform(0, 0.5)
    image = ((image - low) / max(high - low, 0.05)).clamp(0, 1) ** dice.log_uniform(0.6, 1.6)
    if dice.chance(0.3):
        image = 1 - image
    return image if colour else image.mean(0, keepdim=True).expand(3, -1, -1)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(c, h, w)``, separable, reflecting at the border."""
    radius = max(1, int(2.5 * sigma + 0.5))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(image.shape[0], 1, -1)
    padded = F.pad(image[None], (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(padded, kernel[..., None], groups=image.shape[0])
    return F.conv2d(rows, kernel[:, :, None], groups=image.shape[0])[0]


def _camera(dice: Dice, image: Tensor, masks: Tensor, size: int, zoom: float) -> tuple[Tensor, Tensor]:
    """Square crop around the first mask (with probability `zoom`), or the whole frame, resampled to `size`."""
    _, height, width = image.shape
    side, cy, cx = float(max(height, width)), height / 2, width / 2
    if dice.chance(zoom):
        rows, columns = torch.where(masks[0])
        y0, y1, x0, x1 = (v.item() for v in (rows.min(), rows.max(), columns.min(), columns.max()))
        extent = max(y1 - y0, x1 - x0) + 1
        side = extent * dice.log_uniform(1.25, 2.6)
        slack = (side - extent) / 2
        cy, cx = ((a + b + 1) / 2 + slack * dice.uniform(-0.9, 0.9) for a, b in ((y0, y1), (x0, x1)))
        if side <= min(height, width) and dice.chance(0.9):  # the plugin's views stay inside the image, too
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
    image = F.grid_sample(image[None], where, mode="bilinear", padding_mode="border", align_corners=False)[0].clamp(
        0, 1
    )
    masks = (
        F.grid_sample(masks[None].float(), where, mode="bilinear", padding_mode="zeros", align_corners=False)[0] > 0.5
    )
    return image, masks


def make_scene(generator: torch.Generator, size: int = 256, *, zoom: float = 0.75, max_objects: int = 6) -> Scene:
    """Draw one image with its masks.

    Parameters
    ----------
    generator : torch.Generator
        The only source of randomness: the same state gives the same scene.
    size : int
        Side of the square image in pixels.
    zoom : float
        Probability that the camera crops around an object rather than showing the whole scene.
    max_objects : int
        At most so many masks are returned.

    Examples
    --------
    >>> import torch
    >>> scene = make_scene(torch.Generator().manual_seed(0), size=64)
    >>> tuple(scene.image.shape), scene.masks.dtype
    ((3, 64, 64), torch.bool)
    """
    dice = Dice(generator)
    while True:
        canvas = round(size * dice.log_uniform(0.4, 1.0))
        painter = Painter(dice, canvas, canvas)
        layout = dice.choice(LAYOUTS)
        if layout == "organs":
            _organs(painter)
        elif layout == "cells":
            _cells(painter)
        elif layout == "single":
            _scattered(painter, dice.integer(0, 4), 0.1, 0.5)
            _scattered(painter, 1, 0.3, 0.7)
        else:
            _scattered(painter, dice.integer(2, 11), 0.05, 0.5)
        image = _acquire(dice, painter.image, painter.colour)
        chosen = _visible(dice, painter.labels, painter.count, max_objects)
        if chosen is None:
            continue
        image, masks = _camera(dice, image, chosen, size, zoom)
        area = masks.float().mean((1, 2))
        keep = (area > 8e-4) & (area < 0.75)
        if keep[0]:
            return Scene(image, masks[keep])


def _visible(dice: Dice, labels: Tensor, count: int, max_objects: int) -> Tensor | None:
    """Masks of up to `max_objects` objects that are visible enough, in random order."""
    areas = torch.bincount(labels.flatten(), minlength=count + 1)[1:]
    candidates = torch.where((areas >= 25) & (areas < 0.7 * labels.numel()))[0] + 1
    if len(candidates) == 0:
        return None
    order = torch.randperm(len(candidates), generator=dice.generator)[:max_objects]
    return labels[None] == candidates[order][:, None, None]
