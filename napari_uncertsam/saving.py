"""Saving results in a folder: masks and maps as images, a summary, and the session file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Entry
from napari_uncertsam.errors import InputError
from napari_uncertsam.io import output_suffix, write_map, write_mask
from napari_uncertsam.session_file import SESSION_FILE, write_json, write_session

if TYPE_CHECKING:
    from napari_uncertsam.workspace import Workspace

MAPS = ("probability", "uncertainty")
_Writer = Callable[[Path], Any]


def save_session(session: Workspace, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``mask``, ``probability``, ``uncertainty``, ``summary.json`` and ``session.json`` into a folder.

    Masks hold all objects on all slices. Maps are those of the current object: of a volume on all slices of the current
    plane that were predicted or propagated, 0 elsewhere; where other objects have such slices, theirs are beside it as
    ``probability_2`` and so on. All have the geometry of the image.

    Parameters
    ----------
    session : Workspace
        The session, or a snapshot of it.
    folder : Path
        Made if it is not there.
    overwrite : bool
        Whether files of an earlier saving may be replaced.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        If a file is there already, or the folder cannot be written to; nothing is written then.
    """
    writers = dict(_writers(session, folder, overwrite))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        existing = [p.name for p in writers if p.exists()]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be used ({error.strerror}); choose another.") from error
    if existing and not overwrite:
        raise InputError(f"{', '.join(existing)} in {folder} would be overwritten; choose another folder or allow it.")
    for path, write in writers.items():
        write(path)
    return list(writers)


def _writers(session: Workspace, folder: Path, overwrite: bool) -> Iterator[tuple[Path, _Writer]]:
    """Every file that there will be, and what writes it."""
    volume = session.volume
    yield (
        folder / f"mask{output_suffix(volume)}",
        lambda path: write_mask(path, session.labels, volume, overwrite=overwrite),
    )
    for object_id, entries in _mapped(session).items():
        maps = _Maps(session, entries)
        for name in MAPS:
            suffix = "" if object_id == session.object_id else f"_{object_id}"
            path = folder / f"{name}{suffix}{output_suffix(volume, 'map')}"
            yield path, partial(maps.write, name, overwrite=overwrite)
    yield folder / SESSION_FILE, lambda path: write_session(session, path, overwrite=overwrite)
    if session.has_results:
        document = session.summary()
        yield folder / "summary.json", lambda path: write_json(path, document, overwrite=overwrite)


def _mapped(session: Workspace) -> dict[int, dict[int, Entry]]:
    """Slices with maps by object, the current one first; of a 2D image those of the current object alone."""
    others = [n for n in session.objects if n != session.object_id] if session.volume.ndim == 3 else []
    found = {}
    for object_id in (session.object_id, *others):
        slices = {i: e for i, e in session.slices_of(object_id).items() if e.prediction is not None or e.has_propagated}
        if slices:
            found[object_id] = slices
    return found


class _Maps:
    """Maps of one object in the shape of the volume, filled slice by slice in temporary files: memory stays small."""

    def __init__(self, session: Workspace, entries: dict[int, Entry]) -> None:
        self._session, self._entries = session, entries
        self._filled: dict[str, NDArray[np.float32]] = {}

    def write(self, name: str, path: Path, *, overwrite: bool) -> None:
        if not self._filled:
            self._fill(path.parent)
        write_map(path, self._filled.pop(name), self._session.volume, overwrite=overwrite)

    def _fill(self, folder: Path) -> None:
        shape, plane = self._session.volume.shape, self._session.plane
        for name in MAPS:
            try:
                with tempfile.TemporaryFile(dir=folder) as file:  # the memory map keeps it
                    self._filled[name] = np.memmap(file, np.float32, "w+", shape=shape)
            except OSError as error:
                raise InputError(f"There is no room for the maps in {folder} ({error.strerror}).") from error
        for index, entry in self._entries.items():
            maps = entry.prediction.maps if entry.prediction is not None else None
            if maps is None and entry.propagated is not None:
                maps = self._session.maps_of(entry.propagated)
            if maps is not None:
                for name, filled in self._filled.items():
                    place = np.moveaxis(filled if filled.ndim == 3 else filled[None], plane, 0)[index]
                    place[maps.rows, maps.columns] = getattr(maps, f"local_{name}")
