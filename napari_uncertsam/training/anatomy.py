"""Anatomy-like cross-sections: organs that touch, in a body of skin, fat and muscle, for CT, MR and PET.

Grey values come from a table of tissues, so that one layout serves every contrast. Air is whatever the canvas holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from napari_uncertsam.training.canvas import Canvas
from napari_uncertsam.training.layouts import partition
from napari_uncertsam.training.shapes import lobe, thread

#: What a slice shows.
SECTIONS = {"abdomen": 0.38, "limb": 0.3, "thorax": 0.14, "head": 0.18}
ORGANS = ("liver", "spleen", "kidney", "bowel")

Tissues = Mapping[str, float]


def section(canvas: Canvas, tissues: Tissues, spread: float) -> None:
    """Paint one slice; `spread` is how far grey values of one tissue differ from organ to organ."""
    name = canvas.dice.choice(SECTIONS)
    {"abdomen": abdomen, "limb": limb, "thorax": thorax, "head": head}[name](canvas, tissues, spread)


def oval(canvas: Canvas, cy: float, cx: float, ry: float, rx: float, angle: float = 0.0, rough: float = 0.1) -> Tensor:
    """Level of an organ-like oval."""
    return canvas.level(partial(lobe, canvas.dice, ry=ry, rx=rx, angle=angle, roughness=rough), cy, cx)


def tone(canvas: Canvas, value: float, spread: float, uneven: float = 0.5) -> Tensor:
    """Grey values of one organ ``(1, h, w)``: its tissue's, its own offset, and some unevenness."""
    dice = canvas.dice
    field = canvas.noise(dice.log_uniform(4, 30)) * (uneven * spread * dice.uniform(0, 1))
    return value + spread * dice.uniform(-1, 1) + field


def wrap(canvas: Canvas, tissues: Tissues, spread: float, ry: float, rx: float) -> Tensor:
    """Body outline with skin, fat and a muscular wall as background; the level of what is inside the wall."""
    dice = canvas.dice
    body = oval(canvas, dice.uniform(-0.08, 0.08), dice.uniform(-0.08, 0.08), ry, rx, 0.0, 0.12)
    canvas.put(body, tissues["skin"], 0)
    canvas.put(body - dice.uniform(0.005, 0.02), tone(canvas, tissues["fat"], spread), 0)
    thick = dice.log_uniform(0.02, 0.22) * (1 + 0.5 * canvas.noise(2)[0]).clamp(min=0.3)
    wall = body - thick
    canvas.put(wall, tone(canvas, tissues["muscle"], spread), 0)
    return wall - dice.uniform(0.03, 0.12) * (1 + 0.4 * canvas.noise(4)[0]).clamp(min=0.3)


def bone(canvas: Canvas, tissues: Tissues, level: Tensor, cortex: float) -> int:
    """Bone with a cortex of the given thickness and marrow that belongs to it."""
    label = canvas.put(level, tissues["cortex"])
    canvas.put(level - cortex, tone(canvas, tissues["marrow"], abs(tissues["marrow"]) * 0.1), label)
    return label


def vessels(canvas: Canvas, tissues: Tissues, spread: float, count: int, inside: Tensor | None = None) -> None:
    """Round or oval cross-sections of vessels, and at times one seen along its length."""
    dice = canvas.dice
    for _ in range(count):
        r, cy, cx = dice.log_uniform(0.012, 0.07), dice.uniform(-0.5, 0.5), dice.uniform(-0.5, 0.5)
        if dice.chance(0.2):
            level = canvas.level(partial(thread, dice, radius=6 * r, aspect=1.0), cy, cx)
        else:
            level = oval(canvas, cy, cx, r, r * dice.uniform(0.7, 1.3), dice.uniform(0, 3), 0.05)
        level = level if inside is None else torch.minimum(level, inside)
        canvas.put(level, tissues["vessel"] + spread * dice.uniform(-1, 1))


