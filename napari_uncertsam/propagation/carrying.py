"""A mask carried from slice to slice without a memory of the model's: for models whose memory was not trained.

On every slice four witnesses are heard, each a log odds at every cell, and what they say is added up:

- **where it was**: an outline moves by some millimetres from slice to slice, so a cell at the signed distance d from
  the outline before is inside with the probability ``Phi(d / sigma)``, sigma growing with the distance of the slices;
- **what it looks like** in the model's features, see :class:`~napari_uncertsam.propagation.readout.FeatureReadout`;
- **how bright it is**, see :class:`~napari_uncertsam.propagation.readout.GreyLevels`;
- **what the model segments** from the box of what the other three say, and from a smaller one.

The mask shrinks and the object ends as :class:`~napari_uncertsam.propagation.ending.Ending` expects, unless what is
seen says otherwise; no cell is surer to be inside than the object is to be there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import log_ndtr

from napari_uncertsam.engine import Embedding
from napari_uncertsam.estimators.base import decoded_logits
from napari_uncertsam.prompts import Prompts
from napari_uncertsam.propagation.ending import Ending
from napari_uncertsam.propagation.grids import (
    Map,
    area_px,
    box_on_slice,
    cell_mm,
    following,
    moved,
    signed_distance,
    touching,
)
from napari_uncertsam.propagation.readout import FeatureReadout, GreyLevels, grey_of
from napari_uncertsam.propagation.values import Anchor
from napari_uncertsam.propagation.walking import DRIFT, Ground, Step, mask_over
from napari_uncertsam.view import View

#: Millimetres that an outline moves (one standard deviation) for every millimetre between slices.
SLOPE = 0.4
#: Weights of the witnesses: features, grey levels, the model's masks. That of the place is 1.
FEATURES, GREY, MODEL = 1.0, 1.5, 1.0
#: A box as large as the mask that is carried has the model fill it again, though the object may have shrunk: of what is
#: surely no tube, the model is asked for the mask of a box smaller by this, too.
SHRUNK = 0.2
#: Logits of one witness, and of all, count up to this.
SURE, SUREST = 12.0, 16.0
#: The model's box holds no cell that is less likely than this (log odds) to be inside by its place.
REACH = 0.3
#: Log odds that every cell loses for every e-fold by which the mask is larger than at the anchor: people mark an object
#: where it is large, and a mask that leaks goes on leaking.
GROWTH = 15.0
#: The place alone makes nothing surer than this.
_PLACE = 9.0
#: The object has ended where the log odds of its presence are below this.
PRESENT = 0.0
#: What a contrast of the features counts as evidence of the object's presence, and the one that says nothing.
CONTRAST, NO_CONTRAST = 2.2, 0.3
#: Weight of the present slice in the mean contrast of the walk; the anchor is where it begins.
LATEST = 0.4
#: Masks of fewer cells are nothing.
FEWEST = 3
#: The witnesses are not independent of each other: their sum is this many times too sure.
OVERCONFIDENCE = 1.4


class CarryingWalk:
    """A walk away from one anchor.

    Parameters
    ----------
    ground : Ground
    anchor : Anchor
        Whose mask is not empty.
    towards : Anchor, optional
        At the other end of the walk: what it looks like there, and how large it is, is known as well.
    ends : bool
        Whether the object may end on the way, other than by its mask becoming empty.
    """

    def __init__(self, ground: Ground, anchor: Anchor, towards: Anchor | None = None, *, ends: bool) -> None:
        self._ground, self._ends, self._steps = ground, ends, 0
        self._start = anchor.slice_index
        self._readout = FeatureReadout()
        self._grey: GreyLevels | None = None
        self._size = self._contrast = 0.0
        for given in (anchor, towards):
            if given is not None and (given.logits > 0).any():
                view, mean = self._learn(given)
                if given is anchor:
                    self._view, self._mean = view, mean
        self._ending = Ending(math.sqrt(self._size * math.prod(ground.spacing) / math.pi))

    def _learn(self, anchor: Anchor) -> tuple[View, Map]:
        """What the object looks like on an anchor; its view and mask. Brightness is that of the largest one."""
        ground = self._ground
        box = box_on_slice(anchor.logits > 0, anchor.view)
        view = self._around(following(anchor.view, box, ground.shape, ground.spacing))
        embedding = ground.look(anchor.slice_index, view)
        grid = _grid_of(embedding)
        mean = np.where(mask_over(anchor, view, grid) > 0, SURE, -SURE).astype(np.float32)
        self._readout.learn(embedding, mean, given=True)
        if self._ends and (mean > 0).any():
            self._contrast = inside_outside(self._readout.read_given(embedding, grid), mean > 0)
        grey, mask = grey_of(embedding, grid), mean > 0
        size = area_px(mask, view)
        if size > self._size and grey is not None and mask.any() and not mask.all():
            self._grey = GreyLevels.of(grey, mask)
        self._size = max(self._size, size)
        return view, mean

    def _around(self, view: View) -> View:
        return view if self._ground.zoom else View.whole(*self._ground.shape)

    def step(self, index: int) -> Step | None:
        """What there is on the next slice; None where the object has ended."""
        ground = self._ground
        if (self._mean > 0).sum() < FEWEST:
            return None
        box = box_on_slice(self._mean > 0, self._view)
        view = self._around(following(self._view, box, ground.shape, ground.spacing))
        self._mean, self._view = moved(self._mean, self._view, view), view
        before = self._mean > 0
        if before.sum() < FEWEST:
            return None
        embedding = ground.look(index, view)
        far = abs(index - self._start) * ground.gap
        held = place = self._place(before)
        if self._ends:
            place = self._place(before, *self._ending.shrinkage(max(far - ground.gap, 0.0), far))
        features, doubt = self._readout.read(embedding, place.shape)
        grey = grey_of(embedding, place.shape)
        known = place + FEATURES * features
        if self._grey is not None and grey is not None:
            known = known + GREY * self._grey.read(grey)
        expected = touching((known > 0) & (held > -REACH), before)
        if expected.sum() < FEWEST:
            return None
        logits, variance = self._segmented(embedding, expected)
        mean = (known + (MODEL * logits).clip(-SURE, SURE)).clip(-SUREST, SUREST)
        mean = mean - GROWTH * self._growth(touching(mean > 0, before))
        mask = touching(mean > 0, before)
        mean = np.where((mean > 0) & ~mask, -1.0, mean).astype(np.float32)
        if mask.sum() < FEWEST:
            return None
        there = self._presence(embedding, mask, far)
        if there < PRESENT:
            return None
        self._mean, self._steps = mean, self._steps + 1
        self._readout.learn(embedding, mean)
        scale = OVERCONFIDENCE
        total = (MODEL**2 * variance + FEATURES**2 * doubt) / scale**2 + DRIFT * self._steps
        told = no_surer(np.asarray(mean / scale, np.float32), there)
        return Step(index, view, told, np.asarray(total, np.float32))

    def _presence(self, embedding: Embedding, mask: NDArray[np.bool_], distance: float) -> float:
        """Log odds that a mask so far from the anchor still is the object's; infinite where it cannot end."""
        if not self._ends:
            return math.inf
        grey = grey_of(embedding, mask.shape)
        strangeness = 0.0 if self._grey is None or grey is None else self._grey.strangeness(grey, mask)
        contrast = inside_outside(self._readout.read_given(embedding, mask.shape), mask)
        self._contrast += LATEST * (contrast - self._contrast)
        return self._ending.odds(distance) + presence(strangeness, self._contrast)

    def _growth(self, mask: NDArray[np.bool_]) -> float:
        """Log of how much larger than at the anchor a mask is; 0 where it is not."""
        return math.log(max(area_px(mask, self._view) / self._size, 1.0))

    def _place(self, before: NDArray[np.bool_], share: float = 1.0, deviation: float = 0.0) -> Map:
        """Log odds of being inside by the distance from the outline before, shrunk to a share of its size."""
        cell = cell_mm(self._view, before.shape, self._ground.spacing)
        distance = signed_distance(before, cell)
        depth = float(distance.max())
        sigma = math.hypot(SLOPE * self._ground.gap + 0.5 * min(cell), depth * deviation)
        deviations = (distance - (1 - share) * depth) / sigma
        odds = log_ndtr(deviations) - log_ndtr(-deviations)
        return np.asarray(np.clip(odds, -_PLACE, _PLACE), np.float32)

    def _segmented(self, embedding: Embedding, expected: NDArray[np.bool_]) -> tuple[Map, Map]:
        """What the model segments from the box of the expected mask, and from a smaller one: mean and variance."""
        engine, box = self._ground.engine, box_on_slice(expected, self._view)
        boxes = [box]
        if self._ends:
            boxes.append(box.expand(1 - SHRUNK * (1 - self._ending.tube)))
        asked = [self._view.prompts_to_view(Prompts(box=one), engine.resolution) for one in boxes]
        decoded = engine.decode(embedding, asked)
        logits, variance = self._ground.logits_of(decoded)
        masks = np.stack([logits, *decoded_logits(decoded)[1:]]).clip(-SUREST, SUREST)
        return np.asarray(masks.mean(0), np.float32), variance


