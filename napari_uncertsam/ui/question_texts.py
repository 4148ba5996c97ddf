"""What the dialogue says: the question, what an answer should bring, what the last one changed, what to do next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_uncertsam.annotations import Change
from napari_uncertsam.prediction import Prediction
from napari_uncertsam.prompts import Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.ui.slice_texts import CORRECT, REVIEWED
from napari_uncertsam.ui.styles import CAME, CHANGE_COLOURS, LEFT, MAX_ENTROPY
from napari_uncertsam.ui.texts import pixels_text

#: Square millimetres of a pixel are the product of these; None where they are not known.
PixelSize = tuple[float, float] | None

SETTLED = "Another click is not expected to help: look at the outline yourself, or go on."
WAITING = "The next question comes when the model has looked again …"
_SURPRISE = "The answer was a surprise: more is open than it seemed."
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class QuestionText:
    """What the panel asks; nothing without a `question`. `yes` and `no` are the texts of the first two buttons.

    `is_optional`: an answer is not expected to help.
    """

    question: str = ""
    effect: str = ""
    tip: str = ""
    yes: str = "Inside"
    no: str = "Outside"
    is_optional: bool = False


@dataclass(frozen=True)
class SuggestionRow:
    """One line of the list of suggestions; `gain` in pixels, NaN where it is not known.

    `probability` is that of a point to be inside; for a box it means something else and is not shown.
    """

    rank: int
    kind: str
    gain: float
    probability: float
    tooltip: str


def question_text(
    suggestions: Sequence[Suggestion],
    chosen: int | None,
    pixel_mm: PixelSize,
    *,
    has_box: bool = True,
    is_optional: bool = False,
) -> QuestionText:
    """The question about the chosen suggestion.

    Parameters
    ----------
    suggestions : sequence of Suggestion
        Those that are open.
    chosen : int, optional
        Row of the one that is asked about, from 0.
    pixel_mm : (float, float), optional
        Millimetres per pixel, where known.
    has_box : bool
        Whether the object has a box that a suggested one would replace.
    is_optional : bool
        Whether another answer is not expected to help.

    Examples
    --------
    >>> question_text([Suggestion("point", 3, 4, 0.6, 0.5, gain=34.2)], 0, None).question
    '1 of 1: is the place numbered 1 inside the object?'
    """
    if chosen is None or not 0 <= chosen < len(suggestions):
        return QuestionText()
    suggestion, rank = suggestions[chosen], chosen + 1
    start = f"{'If you like: ' if is_optional else ''}{rank} of {len(suggestions)}"
    tip, effect = _where(suggestion), effect_text(suggestion, pixel_mm)
    question, yes, no = f"is the place numbered {rank} inside the object?", "Inside", "Outside"
    if suggestion.box is not None:
        question = f"use the box numbered {rank}{' instead of yours' if has_box else ''}?"
        yes, no = "Use it", "Keep mine" if has_box else "No box"
    return QuestionText(f"{start}: {question}", effect, tip, yes, no, is_optional)


def effect_text(suggestion: Suggestion, pixel_mm: PixelSize) -> str:
    """By how much an answer is expected to reduce the uncertain area; where that is not known, how uncertain it is.

    Examples
    --------
    >>> effect_text(Suggestion("point", 3, 4, 0.6, 0.5, gain=34.2), (0.5, 0.7))
    'An answer is worth about 34 px (12 mm²).'
    >>> effect_text(Suggestion("point", 3, 4, 0.6, 0.5), None)
    'Uncertainty there: 0.60 of at most 0.69 nats.'
    """
    if math.isfinite(suggestion.gain):
        return f"An answer is worth about {pixels_text(max(suggestion.gain, 0.0), pixel_mm)}."
    return f"Uncertainty there: {suggestion.score:.2f} of at most {MAX_ENTROPY:.2f} nats."


def suggestion_rows(suggestions: Sequence[Suggestion], pixel_mm: PixelSize = None) -> list[SuggestionRow]:
    """The list of suggestions, most useful first."""
    rows = []
    for rank, suggestion in enumerate(suggestions, start=1):
        tip = f"{_where(suggestion)}\n{effect_text(suggestion, pixel_mm)}"
        if math.isfinite(suggestion.gain):
            tip += f"\nEntropy {suggestion.score:.3f} of at most {MAX_ENTROPY:.3f} nats."
        rows.append(SuggestionRow(rank, suggestion.kind, suggestion.gain, suggestion.probability, tip))
    return rows


def _where(suggestion: Suggestion) -> str:
    box = suggestion.box
    if box is None:
        return f"Is the point at row {suggestion.y:.0f}, column {suggestion.x:.0f} inside the object?"
    return f"The box from ({box.y0:.0f}, {box.x0:.0f}) to ({box.y1:.0f}, {box.x1:.0f})."


def change_text(change: Change, *, waiting: bool = False, outlined: bool = False) -> str:
    """What the last answer changed: the uncertain area, pixels that came and left.

    The uncertain area is left out as long as the model has not been asked: the closed form only ever lowers it.

    Parameters
    ----------
    change : Change
    waiting : bool
        Whether the model computes.
    outlined : bool
        Whether the changed pixels are outlined, in colours that have to be named.
    """
    before, after = change.uncertain_px
    came, left = change.counts
    mask = f"mask +{came:,} / {_MINUS}{left:,} px" if came or left else "mask unchanged"
    if outlined and (came or left):
        names = [(came, f"{CHANGE_COLOURS[CAME][1]} came"), (left, f"{CHANGE_COLOURS[LEFT][1]} left")]
        mask += f" ({', '.join(name for count, name in names if count)})"
    if change.is_provisional:
        end = "; the model is looking again …" if waiting else ", worked out without the model."
        return f"{mask.capitalize()}{end}"
    percent = round(100 * (after / before - 1)) if before > 0 else 0
    share = f" ({_signed(percent)} %)" if before > 0 else ""
    text = f"Uncertain area {before:,.0f} → {after:,.0f} px{share}, {mask}."
    return f"{text} {_SURPRISE}" if percent > 0 else text


def _signed(value: int) -> str:
    return f"{_MINUS}{-value}" if value < 0 else f"+{value}" if value else "0"


def is_settled(prediction: Prediction | None) -> bool:
    """Whether another click is not expected to help; False where the method cannot tell."""
    if prediction is None or prediction.worth_asking:
        return False
    return prediction.quality is not None or any(math.isfinite(s.gain) for s in prediction.suggestions)


def status_text(session: Session) -> str:
    """What to do next on the present slice, or what became of the refinement."""
    prediction, refined = session.prediction, session.last_refinement
    if session.entry.is_propagated:
        return REVIEWED if session.entry.reviewed else CORRECT
    if session.request is None:
        return "Draw a box or click inside the object."
    if prediction is None:
        return "Segmenting …"
    if refined is not None and refined.rounds and prediction is refined.prediction:
        if refined.accepted:
            return "The refined mask is kept; undo brings back the one before."
        again = " If your box is off, draw another." if session.prompts.box is not None else ""
        return f"The refinement was not kept: the mask stays as it was.{again}"
    if prediction.provisional:
        return "The model is looking again; what is wrong can be corrected with a click meanwhile."
    if is_settled(prediction):
        return SETTLED
    return f"{'Answer a suggestion, correct' if session.suggestions else 'Correct'} with a click, or refine."