def lesion(canvas: Canvas, tissues: Tissues, spread: float, inside: Tensor, at: tuple[float, float], r: float) -> int:
    """Lobed mass with a vague outline and an inhomogeneous inside; a necrotic core and a rim belong to it."""
    dice = canvas.dice
    lumps = [oval(canvas, *at, r, r * dice.uniform(0.6, 1.2), dice.uniform(0, 3), 0.3)]
    for _ in range(dice.integer(0, 4)):
        angle, far = dice.uniform(0, 2 * math.pi), r * dice.uniform(0.5, 0.9)
        part = oval(canvas, at[0] + far * math.sin(angle), at[1] + far * math.cos(angle), r * 0.6, r * 0.5, angle, 0.3)
        lumps.append(part)
    level = torch.minimum(torch.stack(lumps).amax(0), inside)
    vague = canvas.pixel * dice.log_uniform(0.7, 8.0)
    value = tissues["lesion"] + spread * dice.uniform(-1.5, 1.5)
    canvas_tone = tone(canvas, value, spread, dice.uniform(0.3, 2.5))
    label = canvas.put(level, canvas_tone, softness=vague)
    if dice.chance(0.35):  # necrosis
        core = level - r * dice.uniform(0.15, 0.5) + 0.15 * r * canvas.noise(dice.uniform(4, 10))[0]
        canvas.put(torch.minimum(core, level), value - dice.uniform(-1, 3) * spread, label, softness=2 * vague)
    if dice.chance(0.25):  # enhancing rim
        width = r * dice.uniform(0.08, 0.25)
        rim = torch.minimum(level, width - level)
        canvas.put(rim, value + dice.uniform(1, 5) * spread, label, softness=vague, opacity=dice.uniform(0.5, 1))
    return label


def vertebra(canvas: Canvas, tissues: Tissues, cy: float, cx: float, size: float) -> None:
    """Body, arch with processes and canal: one object around a canal that is background."""
    dice = canvas.dice
    parts = [oval(canvas, cy, cx, size * 0.75, size, 0.0, 0.05)]
    for dy, dx, ry, rx in ((1.0, -0.8, 0.3, 0.5), (1.0, 0.8, 0.3, 0.5), (1.6, 0.0, 0.6, 0.18)):
        parts.append(oval(canvas, cy + dy * size, cx + dx * size, ry * size, rx * size, dice.uniform(-0.3, 0.3), 0.2))
    bone(canvas, tissues, torch.stack(parts).amax(0), size * dice.uniform(0.08, 0.2))
    canvas.put(oval(canvas, cy + size, cx, size * 0.35, size * 0.4), tissues["fluid"], 0)


def ribs(canvas: Canvas, tissues: Tissues, ry: float, rx: float, inside: Tensor) -> None:
    """Short oblique cross-sections of ribs along the wall."""
    dice = canvas.dice
    for _ in range(dice.integer(3, 9)):
        angle = dice.uniform(0, 2 * math.pi)
        cy, cx = ry * math.sin(angle), rx * math.cos(angle)
        size = dice.uniform(0.025, 0.05)
        slope = math.atan2(-rx * math.sin(angle), ry * math.cos(angle))
        level = torch.minimum(oval(canvas, cy, cx, size * dice.uniform(1.5, 4), size, slope, 0.1), inside + 0.08)
        bone(canvas, tissues, level, size * dice.uniform(0.2, 0.5))


