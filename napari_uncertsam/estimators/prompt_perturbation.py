"""Prompt perturbation: draw the box again, a little differently, and see what changes.

Two published rules, both through one batched decode of one embedding:

- ``ugmp`` (MedSAM-U, eq. 4 to 8): Gaussian noise on every coordinate, standard deviation 0.05 of the side.
- ``uncertsam`` (UncertSAM's method ii): uniform noise, at most 0.1 of the side and 20 pixels of a 1024-pixel input.

MedSAM-U does not say how large its noise is; ``pixels`` reads it in pixels of the input whatever the box's size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import LOGIT_LIMIT, EnsembleBelief, decoded_iou, decoded_logits, finite_logits
from napari_uncertsam.prompts import Box, Point

if TYPE_CHECKING:
    from napari_uncertsam.engine import Decoded, Embedding, Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.prompts import Prompts

Rule = Literal["ugmp", "uncertsam", "pixels"]
Shift = Literal["independent", "shared"]
Averaging = Literal["probability", "logit", "binary"]
Token = Literal["engine", "first", "best-iou"]

#: Noise relative to the box's side: the standard deviation (ugmp) or the largest shift (uncertsam); for "pixels" the
#: standard deviation relative to the side of the view, 10 pixels of 1024.
SCALES: dict[Rule, float] = {"ugmp": 0.05, "uncertsam": 0.1, "pixels": 10 / 1024}
#: Largest shift of UncertSAM's rule, relative to the side of the view: 20 pixels of 1024.
CAP = 20 / 1024
#: Jittered sides stay at least this long, in pixels of the view, unless the given side is shorter already.
SMALLEST_SIDE = 4.0


def jitter_boxes(
    box: Box,
    n: int,
    rng: np.random.Generator,
    *,
    shape: tuple[int, int],
    resolution: int,
    rule: Rule = "ugmp",
    scale: float | None = None,
    shift: Shift = "independent",
) -> list[Box]:
    """Boxes scattered about a box.

    Parameters
    ----------
    box : Box
        In pixel coordinates of the view.
    n : int
        How many; `box` itself is not among them.
    rng : numpy.random.Generator
    shape : (int, int)
        ``(H, W)`` of the view in pixels.
    resolution : int
        Side of the model's input; boxes are clipped to its pixels, as UncertSAM clips to [0, 1023].
    rule : {"ugmp", "uncertsam", "pixels"}
    scale : float, optional
        See :data:`SCALES` for the meaning and the default.
    shift : {"independent", "shared"}
        Noise for every coordinate (eq. 4), or one number for all four (eq. 9 read literally: a diagonal shift).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> [b] = jitter_boxes(Box(10, 10, 29, 49), 1, rng, shape=(64, 64), resolution=256, rule="uncertsam")
    >>> [round(v, 1) for v in (b.y0, b.x0, b.y1, b.x1)]
    [10.3, 9.4, 27.9, 47.8]
    """
    sides = np.array([box.height, box.width])
    scale = SCALES[rule] if scale is None else scale
    columns = 1 if shift == "shared" else 4
    if rule != "uncertsam":
        noise = rng.standard_normal((n, columns)) * np.tile(scale * (sides if rule == "ugmp" else np.array(shape)), 2)
    else:
        largest = np.minimum(scale * sides, CAP * np.array(shape))
        noise = rng.uniform(-1, 1, (n, columns)) * np.tile(largest, 2)
    corners = np.array([box.y0, box.x0, box.y1, box.x1]) + noise
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    return _into_view(low, high, box, _last(shape, resolution))


def jitter_points(
    points: tuple[Point, ...],
    n: int,
    rng: np.random.Generator,
    *,
    shape: tuple[int, int],
    resolution: int,
) -> list[tuple[Point, ...]]:
    """Points shifted uniformly by up to 20 pixels of 1024, in the view's pixels; every point keeps its label.

    UncertSAM reads the labels again from the ground truth, which a user does not have.
    """
    last = _last(shape, resolution)
    given = np.array([(p.y, p.x) for p in points])
    moved = np.clip(given + rng.uniform(-1, 1, (n, *given.shape)) * CAP * np.array(shape), 0, last)
    return [tuple(Point(y, x, p.positive) for (y, x), p in zip(row, points, strict=True)) for row in moved]


def _last(shape: tuple[int, int], resolution: int) -> NDArray[np.float64]:
    """Coordinates of the model's last pixel in the view's frame: 1023 in a 1024-pixel frame."""
    return np.array(shape) * (1 - 1 / resolution)


def _into_view(low: NDArray[np.float64], high: NDArray[np.float64], box: Box, last: NDArray[np.float64]) -> list[Box]:
    """Clip corners to the view, and push those apart that came closer than the smallest side."""
    low, high = np.clip(low, 0, last), np.clip(high, 0, last)
    least = np.minimum(np.minimum([box.y1 - box.y0, box.x1 - box.x0], SMALLEST_SIDE), last)
    start = np.clip((low + high - least) / 2, 0, last - least)
    narrow = high - low < least
    low, high = np.where(narrow, start, low), np.where(narrow, start + least, high)
    return [Box(*corner, *opposite) for corner, opposite in zip(low, high, strict=True)]


@dataclass(frozen=True, slots=True)
class PromptPerturbation:
    """Mean of the masks of perturbed prompts; the uncertainty is the entropy of that mean.

    A box is jittered and the points beside it are kept. Without a box the points are jittered, keeping their labels.
    A mask prompt alone leaves nothing to perturb: the belief then has one member.

    The default is UncertSAM's setting: ten decodes, the given prompts among them. Its noise is bounded, so a careful
    box is never thrown far off, and the mask stays anchored to what the user drew. :meth:`medsam_u` is the other one.

    Parameters
    ----------
    rule : {"uncertsam", "ugmp", "pixels"}
    n : int
        Decodes in all, the given prompts included if they are.
    scale : float, optional
        Noise relative to the box's side; None for the rule's own, see :data:`SCALES`.
    shift : {"independent", "shared"}
        See :func:`jitter_boxes`.
    include_given : bool
        Whether the given prompts are one of the n.
    average : {"probability", "logit", "binary"}
        What is averaged over the prompts (eq. 6): the probabilities; the logits, after which nothing is left that the
        prompts disagree about; or the masks.
    token : {"engine", "first", "best-iou"}
        Which mask of the model's: the one that SAM 2 takes by itself, its mask for a single answer, or the one with the
        highest estimate of its overlap.

    Raises
    ------
    InputError
        If a setting is not one of these.
    """

    name: ClassVar[str] = "prompt"
    title: ClassVar[str] = "Prompt perturbation"
    answers: ClassVar[str] = "What would change if you had drawn the box, or clicked, slightly differently?"
    needs: ClassVar[str | None] = None
    measures: ClassVar[tuple[Measure, ...]] = ("entropy", "mutual-information", "std")

    rule: Rule = "uncertsam"
    n: int = 10
    scale: float | None = None
    shift: Shift = "independent"
    include_given: bool = True
    average: Averaging = "probability"
    token: Token = "engine"

    def __post_init__(self) -> None:
        for what, value, choices in (
            ("rule", self.rule, get_args(Rule)),
            ("shift", self.shift, get_args(Shift)),
            ("averaging", self.average, get_args(Averaging)),
            ("token", self.token, get_args(Token)),
        ):
            if value not in choices:
                raise InputError(f"There is no perturbation {what} {value!r}; choose one of {', '.join(choices)}.")
        if self.n < 1:
            raise InputError(f"Prompt perturbation needs at least 1 prompt, not n = {self.n}.")
        if self.scale is not None and not 0 <= self.scale <= 1:
            raise InputError(f"The perturbation scale {self.scale} is not between 0 and 1 of the box's side.")

    @classmethod
    def medsam_u(cls) -> PromptPerturbation:
        """UGMP of MedSAM-U: three Gaussian boxes, the given one not among them."""
        return cls(rule="ugmp", n=3, include_given=False)

    @classmethod
    def uncertsam(cls) -> PromptPerturbation:
        """Method (ii) of UncertSAM: the clean box and nine uniform ones."""
        return cls(rule="uncertsam", n=10, include_given=True)

    def variants(
        self, prompts: Prompts, rng: np.random.Generator, *, shape: tuple[int, int], resolution: int
    ) -> list[Prompts]:
        """The prompts to decode: `n` of them, or one if there is nothing to perturb.

        Parameters
        ----------
        prompts : Prompts
            In pixel coordinates of the view.
        rng : numpy.random.Generator
        shape : (int, int)
            ``(H, W)`` of the view.
        resolution : int
            Side of the model's input.
        """
        if prompts.box is None and not prompts.points:
            return [prompts]
        given = [prompts] if self.include_given else []
        more = self.n - len(given)
        if prompts.box is not None:
            boxes = jitter_boxes(
                prompts.box,
                more,
                rng,
                shape=shape,
                resolution=resolution,
                rule=self.rule,
                scale=self.scale,
                shift=self.shift,
            )
            return given + [prompts.with_box(box) for box in boxes]
        moved = jitter_points(prompts.points, more, rng, shape=shape, resolution=resolution)
        return given + [replace(prompts, points=points) for points in moved]

    def estimate(
        self, engine: Engine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator
    ) -> EnsembleBelief:
        """Belief over the masks of the perturbed prompts, from one batched decode.

        Raises
        ------
        InputError
            If the prompts say nothing.
        EngineError
            If the model fails.
        """
        variants = self.variants(prompts, rng, shape=embedding.shape, resolution=engine.resolution)
        members, overlap = self._chosen(engine.decode(embedding, variants))
        if self.average == "logit":
            members = members.mean(0, keepdims=True)
        elif self.average == "binary":
            members = np.where(members > 0, LOGIT_LIMIT, -LOGIT_LIMIT).astype(np.float32)
        return EnsembleBelief(members, predicted_iou=overlap)

    def _chosen(self, decoded: Decoded) -> tuple[NDArray[np.float32], float]:
        """Logits ``(n, h, w)`` of the token asked for, and its mean estimated overlap."""
        if self.token == "engine":
            return decoded_logits(decoded), decoded_iou(decoded)
        rows = np.arange(len(decoded.token_iou))
        overlaps = decoded.token_iou.detach().float().cpu().numpy()
        token = overlaps.argmax(1) if self.token == "best-iou" else np.zeros_like(rows)
        return finite_logits(decoded.token_logits[rows, token]), float(overlaps[rows, token].mean())


class UgmpPerturbation(PromptPerturbation):
    """The same with MedSAM-U's rule, under a name of its own: see :meth:`PromptPerturbation.medsam_u`."""

    __slots__ = ()
    name: ClassVar[str] = "prompt-medsam-u"
    title: ClassVar[str] = "Prompt perturbation, MedSAM-U"
    answers: ClassVar[str] = "What would three boxes say that are drawn a little off, none of them yours?"
