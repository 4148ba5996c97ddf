"""One round of UGPA: propose a box, optionally points, predict again, verify.

Everything here is in the frame of the view; the maps lie on its low-resolution grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.base import Belief, Estimator, decoded_logits
from napari_uncertsam.estimators.prompt_perturbation import PromptPerturbation
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.refinement.boxes import hypothesise
from napari_uncertsam.refinement.grid import Grid
from napari_uncertsam.refinement.settings import UgpaSettings
from napari_uncertsam.suggestions.ugpa import cells_in, suggest_points, uncertain_box
from napari_uncertsam.suggestions.verify import RULES, Evidence, Mask, pixelwise, verify
from napari_uncertsam.uncertainty import mean_uncertainty
from napari_uncertsam.view import View

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine

#: Says whether the place ``(y, x)``, in pixels of the view, is inside the object.
Truth = Callable[[float, float], bool]

#: Boxes drawn a little differently, for rules that ask how much they agree.
REDRAWN = PromptPerturbation(rule="ugmp", n=6, scale=0.1, include_given=False)


@dataclass(frozen=True, eq=False)
class Round:
    """One attempt.

    Parameters
    ----------
    before, after : float
        What the verification rule compared. If skipped, both are the mean uncertainty.
    accepted : bool
    reason : str
        One sentence for the user.
    box : Box or None
        The proposed box; None if the round was skipped. Places are in pixels of the view until :meth:`on_slice`.
    points : tuple of Point
        The points that were added.
    prompts : Prompts
        What was tried; the prompts from before if the round was skipped.
    belief : Belief or None
        What came of it, whether kept or not; None if the round was skipped.
    area_ratio : float
        Area of the mask after over the area before; 1 if the round was skipped.
    rule : str
        The rule that compared, a name of `napari_uncertsam.suggestions.verify.RULES`; empty if the round was skipped.
    labels : str
        Who labelled the points, see :class:`UgpaSettings`.
    uncertainty : (float, float), optional
        Mean entropy around the object before and after, in nats; None where that is what was compared.
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
    rule: str = ""
    labels: str = "none"
    uncertainty: tuple[float, float] | None = None

    @property
    def mean_uncertainty(self) -> tuple[float, float]:
        """Mean entropy around the object before and after, in nats."""
        return (self.before, self.after) if self.uncertainty is None else self.uncertainty

    def on_slice(self, view: View, resolution: int) -> Round:
        """The same with box, points and prompts in coordinates of the slice that a model's `view` shows."""
        prompts = view.prompts_to_slice(self.prompts, resolution)
        added = view.prompts_to_slice(Prompts(self.points, self.box), resolution)
        return replace(self, prompts=prompts, points=added.points, box=added.box)


@dataclass(frozen=True)
class _Proposal:
    """A box in cells and, where many were compared, the expected Dice of the present mask and of its own."""

    box: Box
    expected: tuple[float, float] = (np.nan, np.nan)


@dataclass(frozen=True, eq=False)
class Trial:
    """What a round tried, before any rule judged it.

    Parameters
    ----------
    added : Prompts
        The box and the points that were added.
    prompts : Prompts
        What was tried.
    before, after : Evidence
    region : (h, w) bool array
        Around both boxes.
    labels : str
        Who labelled the points.
    """

    added: Prompts
    prompts: Prompts
    before: Evidence
    after: Evidence
    region: Mask
    labels: str

    def judged(self, rule: str, margin: float | None, guard: tuple[float, float] | None) -> Round:
        """The round with a rule's verdict; its belief is what is to be used if that is to accept."""
        after = self.after
        if rule == "per-pixel":
            after = replace(after, belief=pixelwise(self.before.belief, after.belief))
        verdict = verify(self.before, after, self.region, rule=rule, margin=margin, guard=guard)
        old, new = (mean_uncertainty(e.belief.entropy(), self.region) for e in (self.before, after))
        told = verdict.before, verdict.after, verdict.accepted, verdict.reason
        what = self.added.box, self.added.points, self.prompts, after.belief
        return Round(*told, *what, verdict.area_ratio, rule, self.labels, (old, new))


