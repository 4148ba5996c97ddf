"""Domain-randomised synthetic images with exact masks: what the bundled model learns from.

A scene is drawn in one of several modalities: its layout of shapes, each region with its own intensity, texture and
shading, and its acquisition (blur, noise, speckle, windows, shadows). Then a camera crops around one object, as the
plugin's zoom does. Photographs that ship inside scikit-image serve as backgrounds and textures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_uncertsam.training import camera, layouts, natural, optics, radiology
from napari_uncertsam.training.canvas import Canvas
from napari_uncertsam.training.fields import Dice

#: How often each kind of image is drawn.
MODALITIES = {
    "generic": 0.27,
    "ct": 0.15,
    "mr": 0.1,
    "pet": 0.03,
    "xray": 0.05,
    "ultrasound": 0.05,
    "dermoscopy": 0.05,
    "endoscopy": 0.04,
    "microscopy": 0.06,
    "natural": 0.1,
    "camouflage": 0.04,
    "glass": 0.03,
    "aerial": 0.03,
}
#: Least side of the canvas over the image's side: scans are blown up, photographs less so.
LEAST_DETAIL = dict.fromkeys(MODALITIES, 0.2) | {
    "dermoscopy": 0.35,
    "endoscopy": 0.35,
    "natural": 0.5,
    "camouflage": 0.5,
    "glass": 0.5,
    "aerial": 0.4,
}
#: Modalities whose objects may look just as their surroundings do.
ALIKE = ("camouflage", "glass")
DRAWERS: dict[str, Callable[[Dice, int], tuple[Tensor, Canvas]]] = {
    "generic": layouts.generic,
    "ct": radiology.ct,
    "mr": radiology.mr,
    "pet": radiology.pet,
    "xray": radiology.xray,
    "ultrasound": optics.ultrasound,
    "dermoscopy": optics.dermoscopy,
    "endoscopy": optics.endoscopy,
    "microscopy": optics.microscopy,
    "natural": natural.everyday,
    "camouflage": natural.camouflage,
    "glass": natural.glass,
    "aerial": natural.aerial,
}


@dataclass(frozen=True)
class Scene:
    """One training image.

    Parameters
    ----------
    image : (3, h, w) float32 in [0, 1]
    masks : (n, h, w) bool
        Visible part of every object with at least the minimum area; the first is the one the camera is on.
    """

    image: Tensor
    masks: Tensor


def draw(dice: Dice, side: int, modality: str) -> tuple[Tensor, Canvas]:
    """A whole canvas before the camera: image ``(3, side, side)`` in [0, 1], and the canvas with its labels."""
    return DRAWERS[modality](dice, side)


def make_scene(generator: torch.Generator, size: int = 256, *, zoom: float = 0.75, max_objects: int = 6) -> Scene:
    """Draw one image with its masks.

    Parameters
    ----------
    generator : torch.Generator
        The only source of randomness: the same state gives the same scene.
    size : int
        Side of the image in pixels.
    zoom : float
        Probability that the camera crops around an object rather than showing the whole scene.
    max_objects : int
        At most so many masks are returned.

    Examples
    --------
    >>> import torch
    >>> scene = make_scene(torch.Generator().manual_seed(0), size=64)
    >>> tuple(scene.image.shape), scene.masks.dtype
    ((3, 64, 64), torch.bool)
    """
    dice = Dice(generator)
    while True:
        modality = dice.choice(MODALITIES)
        side = max(32, round(size * dice.log_uniform(LEAST_DETAIL[modality], 1.0)))
        image, canvas = draw(dice, side, modality)
        chosen = camera.visible(dice, canvas.labels, canvas.count, max_objects)
        if chosen is None:
            continue
        if dice.chance(0.15):  # scans and slides have no up
            turns = dice.integer(1, 4)
            image, chosen = torch.rot90(image, turns, (1, 2)), torch.rot90(chosen, turns, (1, 2))
        image, masks = camera.look(dice, image, chosen, size, zoom)
        area = masks.float().mean((1, 2))
        keep = (area > 8e-4) & (area < 0.75)
        if modality not in ALIKE:
            keep &= camera.discernible(image, masks)
        if keep[0]:
            return Scene(image, masks[keep])
