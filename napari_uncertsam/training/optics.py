"""Dermoscopy, endoscopy, microscopy and ultrasound.

Each returns its image ``(3, side, side)`` in [0, 1] and the labelled canvas.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from napari_uncertsam.training.acquisition import grain, percentiles, photograph, rayleigh, vignette, window
from napari_uncertsam.training.anatomy import oval
from napari_uncertsam.training.canvas import Canvas
from napari_uncertsam.training.fields import Dice, blur
from napari_uncertsam.training.shapes import lobe

STAINS = {"fluorescence": 0.45, "stained": 0.35, "phase": 0.2}
FRAMES = {"full": 0.5, "fan": 0.35, "sector": 0.15}


def tint(dice: Dice, red: float, green: float, blue: float, vary: float = 0.08) -> Tensor:
    """A colour near the given one: ``(3, 1, 1)``."""
    return torch.tensor([red, green, blue])[:, None, None] + vary * dice.normal(3, 1, 1)


def relief(height: Tensor, dice: Dice, pixel: float) -> Tensor:
    """Lambertian shading ``(1, h, w)``, about 1 on the flat, of a height field in units of half the frame."""
    dy, dx = torch.gradient(height)
    dy, dx = dy / pixel, dx / pixel
    angle, elevation = dice.uniform(0, 2 * math.pi), dice.uniform(0.6, 1.3)
    light = (math.cos(elevation) * math.sin(angle), math.cos(elevation) * math.cos(angle), math.sin(elevation))
    lit = (light[2] - dy * light[0] - dx * light[1]) / torch.sqrt(1 + dy**2 + dx**2)
    return (lit / light[2]).clamp(0, 1.8)[None]


def highlights(canvas: Canvas, shine: Tensor, share: float) -> None:
    """White specks where `shine` ``(h, w)`` is in its top `share`."""
    few = shine.flatten()[:: max(1, shine.numel() // 4096)]
    cut = torch.quantile(few, 1 - share)
    canvas.image += torch.sigmoid((shine - cut) / (0.1 * few.std() + 1e-6)) * canvas.dice.uniform(0.3, 0.9)


def dermoscopy(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """A pigmented lesion of several colours and a soft outline on skin, with hairs, glints and dark corners."""
    canvas = Canvas(dice, side, side, 3)
    skin = tint(dice, 0.8, 0.62, 0.55, 0.07)
    canvas.image = skin + 0.03 * canvas.noise(3) + dice.uniform(0, 0.04) * canvas.noise(dice.uniform(20, 80))
    pigment = skin * tint(dice, 0.7, 0.52, 0.42, 0.1).clamp(0.15, 0.95)
    for _ in range(1 if dice.chance(0.85) else dice.integer(2, 5)):
        r, at = dice.log_uniform(0.12, 0.75), (dice.uniform(-0.3, 0.3), dice.uniform(-0.3, 0.3))
        level = canvas.shape(*at, r, "blob" if dice.chance(0.4) else "star", dice.uniform(0.65, 1.0))
        level = level + 0.06 * r * canvas.noise(dice.uniform(8, 25))[0]
        soft = r * dice.log_uniform(0.02, 0.25)
        opaque = dice.uniform(0.45, 1.0)
        label = canvas.put(level, pigment, softness=soft, opacity=opaque)
        for _ in range(dice.integer(0, 4)):  # other colours within: brown, black, red, blue-grey veil
            inner = level - dice.uniform(0, 0.4) * r + 0.35 * r * canvas.noise(dice.uniform(2, 7))[0]
            other = pigment * dice.uniform(0.4, 1.3) + 0.08 * dice.normal(3, 1, 1)
            canvas.put(torch.minimum(inner, level), other, label, softness=soft, opacity=dice.uniform(0.3, 0.9))
        inside = torch.sigmoid(level / soft)
        net = canvas.noise(dice.uniform(15, 50))[0]
        net = net.abs() if dice.chance(0.5) else torch.sigmoid(4 * (net - 1))  # network or globules
        canvas.image *= 1 - dice.uniform(0, 0.35) * inside * net
    canvas.image = blur(canvas.image, dice.uniform(0.4, 1.2))
    for _ in range(dice.integer(4, 20) if dice.chance(0.45) else 0):
        at, r = (dice.uniform(-1, 1), dice.uniform(-1, 1)), dice.uniform(0.4, 1.2)
        hair = canvas.shape(*at, r, "thread")
        width = hair.amax() - dice.uniform(0.004, 0.015)
        canvas.blend(hair - width, tint(dice, 0.2, 0.13, 0.1, 0.04), softness=canvas.pixel, opacity=0.85)
    if dice.chance(0.2):  # a ruler
        ticks = torch.minimum(torch.sin(canvas.x * 60) - 0.8, 0.05 - (canvas.y - 0.85).abs())
        canvas.blend(ticks, 0.15)
    if dice.chance(0.12):  # a patch or a marker
        sticker = oval(canvas, 0.9 * dice.sign(), 0.9 * dice.sign(), 0.5, 0.5)
        canvas.put(sticker, tint(dice, 0.2, 0.5, 0.75, 0.2), 0)
    if dice.chance(0.3):
        highlights(canvas, canvas.noise(dice.uniform(15, 40))[0], 0.01)
    if dice.chance(0.35):
        canvas.image *= vignette(dice, side, side)
    return photograph(dice, canvas.image), canvas


def endoscopy(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Red mucosa with folds, polyps as bumps of nearly its colour, a light at the camera, wet highlights."""
    canvas = Canvas(dice, side, side, 3)
    mucosa = tint(dice, 0.75, 0.38, 0.3, 0.07)
    folds = torch.zeros(side, side)
    at = (dice.uniform(-0.7, 0.7), dice.uniform(-0.7, 0.7))  # the lumen
    far = torch.sqrt((canvas.y - at[0]) ** 2 + (canvas.x - at[1]) ** 2) + 0.12 * canvas.noise(2.5)[0]
    if dice.chance(0.8):
        folds = 0.06 * torch.sin(far.clamp(min=0.05).log() * dice.uniform(4, 9)).abs()
    height = folds + 0.02 * canvas.noise(4)[0]
    colour = mucosa * (1 + 0.08 * canvas.noise(5) + 0.04 * canvas.noise(dice.uniform(20, 60)))
    veins = (canvas.noise(dice.uniform(6, 12))[0].abs() < 0.06).float()
    canvas.image = colour * (1 - dice.uniform(0, 0.2) * blur(veins[None], 1.0) * tint(dice, 0.5, 1, 1, 0.0))
    for _ in range(dice.integer(1, 4)):
        r, where = dice.log_uniform(0.1, 0.6), (dice.uniform(-0.6, 0.6), dice.uniform(-0.6, 0.6))
        aspect, turn = dice.uniform(0.6, 1.0), dice.uniform(0, 3)
        level = canvas.level(partial(lobe, dice, ry=r, rx=r * aspect, angle=turn, roughness=0.25), *where)
        bump = torch.sqrt((level / r).clamp(0, 1)) * r * dice.uniform(0.3, 0.9)
        height = torch.where(level > 0, height * 0.5 + bump, height)
        tone = mucosa * dice.uniform(0.85, 1.15) + 0.03 * dice.normal(3, 1, 1)
        grainy = 1 + dice.uniform(0, 0.12) * canvas.noise(dice.uniform(15, 50))
        canvas.put(level, tone * grainy, softness=canvas.pixel * dice.uniform(1, 5), opacity=dice.uniform(0.3, 1))
        canvas.image *= 1 - 0.35 * torch.sigmoid((level + 0.03) / 0.015) * (level < 0)  # a dark crease around it
    height = blur(height[None], 1.2)[0]
    canvas.image *= relief(height, dice, canvas.pixel)
    canvas.image *= (0.25 + 1.2 * torch.sigmoid((far - dice.uniform(0.1, 0.4)) / 0.15)).clamp(max=1.3)
    if dice.chance(0.8):
        highlights(canvas, relief(height, dice, canvas.pixel)[0] + 0.3 * canvas.noise(20)[0], dice.uniform(0.003, 0.03))
    if dice.chance(0.5):
        canvas.image *= vignette(dice, side, side)
    return photograph(dice, canvas.image), canvas


