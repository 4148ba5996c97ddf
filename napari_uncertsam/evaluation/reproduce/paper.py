"""What it takes to reproduce a paper: its tables, what is computed beside each row, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from napari_uncertsam.checkpoints import find_part, missing_part
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.reproduce.published import PublishedRow, PublishedTable
from napari_uncertsam.evaluation.reproduce.sight import Sight
from napari_uncertsam.evaluation.simulate.boxes import Overlap

#: Values of one mask by the names of measures.
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ReproductionSettings:
    """What decides the numbers, apart from the model and the data.

    Parameters
    ----------
    paper : str
        Key of the paper.
    model : str
        Name of the model.
    seed : int
        Of prompts, of their noise and of intervals.
    overlap : {"iou", "coverage"}
        What MedSAM-U's overlap of a box is; UncertSAM has only tight boxes.
    split : str
        Of the datasets.
    level : float
        Of the intervals.

    Raises
    ------
    InputError
        If the seed is negative, or there is no such overlap.
    """

    paper: str
    model: str
    seed: int = 0
    overlap: Overlap = "iou"
    split: str = "test"
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"The seed is at least 0, not {self.seed}.")
        if self.overlap not in get_args(Overlap):
            raise InputError(f"There is no overlap {self.overlap!r}; choose one of {', '.join(get_args(Overlap))}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside a published row.

    Parameters
    ----------
    run : str or None
        Name of what is computed, as groups give it back; None for nothing.
    said : str
        What that is, or a sentence that says why there is nothing.
    """

    run: str | None
    said: str


@dataclass(frozen=True, eq=False)
class Subject:
    """A case of a known dataset, and the model's look at its slice."""

    dataset: str
    case: Case
    sight: Sight


@dataclass(frozen=True)
class Group:
    """Things that are computed together, because they share predictions.

    Parameters
    ----------
    runs : tuple of str
        Their names.
    compute : callable (subject, settings, wanted) -> iterator of (name, values)
        Yields those of `runs` that are wanted. An :class:`InputError`, such as that of a box that cannot be drawn, is
        the reason why those that are still to come are missing.
    """

    runs: tuple[str, ...]
    compute: Callable[[Subject, ReproductionSettings, frozenset[str]], Iterator[tuple[str, Values]]]


@dataclass(frozen=True)
class Paper:
    """A paper whose tables can be reproduced, in part.

    Parameters
    ----------
    key, title : str
    tables : tuple of PublishedTable
    model : str
        The model to take unless another is asked for.
    columns : mapping of str to (str, str)
        Measures that are printed, to their title and to the published measure that stands beside ("" for none).
    shares : mapping of str to str
        Measures that say how often something happened, to the word for it, which is printed beside the masks.
    beside : callable (table, row) -> Beside
    groups : callable (settings) -> tuple of Group
    notes : callable (settings, record, datasets) -> list of str
        Sentences on how the numbers come about: those of the model of that record (None where there is none) on the
        named datasets.
    needs : mapping of str to tuple of str
        Kinds of fitted parts that some of what is computed needs, by its name.
    """

    key: str
    title: str
    tables: tuple[PublishedTable, ...]
    model: str
    columns: Mapping[str, tuple[str, str]]
    shares: Mapping[str, str]
    beside: Callable[[PublishedTable, PublishedRow], Beside]
    groups: Callable[[ReproductionSettings], tuple[Group, ...]]
    notes: Callable[[ReproductionSettings, Mapping[str, Any] | None, tuple[str, ...]], list[str]]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Keys of the datasets of all tables, in their order."""
        return tuple(dict.fromkeys(column.dataset for table in self.tables for column in table.columns))

    def wanted(self, dataset: str) -> frozenset[str]:
        """Names of what the tables need of a dataset."""
        tables = [table for table in self.tables if dataset in [column.dataset for column in table.columns]]
        runs = {self.beside(table, row).run for table in tables for row in table.rows}
        return frozenset(run for run in runs if run is not None)

    def parts(self, sha256: str) -> dict[str, Path | None]:
        """Fitted parts that something needs, by kind: where those of a checkpoint lie, None for those that it lacks."""
        kinds = dict.fromkeys(kind for kinds in self.needs.values() for kind in kinds)
        return {kind: find_part(kind, sha256) for kind in kinds}

    def for_model(self, sha256: str, model: str) -> Paper:
        """The paper as far as one model can run it: rows that lack a fitted part say how to fit it."""
        parts = self.parts(sha256)

        def beside(table: PublishedTable, row: PublishedRow) -> Beside:
            found = self.beside(table, row)
            lacks = [kind for kind in self.needs.get(found.run or "", ()) if parts[kind] is None]
            return Beside(None, missing_part(lacks[0], model)) if lacks else found

        return replace(self, beside=beside)
