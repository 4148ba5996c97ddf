"""Generic layouts: what a painter puts where, of no modality in particular."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_uncertsam.training.acquisition import acquire
from napari_uncertsam.training.canvas import Canvas, Painter
from napari_uncertsam.training.fields import Dice, smooth_noise

LAYOUTS = {"scattered": 0.3, "organs": 0.33, "cells": 0.12, "single": 0.25}


def generic(dice: Dice, side: int) -> tuple[Tensor, Canvas]:
    """A domain-randomised scene: image ``(3, side, side)`` in [0, 1], and the canvas with its labels."""
    painter = Painter(dice, side, side)
    painter.fill(painter.material(natural=0.35))
    layout = dice.choice(LAYOUTS)
    if layout == "organs":
        organs(painter)
    elif layout == "cells":
        cells(painter)
    elif layout == "single":
        scattered(painter, dice.integer(0, 4), 0.1, 0.5)
        scattered(painter, 1, 0.3, 0.7)
    else:
        scattered(painter, dice.integer(2, 11), 0.05, 0.5)
    return acquire(dice, painter.image, painter.colour), painter


def scattered(painter: Painter, count: int, low: float, high: float) -> None:
    """Objects of radius `low` to `high` anywhere, the later over the earlier."""
    dice = painter.dice
    for _ in range(count):
        radius = dice.log_uniform(low, high)
        cy, cx = dice.uniform(-0.85, 0.85), dice.uniform(-0.85, 0.85)
        level = painter.shape(cy, cx, radius)
        label = painter.paint(level, painter.material())
        if dice.chance(0.25):
            painter.parts(level, label, cy, cx, radius)


def partition(canvas: Canvas, count: int, gap: float, spread: float = 0.9) -> list[tuple[Tensor, Tensor]]:
    """Warped Voronoi cells that touch (or stay `gap` apart): level and distance from the centre of each."""
    dice = canvas.dice
    centres = (torch.rand(count, 2, generator=dice.generator) * 2 - 1) * spread
    weights = torch.rand(count, generator=dice.generator) * dice.uniform(0, 0.25)
    height, width = canvas.height, canvas.width
    warp = smooth_noise(dice, height, width, dice.uniform(3, 8), 2) * dice.uniform(0, 0.07)
    y, x = canvas.y + warp[0], canvas.x + warp[1]
    cy, cx = centres[:, 0, None, None], centres[:, 1, None, None]
    distance = torch.sqrt((y - cy) ** 2 + (x - cx) ** 2) - weights[:, None, None]
    first, second = torch.full_like(y, math.inf), torch.full_like(y, math.inf)
    for one in distance:
        second = torch.minimum(second, torch.maximum(first, one))
        first = torch.minimum(first, one)
    out = []
    for k in range(count):
        others = torch.where(distance[k] == first, second, first)
        out.append(((others - distance[k]) / 2 - gap, distance[k]))
    return out


def organs(painter: Painter) -> None:
    """A body whose inside is divided among touching organs, fat and vessels between."""
    dice = painter.dice
    body = painter.shape(dice.uniform(-0.1, 0.1), dice.uniform(-0.1, 0.1), dice.uniform(0.7, 1.6), "star")
    painter.paint(body, painter.material(natural=0.0))
    for level, distance in partition(painter, dice.integer(4, 13), dice.uniform(-0.02, 0.06)):
        if dice.chance(0.25):
            continue  # stays fat
        level = torch.minimum(torch.minimum(level, body), dice.uniform(0.25, 0.8) - distance)
        painter.paint(level, painter.material(natural=0.04))
    scattered(painter, dice.integer(0, 5), 0.03, 0.2)


def cells(painter: Painter) -> None:
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
            label = painter.paint(level, surface + dice.uniform(-0.15, 0.15) * painter.contrast)
            if dice.chance(0.1):
                painter.parts(level, label, cy, cx, radius)
