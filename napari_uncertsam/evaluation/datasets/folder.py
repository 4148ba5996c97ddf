"""A plain folder: ``images/NAME.EXT`` and ``masks/NAME.EXT``."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam import io
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.datasets.cutting import check_same_grid, cut
from napari_uncertsam.evaluation.datasets.pairs import LOSSY, Pair, by_stem, paired, pick, read_binary


class FolderDataset:
    """Images with masks of integer labels, 0 for the background; each label of each slice is a case.

    Files belong together by their names; their endings may differ. An image without a mask is not part of the dataset.
    A mask that was saved as JPEG cannot hold labels: it is read as one object, everything brighter than half of its
    largest value. Volumes (NIfTI, TIFF of several pages) are cut along plane 0 and are a group of their own; 2D images
    named ``NAME_zK`` are slices of one volume and the group NAME.

    A ``MANIFEST.csv`` in the folder, or one level up, gives modalities by its columns name, value and modality.

    Parameters
    ----------
    root : path
        The folder above images/ and masks/.
    every : int
        Of a volume, every k-th slice that holds an object becomes a case, as in :func:`cutting.pick_slices`.
    min_area : int
        Objects with fewer pixels on a slice are left out of it.

    Raises
    ------
    InputError
        If there are no images/ and masks/, a mask has no image, or nothing is left.
    """

    def __init__(self, root: str | Path, *, every: int = 1, min_area: int = 1) -> None:
        self.root = Path(root)
        self.every, self.min_area = every, min_area
        if not is_folder_dataset(self.root):
            raise InputError(f"{self.root} holds no images/ and masks/ folders; give the folder above them.")
        images, masks = (by_stem(self.root / part) for part in ("images", "masks"))
        self._pairs: dict[str, Pair] = paired(images, masks, self.root)
        self._without_mask = [name for name in images if name not in self._pairs]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name

    def images(self) -> Sequence[str]:
        """Names of the images that have a mask, sorted."""
        return list(self._pairs)

    def files(self, image: str) -> Sequence[Path]:
        """Image, mask and manifest."""
        pair: Pair = pick(self._pairs, image, self.root)
        return [pair.image, pair.mask, *([] if self._manifest is None else [self._manifest])]

    @property
    def without_mask(self) -> Sequence[str]:
        """Names of images without a mask, sorted."""
        return self._without_mask

    def load(self, image: str) -> Sequence[Case]:
        """The cases of one image by label, then by slice; none where its mask is empty.

        Raises
        ------
        InputError
            If there is no such image, a file is damaged, or image and mask differ in shape or place.
        """
        pair: Pair = pick(self._pairs, image, self.root)
        volume = io.read(pair.image)
        labels = self._labels(pair, volume)
        group = image if volume.ndim == 3 else re.sub(r"_z\d+$", "", image)
        return cut(
            volume,
            labels,
            every=self.every,
            min_area=self.min_area,
            group=group,
            modality=self._modalities.get(image, "unknown"),
        )

    def _labels(self, pair: Pair, volume: Any) -> NDArray[Any]:
        if pair.mask.name.lower().endswith(LOSSY):
            return read_binary(pair.mask)
        mask = io.read_labels(pair.mask)
        check_same_grid(volume, mask)
        return np.asarray(mask.array)

    @cached_property
    def _manifest(self) -> Path | None:
        places = (self.root / "MANIFEST.csv", self.root.resolve().parent / "MANIFEST.csv")
        return next((path for path in places if path.is_file()), None)

    @cached_property
    def _modalities(self) -> dict[str, dict[int, str]]:
        return {} if self._manifest is None else _read_manifest(self._manifest)


def is_folder_dataset(folder: Path) -> bool:
    """Whether a folder has the layout of a :class:`FolderDataset`."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _read_manifest(path: Path) -> dict[str, dict[int, str]]:
    """Modality by name and label."""
    modalities: dict[str, dict[int, str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            for row in csv.DictReader(stream):
                modalities.setdefault(row["name"], {})[int(row["value"])] = row["modality"]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is no manifest; it needs the columns name, value (a whole number) and modality."
        ) from error
    return modalities
