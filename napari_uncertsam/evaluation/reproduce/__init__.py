"""The papers' tables, ours beside the published numbers, and a reason for every cell that cannot run.

`published` holds the numbers, `uncertsam` and `medsamu` say what can be computed beside which row, `running` computes
it and `table` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.reproduce import medsamu, uncertsam
from napari_uncertsam.evaluation.reproduce.document import NOTHING, make_document
from napari_uncertsam.evaluation.reproduce.opening import Collection, open_datasets
from napari_uncertsam.evaluation.reproduce.paper import Paper, ReproductionSettings
from napari_uncertsam.evaluation.reproduce.running import DOCUMENT, PAGE, reproduce
from napari_uncertsam.evaluation.reproduce.table import ran

__all__ = [
    "DOCUMENT",
    "NOTHING",
    "PAGE",
    "PAPERS",
    "Collection",
    "Paper",
    "ReproductionSettings",
    "find_paper",
    "make_document",
    "open_datasets",
    "ran",
    "reproduce",
]

#: The papers by key.
PAPERS: Mapping[str, Paper] = MappingProxyType({paper.key: paper for paper in (uncertsam.PAPER, medsamu.PAPER)})


def find_paper(name: str) -> Paper:
    """The paper of that name; case and punctuation do not matter.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> find_paper("MedSAM-U").key
    'medsam-u'
    """
    for key, paper in PAPERS.items():
        if _plain(key) == _plain(name):
            return paper
    raise InputError(f"There is no paper {name!r} to reproduce; choose {' or '.join(PAPERS)}.")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
