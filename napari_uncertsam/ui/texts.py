"""What the widget says about results, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_uncertsam.checkpoints import ModelRow
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.prediction import Prediction, RefinedPrediction
from napari_uncertsam.refinement.rounds import Round
from napari_uncertsam.suggestions.quality import Quality
from napari_uncertsam.ui.styles import FITTED_LIMITS, heat_limits


@dataclass(frozen=True)
class ResultText:
    """The lines of the result card; an empty one is not shown.

    `verdict` is "", "kept" or "refused", `tip` is about `uncertainty`, `rounds` about `reason`.
    """

    tip: str = "Mean over the object and its surroundings."
    uncertainty: str = "-"
    dice: str = ""
    area: str = "-"
    uncertain: str = ""
    run: str = "-"
    reason: str = ""
    verdict: str = ""
    rounds: str = ""


def result_text(
    prediction: Prediction | None, refined: RefinedPrediction | None, pixel_mm: tuple[float, float] | None
) -> ResultText:
    """Describe a prediction, and the refinement that led to it or was refused for it.

    Parameters
    ----------
    prediction : Prediction, optional
    refined : RefinedPrediction, optional
        Of any prediction; left out when it is of another, or undone.
    pixel_mm : (float, float), optional
        Millimetres per pixel, where known.
    """
    if prediction is None:
        return ResultText()
    measure, reason, verdict, rounds = measure_of(prediction), "", "", ""
    values = f"{prediction.mean_uncertainty:.4f}"
    if refined is not None and refined.rounds and prediction is refined.prediction:
        first, last = refined.rounds[0], refined.rounds[-1]
        verdict = "kept" if refined.accepted else "refused"
        measure = "entropy"  # of which rounds tell, whatever the map shows
        values = f"{first.mean_uncertainty[0]:.4f} → {last.mean_uncertainty[1]:.4f}"
        reason = (
            last.reason
            if not refined.accepted or last.accepted
            else next(r.reason for r in reversed(refined.rounds) if r.accepted)
        )
        rounds = rounds_text(refined.rounds)
    shown, unit = UNCERTAINTY_MEASURES[measure].title.lower(), UNCERTAINTY_MEASURES[measure].unit
    tip = f"Mean {shown} over the object and its surroundings: 0 is certain, {_largest(measure)} the most."
    if measure_of(prediction) in FITTED_LIMITS:
        _, limit = heat_limits(measure_of(prediction), prediction.maps.local_uncertainty)
        tip += f" The colours of the map go up to {limit:.2g}."
    seconds = prediction.seconds.get("total", 0.0)
    record = prediction.record
    run = f"{seconds:.2f} s · {record.get('model', '?')} · {record.get('device', '?')}"
    uncertainty = f"{shown} {values} {unit}".rstrip()
    area, uncertain = area_text(prediction, pixel_mm), pixels_text(prediction.uncertain_px, pixel_mm)
    return ResultText(tip, uncertainty, dice_text(prediction.quality), area, uncertain, run, reason, verdict, rounds)


def dice_text(quality: Quality | None) -> str:
    """Expected Dice of the mask with its 90 % interval; empty where it is not known.

    Examples
    --------
    >>> dice_text(Quality(0.912, 0.843, 0.951))
    'likely 0.91 (90 %: 0.84 to 0.95)'
    """
    if quality is None:
        return ""
    return f"likely {quality.dice:.2f} (90 %: {quality.low:.2f} to {quality.high:.2f})"


def rounds_text(rounds: Sequence[Round]) -> str:
    """What the rounds of a refinement tried, and what became of each; one line a round."""
    lines = []
    for number, tried in enumerate(rounds, start=1):
        points = f" and {len(tried.points)} point{'s' * (len(tried.points) > 1)}" if tried.points else ""
        what = "nothing to try" if tried.box is None else f"another box{points}"
        lines.append(f"Round {number} ({what}), {'kept' if tried.accepted else 'not kept'}: {tried.reason}")
    return "\n".join(lines)


def measure_of(prediction: Prediction) -> str:
    """Which measure a prediction's uncertainty map shows."""
    return str(prediction.record.get("measure", "entropy"))


def method_tip(title: str, answers: str) -> str:
    """What the list of methods says about the one that is chosen."""
    return f"Where the uncertainty comes from.\n{title}: {answers}"


def measure_tip(measure: str) -> str:
    """Which question a measure answers, and its range.

    Examples
    --------
    >>> measure_tip("entropy")
    'Where could the answer be either, for whatever reason? From 0 to 0.69 nats (ln 2).'
    """
    text = f"{UNCERTAINTY_MEASURES[measure].answers} From 0 to {_largest(measure)}."
    if measure in FITTED_LIMITS:
        text += " The colours go up to the largest values around the object."
    return text


def why_not(measure: str, method: str) -> str:
    """Why a method does not have a measure."""
    reasons = {
        "mutual-information": "a single prediction has nothing to disagree with.",
        "std": "a single prediction has no spread.",
    }
    return f"{method}: {reasons.get(measure, 'it says something else than this.')}"


def _largest(measure: str) -> str:
    text = UNCERTAINTY_MEASURES[measure]
    return "0.69 nats (ln 2)" if text.unit else f"{text.largest:g}"


def time_text(seconds: float) -> str:
    """A duration for people.

    Examples
    --------
    >>> time_text(12), time_text(100), time_text(5000)
    ('12 s', '2 min', '83 min')
    """
    return f"{max(seconds, 1):.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def area_text(prediction: Prediction, pixel_mm: tuple[float, float] | None) -> str:
    """Area with its 90 % interval, in square millimetres too where the spacing is known."""
    return area_interval_text(prediction.area_px, *prediction.area_interval, pixel_mm)


def area_interval_text(area: float, low: float, high: float, pixel_mm: tuple[float, float] | None) -> str:
    """An area in pixels with an interval, in square millimetres too where the spacing is known.

    Examples
    --------
    >>> area_interval_text(800, 700, 950, None)
    '800 px (700 to 950)'
    """
    text = f"{area:,.0f} px ({low:,.0f} to {high:,.0f})"
    if pixel_mm is not None:
        cell = pixel_mm[0] * pixel_mm[1]
        text += "\n{} mm² ({} to {})".format(*(_short(v * cell) for v in (area, low, high)))
    return text


def pixels_text(pixels: float, pixel_mm: tuple[float, float] | None) -> str:
    """An area in pixels, and in square millimetres where the spacing is known.

    Examples
    --------
    >>> pixels_text(512.3, (0.5, 0.5)), pixels_text(3.14, None), pixels_text(0.02, None)
    ('512 px (128 mm²)', '3.1 px', 'less than 0.1 px')
    """
    if pixels < 0.1:
        return "less than 0.1 px"
    text = f"{pixels:,.0f} px" if pixels >= 10 else f"{pixels:.1f} px"
    return text if pixel_mm is None else f"{text} ({_short(pixels * pixel_mm[0] * pixel_mm[1])} mm²)"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size_text(size: int | None) -> str:
    """Size of a download for people.

    Examples
    --------
    >>> size_text(156008466), size_text(None)
    ('156 MB', '')
    """
    return "" if size is None else f"{size / 1e6:.0f} MB"


def model_text(row: ModelRow) -> str:
    """A model as it stands in the list: what is not on disk says so."""
    if row.downloaded:
        return row.name
    size = size_text(row.size)
    return f"{row.name} (not downloaded{', ' + size if size else ''})"
