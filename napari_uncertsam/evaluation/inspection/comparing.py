"""From a prediction and the truth, as arrays, to findings: a line per slice and object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.evaluation.inspection.findings import Digest, Finding, Picture, wrong_pixels
from napari_uncertsam.evaluation.inspection.pairing import (
    Pair,
    PairingName,
    better_by_overlap,
    pairs_of,
    predicted_labels,
    scan,
)
from napari_uncertsam.evaluation.inspection.stacks import Stack
from napari_uncertsam.evaluation.measuring import curves_to_dict
from napari_uncertsam.evaluation.metrics import MEASURES, dice, measure_case
from napari_uncertsam.evaluation.summarising import plain, summarise_agreement, summarise_rows
from napari_uncertsam.prompts import Box
from napari_uncertsam.uncertainty import LN2, binary_entropy

#: Share of the progress bar for the first reading.
_SCAN_SHARE = 0.1
#: Uncertainties above ln 2 by more than rounding are no entropies.
_MOST_NATS = LN2 * 1.001
_ENDINGS = ("", "_roi")
#: What needs a probability, and what needs an uncertainty.
NEED_PROBABILITY = frozenset(
    f"{name}{end}" for name in ("rho", "rho_reference", "ause_reference", "brier", "nll", "ece") for end in _ENDINGS
)
NEED_UNCERTAINTY = frozenset(
    f"{name}{end}"
    for name in ("rho", "rho_hard", "rho_reference", "ause", "ause_reference", "aurc", "mean_uncertainty")
    for end in _ENDINGS
) | {"confident_error"}
#: What is known where the truth is empty: nothing of the mask is right.
_FALSE_ALARM = {"dice": 0.0, "iou": 0.0, "precision": 0.0}


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is compared, at the time it is.

    Parameters
    ----------
    prediction : Stack
        Values of objects, or probabilities of one.
    truth : Stack
        Values of objects.
    probability : Stack, optional
        By default the prediction where that holds probabilities.
    uncertainty : Stack, optional
        In nats; by default the entropy of the probability.
    spacing : tuple of float
        Millimetres along each axis of the arrays; 1 where not known.
    millimetres : bool
        Whether it is known.
    plane : int
        Volumes are compared slice by slice along it.
    name : str
        Of the image.
    titles : mapping
        Of values of the truth, for people.

    Raises
    ------
    InputError
        If the arrays have not the same shape.
    """

    prediction: Stack
    truth: Stack
    probability: Stack | None = None
    uncertainty: Stack | None = None
    spacing: tuple[float, ...] = ()
    millimetres: bool = False
    plane: int = 0
    name: str = "image"
    titles: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, plane = self.truth.volume.shape, self.plane
        for stack in (self.prediction, self.probability, self.uncertainty):
            if stack is None:
                continue
            expected = (
                shape if stack.only is None else tuple(1 if a == stack.only[0] else n for a, n in enumerate(shape))
            )
            if stack.volume.shape != expected or (stack is self.prediction and stack.only is not None):
                raise InputError(
                    f"'{stack.name}' has shape {stack.volume.shape}, but '{self.truth.name}' {shape}; choose layers of "
                    "one shape."
                )
        self.truth.volume.plane_shape(plane)
        object.__setattr__(self, "spacing", self.spacing or (1.0,) * len(shape))

    @property
    def pixel(self) -> tuple[float, float]:
        """Millimetres between rows and between columns of a slice."""
        kept = [s for axis, s in enumerate(self.spacing) if len(self.spacing) == 2 or axis != self.plane]
        return kept[0], kept[1]


class _Maps(NamedTuple):
    """One object on one slice."""

    mask: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    probability: NDArray[Any] | None
    uncertainty: NDArray[Any] | None
    refused: bool  # there is a probability, but of another object


