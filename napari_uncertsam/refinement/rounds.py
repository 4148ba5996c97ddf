"""Automatic rounds of UGPA (MedSAM-U, eq. 9 to 14) on top of any estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.estimators.base import Belief, Estimator
from napari_uncertsam.prompts import Prompts
from napari_uncertsam.refinement.attempt import Attempt, Round, Truth, start_box
from napari_uncertsam.refinement.grid import Grid
from napari_uncertsam.refinement.settings import PAPER, PRESETS, RECOMMENDED, UgpaSettings
from napari_uncertsam.view import View

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine

__all__ = ["PAPER", "PRESETS", "RECOMMENDED", "Refinement", "Round", "UgpaSettings", "refine"]


@dataclass(frozen=True, eq=False)
class Refinement:
    """What is to be used from now on: if no round was accepted, the first prompts and the belief that it started from.

    That is the belief that was given, or the mean of the settings' first boxes.
    """

    prompts: Prompts
    belief: Belief
    rounds: tuple[Round, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether any round was kept."""
        return any(r.accepted for r in self.rounds)


def refine(
    engine: Engine,
    embedding: Embedding,
    prompts: Prompts,
    belief: Belief,
    estimator: Estimator,
    rng: np.random.Generator,
    settings: UgpaSettings = RECOMMENDED,
    rounds: int = 1,
    cancelled: Callable[[], bool] | None = None,
    truth: Truth | None = None,
) -> Refinement:
    """Refine a mask by its own uncertainty, in up to `rounds` rounds; stops at the first that is not accepted.

    Parameters
    ----------
    engine : Engine
    embedding : Embedding
        Of the view.
    prompts : Prompts
        What gave `belief`, in pixels of the view. Without a box, the box of the mask takes its place.
    belief : Belief
        Where the first round starts from, unless the settings ask for first boxes of their own.
    estimator : Estimator
        Predicts for the proposed prompts; the one that gave `belief`, for a fair comparison. Not used if the settings
        ask for refined boxes of their own.
    rng : numpy.random.Generator
    settings : UgpaSettings
    rounds : int
    cancelled : callable, optional
        Asked before every prediction whether to stop.
    truth : callable (y, x) -> bool, optional
        For the label rule "oracle".

    Raises
    ------
    Cancelled
        When `cancelled` said so.
    InputError
        If the label rule is "oracle" and there is no truth.
    EngineError
        If the model fails.
    """
    if settings.labels == "oracle" and settings.points and truth is None:
        raise InputError(
            "Oracle labels need the ground truth; without it choose the label rule none or by-probability."
        )
    first = settings.first()
    if first is not None and rounds:
        given = prompts if settings.first_points == "user" or prompts.box is None else replace(prompts, points=())
        belief = first.estimate(engine, embedding, given, rng)
    grid = Grid(View.whole(*embedding.shape), belief.shape, engine.resolution)
    attempt = Attempt(engine, embedding, settings.refined() or estimator, rng, settings, grid, truth)
    given_box = start_box(prompts, belief, grid)
    done: list[Round] = []
    for _ in range(rounds):
        if cancelled is not None and cancelled():
            raise Cancelled("The refinement was cancelled.")
        step = attempt.round(prompts, belief, given_box)
        done.append(step)
        if not step.accepted or step.belief is None:
            break
        prompts, belief = step.prompts, step.belief
    return Refinement(prompts, belief, tuple(done))
