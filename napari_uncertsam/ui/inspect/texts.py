"""What the inspector says, as text and as columns of its table. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.evaluation.inspection import Digest, Finding, Source
from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.report.formatting import count, decimals_for, number, with_interval
from napari_uncertsam.evaluation.results import Results, measure_of_row

#: Measures that are columns to begin with.
USUAL = ("dice", "hd95", "nsd", "rho_hard_roi", "mean_uncertainty_roi", "ece_roi", "confident_error")
#: Measures that are told of the selected finding, beside the mean.
TOLD = (
    *("dice", "iou", "hd95", "nsd", "rho_hard_roi", "rho_roi"),
    *("ause_roi", "ece_roi", "nll_roi", "mean_uncertainty_roi", "confident_error"),
)
#: Where titles stand side by side.
_SHORT = {"confident_error": "Conf. wrong"}
NO_LAYERS = "Open an image, a prediction and its ground truth, or the results of an evaluation."
DROP_HINT = "Choose the folder that `napari-uncertsam evaluate` wrote, or drop it here."
INTERVAL_NOTE = (
    "95 % interval, by bootstrap. Slices of one volume resemble each other: their interval tells how much hangs on "
    "single slices, not how another volume would fare."
)
#: By what a finding is: what the intervals are over, where that is less than a reader expects.
_WITHIN = {
    "slice": " Intervals are over slices of one volume.",
    "object slice": " Intervals are over slices of one volume.",
    "object": " Intervals are over objects of one image.",
}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Parameters
    ----------
    name : str
        Of a measure, or "image", "slice" or "object".
    title, help : str
    value : callable
        Of a finding: what it is sorted by.
    text : callable
        Of a finding: what is shown.
    """

    name: str
    title: str
    help: str
    value: Callable[[Finding], Any]
    text: Callable[[Finding], str]


@dataclass(frozen=True)
class CardRow:
    """A measure of the selected finding, and its mean over all."""

    title: str
    help: str
    value: str
    mean: str


def columns_of(source: Source, measures: Sequence[str]) -> list[Column]:
    """What tells findings apart, and the measures that are wanted, in their order."""
    findings = source.findings
    about = [
        Column("image", "Case", "Image or volume", lambda f: f.row["image"], lambda f: str(f.row["image"])),
        Column("slice", "Slice", "Index of the slice, from 0", lambda f: f.index, lambda f: f"{f.index}"),
        Column("object", "Object", "Object: value in prediction and truth", lambda f: (f.order, f.title), _title),
    ]
    several = [column for column in about if len({column.value(f) for f in findings}) > 1]
    kept = several or about[-1:]
    return [*kept, *(_measure_column(name, source) for name in measures)]


def _title(finding: Finding) -> str:
    return finding.title


def _measure_column(name: str, source: Source) -> Column:
    measure = MEASURES[name]
    decimals = decimals_for((f.measure(name) for f in source.findings), measure.unit)
    unit = _unit(name, source)
    better = {"higher": " Higher is better.", "lower": " Lower is better.", "neither": ""}[measure.better]
    return Column(
        name,
        _title_of(name, unit),
        f"{measure.help[:-1]}{f', in {unit}' if unit else ''}.{better}",
        lambda finding: finding.measure(name),
        lambda finding: number(finding.measure(name), decimals),
    )


def _title_of(name: str, unit: str) -> str:
    """Lengths with their unit."""
    measure = MEASURES[name]
    return _SHORT.get(name, measure.title) + (f" ({unit})" if measure.unit == "length" and unit else "")


def _unit(name: str, source: Source) -> str:
    unit = MEASURES[name].unit
    if name in ("mean_uncertainty", "mean_uncertainty_roi") and source.findings:
        return UNCERTAINTY_MEASURES[measure_of_row(source.findings[0].row)].unit
    return source.length_unit if unit == "length" else unit


def usual_columns(source: Source) -> list[str]:
    """Measures to begin with: the usual ones that any finding has."""
    return [name for name in USUAL if is_known(source, name)]


def is_known(source: Source, name: str) -> bool:
    """Whether any finding has a measure."""
    return any(f.measure(name) is not None for f in source.findings)


def card_rows(source: Source | None, finding: Finding | None) -> list[CardRow]:
    """What is told of a finding."""
    rows = []
    for name in TOLD:
        measure, digest = MEASURES[name], source.digest if source is not None else None
        unit = _unit(name, source) if source is not None else ""
        decimals = 2 if measure.unit == "length" else 3
        value = None if finding is None else finding.measure(name)
        mean = None if digest is None else digest.mean(name)
        rows.append(CardRow(_title_of(name, unit), measure.help, *(number(v, decimals) for v in (value, mean))))
    return rows


def finding_title(finding: Finding | None) -> str:
    """Which finding is selected."""
    if finding is None:
        return "Nothing selected"
    row = finding.row
    where = f", slice {row['slice']}" if "/z" in str(row["case"]) else ""
    return f"{row['image']}{where}, object {finding.title}"


def digest_text(source: Source) -> str:
    """All findings together: how many, mean Dice, and whether uncertainty goes with failure."""
    digest = source.digest
    if digest is None:
        return ""
    said = f"{_overlap_text(digest, len(source.findings), source.noun)}{_agreement_text(digest)}"
    has_interval = digest.summary["measures"]["dice"]["low"] is not None
    return said + (_WITHIN.get(source.noun, "") if has_interval else "")


def _overlap_text(digest: Digest, findings: int, noun: str) -> str:
    n, dice = int(digest.summary["n"]), digest.summary["measures"]["dice"]
    of = shown_text(n, findings, noun)
    return f"{of}: mean Dice {with_interval(dice['mean'], dice)}."


def _agreement_text(digest: Digest) -> str:
    agreement = digest.agreement
    if agreement is None or agreement["pearson_roi"]["value"] is None:
        return ""
    entry = agreement["pearson_roi"]
    return f" Mean uncertainty (ROI) against 1 \N{MINUS SIGN} Dice: r = {with_interval(entry['value'], entry, 2)}."


def shown_text(shown: int, total: int, noun: str) -> str:
    """How many there are, or how many of them.

    Examples
    --------
    >>> shown_text(3, 12, "slice"), shown_text(1, 1, "slice")
    ('3 of 12 slices', '1 slice')
    """
    return count(total, noun) if shown == total else f"{shown:,} of {count(total, noun)}"


def order_text(title: str, measured: bool, *, descending: bool) -> str:
    """What the table is sorted by, in the words for measures or for names and places.

    Examples
    --------
    >>> order_text("Dice", True, descending=False), order_text("Slice", False, descending=True)
    ('Sorted by Dice, lowest first.', 'Sorted by Slice, last first.')
    """
    ends = ("lowest first", "highest first") if measured else ("first to last", "last first")
    return f"Sorted by {title}, {ends[descending]}."


def compared_text(source: Source, seconds: float) -> str:
    """What has just been done."""
    return f"Compared {count(len(source.findings), source.noun)} in {seconds:.1f} s."


def evaluation_text(results: Results) -> str:
    """Which evaluation is shown."""
    said, settings = results.document["dataset"], results.document["settings"]
    return (
        f"{said['name']}, model {settings['model']}: {count(int(said['images']), 'image')}, "
        f"{count(int(said['cases']), 'case')}."
    )
