"""The five datasets of MedSAM-U (Zhou et al., IEEE TCSVT 2025), read as their publishers lay them out.

The paper splits at random, 80/20 "by image", and says neither the seed, nor the interval between the slices that it
takes from volumes, nor which structures of KiTS23 it segments. Here these are options, whose defaults are readings.
Volumes are split by patient, so that no patient is on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam import io
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.datasets.cutting import check_same_grid, cut, pick_slices, upright
from napari_uncertsam.evaluation.datasets.known import Known
from napari_uncertsam.evaluation.datasets.medsamu_files import PICTURES, VOLUMES
from napari_uncertsam.evaluation.datasets.pairs import Pair, pick, read_binary, split_names
from napari_uncertsam.volume import Volume, Window


class _Split:
    """Pairs of an image, or a patient's volume, and its mask: those of one split."""

    def __init__(self, known: Known, root: Path, pairs: Mapping[str, Pair], split: str, seed: int) -> None:
        self._known, self.root = known, root
        self._pairs: dict[str, Pair] = {name: pairs[name] for name in split_names(pairs, split, seed)}

    @property
    def name(self) -> str:
        """Title of the dataset."""
        return self._known.title

    def images(self) -> Sequence[str]:
        """Names of the images or patients of the split, sorted."""
        return list(self._pairs)

    def files(self, image: str) -> Sequence[Path]:
        """Image and mask."""
        pair: Pair = pick(self._pairs, image, self.root)
        return [pair.image, pair.mask]

    @property
    def without_mask(self) -> Sequence[str]:
        """None: the publishers' files are pairs."""
        return ()


class PictureDataset(_Split):
    """2D images with one object each: ISIC 2017/2018 task 1, Kvasir-SEG, CT2US kidney.

    Of ISIC the training images are read, those of 2018 where both years are there, since the paper's number of images
    (2,594) is that of 2018.

    Parameters
    ----------
    known : Known
        Which of them.
    root : path
        The folder of the dataset, or one above it.
    split : {"test", "train", "all"}
        A fifth of the images, the rest, or all.
    seed : int
        Of the split.
    min_area : int
        Smaller objects are left out.

    Raises
    ------
    InputError
        If the dataset is not there, or a mask has no image.
    """

    def __init__(
        self, known: Known, root: str | Path, *, split: str = "test", seed: int = 0, min_area: int = 1
    ) -> None:
        super().__init__(known, Path(root), PICTURES[known.key](Path(root)), split, seed)
        self._min_area = min_area

    def load(self, image: str) -> Sequence[Case]:
        """The one case of an image; none where its mask is empty.

        Raises
        ------
        InputError
            If there is no such image, a file is damaged, or image and mask differ in shape.
        """
        pair: Pair = pick(self._pairs, image, self.root)
        volume = replace(io.read(pair.image), name=image)
        return cut(volume, read_binary(pair.mask), min_area=self._min_area, modality=self._known.modality)


class SliceDataset(_Split):
    """Axial slices of volumes: KiTS23 (CT) and BraTS21 (T1).

    The paper takes slices of "the central region" at "regular intervals", 3,882 of KiTS23's 489 cases and 4,586 of
    BraTS21's 1,251. The defaults, every third and every eighth slice of the central half of those that hold the
    object, are meant to give about as many.

    Parameters
    ----------
    known : Known
        Which of them.
    root : path
        The folder of the dataset, or one above it.
    split : {"test", "train", "all"}
        A fifth of the patients, the rest, or all.
    seed : int
        Of the split.
    every : int, optional
        Every k-th slice.
    central : float
        Share of the object's slices, around its middle one, that are looked at.
    target : str
        KiTS23: "whole" (kidney, tumour and cyst), "kidney", "masses" (tumour and cyst), "tumour" or "cyst".
        BraTS21: "whole" (tumour), "core" or "enhancing".
    components : bool
        Whether separate regions of a slice, such as two kidneys, are cases of their own (8-connected).
    min_area : int
        Smaller objects are left out.

    Raises
    ------
    InputError
        If the dataset is not there, an image is missing, or an option has no such value.
    """

    def __init__(
        self,
        known: Known,
        root: str | Path,
        *,
        split: str = "test",
        seed: int = 0,
        every: int | None = None,
        central: float = 0.5,
        target: str = "whole",
        components: bool = False,
        min_area: int = 1,
    ) -> None:
        self._source = VOLUMES[known.key]
        if target not in self._source.targets:
            raise InputError(
                f"{known.title} has no target {target!r}; choose one of {', '.join(self._source.targets)}."
            )
        self._every = self._source.every if every is None else every
        self._central, self._target, self._components, self._min_area = central, target, components, min_area
        super().__init__(known, Path(root), self._source.pairs(Path(root)), split, seed)

    def load(self, image: str) -> Sequence[Case]:
        """The cases of one patient; none where no voxel has the target's labels.

        Raises
        ------
        InputError
            If there is no such patient, a file is damaged, or image and mask differ in shape or place.
        """
        pair: Pair = pick(self._pairs, image, self.root)
        volume, mask = io.read(pair.image), io.read_labels(pair.mask)
        check_same_grid(volume, mask)
        if mask.shape != volume.shape:
            raise InputError(
                f"{image}: the image has the shape {volume.shape}, its mask {mask.shape}; they have to agree."
            )
        volume = upright(replace(volume, name=image, modality=self._source.modality))
        labels = np.isin(np.asarray(upright(mask).array), self._source.targets[self._target])
        held = np.flatnonzero(np.count_nonzero(labels, axis=(1, 2)) >= max(self._min_area, 1)).tolist()
        left_out = np.ones(len(labels), bool)
        left_out[pick_slices(held, self._every, self._central)] = False
        labels[left_out] = False
        return cut(
            volume,
            _numbered(labels) if self._components else labels,
            min_area=self._min_area,
            modality=self._known.modality,
            window=_mr_window(volume) if self._source.modality == "MR" else None,
        )


def kind_of(known: Known) -> type[PictureDataset] | type[SliceDataset]:
    """The class that reads one of the five."""
    return SliceDataset if known.key in VOLUMES else PictureDataset


def _numbered(labels: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Regions of every slice numbered from 1, row by row of their first pixel."""
    from scipy.ndimage import label

    return np.stack([label(plane, np.ones((3, 3)))[0] for plane in labels]).astype(np.int32)


def _mr_window(volume: Volume) -> Window:
    """Percentiles 0.5 to 99.5 of the voxels above 0, as MedSAM prepares MR: the skull-stripped rest is all zeros."""
    values = np.asarray(volume.array)
    inside = values[values > 0]
    return Window.percentile(inside if inside.size else values)
