"""NIfTI and DICOM for napari: image and label layers in millimetres that remember the volume they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_uncertsam.io import ChoiceNeededError, DicomSeries, holds_dicom, is_dicom, is_label_map, read
from napari_uncertsam.ui.geometry import VOLUME_KEY
from napari_uncertsam.volume import Volume, Window

#: One layer for napari: data, constructor arguments, layer type.
LayerData = tuple[Any, dict[str, Any], str]
#: What npe2 calls to read.
Reader = Callable[[str | Sequence[str]], list[LayerData]]
#: Asks a person for one of several lines; see `read_layers`.
Ask = Callable[[str, Sequence[str]], int | None]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader for ``.nii`` and ``.nii.gz`` files, as npe2 asks for one; None for anything else.

    Examples
    --------
    >>> get_reader("scan.nii.gz") is read_layers, get_reader("photo.png")
    (True, None)
    """
    known = all(name.lower().endswith((".nii", ".nii.gz")) for name in _names(path))
    return read_layers if known else None


def get_dicom_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader for DICOM files and for folders with DICOM among their first files; None, quickly, for anything else.

    Examples
    --------
    >>> get_dicom_reader("IM0001.dcm") is read_layers, get_dicom_reader("photo.png")
    (True, None)
    """
    known = all(holds_dicom(Path(name)) if Path(name).is_dir() else is_dicom(Path(name)) for name in _names(path))
    return read_layers if known else None


def read_layers(path: str | Sequence[str], *, ask: Ask | None = None) -> list[LayerData]:
    """One layer per volume: labels for files that say so (as masks written by this package do), else an image.

    What is unusual about a volume (`Volume.notes`) is shown as a warning. Files of one DICOM series make one layer,
    also when napari hands over one file after the other, as it does when many are dropped on its window.

    Parameters
    ----------
    path : str or sequence of str
    ask : callable, optional
        Asks which of several volumes is meant, by a title and a line to each; gives its number, or None. Without it a
        dialog does, where there is a Qt application.

    Returns
    -------
    list of layer data
        ``[(None,)]``, by which napari understands that nothing is to be added, when the person cancels, and for a file
        of a series that the viewer shows already.

    Raises
    ------
    InputError
        If a file cannot be read, or holds several volumes and nobody can be asked.
    """
    volumes: list[Volume] = []
    for name in _names(path):
        if any(_is_part(name, volume) for volume in (*volumes, *_volumes_on_screen())):
            continue
        volume = _read(name, ask)
        if volume is not None:
            volumes.append(volume)
    _show_notes(volumes)
    nothing: Any = [(None,)]
    return [layer_data(volume) for volume in volumes] or nothing


def layer_data(volume: Volume) -> LayerData:
    """`volume` as a napari layer: scaled to millimetres, shown through the window to begin with, remembering itself."""
    meta: dict[str, Any] = {
        "name": volume.name or "image",
        "scale": volume.spacing,
        "metadata": {VOLUME_KEY: volume},
    }
    if is_label_map(volume):
        array = np.asarray(volume.array)
        # Labels are painted on, so they have to be integers in memory that may be written to.
        if array.dtype.kind not in "ui" or not array.flags.writeable:
            array = array.astype(np.int32)
        return array, meta, "labels"
    if volume.rgb:
        return volume.array, meta | {"rgb": True}, "image"
    window = Window.for_volume(volume)
    limits = window.low, window.high if window.high > window.low else window.low + 1
    return volume.array, meta | {"contrast_limits": limits, "colormap": "gray"}, "image"


def _read(name: str, ask: Ask | None) -> Volume | None:
    """The volume in a file or folder; the one that the person chooses, if any, where there are several."""
    try:
        return read(name)
    except ChoiceNeededError as error:
        if ask is None:
            from napari_uncertsam.ui import series_dialog

            if not series_dialog.can_ask():
                raise
            ask = series_dialog.ask
        number = ask(f"Open {Path(name).name}", error.options)
        if number is None:
            return None
        choice: dict[str, Any] = {error.argument: error.values[number]}
        return read(name, **choice)


def _is_part(name: str, volume: Volume) -> bool:
    """Whether a file is one of the slices of a volume that was read already."""
    return isinstance(volume.header, DicomSeries) and Path(name) in volume.header.paths


def _volumes_on_screen() -> list[Volume]:
    """Volumes of the layers in napari's current viewer, if there is one."""
    import napari

    viewer = napari.current_viewer()
    layers = () if viewer is None else viewer.layers
    return [layer.metadata[VOLUME_KEY] for layer in layers if VOLUME_KEY in layer.metadata]


def _show_notes(volumes: Sequence[Volume]) -> None:
    told = [f"{volume.name or 'The image'}: {' '.join(volume.notes)}" for volume in volumes if volume.notes]
    if told:
        from napari.utils.notifications import show_warning

        show_warning("\n".join(told))


def _names(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else [str(name) for name in path]
