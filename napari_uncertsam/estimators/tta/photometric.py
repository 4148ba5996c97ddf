"""Test-time augmentation as UncertSAM has it: ten copies of the image in other colours, one mask from each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import EnsembleBelief, decoded_iou, decoded_logits
from napari_uncertsam.estimators.tta.colours import COLOUR_SETS, SetName, changed, is_grey
from napari_uncertsam.estimators.tta.copies import copy_embedding, copy_rng, pixels_of

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts

_TEXTS: dict[SetName, tuple[str, str, str]] = {
    "hue": (
        "tta",
        "Test-time augmentation: hue",
        "Would the mask be the same if the image had other colours (a grey image has none to change)?",
    ),
    "train": (
        "tta-train",
        "Test-time augmentation: brightness, contrast, saturation",
        "Would the mask be the same if the image were a little brighter, flatter or paler?",
    ),
}


@dataclass(frozen=True, slots=True)
class PhotometricTta:
    """Mean of the masks of copies in other colours (UncertSAM's method i); the image as it is is not among them.

    The copies depend on the pixels and on `seed`, not on the prompt, so they are embedded once for each image. On a
    grey image the set "hue" changes nothing: the belief then has one member, the prediction on the image itself.

    Parameters
    ----------
    colours : {"hue", "train"}
        "hue" turns the colour circle by up to half a turn either way, at the resolution of the embedded pixels.
        "train" jitters brightness, contrast and saturation twice and now and then drops the colours, at the model's
        resolution. See `napari_uncertsam.estimators.tta.colours.COLOUR_SETS`.
    n : int
        Number of copies.
    seed : int

    Raises
    ------
    InputError
        If a setting is not one of these.
    """

    needs: ClassVar[str | None] = None
    measures: ClassVar[tuple[Measure, ...]] = ("entropy", "mutual-information", "std")

    colours: SetName = "hue"
    n: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.colours not in COLOUR_SETS:
            choices = ", ".join(get_args(SetName))
            raise InputError(f"There is no set of augmentations {self.colours!r}; choose one of {choices}.")
        if self.n < 1:
            raise InputError(f"Test-time augmentation needs at least 1 copy of the image, not n = {self.n}.")
        if self.seed < 0:
            raise InputError(f"The seed of test-time augmentation is not negative; {self.seed} is.")

    @property
    def name(self) -> str:
        """Key in `ESTIMATORS`."""
        return _TEXTS[self.colours][0]

    @property
    def title(self) -> str:
        """Name for people."""
        return _TEXTS[self.colours][1]

    @property
    def answers(self) -> str:
        """One sentence: which question its uncertainty answers."""
        return _TEXTS[self.colours][2]

    @property
    def copies(self) -> int:
        """How many changed copies are embedded for an image at most."""
        return self.n

    def estimate(
        self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator
    ) -> EnsembleBelief:
        """Belief over the masks of the copies, one decode each; `rng` is not used.

        Raises
        ------
        InputError
            If the prompts say nothing, or the embedding does not hold the pixels of the image.
        EngineError
            If the model fails.
        """
        decoded = [engine.decode(look, [prompts]) for look in self._looks(engine, embedding)]
        members = np.concatenate([decoded_logits(d) for d in decoded])
        return EnsembleBelief(members, predicted_iou=float(np.mean([decoded_iou(d) for d in decoded])))

    def _looks(self, engine: Engine, embedding: Embedding) -> list[Embedding]:
        image, colours = pixels_of(embedding), COLOUR_SETS[self.colours]
        if colours.keeps_grey and is_grey(image):
            return [embedding]
        size = engine.resolution if colours.resized else None

        def copy(index: int) -> NDArray[np.uint8]:
            return changed(image, colours.draw(copy_rng(image, self.seed, index)), size)

        keys = [("colours", self.colours, self.seed, index) for index in range(self.n)]
        return [copy_embedding(engine, embedding, key, embedding.shape, partial(copy, key[-1])) for key in keys]
