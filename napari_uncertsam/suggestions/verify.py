"""Is the refined mask better? MedSAM-U's eq. 14 in its several readings, behind a guard against collapse.

A lower mean entropy is a weak sign of a better mask, so rules are a table: a better one is one more line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief, PointBelief
from napari_uncertsam.uncertainty import mean_uncertainty

Mask = NDArray[np.bool_]

#: Area after over area before outside of which a refinement is refused.
GUARD = (0.25, 4.0)


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on a refinement.

    Parameters
    ----------
    accepted : bool
    before, after : float
        What the rule compared, in the rule's unit (nats for the mean entropies).
    area_ratio : float
        Area of the mask after over the area before; infinite where there was none before, NaN where both are empty.
    reason : str
        One sentence for the user.
    """

    accepted: bool
    before: float
    after: float
    area_ratio: float
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A number per belief, and whether a smaller one is better.

    Parameters
    ----------
    title : str
        What the number is, as it stands in a sentence.
    measure : callable (belief, roi) -> float
        NaN where it cannot be told; the refinement is then refused.
    lower_is_better : bool
    """

    title: str
    measure: Callable[[Belief, Mask], float]
    lower_is_better: bool = True


def _roi_mean(belief: Belief, roi: Mask) -> float:
    return mean_uncertainty(belief.entropy(), roi)


def _image_mean(belief: Belief, roi: Mask) -> float:
    return mean_uncertainty(belief.entropy())


def _per_area(belief: Belief, roi: Mask) -> float:
    expected = float(belief.probability().sum(dtype=np.float64))
    return float(belief.entropy().sum(dtype=np.float64)) / expected if expected > 0 else math.inf


def _predicted_iou(belief: Belief, roi: Mask) -> float:
    return math.nan if belief.predicted_iou is None else belief.predicted_iou


#: Name to rule. "per-pixel" compares the ROI mean too, but of the pixelwise choice, see :func:`pixelwise`.
RULES: dict[str, Rule] = {
    "mean-entropy-roi": Rule("mean uncertainty around the object", _roi_mean),
    "mean-entropy-image": Rule("mean uncertainty of the view", _image_mean),
    "per-pixel": Rule("mean uncertainty around the object", _roi_mean),
    "size-normalised": Rule("uncertainty per area of the object", _per_area),
    "predicted-iou": Rule("model's estimate of its overlap", _predicted_iou, lower_is_better=False),
}


def pixelwise(before: Belief, after: Belief) -> PointBelief:
    """Eq. 14 read literally: in every pixel the belief that is less uncertain there.

    What two methods' samples have in common is lost, so the result is a single prediction whose variance is that of the
    chosen belief.
    """
    take = after.entropy() < before.entropy()
    deviation = np.where(take, after.standard_deviation(), before.standard_deviation())
    iou = [b.predicted_iou for b in (before, after) if b.predicted_iou is not None]
    return PointBelief(
        np.where(take, after.logits(), before.logits()), deviation**2, float(np.mean(iou)) if iou else None
    )


def verify(
    before: Belief,
    after: Belief,
    roi: Mask | None = None,
    *,
    rule: str = "mean-entropy-roi",
    guard: tuple[float, float] | None = GUARD,
) -> Verification:
    """Compare two beliefs about one object.

    Parameters
    ----------
    before, after : Belief
        On the same grid. For the rule "per-pixel", `after` is what :func:`pixelwise` made.
    roi : (h, w) bool array, optional
        The same region for both, e.g. both boxes dilated; None for the whole view.
    rule : str
        A name of :data:`RULES`.
    guard : (float, float), optional
        Allowed ratio of the areas; a mean entropy alone rewards a mask that vanishes. None for no guard.

    Raises
    ------
    InputError
        If there is no such rule, or the shapes differ, or the region is empty.

    Examples
    --------
    >>> vague, clear = (PointBelief(np.full((4, 4), v)) for v in (0.5, 3.0))
    >>> verify(vague, clear).reason
    'Accepted: the mean uncertainty around the object fell from 0.663 to 0.191.'
    """
    if rule not in RULES:
        raise InputError(f"There is no verification rule {rule!r}; choose one of {', '.join(RULES)}.")
    if before.shape != after.shape:
        raise InputError(f"Beliefs on different grids, {before.shape} and {after.shape}, cannot be compared.")
    region = np.ones(before.shape, np.bool_) if roi is None else roi
    chosen = RULES[rule]
    old, new = chosen.measure(before, region), chosen.measure(after, region)
    areas = [int((b.logits() > 0).sum()) for b in (before, after)]
    ratio = areas[1] / areas[0] if areas[0] else (math.inf if areas[1] else math.nan)
    accepted, reason = _verdict(chosen, old, new, areas, guard)
    return Verification(accepted, old, new, ratio, reason)


def _verdict(
    rule: Rule, old: float, new: float, areas: list[int], guard: tuple[float, float] | None
) -> tuple[bool, str]:
    """Whether to accept, and the sentence that says why. Where there was no mask before, any mask passes the guard."""
    refused = "Kept the earlier mask:"
    if guard is not None and areas[1] == 0:
        return False, f"{refused} the refined one would be empty."
    if guard is not None and areas[0] and not guard[0] <= areas[1] / areas[0] <= guard[1]:
        change = f"{areas[1] / areas[0]:.2g} times the area, outside of {guard[0]:g} to {guard[1]:g}"
        return False, f"{refused} the refined one has {change}, so its lower uncertainty would not mean much."
    if math.isnan(old) or math.isnan(new):
        return False, f"{refused} this method does not tell the {rule.title}."
    better = new < old if rule.lower_is_better else new > old
    moved = "fell" if new < old else "rose" if new > old else "stayed"
    values = f"at {old:.3f}" if new == old else f"from {old:.3f} to {new:.3f}"
    return better, f"{'Accepted' if better else refused[:-1]}: the {rule.title} {moved} {values}."
