"""Is the refined mask better? MedSAM-U's eq. 14 in its several readings, and rules that work, behind a guard.

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
from napari_uncertsam.suggestions.hypotheses import dice_matrix, outlines
from napari_uncertsam.uncertainty import mean_uncertainty

Mask = NDArray[np.bool_]

#: Area after over area before outside of which a refinement is refused.
GUARD = (0.25, 4.0)
#: How much expected Dice the rule "hypotheses" asks for, and how much where another rule has to agree. Chosen on 270
#: synthetic images that the coefficients were not fitted on: with "hypotheses-entropy" masks of tight boxes lose 0.001
#: Dice on average (4 of 270 are harmed), those of boxes at overlap 0.75 gain 0.002, of boxes at 0.5 0.054.
MARGIN, SECONDED_MARGIN = 0.08, 0.06
#: How much more overlap the model has to see in its own mask for "hypotheses-iou".
MORE_OVERLAP = 0.03


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


@dataclass(frozen=True, eq=False)
class Evidence:
    """A belief, and what is known beside it.

    Parameters
    ----------
    belief : Belief
    redrawn : callable () -> (n, h, w) logits, optional
        Asks for the masks of boxes drawn a little differently; only rules that need them do.
    expected : float
        Expected Dice of the mask by the hypotheses, see `napari_uncertsam.suggestions.hypotheses`; NaN without them.
    """

    belief: Belief
    redrawn: Callable[[], NDArray[np.float32]] | None = None
    expected: float = math.nan

    @property
    def mask(self) -> Mask:
        """``(h, w)`` bool."""
        return np.asarray(self.belief.logits() > 0)


@dataclass(frozen=True, slots=True)
class Rule:
    """A number per belief, whether a smaller one is better, and by how much it has to be.

    Parameters
    ----------
    title : str
        What the number is, as it stands in a sentence.
    measure : callable (evidence, roi) -> float
        NaN where it cannot be told; the refinement is then refused.
    lower_is_better : bool
    margin : float
    also : (str, float), optional
        Another rule whose number has to get better too, and by how much, where it can be told.
    compares_boxes : bool
        Whether it needs the expected Dice over many boxes.
    """

    title: str
    measure: Callable[[Evidence, Mask], float]
    lower_is_better: bool = True
    margin: float = 0.0
    also: tuple[str, float] | None = None
    compares_boxes: bool = False

    def gain(self, old: float, new: float) -> float:
        """By how much a number got better."""
        return old - new if self.lower_is_better else new - old


def _roi_mean(evidence: Evidence, roi: Mask) -> float:
    return mean_uncertainty(evidence.belief.entropy(), roi)


def _image_mean(evidence: Evidence, roi: Mask) -> float:
    return mean_uncertainty(evidence.belief.entropy())


def _per_area(evidence: Evidence, roi: Mask) -> float:
    expected = float(evidence.belief.probability().sum(dtype=np.float64))
    return float(evidence.belief.entropy().sum(dtype=np.float64)) / expected if expected > 0 else math.inf


def _per_outline(evidence: Evidence, roi: Mask) -> float:
    [length] = outlines(evidence.mask[None])
    return float(evidence.belief.entropy().sum(dtype=np.float64)) / length if length else math.inf


def _predicted_iou(evidence: Evidence, roi: Mask) -> float:
    overlap = evidence.belief.predicted_iou
    return math.nan if overlap is None else float(overlap)


def _own_dice(evidence: Evidence, roi: Mask) -> float:
    probability, mask = evidence.belief.probability(), evidence.mask
    total = float(probability.sum(dtype=np.float64)) + float(mask.sum())
    return 2 * float(probability[mask].sum(dtype=np.float64)) / total if total > 0 else math.nan


def _own_iou(evidence: Evidence, roi: Mask) -> float:
    probability, mask = evidence.belief.probability(), evidence.mask
    union = float(np.maximum(probability, mask).sum(dtype=np.float64))
    return float(probability[mask].sum(dtype=np.float64)) / union if union > 0 else math.nan


def _agreement(evidence: Evidence, roi: Mask) -> float:
    if evidence.redrawn is None:
        return math.nan
    masks = np.concatenate([evidence.mask[None], evidence.redrawn() > 0])
    return float(dice_matrix(masks)[0, 1:].mean())


def _trusted_agreement(evidence: Evidence, roi: Mask) -> float:
    return _predicted_iou(evidence, roi) * _agreement(evidence, roi)


def _expected(evidence: Evidence, roi: Mask) -> float:
    return evidence.expected


#: Name to rule. "per-pixel" compares the ROI mean too, but of the pixelwise choice, see :func:`pixelwise`. The expected
#: Dice and IoU are those of the belief's own probabilities with its mask; "agreement" is the mean Dice with the masks
#: of boxes drawn a little differently about the box; "hypotheses" the expected Dice over all boxes that were tried, to
#: which "hypotheses-iou" adds that the model itself sees more overlap, "hypotheses-entropy" eq. 14.
RULES: dict[str, Rule] = {
    "mean-entropy-roi": Rule("mean uncertainty around the object", _roi_mean),
    "mean-entropy-image": Rule("mean uncertainty of the view", _image_mean),
    "per-pixel": Rule("mean uncertainty around the object", _roi_mean),
    "size-normalised": Rule("uncertainty per area of the object", _per_area),
    "entropy-per-outline": Rule("uncertainty per length of the outline", _per_outline),
    "predicted-iou": Rule("model's estimate of its overlap", _predicted_iou, lower_is_better=False),
    "expected-dice": Rule("Dice that the probabilities expect", _own_dice, lower_is_better=False),
    "expected-iou": Rule("overlap that the probabilities expect", _own_iou, lower_is_better=False),
    "agreement": Rule("agreement with boxes drawn a little differently", _agreement, lower_is_better=False),
    "iou-agreement": Rule("agreement times the estimated overlap", _trusted_agreement, lower_is_better=False),
    **{
        name: Rule("agreement with the masks of many boxes", _expected, False, margin, also, compares_boxes=True)
        for name, margin, also in (
            ("hypotheses", MARGIN, None),
            ("hypotheses-iou", MARGIN, ("predicted-iou", MORE_OVERLAP)),
            ("hypotheses-entropy", SECONDED_MARGIN, ("mean-entropy-image", 0.0)),
        )
    },
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
    before: Evidence,
    after: Evidence,
    roi: Mask | None = None,
    *,
    rule: str = "mean-entropy-roi",
    margin: float | None = None,
    guard: tuple[float, float] | None = GUARD,
) -> Verification:
    """Compare two beliefs about one object.

    Parameters
    ----------
    before, after : Evidence
        Of beliefs on the same grid. For the rule "per-pixel", that of `after` is what :func:`pixelwise` made.
    roi : (h, w) bool array, optional
        The same region for both, e.g. both boxes dilated; None for the whole view.
    rule : str
        A name of :data:`RULES`.
    margin : float, optional
        By how much the number has to be better; None for the rule's own.
    guard : (float, float), optional
        Allowed ratio of the areas; a mean entropy alone rewards a mask that vanishes. None for no guard.

    Raises
    ------
    InputError
        If there is no such rule, or the shapes differ, or the region is empty.

    Examples
    --------
    >>> vague, clear = (Evidence(PointBelief(np.full((4, 4), v))) for v in (0.5, 3.0))
    >>> verify(vague, clear).reason
    'Accepted: the mean uncertainty around the object fell from 0.663 to 0.191.'
    """
    if rule not in RULES:
        raise InputError(f"There is no verification rule {rule!r}; choose one of {', '.join(RULES)}.")
    shapes = before.belief.shape, after.belief.shape
    if shapes[0] != shapes[1]:
        raise InputError(f"Beliefs on different grids, {shapes[0]} and {shapes[1]}, cannot be compared.")
    region = np.ones(shapes[0], np.bool_) if roi is None else roi
    chosen = RULES[rule]
    areas = [int(evidence.mask.sum()) for evidence in (before, after)]
    old, new = chosen.measure(before, region), chosen.measure(after, region)
    ratio = areas[1] / areas[0] if areas[0] else (math.inf if areas[1] else math.nan)
    accepted, reason = _verdict(chosen, old, new, areas, chosen.margin if margin is None else margin, guard)
    if accepted and chosen.also is not None:
        accepted, reason = _seconded(reason, before, after, region, *chosen.also)
    return Verification(accepted, old, new, ratio, reason)


def _seconded(
    reason: str, before: Evidence, after: Evidence, region: Mask, name: str, margin: float
) -> tuple[bool, str]:
    """Whether a second rule agrees that the refined mask is better; it does where it cannot tell."""
    second = RULES[name]
    old, new = second.measure(before, region), second.measure(after, region)
    if math.isnan(old) or math.isnan(new) or second.gain(old, new) > margin:
        return True, reason
    needed = f", less than {margin:g} better" if margin else ""
    but = f"but the {second.title} went from {old:.3f} to {new:.3f}{needed}"
    return False, f"{reason.replace('Accepted', 'Kept the earlier mask').rstrip('.')}, {but}."


def _verdict(
    rule: Rule, old: float, new: float, areas: list[int], margin: float, guard: tuple[float, float] | None
) -> tuple[bool, str]:
    """Whether to accept, and the sentence that says why. Where there was no mask before, any mask passes the guard."""
    refused = "Kept the earlier mask:"
    if guard is not None and areas[1] == 0:
        return False, f"{refused} the refined one would be empty."
    if guard is not None and areas[0] and not guard[0] <= areas[1] / areas[0] <= guard[1]:
        change = f"{areas[1] / areas[0]:.2g} times the area, outside of {guard[0]:g} to {guard[1]:g}"
        return False, f"{refused} the refined one has {change}, which is too large a change to be trusted."
    if math.isnan(old) or math.isnan(new):
        return False, f"{refused} this method does not tell the {rule.title}."
    gain = rule.gain(old, new)
    better = bool(gain > margin)
    moved = "fell" if new < old else "rose" if new > old else "stayed"
    values = f"at {old:.3f}" if new == old else f"from {old:.3f} to {new:.3f}"
    short = f", by less than {margin:g}" if 0 < gain <= margin else ""
    return better, f"{'Accepted' if better else refused[:-1]}: the {rule.title} {moved} {values}{short}."
