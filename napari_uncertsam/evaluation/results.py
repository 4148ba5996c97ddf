"""What an evaluation leaves in its folder, to be read again: rows of measures, and the maps behind every row.

=================  ===================================================================================================
``results.json``   everything below, see :class:`Results`
``results.csv``    a line per case, prompt and method
``report.html``    for people
``progress.jsonl`` a line per finished image, from which an interrupted evaluation goes on
``run.json``       settings, to which a continued evaluation has to keep
``maps/``          low-resolution logits of every row, an ``.npz`` per image
=================  ===================================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case, Dataset
from napari_uncertsam.prediction import Maps
from napari_uncertsam.view import View
from napari_uncertsam.volume import Window

if TYPE_CHECKING:
    from napari_uncertsam.estimators.measures import Measure

FORMAT, VERSION = "napari-uncertsam evaluation", 1
RESULTS, TABLE, REPORT, PROGRESS, RUN, MAPS = (
    "results.json",
    "results.csv",
    "report.html",
    "progress.jsonl",
    "run.json",
    "maps",
)

#: One line of the table: a case with a prompt and a method. See :class:`Results`.
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Results:
    """A finished evaluation.

    Parameters
    ----------
    folder : Path
    document : mapping
        What ``results.json`` holds:

        - "dataset": "name", "path", "images", "cases", "groups", and what :func:`open_dataset` needs to open it again:
          "where" and "root" (null unless it was opened by its name), "split" (null where there is none), "options";
        - "settings": "model", "methods", "prompts" (names), "zoom", "seed", "tolerance", "level", "apart" (modalities
          left out of the overall means), "annotators", "clicks", "wrong_rate", "conditioning" (of annotators), "maps",
          "window" (low, high, name; null for automatic ones);
        - "record": model, checkpoint hash, device, versions;
        - "failed": ``[{"image", "reason"}]``, images and cases that were left out;
        - "cases": rows, see `rows`;
        - "mean": ``{method: {measure: mean}}`` for the first prompt;
        - "summary": ``[{"prompt", "method", "modality", "n", "groups", "measures": {measure: {"mean", "low", "high",
          "n"}}}]``, "modality" null for all that is not set apart; measures that a case lacks (an infinite distance)
          are left out of the mean, and its "n" tells how many there were;
        - "agreement": ``[{"prompt", "method", "n", "pearson": {"value", "low", "high"}, "spearman": {...},
          "pearson_roi", "spearman_roi"}]``, correlation over cases of mean uncertainty with 1 - Dice;
        - "comparisons": ``[{"prompt", "method", "reference", "n", "groups", "measures": {measure: {...}}}]``, every
          method beside the reference ("entropy", else the first one), over the cases that both have and that are not
          set apart. Of a measure: "reference" (its mean there), "difference" (mean of method less reference) with
          "low" and "high", "n", "improved" (share of cases), "relative" (the difference as a share of the reference's
          mean: "value", "low", "high"; null unless lower is better), "p" (two-sided, by the same bootstrap),
          "significant" (the interval does not hold 0) and "holm" (it stays so after Holm's correction over the methods
          of the prompt). Missing in files of version 0.1;
        - "annotators": summaries of simulated annotators, see :mod:`napari_uncertsam.evaluation.simulate.annotator`;
        - "seconds": wall time. Nothing else in the document depends on the run but the entries called "seconds".
    """

    folder: Path
    document: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> Results:
        """The evaluation in a folder.

        Raises
        ------
        InputError
            If there is none, it is not finished, or it is damaged.
        """
        folder = Path(folder)
        path = folder / RESULTS if folder.is_dir() else folder
        if not path.is_file():
            started = (folder / PROGRESS).is_file()
            hint = "it is not finished; run the same `evaluate` command again" if started else "choose another folder"
            raise InputError(f"{folder} holds no {RESULTS}: {hint}.")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} could not be read, it seems to be damaged: {error}.") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InputError(f"{path} is not an evaluation; choose the folder that `evaluate --out` wrote.")
        if document.get("version") != VERSION:
            raise InputError(f"{path} has version {document.get('version')}, this program reads {VERSION}; update it.")
        return cls(path.parent, document)

    @property
    def rows(self) -> Sequence[Row]:
        """A row per case, prompt and method, in the dataset's order.

        Each has "case" (its key), "image", "plane", "slice", "value", "group", "modality", "area_px" (true area),
        "unit" (of lengths, "mm" or "px"), "prompt", "method", "measure" (what the uncertainty shows, see
        :data:`~napari_uncertsam.estimators.measures.UNCERTAINTY_MEASURES`), "prompts" (what was drawn), "view",
        "seconds", the measures by the names of
        :data:`~napari_uncertsam.evaluation.metrics.MEASURES` (null where infinite), "curves" ("reliability" and
        "reliability_roi": pixels, summed probability, inside per bin; "risk" and "risk_roi" at
        :data:`~napari_uncertsam.evaluation.metrics.table.COVERAGES`), and "stored": archive and number of its maps, or
        null.
        """
        rows: Sequence[Row] = self.document["cases"]
        return rows

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the prompts, in the order asked for."""
        return tuple(self.document["settings"]["prompts"])

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in the order asked for."""
        return tuple(self.document["settings"]["methods"])

    @property
    def comparisons(self) -> Sequence[Mapping[str, Any]]:
        """Methods beside the reference, see `document`; empty with one method, and in files of version 0.1."""
        found: Sequence[Mapping[str, Any]] = self.document.get("comparisons", [])
        return found

    def measure_of(self, method: str) -> Measure:
        """What the uncertainty of a method shows; older files have entropies only."""
        return next((measure_of_row(row) for row in self.rows if row["method"] == method), "entropy")

    def select(self, prompt: str | None = None, method: str | None = None) -> list[Row]:
        """Rows of a prompt and a method; None for any."""
        return [r for r in self.rows if prompt in (None, r["prompt"]) and method in (None, r["method"])]

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that was evaluated.

        Raises
        ------
        InputError
            If it is not where it was.
        """
        from napari_uncertsam.evaluation.datasets import open_dataset

        said = self.document["dataset"]
        given = said["options"] | ({} if said["split"] is None else {"split": said["split"]})
        return open_dataset(said["where"], root=None if said["root"] is None else Path(said["root"]), **given)

    def relocate(self, path: str | Path) -> Results:
        """The same results with their dataset read from another folder, to which it was moved.

        Raises
        ------
        InputError
            If the folder is no dataset, or holds none of the images that were evaluated.
        """
        said = self.document["dataset"]
        document = {**self.document, "dataset": said | {"where": str(Path(path)), "root": None}}
        moved = replace(self, document=document)
        if not {row["image"] for row in self.rows} & set(moved.dataset.images()):
            raise InputError(
                f"{path} holds none of the images of this evaluation, such as {self.rows[0]['image']}; choose the "
                "folder of the dataset that was evaluated."
            )
        return moved

    @cached_property
    def _last_image(self) -> dict[str, Sequence[Case]]:
        """The image that was read last, since rows of one image, such as a volume's slices, are asked for in turn."""
        return {}

    def case(self, row: Row) -> Case:
        """Image and truth of a row, read from the dataset.

        Raises
        ------
        InputError
            If the dataset has moved or does not hold the case any more.
        """
        if row["image"] not in self._last_image:
            found = self.dataset.load(row["image"])
            self._last_image.clear()
            self._last_image[row["image"]] = found
        window = self.document["settings"]["window"]
        for case in self._last_image[row["image"]]:
            if case.key == row["case"]:
                return case if window is None or case.window is not None else replace(case, window=Window(*window))
        raise InputError(f"{self.dataset.root} does not hold {row['case']} any more; run the evaluation again.")

    def maps(self, row: Row, shape: tuple[int, int]) -> Maps:
        """Mask, probability and uncertainty of a row on its slice of that shape, as they were measured.

        Raises
        ------
        InputError
            If the evaluation kept no maps, or they are gone.
        """
        return read_maps(self.folder, row, shape)


