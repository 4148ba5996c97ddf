"""What is evaluated: methods, prompts, annotators, and everything else that decides the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.metrics.table import TOLERANCE
from napari_uncertsam.evaluation.simulate import PromptSpec, parse_prompt
from napari_uncertsam.evaluation.simulate.policies import find_policy
from napari_uncertsam.prediction import Settings
from napari_uncertsam.refinement.methods import make_method, parse_method
from napari_uncertsam.volume import Window


@dataclass(frozen=True)
class EvaluationSettings:
    """Part of the results, and what a continued evaluation has to keep to.

    Parameters
    ----------
    methods : tuple of str
        Names of methods, each with a measure behind a colon if it is not the method's own: "prompt:mi", which becomes
        "prompt:mutual-information". Those that differ in the measure only share their predictions.
    prompts : tuple of PromptSpec
    model : str
        Name of the model that the pipeline runs.
    zoom : bool
        Crops around the prompt, as the widget does; the papers show the whole image.
    seed : int
        Of prompts, methods, annotators and intervals.
    tolerance : float
        Of the normalised surface distance, in millimetres (pixels where no spacing is known).
    level : float
        Of the intervals.
    apart : tuple of str
        Modalities that are reported on their own and left out of the overall means.
    annotators : tuple of str
        Names of simulated annotators, which go on from every prompt that is a single prediction.
    clicks : int
        Their answers at most.
    wrong_rate : float
        How often they err, in [0, 1].
    conditioning : bool
        Whether an annotator's answers condition the mask, as in the widget, or are prompts alone, as in other tools.
        Predictions of methods are the model's alone in any case, as published.
    maps : bool
        Keep logits of every prediction, for pictures and the inspector.
    window : Window, optional
        Intensities that the model sees; by default those for every image's modality, as in the widget.

    Raises
    ------
    InputError
        If a name is not known, given twice, or a number is out of range.
    """

    methods: tuple[str, ...]
    prompts: tuple[PromptSpec, ...]
    model: str = "bundled"
    zoom: bool = True
    seed: int = 0
    tolerance: float = TOLERANCE
    level: float = 0.95
    apart: tuple[str, ...] = ()
    annotators: tuple[str, ...] = ()
    clicks: int = 10
    wrong_rate: float = 0.0
    maps: bool = True
    window: Window | None = None
    conditioning: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(map(full_name, self.methods)))
        for what, names in (
            ("method", self.methods),
            ("prompt", tuple(p.name for p in self.prompts)),
            ("annotator", self.annotators),
        ):
            if len(set(names)) < len(names) or (not names and what != "annotator"):
                raise InputError(f"An evaluation needs each {what} once and at least one; got {', '.join(names)!r}.")
        if self.annotators and not any(prompt.opens for prompt in self.prompts):
            raise InputError(
                "An annotator goes on from one prediction as a user makes it, and no prompt is one; add gt-box."
            )
        for annotator in self.annotators:
            find_policy(annotator)
        if self.seed < 0 or self.clicks < 0:
            raise InputError(f"The seed and the number of clicks are at least 0, not {self.seed} and {self.clicks}.")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise InputError(f"The tolerance {self.tolerance} is not a length; give millimetres, for example 2.")
        if not 0 < self.level < 1 or not 0 <= self.wrong_rate <= 1:
            raise InputError(
                f"A level is between 0 and 1 and a rate from 0 to 1, not {self.level} and {self.wrong_rate}."
            )

    def of_method(self, method: str) -> Settings:
        """Settings of the pipeline for one method: without suggestions, which cost time; points are prompts alone."""
        name, measure = parse_method(method)
        return Settings(self.model, name, measure, self.zoom, 0, self.seed, conditioning=False)

    def of_annotator(self) -> Settings:
        """Settings of the session that annotators work on: the first method's, with suggestions."""
        counted = Settings().n_suggestions
        return replace(self.of_method(self.methods[0]), n_suggestions=counted, conditioning=self.conditioning)

    def seen(self, case: Case) -> Case:
        """A case through the window of these settings, unless its dataset has one of its own."""
        return case if self.window is None or case.window is not None else replace(case, window=self.window)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, "settings" of :class:`~napari_uncertsam.evaluation.results.Results`."""
        return {
            "model": self.model,
            "methods": list(self.methods),
            "prompts": [spec.name for spec in self.prompts],
            "zoom": self.zoom,
            "seed": self.seed,
            "tolerance": self.tolerance,
            "level": self.level,
            "apart": list(self.apart),
            "annotators": list(self.annotators),
            "clicks": self.clicks,
            "wrong_rate": self.wrong_rate,
            "conditioning": self.conditioning,
            "maps": self.maps,
            "window": None if self.window is None else [self.window.low, self.window.high, self.window.name],
        }

    @classmethod
    def of_names(cls, methods: tuple[str, ...], prompts: tuple[str, ...], **others: Any) -> EvaluationSettings:
        """Settings with prompts by name.

        Examples
        --------
        >>> EvaluationSettings.of_names(("entropy",), ("gt-box", "3B(0.5)")).to_dict()["prompts"]
        ['gt-box', 'boxes-3-0.5']
        """
        return cls(methods, tuple(parse_prompt(name) for name in prompts), **others)


def full_name(method: str) -> str:
    """A method as tables name it, its measure written out.

    Raises
    ------
    InputError
        If there is no such method or measure, or the method does not have the measure.

    Examples
    --------
    >>> full_name("prompt:mi"), full_name("entropy")
    ('prompt:mutual-information', 'entropy')
    """
    name, measure = parse_method(method)
    if measure is None:
        return name
    own = make_method(name).measures
    if measure not in own:
        raise InputError(f"The method {name!r} has no measure {measure!r}; it has {', '.join(own)}.")
    return f"{name}:{measure}"
