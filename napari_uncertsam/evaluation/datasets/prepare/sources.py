"""The eight sources of UncertSAM as their publishers lay them out: which image belongs to which mask.

A split is the publisher's of the same name where there is one. COIFT and Flare7K's test data have none, and the
Decathlon's test volumes have no masks, so there the whole is the test split; the paper trains on none of the eight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets.known import Known
from napari_uncertsam.evaluation.datasets.pairs import Pair, by_stem, paired
from napari_uncertsam.evaluation.datasets.places import find_inside


def source_pairs(known: Known, raw: Path, split: str) -> list[Pair]:
    """The images of one split with their masks, in a fixed order.

    Parameters
    ----------
    known : Known
        One of UncertSAM's eight.
    raw : path
        The folder with the publisher's files, or one above it.
    split : {"test", "val", "train"}

    Raises
    ------
    InputError
        If the publisher has no such split, the folder is laid out otherwise, or a mask has no image.
    """
    if split not in known.splits:
        raise InputError(f"The source of {known.title} has no split {split!r}; choose {' or '.join(known.splits)}.")
    if not raw.is_dir():
        raise InputError(f"There is no folder {raw}; give the one with the extracted files of {known.title}.")
    pairs = _SOURCES[known.key](raw, split)
    if not pairs:
        raise InputError(
            f"{raw} does not hold the {split} split of {known.title} as it is published, {known.layout}; get it from "
            f"{known.homepage} ({known.terms})."
        )
    return pairs


def _big(raw: Path, split: str) -> list[Pair]:
    first = find_inside(raw, f"{split}/*_im.*") or find_inside(raw, "*_im.*")
    if first is None:
        return []
    if first.parent.name != split and first.parent.name in ("test", "val"):
        return []
    return _matched(by_stem(first.parent, after="_im"), by_stem(first.parent, after="_gt"), first.parent)


def _coift(raw: Path, split: str) -> list[Pair]:
    folder = find_inside(raw, "COIFT/images") or find_inside(raw, "images")
    return _sisters(folder, "masks")


def _cod10k(raw: Path, split: str) -> list[Pair]:
    folder = find_inside(raw, f"{split.capitalize()}/Image")
    if folder is None or not (folder.parent / "GT_Instance").is_dir():
        return []
    # Images of NonCAM show no camouflaged object, and their masks are empty where there are any.
    masks = {n: p for n, p in by_stem(folder.parent / "GT_Instance").items() if "-NonCAM-" not in n}
    return _matched(by_stem(folder), masks, folder.parent)


def _msd(raw: Path, split: str) -> list[Pair]:
    folder = find_inside(raw, "imagesTr")
    return _sisters(folder, "labelsTr")


def _istd(raw: Path, split: str) -> list[Pair]:
    folder = find_inside(raw, f"{split}/{split}_A") or find_inside(raw, f"{split}_A")
    return _sisters(folder, f"{split}_B")


def _sbu(raw: Path, split: str) -> list[Pair]:
    top = {"train": "SBUTrain4KRecoveredSmall", "test": "SBU-Test"}[split]
    folder = find_inside(raw, f"{top}/ShadowImages")
    return _sisters(folder, "ShadowMasks")


def _flare7k(raw: Path, split: str) -> list[Pair]:
    pairs = []
    for part in ("real", "synthetic"):
        folder = find_inside(raw, f"test_data/{part}/input")
        if folder is not None and (folder.parent / "mask").is_dir():
            inputs, masks = by_stem(folder, before="input_"), by_stem(folder.parent / "mask", before="mask_")
            pairs += _matched(inputs, masks, folder.parent, f"{part}/")
    return pairs


def _trans10k(raw: Path, split: str) -> list[Pair]:
    name = {"val": "validation"}.get(split, split)
    pairs = []
    for inside in ("easy/", "hard/", ""):
        folder = find_inside(raw, f"{name}/{inside}images")
        # The second edition calls its masks of twelve classes masks_12.
        for masks in ("masks", "masks_12"):
            if folder is not None and (folder.parent / masks).is_dir():
                truth = by_stem(folder.parent / masks, after="_mask")
                pairs += _matched(by_stem(folder), truth, folder.parent, inside)
                break
    return pairs


def _sisters(folder: Path | None, masks: str) -> list[Pair]:
    """Pairs of equal names in a folder and in one beside it."""
    if folder is None or not (folder.parent / masks).is_dir():
        return []
    return _matched(by_stem(folder), by_stem(folder.parent / masks), folder.parent)


def _matched(images: dict[str, Path], masks: dict[str, Path], where: Path, before: str = "") -> list[Pair]:
    return [Pair(before + name, pair.image, pair.mask) for name, pair in paired(images, masks, where).items()]


_SOURCES: Mapping[str, Callable[[Path, str], list[Pair]]] = MappingProxyType(
    {
        "big": _big,
        "coift": _coift,
        "cod10k": _cod10k,
        "msd-spleen": _msd,
        "istd": _istd,
        "sbu": _sbu,
        "flare7k": _flare7k,
        "trans10k": _trans10k,
    }
)
