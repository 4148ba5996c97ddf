"""From what somebody typed to a dataset."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Dataset
from napari_uncertsam.evaluation.datasets.folder import FolderDataset, is_folder_dataset
from napari_uncertsam.evaluation.datasets.known import Known, find_known
from napari_uncertsam.evaluation.datasets.medsamu import kind_of
from napari_uncertsam.evaluation.datasets.medsamu_files import is_medsamu
from napari_uncertsam.evaluation.datasets.uncertsam import ANNOTATIONS, UncertSamDataset

#: Environment variable that names the folder above all datasets.
ROOT_VARIABLE = "NAPARI_UNCERTSAM_DATA"


def data_root(root: Path | None = None) -> Path:
    """The folder above all datasets: `root`, else what NAPARI_UNCERTSAM_DATA names, else ``data``."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or "data")


def open_dataset(where: str | Path, *, root: Path | None = None, split: str = "test", **options: Any) -> Dataset:
    """Open a dataset by its folder, whose layout is recognised, or by its name.

    Parameters
    ----------
    where : str or path
        A folder: a plain one with images/ and masks/, one in UncertSAM's layout (the dataset's or the split's), or one
        of MedSAM-U's five as published. Or a name of :data:`KNOWN`, which is then looked for under `root`; case does
        not matter.
    root : path, optional
        The folder above all datasets, as in :func:`data_root`.
    split : str
        For UncertSAM's layout the folder of the split; for MedSAM-U's five "test", "train" or "all". A plain folder has
        none.
    **options
        Of the class: :class:`FolderDataset`, :class:`UncertSamDataset`, :class:`PictureDataset`, :class:`SliceDataset`.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If the dataset is not there (the sentence says where to get it and where to put it), is not laid out as any of
        these, or does not have such an option.
    """
    folder = Path(where)
    if folder.is_dir():
        return _open_folder(folder, split, options)
    if folder.exists():
        raise InputError(f"{folder} is a file; give the folder of a dataset, or a name.")
    if len(folder.parts) > 1:
        raise InputError(f"There is no folder {folder}; check the name.")
    return open_known(find_known(str(where)), root=root, split=split, **options)


def open_known(known: Known, *, root: Path | None = None, split: str = "test", **options: Any) -> Dataset:
    """Open a known dataset under `root`, whatever folders of its name lie elsewhere; see :func:`open_dataset`."""
    above = data_root(root)
    place = above / known.folder
    if known.benchmark == "MedSAM-U":
        if not place.is_dir():
            raise InputError(known.missing(above, split))
        return _build(partial(kind_of(known), known), kind_of(known), place, options, split=split)
    if (place / split / ANNOTATIONS).is_file() or _archive(place, split) is not None:
        return _open_split(place, split, options)
    raise InputError(known.missing(above, split))


def _open_folder(folder: Path, split: str, options: dict[str, Any]) -> Dataset:
    if (folder / ANNOTATIONS).is_file():
        return _build(UncertSamDataset, UncertSamDataset, folder, options)
    if is_folder_dataset(folder):
        return _build(FolderDataset, FolderDataset, folder, options)
    if _splits(folder) or _archive(folder, split) is not None:
        return _open_split(folder, split, options)
    several = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and _splits(path)]
    if several:
        raise InputError(f"{folder} holds several datasets, {', '.join(several)}; give the folder of one of them.")
    if (folder / "images").is_dir():
        raise InputError(f"{folder} holds images/ but no masks/; put a mask of the same name there for every image.")
    known = is_medsamu(folder)
    if known is not None:
        return _build(partial(kind_of(known), known), kind_of(known), folder, options, split=split)
    raise InputError(
        f"{folder} is laid out neither as images/ and masks/, nor as UncertSAM's <split>/images and "
        "<split>/annotations, nor as one of MedSAM-U's five; rename its folders, or prepare a source of UncertSAM with "
        "`napari-uncertsam prepare`."
    )


def _open_split(folder: Path, split: str, options: dict[str, Any]) -> Dataset:
    """One split of a dataset in UncertSAM's layout."""
    if (folder / split / ANNOTATIONS).is_file():
        return _build(UncertSamDataset, UncertSamDataset, folder / split, options)
    archive = _archive(folder, split)
    if archive is not None:
        raise InputError(f"{archive} is not extracted yet; extract it so that {folder / split / ANNOTATIONS} appears.")
    raise InputError(f"{folder} has no split {split!r}; it has {', '.join(_splits(folder))}.")


def _splits(folder: Path) -> list[str]:
    return [path.parent.parent.name for path in sorted(folder.glob(f"*/{ANNOTATIONS.as_posix()}"))]


def _archive(folder: Path, split: str) -> Path | None:
    path = folder / f"{split}.tar.gz"
    return path if path.is_file() else None


def _build(make: Callable[..., Dataset], kind: type, folder: Path, options: dict[str, Any], **fixed: Any) -> Dataset:
    """Make a dataset, after a look at whether it knows the options."""
    parameters = inspect.signature(kind).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in fixed]
    unknown = [name for name in options if name not in allowed]
    if unknown:
        known = f"it has {', '.join(allowed)}" if allowed else "it has none"
        raise InputError(f"{folder} is a dataset without the option {unknown[0]!r}; {known}.")
    return make(folder, **options, **fixed)
