"""DICOM series as values: one frame, what a list of series shows, and what a volume remembers of its series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Vector = tuple[float, float, float]
#: Direction cosines of a row, then of a column, in the patient's LPS axes.
Orientation = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice in a file: where it lies, how its numbers become values, and what it belongs to.

    Lengths in millimetres, positions in the patient's LPS axes; None where the file does not say.
    """

    path: Path
    number: int  # in the file, from 0
    n_frames: int
    sop_uid: str
    sop_class: str
    series_uid: str
    study_uid: str
    frame_of_reference: str
    modality: str
    series_number: int | None
    description: str
    date: str  # ISO, or empty
    instance: int
    rows: int
    columns: int
    position: Vector | None
    orientation: Orientation | None
    spacing: tuple[float, float] | None  # between rows, between columns
    thickness: float | None  # or the distance to the next slice: for a slice that is alone
    slope: float
    intercept: float
    bits: int
    signed: bool
    photometric: str
    syntax: str
    cut_off: bool
    #: What tells volumes at the same positions apart: acquisition, echo, time, in the order in which it is tried.
    repeats: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SeriesInfo:
    """One volume in a folder of DICOM files, as a list shows it; patients are never named.

    Parameters
    ----------
    number : int
        In the list, from 1.
    uid : str
        SeriesInstanceUID. Several volumes of one series share it; `key` tells them apart.
    key : str
        What `read(path, series=key)` takes: the UID, followed by ``/2`` for the second volume of a series and so on.
    series_number : int, optional
        SeriesNumber of the scanner.
    description : str
    modality : str
        As DICOM has it: "CT", "MR", "PT" and so on.
    n_images : int
        Slices at positions of their own.
    shape : tuple of int
        ``(Z, Y, X)``.
    date : str
        ``YYYY-MM-DD``, or empty.
    difference : str
        What sets it apart from the other volumes of its series, or empty.
    """

    number: int
    uid: str
    key: str
    series_number: int | None
    description: str
    modality: str
    n_images: int
    shape: tuple[int, int, int]
    date: str
    difference: str = ""

    def __str__(self) -> str:
        words = [self.modality or "image", self.description or "without a description"]
        if self.series_number is not None:
            words.append(f"series {self.series_number}")
        words.append(" x ".join(str(n) for n in self.shape))
        words += [word for word in (self.difference, self.date) if word]
        return f"{self.number}: {', '.join(words)}"


@dataclass(frozen=True)
class DicomSeries:
    """What a volume remembers of the series it was read from; one entry a slice, in the order of the array.

    Parameters
    ----------
    paths : tuple of Path
        File of each slice; one file several times where it holds several frames.
    frames : tuple of int
        Number of the slice in its file, from 0.
    sop_instance_uids : tuple of str
    positions : tuple of (x, y, z)
        ImagePositionPatient: LPS millimetres of the centre of the first pixel.
    orientation : tuple of 6 floats
        ImageOrientationPatient.
    pixel_spacing : (float, float)
        Millimetres between rows and between columns.
    slice_spacing : float
        Millimetres between neighbouring slices along their normal; the median where they differ.
    series_uid, study_uid, frame_of_reference_uid : str
    key : str
        As `SeriesInfo.key`.
    modality : str
        As DICOM has it.
    multi_frame : bool
        Whether the slices are frames of enhanced objects rather than a file each.
    """

    paths: tuple[Path, ...]
    frames: tuple[int, ...]
    sop_instance_uids: tuple[str, ...]
    positions: tuple[Vector, ...]
    orientation: Orientation
    pixel_spacing: tuple[float, float]
    slice_spacing: float
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    key: str
    modality: str
    multi_frame: bool

    def nearest(self, position: Sequence[float]) -> tuple[int, float]:
        """The slice whose first pixel is nearest to a position in LPS millimetres, and how far it is."""
        distance = np.linalg.norm(np.array(self.positions) - np.array(position, float), axis=1)
        index = int(distance.argmin())
        return index, float(distance[index])
