"""What the inspector lists and shows, as values: findings, filters, orders, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics import MEASURES, ReliabilityCurve
from napari_uncertsam.evaluation.report.figures import pooled_reliability
from napari_uncertsam.evaluation.results import Row
from napari_uncertsam.prompts import Box
from napari_uncertsam.uncertainty import LN2

Relation = Literal["<=", ">="]
#: "_roi" is around the true object, "" the whole image.
Region = Literal["", "_roi"]


@dataclass(frozen=True, eq=False)
class Finding:
    """One line of the table: an object on a slice, or a case of an evaluation.

    Parameters
    ----------
    row : Row
        Measures and description as in :class:`~napari_uncertsam.evaluation.results.Results`; None for a measure that
        the finding does not have, and "curves" None where there is no probability.
    title : str
        Of the object, for people.
    order : int
        Objects are sorted by it.
    """

    row: Row
    title: str
    order: int

    @property
    def index(self) -> int:
        """Index of the slice."""
        return int(self.row["slice"])

    def measure(self, name: str) -> float | None:
        """A measure by its name in :data:`~napari_uncertsam.evaluation.metrics.MEASURES`; None where undefined."""
        value = self.row[name]
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Filter:
    """Findings whose measure is at most, or at least, a value; those that do not have the measure are left out.

    Examples
    --------
    >>> worst = Filter("dice", "<=", 0.5)
    >>> worst.accepts(Finding({"dice": 0.4}, "1", 1)), worst.accepts(Finding({"dice": None}, "1", 1))
    (True, False)
    >>> NO_FILTER.accepts(Finding({"dice": None}, "1", 1))
    True
    """

    measure: str
    relation: Relation = "<="
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.measure and self.measure not in MEASURES:
            raise InputError(f"There is no measure {self.measure!r}; choose one of {', '.join(MEASURES)}.")

    def accepts(self, finding: Finding) -> bool:
        """Whether a finding is shown."""
        if not self.measure:
            return True
        value = finding.measure(self.measure)
        if value is None:
            return False
        return value <= self.value if self.relation == "<=" else value >= self.value


#: Shows everything.
NO_FILTER = Filter("")


@dataclass(frozen=True, slots=True)
class Preset:
    """An order, and what is left out, for one question.

    Parameters
    ----------
    name, title, help : str
        `help` is a sentence.
    measure : str
        Sorted by it.
    descending : bool
    filter : Filter
    """

    name: str
    title: str
    help: str
    measure: str
    descending: bool
    filter: Filter = NO_FILTER


#: The questions people come with, the first one to begin with.
PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("worst", "Worst first", "Lowest Dice first.", "dice", False),
        Preset(
            "confident",
            "Confident and wrong first",
            "Most wrong pixels whose entropy is below half of ln 2, per pixel of the object, first.",
            "confident_error",
            True,
        ),
        Preset(
            "right",
            "Uncertain but right",
            "Dice of at least 0.8, highest mean uncertainty around the object first.",
            "mean_uncertainty_roi",
            True,
            Filter("dice", ">=", 0.8),
        ),
        Preset(
            "calibration",
            "Badly calibrated first",
            "Highest expected calibration error around the object first.",
            "ece_roi",
            True,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Digest:
    """What is said of all findings together.

    Parameters
    ----------
    summary : mapping
        An entry of "summary" of :class:`~napari_uncertsam.evaluation.results.Results`.
    agreement : mapping, optional
        An entry of "agreement": correlation of mean uncertainty with 1 - Dice. None where nothing is uncertain.
    """

    summary: Mapping[str, Any]
    agreement: Mapping[str, Any] | None

    def mean(self, name: str) -> float | None:
        """Mean of a measure over the findings that have it."""
        value = self.summary["measures"][name]["mean"]
        return None if value is None else float(value)


@dataclass(frozen=True, eq=False)
class Scene:
    """The image behind a finding of an evaluation.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
    limits : (float, float), optional
        Black and white of a grey image.
    truth : (H, W) bool
    prediction : (H, W) bool, optional
    uncertainty : (H, W) float32, optional
    largest : float
        What the uncertainty can be at most: ln 2 for an entropy.
    """

    image: NDArray[Any]
    limits: tuple[float, float] | None
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_] | None = None
    uncertainty: NDArray[np.float32] | None = None
    largest: float = LN2


@dataclass(frozen=True, eq=False)
class Picture:
    """The maps of a finding, on its slice.

    Parameters
    ----------
    box : Box
        Around truth and prediction.
    spacing : (float, float)
        Millimetres per row and column; 1 where not known.
    error : (H, W) float32 in [0, 1], optional
        ``|P - M|``; without a probability 1 where the mask is wrong. None where the prediction is gone.
    wrong : (H, W) uint8, optional
        0 right, 1 falsely inside, 2 falsely outside.
    scene : Scene, optional
        None where the image is on screen anyway.
    changed : bool
        What is compared is not what was measured any more.
    missing : str
        A sentence on what could not be shown.
    """

    box: Box
    spacing: tuple[float, float]
    error: NDArray[np.float32] | None
    wrong: NDArray[np.uint8] | None
    scene: Scene | None = None
    changed: bool = False
    missing: str = ""


class Source(Protocol):
    """Where findings come from."""

    @property
    def findings(self) -> Sequence[Finding]:
        """The lines of the table."""

    @property
    def digest(self) -> Digest | None:
        """All of them together; None without any."""

    @property
    def length_unit(self) -> str:
        """Of distances: "mm" or "px"; both as "mm or px" where that differs."""

    @property
    def noun(self) -> str:
        """What a finding is: "slice", "object", "case"."""

    def picture(self, finding: Finding) -> Picture:
        """The maps of a finding; may take long.

        Raises
        ------
        InputError
            If they are gone.
        """


def wrong_pixels(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """1 where a mask is falsely inside, 2 where it is falsely outside, else 0.

    Examples
    --------
    >>> wrong_pixels(np.array([True, True, False, False]), np.array([True, False, True, False])).tolist()
    [0, 1, 2, 0]
    """
    return np.where(mask & ~truth, 1, np.where(truth & ~mask, 2, 0)).astype(np.uint8)


def reliability_of(finding: Finding, region: Region) -> ReliabilityCurve | None:
    """The reliability curve of a finding; None without a probability."""
    return pooled_curve([finding], region)


def pooled_curve(findings: Sequence[Finding], region: Region) -> ReliabilityCurve | None:
    """The reliability curve over the pixels of all findings that have a probability; None without any."""
    return pooled_reliability([f.row for f in findings if f.row["curves"] is not None], region)


def findings_as_csv(findings: Sequence[Finding], measures: Sequence[str] | None = None, *, delimiter: str = ",") -> str:
    """Findings as a table with a head, in the order given.

    Parameters
    ----------
    findings : sequence of Finding
    measures : sequence of str, optional
        Names; by default all of :data:`~napari_uncertsam.evaluation.metrics.MEASURES`.
    delimiter : str

    Returns
    -------
    str
        Empty fields for what is undefined.
    """
    names = list(MEASURES if measures is None else measures)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["case", "image", "plane", "slice", "object", "value", *names])
    for finding in findings:
        row = finding.row
        about = [row["case"], row["image"], row["plane"], row["slice"], finding.title, row["value"]]
        writer.writerow([*about, *("" if row[name] is None else row[name] for name in names)])
    return stream.getvalue()