def abdomen(canvas: Canvas, tissues: Tissues, spread: float) -> None:
    """Liver, spleen, kidneys, bowel and great vessels around a vertebra."""
    dice = canvas.dice
    rx = dice.uniform(0.75, 1.05)
    ry = rx * dice.uniform(0.62, 0.85)
    inside = wrap(canvas, tissues, spread, ry, rx)
    canvas.put(inside, tone(canvas, tissues["fat"], spread), 0)
    ribs(canvas, tissues, ry * 0.82, rx * 0.82, inside)
    large = []
    for level, distance in partition(canvas, dice.integer(5, 12), dice.uniform(-0.02, 0.04), 0.65):
        if dice.chance(0.2):
            continue
        level = torch.minimum(torch.minimum(level, inside), dice.uniform(0.2, 0.7) - distance)
        kind = ORGANS[dice.integer(0, len(ORGANS))]
        label = canvas.put(level, tone(canvas, tissues[kind], spread))
        if kind == "kidney" and dice.chance(0.7):  # pelvis and medulla
            canvas.put(level - dice.uniform(0.04, 0.08), tissues[kind] - 2 * spread, label)
        elif kind == "bowel" and dice.chance(0.5):  # wall and content, gas at times
            content = tissues["gas"] if dice.chance(0.4) else tissues["fluid"]
            canvas.put(level - dice.uniform(0.015, 0.05), content, label)
        large.append((level, label))
    for _ in range(dice.integer(0, 4)):  # loops
        at, r = (dice.uniform(-0.5, 0.3), dice.uniform(-0.5, 0.5)), dice.uniform(0.08, 0.22)
        loop = canvas.shape(*at, r, "tube" if dice.chance(0.6) else "ring", 0.8)
        canvas.put(torch.minimum(loop, inside), tone(canvas, tissues["bowel"], spread))
    vertebra(canvas, tissues, ry * dice.uniform(0.4, 0.55), dice.uniform(-0.05, 0.05), dice.uniform(0.1, 0.17))
    for level, label in large:
        free = torch.minimum(level, (canvas.labels == label).float() - 0.5)
        spots = torch.nonzero(free > 0.05)
        if len(spots) and dice.chance(0.35):
            row, column = spots[dice.integer(0, len(spots))].tolist()
            at = (float(canvas.y[row, 0]), float(canvas.x[0, column]))
            lesion(canvas, tissues, spread, level - 0.01, at, dice.log_uniform(0.025, 0.12))
    vessels(canvas, tissues, spread, dice.integer(1, 6), inside)


def limb(canvas: Canvas, tissues: Tissues, spread: float) -> None:
    """Muscles around a shaft of bone, with a mass among them; at times a second limb or the table at the edge."""
    dice = canvas.dice
    ry, rx = dice.uniform(0.55, 1.1), dice.uniform(0.55, 1.0)
    if dice.chance(0.25):
        far, r = dice.sign(), dice.uniform(0.5, 0.9)
        other = oval(canvas, dice.uniform(-0.3, 0.3), far * (rx + r - dice.uniform(-0.05, 0.1)), r, r)
        canvas.put(other, tissues["fat"], 0)
        canvas.put(other - dice.uniform(0.05, 0.2), tone(canvas, tissues["muscle"], spread), 0)
    inside = wrap(canvas, tissues, spread, ry, rx)
    canvas.put(inside, tissues["fat"], 0)
    for level, _ in partition(canvas, dice.integer(3, 11), dice.log_uniform(0.002, 0.02), 0.6):
        bundle = torch.minimum(level, inside)
        label = None if dice.chance(0.6) else 0
        canvas.put(bundle, tone(canvas, tissues["muscle"], 0.5 * spread), label)
    at = (dice.uniform(-0.4, 0.4) * ry, dice.uniform(-0.4, 0.4) * rx)
    if dice.chance(0.75):
        r = dice.log_uniform(0.12, 0.55) * min(ry, rx)
        lesion(canvas, tissues, spread, inside + dice.uniform(0, 0.1), at, r)
    for _ in range(dice.integer(1, 3)):
        r = dice.uniform(0.07, 0.16)
        cy, cx = dice.uniform(-0.45, 0.45), dice.uniform(-0.45, 0.45)
        level = oval(canvas, cy, cx, r, r * dice.uniform(0.7, 1.1), 0.0, 0.12)
        bone(canvas, tissues, level, r * dice.uniform(0.2, 0.5))
    vessels(canvas, tissues, spread, dice.integer(0, 4), inside)


