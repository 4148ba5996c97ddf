"""From an evaluation's folder to findings, and to the image and maps behind each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.evaluation.cases import Case, Dataset
from napari_uncertsam.evaluation.inspection.findings import Digest, Finding, Picture, Scene, wrong_pixels
from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.results import Results, measure_of_row
from napari_uncertsam.prompts import Box

_KEYS = ("case", "image", "plane", "slice", "value", "group", "area_px", "curves", "stored", "view", *MEASURES)


@dataclass(eq=False)
class _Cases:
    """The cases of the image that was read last: one walks from slice to slice of it."""

    image: str | None = None
    cases: dict[str, Case] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StoredEvaluation:
    """A prompt and a method of an evaluation; a :class:`~napari_uncertsam.evaluation.inspection.findings.Source`.

    Parameters
    ----------
    results : Results
    prompt, method : str

    Notes
    -----
    :meth:`picture` is meant for one thread at a time.
    """

    results: Results
    prompt: str
    method: str
    _cases: _Cases = field(default_factory=_Cases)

    def choose(self, prompt: str, method: str) -> StoredEvaluation:
        """The same evaluation with another prompt or method."""
        return StoredEvaluation(self.results, prompt, method, self._cases)

    def relocated(self, path: str | Path) -> StoredEvaluation:
        """The same evaluation with its dataset read from another folder, to which it was moved.

        Raises
        ------
        InputError
            If the folder is no dataset, or holds none of the images that were evaluated.
        """
        return StoredEvaluation(self.results.relocate(path), self.prompt, self.method)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """A finding per case, in the dataset's order."""
        rows = self.results.select(self.prompt, self.method)
        return tuple(Finding(row, str(row["value"]), int(row["value"])) for row in rows)

    @property
    def digest(self) -> Digest | None:
        """As the evaluation has it, without modalities that were set apart."""
        here = {"prompt": self.prompt, "method": self.method}
        document = self.results.document
        parts = [
            [entry for entry in document[name] if here.items() <= entry.items() and not entry.get("modality")]
            for name in ("summary", "agreement")
        ]
        summary, agreement = (part[0] if part else None for part in parts)
        return None if summary is None else Digest(summary, agreement)

    @property
    def length_unit(self) -> str:
        """Of distances; cases may differ."""
        units = {finding.row.get("unit") for finding in self.findings}
        (unit,) = units if len(units) == 1 else (None,)
        return str(unit or "mm or px")

    @property
    def noun(self) -> str:
        """What a finding is."""
        return "case"

    def picture(self, finding: Finding) -> Picture:
        """Image, truth and maps of a case, read from the dataset and the evaluation's folder.

        Raises
        ------
        InputError
            If the dataset has moved or does not hold the case any more. A sentence in the picture says so where only
            the maps are gone, or the true mask is not the one that was evaluated.
        """
        row = finding.row
        case = self._case(finding)
        image = case.volume.slice(case.plane, case.slice_index)
        window = case.seen_through
        limits = None if case.volume.rgb else (window.low, window.high)
        try:
            if np.count_nonzero(case.truth) != row["area_px"]:
                raise InputError(
                    f"The true mask of {row['case']} is not the one that was evaluated; run the evaluation again."
                )
            maps = self.results.maps(row, (case.truth.shape[0], case.truth.shape[1]))
        except InputError as error:
            return Picture(
                Box.of_mask(case.truth), case.spacing, None, None, Scene(image, limits, case.truth), missing=str(error)
            )
        mask = maps.mask
        scene = Scene(
            image, limits, case.truth, mask, maps.uncertainty, UNCERTAINTY_MEASURES[measure_of_row(row)].largest
        )
        error_map = np.abs(maps.probability - case.truth.astype(np.float32))
        return Picture(Box.of_mask(mask | case.truth), case.spacing, error_map, wrong_pixels(mask, case.truth), scene)

    def _case(self, finding: Finding) -> Case:
        row, kept = finding.row, self._cases
        if kept.image != row["image"]:
            kept.cases = {case.key: case for case in self._dataset().load(row["image"])}
            kept.image = row["image"]
        if row["case"] not in kept.cases:
            raise InputError(
                f"{self.results.dataset.root} does not hold {row['case']} any more; run the evaluation again."
            )
        return kept.cases[row["case"]]

    def _dataset(self) -> Dataset:
        try:
            return self.results.dataset
        except InputError as error:
            raise InputError(f"The dataset that was evaluated is not where it was: {error}") from error


def open_evaluation(folder: str | Path) -> StoredEvaluation:
    """The evaluation in a folder, with its first prompt and method.

    Raises
    ------
    InputError
        If there is none, it is not finished, or it is damaged.
    """
    results = Results.read(folder)
    try:
        rows: Sequence[object] = results.rows
        complete = all(isinstance(row, dict) and row.keys() >= set(_KEYS) for row in rows)
        first = StoredEvaluation(results, results.prompts[0], results.methods[0])
        complete = complete and bool(first.findings) and first.digest is not None
    except (KeyError, TypeError, IndexError, AttributeError):
        complete = False
    if not complete:
        raise InputError(f"{results.folder} holds no complete evaluation; run the same `evaluate` command again.")
    return first
