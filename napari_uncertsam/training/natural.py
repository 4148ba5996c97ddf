"""Everyday photographs, camouflage, glass and views from above.

Each returns its image ``(3, side, side)`` in [0, 1] and the labelled canvas.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.acquisition import photograph
from napari_uncertsam.training.canvas import Canvas
from napari_uncertsam.training.fields import Dice, blur, texture
from napari_uncertsam.training.optics import relief, tint
from napari_uncertsam.training.photographs import photograph_crop
from napari_uncertsam.training.shapes import box, figure_parts, star, union

#: Outlines of everyday things.
THINGS = {
    "star": 0.2,
    "polygon": 0.16,
    "bottle": 0.12,
    "cup": 0.1,
    "figure": 0.2,
    "annulus": 0.06,
    "blob": 0.06,
    "tube": 0.06,
    "thread": 0.04,
}
#: What an object is made of.
MATERIALS = {"photograph": 0.35, "plain": 0.4, "patterned": 0.25}
GLASSES = {"bottle": 0.5, "cup": 0.2, "star": 0.15, "polygon": 0.15}


def stuff(canvas: Canvas) -> Tensor:
    """Appearance of one part: ``(3, h, w)``."""
    dice, kind = canvas.dice, canvas.dice.choice(MATERIALS)
    if kind == "photograph":
        return photograph_crop(dice, canvas.height, canvas.width)
    mean = torch.rand(3, 1, 1, generator=dice.generator) * 0.9
    if dice.chance(0.5):  # most things are not vivid
        mean = mean.mean() + (mean - mean.mean()) * dice.uniform(0, 0.4)
    if kind == "plain":
        return mean + dice.uniform(0, 0.05) * canvas.noise(dice.log_uniform(3, 60))
    return mean + dice.uniform(0.05, 0.25) * texture(dice, canvas.height, canvas.width)


def backdrop(canvas: Canvas) -> None:
    """A photograph, or a room or landscape of a few large regions."""
    dice = canvas.dice
    canvas.image = photograph_crop(dice, canvas.height, canvas.width) if dice.chance(0.55) else stuff(canvas)
    canvas.image = canvas.image.expand(3, -1, -1).clone()
    if dice.chance(0.5):
        horizon = canvas.y - dice.uniform(-0.5, 0.5) + dice.uniform(-0.4, 0.4) * canvas.x
        canvas.put(horizon, stuff(canvas), 0)
    for _ in range(dice.integer(0, 4)):
        turn, at = dice.uniform(-0.2, 0.2), (dice.uniform(-1, 1), dice.uniform(-1, 1))
        half = (dice.uniform(0.05, 0.7), dice.uniform(0.05, 0.7))
        rectangle = canvas.level(partial(box, half_y=half[0], half_x=half[1], angle=turn), *at)
        canvas.put(rectangle, stuff(canvas), 0)
    if dice.chance(0.3):  # a shallow depth of field
        canvas.image = blur(canvas.image, dice.log_uniform(1.0, 4.0))


def shadow(canvas: Canvas, level: Tensor, radius: float) -> None:
    """Darken the ground beside a shape, on the side away from a light."""
    dice = canvas.dice
    shift = [round(dice.uniform(-0.3, 0.3) * radius / canvas.pixel) for _ in "yx"]
    cast = torch.sigmoid(level.roll(shift, (0, 1)) / (radius * dice.log_uniform(0.02, 0.3)))
    canvas.image *= 1 - dice.uniform(0.15, 0.6) * cast


def round_off(canvas: Canvas, level: Tensor, radius: float) -> None:
    """Shade the inside of a shape as a bump, with a highlight at times."""
    dice = canvas.dice
    rise = (level / radius).clamp(0, 1)
    height = torch.sqrt(rise * (2 - rise)) * radius * dice.uniform(0.3, 1.0)
    lit = relief(height, dice, canvas.pixel)
    inside = (level > 0).float()
    canvas.image *= 1 + inside * (lit - 1) * dice.uniform(0.3, 0.9)
    if dice.chance(0.4):
        canvas.image += inside * (lit / 1.5).clamp(0, 1) ** dice.log_uniform(8, 40) * dice.uniform(0.2, 0.8)


def thing(canvas: Canvas, radius: float, cy: float, cx: float) -> None:
    """One object: a shadow, an outline of one or several parts and materials, shading."""
    dice, kind = canvas.dice, canvas.dice.choice(THINGS)
    parts = figure_levels(canvas, radius, cy, cx) if kind == "figure" else [canvas.shape(cy, cx, radius, kind)]
    whole = union(parts)
    if dice.chance(0.5):
        shadow(canvas, whole, radius)
    label = canvas.put(whole, stuff(canvas))
    for number, level in enumerate(parts[1:]):
        if dice.chance(0.5):
            skin = number == 0 and dice.chance(0.5)  # of a head
            canvas.put(level, dice.uniform(0.5, 1.2) * tint(dice, 0.8, 0.6, 0.5) if skin else stuff(canvas), label)
    for _ in range(dice.integer(1, 4) if dice.chance(0.5) else 0):  # markings, lids, clothes
        dy, dx = (radius * dice.uniform(-0.6, 0.6) for _ in "yx")
        inner = canvas.shape(cy + dy, cx + dx, radius * dice.uniform(0.2, 0.7))
        canvas.put(torch.minimum(inner, whole), stuff(canvas), label)
    if dice.chance(0.65):
        round_off(canvas, whole, radius * dice.uniform(0.15, 0.8))


def figure_levels(canvas: Canvas, radius: float, cy: float, cx: float) -> list[Tensor]:
    """Levels of the parts of a figure on the canvas, the trunk first."""
    y, x = canvas.coarse_y - cy, canvas.coarse_x - cx
    levels = torch.stack(figure_parts(canvas.dice, y, x, radius))
    if canvas.halved:
        levels = F.interpolate(levels[None], (canvas.height, canvas.width), mode="bilinear", align_corners=False)[0]
    return list(levels)


def everyday(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """A few things in front of a photograph or a room, the nearer over the farther."""
    canvas = Canvas(dice, side, side, 3)
    backdrop(canvas)
    for _ in range(dice.integer(1, 7)):
        thing(canvas, dice.log_uniform(0.12, 0.9), dice.uniform(-0.7, 0.8), dice.uniform(-0.8, 0.8))
    return photograph(dice, canvas.image), canvas


def camouflage(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Objects in the texture of their ground: only its scale, direction or phase differs, or a seam shows."""
    canvas = Canvas(dice, side, side, 3)
    ground = photograph_crop(dice, side, side) if dice.chance(0.75) else stuff(canvas)
    canvas.image = ground.expand(3, -1, -1).clone()
    for _ in range(dice.integer(1, 4)):
        radius, cy, cx = dice.log_uniform(0.2, 0.7), dice.uniform(-0.5, 0.5), dice.uniform(-0.5, 0.5)
        level = canvas.shape(cy, cx, radius, dice.choice({"star": 0.4, "figure": 0.35, "blob": 0.25}))
        angle, scale = dice.uniform(-math.pi, math.pi), dice.log_uniform(0.5, 2.0)
        cos, sin, flip = math.cos(angle) * scale, math.sin(angle) * scale, 1 if dice.chance(0.5) else -1
        turn = torch.tensor([[cos, -sin, dice.uniform(-1, 1)], [sin * flip, cos * flip, dice.uniform(-1, 1)]])
        where = F.affine_grid(turn[None], [1, 3, side, side], align_corners=False)
        moved = F.grid_sample(ground.expand(3, -1, -1)[None], where, padding_mode="reflection", align_corners=False)[0]
        weight = (level > 0).float()
        amount = weight.sum().clamp(min=1)
        here = (ground * weight).sum((1, 2), keepdim=True) / amount
        there = (moved * weight).sum((1, 2), keepdim=True) / amount
        moved = (moved - there) * dice.uniform(0.8, 1.2) + here + dice.uniform(0.0, 0.06) * dice.normal(3, 1, 1)
        if dice.chance(0.4):
            shadow(canvas, level, radius * 0.3)
        canvas.put(level, moved)
        if dice.chance(0.5):
            round_off(canvas, level, radius * 0.5)
    return photograph(dice, canvas.image), canvas


