"""The baseline: how undecided the single prediction is, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from napari_uncertsam.estimators.base import PointBelief, decoded_iou, decoded_logits

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Entropy:
    """One decode; the uncertainty is the entropy of its probability."""

    name: ClassVar[str] = "entropy"
    title: ClassVar[str] = "Entropy of the prediction"
    answers: ClassVar[str] = "Where is the model's single answer neither a clear yes nor a clear no?"
    needs: ClassVar[str | None] = None
    measures: ClassVar[tuple[Measure, ...]] = ("entropy",)

    def estimate(self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator) -> PointBelief:
        """Belief of the one mask that the prompts give; `rng` is not used.

        Raises
        ------
        InputError
            If the prompts say nothing.
        EngineError
            If the model fails.
        """
        decoded = engine.decode(embedding, [prompts])
        return PointBelief(decoded_logits(decoded)[0], predicted_iou=decoded_iou(decoded))
