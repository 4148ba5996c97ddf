"""Synthetic volumes with exact masks: organs that touch inside a body, lesions, vessels; acquired in thick slices.

They are what propagation through slices is fitted on. Shapes are levels, positive inside, on coordinates in
millimetres, each computed inside its bounding box only; everything follows from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]
Box = tuple[slice, slice, slice]

WHOLE: Box = (slice(None), slice(None), slice(None))
#: How tissues look: as in a CT seen through a window, as in some MR sequence, or anyhow.
STYLES = {"ct": 0.4, "mr": 0.3, "any": 0.3}
#: HU of tissues in a CT.
HU = {
    "air": (-1000.0, -850.0),
    "fat": (-120.0, -75.0),
    "muscle": (35.0, 70.0),
    "organ": (20.0, 140.0),
    "vessel": (35.0, 260.0),
    "bone": (180.0, 700.0),
}


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic volume.

    Parameters
    ----------
    image : (Z, Y, X) float32 in [0, 1]
    labels : (Z, Y, X) uint8
        0 is the background.
    spacing : (float, float, float)
        Millimetres.
    """

    image: Field
    labels: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def make_phantom(
    rng: np.random.Generator, shape: tuple[int, int, int] = (32, 128, 128), slice_mm: tuple[float, float] = (1.0, 5.0)
) -> Phantom:
    """Draw a volume.

    Parameters
    ----------
    rng : Generator
    shape : (int, int, int)
    slice_mm : (float, float)
        Range that the distance of slices is drawn from; pixels are 1 mm.

    Examples
    --------
    >>> phantom = make_phantom(np.random.default_rng(0), (8, 32, 32))
    >>> phantom.image.shape, bool(phantom.labels.any())
    ((8, 32, 32), True)
    """
    spacing = (float(np.exp(rng.uniform(*np.log(slice_mm)))), 1.0, 1.0)
    painter = _Painter(rng, shape, spacing)
    painter.body()
    if rng.random() < 0.75:
        painter.organs(int(rng.integers(4, 9)))
    for _ in range(int(rng.integers(0, 4))):
        painter.bone()
    for _ in range(int(rng.integers(0, 4))):
        painter.vessel()
    for _ in range(int(rng.integers(1, 5))):
        painter.lesion()
    return Phantom(painter.acquired(), painter.labels, spacing)


