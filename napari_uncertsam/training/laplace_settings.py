"""What decides a Laplace posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.laplace.curvature import Curvature

Schedule = Literal["plugin", "uncertsam"]
Choice = Literal["auto", "diagonal", "kfac", "full", "hierarchical"]


@dataclass(frozen=True)
class LaplaceSettings:
    """Everything that decides a posterior; stored with it.

    Parameters
    ----------
    structure : {"auto", "diagonal", "kfac", "full", "hierarchical"}
        "auto" keeps the best of all but "full", by held-out likelihood.
    curvature : {"bernoulli", "softmax"}
        Of all but "hierarchical": the model as written, or as the authors' code behaves.
    prior, temperature : float, optional
        None chooses by held-out likelihood; UncertSAM has 1 and 1.
    schedule : {"plugin", "uncertsam"}
        Which prompts are drawn: boxes, clicks and both as people draw them, or 1 to 8 steps of UncertSAM's schedule.
    images, prompts : int
        How many to look at, and prompts on each.
    held_out : float
        Share of the images by which is chosen.
    seed : int

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    structure: Choice = "auto"
    curvature: Curvature = "bernoulli"
    prior: float | None = None
    temperature: float | None = None
    schedule: Schedule = "plugin"
    images: int = 120
    prompts: int = 4
    held_out: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for what, value, known in (
            ("posterior structure", self.structure, get_args(Choice)),
            ("curvature", self.curvature, get_args(Curvature)),
            ("schedule of prompts", self.schedule, get_args(Schedule)),
        ):
            if value not in known:
                raise InputError(f"There is no {what} {value!r}; choose one of {', '.join(known)}.")
        if self.images < 4 or self.prompts < 1:
            raise InputError(
                f"A fit needs at least 4 images and 1 prompt on each, not {self.images} and {self.prompts}."
            )
        for name in ("prior", "temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"The {name} of a posterior is positive, not {value}.")
        if not 0 < self.held_out < 1:
            raise InputError(f"The held-out share is between 0 and 1, not {self.held_out}.")

    @classmethod
    def uncertsam(cls, **others: Any) -> LaplaceSettings:
        """As UncertSAM: diagonal, softmax curvature, prior precision and temperature 1, its prompts."""
        return cls("diagonal", "softmax", prior=1.0, temperature=1.0, schedule="uncertsam", **others)