def glass(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Glasses and bottles: the background bent, a little brighter or darker, with rims and reflections."""
    canvas = Canvas(dice, side, side, 3)
    backdrop(canvas)
    for _ in range(dice.integer(0, 3)):
        thing(canvas, dice.log_uniform(0.15, 0.5), dice.uniform(-0.8, 0.8), dice.uniform(-0.8, 0.8))
    for _ in range(dice.integer(1, 5)):
        radius = dice.log_uniform(0.2, 0.8)
        level = canvas.shape(dice.uniform(-0.5, 0.5), dice.uniform(-0.6, 0.6), radius, dice.choice(GLASSES), 0.8)
        bend(canvas, level, radius)
    return photograph(dice, canvas.image), canvas


def bend(canvas: Canvas, level: Tensor, radius: float) -> None:
    """Make a shape of glass: refraction by the slope of its wall, absorption, rims, streaks of light."""
    dice = canvas.dice
    wall = radius * dice.log_uniform(0.05, 0.4)
    rise = (level / wall).clamp(0, 1)
    height = blur((torch.sqrt(rise * (2 - rise)) * wall)[None], 1.5)[0]
    dy, dx = (g / canvas.pixel for g in torch.gradient(height))
    power = dice.uniform(-0.25, 0.25)
    where = torch.stack([canvas.x + power * dx.clamp(-2, 2), canvas.y + power * dy.clamp(-2, 2)], -1)
    seen = F.grid_sample(canvas.image[None], where[None], padding_mode="reflection", align_corners=False)[0]
    if dice.chance(0.3):
        seen = blur(seen, dice.uniform(0.7, 2.5))
    seen = seen * dice.uniform(0.75, 1.1) * (1 + 0.04 * dice.normal(3, 1, 1)) + dice.uniform(0, 0.1)
    slope = (torch.sqrt(dy**2 + dx**2) / 2).clamp(0, 1)
    seen = seen + slope * dice.uniform(-0.35, 0.35)
    label = canvas.put(level, seen)
    width = canvas.pixel * dice.uniform(0.7, 3)
    for at in (1.0, dice.uniform(2, 8)):  # the outline, and the inner face of the wall
        line = torch.exp(-(((level - at * width) / width) ** 2)) * (level > 0)
        canvas.image += line * dice.uniform(-0.3, 0.5)
    for _ in range(dice.integer(1, 5)):
        streak = torch.minimum(
            canvas.shape(*streak_at(canvas, label), radius * dice.uniform(0.1, 0.3), "tube"), level - 0.02
        )
        canvas.blend(streak, 1.0, softness=0.02, opacity=dice.uniform(0.1, 0.8))


def streak_at(canvas: Canvas, label: int) -> tuple[float, float]:
    """A random place inside an object (the middle where none of it is visible)."""
    flat = torch.nonzero(canvas.labels.flatten() == label)[:, 0]
    if len(flat) == 0:
        return 0.0, 0.0
    row, column = divmod(int(flat[canvas.dice.integer(0, len(flat))]), canvas.width)
    return float(canvas.y[row, 0]), float(canvas.x[0, column])


def aerial(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """Roofs with two slopes and cast shadows, roads, cars and trees, all along one direction."""
    canvas = Canvas(dice, side, side, 3)
    ground = "grass" if dice.chance(0.4) else "gravel"
    base = tint(dice, 0.4, 0.42, 0.36, 0.04)
    canvas.image = base + 0.5 * (photograph_crop(dice, side, side, ground).mean(0) - 0.45) + 0.07 * canvas.noise(4)
    north, sun = dice.uniform(0, math.pi), (dice.uniform(-0.08, 0.08), dice.uniform(-0.08, 0.08))
    u = canvas.y * math.cos(north) + canvas.x * math.sin(north)
    v = -canvas.y * math.sin(north) + canvas.x * math.cos(north)
    for _ in range(dice.integer(0, 4)):
        along, at, half = (u if dice.chance(0.5) else v), dice.uniform(-0.9, 0.9), dice.uniform(0.04, 0.14)
        road = half - (along - at + 0.03 * canvas.noise(1.5)[0]).abs()
        canvas.put(road, tint(dice, 0.45, 0.45, 0.47, 0.05) + 0.03 * canvas.noise(50), None if dice.chance(0.3) else 0)
        if dice.chance(0.4):
            canvas.put(torch.minimum(0.006 - (road - half).abs(), torch.sin(40 * u)), 0.85, 0)
    for _ in range(dice.integer(0, 14)):
        cars(canvas, u, v)
    for _ in range(dice.integer(2, 12)):
        roof(canvas, u, v, sun)
    for _ in range(dice.integer(0, 25)):
        r, cy, cx = dice.log_uniform(0.03, 0.14), dice.uniform(-1, 1), dice.uniform(-1, 1)
        where = canvas.window(cy, cx, 2 * r)
        if canvas.y[where].numel() == 0:
            continue
        level = star(dice, canvas.y[where] - cy, canvas.x[where] - cx, r, dice.uniform(0.7, 1))
        lit = 1 + 0.8 * (canvas.y[where] - cy) / r * (1 if sun[0] < 0 else -1) * 0.4
        leaves = tint(dice, 0.2, 0.3, 0.15, 0.05) * (lit + 0.25 * dice.normal(*level.shape))
        canvas.put(level, leaves, None if dice.chance(0.5) else 0, where=where)
    image = blur(canvas.image, dice.log_uniform(0.4, 1.3))
    return photograph(dice, image), canvas


def cars(canvas: Canvas, u: Tensor, v: Tensor) -> None:
    """One parked car."""
    dice = canvas.dice
    level = box(u - dice.uniform(-1, 1), v - dice.uniform(-1, 1), 0.035, 0.018)
    label = canvas.put(level, torch.rand(3, 1, 1, generator=dice.generator))
    canvas.put(torch.minimum(level, 0.012 - (level - 0.012).abs()) - 0.006, 0.15, label)


def roof(canvas: Canvas, u: Tensor, v: Tensor, sun: tuple[float, float]) -> None:
    """A rectangular or L-shaped roof whose slopes differ in shade, with chimneys and a cast shadow."""
    dice = canvas.dice
    a, b = u - dice.uniform(-0.9, 0.9), v - dice.uniform(-0.9, 0.9)
    if dice.chance(0.5):
        a, b = b, a
    long, wide = dice.log_uniform(0.1, 0.4), dice.log_uniform(0.07, 0.2)
    level, slope = box(a, b, long, wide), b
    if dice.chance(0.35):
        reach = dice.uniform(0.1, 0.3)
        wing = box(a - (long - wide), b - reach, wide, reach + wide)
        slope = torch.where(wing > level, a - (long - wide), b)
        level = torch.maximum(level, wing)
    shift = [round(s / canvas.pixel) for s in sun]
    canvas.image *= 1 - 0.5 * torch.sigmoid(level.roll(shift, (0, 1)) / canvas.softness)
    tiles = (dice.uniform(0.5, 1.9) * tint(dice, 0.5, 0.45, 0.43, 0.06)).clamp(0.1, 0.95)
    flat = dice.chance(0.3)
    shade = 1.0 if flat else 1 + dice.uniform(0.1, 0.4) * torch.where(slope > 0, 1.0, -1.0)
    fine = torch.sin(slope * dice.uniform(100, 300)) * dice.uniform(0, 0.06)
    label = canvas.put(level, tiles * (shade + fine + 0.04 * canvas.noise(20)), softness=canvas.pixel)
    for _ in range(dice.integer(0, 4)):
        spot = box(a - dice.uniform(-0.7, 0.7) * long, b - dice.uniform(-0.6, 0.6) * wide, 0.02, 0.025)
        canvas.put(torch.minimum(spot, level), dice.uniform(0.1, 0.9), label, softness=canvas.pixel)
