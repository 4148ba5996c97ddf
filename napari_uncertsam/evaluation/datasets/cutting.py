"""From an image and its labels to cases: one per label and slice; and the checks that both lie on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.intensity import plain
from napari_uncertsam.volume import Volume, Window

#: Labels up to here are counted by `bincount`, which is a good deal faster than sorting.
_COUNTABLE = 1 << 16
#: Share of the smallest voxel side that image and mask may lie apart, at the corner where they do most.
_TOLERANCE = 0.1


def cut(
    image: Volume,
    labels: NDArray[Any],
    *,
    every: int = 1,
    min_area: int = 1,
    group: str = "",
    modality: str | dict[int, str] = "unknown",
    window: Window | None = None,
) -> list[Case]:
    """The cases of one image, by label and then by slice.

    Parameters
    ----------
    image : Volume
    labels : (Y, X) or (Z, Y, X) integer or boolean
        0 is the background. A volume is cut along plane 0.
    every : int
        As in :func:`pick_slices`, for each label on its own.
    min_area : int
        Objects with fewer pixels on a slice are not on it.
    group : str
        As in :class:`Case`.
    modality : str or dict
        One for all, or by label.
    window : Window, optional
        As in :class:`Case`.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if labels.shape != image.shape:
        raise InputError(
            f"{image.name}: the image has the shape {image.shape}, its mask {labels.shape}; they have to agree."
        )
    stack = plain(labels if labels.ndim == 3 else labels[None])
    cases = []
    for value, areas in _areas(stack):
        which = modality if isinstance(modality, str) else modality.get(value, "unknown")
        held = np.flatnonzero(areas >= max(min_area, 1)).tolist()
        for z in pick_slices(held, every):
            truth = np.asarray(stack[z] == value)
            cases.append(Case(image.name, value, image, truth, 0, z, group, which, window))
    return cases


def pick_slices(held: Sequence[int], every: int = 1, central: float = 1.0) -> list[int]:
    """Every k-th of the slices that hold an object, counted from the middle one, which is always among them.

    Parameters
    ----------
    held : sequence of int
        The slices that hold the object, ascending.
    every : int
        The k.
    central : float
        Share of the slices, around the middle one, that are looked at.

    Examples
    --------
    >>> pick_slices(range(10, 20), every=3)
    [12, 15, 18]
    >>> pick_slices(range(10, 20), every=3, central=0.5)
    [15]
    """
    if every < 1 or not 0 < central <= 1:
        raise InputError(
            f"Slices cannot be picked with every {every} and central {central:g}; give every from 1 on, and central "
            "above 0, up to 1."
        )
    if not held:
        return []
    middle = len(held) // 2
    reach = max(1, round(central * len(held)))
    first = min(max(middle - reach // 2, 0), len(held) - reach)
    start = first + (middle - first) % every
    return list(held[start : first + reach : every])


def _areas(stack: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each label above 0 with its number of pixels on every slice, labels ascending."""
    top = int(stack.max(initial=0))
    if top < _COUNTABLE:
        small = np.uint16 if stack.dtype.itemsize > 4 else stack.dtype  # bincount refuses uint64
        table = np.stack([np.bincount(plane.ravel().astype(small, copy=False), minlength=top + 1) for plane in stack])
        for value in np.flatnonzero(table.sum(0)).tolist():
            if value:
                yield value, table[:, value]
        return
    for value in np.unique(stack).tolist():
        if value:
            yield value, np.count_nonzero(stack == value, axis=(1, 2))


def check_same_grid(image: Volume, mask: Volume) -> None:
    """Raise an InputError where the affines of an image and its mask put them more than a tenth of a voxel apart."""
    if image.affine is None or mask.affine is None or image.shape != mask.shape:
        return  # without affines there is nothing to compare, and other shapes are reported by `cut`
    corners = np.array([(*index, 1) for index in np.ndindex(2, 2, 2)], np.float64)
    corners[:, :3] *= np.array(image.shape) - 1
    apart = np.linalg.norm(corners @ (image.affine - mask.affine).T, axis=1).max()
    if apart > _TOLERANCE * min(image.spacing):
        raise InputError(
            f"{image.name}: the affines of the image and of its mask put them up to {apart:.2g} mm apart; resample the "
            "mask to the image, or copy the image's header where only the header is wrong."
        )


def upright(volume: Volume) -> Volume:
    """The volume with its axes in the order slices (along the body), rows (front to back), columns (side to side).

    Axes are reordered by the affine, which follows them, and never mirrored. Files that store slices first, such as
    those of KiTS, come out as files that store them last. Without an affine the volume is returned as it is.
    """
    if volume.affine is None or volume.ndim != 3:
        return volume
    from scipy.optimize import linear_sum_assignment

    directions = np.abs(volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0))
    # World axis of each array axis, no two the same: also right for volumes tilted by any angle.
    world, axes = linear_sum_assignment(-directions)
    order = [int(axes[list(world).index(axis)]) for axis in (2, 1, 0)]
    if order == [0, 1, 2]:
        return volume
    array = np.asarray(volume.array)
    rest = tuple(range(3, array.ndim))
    spacing = tuple(volume.spacing[axis] for axis in order)
    return replace(
        volume, array=array.transpose(*order, *rest), affine=volume.affine[:, [*order, 3]], spacing=spacing, header=None
    )
