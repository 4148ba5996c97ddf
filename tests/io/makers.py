"""Small DICOM series, made with pydicom: what is in them is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
STUDY = generate_uid(entropy_srcs=["study"])
FRAME = generate_uid(entropy_srcs=["frame"])


def stored_values(shape: tuple[int, int, int] = (8, 16, 12), seed: int = 0) -> np.ndarray:
    """12-bit numbers as a scanner stores them, different in every slice."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4096, shape)
    values[:, 0, 0] = np.arange(shape[0])
    return values.astype(np.uint16)


def dataset(pixels: np.ndarray, *, modality: str = "CT", seed: str = "a", **attributes: Any) -> Dataset:
    """One image object of a patient whose name must not turn up anywhere."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CLASSES[modality]
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Secret^Jane", "SECRET7", "19500102", "F"
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = STUDY, FRAME
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[seed])
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.StudyDate = ds.SeriesDate = "20240131"
    ds.StudyTime = ds.SeriesTime = "101010"
    ds.Modality, ds.SeriesNumber, ds.SeriesDescription = modality, 3, "Abdomen 5.0 B30f"
    ds.Manufacturer, ds.InstanceNumber = "Maker", 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PositionReferenceIndicator = ""
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored = 12 if pixels.dtype == np.uint16 else ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.ImageOrientationPatient, ds.ImagePositionPatient = list(AXIAL), [0, 0, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.75, 0.5], 5
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def normal(orientation: tuple[float, ...]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def series(
    pixels: np.ndarray,
    *,
    step: float = 2.5,
    origin: tuple[float, float, float] = (-100.0, -80.0, 40.0),
    orientation: tuple[float, ...] = AXIAL,
    direction: np.ndarray | None = None,
    heights: Any = None,
    **attributes: Any,
) -> list[Dataset]:
    """A series of slices along `direction`, else the normal; `heights` in millimetres instead of even steps."""
    direction = normal(orientation) if direction is None else np.asarray(direction)
    heights = np.arange(len(pixels)) * step if heights is None else heights
    made = []
    for number, (slab, height) in enumerate(zip(pixels, heights, strict=True), 1):
        position = [round(float(v), 9) for v in np.asarray(origin) + direction * height]
        ds = dataset(slab, **attributes)
        ds.InstanceNumber, ds.ImagePositionPatient = number, position
        ds.ImageOrientationPatient = [round(float(v), 12) for v in orientation]
        made.append(ds)
    return made


def save(folder: Path, datasets: list[Dataset], suffix: str = ".dcm", prefix: str = "IM", seed: int = 1) -> list[Path]:
    """Save under names whose order has nothing to do with that of the slices; paths in the order of the datasets."""
    folder.mkdir(exist_ok=True, parents=True)
    numbers = np.random.default_rng(seed).permutation(len(datasets))
    paths = []
    for number, ds in zip(numbers, datasets, strict=True):
        paths.append(folder / f"{prefix}{number:04d}{suffix}")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def enhanced(pixels: np.ndarray, step: float = 2.5, *, slopes: Any = None, temporal: Any = None) -> Dataset:
    """One enhanced CT object whose frames are stored from the top down."""
    ds = dataset(pixels[0])
    del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(pixels)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 5
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    temporal = [1] * len(pixels) if temporal is None else temporal
    for number in range(len(pixels)):
        group, position, values, content = Dataset(), Dataset(), Dataset(), Dataset()
        place = sum(1 for t in temporal[number + 1 :] if t == temporal[number])
        position.ImagePositionPatient = [-100, -80, 40 + step * place]
        values.RescaleSlope, values.RescaleIntercept = 1 if slopes is None else slopes[number], -1024
        values.RescaleType = "HU"
        content.TemporalPositionIndex = temporal[number]
        content.StackID, content.InStackPositionNumber = "1", place + 1
        content.DimensionIndexValues = [1, place + 1]
        group.PlanePositionSequence, group.FrameContentSequence = Sequence([position]), Sequence([content])
        group.PixelValueTransformationSequence = Sequence([values])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def hounsfield(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.int32) - 1024


__all__ = ["AXIAL", "SAGITTAL", "dataset", "enhanced", "hounsfield", "pydicom", "save", "series", "stored_values"]
