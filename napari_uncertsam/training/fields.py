"""Random fields and shapes from which :mod:`napari_uncertsam.training.synthetic` composes its images.

Everything is a ``(h, w)`` float32 tensor on ``[-1, 1]`` coordinates. Shapes are *levels*: positive inside, negative
outside, roughly in units of half the frame, so that a soft edge (partial volume) is a sigmoid of the level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class Dice:
    """Seeded scalar draws; all randomness of a scene comes from one `torch.Generator`."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in [low, high)."""
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def log_uniform(self, low: float, high: float) -> float:
        """A float in [low, high), uniform in its logarithm."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high)."""
        return int(torch.randint(low, high, (), generator=self.generator).item())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def normal(self, *shape: int) -> Tensor:
        """Standard normal tensor."""
        return torch.randn(*shape, generator=self.generator)

    def choice(self, weights: dict[str, float]) -> str:
        """A key drawn with probability proportional to its weight."""
        draw = self.uniform(0, sum(weights.values()))
        for key, weight in weights.items():
            draw -= weight
            if draw < 0:
                return key
        return key


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Coordinates ``(y, x)`` of pixel centres, the longer side spanning [-1, 1]."""
    side = max(height, width)
    y = (torch.arange(height) + 0.5 - height / 2) * (2 / side)
    x = (torch.arange(width) + 0.5 - width / 2) * (2 / side)
    return y[:, None].expand(height, width), x[None, :].expand(height, width)


def smooth_noise(dice: Dice, height: int, width: int, cells: float, channels: int = 1) -> Tensor:
    """Band-limited noise ``(channels, h, w)`` of unit variance with about `cells` periods across the frame."""
    rows, columns = (
        max(2, round(cells * height / max(height, width))),
        max(2, round(cells * width / max(height, width))),
    )
    if rows >= height or columns >= width:
        return dice.normal(channels, height, width)
    coarse = dice.normal(1, channels, rows + 1, columns + 1)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0] * 1.25


def texture(dice: Dice, height: int, width: int, channels: int = 1) -> Tensor:
    """A few octaves of smooth noise, sometimes stretched along a direction or striped; unit variance, ``(c, h, w)``."""
    base, roughness = dice.log_uniform(2, 40), dice.uniform(0.3, 0.9)
    out, weight, total = torch.zeros(channels, height, width), 1.0, 0.0
    for octave in range(dice.integer(1, 4)):
        out = out + weight * smooth_noise(dice, height, width, base * 2**octave, channels)
        total += weight**2
        weight *= roughness
    out = out / math.sqrt(total)
    if dice.chance(0.15):  # fibres, folds, grids
        y, x = grid(height, width)
        angle, frequency = dice.uniform(0, math.pi), dice.log_uniform(6, 60)
        phase = (y * math.sin(angle) + x * math.cos(angle)) * frequency + dice.uniform(0, 2) * out[:1]
        out = 0.5 * out + dice.uniform(0.4, 1.2) * torch.sin(phase)
    return out


def star(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Blob whose radius is a random Fourier series of the angle."""
    angle, roughness = dice.uniform(0, 2 * math.pi), dice.uniform(0.0, 0.45)
    u = (y * math.cos(angle) + x * math.sin(angle)) / aspect
    v = -y * math.sin(angle) + x * math.cos(angle)
    theta, rho = torch.atan2(u, v), torch.sqrt(u**2 + v**2)
    contour, decay = torch.ones_like(theta), dice.uniform(0.8, 2.0)
    for k in range(2, dice.integer(3, 9)):
        amplitude = roughness * dice.uniform(-1, 1) / (k - 1) ** decay
        contour = contour + amplitude * torch.cos(k * theta + dice.uniform(0, 2 * math.pi))
    return radius * contour.clamp(min=0.15) - rho


def polygon(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Convex polygon of 3 to 7 half planes, or a rectangle."""
    if dice.chance(0.5):
        angle = dice.uniform(0, math.pi) if dice.chance(0.6) else 0.0
        u, v = y * math.cos(angle) + x * math.sin(angle), -y * math.sin(angle) + x * math.cos(angle)
        return torch.minimum(radius * aspect - u.abs(), radius - v.abs())
    count = dice.integer(3, 8)
    level, start = torch.full_like(y, 10.0), dice.uniform(0, 2 * math.pi)
    for k in range(count):
        angle = start + 2 * math.pi * (k + dice.uniform(-0.25, 0.25)) / count
        distance = radius * dice.uniform(0.7, 1.1)
        level = torch.minimum(level, distance - (y * math.sin(angle) + x * math.cos(angle)))
    return level


def tube(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Thick random curve: a vessel, a bowel loop, a handle."""
    steps = 20
    heading = torch.cumsum(dice.normal(steps) * dice.uniform(0.1, 0.6), 0) + dice.uniform(0, 2 * math.pi)
    path = torch.stack([torch.sin(heading), torch.cos(heading)], 1).cumsum(0)
    path = (path - path.mean(0)) / (path - path.mean(0)).abs().amax().clamp(min=1e-3) * radius * 1.4
    thickness = radius * dice.uniform(0.12, 0.35)
    distance = torch.full_like(y, 1e3)
    for (ay, ax), (by, bx) in zip(path[:-1].tolist(), path[1:].tolist(), strict=True):
        dy, dx = by - ay, bx - ax
        t = (((y - ay) * dy + (x - ax) * dx) / (dy * dy + dx * dx + 1e-9)).clamp(0, 1)
        distance = torch.minimum(distance, (y - ay - t * dy) ** 2 + (x - ax - t * dx) ** 2)
    return thickness - torch.sqrt(distance)


def blob(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Thresholded noise under a bump: ragged, with bays, sometimes with holes."""
    height, width = y.shape
    noise = smooth_noise(dice, height, width, dice.uniform(2, 5) / max(radius, 0.08))[0]
    return radius - torch.sqrt((y / aspect) ** 2 + x**2) + noise * radius * dice.uniform(0.1, 0.35)


def ring(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Wall around a hollow, open on one side at times: myocardium, bowel, a cup's rim."""
    outer = star(dice, y, x, radius, aspect)
    level = torch.minimum(outer, radius * dice.uniform(0.2, 0.5) - outer)
    if dice.chance(0.4):
        angle = dice.uniform(0, 2 * math.pi)
        level = torch.minimum(level, y * math.sin(angle) + x * math.cos(angle) + radius * dice.uniform(0.0, 0.6))
    return level


SHAPES = {"star": star, "polygon": polygon, "tube": tube, "blob": blob, "ring": ring}
SHAPE_WEIGHTS = {"star": 0.52, "polygon": 0.16, "tube": 0.08, "blob": 0.16, "ring": 0.08}
