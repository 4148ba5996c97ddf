"""Simulated prompts, and a simulated annotator that answers from the ground truth.

`boxes` and `clicks` draw single prompts, `prompts` names what a case is prompted with (``box-0.5``,
``points-10+box-0.5``), `annotator` works on a session with one of the `policies`, and `effort` says how many answers it
took.
"""

from __future__ import annotations

from napari_uncertsam.evaluation.simulate.annotator import AnnotationRun, Click, annotate
from napari_uncertsam.evaluation.simulate.boxes import TOLERANCE, box_at_overlap, noisy_box
from napari_uncertsam.evaluation.simulate.clicks import centre_click, error_click, random_click, random_clicks
from napari_uncertsam.evaluation.simulate.effort import AnnotationSummary, clicks_to_reach, summarise_runs
from napari_uncertsam.evaluation.simulate.policies import POLICIES, Policy, Question
from napari_uncertsam.evaluation.simulate.prompts import PromptSpec, parse_prompt, parse_prompts

__all__ = [
    "POLICIES",
    "TOLERANCE",
    "AnnotationRun",
    "AnnotationSummary",
    "Click",
    "Policy",
    "PromptSpec",
    "Question",
    "annotate",
    "box_at_overlap",
    "centre_click",
    "clicks_to_reach",
    "error_click",
    "noisy_box",
    "parse_prompt",
    "parse_prompts",
    "random_click",
    "random_clicks",
    "summarise_runs",
]
