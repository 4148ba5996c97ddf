"""Test-time augmentation with geometry, an extension: UncertSAM's text speaks of flips, its sets have none.

Every copy of the image is mirrored or turned, prompts go through the same warp, and logits come back through its
inverse, so that all members lie on the grid of the image as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import EnsembleBelief
from napari_uncertsam.estimators.tta.copies import copy_rng, look_through, pixels_of
from napari_uncertsam.estimators.tta.warps import SYMMETRIES, SmallWarp, Symmetry, Warp

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts

Symmetries = Literal["square", "flips", "mirror", "none"]

#: Which symmetries to look through: all eight, those that keep the axes, left and right exchanged, none.
GROUPS: Mapping[Symmetries, tuple[Symmetry, ...]] = {
    "square": SYMMETRIES,
    "flips": SYMMETRIES[:4],
    "mirror": SYMMETRIES[:2],
    "none": SYMMETRIES[:1],
}
#: Largest turn of a small warp either way in degrees, and its smallest and largest scale.
TURN, SCALES = 10.0, (0.85, 1.15)


@dataclass(frozen=True, slots=True)
class GeometricTta:
    """Mean of the masks of mirrored and turned copies, the image as it is among them.

    Where a small warp shows a corner of the view no longer, its member has the logits of the image as it is.

    Parameters
    ----------
    symmetries : {"square", "flips", "mirror", "none"}
        See :data:`GROUPS`.
    warps : int
        How many copies more are turned by up to :data:`TURN` degrees and scaled within :data:`SCALES`, at random.
    seed : int
        For these; the image and the seed settle them, not the prompt.

    Raises
    ------
    InputError
        If a setting is not one of these.
    """

    name: ClassVar[str] = "tta-geometric"
    title: ClassVar[str] = "Test-time augmentation: mirrored and turned"
    answers: ClassVar[str] = "Would the mask be the same if the image were mirrored or turned?"
    needs: ClassVar[str | None] = None
    measures: ClassVar[tuple[Measure, ...]] = ("entropy", "mutual-information", "std")

    symmetries: Symmetries = "square"
    warps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.symmetries not in GROUPS:
            choices = ", ".join(get_args(Symmetries))
            raise InputError(f"There are no symmetries {self.symmetries!r}; choose one of {choices}.")
        for what, value in (("number of small warps", self.warps), ("seed", self.seed)):
            if value < 0:
                raise InputError(f"The {what} of test-time augmentation is not negative; {value} is.")

    @property
    def copies(self) -> int:
        """How many changed copies are embedded for an image."""
        return len(GROUPS[self.symmetries]) - 1 + self.warps

    def estimate(
        self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator
    ) -> EnsembleBelief:
        """Belief over the masks of the copies, one decode each, the image as it is first; `rng` is not used.

        Raises
        ------
        InputError
            If the prompts say nothing, or the embedding does not hold the pixels of the image.
        EngineError
            If the model fails.
        """
        members, trust = look_through(engine, embedding, prompts, self.changes(pixels_of(embedding)))
        return EnsembleBelief(members, predicted_iou=float(np.mean(trust)))

    def changes(self, image: NDArray[np.uint8]) -> tuple[Warp, ...]:
        """The warps of an image, without the identity."""
        small = []
        for index in range(self.warps):
            rng = copy_rng(image, self.seed, index)
            small.append(SmallWarp(float(rng.uniform(-TURN, TURN)), float(rng.uniform(*SCALES))))
        return (*GROUPS[self.symmetries][1:], *small)
