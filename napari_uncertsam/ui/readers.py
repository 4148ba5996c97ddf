"""NIfTI for napari: image and label layers in millimetres that remember the volume they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_uncertsam.io import is_label_map, read
from napari_uncertsam.ui.geometry import VOLUME_KEY
from napari_uncertsam.volume import Volume, Window

#: One layer for napari: data, constructor arguments, layer type.
LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Reader for ``.nii`` and ``.nii.gz`` files, as npe2 asks for one; None for anything else.

    Examples
    --------
    >>> get_reader("scan.nii.gz") is read_layers, get_reader("photo.png")
    (True, None)
    """
    known = all(name.lower().endswith((".nii", ".nii.gz")) for name in _names(path))
    return read_layers if known else None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """One layer per file: labels for files that say so (as masks written by this package do), else an image.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    return [layer_data(read(name)) for name in _names(path)]


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


def _names(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else [str(name) for name in path]
