"""Automatic rounds of UGPA (MedSAM-U, eq. 9 to 14) on top of any estimator.

One round: the box around what is uncertain, optionally points, predict again, verify. Everything here is in the frame
of the view; the maps lie on its low-resolution grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.estimators.base import Belief, Estimator
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.refinement.settings import PAPER, RECOMMENDED, UgpaSettings
from napari_uncertsam.suggestions.ugpa import cells_in, suggest_points, uncertain_box
from napari_uncertsam.suggestions.verify import Mask, Verification, pixelwise, verify
from napari_uncertsam.uncertainty import mean_uncertainty
from napari_uncertsam.view import View

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine

__all__ = ["PAPER", "RECOMMENDED", "Refinement", "Round", "UgpaSettings", "refine"]

#: Says whether the place ``(y, x)``, in pixels of the view, is inside the object.
Truth = Callable[[float, float], bool]


@dataclass(frozen=True, eq=False)
class Round:
    """One attempt.

    Parameters
    ----------
    before, after : float
        What was compared: mean uncertainty in nats unless the verification rule says otherwise. Equal if skipped.
    accepted : bool
    reason : str
        One sentence for the user.
    box : Box or None
        The proposed box in pixels of the view; None if the round was skipped.
    points : tuple of Point
        The points that were added.
    prompts : Prompts
        What was tried; the prompts from before if the round was skipped.
    belief : Belief or None
        What came of it, whether kept or not; None if the round was skipped.
    area_ratio : float
        Area of the mask after over the area before; 1 if the round was skipped.
    """

    before: float
    after: float
    accepted: bool
    reason: str
    box: Box | None
    points: tuple[Point, ...]
    prompts: Prompts
    belief: Belief | None = None
    area_ratio: float = 1.0


@dataclass(frozen=True, eq=False)
class Refinement:
    """What is to be used from now on: the first prompts and belief if no round was accepted."""

    prompts: Prompts
    belief: Belief
    rounds: tuple[Round, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether any round was kept."""
        return any(r.accepted for r in self.rounds)


@dataclass(frozen=True)
class _Grid:
    """Where things of a view lie on its low-resolution grid."""

    view: View
    shape: tuple[int, int]
    resolution: int

    def box_to_cells(self, box: Box) -> Box:
        """A box prompt as the cells that it covers."""
        pixels = self.view.prompts_to_slice(Prompts(box=box), self.resolution).box
        assert pixels is not None
        return self.view.box_to_grid(pixels, self.shape)

    def points_to_cells(self, points: tuple[Point, ...]) -> list[tuple[float, float]]:
        """Point prompts in fractional cells."""
        pixels = self.view.prompts_to_slice(Prompts(points), self.resolution).points
        return [self.view.slice_to_grid(p.y, p.x, self.shape) for p in pixels]

    def prompts(self, box: Box, points: tuple[tuple[int, int, bool], ...]) -> Prompts:
        """A box of cells and labelled cells as prompts."""
        placed = tuple(Point(*self.view.point_to_slice(y, x, self.shape), inside) for y, x, inside in points)
        return self.view.prompts_to_view(Prompts(placed, self.view.box_to_slice(box, self.shape)), self.resolution)


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
    grid = _Grid(View.whole(*embedding.shape), belief.shape, engine.resolution)
    predictor = settings.refined() or estimator
    done: list[Round] = []
    for _ in range(rounds):
        if cancelled is not None and cancelled():
            raise Cancelled("The refinement was cancelled.")
        step, kept = _round(engine, embedding, prompts, belief, predictor, rng, settings, grid, truth)
        done.append(step)
        if not step.accepted:
            break
        prompts, belief = step.prompts, kept
    return Refinement(prompts, belief, tuple(done))


