"""The variance network (UncertSAM, App. C): a head that was trained to foresee where the model's mask is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from napari_uncertsam.estimators.base import PointBelief, decoded_iou, decoded_logits
from napari_uncertsam.estimators.fitted import FittedParts

if TYPE_CHECKING:
    from napari_uncertsam.checkpoints import Part
    from napari_uncertsam.engine import Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.estimators.variance_head import VarianceHead
    from napari_uncertsam.prompts import Prompts


def _head(part: Part) -> VarianceHead:
    from napari_uncertsam.estimators.variance_head import VarianceHead

    return VarianceHead.of_tensors(part.tensors)


@dataclass(frozen=True, eq=False)
class VarianceNetwork:
    """One decode; the mask is the model's own, and a trained head says how far off its probability is expected to be.

    The head's loss is smallest where its variance is the expected squared difference between probability and truth,
    which holds systematic error as well as spread. So it may be more than 1/4, the most that a variance of
    probabilities can be: there the model is confidently wrong. It is kept as it is, or the paper's map of
    log-variances would end at ln 1/4, short of the worst pixels; as a standard deviation it exceeds 1/2 there. The
    log-variance is within +-5, so the deviation is never below ``exp(-2.5)`` = 0.08.

    Parameters
    ----------
    parts : FittedParts
        The trained heads.
    """

    name: ClassVar[str] = "variance"
    title: ClassVar[str] = "Variance network"
    answers: ClassVar[str] = "Where does a network that was trained on the model's errors expect the mask to be wrong?"
    needs: ClassVar[str | None] = "variance"
    measures: ClassVar[tuple[Measure, ...]] = ("std", "entropy", "log-variance")

    parts: FittedParts[VarianceHead] = field(default_factory=lambda: FittedParts("variance", _head), repr=False)

    def estimate(self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator) -> PointBelief:
        """Belief of the one mask that the prompts give, with its predicted variance; `rng` is not used.

        Raises
        ------
        InputError
            If the prompts say nothing.
        CheckpointError
            If the head was not fitted, is damaged, or belongs to another checkpoint.
        EngineError
            If the model fails.
        """
        import torch

        head = self.parts.of(engine)
        decoded = engine.decode(embedding, [prompts])
        logits = decoded_logits(decoded)[0]
        with torch.inference_mode():
            variance = head.to(decoded.source.device).of_chosen(decoded)[0].exp().cpu().numpy()
        return PointBelief(logits, variance, decoded_iou(decoded))
