"""Predict a case from simulated prompts, through the same pipeline as the widget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_uncertsam.estimators.base import Belief, EnsembleBelief
from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.simulate.hint import truth_logits
from napari_uncertsam.measure import maps_on_slice
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Maps, Request, Settings
from napari_uncertsam.prompts import Box, MaskPrompt, Prompts
from napari_uncertsam.view import View
from napari_uncertsam.zoom import enclosing


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method says about a case.

    Parameters
    ----------
    belief : Belief
        On the low-resolution grid of `view`.
    view : View
        What the model saw.
    maps : Maps
        On the slice.
    measure : Measure
        What the uncertainty map shows.
    seconds : mapping
        "embed", "decode", "measure", "total", added up over the prompts.
    """

    belief: Belief
    view: View
    maps: Maps
    measure: Measure
    seconds: Mapping[str, float]

    def showing(self, measure: Measure) -> Outcome:
        """The same belief with another measure of its uncertainty."""
        if measure == self.measure:
            return self
        return replace(self, measure=measure, maps=maps_on_slice(self.belief, self.view, self.maps.shape, measure))


def predict_methods(
    pipeline: Pipeline,
    case: Case,
    prompts: Sequence[Prompts],
    settings: Mapping[str, Settings],
    *,
    hint: bool = False,
) -> dict[str, Outcome]:
    """:func:`predict_case` with every one of some settings; those that differ in the measure only share a prediction.

    Parameters
    ----------
    pipeline, case, prompts, hint
        See :func:`predict_case`.
    settings : mapping
        By the names that the outcomes have.
    """
    beliefs: dict[Settings, Outcome] = {}
    found = {}
    for name, wanted in settings.items():
        shared = replace(wanted, measure=None)
        if shared not in beliefs:
            beliefs[shared] = predict_case(pipeline, case, prompts, wanted, hint=hint)
        found[name] = beliefs[shared].showing(pipeline.measure_of(wanted))
    return found


def predict_case(
    pipeline: Pipeline, case: Case, prompts: Sequence[Prompts], settings: Settings, *, hint: bool = False
) -> Outcome:
    """Predict from simulated prompts; probabilities of several are averaged, as MedSAM-U does with three boxes.

    Parameters
    ----------
    pipeline : Pipeline
    case : Case
    prompts : sequence of Prompts
        At least one. Several look through one view that holds them all, so that it is embedded once.
    settings : Settings
        Method, zoom and seed.
    hint : bool
        Give the true mask as a mask prompt too; it is made for the view around the prompts, which then does not grow.

    Raises
    ------
    InputError
        If the prompts say nothing.
    EngineError
        If the model fails.
    """
    shared = _shared_view(case, prompts) if (len(prompts) > 1 or hint) and settings.zoom else None
    if hint:
        mask = MaskPrompt(truth_logits(case.truth, pipeline.engine.resolution // 4, shared))
        prompts = [given.with_mask(mask) for given in prompts]
    found = [pipeline.predict(case.volume, _request(case, given, settings, shared)) for given in prompts]
    measure = pipeline.measure_of(settings)
    if len(found) == 1:
        [prediction] = found
        return Outcome(prediction.belief, prediction.view, prediction.maps, measure, prediction.seconds)
    belief = EnsembleBelief(np.stack([p.belief.logits() for p in found]))
    view = found[0].view
    maps = maps_on_slice(belief, view, case.truth.shape, measure)
    seconds = {name: sum(p.seconds[name] for p in found) for name in found[0].seconds}
    return Outcome(belief, view, maps, measure, seconds)


def _request(case: Case, prompts: Prompts, settings: Settings, view: View | None) -> Request:
    window = case.seen_through
    return Request(case.image, case.plane, case.slice_index, window, view, 1, prompts, settings)


def _shared_view(case: Case, prompts: Sequence[Prompts]) -> View:
    """The view around all boxes and points; around the points alone where there is no box."""
    height, width = case.truth.shape
    around: Box | None = None
    for given in prompts:
        start = given.box or Box(given.points[0].y, given.points[0].x, given.points[0].y, given.points[0].x)
        box = enclosing(start, given)
        around = box if around is None else around.union(box)
    assert around is not None
    return View.around(around, height, width, spacing=case.volume.plane_spacing(case.plane))