def _round(
    engine: Engine,
    embedding: Embedding,
    prompts: Prompts,
    belief: Belief,
    estimator: Estimator,
    rng: np.random.Generator,
    settings: UgpaSettings,
    grid: _Grid,
    truth: Truth | None,
) -> tuple[Round, Belief]:
    """One round, and the belief to keep if it is accepted."""
    start = _start_box(prompts, belief, grid)
    if start is None:
        return _skipped(prompts, belief, None, "there is neither a box nor a mask to start from; draw a box"), belief
    proposed = _proposed_box(start, prompts, belief, settings, grid)
    region = cells_in(grid.shape, start, settings.dilation)
    if proposed is None:
        most = float(belief.entropy().max())
        why = "nothing uncertain touches the object" if most >= settings.floor else "the mask is certain everywhere"
        return _skipped(prompts, belief, region, f"{why} (at most {most:.2f} nats)"), belief
    region |= cells_in(grid.shape, proposed, settings.dilation)
    added = grid.prompts(proposed, _labelled(start, prompts, belief, settings, grid, truth))
    tried = replace(prompts, box=added.box, points=(*prompts.points, *added.points))
    after = estimator.estimate(engine, embedding, tried, rng)
    kept = pixelwise(belief, after) if settings.verification == "per-pixel" else after
    verdict = verify(belief, kept, region, rule=settings.verification, guard=settings.guard)
    return _judged(verdict, added, tried, kept), kept


def _judged(verdict: Verification, added: Prompts, tried: Prompts, belief: Belief) -> Round:
    return Round(
        verdict.before,
        verdict.after,
        verdict.accepted,
        verdict.reason,
        added.box,
        added.points,
        tried,
        belief,
        verdict.area_ratio,
    )


def _skipped(prompts: Prompts, belief: Belief, region: Mask | None, why: str) -> Round:
    usable = region if region is not None and region.any() else None
    mean = mean_uncertainty(belief.entropy(), usable)
    return Round(mean, mean, False, f"Kept the mask as it is: {why}.", None, (), prompts)


def _start_box(prompts: Prompts, belief: Belief, grid: _Grid) -> Box | None:
    """The user's box in cells, or that of the mask."""
    if prompts.box is not None:
        return grid.box_to_cells(prompts.box)
    mask = belief.logits() > 0
    return Box.of_mask(mask) if mask.any() else None


def _proposed_box(start: Box, prompts: Prompts, belief: Belief, settings: UgpaSettings, grid: _Grid) -> Box | None:
    box = uncertain_box(
        belief.entropy(),
        belief.probability(),
        start,
        threshold=settings.threshold,
        components=settings.components,
        floor=settings.floor,
        dilation=settings.dilation,
    )
    if box is None or settings.extent == "uncertain":
        return box
    mask = belief.logits() > 0
    parts = [box, Box.of_mask(mask)] if mask.any() else [box]
    inside = tuple(p for p in prompts.points if p.positive)
    parts += [Box(y, x, y, x) for y, x in grid.points_to_cells(inside)]
    tops, lefts, bottoms, rights = zip(*((p.y0, p.x0, p.y1, p.x1) for p in parts), strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


def _labelled(
    start: Box, prompts: Prompts, belief: Belief, settings: UgpaSettings, grid: _Grid, truth: Truth | None
) -> tuple[tuple[int, int, bool], ...]:
    """The most uncertain cells with their labels, by the settings' rule."""
    if settings.labels == "none" or settings.points == 0:
        return ()
    found = suggest_points(
        belief.entropy(),
        belief.probability(),
        settings.points,
        spread=settings.spread,
        radius=settings.radius,
        box=start,
        known=grid.points_to_cells(prompts.points),
    )
    labels = [True] * len(found)
    if settings.labels == "by-probability":
        labels = [p.probability > 0.5 for p in found]
    elif settings.labels == "oracle" and truth is not None:
        labels = [bool(truth(*grid.view.point_to_slice(p.y, p.x, grid.shape))) for p in found]
    return tuple((p.y, p.x, label) for p, label in zip(found, labels, strict=True))
