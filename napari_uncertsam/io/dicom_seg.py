"""DICOM SEG out: masks and probabilities as objects that refer to the series they were made on, by highdicom."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.io.dicom_values import DicomSeries
from napari_uncertsam.io.writers import atomic
from napari_uncertsam.volume import Volume

#: Stored value of a probability of 1.
_MAXIMUM = 255
#: Where a label is kept, since the segments of a SEG have to be numbered 1, 2, 3 ...
TRACKING_ID = "napari-uncertsam-{}"
#: What a SEG takes over from its source, and what an anonymised source may lack.
_FROM_SOURCE = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName", "PositionReferenceIndicator"),
)


def write_segmentation(
    path: str | os.PathLike[str],
    labels: NDArray[Any],
    volume: Volume,
    *,
    names: Mapping[int, str] | None = None,
    fractional: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a label map as DICOM SEG: one segment for each label that occurs.

    Parameters
    ----------
    path : path
        Usually ending in ``.dcm``.
    labels : (Z, Y, X) boolean or integer
        Of the shape of `volume`; 0 is the background.
    volume : Volume
        Read from a DICOM series, whose files are still where they were: the SEG refers to each slice, and belongs to
        the same patient and study.
    names : mapping from label to str, optional
        "object 1" and so on where a label has none.
    fractional : bool
        As FRACTIONAL with probabilities 0 and 1, for programs that read no BINARY.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If the mask is empty or does not fit, the volume is not from DICOM, or something cannot be read or written.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "bui":
        raise InputError(
            f"A DICOM SEG holds whole-numbered labels, not {labels.dtype}; write_fractional takes fractions."
        )
    _check_shape(labels, volume)
    found = [int(v) for v in np.unique(labels) if v]
    if found and found[0] < 0:
        raise InputError(f"The label {found[0]} is negative; labels start at 1.")
    if not found:
        raise InputError(
            "The mask is empty, and a DICOM SEG needs at least one labelled voxel; segment something first."
        )
    # Segment numbers by position in the sorted labels: those of a SEG have no gaps.
    numbers = (np.searchsorted([0, *found], labels)).astype(np.uint8 if len(found) < 256 else np.uint16)
    segments = {label: (names or {}).get(label, f"object {label}") for label in found}
    if not fractional:
        return _write(Path(path), numbers, volume, segments, "BINARY", overwrite)
    stack = np.stack([numbers == number for number in range(1, len(found) + 1)], axis=-1).astype(np.float32)
    return _write(Path(path), stack, volume, segments, "FRACTIONAL", overwrite)


def write_fractional(
    path: str | os.PathLike[str],
    probability: NDArray[Any],
    volume: Volume,
    label: int = 1,
    name: str = "",
    *,
    overwrite: bool = False,
) -> Path:
    """Write the probability of one object as a FRACTIONAL DICOM SEG, in steps of 1/255.

    Parameters
    ----------
    probability : (Z, Y, X) float
        From 0 to 1, of the shape of `volume`.
    label : int
        Of the object in the label map.
    name : str
        Of the object; "object 1" and so on without one.

    Other parameters, returns and raises as `write_segmentation`.
    """
    probability = np.asarray(probability)
    if probability.dtype.kind != "f":
        raise InputError(f"A probability is a fraction, not {probability.dtype}; write_segmentation takes labels.")
    _check_shape(probability, volume)
    if not (probability.min() >= 0 and probability.max() <= 1):  # NaN fails as well
        raise InputError("A probability lies between 0 and 1; these values do not.")
    if probability.max() < 0.5 / _MAXIMUM:
        raise InputError("The probability is 0 everywhere, and a DICOM SEG needs at least one voxel; segment first.")
    stack = probability[..., None].astype(np.float32)
    return _write(Path(path), stack, volume, {label: name or f"object {label}"}, "FRACTIONAL", overwrite)


def highdicom_module() -> ModuleType:
    """highdicom, or a sentence that says how to install it."""
    try:
        import highdicom.seg
    except ImportError as error:
        raise InputError(
            'DICOM SEG needs highdicom; install it with: pip install "napari-uncertsam[dicom]".'
        ) from error
    module: ModuleType = highdicom
    return module


def series_of(volume: Volume) -> DicomSeries:
    """The series that a volume was read from, or a sentence where it was not."""
    if not isinstance(volume.header, DicomSeries):
        raise InputError(
            f"{volume.name or 'The volume'} was not read from a DICOM series, which a DICOM SEG refers to; "
            "write a .nii.gz instead."
        )
    return volume.header


def _check_shape(array: NDArray[Any], volume: Volume) -> None:
    series_of(volume)
    if array.shape != volume.shape:
        raise InputError(f"A result of shape {array.shape} does not fit the volume, {volume.shape}.")


def _write(
    path: Path, pixels: NDArray[Any], volume: Volume, segments: Mapping[int, str], kind: str, overwrite: bool
) -> Path:
    series = series_of(volume)
    highdicom = highdicom_module()
    with atomic(path, overwrite=overwrite) as temporary:
        sources = _sources(series)
        try:
            # Some warnings of highdicom quote the patient's name.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = _segmentation(highdicom, series, sources, pixels, segments, kind)
                if kind == "BINARY" and pixels.shape[1] * pixels.shape[2] % 8:
                    made.PixelData = _packed(made, series, pixels)
                made.save_as(temporary)
        except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
            raise InputError(
                f"The headers of {series.paths[0].name} and its series do not allow a DICOM SEG "
                f"({first_line(error)}); write a .nii.gz instead."
            ) from error
    return path


def _packed(made: Any, series: DicomSeries, pixels: NDArray[Any]) -> bytes:
    """The frames of a segmentation, one bit a voxel, without padding between them.

    highdicom 0.28 gets them wrong where a frame has no whole number of bytes.
    """
    frames = []
    for own in made.PerFrameFunctionalGroupsSequence:
        index, _ = series.nearest(own.PlanePositionSequence[0].ImagePositionPatient)
        segment = int(own.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        plane = pixels[index]
        frames.append(plane == segment if plane.ndim == 2 else plane[..., segment - 1] > 0)
    packed = np.packbits(np.stack(frames).ravel(), bitorder="little").tobytes()
    return packed + b"\0" * (len(packed) % 2)


def _segmentation(
    highdicom: Any,
    series: DicomSeries,
    sources: list[Any],
    pixels: NDArray[Any],
    segments: Mapping[int, str],
    kind: str,
) -> Any:
    from napari_uncertsam import __version__

    first = sources[0]
    positions = [
        highdicom.PlanePositionSequence(coordinate_system="PATIENT", image_position=position)
        for position in series.positions
    ]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[
            _description(highdicom, number, label, name, __version__)
            for number, (label, name) in enumerate(segments.items(), 1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=1000 + int(first.get("SeriesNumber") or 0),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="napari-uncertsam contributors",
        manufacturer_model_name="napari-uncertsam",
        software_versions=__version__,
        device_serial_number=__version__,
        max_fractional_value=_MAXIMUM,
        content_description="Segmentation with SAM 2",
        content_label="SEGMENTATION",
        series_description="napari-uncertsam segmentation",
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing=series.pixel_spacing,
            slice_thickness=float(first.get("SliceThickness") or series.slice_spacing),
            spacing_between_slices=series.slice_spacing,
        ),
        plane_orientation=highdicom.PlaneOrientationSequence("PATIENT", series.orientation),
        plane_positions=positions,
    )


def _description(highdicom: Any, number: int, label: int, name: str, version: str) -> Any:
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=" ".join(name.replace("\\", "/").split())[:64] or f"object {label}",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="napari-uncertsam", version=version, family=codes.DCM.ArtificialIntelligence
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=TRACKING_ID.format(label),
    )


def _sources(series: DicomSeries) -> list[Any]:
    """The headers of the source images in the order of the slices; of enhanced ones, the one object."""
    import pydicom

    paths = list(dict.fromkeys(series.paths)) if series.multi_frame else list(series.paths)
    if series.multi_frame and len(paths) > 1:
        raise InputError(
            f"The volume comes from {len(paths)} multi-frame files, and a DICOM SEG can refer to one; write a .nii.gz."
        )
    sources = []
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                source = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception as error:
            raise InputError(f"{path} could not be read again ({first_line(error)}); open the series again.") from error
        for name in _FROM_SOURCE:
            if name not in source:
                setattr(source, name, "")
        if not series.multi_frame:
            source.PixelSpacing = list(series.pixel_spacing)
            source.SliceThickness = source.get("SliceThickness") or series.slice_spacing
        sources.append(source)
    return sources


def first_line(error: Exception) -> str:
    """What a library says, short enough for a sentence."""
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
