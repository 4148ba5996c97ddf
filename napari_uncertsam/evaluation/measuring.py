"""From a prediction and the truth to one row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.estimators.measures import Measure, uncertainty_of
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.metrics import Curves, measure_case
from napari_uncertsam.evaluation.predicting import Outcome
from napari_uncertsam.evaluation.summarising import plain
from napari_uncertsam.io import prompts_to_dict
from napari_uncertsam.prompts import Prompts
from napari_uncertsam.uncertainty import binary_entropy, sigmoid


def measure_row(
    case: Case,
    prompt: str,
    prompts: Sequence[Prompts],
    method: str,
    outcome: Outcome,
    reference: Outcome,
    tolerance: float,
) -> dict[str, Any]:
    """A row of :class:`~napari_uncertsam.evaluation.results.Results`, all but where its maps are stored.

    Parameters
    ----------
    case : Case
    prompt, method : str
        Names.
    prompts : sequence of Prompts
        What was drawn, in coordinates of the slice.
    outcome : Outcome
    reference : Outcome
        The single prediction from the same prompts, whose error all methods are ranked against.
    tolerance : float
        Of the normalised surface distance.
    """
    maps = outcome.maps
    measured = measure_case(
        maps.mask,
        maps.probability,
        maps.uncertainty,
        case.truth,
        reference=None if reference is outcome else reference.maps.probability,
        entropy=None if outcome.measure == "entropy" else outcome.showing("entropy").maps.uncertainty,
        spacing=case.spacing,
        tolerance=tolerance,
    )
    return {
        "case": case.key,
        "image": case.image,
        "plane": case.plane,
        "slice": case.slice_index,
        "value": case.value,
        "group": case.group,
        "modality": case.modality,
        "area_px": int(np.count_nonzero(case.truth)),
        "unit": case.unit,
        "prompt": prompt,
        "method": method,
        "measure": outcome.measure,
        "prompts": [prompts_to_dict(given) for given in prompts],
        "view": list(astuple(outcome.view)),
        **{name: plain(value) for name, value in measured.values.items()},
        "curves": curves_to_dict(measured.curves),
        "seconds": {name: round(value, 4) for name, value in outcome.seconds.items()},
    }


def curves_to_dict(curves: Curves) -> dict[str, Any]:
    """Plain values for JSON, "curves" of a row."""
    return {
        "reliability": [list(part) for part in curves.reliability.sums],
        "reliability_roi": [list(part) for part in curves.reliability_roi.sums],
        "risk": curves.risk.tolist(),
        "risk_roi": curves.risk_roi.tolist(),
    }


def stored_maps(belief: Belief, measure: Measure) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """What has to be kept of a belief to draw its maps again: logits, and an uncertainty that is not their entropy."""
    logits, shown = belief.logits(), uncertainty_of(belief, measure)
    same = np.allclose(shown, binary_entropy(sigmoid(logits)), rtol=0, atol=1e-6)
    return logits, None if same else shown
