"""Finding DICOM files, and reading what their headers say of each frame; no pixel is touched."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.io.dicom_values import Frame, Orientation, Vector

#: Endings of files that are taken for DICOM even without the preamble that the standard asks for.
SUFFIXES = (".dcm", ".ima", ".dicom")
#: The file that lists all others on a CD; what it says is not needed.
DIRECTORY = "DICOMDIR"
#: Objects with rows and columns that are no images of their own: segmentations, doses, parametric maps.
_NOT_IMAGES = (
    *("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.2"),
    "1.2.840.10008.5.1.4.1.1.30",
)
_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("SeriesNumber", "SeriesDescription", "SeriesDate", "AcquisitionDate", "StudyDate", "InstanceNumber"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated"),
    *("BitsStored", "PixelRepresentation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "SpecificCharacterSet"),
    *("AcquisitionNumber", "EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "TriggerTime"),
    *("ImageType", "AcquisitionTime", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
#: Attribute, and the functional group that has it in an enhanced object; the order in which splitting tries them.
_REPEATS = (
    ("TemporalPositionIdentifier", ""),
    ("TemporalPositionIndex", "FrameContentSequence"),
    ("StackID", "FrameContentSequence"),
    ("EchoNumbers", ""),
    ("EchoTime", ""),
    ("EffectiveEchoTime", "MREchoSequence"),
    ("DiffusionBValue", ""),
    ("DiffusionBValue", "MRDiffusionSequence"),
    ("TriggerTime", ""),
    ("AcquisitionNumber", ""),
    ("FrameAcquisitionNumber", "FrameContentSequence"),
    ("ImageType", ""),
    ("FrameType", "CTImageFrameTypeSequence"),
    ("FrameType", "MRImageFrameTypeSequence"),
    ("AcquisitionTime", ""),
)


@dataclass(frozen=True)
class Scan:
    """Frames of all images that were found, and the names of files that could not be read."""

    frames: tuple[Frame, ...]
    unreadable: tuple[str, ...] = ()


def pydicom_module() -> ModuleType:
    """pydicom, or a sentence that says how to install it."""
    try:
        import pydicom
    except ImportError as error:
        raise InputError('DICOM needs pydicom; install it with: pip install "napari-uncertsam[dicom]".') from error
    module: ModuleType = pydicom
    return module


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, or has one of their endings; nothing else is read of it.

    Examples
    --------
    >>> is_dicom(Path("IM0001.dcm"))
    True
    """
    return path.suffix.lower() in SUFFIXES or has_preamble(path)


