"""Make `sample_data/shapes`: tiny 2D images with masks, in the folder layout that `napari-uncertsam evaluate` reads.

    python sample_data/make_shapes.py [--seed 3] [--out sample_data/shapes]

Six pictures of one to four blobs each (random Fourier contours) on a textured ground, at falling contrast, with blur,
uneven light and noise. Two of them are in colour. Masks hold one label per blob, 0 for the ground.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIZE = 128
CONTRASTS = (0.45, 0.35, 0.28, 0.22, 0.16, 0.12)


def texture(rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    """Smooth noise of zero mean and unit variance."""
    noise = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), scale, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def blob(rng: np.random.Generator, centre: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """A closed contour with five random harmonics."""
    y, x = np.mgrid[:SIZE, :SIZE]
    angle = np.arctan2(y - centre[0], x - centre[1])
    edge = np.full(angle.shape, radius)
    for harmonic in range(2, 7):
        edge += radius * rng.normal(0, 0.25 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(y - centre[0], x - centre[1]) < edge


def picture(rng: np.random.Generator, contrast: float, count: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Grey values in [0, 1] and labels, blobs kept apart from each other."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    grey = 0.45 + 0.05 * texture(rng, 12) + 0.03 * texture(rng, 2.5)
    label = 0
    while label < count:
        shape = blob(rng, rng.uniform(24, SIZE - 24, 2), rng.uniform(11, 22))
        if (labels[ndimage.binary_dilation(shape, iterations=4)] > 0).any():
            continue
        label += 1
        labels[shape] = label
        grey[shape] += contrast * rng.choice((-1, 1)) + 0.04 * texture(rng, 3)[shape]
    grey = ndimage.gaussian_filter(grey, rng.uniform(0.7, 1.4)) + 0.06 * texture(rng, 40)
    return np.clip(grey + rng.normal(0, 0.025, grey.shape), 0, 1), labels


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "shapes")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    for folder in ("images", "masks"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    for index, contrast in enumerate(CONTRASTS):
        grey, labels = picture(rng, contrast, 1 + index % 4)
        if index % 3 == 2:
            tint = rng.uniform(0.75, 1.0, 3)
            grey = grey[..., None] * np.where(labels[..., None] > 0, tint, tint[::-1])
        Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(options.out / "images" / f"shapes_{index}.png")
        Image.fromarray(labels).save(options.out / "masks" / f"shapes_{index}.png")


if __name__ == "__main__":
    main()
