"""Several looks at the image: nearer and farther, mirrored and turned, in other tones; an extension of ours.

Both papers change either the colours or the prompt. What changes a small model's mind most is how much of the
surroundings it sees and which way up; what such looks disagree about is where its mask is wrong. Two methods from the
same looks: :class:`Looks` believes their mean; :class:`SecondOpinion` keeps the model's own mask and asks them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.base import EnsembleBelief, Map, PointBelief
from napari_uncertsam.estimators.tta.copies import look_through
from napari_uncertsam.estimators.tta.warps import Composed, SmallWarp, Symmetry, Tone, Warp

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts

#: As it is, nearer and farther: how much larger the object appears.
SCALES = (1.0, 1 / 0.85, 1 / 1.2)
#: As it is, upside down, mirrored, and with its axes exchanged.
TURNS = (Symmetry(), Symmetry(flip_y=True), Symmetry(flip_x=True), Symmetry(transpose=True))
#: Brighter, darker, flatter, stronger.
TONES = (Tone(gamma=0.5), Tone(gamma=2.0), Tone(contrast=0.5), Tone(contrast=1.6))
#: Every look but the first, which is the image as it is.
LOOKS: tuple[Warp, ...] = (
    *(turn if scale == 1 else Composed(SmallWarp(0.0, scale), turn) for scale in SCALES for turn in TURNS),
    *TONES,
)[1:]


@dataclass(frozen=True, slots=True)
class Looks:
    """Mean of the masks of all looks."""

    name: ClassVar[str] = "looks"
    title: ClassVar[str] = "Several looks"
    answers: ClassVar[str] = (
        "What would change if the model looked from nearer or farther, mirrored, or in other tones?"
    )
    needs: ClassVar[str | None] = None
    measures: ClassVar[tuple[Measure, ...]] = ("entropy", "mutual-information", "std")

    @property
    def copies(self) -> int:
        """How many changed copies are embedded for an image."""
        return len(LOOKS)

    def estimate(
        self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator
    ) -> EnsembleBelief:
        """Belief over the masks of the looks; `rng` is not used. Raises as :func:`look_through`."""
        members, trust = look_through(engine, embedding, prompts, LOOKS)
        return EnsembleBelief(members, predicted_iou=float(np.mean(trust)))


@dataclass(frozen=True, eq=False)
class SecondOpinionBelief:
    """The model's own mask and probability, and how unsure its looks are about it.

    Parameters
    ----------
    own : PointBelief
    looks : EnsembleBelief
        The image as it is among them.
    """

    own: PointBelief = field(repr=False)
    looks: EnsembleBelief = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of every map."""
        return self.own.shape

    @property
    def predicted_iou(self) -> float | None:
        """The model's own estimate."""
        return self.own.predicted_iou

    def logits(self) -> Map:
        """The model's own logits, ``(h, w)``."""
        return self.own.logits()

    def probability(self) -> Map:
        """The model's own probability, ``(h, w)`` in [0, 1]."""
        return self.own.probability()

    def entropy(self) -> Map:
        """Entropy of the mean probability of the looks in nats: not of :meth:`probability`."""
        return self.looks.entropy()

    def mutual_information(self) -> Map:
        """What the looks disagree about, in nats."""
        return self.looks.mutual_information()

    def standard_deviation(self) -> Map:
        """Standard deviation of the probability over the looks."""
        return self.looks.standard_deviation()

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Logits of `n` looks drawn with replacement, ``(n, h, w)``."""
        return self.looks.sample(n, rng)

    def area_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval of the area over the looks, in cells."""
        return self.looks.area_interval(level)


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """The mask as the model gives it; the uncertainty is that of all looks together, to check a mask by."""

    name: ClassVar[str] = "second-opinion"
    title: ClassVar[str] = "Second opinion"
    answers: ClassVar[str] = "Where would other looks at the image doubt the mask that the model gives?"
    needs: ClassVar[str | None] = None
    measures: ClassVar[tuple[Measure, ...]] = ("entropy", "mutual-information", "std")

    @property
    def copies(self) -> int:
        """How many changed copies are embedded for an image."""
        return len(LOOKS)

    def estimate(
        self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator
    ) -> SecondOpinionBelief:
        """The model's mask, and the looks' doubt; `rng` is not used. Raises as :func:`look_through`."""
        members, trust = look_through(engine, embedding, prompts, LOOKS)
        return SecondOpinionBelief(PointBelief(members[0], predicted_iou=trust[0]), EnsembleBelief(members))