def measure_of_row(row: Row) -> Measure:
    """What the uncertainty of a row shows; entropies in files of version 0.1, or of a name that is not known.

    Examples
    --------
    >>> measure_of_row({"measure": "std"}), measure_of_row({})
    ('std', 'entropy')
    """
    from napari_uncertsam.estimators.measures import parse_measure

    try:
        return parse_measure(row.get("measure", "entropy"))
    except InputError:
        return "entropy"


def write_maps(
    folder: Path, name: str, entries: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]]
) -> str:
    """Keep logits (h, w), and an uncertainty (h, w) that is not their entropy, of the rows of an image."""
    arrays: dict[str, Any] = {}
    for number, (logits, uncertainty) in enumerate(entries):
        arrays[f"logits_{number}"] = logits
        if uncertainty is not None:
            arrays[f"uncertainty_{number}"] = uncertainty
    (folder / MAPS).mkdir(exist_ok=True)
    np.savez(folder / MAPS / name, **arrays)
    return name


def read_maps(folder: Path, row: Row, shape: tuple[int, int]) -> Maps:
    """See :meth:`Results.maps`."""
    from napari_uncertsam.estimators.base import PointBelief
    from napari_uncertsam.measure import maps_on_slice

    if row["stored"] is None:
        raise InputError("This evaluation kept no maps; run it again without --no-maps to see predictions.")
    archive, number = row["stored"]
    path = folder / MAPS / archive
    try:
        with np.load(path, allow_pickle=False) as arrays:
            logits = arrays[f"logits_{number}"]
            uncertainty = arrays.get(f"uncertainty_{number}")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"The maps in {path} are missing or damaged ({error}); run the evaluation again.") from error
    view = View(*row["view"])
    maps = maps_on_slice(PointBelief(logits), view, shape)
    if uncertainty is None:
        return maps
    return replace(maps, local_uncertainty=view.local_map(uncertainty, *shape).clip(0, None))
