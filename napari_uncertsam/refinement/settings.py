"""What MedSAM-U leaves open about UGPA, as named options, and two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.prompt_perturbation import PromptPerturbation, Rule, Shift
from napari_uncertsam.suggestions.ugpa import DILATION, FLOOR, RADIUS, Components, Spread, Threshold
from napari_uncertsam.suggestions.verify import GUARD, RULES

Extent = Literal["uncertain", "uncertain+mask"]
Labels = Literal["none", "all-positive", "by-probability", "oracle"]


@dataclass(frozen=True, slots=True)
class UgpaSettings:
    """How an automatic round proposes prompts and decides. The defaults are :data:`RECOMMENDED`.

    Settled, since there is one sensible reading: noise has zero mean (eq. 4), probabilities are averaged and not logits
    (eq. 6), entropy is that of each pixel (eq. 7), boxes take the smallest and largest coordinates (eq. 10 and 11), and
    points of the user are kept throughout. Which mask token is used is the engine's.

    Parameters
    ----------
    refined_boxes : int or None
        K_b boxes about the uncertain box, averaged (eq. 9 and 13). None gives the box to the estimator as it is, so
        that before and after are measured by the same method.
    jitter : {"ugmp", "uncertsam"}
        Noise of the refined boxes.
    jitter_scale : float or None
        Relative to the side; None for the rule's own.
    shift : {"independent", "shared"}
        Noise for every coordinate, or one number for all four (eq. 9 read literally).
    include_box : bool
        Whether the uncertain box itself is one of the refined boxes.
    threshold : {"half-max", "otsu", "absolute"}
        What counts as the uncertain edge.
    floor : float
        A round is skipped if the largest uncertainty is below this, in nats.
    components : {"touching", "largest", "all"}
        Which uncertain regions count.
    extent : {"uncertain+mask", "uncertain"}
        Box of the uncertain regions, the mask and the user's positive points, or of the regions alone (eq. 10 and 11
        literally). Alone, an object of which one side is uncertain is cut down to that side.
    dilation : float
        Margin about boxes relative to the longer side: for "touching", and for the region that the verification sees.
    points : int
        K_p points with the largest uncertainty (eq. 12).
    labels : {"none", "all-positive", "by-probability", "oracle"}
        Who says whether they are inside: nobody (then there are none), the paper's training ("positive points"), the
        model itself (a coin flip where it matters), or the ground truth (an upper bound that leaks it).
    spread : {"nms", "none"}
        Points at least a radius apart, or plain top-K.
    radius : float
        Relative to the diagonal of the box.
    verification : str
        A name of :data:`napari_uncertsam.suggestions.verify.RULES`.
    guard : (float, float) or None
        Allowed ratio of the areas after and before.

    Raises
    ------
    InputError
        If an option has no such choice or a number is out of range.
    """

    refined_boxes: int | None = None
    jitter: Rule = "ugmp"
    jitter_scale: float | None = None
    shift: Shift = "independent"
    include_box: bool = True
    threshold: Threshold = "half-max"
    floor: float = FLOOR
    components: Components = "touching"
    extent: Extent = "uncertain+mask"
    dilation: float = DILATION
    points: int = 0
    labels: Labels = "none"
    spread: Spread = "nms"
    radius: float = RADIUS
    verification: str = "mean-entropy-roi"
    guard: tuple[float, float] | None = GUARD

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "jitter": get_args(Rule),
            "shift": get_args(Shift),
            "threshold": get_args(Threshold),
            "components": get_args(Components),
            "extent": get_args(Extent),
            "labels": get_args(Labels),
            "spread": get_args(Spread),
            "verification": tuple(RULES),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} = {getattr(self, name)!r} is none of {', '.join(allowed)}.")
        numbers = (self.points, self.floor, self.dilation, self.radius, self.jitter_scale or 0.0)
        if min(numbers) < 0 or (self.refined_boxes is not None and self.refined_boxes < 1):
            raise InputError("Counts and scales of a refinement are not negative, and there is at least 1 refined box.")
        if self.guard is not None and not 0 <= self.guard[0] <= 1 <= self.guard[1]:
            raise InputError(f"The allowed ratio of areas holds 1 and is not negative; {self.guard} does not.")

    def refined(self) -> PromptPerturbation | None:
        """The estimator for the refined boxes; None where the user's own estimator is to be used."""
        if self.refined_boxes is None:
            return None
        return PromptPerturbation(self.jitter, self.refined_boxes, self.jitter_scale, self.shift, self.include_box)


#: The plugin's automatic round: a new box and no invented labels, judged around the object and guarded.
RECOMMENDED = UgpaSettings()

#: MedSAM-U's best row (UGPA4: three boxes, ten points), with nothing that the paper does not say: plain top-K points,
#: all positive, the box of the uncertain regions alone, the mean over the whole view, no guard.
#: Give it the belief and the estimator of :meth:`PromptPerturbation.medsam_u` for its steps 1 to 3.
PAPER = UgpaSettings(
    refined_boxes=3,
    include_box=False,
    extent="uncertain",
    points=10,
    labels="all-positive",
    spread="none",
    verification="mean-entropy-image",
    guard=None,
)
