"""Photographs that ship inside scikit-image, as backgrounds and textures of the synthetic scenes."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.fields import Dice

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


@lru_cache(maxsize=1)
def photographs() -> tuple[Tensor, ...]:
    """The photographs as ``(3, h, w)`` float32 in [0, 1], at their full resolution."""
    from skimage import data

    out = []
    for name in PHOTOGRAPHS:
        loaded = getattr(data, name)()
        array = torch.as_tensor((loaded[0] if isinstance(loaded, tuple) else loaded).copy()).float() / 255
        out.append(array[..., :3].movedim(-1, 0) if array.ndim == 3 else array.expand(3, *array.shape))
    return tuple(out)


def photograph_crop(dice: Dice, height: int, width: int, name: str | None = None) -> Tensor:
    """A random crop, flipped, turned and rescaled, of one of the photographs: ``(3, h, w)`` in [0, 1]."""
    number = dice.integer(0, len(PHOTOGRAPHS)) if name is None else PHOTOGRAPHS.index(name)
    photo = photographs()[number]
    rows, columns = photo.shape[1:]
    side = dice.log_uniform(0.2, 1.0) * min(rows, columns)
    h, w = (max(8, int(side * s / max(height, width))) for s in (height, width))
    top, left = dice.integer(0, rows - h + 1), dice.integer(0, columns - w + 1)
    crop = photo[:, top : top + h, left : left + w]
    crop = crop.flip(2) if dice.chance(0.5) else crop
    if h == w and dice.chance(0.15):
        crop = torch.rot90(crop, dice.integer(1, 4), (1, 2))
    small = F.interpolate(crop[None], (height, width), mode="bilinear", antialias=h > height, align_corners=False)[0]
    if dice.chance(0.3):  # another light
        gain = 1 + 0.3 * (torch.rand(3, 1, 1, generator=dice.generator) - 0.5)
        small = (small * gain).clamp(0, 1) ** math.exp(dice.uniform(-0.5, 0.5))
    return small
