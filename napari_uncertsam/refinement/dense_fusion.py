"""Dense embedding fusion (UncertSAM, App. D): the model looks again, and sees its first mask and its own uncertainty.

The first pass gives a mask with a map of its uncertainty. The second gets the same prompts and the first mask's logits
as a mask prompt, whose dense embedding is fused with the encoded uncertainty by a trained head
(:mod:`napari_uncertsam.refinement.fusion_head`). One such iteration, as in the paper; its early stop, for masks that
no longer change, cannot come before the second and is left out.

The controls get a map of ones for the uncertainty, each with a head of its own, trained alike: whatever they gain comes
from the second look and the training, not from the uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief, PointBelief, decoded_iou, decoded_logits
from napari_uncertsam.estimators.fitted import FittedParts
from napari_uncertsam.prompts import MaskPrompt

if TYPE_CHECKING:
    from torch import Tensor

    from napari_uncertsam.checkpoints import Part
    from napari_uncertsam.engine import Decoded, DenseTransform, Embedding, Engine
    from napari_uncertsam.estimators.laplace import Laplace
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts
    from napari_uncertsam.refinement.fusion_head import FusionHead

#: Logits of probabilities within [.01, .99]: as far as the authors' mean probabilities go, which are bfloat16.
TOKEN_LIMIT = 4.595
FirstPass = Literal["laplace", "sam", "token-0"]


class Variant(NamedTuple):
    """What goes into the second pass.

    Attributes
    ----------
    first : {"laplace", "sam", "token-0"}
        Whose logits are the mask prompt: of Laplace's mean probability; the model's own, from whichever token it
        chooses; or of its first token, clamped to :data:`TOKEN_LIMIT`.
    ones : bool
        A map of ones in place of the uncertainty: a control.
    title, answers : str
    """

    first: FirstPass
    ones: bool
    title: str
    answers: str


#: By name, which is the kind of the fitted part as well.
VARIANTS: Mapping[str, Variant] = {
    "fusion": Variant(
        "laplace", False, "Dense fusion", "Where is the model undecided once it has seen its own uncertainty?"
    ),
    "fusion-laplace-ones": Variant(
        "laplace",
        True,
        "Dense fusion, control: ones and Laplace",
        "Where is the model undecided after a second look that was told nothing about the uncertainty?",
    ),
    "fusion-sam-ones": Variant(
        "sam",
        True,
        "Dense fusion, control: ones and SAM",
        "Where is the model undecided after a second look at its plain first mask?",
    ),
    "fusion-token0-ones": Variant(
        "token-0",
        True,
        "Dense fusion, control: ones and the first token",
        "Where is the model undecided after a second look at its first token's mask, as flat as Laplace's?",
    ),
}


@dataclass(frozen=True, eq=False)
class DenseFusion:
    """Two passes; the belief is that of the second.

    Parameters
    ----------
    name : str
        Of :data:`VARIANTS`.
    estimator : Laplace, optional
        Says what the first pass believes, and what to believe of the second, in the variants that start from it; by
        default in closed form, of the token that the model chooses. The others have a point estimate of each pass.
    trained : FusionHead, optional
        Instead of the fitted part of the engine's checkpoint.

    Raises
    ------
    InputError
        If there is no such variant.
    """

    name: str = "fusion"
    estimator: Laplace | None = field(default=None, repr=False)
    trained: FusionHead | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.name not in VARIANTS:
            raise InputError(f"There is no dense fusion {self.name!r}; choose one of {', '.join(VARIANTS)}.")

    @property
    def variant(self) -> Variant:
        """What goes into the second pass."""
        return VARIANTS[self.name]

    @property
    def title(self) -> str:
        """Name for people."""
        return self.variant.title

    @property
    def answers(self) -> str:
        """One sentence: which question its uncertainty answers."""
        return self.variant.answers

    @property
    def needs(self) -> str | None:
        """Kind of the fitted part."""
        return self.name

    @property
    def control(self) -> bool:
        """Whether this is for comparison only: by name on the command line, not offered in the widget."""
        return self.variant.ones

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those of Laplace, or the entropy of a point estimate."""
        return self.laplace.measures if self.variant.first == "laplace" else ("entropy",)

    @cached_property
    def laplace(self) -> Laplace:
        """The estimator of the variants that start from Laplace."""
        from napari_uncertsam.estimators.laplace import Laplace

        return self.estimator or Laplace()

    def estimate(self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator) -> Belief:
        """Belief of the second pass; a mask prompt that was given is replaced by the first pass's mask in it.

        Raises
        ------
        InputError
            If the prompts say nothing.
        CheckpointError
            If a fitted part is missing, damaged, or belongs to another checkpoint.
        EngineError
            If the model fails.
        """
        decoded = self.second_pass(engine, embedding, prompts, rng)
        if self.variant.first == "laplace":
            return self.laplace.belief_of(decoded, 0, self.laplace.posteriors_of(engine))
        return PointBelief(decoded_logits(decoded)[0], predicted_iou=decoded_iou(decoded))

    def second_pass(self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator) -> Decoded:
        """What the model decodes when it looks again; raises as :meth:`estimate`."""
        head = self.head(engine)
        logits, uncertainty = self.first_pass(engine, embedding, prompts, rng)
        again = prompts.with_mask(MaskPrompt(logits))
        return engine.decode(embedding, [again], dense=fused(head, uncertainty))

    def first_pass(
        self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and uncertainty (entropy in nats, or ones) that the second pass gets, both ``(h, w)``."""
        variant = self.variant
        if variant.first == "laplace":
            belief = self.laplace.estimate(engine, embedding, prompts, rng)
            logits = belief.logits()
            return logits, np.ones_like(logits) if variant.ones else belief.entropy()
        decoded = engine.decode(embedding, [prompts])
        logits = decoded_logits(decoded)[0]
        if variant.first == "token-0":
            logits = decoded.token_logits[0, 0].clamp(-TOKEN_LIMIT, TOKEN_LIMIT).cpu().numpy()
        return logits, np.ones_like(logits)

    def head(self, engine: Engine) -> FusionHead:
        """The trained head for a model: the one given, or the fitted part, read again when its file has changed.

        Raises
        ------
        CheckpointError
            If it was not fitted, is damaged, or belongs to another checkpoint.
        """
        return self.trained or self._parts.of(engine)

    @cached_property
    def _parts(self) -> FittedParts[FusionHead]:
        return FittedParts(self.name, _head)


def _head(part: Part) -> FusionHead:
    from napari_uncertsam.refinement.fusion_head import FusionHead

    return FusionHead.of_tensors(part.tensors)


def fused(head: FusionHead, uncertainty: NDArray[np.float32]) -> DenseTransform:
    """What fuses the dense embedding of a mask prompt with a map of uncertainty ``(h, w)``, for one prompt.

    The head and the map go to where the embedding is; a map that has not the mask prompt's resolution is interpolated.
    """
    import torch
    from torch.nn import functional as F

    def change(dense: Tensor) -> Tensor:
        size = (4 * dense.shape[-2], 4 * dense.shape[-1])
        seen = torch.as_tensor(np.array(uncertainty, np.float32))[None, None].to(dense.device)
        if seen.shape[-2:] != size:
            seen = F.interpolate(seen, size, mode="bilinear", align_corners=False)
        result: Tensor = head.to(dense.device)(dense, seen.expand(len(dense), -1, -1, -1))
        return result

    return change
