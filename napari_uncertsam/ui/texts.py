"""What the widget says about results, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_uncertsam.checkpoints import ModelRow
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.prediction import Prediction, RefinedPrediction
from napari_uncertsam.prompts import Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.ui.styles import FITTED_LIMITS, heat_limits


@dataclass(frozen=True)
class ResultText:
    """The lines of the result card; `verdict` is "", "kept" or "refused", `tip` is about `uncertainty`."""

    tip: str = "Mean over the object and its surroundings."
    uncertainty: str = "-"
    area: str = "-"
    run: str = "-"
    reason: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class SuggestionRow:
    """One line of the list of suggestions."""

    rank: int
    kind: str
    score: float
    probability: float
    tooltip: str


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
    measure, reason, verdict = measure_of(prediction), "", ""
    values = f"{prediction.mean_uncertainty:.4f}"
    if refined is not None and refined.rounds and prediction is refined.prediction:
        first, last = refined.rounds[0], refined.rounds[-1]
        verdict = "kept" if refined.accepted else "refused"
        measure = "entropy"  # which decides, whatever is shown
        values = f"{first.before:.4f} → {last.after:.4f}"
        reason = (
            last.reason
            if not refined.accepted or last.accepted
            else next(r.reason for r in reversed(refined.rounds) if r.accepted)
        )
    shown, unit = UNCERTAINTY_MEASURES[measure].title.lower(), UNCERTAINTY_MEASURES[measure].unit
    tip = f"Mean {shown} over the object and its surroundings: 0 is certain, {_largest(measure)} the most."
    if measure_of(prediction) in FITTED_LIMITS:
        _, limit = heat_limits(measure_of(prediction), prediction.maps.local_uncertainty)
        tip += f" The colours of the map go up to {limit:.2g}."
    seconds = prediction.seconds.get("total", 0.0)
    record = prediction.record
    run = f"{seconds:.2f} s · {record.get('model', '?')} · {record.get('device', '?')}"
    uncertainty = f"{shown} {values} {unit}".rstrip()
    return ResultText(tip, uncertainty, area_text(prediction, pixel_mm), run, reason, verdict)


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


def status_text(session: Session) -> str:
    """What to do next on the present slice, or what became of the refinement; one sentence."""
    prediction, refined = session.prediction, session.last_refinement
    if session.request is None:
        return "Draw a box or click inside the object."
    if prediction is None:
        return "Segmenting …"
    if refined is not None and refined.rounds and prediction is refined.prediction:
        if refined.accepted:
            return "The refined mask is kept; undo brings back the one before."
        return "The refinement was not kept: the mask stays as it was."
    return f"{'Answer a suggestion, correct' if session.suggestions else 'Correct'} with a click, or refine."


def area_text(prediction: Prediction, pixel_mm: tuple[float, float] | None) -> str:
    """Area with its 90 % interval, in square millimetres too where the spacing is known."""
    low, high = prediction.area_interval
    text = f"{prediction.area_px:,.0f} px ({low:,.0f} to {high:,.0f})"
    if pixel_mm is not None:
        cell = pixel_mm[0] * pixel_mm[1]
        values = (_short(v * cell) for v in (prediction.area_px, low, high))
        text += "\n{} mm² ({} to {})".format(*values)
    return text


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def suggestion_rows(suggestions: Sequence[Suggestion]) -> list[SuggestionRow]:
    """The list of suggestions, most useful first."""
    rows = []
    for rank, suggestion in enumerate(suggestions, start=1):
        if suggestion.box is None:
            where = f"Is the point at row {suggestion.y:.0f}, column {suggestion.x:.0f} inside the object?"
        else:
            b = suggestion.box
            where = f"Use the box from ({b.y0:.0f}, {b.x0:.0f}) to ({b.y1:.0f}, {b.x1:.0f}) instead of the present one?"
        rows.append(SuggestionRow(rank, suggestion.kind, suggestion.score, suggestion.probability, where))
    return rows


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
