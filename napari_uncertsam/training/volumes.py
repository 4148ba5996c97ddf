"""Synthetic volumes with exact masks: organs that touch inside a body, lesions, vessels; acquired in thick slices.

They are what propagation through slices is fitted on. Shapes are levels, positive inside, on coordinates in
millimetres; everything follows from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]


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
    if rng.random() < 0.7:
        painter.organs(int(rng.integers(4, 12)))
    for _ in range(int(rng.integers(1, 5))):
        painter.lesion()
    for _ in range(int(rng.integers(0, 4))):
        painter.vessel()
    return Phantom(painter.acquired(), painter.labels, spacing)


class _Painter:
    """Paints regions into a volume and keeps track of what is visible where."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]):
        self.rng, self.shape, self.spacing = rng, shape, spacing
        axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
        self.size = np.array([n * mm for n, mm in zip(shape, spacing, strict=True)])
        warp = float(rng.uniform(0, 5))
        self.z, self.y, self.x = (
            axis.reshape([-1 if i == k else 1 for i in range(3)]) + warp * self.noise(float(rng.uniform(20, 60)))
            for k, axis in enumerate(axes)
        )
        self.contrast = float(np.exp(rng.uniform(np.log(0.05), np.log(0.5))))
        self.base = float(rng.uniform(0.25, 0.75))
        self.labels = np.zeros(shape, np.uint8)
        self.image = np.full(shape, rng.uniform(0, 0.15), np.float32)
        self.count = 0

    def noise(self, length: float) -> Field:
        """Smooth noise of unit variance that changes over about `length` millimetres."""
        coarse = [max(2, round(side / length) + 2) for side in self.size]
        values = self.rng.standard_normal(coarse).astype(np.float32)
        factors = [n / c for n, c in zip(self.shape, coarse, strict=True)]
        out = ndimage.zoom(values, factors, order=3, mode="nearest", grid_mode=True)
        return np.asarray(out / max(float(out.std()), 1e-6), np.float32)

    def material(self) -> Field:
        """Intensity of one region: a level near the scene's, with texture and shading."""
        level = self.base + self.contrast * self.rng.uniform(-1, 1)
        strength = self.contrast * float(np.exp(self.rng.uniform(np.log(0.02), np.log(0.5))))
        texture = self.noise(float(np.exp(self.rng.uniform(np.log(2), np.log(20)))))
        shading = self.rng.uniform(0, 0.4) * self.contrast * self.noise(float(max(self.size)))
        return np.asarray(level + strength * texture + shading, np.float32)

    def paint(self, level: Field, *, labelled: bool = True) -> None:
        """Put a region on top of what is there."""
        if labelled:
            self.count += 1
        alpha = np.clip(level / max(self.spacing) + 0.5, 0, 1)  # partial volume
        self.image = self.image * (1 - alpha) + self.material() * alpha
        self.labels[level > 0] = self.count if labelled else 0

    def ellipsoid(self, centre: NDArray[np.float64], radii: NDArray[np.float64], ragged: float) -> Field:
        """Level in millimetres of a deformed ellipsoid, turned about the slice axis."""
        angle = self.rng.uniform(0, np.pi)
        dz, dy, dx = (a - c for a, c in zip((self.z, self.y, self.x), centre, strict=True))
        u, v = dy * np.cos(angle) + dx * np.sin(angle), -dy * np.sin(angle) + dx * np.cos(angle)
        radius = np.sqrt((dz / radii[0]) ** 2 + (u / radii[1]) ** 2 + (v / radii[2]) ** 2)
        smallest = float(radii.min())
        return np.asarray((1 - radius) * smallest + ragged * smallest * self.noise(max(smallest, 6.0)), np.float32)

    def body(self) -> None:
        """The body, which goes on beyond the volume."""
        radii = np.array([1e4, *(self.size[1:] * self.rng.uniform(0.4, 0.7, 2))])
        self.inside = self.ellipsoid(np.zeros(3), radii, 0.02)
        self.paint(self.inside, labelled=False)

    def organs(self, count: int) -> None:
        """Touching organs: a warped partition of the body, each with an end above and below."""
        centres = self.rng.uniform(-0.5, 0.5, (count, 3)) * self.size * (1.1, 0.8, 0.8)
        reach = self.rng.uniform(0.12, 0.4, count) * self.size[1:].min()
        flat = self.rng.uniform(0.6, 2.0)
        away = np.stack(
            [
                np.sqrt(((self.z - c[0]) / flat) ** 2 + (self.y - c[1]) ** 2 + (self.x - c[2]) ** 2) - r
                for c, r in zip(centres, reach, strict=True)
            ]
        ).astype(np.float32)
        order = np.partition(away, 1, axis=0)[:2]
        gap = self.rng.uniform(-1, 4)
        for k in range(count):
            if self.rng.random() < 0.2:
                continue  # stays fat
            others = np.where(away[k] <= order[0], order[1], order[0])
            self.paint(np.minimum.reduce([(others - away[k]) / 2 - gap, -away[k], self.inside - 3]))

    def lesion(self) -> None:
        """An ellipsoid with a ragged outline anywhere."""
        radii = np.exp(self.rng.uniform(np.log(5), np.log(28))) * self.rng.uniform(0.6, 1.4, 3)
        centre = self.rng.uniform(-0.4, 0.4, 3) * self.size
        self.paint(self.ellipsoid(centre, radii, self.rng.uniform(0, 0.25)))

    def vessel(self) -> None:
        """A tube that wanders through the slices."""
        steps = np.linspace(-0.7, 0.7, 12) * self.size[0]
        path = np.cumsum(self.rng.normal(0, self.rng.uniform(1, 5), (12, 2)), 0)
        path += self.rng.uniform(-0.35, 0.35, 2) * self.size[1:]
        z = np.clip(self.z, steps[0], steps[-1])
        y, x = (np.interp(z, steps, path[:, i]) for i in range(2))
        distance = np.sqrt((self.y - y) ** 2 + (self.x - x) ** 2)
        self.paint(np.asarray(self.rng.uniform(2.5, 8) - distance, np.float32))

    def acquired(self) -> Field:
        """Blurred, with correlated noise and a slow bias, clipped to [0, 1]."""
        rng = self.rng
        blur = (0, *(rng.uniform(0.3, 1.2) for _ in range(2)))
        image = ndimage.gaussian_filter(self.image, blur)
        grain = ndimage.gaussian_filter(rng.standard_normal(self.shape).astype(np.float32), (0, 0.7, 0.7))
        image += grain / grain.std() * rng.uniform(0.0, 0.5) * self.contrast
        image *= 1 + rng.uniform(0, 0.08) * self.noise(float(max(self.size)))
        return np.asarray(np.clip(image, 0, 1), np.float32)
