"""Small datasets in the papers' layouts: bright ellipses, whose masks are not quite what is bright."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_uncertsam.evaluation.datasets import rle
from napari_uncertsam.prompts import Box
from tests.evaluation.datasets.makers import save
from tests.fakes import scene

SHAPE = (96, 128)


def pictures(count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """RGB images of two objects, and their labels 1 and 2."""
    for number in range(count):
        image, labels = scene(*SHAPE, Box(10, 12, 40 + number, 50), Box(55, 60, 88, 120 - number), seed=seed + number)
        yield image, np.roll(labels, number + 1, 1)


def uncertsam(root: Path, folder: str, images: int = 3, seed: int = 0) -> Path:
    """``ROOT/FOLDER/test`` in UncertSAM's published layout, two annotations an image."""
    split, annotations = root / folder / "test", []
    for number, (image, labels) in enumerate(pictures(images, seed)):
        save(split / "images" / f"{number:08d}.jpg", image, quality=95)
        for value in (1, 2):
            mask = labels == value
            identity = {"id": 10 * number + value, "image_id": number, "area": int(mask.sum())}
            annotations.append(identity | {"segmentation": rle.encode(mask)})
    path = split / "annotations" / "dataset.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"annotations": annotations}), "utf-8")
    return split


def kvasir(root: Path, images: int = 5) -> Path:
    """``ROOT/Kvasir-SEG`` as it is published."""
    folder = root / "Kvasir-SEG"
    for number, (image, labels) in enumerate(pictures(images)):
        save(folder / "images" / f"cju{number}.jpg", image, quality=95)
        save(folder / "masks" / f"cju{number}.jpg", np.stack([255 * (labels == 1).astype(np.uint8)] * 3, -1))
    return folder


def isic(root: Path, images: int = 5) -> Path:
    """``ROOT/ISIC`` as it is published."""
    folder = root / "ISIC"
    for number, (image, labels) in enumerate(pictures(images, 7)):
        save(folder / "ISIC2018_Task1-2_Training_Input" / f"ISIC_{number:07d}.jpg", image, quality=95)
        mask = 255 * (labels == 2).astype(np.uint8)
        save(folder / "ISIC2018_Task1_Training_GroundTruth" / f"ISIC_{number:07d}_segmentation.png", mask)
    return folder


def ct2us(root: Path, images: int = 5) -> Path:
    """``ROOT/CT2US`` as it is published."""
    folder = root / "CT2US"
    for number, (image, labels) in enumerate(pictures(images, 3)):
        save(folder / "slice" / "slice" / f"{number}.png", image[..., 0])
        save(folder / "mask" / "mask" / f"{number}.png", 255 * (labels == 2).astype(np.uint8))
    return folder
