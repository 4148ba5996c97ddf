"""Looking at failures: cases or slices with their measures, in an order that brings the bad ones up, and their maps.

Everything the inspector knows without a window. A :class:`Source` has findings, one per line of its table, and can show
each of them: :func:`compare` makes one of arrays, :func:`open_evaluation` of an evaluation's folder.
"""

from napari_uncertsam.evaluation.inspection.comparing import Comparison, Inputs, compare
from napari_uncertsam.evaluation.inspection.findings import (
    NO_FILTER,
    PRESETS,
    Digest,
    Filter,
    Finding,
    Picture,
    Preset,
    Scene,
    Source,
    findings_as_csv,
    pooled_curve,
    reliability_of,
)
from napari_uncertsam.evaluation.inspection.pairing import PAIRINGS, Overlap, Pair, PairingName, pairs_of, scan
from napari_uncertsam.evaluation.inspection.stacks import Stack
from napari_uncertsam.evaluation.inspection.stored import StoredEvaluation, open_evaluation

__all__ = [
    "NO_FILTER",
    "PAIRINGS",
    "PRESETS",
    "Comparison",
    "Digest",
    "Filter",
    "Finding",
    "Inputs",
    "Overlap",
    "Pair",
    "PairingName",
    "Picture",
    "Preset",
    "Scene",
    "Source",
    "Stack",
    "StoredEvaluation",
    "compare",
    "findings_as_csv",
    "open_evaluation",
    "pairs_of",
    "pooled_curve",
    "reliability_of",
    "scan",
]
