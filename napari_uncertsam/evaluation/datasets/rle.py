"""Masks as UncertSAM's ``dataset.json`` holds them: base64 of COCO's compressed run lengths, by pycocotools."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError

_MISSING = 'Masks of UncertSAM\'s layout need pycocotools; run `pip install "napari-uncertsam[datasets]"`.'


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as the entry ``segmentation`` of an annotation.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    dict
        ``size`` is [H, W], ``counts`` the base64 text.

    Raises
    ------
    InputError
        If pycocotools is not installed.
    """
    counts: bytes = require().encode(np.asfortranarray(mask, np.uint8))["counts"]
    return {"size": list(mask.shape), "counts": base64.b64encode(counts).decode("ascii")}


def decode(segmentation: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask of an entry ``segmentation``.

    Returns
    -------
    (H, W) bool

    Raises
    ------
    InputError
        If the entry is damaged, or pycocotools is not installed.
    """
    try:
        height, width = (int(side) for side in segmentation["size"])
        counts = base64.b64decode(segmentation["counts"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InputError("it has no size with two sides and no counts in base64.") from error
    # pycocotools leaves what a truncated text does not cover as it finds it in memory.
    if min(height, width) < 1 or _covered(counts) != height * width:
        raise InputError(f"its run lengths do not add up to {height} x {width} pixels.")
    try:
        mask = require().decode({"size": [height, width], "counts": counts})
    except (ValueError, OverflowError) as error:
        raise InputError(f"its run lengths are damaged: {error}.") from error
    return np.ascontiguousarray(mask).view(np.bool_)


def _covered(counts: bytes) -> int:
    """Number of pixels that compressed run lengths cover, -1 where they are malformed.

    Each number is written in groups of five bits, lowest first, as characters from "0" on; bit 5 says that more follow,
    and bit 4 of the last is the sign. From the fourth on, a number is the difference to the last but one.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        return -1
    ends = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:  # more than 32 bits
        return -1
    place = 5 * (np.arange(digits.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((digits & 31) << place, starts)
    runs -= np.where(digits[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return int(runs.sum()) if runs.min() >= 0 else -1


def require() -> ModuleType:
    """The module ``pycocotools.mask``.

    Raises
    ------
    InputError
        If pycocotools is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(_MISSING) from error
    module: ModuleType = mask
    return module
