"""What the object looks like, learned from the slices walked so far: in the model's features, and in grey levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.engine import Embedding
from napari_uncertsam.propagation.grids import Map, regridded

#: Finest grid on which features are read out, cells a side.
FINEST = 64
#: Precision of the prior of the weights, for standardised features and targets of -1 and 1.
PRECISION = 300.0
#: How much earlier slices count when another one is learned from, and how much that one does.
DECAY, PACE = 0.9, 0.6
#: Largest output of the readout; beyond 1 it is no surer.
LIMIT = 1.5
_BINS = 32
#: Share that any grey level may have of either side.
_RARE = 0.0025


class FeatureReadout:
    """Bayesian linear regression of "inside" (1) and "outside" (-1) on the features of an embedding.

    With standardised features x, weights ``w ~ N(0, PRECISION^-1)`` and unit noise, the posterior is
    ``N(A^-1 b, A^-1)`` with ``A = PRECISION + sum x x^T`` and ``b = sum x y``; both classes weigh the same. Slices that
    were walked are learned from as well, by how sure their mask is, and older ones are forgotten by and by.
    """

    def __init__(self) -> None:
        self._given: tuple[Tensor, Tensor] | None = None  # of the anchor, never forgotten
        self._walked: tuple[Tensor, Tensor] | None = None
        self._scale: tuple[Tensor, Tensor] | None = None
        self._first: Tensor | None = None  # weights as of the anchors alone

    def learn(self, embedding: Embedding, logits: Map, *, given: bool = False) -> None:
        """Learn from a slice and the logits of its mask, on any grid over the view.

        What is learned from the first slice, and from those whose mask was `given`, is never forgotten.
        """
        if given:
            self._first = None
        x = self._design(embedding)
        side = round(len(x) ** 0.5)
        values = torch.as_tensor(regridded(logits, (side, side)).ravel(), dtype=torch.float32)
        target = torch.where(values > 0, 1.0, -1.0)
        share = (target > 0).float().mean().clamp(0.01, 0.99)
        weight = torch.tanh(values.abs() / 4) * torch.where(target > 0, 0.5 / share, 0.5 / (1 - share))
        weighted = x * weight[:, None]
        gram, moment = weighted.T @ x, weighted.T @ target
        if self._given is None:
            self._given = gram, moment
        elif given:
            self._given = self._given[0] + gram, self._given[1] + moment
        elif self._walked is None:
            self._walked = gram * PACE, moment * PACE
        else:
            self._walked = self._walked[0] * DECAY + gram * PACE, self._walked[1] * DECAY + moment * PACE

    def read(self, embedding: Embedding, grid: tuple[int, int]) -> tuple[Map, Map]:
        """Mean, within +-1.5, and variance of the output on a grid over the view."""
        if self._given is None:
            raise RuntimeError("nothing was learned yet")
        x, (gram, moment) = self._design(embedding), self._given
        if self._walked is not None:
            gram, moment = gram + self._walked[0], moment + self._walked[1]
        factor = torch.linalg.cholesky(gram.double() + PRECISION * torch.eye(len(gram), dtype=torch.float64))
        weights = torch.cholesky_solve(moment.double()[:, None], factor)[:, 0].float()
        mean = (x @ weights).clamp(-LIMIT, LIMIT)
        variance = torch.linalg.solve_triangular(factor.float(), x.T, upper=False).square().sum(0)
        side = round(len(x) ** 0.5)
        maps = (part.reshape(side, side).numpy() for part in (mean, variance))
        first, second = (regridded(np.asarray(m, np.float32), grid) for m in maps)
        return first, second

    def read_given(self, embedding: Embedding, grid: tuple[int, int]) -> Map:
        """Mean output as of the slices alone that were given: what was walked cannot confirm itself."""
        if self._given is None:
            raise RuntimeError("nothing was learned yet")
        if self._first is None:
            gram, moment = (part.double() for part in self._given)
            system = gram + PRECISION * torch.eye(len(gram), dtype=torch.float64)
            self._first = torch.linalg.solve(system, moment).float()
        x = self._design(embedding)
        side = round(len(x) ** 0.5)
        mean = (x @ self._first).clamp(-LIMIT, LIMIT).reshape(side, side).numpy()
        return regridded(np.asarray(mean, np.float32), grid)

    def _design(self, embedding: Embedding) -> Tensor:
        """Standardised features and a constant of every cell, ``(n, F + 1)``."""
        side = min(embedding.features[0].shape[-1], FINEST)
        layers = [
            F.interpolate(f.detach().float().cpu(), (side, side), mode="bilinear", antialias=True)
            for f in embedding.features
        ]
        x = torch.cat(layers, 1)[0].flatten(1).T
        if self._scale is None:
            self._scale = x.mean(0), x.std(0) + 1e-6
        x = (x - self._scale[0]) / self._scale[1]
        return torch.cat([x, torch.ones(len(x), 1)], 1)


@dataclass(frozen=True, eq=False)
class GreyLevels:
    """Log likelihood ratio of inside to outside by grey level, as the slice of an anchor shows it.

    Parameters
    ----------
    ratio : (32,) float64
    mean, deviation : float
        Of the object's grey levels, in [0, 1].
    """

    ratio: NDArray[np.float64]
    mean: float
    deviation: float

    @classmethod
    def of(cls, grey: Map, mask: NDArray[np.bool_]) -> GreyLevels:
        """Learn from grey levels in [0, 1] and a mask that is neither empty nor everything."""
        bins = _bins(grey)
        inside, outside = (
            ndimage.gaussian_filter1d(np.bincount(part, minlength=_BINS) / max(len(part), 1), 1.0)
            for part in (bins[mask], bins[~mask])
        )
        ratio = np.log((inside + _RARE) / (outside + _RARE))
        return cls(ratio, float(grey[mask].mean()), float(grey[mask].std()) + 0.02)

    def read(self, grey: Map) -> Map:
        """The log likelihood ratio of every cell."""
        return np.asarray(self.ratio[_bins(grey)], np.float32)

    def strangeness(self, grey: Map, mask: NDArray[np.bool_]) -> float:
        """How far a mask's mean grey level is from the object's, in standard deviations of the object's."""
        return abs(float(grey[mask].mean()) - self.mean) / self.deviation


def grey_of(embedding: Embedding, grid: tuple[int, int]) -> Map | None:
    """Grey levels in [0, 1] of what was embedded, averaged into the cells of a grid; None where it was not kept."""
    if embedding.image is None:
        return None
    return regridded(embedding.image.mean(2, dtype=np.float32) / 255, grid)


def _bins(grey: Map) -> NDArray[np.intp]:
    levels = ndimage.gaussian_filter(grey, 0.7) * _BINS
    return np.asarray(np.clip(levels.astype(np.intp), 0, _BINS - 1))
