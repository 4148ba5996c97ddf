"""Predictions made by hand, where a test is about what happens to them and not about how they come to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_uncertsam.estimators.base import PointBelief
from napari_uncertsam.prediction import Maps, Prediction, RefinedPrediction, Request
from napari_uncertsam.prompts import Box, Suggestion
from napari_uncertsam.refinement.rounds import Round
from napari_uncertsam.view import View


def predicted(
    request: Request,
    shape: tuple[int, int],
    box: Box,
    *,
    mean: float = 0.1,
    suggestions: Sequence[Suggestion] = (),
) -> Prediction:
    """A prediction whose mask fills `box` and whose view is one pixel wider, where the slice goes on."""
    top, left, bottom, right = (int(v) for v in (box.y0, box.x0, box.y1, box.x1))
    view = View(max(top - 1, 0), max(left - 1, 0), 1, 1)
    view = View(view.top, view.left, min(bottom + 2, shape[0]) - view.top, min(right + 2, shape[1]) - view.left)
    rows, columns = view.inside(*shape)
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    mask[top - rows.start : bottom + 1 - rows.start, left - columns.start : right + 1 - columns.start] = True
    probability = np.where(mask, 0.9, 0.2).astype(np.float32)
    maps = Maps(shape, rows, columns, mask, probability, np.full(mask.shape, mean, np.float32))
    belief = PointBelief(np.where(mask, 2.0, -2.0))
    area = float(mask.sum())
    seconds = {"embed": 0.1, "decode": 0.1, "measure": 0.1, "total": 0.3}
    record = {"model": "fake", "seed": request.settings.seed}
    return Prediction(request, belief, view, maps, tuple(suggestions), mean, area, (area, area), seconds, record)


def refined(before: Prediction, after: Prediction | None) -> RefinedPrediction:
    """A refinement of one round; refused without an `after`."""
    taken = after is not None
    step = Round(0.2, 0.1 if taken else 0.3, taken, "As the test has it.", None, (), before.request.prompts)
    return RefinedPrediction(before, after if after is not None else before, (step,))