class _Painter:
    """Paints regions into a volume and keeps track of what is visible where."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]):
        self.rng, self.shape, self.spacing = rng, shape, spacing
        self.axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
        self.size = np.array([n * mm for n, mm in zip(shape, spacing, strict=True)])
        warp, self.margin = float(rng.uniform(0, 5)), []
        coordinates = []
        for k, axis in enumerate(self.axes):
            moved = warp * self.noise(float(rng.uniform(20, 60)))
            self.margin.append(float(np.abs(moved).max()))
            coordinates.append(axis.reshape([-1 if i == k else 1 for i in range(3)]) + moved)
        self.z, self.y, self.x = coordinates
        self.style = str(rng.choice(list(STYLES), p=list(STYLES.values())))
        width = float(rng.uniform(220, 550))
        self.window = (float(rng.uniform(10, 90)) - width / 2, width)
        # How far regions differ: in a CT it is for the organs, by 5 to 120 HU, and the window says how much that is.
        self.contrast = float(np.exp(rng.uniform(np.log(0.05), np.log(0.5))))
        if self.style == "ct":
            self.contrast = float(np.exp(rng.uniform(np.log(10), np.log(120)))) / width
        self.base = float(rng.uniform(0.25, 0.75))
        self.rough = float(np.exp(rng.uniform(np.log(0.02), np.log(0.5))))
        self.labels = np.zeros(shape, np.uint8)
        self.image = np.full(shape, self.level("air"), np.float32)
        self.count = 0

    def box(self, centre: NDArray[np.float64], reach: NDArray[np.float64]) -> Box:
        """Where a region can be that reaches so many millimetres from its centre; at least one voxel."""
        out = []
        for axis, c, r, margin in zip(self.axes, centre, reach, self.margin, strict=True):
            first, last = np.searchsorted(axis, (c - r - margin, c + r + margin))
            first = min(int(first), len(axis) - 1)
            out.append(slice(first, max(first + 1, int(last))))
        return (out[0], out[1], out[2])

    def at(self, box: Box) -> tuple[Field, Field, Field]:
        """Coordinates in a box."""
        return self.z[box], self.y[box], self.x[box]

    def noise(self, length: float, box: Box = WHOLE) -> Field:
        """Smooth noise of unit variance that changes over about `length` millimetres, on a box of the volume."""
        import torch
        from torch.nn import functional as F

        shape = [len(range(*part.indices(n))) for part, n in zip(box, self.shape, strict=True)]
        coarse = [max(2, round(n * mm / length) + 2) for n, mm in zip(shape, self.spacing, strict=True)]
        values = torch.as_tensor(self.rng.standard_normal(coarse, np.float32))
        # Cubic within slices, linear between them: seen one slice at a time, kinks between slices do not show.
        plane = F.interpolate(values[None], shape[1:], mode="bicubic", align_corners=True)
        flat = plane.reshape(1, 1, coarse[0], -1)
        out = F.interpolate(flat, (shape[0], flat.shape[-1]), mode="bilinear", align_corners=True)
        field: Field = out.reshape(shape).numpy()
        return np.asarray(field / max(float(field.std()), 1e-6), np.float32)

    def level(self, tissue: str, near: float | None = None) -> float:
        """Intensity of a tissue, or of something a bit darker or brighter than what it lies in."""
        rng = self.rng
        if near is not None:
            return near + float(rng.choice((-1, 1)) * rng.uniform(0.25, 1.2)) * self.contrast
        if self.style == "ct":
            low, width = self.window
            if tissue == "organ":
                return (75 - low) / width + self.contrast * float(rng.uniform(-0.5, 0.5))
            return (float(rng.uniform(*HU[tissue])) - low) / width
        if tissue == "air":
            return float(rng.uniform(0, 0.1))
        spread = 1.0 if self.style == "any" or tissue == "organ" else 2.0
        return self.base + spread * self.contrast * float(rng.uniform(-1, 1))

    def material(self, level: float, box: Box) -> Field:
        """Intensity of one region: its level, with texture and shading."""
        strength = self.contrast * self.rough * float(np.exp(self.rng.uniform(-1, 1)))
        texture = self.noise(float(np.exp(self.rng.uniform(np.log(2), np.log(20)))), box)
        shading = self.rng.uniform(0, 0.3) * self.contrast * self.noise(float(max(self.size)), box)
        return np.asarray(level + strength * texture + shading, np.float32)

    def paint(
        self,
        level: Field,
        box: Box = WHOLE,
        *,
        tissue: str = "organ",
        near: float | None = None,
        vague: float = 0.0,
        labelled: bool = True,
    ) -> None:
        """Put a region on top of what is there; `vague` millimetres of its border are a mixture."""
        if labelled:
            self.count += 1
        alpha = np.clip(level / (max(self.spacing) + vague) + 0.5, 0, 1)  # partial volume
        under = self.image[box]
        self.image[box] = under + (self.material(self.level(tissue, near), box) - under) * alpha
        self.labels[box][level > 0] = self.count if labelled else 0

    def ellipsoid(
        self, centre: NDArray[np.float64], radii: NDArray[np.float64], ragged: float, box: Box = WHOLE
    ) -> Field:
        """Level in millimetres of a deformed ellipsoid, turned about the slice axis."""
        angle = self.rng.uniform(0, np.pi)
        dz, dy, dx = (a - np.float32(c) for a, c in zip(self.at(box), centre, strict=True))
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        z, u, v = dz / np.float32(radii[0]), (dy * cos + dx * sin) / radii[1], (dx * cos - dy * sin) / radii[2]
        smallest = float(radii.min())
        level = (1 - np.sqrt(z * z + u * u + v * v)) * smallest
        if ragged > 0:
            level = level + ragged * smallest * self.noise(max(smallest, 6.0), box)
        return np.asarray(level, np.float32)

    def body(self) -> None:
        """The body, which goes on beyond the volume: fat, and what is inside of it."""
        radii = np.array([1e4, *(self.size[1:] * self.rng.uniform(0.4, 0.7, 2))])
        skin = self.ellipsoid(np.zeros(3), radii, 0.02)
        self.paint(skin, tissue="fat", labelled=False)
        self.inside = skin - float(self.rng.uniform(2, 14))
        self.paint(self.inside, tissue=str(self.rng.choice(("fat", "muscle"))), labelled=False)

    def organs(self, count: int) -> None:
        """Touching organs: a warped partition of the body, each with an end above and below."""
        centres = self.rng.uniform(-0.5, 0.5, (count, 3)) * self.size * (1.1, 0.8, 0.8)
        reach = self.rng.uniform(0.12, 0.4, count) * self.size[1:].min()
        flat, gap = float(self.rng.uniform(0.6, 2.0)), float(self.rng.uniform(-1, 4))
        for k, (centre, radius) in enumerate(zip(centres, reach, strict=True)):
            if self.rng.random() < 0.2:
                continue  # stays fat
            box = self.box(centre, radius * np.array([flat, 1, 1]))
            z, y, x = self.at(box)
            away = [
                np.sqrt(((z - c[0]) / flat) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2) - r
                for c, r in zip(centres.astype(np.float32), reach.astype(np.float32), strict=True)
            ]
            own = away.pop(k)
            near = np.minimum.reduce(away) if away else np.full_like(own, 1e3)
            level = np.minimum.reduce([(near - own) / 2 - gap, -own, self.inside[box] - 3])
            self.paint(level, box, vague=float(self.rng.choice((0.0, 0.0, 2.0))))

    def lesion(self) -> None:
        """An ellipsoid with a ragged, at times vague outline anywhere, at times with a second lobe."""
        rng = self.rng
        radii = np.exp(rng.uniform(np.log(4), np.log(28))) * rng.uniform(0.6, 1.4, 3)
        centre, ragged = rng.uniform(-0.4, 0.4, 3) * self.size, float(rng.uniform(0, 0.25))
        reach, lobes = 1.7 * radii.max() * np.ones(3), 1 + (rng.random() < 0.3)
        box = self.box(centre, reach * lobes)
        level = self.ellipsoid(centre, radii, ragged, box)
        if lobes > 1:  # two that become one, or one that becomes two, on the way through the slices
            aside = centre + rng.uniform(-1.1, 1.1, 3) * radii
            level = np.maximum(level, self.ellipsoid(aside, radii * rng.uniform(0.4, 0.9, 3), ragged, box))
        here = self.image[box][level > 0]
        near = float(here.mean()) if here.size and rng.random() < 0.7 else None
        self.paint(level, box, near=near, vague=float(rng.choice((0.0, 1.0, 4.0))))

    def bone(self) -> None:
        """A bone: a pillar through all slices, or a small oblique piece."""
        rng = self.rng
        long = rng.random() < 0.5
        radii = np.array([1e3 if long else rng.uniform(5, 30), rng.uniform(4, 20), rng.uniform(4, 20)])
        centre = rng.uniform(-0.4, 0.4, 3) * self.size
        box = self.box(centre, np.array([1e4 if long else 1.4 * radii.max(), *([1.4 * radii[1:].max()] * 2)]))
        level = self.ellipsoid(centre, radii, float(rng.uniform(0, 0.15)), box)
        self.paint(level, box, tissue="bone")
        if rng.random() < 0.6:  # marrow
            self.count -= 1
            self.paint(level - float(rng.uniform(1.5, 4)), box, tissue="muscle")

    def vessel(self) -> None:
        """A tube that wanders through the slices, and may fork."""
        rng = self.rng
        steps = np.linspace(-0.7, 0.7, 12) * self.size[0]
        path = np.cumsum(rng.normal(0, rng.uniform(1, 5), (12, 2)), 0)
        path += rng.uniform(-0.35, 0.35, 2) * self.size[1:]
        paths = [path]
        if rng.random() < 0.4:
            start = int(rng.integers(3, 9))
            apart = np.clip(np.arange(12) - start, 0, None)[:, None] * rng.normal(0, 4, 2)
            paths.append(path + apart)
        radius, every = float(rng.uniform(2.5, 8)), np.concatenate(paths)
        middle, half = (every.max(0) + every.min(0)) / 2, (every.max(0) - every.min(0)) / 2
        box = self.box(np.array([0, *middle]), np.array([1e4, *(half + radius + max(self.spacing))]))
        z, y, x = self.at(box)
        level = np.full(z.shape, -1e3, np.float32)
        for one in paths:
            cy, cx = (np.interp(z, steps, one[:, i]).astype(np.float32) for i in range(2))
            level = np.maximum(level, radius - np.sqrt((y - cy) ** 2 + (x - cx) ** 2))
        self.paint(level, box, tissue="vessel")

    def acquired(self) -> Field:
        """Blurred within slices, with noise, a bias field and slices of unequal gain where it is no CT, in [0, 1]."""
        rng = self.rng
        image = ndimage.gaussian_filter(self.image, (0, *(rng.uniform(0.3, 1.2) for _ in range(2))))
        strength = float(rng.uniform(0.0, 0.5)) * self.contrast
        grain = self._grain()
        if self.style == "mr":
            image = image * (1 + rng.uniform(0.05, 0.35) * self.noise(float(max(self.size)) * rng.uniform(0.4, 1)))
            image = np.sqrt((image + strength * grain) ** 2 + (strength * self._grain()) ** 2)
        else:
            image = image + strength * grain
        jitter = 0.0 if self.style == "ct" else float(rng.uniform(0, 0.05))
        image = image * (1 + jitter * rng.standard_normal((self.shape[0], 1, 1)).astype(np.float32))
        return np.asarray(np.clip(image, 0, 1), np.float32)

    def _grain(self) -> Field:
        """Noise of unit variance, a little correlated within slices."""
        white = self.rng.standard_normal(self.shape, np.float32)
        grain = ndimage.gaussian_filter(white, (0, *[self.rng.uniform(0.3, 0.9)] * 2), truncate=3)
        return np.asarray(grain / grain.std(), np.float32)
