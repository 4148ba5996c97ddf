"""The eight sources of UncertSAM, small, in their publishers' layouts; what each has to come out as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.evaluation.datasets.makers import ct_with_box, nifti, picture, rectangle, save

SHAPE = (64, 96)
#: Two objects above 1000 pixels, one that is too small, and a bridge of one pixel that closing builds.
LEFT = rectangle(SHAPE, 5, 4, 40, 30)
RIGHT = rectangle(SHAPE, 8, 50, 35, 30)
SMALL = rectangle(SHAPE, 50, 85, 5, 5)
BOTH = LEFT | RIGHT | SMALL


@dataclass(frozen=True)
class Expected:
    """The masks of one image, in order, and what the picture has to look like."""

    masks: list[np.ndarray]
    picture: np.ndarray
    copied: Path | None = None


def grey(mask: np.ndarray) -> np.ndarray:
    return (mask * 255).astype(np.uint8)


def painted(*parts: tuple[np.ndarray, tuple[int, int, int]]) -> np.ndarray:
    image = np.zeros((*SHAPE, 3), np.uint8)
    for mask, colour in parts:
        image[mask] = colour
    return image


def jpg(path: Path, seed: int) -> Path:
    return save(path, picture(SHAPE, seed), quality=90)


def big(raw: Path) -> dict[str, Expected]:
    folder = raw / "BIG_SS_Dataset" / "test"
    image = jpg(folder / "2007_aeroplane_im.jpg", 1)
    save(folder / "2007_aeroplane_gt.png", grey(BOTH))
    jpg(raw / "BIG_SS_Dataset" / "val" / "x_im.jpg", 2)
    save(raw / "BIG_SS_Dataset" / "val" / "x_gt.png", grey(LEFT))
    return {"2007_aeroplane": Expected([LEFT, RIGHT], picture(SHAPE, 1), image)}


def coift(raw: Path) -> dict[str, Expected]:
    image = jpg(raw / "COIFT" / "images" / "bird.jpg", 1)
    save(raw / "COIFT" / "masks" / "bird.png", grey(BOTH))
    jpg(raw / "HRSOD" / "images" / "other.jpg", 2)
    # No CCA: one target, small parts and all.
    return {"bird": Expected([BOTH], picture(SHAPE, 1), image)}


def cod10k(raw: Path) -> dict[str, Expected]:
    test = raw / "COD10K-v3" / "Test"
    names = ["COD10K-CAM-1-Aquatic-1-BatFish-1", "COD10K-NonCAM-2-Plant-3"]
    images = [jpg(test / "Image" / f"{name}.jpg", seed) for seed, name in enumerate(names)]
    instances = painted((RIGHT, (0, 128, 0)), (LEFT, (128, 0, 0)), (SMALL, (0, 0, 128)))
    save(test / "GT_Instance" / f"{names[0]}.png", instances)
    save(test / "GT_Instance" / f"{names[1]}.png", np.zeros(SHAPE, np.uint8))
    save(test / "GT_Object" / f"{names[0]}.png", grey(BOTH))
    (raw / "COD10K-v3" / "Train").mkdir()
    return {names[0]: Expected([RIGHT, LEFT], picture(SHAPE, 0), images[0])}


def istd(raw: Path) -> dict[str, Expected]:
    test = raw / "ISTD_Dataset" / "test"
    save(test / "test_A" / "100-1.png", picture(SHAPE, 1))
    save(test / "test_B" / "100-1.png", grey(BOTH))
    save(test / "test_C" / "100-1.png", picture(SHAPE, 2))
    save(test / "test_A" / "100-2.png", picture(SHAPE, 1))
    save(test / "test_B" / "100-2.png", grey(SMALL))
    return {"100-1": Expected([LEFT, RIGHT], picture(SHAPE, 1))}


def sbu(raw: Path) -> dict[str, Expected]:
    test = raw / "SBU-shadow" / "SBU-Test"
    image = jpg(test / "ShadowImages" / "$_35.jpg", 1)
    save(test / "ShadowMasks" / "$_35.png", grey(BOTH))
    (test / "EdgeMap").mkdir()
    return {"$_35": Expected([LEFT, RIGHT], picture(SHAPE, 1), image)}


def flare7k(raw: Path) -> dict[str, Expected]:
    yellow, red, blue = (255, 255, 0), (255, 0, 0), (0, 0, 255)
    for part, seed in (("real", 1), ("synthetic", 2)):
        top = raw / "Flare7Kpp" / "test_data" / part
        save(top / "input" / "input_000000.png", picture(SHAPE, seed))
        save(top / "gt" / "gt_000000.png", picture(SHAPE, 3))
        save(top / "mask" / "mask_000000.png", painted((LEFT, yellow), (RIGHT, red), (SMALL, blue)))
    expected = [RIGHT, LEFT]  # red comes before yellow, and the light source is too small
    return {f"{part}/000000": Expected(expected, picture(SHAPE, n)) for part, n in (("real", 1), ("synthetic", 2))}


def trans10k(raw: Path) -> dict[str, Expected]:
    things, stuff = (255, 0, 0), (255, 255, 255)
    expected = {}
    for part, seed in (("easy", 1), ("hard", 2)):
        top = raw / "Trans10K" / "test" / part
        image = jpg(top / "images" / f"{seed}.jpg", seed)
        save(top / "masks" / f"{seed}_mask.png", painted((LEFT, things), (RIGHT, stuff), (SMALL, stuff)))
        expected[f"{part}/{seed}"] = Expected([LEFT, RIGHT], picture(SHAPE, seed), image)
    return expected


def msd_spleen(raw: Path) -> dict[str, Expected]:
    volume, labels = ct_with_box()
    top = raw / "Task09_Spleen"
    nifti(top / "imagesTr" / "spleen_2.nii.gz", volume)
    nifti(top / "labelsTr" / "spleen_2.nii.gz", labels)
    nifti(top / "imagesTs" / "spleen_1.nii.gz", volume)
    (top / "imagesTr" / "._spleen_2.nii.gz").write_bytes(b"finder")
    (top / "labelsTr" / "._spleen_2.nii.gz").write_bytes(b"finder")
    foreground = volume[volume > volume.mean()].astype(float)
    low, high = np.percentile(foreground, [0.05, 99.95])
    scaled = (np.clip(volume.astype(float), low, high) - low) / (high - low) * 255
    return {f"spleen_2/z{z}": Expected([labels[z] > 0], scaled[z]) for z in range(2, 7)}


SOURCES = {
    "big": big,
    "coift": coift,
    "cod10k": cod10k,
    "msd-spleen": msd_spleen,
    "istd": istd,
    "sbu": sbu,
    "flare7k": flare7k,
    "trans10k": trans10k,
}