def has_preamble(path: Path) -> bool:
    """Whether a file has the four letters of DICOM in their place."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def holds_dicom(folder: Path, limit: int = 20) -> bool:
    """Whether DICOM is among the first `limit` files in and below a folder; quick, and never an error."""
    try:
        first = itertools.islice(_files(folder, recursive=True), limit)
        return any(is_dicom(path) or path.name == DIRECTORY for path in first)
    except InputError:
        return False


def scan(path: Path) -> Scan:
    """Read the headers of all images in a folder and below it, or in the folder of a file.

    Raises
    ------
    InputError
        If the folder cannot be read, or pydicom is missing.
    """
    pydicom_module()
    if path.is_dir() or path.name == DIRECTORY:
        files = _files(path if path.is_dir() else path.parent, recursive=True)
    else:
        files = _files(path.parent, recursive=False)
    frames: list[Frame] = []
    unreadable = []
    # Odd values are common, and pydicom warns about each.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            if not is_dicom(file):
                continue
            try:
                frames += _frames(file)
            except InputError:
                raise
            except Exception:  # a damaged header can make pydicom raise nearly anything
                unreadable.append(file.name)
    return Scan(tuple(frames), tuple(unreadable))


def _files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise InputError(f"{folder} may not be read: {error.strerror}; check its permissions.") from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        yield from (Path(root) / name for name in sorted(names) if not name.startswith("."))


def _frames(path: Path) -> list[Frame]:
    """All frames of one file; none where it holds no image."""
    forced = not has_preamble(path)
    with path.open("rb") as file:
        dataset = pydicom_module().dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS), force=forced)
        left = path.stat().st_size - file.tell()  # the pixels, and whatever follows them
    sop_class = dataset.get("SOPClassUID")
    if sop_class in _NOT_IMAGES:
        return []
    if not dataset.get("Rows") or not dataset.get("Columns"):
        if sop_class is None or "Image Storage" in sop_class.name:
            raise ValueError("the header of an image without a size, or no DICOM")
        return []
    count = int(dataset.get("NumberOfFrames") or 1)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if per_frame and len(per_frame) < count:
        raise ValueError("frames without functional groups")
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), None)
    return [
        _frame(path, dataset, left, number, count, _Groups(dataset, per_frame[number] if per_frame else None, shared))
        for number in range(count)
    ]


class _Groups:
    """Attributes of one frame: of its functional groups, of those that all frames share, or of the whole object."""

    def __init__(self, dataset: Any, own: Any, shared: Any) -> None:
        self._places = [place for place in (own, shared) if place is not None]
        self._dataset = dataset

    def get(self, name: str, group: str) -> Any:
        for place in self._places:
            items = place.get(group) if group else None
            if items and items[0].get(name) is not None:
                return items[0].get(name)
        return self._dataset.get(name)


def _frame(path: Path, dataset: Any, left: int, number: int, count: int, groups: _Groups) -> Frame:
    allocated = int(dataset.get("BitsAllocated") or 16)
    syntax = _transfer_syntax(dataset)
    deflated = syntax == "1.2.840.10008.1.2.1.99"  # pydicom has read such a file to its end
    samples = int(dataset.get("SamplesPerPixel") or 1)
    needed = int(dataset.Rows) * int(dataset.Columns) * samples * count * allocated // 8
    thickness = groups.get("SpacingBetweenSlices", "PixelMeasuresSequence")
    thickness = thickness or groups.get("SliceThickness", "PixelMeasuresSequence")
    position = _floats(groups.get("ImagePositionPatient", "PlanePositionSequence"), 3)
    orientation = _floats(groups.get("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
    spacing = _floats(groups.get("PixelSpacing", "PixelMeasuresSequence"), 2)
    slope = _finite(groups.get("RescaleSlope", "PixelValueTransformationSequence"), 1.0)
    intercept = _finite(groups.get("RescaleIntercept", "PixelValueTransformationSequence"), 0.0)
    series_number = dataset.get("SeriesNumber")
    return Frame(
        path=path,
        number=number,
        n_frames=count,
        sop_uid=str(dataset.get("SOPInstanceUID") or path),
        sop_class=str(dataset.get("SOPClassUID") or ""),
        series_uid=str(dataset.get("SeriesInstanceUID") or ""),
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
        modality=str(dataset.get("Modality") or ""),
        series_number=None if series_number is None else int(series_number),
        description=" ".join(str(dataset.get("SeriesDescription") or "").split()),
        date=_date(dataset),
        instance=int(dataset.get("InstanceNumber") or 0),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        position=_vector(position),
        orientation=_orientation(orientation),
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness=float(thickness) if thickness and float(thickness) > 0 else None,
        slope=slope,
        intercept=intercept,
        bits=int(dataset.get("BitsStored") or allocated),
        signed=bool(dataset.get("PixelRepresentation") or 0),
        photometric=str(dataset.get("PhotometricInterpretation") or "MONOCHROME2"),
        syntax=str(syntax),
        cut_off=not deflated and left < (1 if syntax.is_compressed else needed),
        repeats=tuple((name, str(value)) for name, group in _REPEATS if (value := groups.get(name, group)) is not None),
    )


def _transfer_syntax(dataset: Any) -> Any:
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    meta = getattr(dataset, "file_meta", None)
    if meta is not None and meta.get("TransferSyntaxUID"):
        return UID(meta.TransferSyntaxUID)
    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _finite(value: Any, default: float) -> float:
    """A number, or `default` where there is none; raises ValueError for one that is not finite."""
    number = default if value is None else float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no number to calculate with")
    return number


def _floats(value: Any, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None."""
    if value is None or isinstance(value, str) or not hasattr(value, "__len__") or len(value) != count:
        return None
    numbers = tuple(float(v) for v in value)
    return numbers if all(math.isfinite(v) for v in numbers) else None


def _vector(values: tuple[float, ...] | None) -> Vector | None:
    return None if values is None else (values[0], values[1], values[2])


def _orientation(values: tuple[float, ...] | None) -> Orientation | None:
    """Two directions at nearly a right angle, or None."""
    if values is None:
        return None
    row, column = values[:3], values[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(_dot(row, column)) > 0.1:
        return None
    unit = [v / lengths[0] for v in row] + [v / lengths[1] for v in column]
    return (unit[0], unit[1], unit[2], unit[3], unit[4], unit[5])


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _date(dataset: Any) -> str:
    for name in ("SeriesDate", "AcquisitionDate", "StudyDate"):
        text = str(dataset.get(name) or "")
        if len(text) == 8 and text.isdigit():
            return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return ""
