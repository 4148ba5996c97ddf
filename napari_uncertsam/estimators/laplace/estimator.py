"""The estimator: decode once, read the posterior of the token that SAM 2 chose, answer in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
import torch

from napari_uncertsam.checkpoints import Part
from napari_uncertsam.errors import CheckpointError, InputError
from napari_uncertsam.estimators.base import Belief, finite_logits
from napari_uncertsam.estimators.fitted import FittedParts
from napari_uncertsam.estimators.laplace.belief import GaussianBelief, SampledBelief
from napari_uncertsam.estimators.laplace.curvature import with_bias
from napari_uncertsam.estimators.laplace.posterior import DiagonalPosterior, Posterior, posterior_from_tensors
from napari_uncertsam.uncertainty import EPSILON

if TYPE_CHECKING:
    from torch import Tensor

    from napari_uncertsam.engine import Decoded, Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts

Token = Literal["chosen", "first"]
#: Where UncertSAM's code, in bfloat16, clamps its mean probabilities.
BFLOAT16_EPSILON = 1e-2


@dataclass(frozen=True, eq=False)
class LaplacePosteriors:
    """A posterior for every mask token of one model.

    Parameters
    ----------
    tokens : tuple of Posterior
    metadata : mapping
        How they were fitted.
    """

    tokens: tuple[Posterior, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_part(cls, part: Part) -> LaplacePosteriors:
        """From a stored part.

        Raises
        ------
        CheckpointError
            If its tensors are not those of a posterior.
        """
        structure = part.metadata.get("structure", "")
        tokens: dict[str, dict[str, Tensor]] = {}
        for name, tensor in part.tensors.items():
            token, _, rest = name.partition(".")
            tokens.setdefault(token, {})[rest] = tensor
        found = [posterior_from_tensors(structure, tokens[name]) for name in sorted(tokens)]
        if not found:
            raise CheckpointError(f"The Laplace posterior {part.path} is empty; fit it again.")
        return cls(tuple(found), part.metadata)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored in a part."""
        return {f"token{t}.{k}": v for t, posterior in enumerate(self.tokens) for k, v in posterior.tensors().items()}

    @classmethod
    def prior(cls, tokens: int, outputs: int, inputs: int, precision: float = 1.0) -> LaplacePosteriors:
        """What is known before any data: independent weights of the same precision, for `inputs` hidden units."""
        variance = torch.full((outputs, inputs + 1), 1 / precision, dtype=torch.float64)
        return cls((DiagonalPosterior(variance),) * tokens)


@dataclass(frozen=True, eq=False)
class Laplace:
    """Last-layer Laplace approximation.

    Parameters
    ----------
    token : {"chosen", "first"}
        The token whose mask the model gives (the default), or always the first, as UncertSAM.
    samples : int
        0 answers in closed form; otherwise so many draws from the same Gaussian, as UncertSAM.
    eps : float
        Distance that probabilities keep from 0 and 1, see :class:`GaussianBelief`.
    posteriors : LaplacePosteriors, optional
        Instead of the fitted part of the engine's checkpoint.

    Raises
    ------
    InputError
        If a setting is not one of these.
    """

    name: ClassVar[str] = "laplace"
    title: ClassVar[str] = "Laplace"
    answers: ClassVar[str] = "Where would the mask change if the model's last layer were a little different?"
    needs: ClassVar[str | None] = "laplace"
    measures: ClassVar[tuple[Measure, ...]] = ("entropy", "mutual-information", "std")

    token: Token = "chosen"
    samples: int = 0
    eps: float = EPSILON
    posteriors: LaplacePosteriors | None = None
    _fitted: FittedParts[LaplacePosteriors] = field(
        default_factory=lambda: FittedParts("laplace", LaplacePosteriors.of_part), repr=False
    )

    def __post_init__(self) -> None:
        if self.token not in get_args(Token):
            raise InputError(f"There is no mask token {self.token!r}; choose one of {', '.join(get_args(Token))}.")
        if self.samples < 0:
            raise InputError(f"The number of samples is at least 0, not {self.samples}.")

    @classmethod
    def uncertsam(cls, samples: int = 1000) -> Laplace:
        """As UncertSAM's code evaluates it: the first token, samples, probabilities in bfloat16."""
        return cls(token="first", samples=samples, eps=BFLOAT16_EPSILON)

    def estimate(self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator) -> Belief:
        """Belief from one decode; `rng` is used for samples only.

        Raises
        ------
        InputError
            If the prompts say nothing.
        CheckpointError
            If no posterior was fitted for the engine's checkpoint, or it is damaged.
        EngineError
            If the model fails.
        """
        posteriors = self.posteriors_of(engine)
        belief = self.belief_of(engine.decode(embedding, [prompts]), 0, posteriors)
        if self.samples == 0:
            return belief
        return SampledBelief(belief.sample(self.samples, rng), belief.predicted_iou, self.eps)

    def belief_of(self, decoded: Decoded, row: int, posteriors: LaplacePosteriors) -> GaussianBelief:
        """Belief of one prompt of a decode."""
        token = 0 if self.token == "first" else int(decoded.token[row])
        hidden = with_bias(decoded.token_hidden[row, token : token + 1].cpu())
        covariance = posteriors.tokens[token].output_covariance(hidden)[0]
        return GaussianBelief(
            finite_logits(decoded.token_logits[row, token]),
            decoded.features[row].detach().float().cpu().numpy(),
            covariance.numpy(),
            float(decoded.token_iou[row, token]),
            self.eps,
        )

    def posteriors_of(self, engine: Engine) -> LaplacePosteriors:
        """The posteriors for a model: those given, or the fitted part, read again when its file has changed.

        Raises
        ------
        CheckpointError
            If there is none, or it is damaged.
        """
        if self.posteriors is not None:
            return self.posteriors
        return self._fitted.of(engine)
