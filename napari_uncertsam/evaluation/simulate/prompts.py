"""What a case is prompted with, by name: ``gt-box``, ``box-0.5``, ``points-10+box-0.5``, ``3B(0.75)``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate.boxes import Overlap, box_at_overlap, noisy_box
from napari_uncertsam.evaluation.simulate.clicks import centre_click, random_clicks
from napari_uncertsam.prompts import Box, Point, Prompts

BoxKind = Literal["tight", "noisy", "overlap", "mask"]
PointKind = Literal["centre", "random"]

#: What :func:`parse_prompt` understands, for help and error messages; K and N are numbers, R is an overlap in (0, 1].
CHOICES = (
    "gt-box",
    "noisy-box",
    "box-R",
    "box-R-coverage",
    "boxes-N-R",
    "boxes-N-R-coverage",
    "gt-mask",
    "points-K",
    "click",
)
_BOX = re.compile(r"(?:box-|boxes-(?P<n>\d{1,4})-)(?P<r>\d*\.?\d+)(?P<by>-coverage)?")
_BOX_ALIAS = re.compile(r"(?P<n>\d{1,4})b\((?P<r>\d*\.?\d+)\)(?P<by>-coverage)?")
#: Names and titles of boxes without an overlap.
_WITHOUT_OVERLAP: dict[BoxKind, tuple[str, str]] = {
    "tight": ("gt-box", "tight box"),
    "noisy": ("noisy-box", "tight box with UncertSAM's noise"),
    "mask": ("gt-mask", "tight box and the true mask"),
}
_POINTS = re.compile(r"points-(\d{1,4})|(\d{1,4})p")


@dataclass(frozen=True, slots=True)
class BoxRule:
    """How the box of a prompt is drawn.

    Parameters
    ----------
    kind : {"tight", "noisy", "overlap", "mask"}
        The true box, the true box with UncertSAM's noise, one at an overlap, or the true box that comes with the true
        mask as a mask prompt: an upper bound.
    overlap : float
        In (0, 1), for ``kind="overlap"``; the others are of overlap 1.
    by : {"iou", "coverage"}
        What the overlap is.
    count : int
        How many boxes, each a prediction of its own; only boxes at an overlap can be several.

    Raises
    ------
    InputError
        If the numbers do not make sense.
    """

    kind: BoxKind = "tight"
    overlap: float = 1.0
    by: Overlap = "iou"
    count: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(BoxKind) or self.by not in get_args(Overlap):
            raise InputError(f"There is no box {self.kind!r} by {self.by!r}; see the names of prompts.")
        if self.kind == "overlap" and not 0 < self.overlap < 1:
            raise InputError(f"A box at an overlap of {self.overlap} is impossible; choose one between 0 and 1.")
        if self.kind != "overlap" and (self.overlap, self.count, self.by) != (1.0, 1, "iou"):
            raise InputError(f"A {self.kind} box has no overlap and is one only; use a box at an overlap instead.")
        if self.count < 1:
            raise InputError(f"The number of boxes is at least 1, not {self.count}.")

    @property
    def name(self) -> str:
        """As :func:`parse_prompt` reads it."""
        if self.kind != "overlap":
            return _WITHOUT_OVERLAP[self.kind][0]
        several = "box" if self.count == 1 else f"boxes-{self.count}"
        return f"{several}-{_plain(self.overlap)}" + ("-coverage" if self.by == "coverage" else "")

    @property
    def title(self) -> str:
        """For people."""
        if self.kind != "overlap":
            return _WITHOUT_OVERLAP[self.kind][1]
        what = "IoU" if self.by == "iou" else "coverage"
        return f"{'box' if self.count == 1 else f'{self.count} boxes'} at {what} {_plain(self.overlap)}"

    def draw(self, truth: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Box, ...]:
        """Boxes for a true mask ``(H, W)``."""
        height, width = truth.shape
        tight = Box.of_mask(truth)
        if self.kind in ("tight", "mask"):
            return (tight,)
        if self.kind == "noisy":
            return (noisy_box(tight, rng, (height, width)),)
        return tuple(box_at_overlap(tight, self.overlap, rng, (height, width), self.by) for _ in range(self.count))


@dataclass(frozen=True, slots=True)
class PointRule:
    """How the points of a prompt are drawn: the most interior pixel, or `count` distinct pixels of the object.

    Raises
    ------
    InputError
        If there is no such kind, the number is below 1, or there are several centres.
    """

    kind: PointKind = "centre"
    count: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(PointKind):
            raise InputError(f"There are no points {self.kind!r}; choose one of {', '.join(get_args(PointKind))}.")
        if self.count < 1 or (self.kind == "centre" and self.count > 1):
            raise InputError(f"{self.count} {self.kind} points cannot be drawn; use 1 centre, or 1 or more at random.")

    @property
    def name(self) -> str:
        """As :func:`parse_prompt` reads it."""
        return "click" if self.kind == "centre" else f"points-{self.count}"

    @property
    def title(self) -> str:
        """For people."""
        if self.kind == "centre":
            return "click at the centre"
        return f"{self.count} random {'click' if self.count == 1 else 'clicks'}"

    def draw(self, truth: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Point, ...]:
        """Points for a true mask ``(H, W)``, all positive."""
        return (centre_click(truth),) if self.kind == "centre" else random_clicks(truth, self.count, rng)


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """How a case is prompted: points, a box, or both.

    Raises
    ------
    InputError
        If there is neither.

    Examples
    --------
    >>> spec = parse_prompt("10P&3B(0.5)")
    >>> spec.name, spec.title, spec.count
    ('points-10+boxes-3-0.5', '10 random clicks and 3 boxes at IoU 0.5', 3)
    >>> [prompts] = parse_prompt("gt-box").draw(np.eye(4) > 0, np.random.default_rng(0))
    >>> prompts.box
    Box(y0=0.0, x0=0.0, y1=3.0, x1=3.0)
    """

    points: PointRule | None = None
    box: BoxRule | None = None

    def __post_init__(self) -> None:
        if self.points is None and self.box is None:
            raise InputError("A prompt needs points or a box; choose for example gt-box.")

    @property
    def name(self) -> str:
        """The canonical name, which :func:`parse_prompt` reads: equal specifications have equal names."""
        return "+".join(part.name for part in (self.points, self.box) if part is not None)

    @property
    def title(self) -> str:
        """For people."""
        return " and ".join(part.title for part in (self.points, self.box) if part is not None)

    @property
    def count(self) -> int:
        """How many predictions are averaged."""
        return 1 if self.box is None else self.box.count

    @property
    def hint(self) -> bool:
        """Whether the true mask is a mask prompt too; it depends on the view, so that :meth:`draw` leaves it out."""
        return self.box is not None and self.box.kind == "mask"

    @property
    def opens(self) -> bool:
        """Whether an annotator can go on from it: a single prediction from what a user can give."""
        return self.count == 1 and not self.hint

    def draw(self, truth: NDArray[Any], rng: np.random.Generator) -> tuple[Prompts, ...]:
        """Prompts for an object.

        Parameters
        ----------
        truth : (H, W)
            The true mask, nonzero inside; not empty.
        rng : numpy.random.Generator

        Returns
        -------
        tuple of Prompts
            `count` of them, in slice coordinates. The predictions of several are to be averaged: they differ in the
            box and share the points.

        Raises
        ------
        InputError
            If the mask is empty or no box has the overlap.
        """
        mask = np.asarray(truth) != 0
        points = () if self.points is None else self.points.draw(mask, rng)
        boxes = (None,) if self.box is None else self.box.draw(mask, rng)
        return tuple(Prompts(points, box) for box in boxes)


def parse_prompt(text: str) -> PromptSpec:
    """Read the name of a prompt, in any case: one of :data:`CHOICES`, or points and a box joined by ``+``.

    Names of the MedSAM-U paper are understood: ``3P`` is points-3, ``3B(0.5)`` is boxes-3-0.5, ``&`` is ``+``. Boxes at
    overlap 1 are the tight box.

    Raises
    ------
    InputError
        If there is no such prompt.

    Examples
    --------
    >>> [parse_prompt(t).name for t in ("GT-Box", "box-.50", "3b(0.75)", "5P", "box-0.5+click")]
    ['gt-box', 'box-0.5', 'boxes-3-0.75', 'points-5', 'click+box-0.5']
    """
    points: PointRule | None = None
    box: BoxRule | None = None
    for term in re.split(r"[+&]", text.lower()):
        rule = _parse_term(term.strip())
        if isinstance(rule, BoxRule) and box is None:
            box = rule
        elif isinstance(rule, PointRule) and points is None:
            points = rule
        else:
            why = "is none" if rule is None else "has more than one of a kind"
            raise InputError(
                f"The prompt {text.strip()!r} {why}; choose {', '.join(CHOICES)} (R is an overlap above 0 and at most "
                "1), or points and a box joined by +, such as points-10+box-0.5."
            )
    return PromptSpec(points, box)


def parse_prompts(text: str) -> tuple[PromptSpec, ...]:
    """Read a list of prompts separated by commas, in its order; those named twice are taken once.

    Raises
    ------
    InputError
        If the list is empty or one of them does not exist.

    Examples
    --------
    >>> [spec.name for spec in parse_prompts("gt-box, 3P, points-3")]
    ['gt-box', 'points-3']
    """
    names = [name for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"No prompt is named; choose among {', '.join(CHOICES)}, separated by commas.")
    return tuple(dict.fromkeys(parse_prompt(name) for name in names))


def _parse_term(term: str) -> BoxRule | PointRule | None:
    """The rule of one term; None where it is none, numbers that do not make sense included."""
    for kind, (name, _) in _WITHOUT_OVERLAP.items():
        if term == name:
            return BoxRule(kind)
    if term == "click":
        return PointRule()
    if points := _POINTS.fullmatch(term):
        count = int(points[1] or points[2])
        return PointRule("random", count) if count else None
    boxes = _BOX.fullmatch(term) or _BOX_ALIAS.fullmatch(term)
    if boxes is None:
        return None
    count, overlap = int(boxes["n"] or 1), float(boxes["r"])
    if not count or not 0 < overlap <= 1:
        return None
    if overlap == 1:
        return BoxRule()
    return BoxRule("overlap", overlap, "coverage" if boxes["by"] else "iou", count)


def _plain(value: float) -> str:
    """Shortest decimal that reads back as the same number, without an exponent."""
    return str(np.format_float_positional(value, trim="-"))
