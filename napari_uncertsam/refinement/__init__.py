"""Automatic refinement: propose prompts from the uncertainty, predict again, keep the result only if it is verified."""

from __future__ import annotations

from napari_uncertsam.refinement.rounds import Refinement, Round, refine
from napari_uncertsam.refinement.settings import PAPER, PRESETS, RECOMMENDED, UgpaSettings

__all__ = ["PAPER", "PRESETS", "RECOMMENDED", "Refinement", "Round", "UgpaSettings", "refine"]
