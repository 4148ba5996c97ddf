"""The cases that went worst, with their pictures."""

from __future__ import annotations

from dataclasses import dataclass

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.evaluation.report.formatting import number
from napari_uncertsam.evaluation.report.pictures import Panels, draw_panels
from napari_uncertsam.evaluation.results import Results, Row, measure_of_row
from napari_uncertsam.io import prompts_from_dict
from napari_uncertsam.view import View

#: What is told of a case beside its pictures.
_TOLD = ("dice", "mean_uncertainty_roi", "confident_error")


@dataclass(frozen=True, slots=True)
class Shown:
    """A case to look at.

    Parameters
    ----------
    key, modality : str
    facts : tuple of (str, str)
        Names and numbers.
    panels : Panels, optional
        None where `missing` says why not.
    missing : str
    """

    key: str
    modality: str
    facts: tuple[tuple[str, str], ...]
    panels: Panels | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Cases in the order of a measure, with a sentence on what that order is."""

    name: str
    title: str
    text: str
    shown: tuple[Shown, ...]


def galleries(results: Results, worst: int) -> list[Gallery]:
    """Lowest Dice, and most pixels that are wrong and confident, of the first prompt and method.

    Parameters
    ----------
    results : Results
    worst : int
        Cases in each.
    """
    rows = results.select(results.prompts[0], results.methods[0])
    lowest = sorted(rows, key=lambda row: (row["dice"], row["case"]))[:worst]
    confident = [row for row in rows if row["confident_error"] > 0]
    confident = sorted(confident, key=lambda row: (-row["confident_error"], row["case"]))[:worst]
    chosen = {row["case"]: row for row in (*lowest, *confident)}
    # In the order of images, so that each has to be read once only.
    shown = {key: show(results, row) for key, row in sorted(chosen.items(), key=lambda item: item[1]["image"])}
    return [
        Gallery(
            "lowest-dice",
            "Lowest Dice",
            "The cases with the lowest Dice, the lowest first.",
            tuple(shown[r["case"]] for r in lowest),
        ),
        Gallery(
            "confident",
            "Confident and wrong",
            "The cases with the most pixels that are wrong while the entropy of their probability is below half of "
            "ln 2, per pixel of the object.",
            tuple(shown[r["case"]] for r in confident),
        ),
    ]


def show(results: Results, row: Row) -> Shown:
    """A row with its pictures, or with a sentence where image or maps cannot be read any more."""
    titles = ("Dice", "Mean uncertainty around the object", "Confidently wrong")
    facts = [(title, number(row[name])) for title, name in zip(titles, _TOLD, strict=True)]
    shown = UNCERTAINTY_MEASURES[measure_of_row(row)]
    facts[1] = (facts[1][0], f"{facts[1][1]} {shown.unit}".strip())
    facts.append(("True area", f"{row['area_px']:,} px"))
    if row["modality"] in results.document["settings"]["apart"]:
        facts.append(("Set apart", "left out of the overall means"))
    try:
        case = results.case(row)
        maps = results.maps(row, case.truth.shape)
        prompts = [prompts_from_dict(said) for said in row["prompts"]]
        panels = draw_panels(case, maps, View(*row["view"]), prompts, largest=shown.largest)
    except InputError as error:
        return Shown(row["case"], row["modality"], tuple(facts), missing=str(error))
    return Shown(row["case"], row["modality"], tuple(facts), panels)
