"""The canvas that the synthetic patient is painted on: implicit shapes and smooth noise in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Point = tuple[float, float, float]


class Canvas:
    """Attenuation (HU) and labels on a regular grid of axes (z, y, x), with coordinates in patient millimetres.

    x grows to the patient's left, y to the back, z to the head; x and y are 0 in the middle, z in the lowest slice.
    Shapes are fields below 1 inside, so that they can be united, deformed by noise and given shells before being cut.
    """

    def __init__(
        self, shape: tuple[int, int, int], spacing: tuple[float, float, float], rng: np.random.Generator
    ) -> None:
        self.shape, self.spacing, self.rng = shape, spacing, rng
        self.hu = np.full(shape, -1000, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        axes = [np.arange(n, dtype=np.float32) * s for n, s in zip(shape, spacing, strict=True)]
        self.z = axes[0][:, None, None]
        self.y = (axes[1] - axes[1].mean())[None, :, None]
        self.x = (axes[2] - axes[2].mean())[None, None, :]

    def paint(self, where: Mask, hu: Array | float, label: int | None = None) -> None:
        """Fill a region, over whatever was there."""
        self.hu[where] = np.broadcast_to(hu, self.shape)[where] if isinstance(hu, np.ndarray) else hu
        if label is not None:
            self.labels[where] = label

    def noise(self, scale: float, octaves: int = 1) -> Array:
        """Smooth noise of unit variance whose features are about `scale` mm wide, with finer octaves on top."""
        total = np.zeros(self.shape, np.float32)
        for octave in range(octaves):
            width = scale / 2**octave
            knots = [int(n * s / width) + 5 for n, s in zip(self.shape, self.spacing, strict=True)]
            field = self.rng.normal(size=knots).astype(np.float32)
            for axis, (n, s) in enumerate(zip(self.shape, self.spacing, strict=True)):
                field = interpolate(field, np.arange(n) * s / width + 1, axis)
            total += field / 2**octave
        return total / max(float(total.std()), 1e-6)

    def ellipsoid(self, centre: Point, axes: Point, turn: float = 0, tilt: float = 0, power: float = 2) -> Array:
        """Ellipsoid with half-axes (x, y, z) in mm; `turn` axially and `tilt` coronally, in degrees."""
        x, y, z = self.x - centre[0], self.y - centre[1], self.z - centre[2]
        a, b = np.deg2rad(turn), np.deg2rad(tilt)
        x, z = np.cos(b) * x + np.sin(b) * z, np.cos(b) * z - np.sin(b) * x
        x, y = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
        field = np.abs(x / axes[0]) ** power + np.abs(y / axes[1]) ** power + np.abs(z / axes[2]) ** power
        return np.asarray(field ** (1 / power), np.float32)

    def tube(self, path: Sequence[Point], radii: Sequence[float], reach: float = 1.6) -> Array:
        """A smooth tube through points with a radius at each; exact up to `reach` radii from its middle, 9 beyond."""
        table = np.column_stack([np.asarray(path, float), np.asarray(radii, float)])
        length = float(np.linalg.norm(np.diff(table[:, :3], axis=0), axis=1).sum())
        places = np.linspace(0, len(table) - 1, max(4, int(length / (0.35 * min(radii)))))
        field = np.full(self.shape, 9, np.float32)
        for x, y, z, r in interpolate(table, places, 0):
            box = tuple(
                slice(*np.searchsorted(axis.ravel(), (v - reach * r, v + reach * r)))
                for axis, v in ((self.z, z), (self.y, y), (self.x, x))
            )
            squares = (self.x[..., box[2]] - x) ** 2 + (self.y[:, box[1]] - y) ** 2 + (self.z[box[0]] - z) ** 2
            np.minimum(field[box], np.sqrt(squares) / r, out=field[box])
        return field


def interpolate(values: NDArray[np.floating], places: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    """Values at fractional indices along one axis, by Catmull-Rom splines."""
    values = np.moveaxis(values, axis, 0)
    low = np.clip(places.astype(int), 0, len(values) - 2)
    t = (places - low).astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    p0, p1, p2, p3 = (values[np.clip(low + k, 0, len(values) - 1)] for k in (-1, 0, 1, 2))
    result = p1 + t / 2 * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return np.moveaxis(result, 0, axis)


def union(a: Array, b: Array, width: float = 0.2) -> Array:
    """Union of two fields with a fillet where they meet."""
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + (a - b) * h - width * h * (1 - h)
