"""What MedSAM-U leaves open about UGMP and UGPA, as named options, and two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.prompt_perturbation import Averaging, PromptPerturbation, Rule, Shift, Token
from napari_uncertsam.suggestions.ugpa import DILATION, FLOOR, RADIUS, Components, Spread, Threshold
from napari_uncertsam.suggestions.verify import GUARD, RULES

Proposals = Literal["hypotheses", "uncertain"]
Extent = Literal["uncertain", "uncertain+mask"]
Labels = Literal["none", "all-positive", "by-probability", "oracle"]
FirstPoints = Literal["user", "none"]


@dataclass(frozen=True, slots=True)
class UgpaSettings:
    """How an automatic round proposes prompts and decides. The defaults are the preset `recommended`.

    Settled, since there is one sensible reading: noise has zero mean (eq. 4), entropy is that of each pixel (eq. 7),
    the box of a region is that of its outer contour, by the smallest and largest coordinates (eq. 10 and 11), every
    refined box gets all points (eq. 13), and points of the user are kept throughout. To have the user label the points
    is what the suggestions of a prediction are for.

    Parameters
    ----------
    first_boxes : int or None
        N boxes about the user's, averaged, whose belief the first round starts from (UGMP, eq. 4 to 8). None starts
        from the belief that the user sees.
    include_given : bool
        Whether the user's own box is one of the first boxes.
    first_points : {"user", "none"}
        Whether the first boxes come with the user's points; where they do not, the points join in the round.
    proposals : {"hypotheses", "uncertain"}
        The best of some fifty boxes about the present one and about the masks that come of them, see
        :mod:`napari_uncertsam.suggestions.hypotheses`; or the box of what is uncertain (eq. 10 and 11).
    refined_boxes : int or None
        K_b boxes about the proposed box, averaged (eq. 9 and 13). None gives the box to the estimator as it is, so
        that before and after are measured by the same method.
    jitter : {"ugmp", "uncertsam", "pixels"}
        Noise of the first and the refined boxes.
    jitter_scale : float or None
        Relative to the side; None for the rule's own.
    shift : {"independent", "shared"}
        Noise for every coordinate, or one number for all four (eq. 9 read literally).
    include_box : bool
        Whether the proposed box itself is one of the refined boxes.
    average : {"probability", "logit", "binary"}
        What is averaged over first and refined boxes (eq. 6).
    token : {"engine", "first", "best-iou"}
        Mask token of first and refined boxes.
    threshold : {"half-max", "otsu", "absolute"}
        What counts as the uncertain edge.
    floor : float
        With the proposals "uncertain" a round is skipped if the largest uncertainty is below this, in nats.
    components : {"touching", "largest", "all"}
        Which uncertain regions count.
    smallest : int or None
        Smaller uncertain regions are dropped, in cells; None for a ten-thousandth of the view.
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
    margin : float or None
        By how much the rule's number has to be better; None for the rule's own margin.
    guard : (float, float) or None
        Allowed ratio of the areas after and before.

    Raises
    ------
    InputError
        If an option has no such choice or a number is out of range.
    """

    first_boxes: int | None = None
    include_given: bool = False
    first_points: FirstPoints = "user"
    proposals: Proposals = "hypotheses"
    refined_boxes: int | None = None
    jitter: Rule = "ugmp"
    jitter_scale: float | None = None
    shift: Shift = "independent"
    include_box: bool = True
    average: Averaging = "probability"
    token: Token = "engine"
    threshold: Threshold = "half-max"
    floor: float = FLOOR
    components: Components = "touching"
    smallest: int | None = None
    extent: Extent = "uncertain+mask"
    dilation: float = DILATION
    points: int = 0
    labels: Labels = "none"
    spread: Spread = "nms"
    radius: float = RADIUS
    verification: str = "hypotheses-entropy"
    margin: float | None = None
    guard: tuple[float, float] | None = GUARD

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "first_points": get_args(FirstPoints),
            "proposals": get_args(Proposals),
            "jitter": get_args(Rule),
            "shift": get_args(Shift),
            "average": get_args(Averaging),
            "token": get_args(Token),
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
        numbers = (self.points, self.floor, self.dilation, self.radius, self.jitter_scale, self.margin, self.smallest)
        if min(number or 0 for number in numbers) < 0 or min(self.first_boxes or 1, self.refined_boxes or 1) < 1:
            raise InputError("Counts, margins and scales of a refinement are not negative.")
        if 0 in (self.first_boxes, self.refined_boxes):
            raise InputError("A refinement has at least 1 first and at least 1 refined box; give None for neither.")
        if self.guard is not None and not 0 <= self.guard[0] <= 1 <= self.guard[1]:
            raise InputError(f"The allowed ratio of areas holds 1 and is not negative; {self.guard} does not.")

    @classmethod
    def preset(cls, name: str) -> UgpaSettings:
        """The preset of that name.

        Raises
        ------
        InputError
            If there is none.

        Examples
        --------
        >>> UgpaSettings.preset("paper").points
        10
        """
        if name not in PRESETS:
            raise InputError(f"There is no refinement {name!r}; choose one of {', '.join(PRESETS)}.")
        return PRESETS[name]

    def first(self) -> PromptPerturbation | None:
        """The estimator for the first boxes; None where the round starts from the belief that is there."""
        return self._perturbation(self.first_boxes, self.include_given)

    def refined(self) -> PromptPerturbation | None:
        """The estimator for the refined boxes; None where the user's own estimator is to be used."""
        return self._perturbation(self.refined_boxes, self.include_box)

    def _perturbation(self, boxes: int | None, include: bool) -> PromptPerturbation | None:
        if boxes is None:
            return None
        noise: dict[str, Any] = {"rule": self.jitter, "scale": self.jitter_scale, "shift": self.shift}
        return PromptPerturbation(n=boxes, include_given=include, average=self.average, token=self.token, **noise)


#: The plugin's automatic round: the box that explains best what is seen from many, no invented labels, kept where the
#: expected Dice rises noticeably and the entropy falls. It decodes some fifty masks of an embedding that is there.
RECOMMENDED = UgpaSettings()

#: MedSAM-U's best row (UGPA4: three boxes, ten points), with nothing that the paper does not say: it starts from three
#: boxes about the user's (UGMP), takes plain top-K points, all positive, and the box of the uncertain regions alone,
#: and compares the mean over the whole view without a guard.
PAPER = UgpaSettings(
    first_boxes=3,
    proposals="uncertain",
    refined_boxes=3,
    include_box=False,
    token="first",
    extent="uncertain",
    points=10,
    labels="all-positive",
    spread="none",
    verification="mean-entropy-image",
    guard=None,
)

#: Presets by name.
PRESETS: dict[str, UgpaSettings] = {"recommended": RECOMMENDED, "paper": PAPER}
