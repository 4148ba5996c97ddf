"""All measures of one case at once, by name, and what each name means to a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics.inputs import (
    Float,
    as_mask,
    as_pixels,
    as_probabilities,
    require_same_shape,
)
from napari_uncertsam.evaluation.metrics.masks import (
    boundary_ious,
    bounding_slices,
    dice,
    iou,
    precision,
    recall,
    roi_of,
)
from napari_uncertsam.evaluation.metrics.ranking import Deviations, Ranking
from napari_uncertsam.evaluation.metrics.scores import (
    ReliabilityCurve,
    brier_of,
    nll_of,
    paper_error,
    reliability_of,
)
from napari_uncertsam.evaluation.metrics.surfaces import surface_distances
from napari_uncertsam.uncertainty import LN2

Better = Literal["higher", "lower", "neither"]

#: Acceptable deviation of an outline for the normalised surface distance: 2 mm, or 2 pixels where no spacing is known.
TOLERANCE = 2.0
#: Coverages at which risk is kept for the curves of a report.
COVERAGES = np.linspace(0.05, 1, 20)
#: A pixel below this entropy, in nats, counts as confident: P outside [.11, .89].
CONFIDENT = 0.5 * LN2


@dataclass(frozen=True, slots=True)
class Measure:
    """What a name in a table stands for.

    Parameters
    ----------
    title : str
        Short, for a column.
    better : {"higher", "lower", "neither"}
    help : str
        One sentence.
    unit : str
        "" for a pure number, "nats", or "length" (millimetres, pixels where no spacing is known).
    """

    title: str
    better: Better
    help: str
    unit: str = ""


def _table() -> dict[str, Measure]:
    """Names in the order of tables. Those of pixels come twice: over the image, and around the true object (_roi)."""
    masks = {
        "dice": Measure("Dice", "higher", "Overlap 2 |A & B| / (|A| + |B|) of mask and truth."),
        "iou": Measure("IoU", "higher", "Intersection over union of mask and truth."),
        "biou_2": Measure("BIoU 2 %", "higher", "IoU of the bands inside both outlines, 0.02 of the diagonal wide."),
        "biou_1": Measure("BIoU 1 %", "higher", "IoU of the bands inside both outlines, 0.01 of the diagonal wide."),
        "hd95": Measure("HD95", "lower", "95th percentile of the distances between the outlines.", "length"),
        "nsd": Measure("NSD", "higher", "Share of both outlines that is within the tolerance of the other."),
        "precision": Measure("Precision", "higher", "Share of the mask that is true."),
        "recall": Measure("Recall", "higher", "Share of the truth that is in the mask."),
    }
    pixels = {
        "rho": Measure(
            "rho |P-M|", "higher", "Correlation of uncertainty with |P - M|; rises when P moves towards 0.5."
        ),
        "rho_hard": Measure("rho hard", "higher", "Correlation of uncertainty with where the mask is wrong."),
        "rho_reference": Measure(
            "rho reference", "higher", "Correlation of uncertainty with |P - M| of the single prediction."
        ),
        "ause": Measure("AUSE", "lower", "How far the order of wrong pixels is from a perfect one; random is near 1."),
        "ause_reference": Measure("AUSE reference", "lower", "AUSE against |P - M| of the single prediction."),
        "aurc": Measure("AURC", "lower", "Mean share of wrong pixels among the most certain ones, over all coverages."),
        "brier": Measure("Brier", "lower", "Mean squared difference of probability and truth."),
        "nll": Measure("NLL", "lower", "Mean negative log-likelihood of the truth.", "nats"),
        "ece": Measure("ECE", "lower", "Expected calibration error, 10 bins."),
        "mean_uncertainty": Measure("Mean U", "neither", "Mean uncertainty.", "nats"),
    }
    table = dict(masks)
    for name, measure in pixels.items():
        table[name] = measure
        table[f"{name}_roi"] = Measure(
            f"{measure.title} ROI", measure.better, f"{measure.help[:-1]}, around the true object.", measure.unit
        )
    table["confident_error"] = Measure(
        "Confidently wrong", "lower", "Wrong pixels whose entropy is below half of ln 2, per pixel of the object."
    )
    return table


#: Name to meaning, in the order of tables.
MEASURES: Mapping[str, Measure] = MappingProxyType(_table())


class Curves(NamedTuple):
    """What can be added up over cases and drawn.

    Attributes
    ----------
    reliability, reliability_roi : ReliabilityCurve
    risk, risk_roi : (20,) float64
        Share of wrong pixels among the most certain ones, at :data:`COVERAGES`.
    """

    reliability: ReliabilityCurve
    reliability_roi: ReliabilityCurve
    risk: NDArray[np.float64]
    risk_roi: NDArray[np.float64]


class Measured(NamedTuple):
    """All measures by name, and the curves behind them. An infinite distance means that nothing was predicted."""

    values: dict[str, float]
    curves: Curves


def measure_case(
    mask: NDArray[Any],
    probability: NDArray[Any],
    uncertainty: NDArray[Any],
    truth: NDArray[Any],
    *,
    reference: NDArray[Any] | None = None,
    entropy: NDArray[Any] | None = None,
    spacing: Sequence[float] = (1.0, 1.0),
    tolerance: float = TOLERANCE,
) -> Measured:
    """Every measure of one predicted object on one slice.

    Parameters
    ----------
    mask : (H, W) bool or integer
        The prediction.
    probability : (H, W) float
        In [0, 1].
    uncertainty : (H, W) float
        Any finite map, for it is ranked; in nats, if `entropy` is not given.
    truth : (H, W) bool or integer
        Not empty.
    reference : (H, W) float, optional
        Probability of the single prediction, whose error all methods are ranked against; by default `probability`.
    entropy : (H, W) float, optional
        Of the probability, in nats: says which pixels are confident where `uncertainty` is no entropy; by default
        `uncertainty`.
    spacing : (float, float)
        Millimetres between rows and columns.
    tolerance : float
        Of the normalised surface distance, in the unit of `spacing`.

    Returns
    -------
    Measured
        Values by the names of :data:`MEASURES`.

    Raises
    ------
    InputError
        If the maps do not fit each other, hold NaN, or the truth is empty.
    """
    predicted, true = as_mask(mask), as_mask(truth)
    for maps in (predicted, probability, uncertainty, reference, entropy):
        if maps is not None:
            require_same_shape(maps, true)
    if not true.any():
        raise InputError("The true mask is empty, so there is no object to compare with; leave such a slice out.")
    values = _measure_masks(predicted, true, spacing, tolerance)
    shown = (probability, uncertainty, probability if reference is None else reference)
    pixels, around = _pixels(predicted, true, *map(np.asarray, shown))
    whole, reliability, risk = _measure_pixels(pixels)
    roi, reliability_roi, risk_roi = _measure_pixels(around)
    values |= whole | {f"{name}_roi": value for name, value in roi.items()}
    confident = np.asarray(uncertainty if entropy is None else entropy)[predicted != true] < CONFIDENT
    values["confident_error"] = float(np.count_nonzero(confident) / np.count_nonzero(true))
    return Measured({name: values[name] for name in MEASURES}, Curves(reliability, reliability_roi, risk, risk_roi))


def _measure_masks(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], spacing: Sequence[float], tolerance: float
) -> dict[str, float]:
    distances = surface_distances(predicted, true, spacing)
    wide, narrow = boundary_ious(predicted, true, (0.02, 0.01))
    return {
        "dice": dice(predicted, true),
        "iou": iou(predicted, true),
        "biou_2": wide,
        "biou_1": narrow,
        "hd95": distances.hausdorff(95),
        "nsd": distances.dice(tolerance),
        "precision": precision(predicted, true),
        "recall": recall(predicted, true),
    }


class _Pixels(NamedTuple):
    """Checked, flat maps of one region, and the number of its further pixels, where all of them are zero."""

    probability: Float
    uncertainty: NDArray[Any]
    true: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    error: Float
    shared_error: Float
    zeros: int


def _pixels(
    predicted: NDArray[np.bool_],
    true: NDArray[np.bool_],
    probability: NDArray[Any],
    uncertainty: NDArray[Any],
    reference: NDArray[Any],
) -> tuple[_Pixels, _Pixels]:
    """The pixels of the image and those around the true object.

    Outside of its view a prediction is zero, and most of a large image lies there: that is counted instead of computed.
    """
    anything = predicted | true
    for values in (probability, uncertainty, reference):
        anything |= values != 0  # NaN too, which is refused below
    part = bounding_slices(anything)
    if part is None or (uncertainty < 0).any():
        part = (slice(None), slice(None))
    roi = roi_of(true)
    p, m = as_probabilities(probability[part], true[part])
    error = np.abs(p - m)
    shared = error if reference is probability else paper_error(reference[part], true[part]).ravel()
    u, wrong = uncertainty[part].ravel(), (predicted[part] != true[part]).ravel()
    around = np.flatnonzero(roi[part])
    outside = int(np.count_nonzero(roi)) - around.size
    return (
        _Pixels(p, u, m, wrong, error, shared, true.size - p.size),
        _Pixels(p[around], u[around], m[around], wrong[around], error[around], shared[around], outside),
    )


def _measure_pixels(pixels: _Pixels) -> tuple[dict[str, float], ReliabilityCurve, Float]:
    """Measures of the pixels of one region, with the curves behind them."""
    zeros = pixels.zeros
    ranking = Ranking(pixels.uncertainty, zeros)
    deviations = Deviations(as_pixels(pixels.uncertainty), zeros)
    reliability = reliability_of(pixels.probability, pixels.true, zeros=zeros)
    wrong = pixels.wrong.astype(np.float64)
    values = {
        "rho": deviations.rho(pixels.error),
        "rho_hard": deviations.rho(wrong),
        "rho_reference": deviations.rho(pixels.shared_error),
        "ause": ranking.ause(wrong),
        "ause_reference": ranking.ause(pixels.shared_error),
        "aurc": ranking.aurc(wrong),
        "brier": brier_of(pixels.error, zeros),
        "nll": nll_of(pixels.error, zeros=zeros),
        "ece": reliability.ece,
        "mean_uncertainty": deviations.mean,
    }
    return values, reliability, ranking.risk(wrong, np.maximum(1, np.rint(COVERAGES * ranking.size)))
