"""From the files of eight publishers to UncertSAM's layout, by the steps of the paper's appendix B."""

from napari_uncertsam.evaluation.datasets.prepare.ct import segvol_window
from napari_uncertsam.evaluation.datasets.prepare.masks import split_colours, split_components
from napari_uncertsam.evaluation.datasets.prepare.samples import Options
from napari_uncertsam.evaluation.datasets.prepare.sources import source_pairs
from napari_uncertsam.evaluation.datasets.prepare.writing import Prepared, prepare

__all__ = [
    "Options",
    "Prepared",
    "prepare",
    "segvol_window",
    "source_pairs",
    "split_colours",
    "split_components",
]
