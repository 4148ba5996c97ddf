"""Where training images come from: drawn scenes, or a dataset folder with true masks.

A source gives a different image every time, and the same ones for the same generator.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.errors import InputError
from napari_uncertsam.intensity import Window
from napari_uncertsam.prompts import Box
from napari_uncertsam.training.steps import MAX_OBJECTS
from napari_uncertsam.training.synthetic import Scene, make_scene
from napari_uncertsam.view import ZOOM, View
from napari_uncertsam.volume import Volume

Framing = Literal["zoom", "whole"]
#: Bytes of images and masks that are kept in memory between draws.
CACHE_BYTES = 1 << 30
#: Draws before a folder is taken to have no object that can be seen at the model's resolution.
ATTEMPTS = 100


class Source(Protocol):
    """Gives training images."""

    @property
    def name(self) -> str:
        """Which images these are: a run is continued with the same only."""

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        """A ``(3, size, size)`` image with 1 to 32 masks, none empty; the same for the same state of `generator`."""


class ObjectCase(Protocol):
    """One object on one slice; `napari_uncertsam.evaluation.cases.Case` is one."""

    @property
    def volume(self) -> Volume:
        """The image, shared by its objects."""

    @property
    def truth(self) -> NDArray[np.bool_]:
        """The object, ``(H, W)``."""

    @property
    def plane(self) -> int:
        """Array axis that the slice is perpendicular to."""

    @property
    def slice_index(self) -> int:
        """Which slice."""

    @property
    def seen_through(self) -> Window:
        """The window that the model sees the slice through."""


class LabelledImages(Protocol):
    """Images with true masks; `napari_uncertsam.evaluation.cases.Dataset` is one."""

    @property
    def name(self) -> str:
        """For people."""

    def images(self) -> Sequence[str]:
        """Names of the images."""

    def load(self, image: str) -> Sequence[Any]:
        """The :class:`ObjectCase` of each object of one image; none where its mask is empty."""


@dataclass(frozen=True)
class SyntheticSource:
    """Drawn scenes of :func:`napari_uncertsam.training.synthetic.make_scene`.

    Parameters
    ----------
    zoom : float
        Share of scenes whose camera crops around an object.
    max_objects : int
    """

    zoom: float = 0.75
    max_objects: int = 6

    @property
    def name(self) -> str:
        """Says that they are synthetic."""
        return "synthetic scenes"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        """A scene; they have no preferred side, so none is mirrored."""
        return make_scene(generator, size, zoom=self.zoom, max_objects=self.max_objects)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """One image of a dataset in memory."""

    cases: Sequence[ObjectCase]
    window: Window

    @property
    def nbytes(self) -> int:
        volumes = {id(case.volume): case.volume for case in self.cases}.values()
        arrays = sum(int(np.prod(v.array.shape)) * v.dtype.itemsize for v in volumes)
        return arrays + sum(case.truth.nbytes for case in self.cases)


@dataclass(eq=False)
class CaseSource:
    """Images of a dataset: one drawn uniformly, then one of its objects, and the others on the same slice.

    Parameters
    ----------
    dataset : LabelledImages
    images : sequence of str, optional
        Only these of its images.
    framing : {"zoom", "whole"}
        A square around the object as the plugin looks at it, up to 1.5 times as wide as it grows; or the whole slice,
        squashed to a square as in the paper.
    flip : float
        Share of images that are mirrored, left to right.
    cache_bytes : int
        Memory for images that are in use, so that a volume is not read again for each of its slices.

    Raises
    ------
    InputError
        If there are no images.
    """

    dataset: LabelledImages
    images: Sequence[str] | None = None
    framing: Framing = "zoom"
    flip: float = 0.5
    cache_bytes: int = CACHE_BYTES
    _cache: OrderedDict[str, _Loaded] = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self) -> None:
        self.images = list(self.dataset.images() if self.images is None else self.images)
        if not self.images:
            raise InputError(f"There are no images with masks in {self.dataset.name}; give another folder.")

    @property
    def name(self) -> str:
        """Dataset, number of images and how they are framed."""
        return f"{self.dataset.name}, {len(self.images or ())} images, {self.framing}"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        """An image of the dataset.

        Raises
        ------
        InputError
            If a file cannot be read, or no object is large enough to be seen at that size.
        """
        for _ in range(ATTEMPTS):
            names = self.images or ()
            loaded = self._load(names[_pick(len(names), generator)])
            if loaded.cases:
                scene = self._scene(loaded, generator, size)
                if scene is not None:
                    return scene
        raise InputError(
            f"No object of {self.dataset.name} was found that can be seen in {size} x {size} pixels; "
            "check the masks, or give another folder."
        )

    def _load(self, name: str) -> _Loaded:
        if name not in self._cache:
            cases = self.dataset.load(name)
            # Of a volume's percentiles all of it is read, which is why the window is kept.
            self._cache[name] = _Loaded(cases, cases[0].seen_through if cases else Window(0, 1))
            while len(self._cache) > 1 and sum(e.nbytes for e in self._cache.values()) > self.cache_bytes:
                self._cache.popitem(last=False)
        self._cache.move_to_end(name)
        return self._cache[name]

    def _scene(self, loaded: _Loaded, generator: torch.Generator, size: int) -> Scene | None:
        """One object and the others on its slice; None if it vanishes at that size."""
        chosen = loaded.cases[_pick(len(loaded.cases), generator)]
        others = [
            case
            for case in loaded.cases
            if case is not chosen and (case.plane, case.slice_index) == (chosen.plane, chosen.slice_index)
        ]
        order = torch.randperm(len(others), generator=generator)[: MAX_OBJECTS - 1].tolist()
        view = self._view(chosen.truth, generator)
        seen = [chosen.truth, *(others[k].truth for k in order if _mostly_in(others[k].truth, view))]
        masks = resized_masks(np.stack([view.crop(mask) for mask in seen]), size)
        if not masks[0].any():
            return None
        image = loaded.window.apply(view.crop(chosen.volume.slice(chosen.plane, chosen.slice_index)))
        masks, picture = masks[masks.flatten(1).any(1)], resized_image(image, size)
        if torch.rand((), generator=generator) < self.flip:
            masks, picture = masks.flip(-1), picture.flip(-1)
        return Scene(picture, masks)

    def _view(self, truth: NDArray[np.bool_], generator: torch.Generator) -> View:
        (height, width), wider = truth.shape, 1 + 0.5 * torch.rand((), generator=generator).item()
        if self.framing == "whole":
            return View.whole(height, width)
        return View.around(Box.of_mask(truth), height, width, wider * ZOOM)


@dataclass(frozen=True)
class TrainingData:
    """What a head learns from, and what tells when to stop."""

    training: Source
    validation: Source


def synthetic_data() -> TrainingData:
    """Drawn scenes; those for validation come from another seed."""
    return TrainingData(SyntheticSource(), SyntheticSource())


def dataset_data(
    dataset: LabelledImages, *, seed: int = 0, held_out: float = 0.1, framing: Framing = "zoom"
) -> TrainingData:
    """A dataset with a tenth of its images, drawn by the seed, held out for validation.

    Parameters
    ----------
    dataset : LabelledImages
    seed : int
    held_out : float
        Share for validation; at least one image.
    framing : {"zoom", "whole"}
        See :class:`CaseSource`.

    Raises
    ------
    InputError
        If there are fewer than two images.
    """
    names = list(dataset.images())
    if len(names) < 2:
        raise InputError(f"{dataset.name} has {len(names)} images with masks; training needs at least 2, one to check.")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, round(held_out * len(names)))
    held, rest = ([names[k] for k in sorted(part)] for part in (order[:count], order[count:]))
    return TrainingData(
        CaseSource(dataset, rest, framing), CaseSource(dataset, held, framing, flip=0.0, cache_bytes=CACHE_BYTES // 4)
    )


def resized_image(image: NDArray[np.uint8], size: int) -> Tensor:
    """An ``(H, W, 3)`` uint8 picture as the model gets it: ``(3, size, size)`` float32 in [0, 1], antialiased."""
    tensor = torch.as_tensor(np.array(image, order="C")).movedim(-1, 0)[None].float() / 255
    return F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)


def resized_masks(masks: NDArray[np.bool_], size: int) -> Tensor:
    """Masks ``(n, H, W)`` at the model's resolution, ``(n, size, size)`` bool: what lies at a pixel's centre."""
    tensor = torch.as_tensor(np.array(masks, np.uint8))[:, None]
    return F.interpolate(tensor, (size, size), mode="nearest-exact")[:, 0] > 0


def _pick(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _mostly_in(truth: NDArray[np.bool_], view: View) -> bool:
    """Whether at least half of an object lies in the view: a sliver at the border is not what its prompts would say."""
    return bool(2 * truth[view.inside(truth.shape[0], truth.shape[1])].sum() >= truth.sum())
