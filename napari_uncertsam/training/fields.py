"""Draws, coordinates and random fields from which :mod:`napari_uncertsam.training.synthetic` composes its images.

Fields are float32 tensors ``(c, h, w)`` on coordinates whose longer side spans ``[-1, 1]``.
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

    def sign(self) -> int:
        """-1 or 1."""
        return 1 if self.chance(0.5) else -1

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


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(c, h, w)``, separable, reflecting at the border."""
    radius = max(1, int(2.5 * sigma + 0.5))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (kernel / kernel.sum()).tolist()
    for dim, pad in ((1, (0, 0, radius, radius)), (2, (radius, radius, 0, 0))):
        size = image.shape[dim]
        padded = F.pad(image[None], pad, mode="reflect")[0]
        image = torch.zeros_like(image)
        for k, weight in enumerate(weights):  # sums of shifted copies: faster than a grouped convolution
            image.add_(padded.narrow(dim, k, size), alpha=weight)
    return image