@dataclass(frozen=True, eq=False)
class Comparison:
    """The findings of :func:`compare`; a :class:`~napari_uncertsam.evaluation.inspection.findings.Source`.

    Parameters
    ----------
    inputs : Inputs
    findings : tuple of Finding
    pairs : mapping
        Of each finding: what was compared.
    digest : Digest, optional
    notes : tuple of str
        Sentences on what could not be told.
    better : (int, int), optional
        A predicted and a true value that overlap clearly better than what was compared.
    """

    inputs: Inputs
    findings: tuple[Finding, ...]
    pairs: Mapping[Finding, Pair]
    digest: Digest | None
    notes: tuple[str, ...]
    better: tuple[int, int] | None = None

    @property
    def length_unit(self) -> str:
        """Of distances."""
        return "mm" if self.inputs.millimetres else "px"

    @property
    def noun(self) -> str:
        """What a finding is."""
        if self.inputs.truth.volume.ndim == 2:
            return "object"
        return "slice" if len({finding.title for finding in self.findings}) == 1 else "object slice"

    def picture(self, finding: Finding) -> Picture:
        """Where and how much a finding is wrong, from the arrays as they are now."""
        maps = _maps_of(self.inputs, self.pairs[finding], finding.index)
        wrong = wrong_pixels(maps.mask, maps.truth)
        soft = maps.mask if maps.probability is None else maps.probability
        error = np.abs(soft.astype(np.float32) - maps.truth)
        changed = dice(maps.mask, maps.truth) != finding.measure("dice")
        either = maps.mask | maps.truth
        box = Box.of_mask(either) if either.any() else Box(0, 0, either.shape[0] - 1, either.shape[1] - 1)
        return Picture(box, self.inputs.pixel, error, wrong, changed=changed)


def compare(
    inputs: Inputs,
    how: PairingName = "same",
    one: Pair | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[str, float], None] = lambda _text, _fraction: None,
) -> Comparison:
    """Measure every object on every slice on which prediction or truth has it.

    Parameters
    ----------
    inputs : Inputs
    how, one
        See :func:`~napari_uncertsam.evaluation.inspection.pairing.pairs_of`.
    cancelled, progress : callable

    Returns
    -------
    Comparison
        Its measures are those of :func:`~napari_uncertsam.evaluation.metrics.measure_case`. Without a probability the
        mask stands in for it, and measures that would say nothing then are None; so is all but the overlap where the
        truth is empty.

    Raises
    ------
    InputError
        If a layer does not hold what it should, or there is nothing to compare.
    Cancelled
    """
    overlap = scan(
        inputs.prediction,
        inputs.truth,
        inputs.plane,
        cancelled,
        lambda share: progress("Reading the masks", _SCAN_SHARE * share),
    )
    pairs = pairs_of(overlap, how, one)
    places = [(index, pair) for pair in pairs for index in overlap.on_slices(pair)]
    measuring = _Measuring(inputs)
    found: dict[Finding, Pair] = {}
    for done, (index, pair) in enumerate(sorted(places, key=lambda place: (place[0], _order(place[1])))):
        if cancelled():
            raise Cancelled("The comparison was cancelled.")
        found[measuring.measure(pair, index)] = pair
        progress(f"Measuring {done + 1} of {len(places)}", _SCAN_SHARE + (1 - _SCAN_SHARE) * (done + 1) / len(places))
    progress("Summing up", 1.0)
    better = better_by_overlap(overlap, pairs) if how == "same" else None
    return Comparison(inputs, tuple(found), found, _digest(list(found)), tuple(measuring.notes()), better)


def _order(pair: Pair) -> int:
    return pair.truth or 0


