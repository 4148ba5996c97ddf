"""One object: every prompt and every correction, by a model through the pipeline or by a classical method.

Values are named by prompt: ``tight``, ``box-0.75`` and ``box-0.5`` (the mean of some draws), ``click`` (the most
interior pixel), ``random`` (any pixel inside), ``click+3`` and ``tight+3`` (after three corrections). A leading ``fed``
says that the mask was given back to the model with every click, as SAM is evaluated, and that the model alone decided;
without, a click is what the widget makes of it. ``lowered X`` of ``given X`` corrections made the Dice of a sequence
lower, ``harmed X`` of them by more than 0.01.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundled.classical import CLASSICAL
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.cases import Case, case_rng
from napari_uncertsam.evaluation.simulate import box_at_overlap, centre_click, error_click, random_click
from napari_uncertsam.evaluation.simulate.clicks import pixel_at
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Maps, Prediction, Request, Settings
from napari_uncertsam.prompts import Box, MaskPrompt, Prompts
from napari_uncertsam.view import View

Mask = NDArray[np.bool_]
Values = dict[str, float]
METHOD = "entropy"
CLICKS = 5
OVERLAPS = (0.75, 0.5)
#: Where the probabilities are looked at, too.
SCORED = ("tight", "box-0.5", "click")
#: `SAM2ImagePredictor` clamps logits to this before it takes them back.
LOGIT_LIMIT = 32.0
HARM = 0.01


@dataclass(frozen=True)
class Plan:
    """What is drawn: the seed, and how many boxes at each overlap."""

    seed: int = 0
    draws: int = 3

    @property
    def record(self) -> dict[str, int]:
        """What decides the numbers of a case beside the model."""
        return {"seed": self.seed, "draws": self.draws, "clicks": CLICKS}


def drawn_prompts(case: Case, plan: Plan) -> dict[str, list[Prompts]]:
    """Single prompts by name; the same for a case whatever else is measured. No box where the slice has no room."""
    box = Box.of_mask(case.truth)
    found = {"tight": [Prompts(box=box)]}
    for overlap in OVERLAPS:
        name = f"box-{overlap:g}"
        rngs = [case_rng(plan.seed, case.key, f"{name} {k}") for k in range(plan.draws)]
        try:
            found[name] = [Prompts(box=box_at_overlap(box, overlap, rng, case.truth.shape)) for rng in rngs]
        except InputError:
            continue
    found["click"] = [Prompts((centre_click(case.truth),))]
    found["random"] = [Prompts((random_click(case.truth, case_rng(plan.seed, case.key, "random")),))]
    return found


def request_of(case: Case, prompts: Prompts, settings: Settings, view: View | None = None) -> Request:
    return Request(case.image, case.plane, case.slice_index, case.seen_through, view, 1, prompts, settings)


def settings_of(plan: Plan) -> Settings:
    """The widget's, with the plain entropy; suggestions take time and change no mask."""
    return Settings(method=METHOD, n_suggestions=0, seed=plan.seed)


class FedBack:
    """Clicks as SAM is evaluated: the view stays, and the logits before are a prompt beside the clicks.

    A click outside of the view begins anew.
    """

    def __init__(self, pipeline: Pipeline, case: Case, settings: Settings) -> None:
        self._pipeline, self._case = pipeline, case
        self._settings = replace(settings, conditioning=False)
        self._last: Prediction | None = None

    def __call__(self, prompts: Prompts) -> Mask:
        view, last = None, self._last
        if last is not None and all(_is_in(last.view, p.y, p.x) for p in prompts.points):
            view = last.view
            prompts = prompts.with_mask(MaskPrompt(last.belief.logits().clip(-LOGIT_LIMIT, LOGIT_LIMIT)))
        request = request_of(self._case, prompts, self._settings, view)
        self._last = self._pipeline.predict(self._case.volume, request)
        return self._last.maps.mask


def _is_in(view: View, y: float, x: float) -> bool:
    return view.top - 0.5 <= y < view.top + view.height - 0.5 and view.left - 0.5 <= x < view.left + view.width - 0.5


