"""Random changes of an image's colours: the two sets of UncertSAM (its Table 4).

What is drawn is a list of steps, each a name and a factor, so that the draw can be tested without an image and no
global generator is touched. Every step rounds to whole grey values, since UncertSAM changes 8-bit images too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SetName = Literal["hue", "train"]
#: Name of a change and its factor.
Step = tuple[str, float]


@dataclass(frozen=True, slots=True)
class ColourJitter:
    """torchvision's `ColorJitter`: four changes in random order.

    Parameters
    ----------
    brightness, contrast, saturation : float
        The factor is uniform in ``[max(0, 1 - x), 1 + x]``.
    hue : float
        The shift is uniform in ``[-x, x]``, in turns of the colour circle; at most 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def draw(self, rng: np.random.Generator) -> list[Step]:
        """Steps in the order to be taken; what does not vary is left out."""
        spans = [
            (name, max(0.0, 1 - x), 1 + x)
            for name, x in (
                ("brightness", self.brightness),
                ("contrast", self.contrast),
                ("saturation", self.saturation),
            )
        ]
        spans.append(("hue", -self.hue, self.hue))
        steps = [(name, float(rng.uniform(low, high))) for name, low, high in spans if low < high]
        return [steps[i] for i in rng.permutation(len(steps))]


@dataclass(frozen=True, slots=True)
class RandomGrey:
    """torchvision's `RandomGrayscale`: the colours are lost with a probability."""

    probability: float

    def draw(self, rng: np.random.Generator) -> list[Step]:
        """One step or none."""
        return [("grey", 1.0)] if rng.random() < self.probability else []


@dataclass(frozen=True, slots=True)
class ColourSet:
    """What is done to every copy, one stage after the other.

    Parameters
    ----------
    stages : tuple
    resized : bool
        Whether the image is brought to the model's resolution first.
    """

    stages: tuple[ColourJitter | RandomGrey, ...]
    resized: bool = False

    def draw(self, rng: np.random.Generator) -> list[Step]:
        """Steps for one copy."""
        return [step for stage in self.stages for step in stage.draw(rng)]

    @property
    def keeps_grey(self) -> bool:
        """Whether no draw can change a grey image: it has no hue and no saturation."""
        return not any(isinstance(s, ColourJitter) and (s.brightness or s.contrast) for s in self.stages)


COLOUR_SETS: Mapping[SetName, ColourSet] = {
    "hue": ColourSet((ColourJitter(hue=0.5),)),
    "train": ColourSet(
        (ColourJitter(0.1, 0.03, 0.03), RandomGrey(0.05), ColourJitter(0.1, 0.05, 0.05)),
        resized=True,
    ),
}


def is_grey(image: NDArray[np.uint8]) -> bool:
    """Whether all three channels of an ``(h, w, 3)`` image are the same."""
    first = image[..., 0]
    return bool(np.array_equal(first, image[..., 1]) and np.array_equal(first, image[..., 2]))


def changed(image: NDArray[np.uint8], steps: list[Step], size: int | None = None) -> NDArray[np.uint8]:
    """An image after some steps.

    Parameters
    ----------
    image : (h, w, 3) uint8
    steps : list of (name, factor)
        As drawn by a :class:`ColourSet`.
    size : int, optional
        Side of the square to which the image is brought first: bilinear, antialiased, aspect not kept.

    Returns
    -------
    (h, w, 3) or (size, size, 3) uint8
    """
    import torch
    from torchvision.transforms.v2 import functional as tv

    tensor = torch.as_tensor(np.array(image, order="C")).movedim(-1, 0)
    if size is not None:
        tensor = tv.resize(tensor, [size, size], antialias=True)
    change: dict[str, Any] = {
        "brightness": tv.adjust_brightness,
        "contrast": tv.adjust_contrast,
        "saturation": tv.adjust_saturation,
        "hue": tv.adjust_hue,
        "grey": lambda pixels, _: tv.rgb_to_grayscale(pixels, num_output_channels=3),
    }
    for name, factor in steps:
        tensor = change[name](tensor, factor)
    return np.ascontiguousarray(tensor.movedim(0, -1).numpy())
