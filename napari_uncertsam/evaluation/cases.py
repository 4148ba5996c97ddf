"""What is evaluated: one object on one slice with its truth, and where such cases come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.volume import Volume, Window


@dataclass(frozen=True, eq=False)
class Case:
    """One object on one slice.

    Parameters
    ----------
    image : str
        Name of the image or volume in its dataset.
    value : int
        Label of the object in the mask, or number of the annotation.
    volume : Volume
        The image; shared by the cases of one image.
    truth : (H, W) bool
        The object on the slice, at the original resolution; not empty.
    plane, slice_index : int
        As in :meth:`napari_uncertsam.volume.Volume.slice`.
    group : str
        Cases of one group (a patient, a volume, an image) are not independent; intervals draw whole groups.
    modality : str
        For tables; "unknown" where nobody says.
    window : Window, optional
        Intensities that the model sees; by default those for the volume's modality.

    Raises
    ------
    InputError
        If the truth is empty or has another shape than the slice.
    """

    image: str
    value: int
    volume: Volume
    truth: NDArray[np.bool_]
    plane: int = 0
    slice_index: int = 0
    group: str = ""
    modality: str = "unknown"
    window: Window | None = None

    def __post_init__(self) -> None:
        truth = np.asarray(self.truth)
        shape = self.volume.plane_shape(self.plane)
        if truth.shape != shape:
            raise InputError(f"{self.image}: the image has {shape} pixels, its mask {truth.shape}; they have to agree.")
        if not truth.any():
            raise InputError(f"{self.key}: the object is empty, so there is nothing to compare with.")
        object.__setattr__(self, "truth", truth != 0)
        object.__setattr__(self, "group", self.group or self.image)

    @property
    def key(self) -> str:
        """Identity in the dataset: image, slice (of a volume) and object."""
        where = f"/z{self.slice_index}" if self.volume.ndim == 3 else ""
        return f"{self.image}{where}/{self.value}"

    @property
    def spacing(self) -> tuple[float, float]:
        """Millimetres between rows and columns; 1 where nothing is known, and lengths are then in pixels."""
        return self.volume.plane_spacing(self.plane)

    @property
    def unit(self) -> str:
        """Of lengths: "mm", or "px" where no spacing is known."""
        known = self.volume.affine is not None or any(step != 1 for step in self.volume.spacing)
        return "mm" if known else "px"

    @property
    def seen_through(self) -> Window:
        """The window that the model sees the slice through."""
        return self.window or Window.for_volume(self.volume)


@runtime_checkable
class Dataset(Protocol):
    """Images with true masks, read one image at a time."""

    @property
    def name(self) -> str:
        """For titles, such as "BIG"."""

    @property
    def root(self) -> Path:
        """The folder that it was read from."""

    def images(self) -> Sequence[str]:
        """Names of the images, in a fixed order; cheap."""

    def files(self, image: str) -> Sequence[Path]:
        """What the cases of an image are read from; results are out of date once one of them has changed."""

    @property
    def without_mask(self) -> Sequence[str]:
        """Names of images that are there, but have no mask to compare with."""

    def load(self, image: str) -> Sequence[Case]:
        """The cases of one image, in a fixed order; none where its mask is empty.

        Raises
        ------
        InputError
            If a file is missing, damaged or does not fit.
        """


def case_rng(seed: int, key: str, purpose: str) -> np.random.Generator:
    """A generator that depends on the case and the purpose only, not on what else is evaluated or in which order.

    Examples
    --------
    >>> a, b = (case_rng(0, "coins/1", "box-0.5").random() for _ in range(2))
    >>> a == b
    True
    """
    digest = hashlib.sha256(f"{key}|{purpose}".encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32).tolist()])