def _grid_of(embedding: Embedding) -> tuple[int, int]:
    """The grid of the masks: that of the finest features."""
    height, width = embedding.features[0].shape[-2:]
    return int(height), int(width)


def no_surer(logits: Map, odds: float) -> Map:
    """Log odds of cells, those inside no surer than that the object is there: ``tanh(f / 2) tanh(odds / 2)``.

    While that is likelier than not the mask stays the same; it fades to one half as the two become equally likely.
    """
    if odds == math.inf:
        return logits
    faded = 2 * np.arctanh(np.tanh(logits / 2) * math.tanh(odds / 2))
    return np.asarray(np.where(logits > 0, faded, logits), np.float32)


def presence(strangeness: float, contrast: float) -> float:
    """Log likelihood ratio of the object being there, by what is under a mask.

    Its form and the sizes of its terms are as of a logistic regression on top of the prior
    (:class:`~napari_uncertsam.propagation.ending.Ending`) on 1,155 slices of walks through synthetic volumes
    (`training.volumes`, seeds from 5000); NO_CONTRAST was then chosen lower than it said (0.45), for vessels not to be
    cut short. A walk looks for what is as bright as the object, so brightness says something only where it is far off.

    Parameters
    ----------
    strangeness : float
        How far the mean grey level is off, in standard deviations of the object's.
    contrast : float
        How much more the features look like the object on the anchor inside the mask than around it: a running mean.
    """
    return CONTRAST * (contrast - NO_CONTRAST) - max(strangeness - 1, 0.0) ** 2


def inside_outside(features: Map, mask: NDArray[np.bool_]) -> float:
    """Mean output of the feature readout in a mask less that in a ring around it, 1 to 4 cells away."""
    ring = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask)
    return float(features[mask].mean() - (features[ring].mean() if ring.any() else -1.0))