def microscopy(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Dense cells or nuclei: bright on dark, stained on bright, or with halos in phase contrast."""
    stain = dice.choice(STAINS)
    canvas = Canvas(dice, side, side, 3 if stain == "stained" else 1)
    colour = tint(dice, 0.45, 0.25, 0.6, 0.12).clamp(0.05, 0.9) if stain == "stained" else dice.uniform(0.3, 0.9)
    ground = tint(dice, 0.9, 0.82, 0.88, 0.05) if stain == "stained" else dice.uniform(0.02, 0.15)
    ground = dice.uniform(0.4, 0.6) if stain == "phase" else ground
    canvas.image += ground + dice.uniform(0, 0.06) * canvas.noise(dice.log_uniform(3, 40), canvas.channels)
    r, aspect, rough = dice.log_uniform(0.05, 0.22), dice.uniform(0.5, 1.0), dice.uniform(0.03, 0.3)
    count = min(90, int(dice.uniform(0.15, 1.1) / r**2 * 0.9) + 2)
    canvas.softness = r * dice.log_uniform(0.04, 0.3)
    out_of_focus, marbling = dice.uniform(0, 0.3), canvas.noise(dice.uniform(0.8, 3) / r)
    for _ in range(count):
        cy, cx, size = dice.uniform(-1.05, 1.05), dice.uniform(-1.05, 1.05), r * dice.log_uniform(0.65, 1.5)
        where = canvas.window(cy, cx, 1.7 * size)
        y, x = canvas.y[where] - cy, canvas.x[where] - cx
        if y.numel() == 0:
            continue
        level = lobe(dice, y, x, size, size * aspect * dice.uniform(0.8, 1.2), dice.uniform(0, 3.2), rough)
        shade = colour * dice.log_uniform(0.5, 1.4) * (1 + 0.12 * marbling[:, where[0], where[1]])
        if dice.chance(out_of_focus):
            canvas.put(level, shade, 0, where=where, softness=size, opacity=0.4)
            continue
        if stain == "phase":  # halo, then a body near the ground's grey
            halo = torch.exp(-(((level + 0.1 * size) / (0.12 * size)) ** 2))
            canvas.image[:, where[0], where[1]] += 0.3 * halo
            shade = ground + dice.uniform(-0.2, 0.1) + 0.08 * marbling[:, where[0], where[1]]
        label = canvas.put(level, shade, where=where, opacity=dice.uniform(0.7, 1.0))
        if dice.chance(0.3):  # a nucleus or nucleolus
            inner = level - size * dice.uniform(0.3, 0.6)
            canvas.put(inner, shade * dice.uniform(0.5, 1.3), label, where=where)
    image = blur(canvas.image, dice.log_uniform(0.4, 1.5)) * (1 + dice.uniform(0, 0.25) * canvas.noise(1.5))
    image = image + dice.log_uniform(0.005, 0.06) * grain(dice, side, side, canvas.channels)
    if stain == "stained":
        return photograph(dice, image), canvas
    low, high = percentiles(image, 0.005, 0.995)
    image = window(image, low - 0.02, high * dice.uniform(0.8, 1.3)) ** dice.log_uniform(0.6, 1.5)
    image = image.expand(3, -1, -1)
    return (image * tint(dice, 0.2, 0.8, 0.3, 0.3).clamp(0, 1) if dice.chance(0.12) else image), canvas


def fan(canvas: Canvas, narrow: bool) -> Tensor:
    """Level of the field of view of a curved or a sector probe."""
    dice = canvas.dice
    apex, inner = -dice.uniform(1.05, 1.8) if not narrow else -0.95, 0.05 if narrow else dice.uniform(0.1, 0.6)
    y, x = canvas.y - apex, canvas.x - dice.uniform(-0.05, 0.05)
    radius = torch.sqrt(y**2 + x**2)
    open_angle = dice.uniform(0.5, 0.85)
    level = torch.minimum(radius - inner, 0.95 - apex - radius)
    return torch.minimum(level, (open_angle - torch.atan2(x.abs(), y)) * 2)


def ultrasound(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Speckle whose mean is the tissue's echo; dark lesions and cysts, bright interfaces, shadows, a fan of view."""
    canvas = Canvas(dice, side, side)
    depth = canvas.y + dice.uniform(0, 0.2) * canvas.noise(2)[0]
    layers = torch.sin(depth * dice.uniform(2, 10) + dice.uniform(0, 6)) * dice.uniform(0, 0.6)
    canvas.image += torch.exp(layers + 0.25 * canvas.noise(dice.uniform(2, 8)) + 0.2 * canvas.noise(25)) * 0.35
    canvas.softness = dice.log_uniform(0.01, 0.06)
    loss = torch.zeros(side, side)
    for _ in range(dice.integer(1, 5)):
        r, at = dice.log_uniform(0.08, 0.5), (dice.uniform(-0.6, 0.6), dice.uniform(-0.6, 0.6))
        level = oval(canvas, *at, r * dice.uniform(0.5, 1.0), r, dice.uniform(-0.5, 0.5), 0.3)
        grey = dice.log_uniform(0.01, 0.15) if dice.chance(0.8) else dice.uniform(0.5, 1.0)
        label = canvas.put(level, grey * torch.exp(0.3 * canvas.noise(12)))
        if dice.chance(0.5):  # a bright wall, strongest where it faces the probe
            width = dice.uniform(0.008, 0.03)
            facing = 0.4 + 0.6 * torch.sigmoid((at[0] - canvas.y).abs() / r * 3 - 1.5)
            canvas.image += torch.exp(-((level / width) ** 2)) * facing * dice.uniform(0.3, 1.0)
        if dice.chance(0.3):
            part = torch.minimum(level, oval(canvas, at[0], at[1], 0.4 * r, 0.3 * r, 0.0, 0.4))
            canvas.put(part, dice.log_uniform(0.05, 0.6), label)
        if dice.chance(0.6):  # what is behind is in its shadow, or enhanced behind fluid
            behind = (level > 0).float().cumsum(0) * canvas.pixel
            loss = loss + dice.uniform(-1.2, 3.0) * behind * (level <= 0)
    echo = canvas.image * torch.exp(-blur(loss[None], 2.0)) * (1 - dice.uniform(-0.2, 0.4) * canvas.y)
    lateral, axial = dice.uniform(1.2, 4.0), dice.uniform(1.0, 1.8)
    speckle = rayleigh(dice, side, side, lateral, axial).clamp(min=0.05) ** dice.uniform(0.3, 1.0)
    image = echo.clamp(min=1e-3) * speckle + 0.003
    span = dice.uniform(2.5, 5.0)  # dynamic range kept by log compression
    image = window(image.log(), percentiles(image.log(), 0.5, 0.995)[1] - span, percentiles(image.log())[1])
    image = image ** dice.uniform(0.8, 1.8)
    frame = dice.choice(FRAMES)
    if frame != "full":
        field = fan(canvas, frame == "sector")
        image = image * (field > 0)
        canvas.labels[field <= 0] = 0
    return image.expand(3, -1, -1), canvas
