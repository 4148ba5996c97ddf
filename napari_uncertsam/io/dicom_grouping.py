"""Which frames make one volume: by series, size and orientation, and then by what repeats at the same positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_uncertsam.io.dicom_geometry import SAME_POSITION, heights
from napari_uncertsam.io.dicom_values import Frame, SeriesInfo

#: Largest difference of direction cosines, and of pixel spacings as a part of them, within one volume.
_SAME = 1e-3


@dataclass(frozen=True)
class Group:
    """The frames of one volume, in no particular order, and how a list shows it."""

    info: SeriesInfo
    frames: tuple[Frame, ...]


def group_volumes(frames: Sequence[Frame]) -> tuple[Group, ...]:
    """All volumes among frames, sorted by series number and UID.

    The same object found twice counts once. A series is several volumes where sizes or orientations differ, or where
    acquisitions, echoes, times or the like lie at the same positions.
    """
    unique = {(frame.sop_uid, frame.number): frame for frame in reversed(frames)}
    by_series: dict[str, list[Frame]] = {}
    for frame in sorted(unique.values(), key=lambda f: (f.instance, str(f.path), f.number)):
        by_series.setdefault(frame.series_uid, []).append(frame)
    groups: list[Group] = []
    for uid, members in sorted(by_series.items(), key=lambda item: (item[1][0].series_number or 0, item[0])):
        volumes = [volume for alike in _alike(members) for volume in _without_repeats(alike, "")]
        for part, (volume, difference) in enumerate(volumes, 1):
            key = uid if part == 1 else f"{uid}/{part}"
            groups.append(Group(_info(len(groups) + 1, key, volume, difference), tuple(volume)))
    return tuple(groups)


def _alike(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames by what all slices of a volume share; the largest first."""
    found: list[list[Frame]] = []
    for frame in frames:
        home = next((group for group in found if _is_alike(group[0], frame)), None)
        if home is None:
            found.append([frame])
        else:
            home.append(frame)
    return sorted(found, key=len, reverse=True)


def _is_alike(a: Frame, b: Frame) -> bool:
    if (a.rows, a.columns, a.photometric, a.signed) != (b.rows, b.columns, b.photometric, b.signed):
        return False
    if (a.orientation is None or a.position is None) != (b.orientation is None or b.position is None):
        return False
    if (a.spacing is None) != (b.spacing is None):
        return False
    if a.orientation and b.orientation and not np.allclose(a.orientation, b.orientation, rtol=0, atol=_SAME):
        return False
    return not (a.spacing and b.spacing) or np.allclose(a.spacing, b.spacing, rtol=_SAME, atol=0)


def _without_repeats(frames: list[Frame], difference: str) -> list[tuple[list[Frame], str]]:
    """Split frames by the first attribute that tells those at the same positions apart, and each part again."""
    if frames[0].orientation is None or frames[0].position is None or _count(frames) == len(frames):
        return [(frames, difference)]
    for name in dict.fromkeys(name for frame in frames for name, _ in frame.repeats):
        parts: dict[str, list[Frame]] = {}
        for frame in frames:
            parts.setdefault(dict(frame.repeats).get(name, ""), []).append(frame)
        if len(parts) > 1 and _is_split(frames, list(parts.values())):
            return [
                piece
                for value, part in sorted(parts.items(), key=lambda item: _order(item[0]))
                for piece in _without_repeats(part, f"{difference}, {name} {value}".removeprefix(", "))
            ]
    return [(frames, difference)]


def _order(value: str) -> tuple[float, str]:
    """Numbers by their size, before words."""
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _is_split(frames: list[Frame], parts: list[list[Frame]]) -> bool:
    """Whether parts are volumes over each other: each of several slices, at positions that others have too.

    Slabs one after the other are one volume, and a single slice taken again makes no volume of its own.
    """
    all_heights = _whole(frames)
    others = [[h for other in parts if other is not part for h in _whole(other, frames[0])] for part in parts]
    if sum(_count(part) for part in parts) == _count(frames):
        return False
    least = min(2, len(set(all_heights)))
    for part, rest in zip(parts, others, strict=True):
        own = set(_whole(part, frames[0]))
        if len(own) < least or 2 * len(own & set(rest)) < len(own):
            return False
    return True


def _whole(frames: Sequence[Frame], like: Frame | None = None) -> list[int]:
    """Heights of frames as whole numbers of the smallest distance that counts."""
    along = heights([like or frames[0], *frames])[1:]
    return [int(v) for v in np.rint(along / SAME_POSITION)]


def _count(frames: Sequence[Frame]) -> int:
    """Number of different positions."""
    along = np.sort(heights(frames))
    return 1 + int((np.diff(along) > SAME_POSITION).sum())


def _info(number: int, key: str, frames: Sequence[Frame], difference: str) -> SeriesInfo:
    first = frames[0]
    n_images = _count(frames) if first.orientation is not None and first.position is not None else len(frames)
    return SeriesInfo(
        number=number,
        uid=first.series_uid,
        key=key,
        series_number=first.series_number,
        description=first.description,
        modality=first.modality,
        n_images=n_images,
        shape=(n_images, first.rows, first.columns),
        date=first.date,
        difference=difference,
    )
