"""Scans: CT, MR, PET and X-ray. Each returns its image ``(3, side, side)`` in [0, 1] and the labelled canvas."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.acquisition import bias_field, ct_noise, grain, percentiles, rician, vignette, window
from napari_uncertsam.training.anatomy import oval, section
from napari_uncertsam.training.canvas import Canvas
from napari_uncertsam.training.fields import Dice, blur
from napari_uncertsam.training.shapes import box, capsule, union

#: Typical CT values, in 1000 HU.
CT_TISSUES = {
    "skin": 0.02,
    "fat": -0.1,
    "muscle": 0.055,
    "liver": 0.09,
    "spleen": 0.1,
    "kidney": 0.12,
    "bowel": 0.04,
    "fluid": 0.01,
    "gas": -0.9,
    "lung": -0.8,
    "vessel": 0.12,
    "cortex": 0.9,
    "marrow": 0.2,
    "lesion": 0.045,
    "grey": 0.04,
    "white": 0.028,
}
#: Weightings of MR, relative signal; `any` draws every tissue anew.
MR_WEIGHTINGS = {"t1": 0.4, "t2": 0.3, "any": 0.3}
MR_TISSUES = {
    "t1": {
        "skin": 0.5,
        "fat": 0.95,
        "muscle": 0.38,
        "liver": 0.5,
        "spleen": 0.36,
        "kidney": 0.4,
        "bowel": 0.35,
        "fluid": 0.15,
        "gas": 0.02,
        "lung": 0.05,
        "vessel": 0.2,
        "cortex": 0.05,
        "marrow": 0.8,
        "lesion": 0.3,
        "grey": 0.4,
        "white": 0.52,
    },
    "t2": {
        "skin": 0.3,
        "fat": 0.6,
        "muscle": 0.2,
        "liver": 0.28,
        "spleen": 0.5,
        "kidney": 0.6,
        "bowel": 0.5,
        "fluid": 1.0,
        "gas": 0.02,
        "lung": 0.05,
        "vessel": 0.1,
        "cortex": 0.04,
        "marrow": 0.45,
        "lesion": 0.7,
        "grey": 0.5,
        "white": 0.38,
    },
}
#: CT windows: how often, then ranges of level and width in 1000 HU.
CT_WINDOWS = {"soft": 0.72, "wide": 0.16, "lung": 0.12}
CT_RANGES = {"soft": ((0.02, 0.07), (0.25, 0.5)), "wide": ((0.1, 0.4), (1.0, 2.5)), "lung": ((-0.6, -0.4), (1.0, 1.8))}
XRAY_VIEWS = {"bones": 0.65, "chest": 0.35}


def ct(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """A slice of CT, mostly in a narrow window: organs within a tenth of the grey range of one another."""
    canvas = Canvas(dice, side, side)
    canvas.image.fill_(-1.0)
    tissues = {name: value + dice.uniform(-0.015, 0.015) for name, value in CT_TISSUES.items()}
    tissues["vessel"] = dice.uniform(0.03, 0.25)
    if dice.chance(0.3):  # without contrast, organs are nearly alike
        tissues |= {name: dice.uniform(0.035, 0.065) for name in ("liver", "spleen", "kidney", "bowel", "vessel")}
    section(canvas, tissues, dice.log_uniform(0.004, 0.03))
    if dice.chance(0.4):  # the table
        y, x = canvas.y - dice.uniform(0.75, 0.95), canvas.x
        arc = (y + dice.uniform(-0.2, 0.2) * x**2).abs()
        canvas.put(torch.minimum(dice.uniform(0.006, 0.02) - arc, -100 * (canvas.image[0] + 0.9)), -0.3, 0)
    image = blur(canvas.image, dice.log_uniform(0.4, 1.2)) if dice.chance(0.7) else canvas.image
    noise = dice.log_uniform(0.004, 0.045) * ct_noise(dice, side, side)
    image = image + noise * (0.4 + 0.6 * (image > -0.6))
    level, width = (dice.uniform(*r) for r in CT_RANGES[dice.choice(CT_WINDOWS)])
    image = window(image, level - width / 2, level + width / 2)
    return (1 - image if dice.chance(0.03) else image).expand(3, -1, -1), canvas


def mr(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """A slice of MR: uneven sensitivity, Rician noise, bright fat or bright fluid."""
    canvas = Canvas(dice, side, side)
    weighting = dice.choice(MR_WEIGHTINGS)
    tissues = {name: max(0.02, v * dice.uniform(0.8, 1.2)) for name, v in MR_TISSUES.get(weighting, CT_TISSUES).items()}
    if weighting == "any":
        tissues = {name: dice.uniform(0.05, 1.0) for name in tissues}
        tissues |= {"gas": 0.02, "lung": 0.05, "cortex": dice.uniform(0.02, 0.1)}
    elif dice.chance(0.25):
        tissues["fat"] *= dice.uniform(0.1, 0.4)  # suppressed
    if dice.chance(0.3):  # a contrast agent
        tissues["lesion"], tissues["vessel"] = dice.uniform(0.5, 1.1), dice.uniform(0.6, 1.2)
    section(canvas, tissues, dice.log_uniform(0.015, 0.08))
    image = blur(canvas.image, dice.log_uniform(0.4, 1.5)) if dice.chance(0.7) else canvas.image
    image = rician(dice, image * bias_field(dice, side, side), dice.log_uniform(0.005, 0.08))
    if dice.chance(0.1):  # ghosts along the phase direction
        image = image + dice.uniform(0.03, 0.12) * image.roll(dice.integer(side // 8, side // 2), 2)
    top = percentiles(image)[1] * dice.uniform(0.75, 1.2)
    return window(image, dice.uniform(0, 0.04), top).expand(3, -1, -1) ** dice.log_uniform(0.7, 1.3), canvas


def pet(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Uptake in a body at low resolution: hot lesions and organs on a faint ground, at times inverted."""
    canvas = Canvas(dice, side, side)
    ry, rx = dice.uniform(0.4, 1.0), dice.uniform(0.5, 1.0)
    body = oval(canvas, 0.0, 0.0, ry, rx, 0.0, 0.15)
    canvas.put(body, dice.uniform(0.05, 0.3) * (1 + 0.3 * canvas.noise(5)), 0)
    for _ in range(dice.integer(0, 4)):
        at = (dice.uniform(-0.6, 0.6) * ry, dice.uniform(-0.6, 0.6) * rx)
        r = dice.log_uniform(0.1, 0.3)
        organ = torch.minimum(oval(canvas, *at, r, r * dice.uniform(0.5, 1), dice.uniform(0, 3), 0.2), body)
        canvas.put(organ, dice.uniform(0.15, 0.6) * (1 + 0.2 * canvas.noise(8)))
    for _ in range(dice.integer(1, 5)):
        at = (dice.uniform(-0.65, 0.65) * ry, dice.uniform(-0.65, 0.65) * rx)
        r = dice.log_uniform(0.05, 0.4)
        hot = torch.minimum(oval(canvas, *at, r, r * dice.uniform(0.6, 1), dice.uniform(0, 3), 0.25), body)
        uptake = dice.log_uniform(0.5, 2.5) * (1 + dice.uniform(0, 0.4) * canvas.noise(dice.uniform(5, 14)))
        label = canvas.put(hot, uptake)
        if dice.chance(0.25):  # a cold core
            canvas.put(hot - r * 0.5, dice.uniform(0.2, 0.6), label)
    pixels = max(24, round(side * dice.uniform(0.12, 0.4)))
    coarse = F.interpolate(canvas.image[None], (pixels, pixels), mode="area")[0]
    coarse = blur(coarse, dice.uniform(0.5, 1.2))
    counts = blur(dice.normal(1, pixels, pixels), 0.7) * coarse.clamp(min=0).sqrt()
    coarse = coarse + dice.log_uniform(0.02, 0.15) * counts
    mode = "nearest" if dice.chance(0.15) else "bicubic"
    image = F.interpolate(coarse[None], (side, side), mode=mode)[0]
    image = window(image, 0.0, percentiles(image, 0.5, 0.998)[1] * dice.uniform(0.4, 1.1))
    image = image ** dice.uniform(0.6, 1.2)
    return (1 - image if dice.chance(0.3) else image).expand(3, -1, -1), canvas


