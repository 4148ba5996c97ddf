"""From one pair of files of a publisher to the pictures and masks that UncertSAM's layout holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam import io
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets.cutting import check_same_grid, upright
from napari_uncertsam.evaluation.datasets.known import Known
from napari_uncertsam.evaluation.datasets.pairs import LOSSY, Pair, read_binary
from napari_uncertsam.evaluation.datasets.prepare.ct import segvol_window
from napari_uncertsam.evaluation.datasets.prepare.masks import (
    CLOSINGS,
    MIN_PIXELS,
    split_colours,
    split_components,
)
from napari_uncertsam.volume import Window

#: Of the JPEGs that are written, without subsampling of the colours.
QUALITY = 95
_ORIENTATION = 0x0112  # tag of EXIF


@dataclass(frozen=True)
class Options:
    """What the paper leaves open, or what somebody may want otherwise.

    Parameters
    ----------
    min_pixels, closings : int
        As in :func:`masks.split_components`.
    quality : int
        Of JPEGs, 1 to 95. Pictures that are JPEGs already are copied, not compressed twice.
    """

    min_pixels: int = MIN_PIXELS
    closings: int = CLOSINGS
    quality: int = QUALITY

    def __post_init__(self) -> None:
        if self.min_pixels < 0 or self.closings < 0 or not 1 <= self.quality <= 95:
            raise InputError(f"{self} cannot be prepared with; counts start at 0, and the quality is from 1 to 95.")


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture with its masks.

    Parameters
    ----------
    source : str
        Name of the file that it came from, and the slice.
    group : str
        Samples of one group are not independent.
    picture : (H, W) or (H, W, 3) uint8, or Path
        Pixels, or a JPEG to copy.
    masks : list of (H, W) bool
        None of them empty, at the resolution of the picture.
    """

    source: str
    group: str
    picture: NDArray[np.uint8] | Path
    masks: list[NDArray[np.bool_]]

    def write(self, path: Path, quality: int) -> None:
        """Write the picture as a JPEG, over an older one; a path to copy is copied byte by byte."""
        with io.atomic(path, overwrite=True) as temporary:
            if isinstance(self.picture, Path):
                temporary.write_bytes(self.picture.read_bytes())
            else:
                from PIL import Image

                Image.fromarray(self.picture).save(temporary, quality=quality, subsampling=0)


def samples(known: Known, pair: Pair, options: Options) -> Iterator[Sample]:
    """The samples of one pair with at least one object, in a fixed order.

    Raises
    ------
    InputError
        If a file is damaged, or image and mask do not fit.
    """
    if known.ct:
        yield from _slices(pair)
        return
    masks = _objects(known, pair.mask, options)
    if masks:
        yield Sample(pair.name, pair.name, _picture(pair, masks[0].shape), masks)


def _slices(pair: Pair) -> Iterator[Sample]:
    """The axial slices of a CT that hold foreground."""
    volume, mask = io.read(pair.image), io.read_labels(pair.mask)
    if volume.shape != mask.shape or volume.ndim != 3:
        raise InputError(
            f"{pair.image} has the shape {volume.shape}, its mask {mask.shape}; both have to be one volume."
        )
    check_same_grid(volume, mask)
    volume, labels = upright(volume), np.asarray(upright(mask).array)
    window = segvol_window(np.asarray(volume.array))
    for z in np.flatnonzero(labels.any(axis=(1, 2))).tolist():
        picture = np.ascontiguousarray(window.apply(volume.slice(0, z))[..., 0])
        yield Sample(f"{pair.name}/z{z}", pair.name, picture, [labels[z] > 0])


def _objects(known: Known, path: Path, options: Options) -> list[NDArray[np.bool_]]:
    """The masks of the objects of an image, by the steps of its dataset."""
    masks: list[NDArray[np.bool_]]
    if known.colours:
        colours: NDArray[Any] = np.asarray(io.read(path).array)
        masks = split_colours(colours, min_pixels=options.min_pixels if known.components else 0)
    else:
        masks = [_coloured(path) if known.key == "trans10k" else read_binary(path)]
    if known.components:
        masks = [
            part
            for mask in masks
            for part in split_components(mask, min_pixels=options.min_pixels, closings=options.closings)
        ]
    return [mask for mask in masks if mask.any()]


def _coloured(path: Path) -> NDArray[np.bool_]:
    """Whatever is not black: Trans10K paints things red and stuff white, and UncertSAM does not tell them apart."""
    volume = io.read(path)
    values = np.asarray(volume.array)
    return np.asarray(values[..., :3].any(axis=-1) if volume.rgb else values != 0)


def _picture(pair: Pair, shape: tuple[int, ...]) -> NDArray[np.uint8] | Path:
    """Pixels that fit a mask, or the file itself where it is a plain JPEG that does."""
    volume = io.read(pair.image)
    if volume.ndim != 2:
        raise InputError(f"{pair.image} holds a volume, shape {volume.shape}; a picture is needed.")
    turned = None
    if pair.image.name.lower().endswith(LOSSY) and _is_jpeg(pair.image):
        from PIL import ImageOps, JpegImagePlugin

        with JpegImagePlugin.JpegImageFile(pair.image) as image:
            if image.getexif().get(_ORIENTATION, 1) == 1:
                if volume.shape == shape and image.mode in ("L", "RGB"):
                    return pair.image
            elif volume.shape != shape:
                # Photographs lie on their side where their masks were drawn on what a viewer showed.
                turned = np.asarray(ImageOps.exif_transpose(image.convert("RGB")))
    if turned is not None and turned.shape[:2] == shape:
        return turned
    if volume.shape != shape:
        raise InputError(
            f"{pair.image} has {volume.shape} pixels, its mask {pair.mask.name} {shape}; they have to agree."
        )
    picture = Window.for_volume(volume).apply(volume.slice())
    return picture if volume.rgb else np.ascontiguousarray(picture[..., 0])


def _is_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\xff\xd8"
