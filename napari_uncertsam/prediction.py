"""The values that go into and come out of the pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief
from napari_uncertsam.estimators.field import MaskField
from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.prompts import Prompts, Suggestion
from napari_uncertsam.refinement.rounds import RECOMMENDED, Round, UgpaSettings
from napari_uncertsam.suggestions.quality import Quality
from napari_uncertsam.view import View
from napari_uncertsam.volume import Window

#: How places to ask about are found.
Suggest = Literal["information", "mutual-information", "entropy"]
#: An answer that is expected to correct less than this share of the object's area is not worth a click.
WORTH_ASKING = 0.005


@dataclass(frozen=True)
class Settings:
    """What the user chose, apart from prompts; part of every request.

    Parameters
    ----------
    model : str
        Name of the model; the pipeline's engine must be that model.
    method : str
        See `napari_uncertsam.refinement.methods.METHODS`.
    measure : Measure, optional
        Which number of the belief the uncertainty map shows; None for the method's own.
    zoom : bool
        Embed a crop around the prompt (default) or the whole slice.
    n_suggestions : int
        How many points are suggested at most, with a box; 0 suggests nothing.
    seed : int
        Of everything random in a prediction: the same request gives the same prediction.
    ugpa : UgpaSettings
        How suggestions are drawn and the automatic round refines.
    rounds : int
        Automatic rounds per "Refine by uncertainty".
    suggest : {"information", "mutual-information", "entropy"}
        Points by how much an answer is expected to correct, by what it says of the model's last layer (BALD), or the
        most uncertain ones (UGPA).
    conditioning : bool
        Clicks are corrections: the model gets its mask of the clicks before back with each
        (:mod:`napari_uncertsam.feeding_back`), and they condition the field of the belief, so that the mask honours
        them (:mod:`napari_uncertsam.answering`). Without, all prompts are one question, and the model alone decides
        what to make of it, as in the papers.

    Raises
    ------
    InputError
        If a number is negative.
    """

    model: str = "bundled"
    method: str = "laplace"
    measure: Measure | None = None
    zoom: bool = True
    n_suggestions: int = 5
    seed: int = 0
    ugpa: UgpaSettings = RECOMMENDED
    rounds: int = 1
    suggest: Suggest = "information"
    conditioning: bool = True

    def __post_init__(self) -> None:
        for name in ("n_suggestions", "seed", "rounds"):
            if getattr(self, name) < 0:
                raise InputError(f"The setting {name} = {getattr(self, name)} is negative; give 0 or more.")
        if self.suggest not in get_args(Suggest):
            raise InputError(f"There is no way {self.suggest!r} to suggest; choose {', '.join(get_args(Suggest))}.")


@dataclass(frozen=True)
class Request:
    """Everything that affects a prediction; equal requests have equal predictions.

    Parameters
    ----------
    image_id : str
        Identity of the volume among those open.
    plane, slice_index : int
        See :meth:`napari_uncertsam.volume.Volume.slice`.
    window : Window
    view : View or None
        None chooses by the prompts (or the whole slice without zoom).
    object_id : int
        Value of the object in the label map.
    prompts : Prompts
        In slice coordinates (the mask prompt in the view's frame).
    settings : Settings
    """

    image_id: str
    plane: int
    slice_index: int
    window: Window
    view: View | None
    object_id: int
    prompts: Prompts
    settings: Settings


@dataclass(frozen=True, eq=False)
class Maps:
    """Mask, probability and uncertainty of one object on one slice; kept for the view only, zero elsewhere.

    Parameters
    ----------
    shape : (int, int)
        Of the slice.
    rows, columns : slice
        Where the local arrays lie in it.
    local_mask : (h, w) bool
    local_probability : (h, w) float32 in [0, 1]
    local_uncertainty : (h, w) float32
        Of the measure that was asked for: entropy and mutual information in [0, ln 2] nats, standard deviation in
        [0, 0.5].
    """

    shape: tuple[int, int]
    rows: slice
    columns: slice
    local_mask: NDArray[np.bool_]
    local_probability: NDArray[np.float32]
    local_uncertainty: NDArray[np.float32]

    def _full(self, local: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros(self.shape, local.dtype)
        out[self.rows, self.columns] = local
        return out

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, a new array."""
        return self._full(self.local_mask)

    @property
    def probability(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1], a new array."""
        return self._full(self.local_probability)

    @property
    def uncertainty(self) -> NDArray[np.float32]:
        """(H, W) float32, a new array."""
        return self._full(self.local_uncertainty)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model believes about one object on one slice.

    Parameters
    ----------
    request : Request
    belief : Belief
        On the low-resolution grid of `view`.
    view : View
        What the model saw.
    maps : Maps
    suggestions : tuple of Suggestion
        In slice coordinates, most useful first; a box at most once, last where its use is not known.
    mean_uncertainty : float
        Of the uncertainty map, over the region of interest (the object, its prompts, and a margin).
    area_px : float
        Area of the mask in slice pixels.
    area_interval : (float, float)
        90 % interval of the area in slice pixels.
    seconds : mapping
        "embed", "decode", "measure", "total".
    record : mapping
        Model, checkpoint hash, device, seed, versions.
    uncertain_px : float
        The uncertain area: how many pixels the mask is expected to have wrong, ``sum min(P, 1 - P)`` over the view.
    quality : Quality, optional
        Expected Dice of the mask with its 90 % interval; None where the belief cannot tell.
    field : MaskField, optional
        Of which suggestions and quality were made, and which the next answer conditions.
    provisional : bool
        Made at once from the prediction before by the closed form, while the model decodes.
    """

    request: Request
    belief: Belief
    view: View
    maps: Maps
    suggestions: tuple[Suggestion, ...]
    mean_uncertainty: float
    area_px: float
    area_interval: tuple[float, float]
    seconds: Mapping[str, float]
    record: Mapping[str, Any]
    uncertain_px: float = 0.0
    quality: Quality | None = None
    field: MaskField | None = None
    provisional: bool = False

    @property
    def gain_px(self) -> float:
        """By how much the best answer is expected to reduce the uncertain area, in pixels; 0 without a suggestion."""
        return max((s.gain for s in self.suggestions if math.isfinite(s.gain)), default=0.0)

    @property
    def worth_asking(self) -> bool:
        """Whether another click is expected to help noticeably: by :data:`WORTH_ASKING` of the object's area."""
        return bool(self.gain_px >= WORTH_ASKING * max(self.area_px, 1.0))

    @property
    def predicted_iou(self) -> float | None:
        """SAM's own estimate of its mask's quality, where it gives one."""
        return self.belief.predicted_iou

    @property
    def nbytes(self) -> int:
        """Memory of the maps, the belief and the field, in bytes."""
        held = [self.maps, self.belief, *(() if self.field is None else (self.field, *self.field.steps))]
        arrays = {id(a): a.nbytes for part in held for a in vars(part).values() if isinstance(a, np.ndarray)}
        return sum(arrays.values())


@dataclass(frozen=True, eq=False)
class RefinedPrediction:
    """Outcome of "Refine by uncertainty": `prediction` is `before` when no round was accepted."""

    before: Prediction
    prediction: Prediction
    rounds: tuple[Round, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether any round was kept."""
        return any(r.accepted for r in self.rounds)
