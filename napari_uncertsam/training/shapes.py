"""Shapes as *levels*: ``(h, w)`` float32, positive inside, negative outside, about the distance to the outline.

Lengths are in units of half the frame, so that a soft edge (partial volume) is a sigmoid of the level. A shape of
:data:`SHAPES` is drawn around the origin from ``(dice, y, x, radius, aspect)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_uncertsam.training.fields import Dice, smooth_noise


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


def lobe(dice: Dice, y: Tensor, x: Tensor, ry: float, rx: float, angle: float = 0.0, roughness: float = 0.1) -> Tensor:
    """Ellipse with the given half axes, its outline perturbed by low harmonics: an organ, a body, a cell."""
    u = (y * math.cos(angle) + x * math.sin(angle)) / ry
    v = (-y * math.sin(angle) + x * math.cos(angle)) / rx
    theta, contour = torch.atan2(u, v), torch.ones_like(u)
    for k in range(2, dice.integer(3, 7)):
        contour = contour + roughness * dice.uniform(-1, 1) / (k - 1) * torch.cos(k * theta + dice.uniform(0, 6.3))
    return (contour.clamp(min=0.15) - torch.sqrt(u**2 + v**2)) * min(ry, rx)


def capsule(y: Tensor, x: Tensor, start: tuple[float, float], end: tuple[float, float], r0: float, r1: float) -> Tensor:
    """Straight limb from `start` to `end` ``(y, x)`` whose radius goes from `r0` to `r1`."""
    dy, dx = end[0] - start[0], end[1] - start[1]
    t = (((y - start[0]) * dy + (x - start[1]) * dx) / (dy * dy + dx * dx + 1e-9)).clamp(0, 1)
    return r0 + (r1 - r0) * t - torch.sqrt((y - start[0] - t * dy) ** 2 + (x - start[1] - t * dx) ** 2)


def box(y: Tensor, x: Tensor, half_y: float, half_x: float, angle: float = 0.0) -> Tensor:
    """Rectangle with the given half sides, turned by `angle`."""
    u, v = y * math.cos(angle) + x * math.sin(angle), -y * math.sin(angle) + x * math.cos(angle)
    return torch.minimum(half_y - u.abs(), half_x - v.abs())


def union(levels: Sequence[Tensor]) -> Tensor:
    """Level of the union."""
    return torch.stack(list(levels)).amax(0)


def thread(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Long thin curve of slowly varying direction: a cable, a catheter, a small vessel."""
    phase, bends = dice.uniform(0, 2 * math.pi), dice.uniform(1.0, 5.0)
    angle, sway = dice.uniform(0, 2 * math.pi), radius * dice.uniform(0.1, 0.45)
    u, v = y * math.cos(angle) + x * math.sin(angle), -y * math.sin(angle) + x * math.cos(angle)
    wave = sway * torch.sin(u / radius * bends + phase)
    slope = sway / radius * bends * torch.cos(u / radius * bends + phase)
    thickness = radius * dice.log_uniform(0.03, 0.12) * (1 - dice.uniform(0, 0.5) * (u / radius).abs().clamp(max=1))
    return torch.minimum(thickness - (v - wave).abs() / torch.sqrt(1 + slope**2), 1.3 * radius - u.abs())


