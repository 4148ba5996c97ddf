"""File > Open Sample: a synthetic abdominal CT that ships with the package, and images that ship with scikit-image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.io import read, sample_path
from napari_uncertsam.ui.readers import LayerData, layer_data
from napari_uncertsam.volume import Volume

#: Labels of the ground truth of the abdominal CT, from 0.
ABDOMEN_LABELS = (
    *("background", "body", "liver", "spleen", "left kidney"),
    *("right kidney", "spine", "vessels", "lesion"),
)


def abdomen_ct() -> list[LayerData]:
    """Synthetic abdominal CT in Hounsfield units, ``(48, 256, 256)``, 3.0 x 1.3 x 1.3 mm, shown at soft tissue."""
    return [layer_data(replace(read(sample_path("abdomen_ct")), name="Abdominal CT"))]


def abdomen_ct_with_ground_truth() -> list[LayerData]:
    """The same CT, and its ground truth as labels named in `ABDOMEN_LABELS`."""
    array, meta, kind = layer_data(replace(read(sample_path("abdomen_labels")), name="Ground truth"))
    meta |= {"features": {"index": list(range(len(ABDOMEN_LABELS))), "name": list(ABDOMEN_LABELS)}, "opacity": 0.4}
    return [*abdomen_ct(), (array, meta, kind)]


def coins() -> list[LayerData]:
    """Greek coins from Pompeii, grey, ``(303, 384)`` uint8."""
    return _from_skimage("coins", rgb=False)


def retina() -> list[LayerData]:
    """Fundus photograph of a normal left eye, colour, ``(1411, 1411, 3)`` uint8."""
    return _from_skimage("retina", rgb=True)


def cell() -> list[LayerData]:
    """Quantitative phase image of a cell, grey, ``(660, 550)`` uint8."""
    return _from_skimage("cell", rgb=False)


def astronaut() -> list[LayerData]:
    """Portrait of Eileen Collins, colour, ``(512, 512, 3)`` uint8."""
    return _from_skimage("astronaut", rgb=True)


def _from_skimage(name: str, *, rgb: bool) -> list[LayerData]:
    from skimage import data

    try:
        array: Any = getattr(data, name)()
    # A stripped-down scikit-image downloads what it lacks, and can fail in any way that a network can.
    except Exception as error:
        raise InputError(
            f"The sample {name} is missing from this scikit-image and could not be downloaded ({error}); "
            "reinstall scikit-image."
        ) from error
    return [layer_data(Volume(array, name=name.capitalize(), rgb=rgb))]
