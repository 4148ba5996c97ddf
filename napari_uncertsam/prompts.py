"""Points, boxes and suggestions as immutable values.

Coordinates are array indices of the slice as displayed: ``(y, x)``, pixel centres at integers. SAM 2 wants ``(x, y)``;
:func:`to_sam_points` is the one place where the order is flipped.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError

#: SAM's point labels.
NEGATIVE, POSITIVE, BOX_CORNER_MIN, BOX_CORNER_MAX = 0, 1, 2, 3


def _finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"The coordinate {name} = {value} is not a finite number; give a position in pixels.")


@dataclass(frozen=True, slots=True)
class Point:
    """A click at ``(y, x)`` in pixels; `positive` says whether it lies inside the object.

    `given` is False for points that an automatic round made up: prompts for the model, but nobody's answer.
    """

    y: float
    x: float
    positive: bool = True
    given: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        # napari hands over numpy scalars; plain floats keep equality, hashing and JSON simple.
        object.__setattr__(self, "y", float(self.y))
        object.__setattr__(self, "x", float(self.x))
        object.__setattr__(self, "positive", bool(self.positive))
        _finite(y=self.y, x=self.x)

    def is_in(self, height: int, width: int) -> bool:
        """Whether the point lies on a pixel of a ``(height, width)`` image."""
        return -0.5 <= self.y <= height - 0.5 and -0.5 <= self.x <= width - 0.5


@dataclass(frozen=True, slots=True)
class Box:
    """A box by the pixel centres of its corners, ``(y0, x0)`` top-left and ``(y1, x1)`` bottom-right, in pixels.

    Corners given in any order are sorted. The box of a single pixel has ``y0 == y1`` and ``x0 == x1``.

    Examples
    --------
    >>> Box(30, 5, 10, 25)
    Box(y0=10.0, x0=5.0, y1=30.0, x1=25.0)
    >>> Box(0, 0, 9, 19).area
    200.0
    """

    y0: float
    x0: float
    y1: float
    x1: float

    def __post_init__(self) -> None:
        y0, x0, y1, x1 = (float(v) for v in (self.y0, self.x0, self.y1, self.x1))
        _finite(y0=y0, x0=x0, y1=y1, x1=x1)
        for name, value in (("y0", min(y0, y1)), ("x0", min(x0, x1)), ("y1", max(y0, y1)), ("x1", max(x0, x1))):
            object.__setattr__(self, name, value)

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> Box:
        """Tight box of the nonzero pixels of a ``(H, W)`` mask.

        Raises
        ------
        InputError
            If the mask has no nonzero pixel.
        """
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if rows.size == 0:
            raise InputError("An empty mask has no bounding box.")
        return cls(rows[0], columns[0], rows[-1], columns[-1])

    @property
    def height(self) -> float:
        """Rows spanned, counting both end pixels."""
        return self.y1 - self.y0 + 1

    @property
    def width(self) -> float:
        """Columns spanned, counting both end pixels."""
        return self.x1 - self.x0 + 1

    @property
    def area(self) -> float:
        """Area in pixels, end pixels included."""
        return self.height * self.width

    @property
    def centre(self) -> tuple[float, float]:
        """Centre ``(y, x)``."""
        return (self.y0 + self.y1) / 2, (self.x0 + self.x1) / 2

    def meets(self, height: int, width: int) -> bool:
        """Whether any part of the box lies on a ``(height, width)`` image."""
        return self.y1 >= -0.5 and self.x1 >= -0.5 and self.y0 <= height - 0.5 and self.x0 <= width - 0.5

    def clip(self, height: int, width: int) -> Box:
        """The part of the box inside a ``(height, width)`` image.

        Raises
        ------
        InputError
            If no part of the box is inside.
        """
        if not self.meets(height, width):
            raise InputError(
                f"The box ({self.y0:g}, {self.x0:g}) to ({self.y1:g}, {self.x1:g}) lies outside the {height} x {width} "
                "image; draw it over the object."
            )
        top, bottom = (min(max(v, 0.0), height - 1.0) for v in (self.y0, self.y1))
        left, right = (min(max(v, 0.0), width - 1.0) for v in (self.x0, self.x1))
        return Box(top, left, bottom, right)

    def expand(self, factor: float) -> Box:
        """The box with its sides scaled by `factor` about its centre; it never gets smaller than a pixel."""
        cy, cx = self.centre
        half_h, half_w = (max(n * factor - 1, 0.0) / 2 for n in (self.height, self.width))
        return Box(cy - half_h, cx - half_w, cy + half_h, cx + half_w)

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        low = (min(self.y0, other.y0), min(self.x0, other.x0))
        return Box(*low, max(self.y1, other.y1), max(self.x1, other.x1))

    def intersection(self, other: Box) -> float:
        """Area shared with `other`, in pixels."""
        height = min(self.y1, other.y1) - max(self.y0, other.y0) + 1
        width = min(self.x1, other.x1) - max(self.x0, other.x0) + 1
        return max(height, 0.0) * max(width, 0.0)

    def iou(self, other: Box) -> float:
        """Intersection over union with `other`, in [0, 1]."""
        shared = self.intersection(other)
        return shared / (self.area + other.area - shared)


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """Low-resolution logits of an earlier prediction, given back to the model as a prompt.

    Parameters
    ----------
    logits : (h, w) float32
        In the frame of the view that the prompt is used with. Made read-only; equality and hash are by content.
    """

    logits: NDArray[np.float32] = field(compare=False, repr=False)
    digest: str = ""

    def __post_init__(self) -> None:
        logits = np.array(self.logits, dtype=np.float32, order="C")
        if logits.ndim != 2 or logits.size == 0 or not np.isfinite(logits).all():
            raise InputError(f"A mask prompt is a finite (h, w) array of logits, not one of shape {logits.shape}.")
        logits.setflags(write=False)
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "digest", hashlib.sha256(logits.tobytes() + repr(logits.shape).encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Prompts:
    """Everything the user said about one object on one slice.

    Parameters
    ----------
    points : tuple of Point
    box : Box, optional
    mask : MaskPrompt, optional
        Previous low-resolution logits.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: MaskPrompt | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to segment from: no box, no positive point and no mask."""
        return self.box is None and self.mask is None and not any(p.positive for p in self.points)

    def with_point(self, point: Point) -> Prompts:
        """These prompts and one more point."""
        return replace(self, points=(*self.points, point))

    def with_box(self, box: Box | None) -> Prompts:
        """These prompts with another box (or none)."""
        return replace(self, box=box)

    def with_mask(self, mask: MaskPrompt | None) -> Prompts:
        """These prompts with another mask prompt (or none)."""
        return replace(self, mask=mask)

    def clipped(self, height: int, width: int) -> Prompts:
        """These prompts with the box clipped to the image; a point outside the image is an error.

        Raises
        ------
        InputError
            If a point, or the whole box, is outside the ``(height, width)`` image, or one point is said to be both
            inside and outside of the object.
        """
        inside, outside = ({(p.y, p.x) for p in self.points if p.positive is sign} for sign in (True, False))
        for y, x in sorted(inside & outside):
            raise InputError(f"The point ({y:g}, {x:g}) is given as inside and as outside; keep one of the two.")
        for point in self.points:
            if not point.is_in(height, width):
                raise InputError(
                    f"The point ({point.y:g}, {point.x:g}) lies outside the {height} x {width} image; "
                    "give one inside it."
                )
        return self if self.box is None else self.with_box(self.box.clip(height, width))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A place where an answer would help: a point to be labelled, or a box to be used instead.

    Parameters
    ----------
    kind : {"point", "box"}
    y, x : float
        The point, or the centre of the box.
    score : float
        Uncertainty there in nats, in [0, ln 2] (for a box: its mean inside).
    probability : float
        Probability that the place is inside the object (for a box: the mean inside).
    box : Box, optional
        For ``kind="box"``.
    gain : float
        By how much an answer is expected to reduce the uncertain area, in pixels of the slice: by how many fewer pixels
        the mask is then expected to be wrong. NaN where the way of suggesting does not say.
    """

    kind: Literal["point", "box"]
    y: float
    x: float
    score: float
    probability: float
    box: Box | None = None
    gain: float = math.nan

    def answer(self, inside: bool) -> Point:
        """The point prompt that an answer to this suggestion amounts to."""
        return Point(self.y, self.x, inside)


def to_sam_points(prompts: Prompts) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Box corners and points in SAM's order ``(x, y)`` with SAM's labels.

    Returns
    -------
    coordinates : (n, 2) float32
        ``(x, y)``; the two box corners first, as `SAM2ImagePredictor` puts them.
    labels : (n,) int32
        0 negative, 1 positive, 2 and 3 box corners.
    """
    rows: list[tuple[float, float, int]] = []
    if prompts.box is not None:
        box = prompts.box
        rows += [(box.x0, box.y0, BOX_CORNER_MIN), (box.x1, box.y1, BOX_CORNER_MAX)]
    rows += [(p.x, p.y, POSITIVE if p.positive else NEGATIVE) for p in prompts.points]
    table = np.asarray(rows, np.float32).reshape(-1, 3)
    return np.ascontiguousarray(table[:, :2]), table[:, 2].astype(np.int32)
