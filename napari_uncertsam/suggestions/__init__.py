"""Where one more answer would help, and whether an answer did help.

Pure functions on maps ``(h, w)`` over the view; positions and boxes are in grid cells, cell centres at integers.
"""

from __future__ import annotations

from napari_uncertsam.suggestions.ugpa import GridPoint, box_means, cells_in, suggest_points, uncertain_box
from napari_uncertsam.suggestions.verify import RULES, Evidence, Verification, pixelwise, verify

__all__ = [
    "RULES",
    "Evidence",
    "GridPoint",
    "Verification",
    "box_means",
    "cells_in",
    "pixelwise",
    "suggest_points",
    "uncertain_box",
    "verify",
]