def correct(answer: Callable[[Prompts], Mask], truth: Mask, prompts: Prompts, clicks: int = CLICKS) -> list[float]:
    """Dice before and after each correction at the largest error; fewer where nothing is wrong any more."""
    mask = answer(prompts)
    found, taken = [metrics.dice(mask, truth)], [pixel_at(p.y, p.x, truth.shape) for p in prompts.points]
    for _ in range(clicks):
        point = error_click(mask, truth, taken)
        if point is None:
            break
        prompts = prompts.with_point(point)
        taken.append(pixel_at(point.y, point.x, truth.shape))
        mask = answer(prompts)
        found.append(metrics.dice(mask, truth))
    return found


def told(name: str, dice: list[float]) -> Values:
    """A sequence as values; where no correction was needed any more, the last Dice stays."""
    padded = dice + dice[-1:] * (CLICKS + 1 - len(dice))
    steps = np.diff(dice)
    return {f"{name}+{k}": value for k, value in enumerate(padded) if k} | {
        f"given {name}": float(steps.size),
        f"lowered {name}": float((steps < -1e-12).sum()),
        f"harmed {name}": float((steps < -HARM).sum()),
    }


def scores_of(maps: Maps, truth: Mask) -> Values:
    """How right the probabilities are around the object, and how well the entropy ranks what is wrong."""
    roi = metrics.roi_of(truth)
    p, m, wrong = maps.probability[roi], truth[roi], metrics.hard_error(maps.mask, truth)[roi]
    return {
        "ECE": metrics.ece(p, m),
        "NLL": metrics.nll(p, m),
        "AUSE": metrics.ause(maps.uncertainty[roi], wrong),
    }


def measure_model(pipeline: Pipeline, case: Case, plan: Plan) -> Values:
    """All values of a model for one object."""
    settings = settings_of(plan)

    def maps_of(prompts: Prompts) -> Maps:
        return pipeline.predict(case.volume, request_of(case, prompts, settings)).maps

    values: Values = {}
    for name, several in drawn_prompts(case, plan).items():
        rows = []
        for prompts in several:
            maps = maps_of(prompts)
            rows.append({name: metrics.dice(maps.mask, case.truth), f"empty {name}": float(not maps.local_mask.any())})
            if name in SCORED:
                rows[-1] |= {f"{key} {name}": value for key, value in scores_of(maps, case.truth).items()}
        values |= _means(rows)
    for name in ("click", "tight"):
        (start,) = drawn_prompts(case, plan)[name]
        values |= told(name, correct(lambda prompts: maps_of(prompts).mask, case.truth, start))
        values |= told(f"fed {name}", correct(FedBack(pipeline, case, settings), case.truth, start))
    return values


def measure_classical(method: str, case: Case, plan: Plan) -> Values:
    """All values of a classical method for one object; none where it has nothing to say of a prompt."""
    values: Values = {}

    def answer(prompts: Prompts) -> Mask:
        mask = CLASSICAL[method](case, prompts)
        assert mask is not None
        return mask

    clickable = method != "box"
    for name, several in drawn_prompts(case, plan).items():
        if clickable or several[0].box is not None:
            masks = [answer(prompts) for prompts in several]
            values |= _means(
                [{name: metrics.dice(mask, case.truth), f"empty {name}": float(not mask.any())} for mask in masks]
            )
    for name in ("click", "tight") if clickable else ():
        (start,) = drawn_prompts(case, plan)[name]
        values |= told(name, correct(answer, case.truth, start))
    return values


def line_of(case: Case, who: str, plan: Plan, values: Mapping[str, float]) -> dict[str, Any]:
    """A finished case as a line of JSON."""
    about = {"kind": "object", "who": who, "case": case.key, "group": case.group, "modality": case.modality}
    return {**about, "settings": plan.record, "values": {k: round(float(v), 6) for k, v in values.items()}}


def _means(rows: list[Values]) -> Values:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