def thorax(canvas: Canvas, tissues: Tissues, spread: float) -> None:
    """Lungs with vessels and nodules, the heart with its chambers, great vessels."""
    dice = canvas.dice
    rx = dice.uniform(0.8, 1.05)
    ry = rx * dice.uniform(0.6, 0.75)
    inside = wrap(canvas, tissues, spread, ry, rx)
    ribs(canvas, tissues, ry * 0.85, rx * 0.85, inside)
    canvas.put(inside, tone(canvas, tissues["fat"], spread), 0)
    for side in (-1, 1):
        lung = oval(canvas, dice.uniform(-0.1, 0.05), side * rx * 0.42, ry * 0.62, rx * 0.36, dice.uniform(-0.2, 0.2))
        lung = torch.minimum(lung, inside)
        label = canvas.put(lung, tone(canvas, tissues["lung"], abs(tissues["lung"]) * 0.05))
        branch = torch.minimum(canvas.noise(dice.uniform(12, 30))[0] - dice.uniform(1.2, 2.0), lung * 40)
        canvas.put(branch * 0.03, tissues["vessel"], label)
        for _ in range(dice.integer(0, 3)):
            at = (dice.uniform(-0.3, 0.3), side * rx * dice.uniform(0.25, 0.55))
            lesion(canvas, tissues, spread, lung, at, dice.log_uniform(0.02, 0.12))
    cy, cx = dice.uniform(-0.15, 0.05), dice.uniform(-0.15, 0.25)
    heart = oval(canvas, cy, cx, ry * 0.42, rx * 0.34, dice.uniform(-0.6, 0.6), 0.15)
    label = canvas.put(heart, tone(canvas, tissues["muscle"], spread))
    for level, _ in partition(canvas, dice.integer(2, 6), dice.uniform(0.005, 0.03), 0.4):
        chamber = torch.minimum(level, heart - dice.uniform(0.02, 0.07))
        canvas.put(chamber, tissues["vessel"] + spread * dice.uniform(-1, 1), None if dice.chance(0.5) else label)
    vertebra(canvas, tissues, ry * 0.6, dice.uniform(-0.05, 0.05), dice.uniform(0.1, 0.15))
    vessels(canvas, tissues, spread, dice.integer(1, 4), inside)


def head(canvas: Canvas, tissues: Tissues, spread: float) -> None:
    """Scalp, skull, brain with sulci, white matter and ventricles, a lesion with oedema."""
    dice = canvas.dice
    ry = dice.uniform(0.75, 1.0)
    rx = ry * dice.uniform(0.7, 0.9)
    scalp = oval(canvas, 0.0, 0.0, ry, rx, 0.0, 0.05)
    canvas.put(scalp, tissues["fat"], 0)
    skull = scalp - dice.uniform(0.03, 0.08)
    thick = dice.uniform(0.03, 0.09)
    bones = canvas.put(skull, tissues["cortex"], None if dice.chance(0.5) else 0)
    canvas.put(torch.minimum(skull - thick * 0.3, thick * 0.7 - skull), tissues["marrow"], bones)
    brain = skull - thick
    canvas.put(brain, tissues["fluid"], 0)
    sulci = dice.uniform(0, 0.03) * canvas.noise(dice.uniform(8, 16))[0].abs()
    label = canvas.put(brain - 0.01 - sulci, tone(canvas, tissues["grey"], spread))
    folds = 0.05 * canvas.noise(dice.uniform(6, 12))[0]
    canvas.put(torch.minimum(brain - dice.uniform(0.06, 0.12) + folds, brain - 0.02), tissues["white"], label)
    tilt, size = dice.uniform(0.2, 0.6), dice.uniform(0.15, 0.35)
    for side in (-1, 1):
        level = oval(canvas, dice.uniform(-0.1, 0.0), side * 0.12 * rx, size, size * 0.25, side * tilt, 0.3)
        canvas.put(level, tissues["fluid"])
    canvas.put(torch.minimum(0.006 - (canvas.x + 0.01 * canvas.noise(3)[0]).abs(), brain), tissues["fluid"], label)
    for _ in range(dice.integer(0, 3)):
        at = (dice.uniform(-0.55, 0.55) * ry, dice.uniform(-0.55, 0.55) * rx)
        r = dice.log_uniform(0.05, 0.25)
        if dice.chance(0.5):  # oedema around it is not the object
            halo = torch.minimum(oval(canvas, *at, 1.8 * r, 1.5 * r, 0.0, 0.4), brain - 0.02)
            canvas.put(halo, tissues["white"] + dice.uniform(-2, 2) * spread, label, softness=0.04)
        lesion(canvas, tissues, spread, brain - 0.02, at, r)
