"""DICOM SEG in: the frames of a segmentation on the slices of the series it was made on."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.io.dicom_seg import TRACKING_ID, first_line, highdicom_module, series_of
from napari_uncertsam.io.dicom_values import DicomSeries
from napari_uncertsam.volume import Volume


def read_segmentation(path: str | os.PathLike[str], volume: Volume) -> NDArray[np.int32]:
    """Read a DICOM SEG into the slices of the series it was made on.

    Parameters
    ----------
    path : path
    volume : Volume
        Read from the DICOM series.

    Returns
    -------
    (Z, Y, X) int32
        Frames are placed by their position. Labels are those that `write_segmentation` was given, and the segment
        numbers in files of other programs. A FRACTIONAL one is cut at one half.

    Raises
    ------
    InputError
        If the file is damaged or no SEG, lies on another grid than the volume, or its segments overlap.
    """
    series, path = series_of(volume), Path(path)
    highdicom = highdicom_module()
    if not path.is_file():
        raise InputError(f"There is no file {path}; check the name.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = highdicom.seg.segread(path)
            return _placed(segmentation, series, volume.shape, path.name)
    except InputError:
        raise
    except Exception as error:  # highdicom and pydicom raise nearly anything on files that are not what they should be
        raise InputError(f"{path.name} could not be read as a DICOM SEG ({first_line(error)}).") from error


def _placed(segmentation: Any, series: DicomSeries, shape: tuple[int, ...], name: str) -> NDArray[np.int32]:
    """The label map of a segmentation, each frame on the slice at its position."""
    if segmentation.get("FrameOfReferenceUID", series.frame_of_reference_uid) != series.frame_of_reference_uid:
        raise InputError(f"{name} belongs to another frame of reference than the volume; open its own series.")
    if (segmentation.Rows, segmentation.Columns) != shape[1:]:
        raise InputError(
            f"{name} has slices of {segmentation.Rows} x {segmentation.Columns} voxels, the volume of "
            f"{shape[1]} x {shape[2]}; open its own series."
        )
    kind, labels = str(segmentation.SegmentationType), _labels(segmentation)
    threshold = segmentation.MaximumFractionalValue / 2 if kind == "FRACTIONAL" else 0.5
    result = np.zeros(shape, np.int32)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    bits = _single_bits(segmentation)
    for number, own in enumerate(segmentation.PerFrameFunctionalGroupsSequence, 1):
        index = _slice_at(own, shared, series, name)
        stored = bits[number - 1] if bits is not None else segmentation.get_stored_frame(number)
        if kind == "LABELMAP":
            values = np.array([labels.get(v, v) for v in range(int(stored.max()) + 1)])[stored]
            inside = values > 0
        else:
            segment = int(_of_frame("SegmentIdentificationSequence", own, shared).ReferencedSegmentNumber)
            inside, values = stored >= threshold, labels[segment]
        if (result[index][inside] != 0).any():
            raise InputError(f"The segments of {name} overlap, and a label map holds one label for each voxel.")
        result[index][inside] = values[inside] if isinstance(values, np.ndarray) else values
    return result


def _labels(segmentation: Any) -> dict[int, int]:
    """Labels by segment number: those that were written, else the numbers themselves."""
    numbers = {int(s.SegmentNumber): str(s.get("TrackingID", "")) for s in segmentation.SegmentSequence}
    pattern = re.compile(re.escape(TRACKING_ID).replace(r"\{\}", r"(\d+)"))
    matched = {number: pattern.fullmatch(text) for number, text in numbers.items()}
    labels = {number: int(match[1]) for number, match in matched.items() if match}
    return labels if len(labels) == len(numbers) else {number: number for number in numbers}


def _slice_at(own: Any, shared: Any, series: DicomSeries, name: str) -> int:
    orientation = np.array(_of_frame("PlaneOrientationSequence", own, shared).ImageOrientationPatient, float)
    index, distance = series.nearest(_of_frame("PlanePositionSequence", own, shared).ImagePositionPatient)
    tolerance = 0.01 * min(series.slice_spacing, *series.pixel_spacing)
    if not np.allclose(orientation, series.orientation, rtol=0, atol=1e-3) or distance > max(tolerance, 1e-3):
        raise InputError(f"{name} lies on another grid than the slices of the volume; open its own series.")
    return index


def _of_frame(group: str, own: Any, shared: Any) -> Any:
    return (own if group in own else shared)[group][0]


def _single_bits(segmentation: Any) -> NDArray[np.uint8] | None:
    """All frames of one bit a voxel, ``(n, rows, columns)``; None where they are stored otherwise.

    Frames follow each other without padding, so where one has no whole number of bytes the next begins inside a byte:
    taken together they cannot be misread.
    """
    if segmentation.BitsAllocated != 1 or segmentation.file_meta.TransferSyntaxUID.is_encapsulated:
        return None
    shape = int(segmentation.NumberOfFrames), int(segmentation.Rows), int(segmentation.Columns)
    bits = np.unpackbits(np.frombuffer(segmentation.PixelData, np.uint8), bitorder="little")
    return np.asarray(bits[: shape[0] * shape[1] * shape[2]].reshape(shape))
