"""Saving results in a folder: masks and maps as images, a summary, and the session file."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.annotations import Entry
from napari_uncertsam.errors import InputError
from napari_uncertsam.io import (
    DicomSeries,
    check_nifti_geometry,
    output_suffix,
    write_fractional,
    write_map,
    write_mask,
    write_segmentation,
)
from napari_uncertsam.session_file import SESSION_FILE, write_json, write_session
from napari_uncertsam.volume import Volume

if TYPE_CHECKING:
    from napari_uncertsam.workspace import Workspace

MAPS = ("probability", "uncertainty")
_Writer = Callable[[Path], Any]


def save_session(session: Workspace, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``mask``, ``probability``, ``uncertainty``, ``summary.json`` and ``session.json`` into a folder.

    Masks hold all objects on all slices. Maps are those of the current object: of a volume on all slices of the current
    plane that were predicted or propagated, 0 elsewhere; where other objects have such slices, theirs are beside it as
    ``probability_2`` and so on. All have the geometry of the image. A volume from DICOM gets ``segmentation.dcm`` and
    ``probability.dcm``, too; one whose slices are tilted gets those alone, see :func:`saving_note`.

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
        try:
            write(path)
        except InputError as error:
            if path.suffix == ".dcm" and not saving_note(session.volume):
                raise InputError(f"Everything but DICOM files is saved in {folder}. {error}") from error
            raise
    return list(writers)


def saving_note(volume: Volume) -> str:
    """What is to be said of the files of a volume: why some are missing; empty if there is nothing to say."""
    series = isinstance(volume.header, DicomSeries)
    if series and _is_tilted(volume):
        return "The slices of this series are tilted, which a NIfTI cannot hold: there are only DICOM files."
    if series and not _has_highdicom():
        return 'For DICOM files, too, install highdicom: pip install "napari-uncertsam[dicom]".'
    return ""


def _writers(session: Workspace, folder: Path, overwrite: bool) -> Iterator[tuple[Path, _Writer]]:
    """Every file that there will be, and what writes it."""
    volume, is_series = session.volume, isinstance(session.volume.header, DicomSeries)
    only_dicom = is_series and _is_tilted(volume)
    found = {
        "" if object_id == session.object_id else f"_{object_id}": _Maps(session, object_id, entries)
        for object_id, entries in _mapped(session).items()
    }
    if not only_dicom:
        yield folder / f"mask{output_suffix(volume)}", partial(_write_labels, session, write_mask, overwrite)
        for suffix, maps in found.items():
            for name in MAPS:
                path = folder / f"{name}{suffix}{output_suffix(volume, 'map')}"
                yield path, partial(maps.write, name, overwrite=overwrite)
    yield folder / SESSION_FILE, lambda path: write_session(session, path, overwrite=overwrite)
    if session.has_results:
        document = session.summary()
        yield folder / "summary.json", lambda path: write_json(path, document, overwrite=overwrite)
    if is_series and (only_dicom or _has_highdicom()):  # last, since headers may not allow it
        if session.labels.any():
            yield folder / "segmentation.dcm", partial(_write_labels, session, write_segmentation, overwrite)
        for suffix, maps in found.items():
            yield folder / f"probability{suffix}.dcm", partial(maps.write_fractional, overwrite=overwrite)


def _write_labels(session: Workspace, write: Callable[..., Path], overwrite: bool, path: Path) -> None:
    write(path, session.labels, session.volume, overwrite=overwrite)


def _is_tilted(volume: Volume) -> bool:
    try:
        check_nifti_geometry(volume)
    except InputError:
        return True
    return False


def _has_highdicom() -> bool:
    return importlib.util.find_spec("highdicom") is not None


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

    def __init__(self, session: Workspace, object_id: int, entries: dict[int, Entry]) -> None:
        self._session, self._object_id, self._entries = session, object_id, entries
        self._filled: dict[str, NDArray[np.float32]] = {}

    def write(self, name: str, path: Path, *, overwrite: bool) -> None:
        """As an image."""
        write_map(path, self._get(name, path.parent), self._session.volume, overwrite=overwrite)

    def write_fractional(self, path: Path, *, overwrite: bool) -> None:
        """The probability as DICOM."""
        probability = self._get("probability", path.parent)
        write_fractional(path, probability, self._session.volume, self._object_id, overwrite=overwrite)

    def _get(self, name: str, folder: Path) -> NDArray[np.float32]:
        if not self._filled:
            self._fill(folder)
        return self._filled[name]

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
