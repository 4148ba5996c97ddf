"""Measures of one predicted mask, its probabilities and its uncertainty against the true mask.

All work at the original resolution of the image, in double precision. Measures of pixels (scores and rankings) take
arrays of any shape, so ``measure(a[roi], b[roi])`` is the same measure inside a region. A mask is boolean or integer,
nonzero inside; probabilities are in [0, 1]. :func:`measure_case` computes all of :data:`MEASURES` at once.

Notes
-----
Correlation with the soft error ``|p - m|`` rewards whatever pushes probabilities towards 0.5; rank the *hard* error
``mask != truth`` (:func:`ause`, :func:`aurc`) and use the proper scores (:func:`nll`, :func:`brier`) to choose methods.
"""

from napari_uncertsam.evaluation.metrics.bootstrap import (
    bootstrap_correlation,
    bootstrap_interval,
    bootstrap_intervals,
    bootstrap_means,
    correlation,
    rank_correlation,
)
from napari_uncertsam.evaluation.metrics.masks import (
    boundary_iou,
    boundary_ious,
    dice,
    hard_error,
    iou,
    precision,
    recall,
    roi_of,
)
from napari_uncertsam.evaluation.metrics.ranking import Ranking, aurc, ause, pearson_rho, risk_coverage
from napari_uncertsam.evaluation.metrics.scores import (
    ReliabilityCurve,
    brier,
    ece,
    nll,
    paper_error,
    reliability_curve,
)
from napari_uncertsam.evaluation.metrics.surfaces import (
    SurfaceDistances,
    hausdorff_distance,
    surface_dice,
    surface_distances,
)
from napari_uncertsam.evaluation.metrics.table import MEASURES, Curves, Measure, Measured, measure_case

__all__ = [
    "MEASURES",
    "Curves",
    "Measure",
    "Measured",
    "Ranking",
    "ReliabilityCurve",
    "SurfaceDistances",
    "aurc",
    "ause",
    "bootstrap_correlation",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_means",
    "boundary_iou",
    "boundary_ious",
    "brier",
    "correlation",
    "dice",
    "ece",
    "hard_error",
    "hausdorff_distance",
    "iou",
    "measure_case",
    "nll",
    "paper_error",
    "pearson_rho",
    "precision",
    "rank_correlation",
    "recall",
    "reliability_curve",
    "risk_coverage",
    "roi_of",
    "surface_dice",
    "surface_distances",
]
