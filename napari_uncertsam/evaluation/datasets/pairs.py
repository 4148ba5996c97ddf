"""Images and masks that belong together by their names, masks of one object, and seeded splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam import io
from napari_uncertsam.errors import InputError

#: Endings of files that do not keep exact values.
LOSSY = (".jpg", ".jpeg")
#: Share of the images (or patients) that MedSAM-U keeps for its test.
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    name: str
    image: Path
    mask: Path


def stem(path: Path) -> str:
    """Name of an image file without its ending, ``.nii.gz`` included.

    Examples
    --------
    >>> stem(Path("a.b.nii.gz")), stem(Path("c.PNG"))
    ('a.b', 'c')
    """
    ending = next((s for s in io.SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def by_stem(
    folder: Path, suffixes: Sequence[str] = io.SUFFIXES, *, before: str = "", after: str = ""
) -> dict[str, Path]:
    """Files of a folder by the part of their name between `before` and `after` plus ending, sorted.

    Files with other names, hidden ones included, are left out.

    Raises
    ------
    InputError
        If there is no such folder, or two files share a name.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; check the name.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if path.name.startswith(".") or not path.name.lower().endswith(tuple(suffixes)) or not name.endswith(after):
            continue
        if not name.startswith(before):
            continue
        name = name[len(before) : len(name) - len(after)]
        if name in found:
            raise InputError(f"{folder} holds both {found[name].name} and {path.name}; keep one of them.")
        found[name] = path
    return found


def paired(images: dict[str, Path], masks: dict[str, Path], where: Path) -> dict[str, Pair]:
    """Pairs by name, sorted; images without a mask are left out.

    Raises
    ------
    InputError
        If a mask has no image, or there is no pair at all.
    """
    for name, path in masks.items():
        if name not in images:
            raise InputError(f"The mask {path} has no image of the same name; add the image or remove the mask.")
    pairs = {name: Pair(name, images[name], masks[name]) for name in sorted(masks)}
    if not pairs:
        raise InputError(f"{where} holds no image with a mask of the same name.")
    return pairs


def pick(pairs: dict[str, Any], name: str, where: Path) -> Any:
    """The entry of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in pairs:
        raise InputError(f"{where} holds no image {name!r} with a mask; names come from images().")
    return pairs[name]


def read_binary(path: Path) -> NDArray[np.bool_]:
    """A mask of one object, coded 0/255 or 0/1, possibly as JPEG.

    Values above 127, or above 0 if none exceeds 1. JPEG blurs: there, what is brighter than half of the brightest.

    Returns
    -------
    (H, W) bool

    Raises
    ------
    InputError
        As `io.read_labels`, and if whole areas of a JPEG have values in between, as a mask of several labels has.
    """
    if not path.name.lower().endswith(LOSSY):
        values = np.asarray(io.read_labels(path).array)
        binary: NDArray[np.bool_] = values > (127 if values.max(initial=0) > 1 else 0)
        return binary
    volume = io.read(path)
    pixels = np.asarray(volume.array)
    levels = (pixels[..., :3].mean(axis=-1) if volume.rgb else pixels).astype(np.float32)
    top = float(levels.max(initial=0))
    between = (levels > 0.25 * top) & (levels < 0.75 * top)
    if between.any():
        from scipy.ndimage import binary_erosion

        # Softened edges are thin; what survives three rounds of erosion is an area.
        if binary_erosion(between, np.ones((3, 3)), iterations=3).any():
            raise InputError(
                f"{path.name} is a JPEG and seems to hold several labels, which JPEG blurs; save it as PNG."
            )
    bright: NDArray[np.bool_] = (levels > 0.5 * top) & (top > 0)
    return bright


def split_names(names: Iterable[str], split: str, seed: int) -> list[str]:
    """The names of one part of a random 80/20 split, sorted.

    Parameters
    ----------
    names : iterable of str
        Of images, or of patients: what must not be torn apart.
    split : {"test", "train", "all"}
        A fifth, the rest, or everything.
    seed : int
        The same names and seed give the same split.

    Raises
    ------
    InputError
        If there is no such split.

    Examples
    --------
    >>> split_names("abcdefghij", "test", 0)
    ['e', 'g']
    """
    if split not in ("test", "train", "all"):
        raise InputError(f"There is no split {split!r}; choose test, train or all.")
    ordered = sorted(set(names))
    if split == "all":
        return ordered
    shuffled = np.random.default_rng(seed).permutation(len(ordered))
    count = max(1, round(TEST_SHARE * len(ordered)))
    chosen = shuffled[:count] if split == "test" else shuffled[count:]
    return [ordered[i] for i in sorted(chosen.tolist())]