def shaft(level: Tensor, radius: float, wall: float) -> Tensor:
    """Length of a ray through a tube of the given radius and wall, from the distance inside its outline."""
    inner = radius - wall
    outside = torch.sqrt((2 * radius * level - level**2).clamp(min=0))
    depth = (level - wall).clamp(min=0)
    return outside - 0.85 * torch.sqrt((2 * inner * depth - depth**2).clamp(min=0))


def xray(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Projection: shapes add up; bones have dense cortices, lungs take away."""
    canvas = Canvas(dice, side, side)
    canvas.image += dice.uniform(0, 0.3) + dice.uniform(0, 0.3) * (canvas.y * dice.uniform(-1, 1) + canvas.x)
    {"bones": bones, "chest": chest}[dice.choice(XRAY_VIEWS)](canvas)
    image = canvas.image + 0.02 * canvas.noise(dice.log_uniform(10, 60))
    image = blur(image, dice.log_uniform(0.4, 1.6)) + dice.log_uniform(0.004, 0.03) * grain(dice, side, side)
    low, high = percentiles(image, 0.005, 0.995)
    image = window(image, low, high + dice.uniform(0, 0.3)) ** dice.log_uniform(0.6, 1.5)
    if dice.chance(0.2):
        image = image * vignette(dice, side, side)
    return (1 - image if dice.chance(0.1) else image).expand(3, -1, -1), canvas


def own(canvas: Canvas, level: Tensor, thickness: Tensor) -> int:
    """Add `thickness` to the projection; `level` owns its pixels from now on."""
    canvas.image += thickness
    canvas.count += 1
    canvas.labels[level > 0] = canvas.count
    return canvas.count


def bones(canvas: Canvas) -> None:
    """Long bones with heads in soft tissue, overlapping at joints; flat bones behind."""
    dice = canvas.dice
    cy, cx, ry, rx = (dice.uniform(*span) for span in ((-0.4, 0.4), (-0.4, 0.4), (0.6, 1.6), (0.6, 1.6)))
    flesh = oval(canvas, cy, cx, ry, rx, 0.0, 0.3)
    canvas.image += dice.uniform(0.1, 0.35) * torch.sqrt((flesh + 0.02).clamp(min=0)) * (1 + 0.05 * canvas.noise(6))
    for _ in range(dice.integer(0, 3)):  # pelvis, scapula
        r = dice.uniform(0.3, 0.7)
        flat = canvas.shape(dice.uniform(-0.7, 0.7), dice.uniform(-0.7, 0.7), r, "ring" if dice.chance(0.4) else "star")
        rim = torch.exp(-((flat / dice.uniform(0.01, 0.04)) ** 2)) * (flat > 0)
        dense = dice.uniform(0.1, 0.3)
        own(canvas, flat, dense * (torch.sigmoid(flat / canvas.softness) * (0.8 + 0.1 * canvas.noise(20)) + rim))
    for _ in range(dice.integer(1, 4)):
        r, angle, length = dice.log_uniform(0.06, 0.2), dice.uniform(0, math.pi), dice.uniform(0.4, 1.4)
        cy, cx = dice.uniform(-0.5, 0.5), dice.uniform(-0.5, 0.5)
        dy, dx = length * math.sin(angle) / 2, length * math.cos(angle) / 2
        ends = ((cy - dy, cx - dx), (cy + dy, cx + dx))
        wide = r * dice.uniform(1.0, 1.7)
        stem = canvas.level(partial(capsule, start=ends[0], end=ends[1], r0=wide, r1=r))
        ball = oval(
            canvas, ends[0][0] + dice.uniform(-1, 1) * r, ends[0][1] + dice.uniform(-1, 1) * r, wide, wide * 1.1
        )
        level = union([stem, ball])
        thick = torch.maximum(shaft(stem, wide, wide * dice.uniform(0.15, 0.4)), 0.8 * shaft(ball, wide, 0.04))
        own(canvas, level, dice.uniform(1.2, 3.0) * thick * (1 + 0.06 * canvas.noise(dice.uniform(20, 60))))
    if dice.chance(0.15):  # an implant
        at = (dice.uniform(-0.4, 0.4), dice.uniform(-0.4, 0.4))
        half, turn = (dice.uniform(0.1, 0.4), dice.uniform(0.02, 0.05)), dice.uniform(0, 3)
        metal = canvas.level(partial(box, half_y=half[0], half_x=half[1], angle=turn), *at)
        canvas.put(metal, float(canvas.image.max()) + 0.1)


def chest(canvas: Canvas) -> None:
    """Dark lungs, the heart's shadow, clavicles and ribs across both."""
    dice = canvas.dice
    canvas.image += dice.uniform(0.3, 0.7)
    ry, rx = dice.uniform(0.55, 0.8), dice.uniform(0.28, 0.4)
    for side in (-1, 1):
        lung = oval(canvas, dice.uniform(-0.1, 0.05), side * dice.uniform(0.38, 0.5), ry, rx, side * 0.15, 0.15)
        own(canvas, lung, -dice.uniform(0.3, 0.6) * torch.sigmoid(lung / dice.uniform(0.01, 0.04)))
    heart = oval(canvas, dice.uniform(0.15, 0.35), dice.uniform(-0.05, 0.2), dice.uniform(0.25, 0.4), 0.33, 0.6, 0.15)
    own(canvas, heart, dice.uniform(0.2, 0.45) * torch.sigmoid(heart / 0.015))
    gap, bend = dice.uniform(0.11, 0.2), dice.uniform(0.2, 0.7)
    run = canvas.y - bend * (canvas.x.abs() - 0.4).abs() ** 1.5
    band = torch.sin(run * (2 * math.pi / gap)) - 0.3
    canvas.image += dice.uniform(0.05, 0.15) * torch.sigmoid(band * 8)
    spine = torch.sigmoid((dice.uniform(0.07, 0.12) - canvas.x.abs()) / 0.02)
    canvas.image += 0.25 * spine * (1 + 0.3 * torch.sin(canvas.y * 30))
    for _ in range(dice.integer(0, 3)):  # nodules, and devices
        at, r = (dice.uniform(-0.5, 0.5), dice.uniform(-0.6, 0.6)), dice.log_uniform(0.04, 0.16)
        spot = oval(canvas, *at, r, r * dice.uniform(0.7, 1), 0.0, 0.2)
        own(canvas, spot, dice.uniform(0.12, 0.4) * torch.sigmoid(spot / (r * 0.15)))
