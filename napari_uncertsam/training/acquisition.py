"""What scanners and cameras do to an image: blur, bias, noise, speckle, windows, gamma."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.fields import Dice, blur, grid, smooth_noise


def acquire(dice: Dice, image: Tensor, colour: bool) -> Tensor:
    """A generic acquisition: ``(3, h, w)`` in [0, 1]; grey (three equal channels) without `colour`."""
    _, height, width = image.shape
    image = image if colour else image.mean(0, keepdim=True)
    if dice.chance(0.5):
        image = blur(image, dice.log_uniform(0.4, 2.2))
    if dice.chance(0.4):
        image = image * (1 + dice.uniform(0.05, 0.4) * smooth_noise(dice, height, width, dice.uniform(1, 3)))
    if dice.chance(0.75):
        image = image + dice.log_uniform(0.004, 0.12) * grain(dice, height, width, len(image))
    if dice.chance(0.12):
        speckle = blur(dice.normal(1, height, width), dice.uniform(0.4, 1.2))
        image = image * (1 + dice.uniform(0.1, 0.6) * speckle / speckle.std())
    low, high = percentiles(image)
    if dice.chance(0.6):
        low, high = low - dice.uniform(0, 0.5), high + dice.uniform(0, 0.5)
    image = ((image - low) / max(high - low, 0.05)).clamp(0, 1) ** dice.log_uniform(0.6, 1.6)
    if dice.chance(0.3):
        image = 1 - image
    return image.expand(3, -1, -1)


def percentiles(image: Tensor, low: float = 0.01, high: float = 0.99) -> tuple[float, float]:
    """Two quantiles of the grey values, from a few thousand of them."""
    few = image.flatten()[:: max(1, image.numel() // 4096)]
    first, second = torch.quantile(few, torch.tensor([low, high])).tolist()
    return first, second


def window(image: Tensor, low: float, high: float) -> Tensor:
    """Grey values from `low` to `high` stretched to [0, 1], clipped."""
    return ((image - low) / max(high - low, 1e-3)).clamp(0, 1)


def grain(dice: Dice, height: int, width: int, channels: int = 1, correlated: float = 0.4) -> Tensor:
    """Noise of unit variance, white or (with probability `correlated`) with a short correlation length."""
    noise = dice.normal(channels, height, width)
    if dice.chance(correlated):
        noise = blur(noise, dice.uniform(0.5, 1.5))
        noise = noise / noise.std()
    return noise


def ct_noise(dice: Dice, height: int, width: int) -> Tensor:
    """Noise of a reconstructed slice, unit variance: high-passed and correlated, with streaks at times."""
    noise = blur(dice.normal(1, height, width), dice.uniform(0.5, 1.1))
    if dice.chance(0.5):  # a ramp filter has no power at low frequencies
        noise = noise - blur(noise, dice.uniform(1.5, 3.0))
    noise = noise / noise.std()
    if dice.chance(0.35):  # photon starvation: lines along a direction
        angle = dice.uniform(0, math.pi)
        y, x = grid(height, width)
        across = y * math.sin(angle) + x * math.cos(angle)
        line = smooth_noise(dice, 1, 512, dice.uniform(20, 120))[0, 0]
        position = ((across + 1.5) * (511 / 3)).long().clamp(0, 511)
        streaks: Tensor = line[position] * smooth_noise(dice, height, width, 3)[0]
        noise = noise + dice.uniform(0.2, 1.0) * streaks
    return noise


def rician(dice: Dice, image: Tensor, sigma: float) -> Tensor:
    """Magnitude of an image with complex noise."""
    return torch.sqrt((image + sigma * dice.normal(*image.shape)) ** 2 + (sigma * dice.normal(*image.shape)) ** 2)


def bias_field(dice: Dice, height: int, width: int) -> Tensor:
    """Multiplicative sensitivity: smooth, and at times falling off from a surface coil."""
    field = torch.exp(dice.uniform(0.05, 0.3) * smooth_noise(dice, height, width, dice.uniform(1, 2.5)))
    if dice.chance(0.3):
        y, x = grid(height, width)
        cy, cx = dice.uniform(-1, 1), dice.uniform(-1, 1)
        field = field * torch.exp(-dice.uniform(0.2, 0.8) * ((y - cy) ** 2 + (x - cx) ** 2))
    return field


def rayleigh(dice: Dice, height: int, width: int, lateral: float, axial: float) -> Tensor:
    """Fully developed speckle of unit mean, correlated over `lateral` columns and `axial` rows."""
    parts = dice.normal(2, max(4, round(height / axial)), max(4, round(width / lateral)))
    smooth = F.interpolate(parts[None], (height, width), mode="bicubic", align_corners=False)
    magnitude = torch.sqrt(smooth[:, 0] ** 2 + smooth[:, 1] ** 2)
    return magnitude / magnitude.mean()


def vignette(dice: Dice, height: int, width: int) -> Tensor:
    """Light that falls off from near the middle, or a dark surround of a round field: ``(h, w)`` in [0, 1]."""
    y, x = grid(height, width)
    radius = torch.sqrt((y - dice.uniform(-0.15, 0.15)) ** 2 + (x - dice.uniform(-0.15, 0.15)) ** 2)
    if dice.chance(0.5):
        return torch.sigmoid((dice.uniform(0.85, 1.3) - radius) / dice.uniform(0.01, 0.15))
    return 1 / (1 + dice.uniform(0.1, 0.9) * radius**2)


def photograph(dice: Dice, image: Tensor) -> Tensor:
    """What a colour camera makes of ``(3, h, w)``: exposure, white balance, blur, noise, clipping."""
    _, height, width = image.shape
    if dice.chance(0.4):
        image = blur(image, dice.log_uniform(0.4, 1.5))
    if dice.chance(0.3):
        image = image * vignette(dice, height, width).clamp(min=0.3)
    gain = dice.log_uniform(0.75, 1.3) * (1 + dice.uniform(0, 0.08) * dice.normal(3, 1, 1))
    image = image * gain + dice.uniform(-0.05, 0.05)
    if dice.chance(0.6):
        image = image + dice.log_uniform(0.003, 0.04) * grain(dice, height, width, 1 if dice.chance(0.5) else 3)
    image = image.clamp(0, 1) ** dice.log_uniform(0.75, 1.35)
    return image.mean(0, keepdim=True).expand(3, -1, -1) if dice.chance(0.08) else image