def annulus(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Ellipse or rounded frame with one or several holes."""
    angle = dice.uniform(0, math.pi)
    outer = lobe(dice, y, x, radius, radius * aspect, angle, 0.1)
    if dice.chance(0.5):
        return torch.minimum(outer, radius * aspect * dice.uniform(0.1, 0.45) - outer)
    for _ in range(dice.integer(2, 6)):
        dy, dx, r = (radius * dice.uniform(*span) for span in ((-0.5, 0.5), (-0.5, 0.5), (0.08, 0.25)))
        outer = torch.minimum(outer, -lobe(dice, y - dy, x - dx * aspect, r, r * dice.uniform(0.6, 1), 0.0, 0.2))
    return outer


def cup(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Body with a handle at its side."""
    tilt = dice.uniform(-0.4, 0.4)
    u, v = y * math.cos(tilt) + x * math.sin(tilt), -y * math.sin(tilt) + x * math.cos(tilt)
    width = radius * max(0.5, aspect) * 0.8
    body = torch.minimum(radius * 0.85 - u.abs(), width * (1 - dice.uniform(0, 0.35) * (u / radius)) - v.abs())
    reach = radius * dice.uniform(0.3, 0.5)
    rim = torch.sqrt((u / dice.uniform(1.0, 1.4)) ** 2 + (v - width) ** 2) - reach
    return union([body, radius * dice.uniform(0.05, 0.12) - rim.abs()])


def bottle(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Solid of revolution seen from the side: a bottle, a vase, a glass; at a random tilt."""
    tilt = dice.uniform(-0.3, 0.3) if dice.chance(0.6) else dice.uniform(-math.pi, math.pi)
    u, v = (y * math.cos(tilt) + x * math.sin(tilt)) / radius, (-y * math.sin(tilt) + x * math.cos(tilt)) / radius
    base, neck = dice.uniform(0.25, 0.55), dice.uniform(0.1, 0.5)
    where, steep = dice.uniform(-0.6, 0.2), dice.uniform(4, 20)
    profile = base * (neck + (1 - neck) * torch.sigmoid((u - where) * steep))
    profile = profile + dice.uniform(0, 0.12) * torch.cos(u * dice.uniform(1, 5) + dice.uniform(0, 6.3))
    return torch.minimum(profile.clamp(min=0.06) - v.abs(), 1 - u.abs()) * radius


def figure(dice: Dice, y: Tensor, x: Tensor, radius: float, aspect: float) -> Tensor:
    """Trunk with a head, limbs and at times a tail: a person, an animal, a chair."""
    return union(figure_parts(dice, y, x, radius))


def figure_parts(dice: Dice, y: Tensor, x: Tensor, radius: float) -> list[Tensor]:
    """Levels of the parts of a :func:`figure`, the trunk first."""
    lying = dice.chance(0.5)
    angle = dice.uniform(-0.3, 0.3) + (math.pi / 2 if lying else 0.0)
    u, v = y * math.cos(angle) + x * math.sin(angle), -y * math.sin(angle) + x * math.cos(angle)
    length, girth = radius * dice.uniform(0.35, 0.5), radius * dice.uniform(0.14, 0.28)
    parts = [lobe(dice, u, v, length, girth, 0.0, 0.15)]
    head = (-length - girth * dice.uniform(0.2, 0.8), girth * dice.uniform(-0.8, 0.8))
    parts.append(lobe(dice, u - head[0], v - head[1], girth * dice.uniform(0.6, 1), girth * dice.uniform(0.5, 0.9)))
    thick = girth * dice.uniform(0.15, 0.4)
    for end, side in ((-0.6, -1), (-0.6, 1), (0.8, -1), (0.8, 1)):
        side = 1 if lying else side
        hip = (end * length, side * girth * 0.5)
        knee = (hip[0] + length * dice.uniform(-0.3, 0.6), hip[1] + side * girth * dice.uniform(0.3, 1.6))
        foot = (knee[0] + length * dice.uniform(-0.1, 0.7), knee[1] + side * girth * dice.uniform(-0.2, 1.2))
        bones = [capsule(u, v, hip, knee, thick * 1.3, thick), capsule(u, v, knee, foot, thick, thick * 0.7)]
        parts.append(union(bones))
    return parts


#: Shapes and how often each is drawn where nothing else is asked for.
SHAPES = {
    "star": star,
    "polygon": polygon,
    "tube": tube,
    "blob": blob,
    "ring": ring,
    "thread": thread,
    "annulus": annulus,
    "cup": cup,
    "bottle": bottle,
    "figure": figure,
}
SHAPE_WEIGHTS = {
    "star": 0.42,
    "polygon": 0.12,
    "tube": 0.08,
    "blob": 0.14,
    "ring": 0.06,
    "thread": 0.03,
    "annulus": 0.04,
    "cup": 0.03,
    "bottle": 0.04,
    "figure": 0.04,
}
