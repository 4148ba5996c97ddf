"""Files in and out: NIfTI, DICOM, PNG, JPEG, BMP and TIFF images; masks, maps, DICOM SEG and prompts.

Every failure that a file can cause is an :class:`~napari_uncertsam.errors.InputError`.
"""

from __future__ import annotations

from napari_uncertsam.io.choice import ChoiceNeededError
from napari_uncertsam.io.dicom import list_series
from napari_uncertsam.io.dicom_files import holds_dicom, is_dicom
from napari_uncertsam.io.dicom_seg import write_fractional, write_segmentation
from napari_uncertsam.io.dicom_seg_reading import read_segmentation
from napari_uncertsam.io.dicom_values import DicomSeries, SeriesInfo
from napari_uncertsam.io.nifti import check_nifti_geometry, is_label_map
from napari_uncertsam.io.prompts_file import prompts_from_dict, prompts_to_dict, read_prompts, write_prompts
from napari_uncertsam.io.readers import SUFFIXES, read, read_labels, sample_path
from napari_uncertsam.io.writers import atomic, embed_slice, output_suffix, write_map, write_mask

__all__ = [
    "SUFFIXES",
    "ChoiceNeededError",
    "DicomSeries",
    "SeriesInfo",
    "atomic",
    "check_nifti_geometry",
    "embed_slice",
    "holds_dicom",
    "is_dicom",
    "is_label_map",
    "list_series",
    "output_suffix",
    "prompts_from_dict",
    "prompts_to_dict",
    "read",
    "read_labels",
    "read_prompts",
    "read_segmentation",
    "sample_path",
    "write_fractional",
    "write_map",
    "write_mask",
    "write_prompts",
    "write_segmentation",
]
