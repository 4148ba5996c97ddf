"""Which of a paper's datasets are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Dataset
from napari_uncertsam.evaluation.datasets import KNOWN, data_root, find_known, open_known
from napari_uncertsam.evaluation.reproduce.paper import Paper


@dataclass(frozen=True, eq=False)
class Collection:
    """A paper's datasets, as far as they are there.

    Parameters
    ----------
    root : Path
        The folder above them.
    found : mapping of str to Dataset
        By key, in the paper's order.
    missing : mapping of str to str
        Why the others are not: their sentence.
    """

    root: Path
    found: Mapping[str, Dataset]
    missing: Mapping[str, str]


def open_datasets(
    paper: Paper, root: Path | None = None, *, split: str = "test", only: Sequence[str] = ()
) -> Collection:
    """Open the datasets of a paper.

    Parameters
    ----------
    paper : Paper
    root : path, optional
        The folder above all datasets, see :func:`napari_uncertsam.evaluation.datasets.data_root`.
    split : str
        See :func:`napari_uncertsam.evaluation.datasets.open_dataset`.
    only : sequence of str
        Names of those that are wanted; all without any.

    Raises
    ------
    InputError
        If a name of `only` is none of the paper's datasets.
    """
    chosen = {find_known(name).key for name in only}
    others = chosen - set(paper.datasets)
    if others:
        raise InputError(
            f"{paper.title} has no table with {', '.join(sorted(others))}; choose among {', '.join(paper.datasets)}."
        )
    above, found, missing = data_root(root), {}, {}
    for key in paper.datasets:
        if chosen and key not in chosen:
            missing[key] = "It was not asked for."
            continue
        try:
            found[key] = open_known(KNOWN[key], root=above, split=split)
        except InputError as error:
            missing[key] = str(error)
    return Collection(above, found, missing)
