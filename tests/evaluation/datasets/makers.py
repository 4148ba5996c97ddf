"""Small files in the layouts of the published datasets."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

#: pycocotools 2.0 still hands its masks over in NumPy 1's way.
COCO_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


def save(path: Path, array: np.ndarray, **options: Any) -> Path:
    """Write a picture or mask; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def picture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A smooth colour picture, so that JPEG hardly changes it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    grey = 128 + 60 * np.sin(y / 9 + seed) * np.cos(x / 11)
    return np.stack([grey, grey * 0.8, 255 - grey], axis=-1).astype(np.uint8)


def rectangle(shape: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    """A mask of one rectangle."""
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def nifti(path: Path, array_zyx: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """A NIfTI whose file order is (X, Y, Z); 2 x 3 x 5 mm unless an affine is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.ascontiguousarray(array_zyx.T)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 3.0, 5.0, 1.0]) if affine is None else affine), path)
    return path


def ct_with_box(shape: tuple[int, int, int] = (8, 40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """A CT in HU, air around a body, and labels of an organ that is on slices 2 to 6."""
    rng = np.random.default_rng(5)
    volume = np.full(shape, -1000, np.int16)
    volume[:, 5:-5, 5:-5] = rng.normal(30, 40, volume[:, 5:-5, 5:-5].shape).astype(np.int16)
    labels = np.zeros(shape, np.uint8)
    for z in range(2, 7):
        labels[z, 10 : 14 + z, 12 : 20 + z] = 1
    volume[labels > 0] += 100
    return volume, labels


def runs_of(counts: bytes) -> list[int]:
    """COCO's compressed run lengths, one character after the other: an implementation of its own for the tests."""
    runs: list[int] = []
    position = 0
    while position < len(counts):
        value, shift, more = 0, 0, True
        while more:
            digit = counts[position] - 48
            value |= (digit & 0x1F) << shift
            more = bool(digit & 0x20)
            position, shift = position + 1, shift + 5
            if not more and digit & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def mask_of(segmentation: dict[str, Any]) -> np.ndarray:
    """The mask of an annotation, pixel by pixel in column order."""
    height, width = segmentation["size"]
    flat: list[bool] = []
    for index, run in enumerate(runs_of(base64.b64decode(segmentation["counts"]))):
        flat += [index % 2 == 1] * run
    return np.array(flat).reshape(width, height).T