@dataclass(frozen=True, eq=False)
class Attempt:
    """What all rounds of a refinement have in common; see :func:`refine`."""

    engine: Engine
    embedding: Embedding
    estimator: Estimator
    rng: np.random.Generator
    settings: UgpaSettings
    grid: Grid
    truth: Truth | None = None

    def round(self, prompts: Prompts, belief: Belief, given: Box | None) -> Round:
        """One round, judged as the settings say; `given` is the user's box in cells."""
        tried = self.trial(prompts, belief, given)
        settings = self.settings
        return (
            tried if isinstance(tried, Round) else tried.judged(settings.verification, settings.margin, settings.guard)
        )

    def trial(self, prompts: Prompts, belief: Belief, given: Box | None) -> Trial | Round:
        """What a round tries, and what comes of it; a skipped round where there is nothing to try."""
        settings, grid = self.settings, self.grid
        start = start_box(prompts, belief, grid)
        if start is None:
            why = "there is neither a box nor a mask to start from; draw a box"
            return _skipped(prompts, belief, None, why)
        found = self._propose(start, given or start, prompts, belief)
        region = cells_in(grid.shape, start, settings.dilation)
        if isinstance(found, str):
            return _skipped(prompts, belief, region, found)
        region |= cells_in(grid.shape, found.box, settings.dilation)
        added = grid.prompts(found.box, self._labelled(start, prompts, belief))
        tried = replace(prompts, box=added.box, points=(*prompts.points, *added.points))
        after = self.estimator.estimate(self.engine, self.embedding, tried, self.rng)
        before = Evidence(belief, partial(self._redrawn, prompts), found.expected[0])
        behind = Evidence(after, partial(self._redrawn, tried), found.expected[1])
        return Trial(added, tried, before, behind, region, settings.labels)

    def _redrawn(self, prompts: Prompts) -> NDArray[np.float32]:
        """Logits ``(n, h, w)`` of the prompts with other boxes about theirs."""
        shape, resolution = self.embedding.shape, self.engine.resolution
        variants = REDRAWN.variants(prompts, self.rng, shape=shape, resolution=resolution)
        return decoded_logits(self.engine.decode(self.embedding, variants))

    def _propose(self, start: Box, given: Box, prompts: Prompts, belief: Belief) -> _Proposal | str:
        """A box to try, or why there is none."""
        settings = self.settings
        by_uncertainty = settings.proposals == "uncertain"
        box = self._uncertain_box(start, prompts, belief) if by_uncertainty else None
        if box is None and by_uncertainty:
            most = float(belief.entropy().max())
            why = "nothing uncertain touches the object" if most >= settings.floor else "the mask is certain everywhere"
            return f"{why} (at most {most:.2f} nats)"
        if box is not None and not RULES[settings.verification].compares_boxes:
            return _Proposal(box)
        extra = () if box is None else (box,)
        tried = hypothesise(self.engine, self.embedding, prompts, start, self.grid, extra)
        expected = tried.expected_dice(given, self.embedding.image)
        best = 1 if extra else int(np.where(tried.faithful(self.grid), expected, -np.inf).argmax())
        if best == 0:
            return f"of {len(expected)} boxes the present one explains best what is seen"
        return _Proposal(tried.boxes[best], (float(expected[0]), float(expected[best])))

    def _uncertain_box(self, start: Box, prompts: Prompts, belief: Belief) -> Box | None:
        settings = self.settings
        box = uncertain_box(
            belief.entropy(),
            belief.probability(),
            start,
            threshold=settings.threshold,
            components=settings.components,
            floor=settings.floor,
            dilation=settings.dilation,
            smallest=settings.smallest,
        )
        if box is None or settings.extent == "uncertain":
            return box
        mask = belief.logits() > 0
        parts = [Box.of_mask(mask)] if mask.any() else []
        parts += [Box(y, x, y, x) for y, x in self.grid.points_to_cells(p for p in prompts.points if p.positive)]
        for part in parts:
            box = box.union(part)
        return box

    def _labelled(self, start: Box, prompts: Prompts, belief: Belief) -> tuple[tuple[int, int, bool], ...]:
        """The most uncertain cells with their labels, by the settings' rule."""
        settings, grid = self.settings, self.grid
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
        elif settings.labels == "oracle" and self.truth is not None:
            labels = [bool(self.truth(*grid.view.point_to_slice(p.y, p.x, grid.shape))) for p in found]
        return tuple((p.y, p.x, label) for p, label in zip(found, labels, strict=True))


def _skipped(prompts: Prompts, belief: Belief, region: Mask | None, why: str) -> Round:
    usable = region if region is not None and region.any() else None
    mean = mean_uncertainty(belief.entropy(), usable)
    return Round(mean, mean, False, f"Kept the mask as it is: {why}.", None, (), prompts)


def start_box(prompts: Prompts, belief: Belief, grid: Grid) -> Box | None:
    """The user's box in cells, or that of the mask."""
    if prompts.box is not None:
        return grid.box_to_cells(prompts.box)
    mask = belief.logits() > 0
    return Box.of_mask(mask) if mask.any() else None