class _Measuring:
    """Measures one finding after the other, and remembers what could not be told."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._refused = self._uncovered = self._measured = 0
        self._most = 0.0

    def measure(self, pair: Pair, index: int) -> Finding:
        maps = _maps_of(self._inputs, pair, index)
        self._measured += 1
        self._refused += maps.refused
        given = self._inputs.probability or self._inputs.uncertainty
        self._uncovered += given is not None and maps.uncertainty is None and not maps.refused
        if maps.uncertainty is not None:
            self._most = max(self._most, float(maps.uncertainty.max()))
        values, curves = _measures(maps, self._inputs.pixel)
        inputs, volume = self._inputs, self._inputs.truth.volume.ndim == 3
        title = inputs.titles.get(_order(pair), "")
        row = {
            "case": f"{inputs.name}{f'/z{index}' if volume else ''}/{pair.title}",
            "image": inputs.name,
            "plane": inputs.plane,
            "slice": index,
            "value": _order(pair),
            "group": f"{inputs.name}/{index}" if volume else f"{pair.title}",
            "modality": "unknown",
            "area_px": int(np.count_nonzero(maps.truth)),
            "prompt": "",
            "method": "",
            **values,
            "curves": curves,
        }
        return Finding(row, f"{pair.title} {title}".strip(), _order(pair))

    def notes(self) -> Iterator[str]:
        inputs = self._inputs
        probable = inputs.probability is not None or inputs.prediction.is_fractional
        if not probable:
            yield "Without a probability the mask stands in for it: calibration and rho |P-M| cannot be told."
        if not probable and inputs.uncertainty is None:
            yield "Without an uncertainty, whether it points at the errors cannot be told."
        if self._refused:
            yield (
                f"On {self._refused} of {self._measured} lines the probability makes another mask than the one that is "
                "compared, so it is left out there."
            )
        if self._uncovered:
            yield f"On {self._uncovered} of {self._measured} lines there is no uncertainty: its layer ends before."
        if self._most > _MOST_NATS:
            yield (
                f"The uncertainty reaches {self._most:.3g}, more than ln 2: 'confidently wrong' takes it for nats all "
                "the same."
            )


def _maps_of(inputs: Inputs, pair: Pair, index: int) -> _Maps:
    plane = inputs.plane
    labels, true = predicted_labels(inputs.prediction, plane, index), inputs.truth.labels(plane, index)
    mask, truth = (
        np.asarray(values != 0 if value is None else values == value)
        for values, value in ((labels, pair.prediction), (true, pair.truth))
    )
    stack = inputs.probability or (inputs.prediction if inputs.prediction.is_fractional else None)
    probability = None if stack is None else stack.probability(plane, index)
    refused = False
    if probability is not None:
        if pair.prediction is not None:
            # A map of several objects at once: what another one was given is not this one's.
            probability = np.where((labels != 0) & ~mask, 0, probability)
        # Of whichever object it is: it has to make this object's mask, more or less.
        if dice(probability > 0.5, mask) < 0.5:
            probability, refused = None, True
    uncertainty = None
    if inputs.uncertainty is not None and not refused:
        uncertainty = inputs.uncertainty.finite(plane, index)
    elif inputs.uncertainty is None and probability is not None:
        uncertainty = binary_entropy(probability)
    return _Maps(mask, truth, probability, uncertainty, refused)


def _measures(maps: _Maps, spacing: Sequence[float]) -> tuple[dict[str, float | None], dict[str, Any] | None]:
    """Measures by name, None where they cannot be told, and the curves where there is a probability."""
    nothing: dict[str, float | None] = dict.fromkeys(MEASURES)
    if not maps.truth.any():
        return nothing | _FALSE_ALARM, None
    soft = maps.mask.astype(np.float32) if maps.probability is None else maps.probability
    doubt = np.zeros_like(soft) if maps.uncertainty is None else maps.uncertainty
    found = measure_case(maps.mask, soft, doubt, maps.truth, spacing=spacing)
    left_out: frozenset[str] = frozenset()
    if maps.probability is None:
        left_out |= NEED_PROBABILITY
    if maps.uncertainty is None:
        left_out |= NEED_UNCERTAINTY
    values = {name: None if name in left_out else plain(value) for name, value in found.values.items()}
    return values, None if maps.probability is None else curves_to_dict(found.curves)


def _digest(findings: Sequence[Finding]) -> Digest | None:
    rows = [finding.row for finding in findings]
    if not rows:
        return None
    (summary, *_) = summarise_rows(rows, apart=(), seed=0, level=0.95)
    uncertain = [row for row in rows if row["mean_uncertainty"] is not None]
    agreement = summarise_agreement(uncertain, apart=(), seed=0, level=0.95)
    return Digest(summary, agreement[0] if agreement else None)
