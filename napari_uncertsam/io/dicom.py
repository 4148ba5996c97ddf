"""DICOM series as volumes: found in a folder, sorted by position, in Hounsfield units, read when looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.intensity import Modality
from napari_uncertsam.io.choice import ChoiceNeededError
from napari_uncertsam.io.dicom_files import DIRECTORY, Scan, scan
from napari_uncertsam.io.dicom_geometry import Arranged, arrange
from napari_uncertsam.io.dicom_grouping import Group, group_volumes
from napari_uncertsam.io.dicom_pixels import DicomArray
from napari_uncertsam.io.dicom_values import DicomSeries, SeriesInfo
from napari_uncertsam.volume import Volume

_MODALITIES: dict[str, Modality] = {"CT": "CT", "MR": "MR", "PT": "PET"}
_COLOURS = ("RGB", "YBR", "PALETTE")


def list_series(path: str | os.PathLike[str]) -> tuple[SeriesInfo, ...]:
    """The volumes that a folder of DICOM files holds, or the folder of a file.

    Parameters
    ----------
    path : path
        A folder, searched with all folders below it; or a file, whose folder is searched.

    Returns
    -------
    tuple of SeriesInfo
        By series number. Empty where there is no DICOM image.

    Raises
    ------
    InputError
        If there is no such file or folder, or pydicom is missing.
    """
    return tuple(group.info for group in group_volumes(_scan(Path(path)).frames))


def read_dicom(path: str | os.PathLike[str], *, series: int | str | None = None) -> Volume:
    """Read a DICOM series.

    Parameters
    ----------
    path : path
        A folder, searched with all folders below it; or one file of a series, whose folder is searched.
    series : int or str, optional
        Which one, where there are several: its number in `list_series`, its UID, or its `SeriesInfo.key`.

    Returns
    -------
    Volume
        ``(Z, Y, X)``: slices by their position along their normal, then the rows and columns of the images. The array
        is a :class:`~napari_uncertsam.io.dicom_pixels.DicomArray`, which decodes slices when they are asked for.
        `header` is a :class:`~napari_uncertsam.io.dicom_values.DicomSeries`; `notes` says what is unusual about the
        geometry. A single image without a position, such as a radiograph, is a 2D image.

    Raises
    ------
    ChoiceNeededError
        If there are several volumes and none was chosen.
    InputError
        If there is no such series, files are damaged, or it is not made of grey slices with positions.
    """
    path = Path(path)
    found = _scan(path)
    groups = group_volumes(found.frames)
    if not groups:
        raise InputError(_nothing(path, found))
    group = _choose(groups, path, series)
    _check(group)
    name = group.info.description or f"{group.info.modality or 'DICOM'} series {group.info.series_number or ''}".strip()
    for forbidden in '/\\:*?"<>|':
        name = name.replace(forbidden, "-")
    first = group.frames[0]
    modality = _MODALITIES.get(group.info.modality, "grey")
    if first.orientation is None or first.position is None:
        flat = DicomArray(group.frames)
        return Volume(np.asarray(flat)[0], first.spacing or (), modality=modality, name=name, source=path)
    arranged = arrange(group.frames)
    return Volume(
        DicomArray(arranged.frames),
        spacing=arranged.spacing,
        affine=arranged.affine,
        modality=modality,
        name=name,
        source=path,
        header=_series(group.info, arranged),
        notes=arranged.notes + _unreadable_note(found),
    )


def _scan(path: Path) -> Scan:
    if not path.exists():
        raise InputError(f"There is no file or folder {path}; check the name.")
    return scan(path)


def _nothing(path: Path, found: Scan) -> str:
    if path.is_file() and path.name != DIRECTORY:
        if path.name in found.unreadable:
            return f"{path.name} could not be read as DICOM, it seems to be damaged or cut off; copy it again."
        return f"{path.name} holds no DICOM image; choose a file of the series, or its folder."
    more = f" ({len(found.unreadable)} files could not be read)" if found.unreadable else ""
    return f"{path} is a folder that holds no DICOM images{more}; choose another folder, or one file."


def _choose(groups: Sequence[Group], path: Path, series: int | str | None) -> Group:
    if series is not None:
        wanted = str(series).strip()
        chosen = [group for group in groups if wanted in (str(group.info.number), group.info.key)]
        if len(chosen) == 1:
            return chosen[0]
        raise InputError(f"There is no series {series} in {path.name}; choose one of\n{_listed(groups)}")
    if path.is_file() and path.name != DIRECTORY:
        holding = [group for group in groups if any(_same(frame.path, path) for frame in group.frames)]
        if not holding:
            raise InputError(f"{path.name} holds no DICOM image that can be read; choose another file of the series.")
        groups = holding
    if len(groups) == 1:
        return groups[0]
    raise ChoiceNeededError(
        f"{path.name} holds {len(groups)} series; choose one with series=N (--series N), its number or its UID:\n"
        f"{_listed(groups)}",
        "series",
        [str(group.info) for group in groups],
        [group.info.key for group in groups],
    )


def _listed(groups: Sequence[Group]) -> str:
    return "\n".join(f"  {group.info}" for group in groups)


def _same(a: Path, b: Path) -> bool:
    return a.name == b.name and (a == b or a.resolve() == b.resolve())


def _check(group: Group) -> None:
    """Raise a sentence for what cannot become a volume."""
    cut = [frame.path.name for frame in group.frames if frame.cut_off]
    if cut:
        more = f" (and {len(cut) - 1} more)" if len(cut) > 1 else ""
        raise InputError(f"{cut[0]}{more} is cut off: pixels are missing at its end; copy it again.")
    first = group.frames[0]
    if first.photometric.startswith(_COLOURS):
        raise InputError(f"{first.path.name} is a colour image ({first.photometric}); only grey DICOM images are read.")
    if (first.position is None or first.orientation is None) and len(group.frames) > 1:
        raise InputError(
            f"The {len(group.frames)} images of {group.info.description or 'the series'} have no position "
            "(ImagePositionPatient, ImageOrientationPatient), so they make no volume; open a single image on its own."
        )


def _unreadable_note(found: Scan) -> tuple[str, ...]:
    if not found.unreadable:
        return ()
    files = "1 file" if len(found.unreadable) == 1 else f"{len(found.unreadable)} files"
    return (f"{files} could not be read as DICOM and left out, {found.unreadable[0]} first.",)


def _series(info: SeriesInfo, arranged: Arranged) -> DicomSeries:
    frames, first = arranged.frames, arranged.frames[0]
    assert first.orientation is not None
    return DicomSeries(
        paths=tuple(frame.path for frame in frames),
        frames=tuple(frame.number for frame in frames),
        sop_instance_uids=tuple(frame.sop_uid for frame in frames),
        positions=tuple(frame.position for frame in frames if frame.position is not None),
        orientation=first.orientation,
        pixel_spacing=first.spacing or (1.0, 1.0),
        slice_spacing=arranged.spacing[0],
        series_uid=info.uid,
        study_uid=first.study_uid,
        frame_of_reference_uid=first.frame_of_reference,
        key=info.key,
        modality=info.modality,
        multi_frame=any(frame.n_frames > 1 for frame in frames),
    )
