"""Where evaluation finds its cases: plain folders, UncertSAM's layout, and MedSAM-U's five sources.

``open_dataset(where)`` is the door. The preparation of UncertSAM's sources is in
:mod:`napari_uncertsam.evaluation.datasets.prepare`.
"""

from napari_uncertsam.evaluation.datasets.folder import FolderDataset
from napari_uncertsam.evaluation.datasets.known import KNOWN, Known, find_known
from napari_uncertsam.evaluation.datasets.medsamu import PictureDataset, SliceDataset
from napari_uncertsam.evaluation.datasets.opening import ROOT_VARIABLE, data_root, open_dataset, open_known
from napari_uncertsam.evaluation.datasets.uncertsam import UncertSamDataset

__all__ = [
    "KNOWN",
    "ROOT_VARIABLE",
    "FolderDataset",
    "Known",
    "PictureDataset",
    "SliceDataset",
    "UncertSamDataset",
    "data_root",
    "find_known",
    "open_dataset",
    "open_known",
]
