"""A prediction in plain values: what `summary.json` says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from napari_uncertsam.io import prompts_to_dict
from napari_uncertsam.prediction import Prediction, RefinedPrediction
from napari_uncertsam.prompts import Suggestion
from napari_uncertsam.refinement.rounds import Round
from napari_uncertsam.volume import Volume
from napari_uncertsam.volumetry import SliceFacts, VolumeEstimate


def summarise(prediction: Prediction, refined: RefinedPrediction | None, volume: Volume) -> dict[str, Any]:
    """Everything about a prediction that a reader, or a program, wants to know.

    Parameters
    ----------
    prediction : Prediction
    refined : RefinedPrediction, optional
        Its rounds are reported when it led to, or was refused for, this prediction; not when it was undone.
    volume : Volume
        Gives the size of a pixel.

    Returns
    -------
    dict
        Plain values: "model", "checkpoint_sha256", "adapter" (its hash, where there is one), "device", "method",
        "measure", "seed", "part" (of a fitted method: its hash, and whether it is the shipped one), "versions",
        "image", "plane", "slice", "window", "view", "prompts", "seconds", "mean_uncertainty" (of the measure, around
        the object), "area_px", "area_mm2", "area_interval" (90 %, pixels), "uncertain_px" (pixels that the mask is
        expected to have wrong), "expected_dice" ("dice", "low", "high": 90 %), "another_click_helps", "conditioning"
        and "suggest" (settings), "suggestions" (with their "gain" in pixels), "rounds" (their means are of the
        entropy).
    """
    request = prediction.request
    height_mm, width_mm = volume.plane_spacing(request.plane)
    rounds = refined.rounds if refined is not None and prediction is refined.prediction else ()
    return {
        **prediction.record,
        "image": volume.name,
        "plane": request.plane,
        "slice": request.slice_index,
        "window": asdict(request.window),
        "view": asdict(prediction.view),
        "prompts": prompts_to_dict(request.prompts),
        "seconds": {k: round(v, 4) for k, v in prediction.seconds.items()},
        "mean_uncertainty": prediction.mean_uncertainty,
        "area_px": prediction.area_px,
        "area_mm2": prediction.area_px * height_mm * width_mm if volume.ndim == 3 else None,
        "area_interval": list(prediction.area_interval),
        "uncertain_px": prediction.uncertain_px,
        "expected_dice": None if prediction.quality is None else asdict(prediction.quality),
        "another_click_helps": prediction.worth_asking,
        "conditioning": request.settings.conditioning,
        "suggest": request.settings.suggest,
        "suggestions": [suggestion_to_dict(s) for s in prediction.suggestions],
        "rounds": rounds_to_dicts(rounds),
    }


def suggestion_to_dict(suggestion: Suggestion) -> dict[str, Any]:
    """A suggestion in plain values; a box with its corners; "gain" in pixels, null where it is not known."""
    out: dict[str, Any] = {k: getattr(suggestion, k) for k in ("kind", "y", "x", "score", "probability")}
    out["gain"] = finite(suggestion.gain)
    if suggestion.box is not None:
        out["box"] = [suggestion.box.y0, suggestion.box.x0, suggestion.box.y1, suggestion.box.x1]
    return out


def rounds_to_dicts(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Rounds of a refinement in plain values, refused ones too.

    Returns
    -------
    list of dict
        "mean_uncertainty_before" and "_after" (entropy around the object), "rule", "before" and "after" (what the rule
        compared), "area_ratio", "accepted", "reason", "box" (null if nothing was tried), "points_added" and "labels"
        (who labelled them), and "prompts": all that was tried.
    """
    return [_round_to_dict(r) for r in rounds]


def _round_to_dict(tried: Round) -> dict[str, Any]:
    prompts = prompts_to_dict(tried.prompts)
    prompts.pop("mask", None)  # thousands of logits, which no round changes
    before, after = tried.mean_uncertainty
    return {
        "mean_uncertainty_before": before,
        "mean_uncertainty_after": after,
        "rule": tried.rule or None,
        "before": finite(tried.before),
        "after": finite(tried.after),
        "area_ratio": finite(tried.area_ratio),
        "accepted": tried.accepted,
        "reason": tried.reason,
        "labels": tried.labels if tried.points else None,
        "points_added": len(tried.points),
        "box": None if tried.box is None else prompts["box"],
        "prompts": prompts,
    }


def finite(value: float | None) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if value is not None and math.isfinite(value) else None


def volume_to_dict(facts: Sequence[SliceFacts], estimate: VolumeEstimate | None) -> dict[str, Any]:
    """What is known of an object through the slices of a plane.

    Returns
    -------
    dict
        "volume_ml", "volume_interval_ml" (90 %), "slices" (see :class:`napari_uncertsam.volumetry.SliceFacts`; null for
        what is not known), "reviewed" (slices).
    """
    return {
        "volume_ml": None if estimate is None else estimate.ml,
        "volume_interval_ml": None if estimate is None else [estimate.low_ml, estimate.high_ml],
        "slices": [{k: finite(v) if isinstance(v, float) else v for k, v in asdict(f).items()} for f in facts],
        "reviewed": [f.slice_index for f in facts if f.reviewed],
    }
