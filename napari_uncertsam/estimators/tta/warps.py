"""Mirrored, turned and slightly scaled copies of a view: pixels and prompts go there, logits come back.

Everything is worked out in the unit frame of the model's input, where the view is the square ``[0, 1] x [0, 1]``
whatever its shape, and about the centre of that. A coordinate ``y`` of an ``(H, W)`` view lies at
``y / H + 0.5 / R`` for a model of resolution R, since SAM 2 adds half a model pixel; a box prompt covers half a model
pixel more on every side, so that the edges of what it covers go to the edges of what the warped one covers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, int]
Matrix = NDArray[np.float64]


class Warp(Protocol):
    """A way to look at a view from elsewhere."""

    def shape(self, shape: Shape) -> Shape:
        """``(H, W)`` of the warped view."""

    def image(self, image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
        """Warped pixels of an ``(h, w, 3)`` image of a view of `shape`."""

    def prompts(self, prompts: Prompts, shape: Shape, resolution: int) -> Prompts:
        """Prompts of a view of `shape` in the frame of the warped one."""

    def back(self, logits: NDArray[np.float32], shape: Shape, unseen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of the warped view, ``(h, w)``, on the grid of the view; `unseen` where it does not reach."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """One of the square's eight symmetries: exchange the axes or not, then mirror each of them or not.

    Images and logits are moved, not interpolated, so there and back is the identity to the last digit.

    Parameters
    ----------
    transpose, flip_y, flip_x : bool

    Examples
    --------
    >>> Symmetry(transpose=True, flip_y=True).moved(np.array([[1, 2], [3, 4]])).tolist()  # a quarter turn to the left
    [[2, 4], [1, 3]]
    """

    transpose: bool = False
    flip_y: bool = False
    flip_x: bool = False

    @property
    def inverse(self) -> Symmetry:
        """The symmetry that undoes this one."""
        flips = (self.flip_x, self.flip_y) if self.transpose else (self.flip_y, self.flip_x)
        return Symmetry(self.transpose, *flips)

    def moved(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array ``(h, w, ...)`` under the symmetry; a view of it."""
        turned = array.swapaxes(0, 1) if self.transpose else array
        return turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def shape(self, shape: Shape) -> Shape:
        """``(H, W)`` of the warped view."""
        return (shape[1], shape[0]) if self.transpose else shape

    def image(self, image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
        """Warped pixels; `shape` does not matter."""
        return np.ascontiguousarray(self.moved(image))

    def prompts(self, prompts: Prompts, shape: Shape, resolution: int) -> Prompts:
        """Prompts in the frame of the warped view."""
        matrix = np.diag([-1.0 if self.flip_y else 1.0, -1.0 if self.flip_x else 1.0])
        if self.transpose:
            matrix = matrix[:, ::-1]
        return warped_prompts(prompts, matrix, shape, self.shape(shape), resolution, self.moved)

    def back(self, logits: NDArray[np.float32], shape: Shape, unseen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits on the grid of the view; nothing is out of sight."""
        return np.ascontiguousarray(self.inverse.moved(logits))


#: Mirrors and quarter turns, the view as it is first; half of them exchange the axes.
SYMMETRIES: tuple[Symmetry, ...] = tuple(
    Symmetry(transpose, flip_y, flip_x)
    for transpose in (False, True)
    for flip_y in (False, True)
    for flip_x in (False, True)
)


@dataclass(frozen=True, slots=True)
class SmallWarp:
    """A small turn and a change of scale about the centre of the view, in its own pixels.

    Pixels and logits are interpolated bilinearly. Beyond the border of the view the edge is repeated, as a view over
    the border of the slice does. A prompt that leaves the view is held at its border.

    Parameters
    ----------
    degrees : float
    scale : float
        Above 1 the warped view shows less, larger.
    """

    degrees: float
    scale: float = 1.0

    @property
    def inverse(self) -> SmallWarp:
        """The warp that undoes this one."""
        return SmallWarp(-self.degrees, 1 / self.scale)

    def shape(self, shape: Shape) -> Shape:
        """``(H, W)`` of the warped view: the same."""
        return shape

    def matrix(self, shape: Shape) -> Matrix:
        """From positions of the view to positions of the warped one, ``(y, x)`` about the centre of the unit frame."""
        angle, sides = np.deg2rad(self.degrees), np.array(shape, np.float64)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.asarray(self.scale * turn * sides[None, :] / sides[:, None])

    def image(self, image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
        """Warped pixels, rounded to whole grey values."""
        warped = self._sampled(np.moveaxis(image, -1, 0), self.inverse.matrix(shape))[0]
        return np.ascontiguousarray(np.moveaxis(np.rint(warped), 0, -1).astype(np.uint8))

    def prompts(self, prompts: Prompts, shape: Shape, resolution: int) -> Prompts:
        """Prompts in the frame of the warped view; a box becomes the one around its turned inscribed ellipse.

        The box around the turned box itself would be loose: objects seldom reach into the corners of their box.
        """
        back = self.inverse.matrix(shape)
        return warped_prompts(
            prompts,
            self.matrix(shape),
            shape,
            shape,
            resolution,
            lambda m: self._sampled(m[None], back)[0][0],
            inside=True,
        )

    def back(self, logits: NDArray[np.float32], shape: Shape, unseen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits on the grid of the view; `unseen` where the warped view does not reach."""
        values, seen = self._sampled(logits[None], self.matrix(shape))
        return np.asarray(np.where(seen, values[0], unseen), np.float32)

    @staticmethod
    def _sampled(values: NDArray[Any], matrix: Matrix) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """``(c, h, w)`` values at ``matrix @ position`` of every cell, and where that is inside."""
        import torch
        from torch.nn import functional as F

        source = torch.as_tensor(np.array(values, np.float32, order="C"))[None]
        theta = torch.zeros(1, 2, 3)
        theta[0, :, :2] = torch.as_tensor(matrix[::-1, ::-1].copy())  # torch wants (x, y)
        grid: Tensor = F.affine_grid(theta, list(source.shape), align_corners=False)
        sampled = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return sampled[0].numpy(), (grid[0].abs().amax(-1) <= 1).numpy()


def warped_prompts(
    prompts: Prompts,
    matrix: Matrix,
    shape: Shape,
    warped: Shape,
    resolution: int,
    moved: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    *,
    inside: bool = False,
) -> Prompts:
    """Prompts of a view in the frame of a warped one.

    Parameters
    ----------
    prompts : Prompts
        In pixel coordinates of the view.
    matrix : (2, 2) float
        From positions of the view to positions of the warped one, ``(y, x)`` about the centre of the unit frame.
    shape, warped : (int, int)
        ``(H, W)`` of the view and of the warped one.
    resolution : int
        Side of the model's input.
    moved : callable
        Takes the logits of a mask prompt to the warped view.
    inside : bool
        Whether to hold at the border what leaves the warped view.
    """
    half = 0.5 / resolution

    def there(y: float, x: float) -> Matrix:
        return np.asarray(matrix @ (np.array([y, x]) / shape + half - 0.5))

    def held(position: Matrix) -> Matrix:
        return np.clip(position, -0.5, 0.5) if inside else position

    def pixels(position: Matrix) -> Matrix:
        return np.asarray((position + 0.5 - half) * warped)

    points = []
    for point in prompts.points:
        y, x = pixels(held(there(point.y, point.x)))
        points.append(Point(y, x, point.positive))
    box = prompts.box
    if box is not None:
        centre = there(*box.centre)
        covered = np.array([box.y1 - box.y0, box.x1 - box.x0]) / shape / 2 + half
        reach = np.hypot(*(matrix * covered).T)
        low, high = held(centre - reach) + half, held(centre + reach) - half
        # At least one pixel of the model, also where little is left of it.
        middle = (low + high) / 2
        box = Box(*pixels(np.minimum(low, middle)), *pixels(np.maximum(high, middle)))
    mask = prompts.mask
    return Prompts(tuple(points), box, None if mask is None else MaskPrompt(moved(mask.logits)))


@dataclass(frozen=True, slots=True)
class Composed:
    """One warp after another.

    Parameters
    ----------
    first, then : Warp
    """

    first: Warp
    then: Warp

    def shape(self, shape: Shape) -> Shape:
        """``(H, W)`` of the warped view."""
        return self.then.shape(self.first.shape(shape))

    def image(self, image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
        """Warped pixels."""
        return self.then.image(self.first.image(image, shape), self.first.shape(shape))

    def prompts(self, prompts: Prompts, shape: Shape, resolution: int) -> Prompts:
        """Prompts in the frame of the warped view."""
        between = self.first.prompts(prompts, shape, resolution)
        return self.then.prompts(between, self.first.shape(shape), resolution)

    def back(self, logits: NDArray[np.float32], shape: Shape, unseen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits on the grid of the view."""
        between = self.then.back(logits, self.first.shape(shape), logits)
        return self.first.back(between, shape, unseen)


@dataclass(frozen=True, slots=True)
class Tone:
    """The same geometry in other tones: ``255 (x / 255)^gamma``, then stretched about the mean of each channel.

    Parameters
    ----------
    gamma : float
        Above 1 darker.
    contrast : float
        Above 1 stronger; grey values are held within [0, 255].
    """

    gamma: float = 1.0
    contrast: float = 1.0

    def shape(self, shape: Shape) -> Shape:
        """``(H, W)`` of the view."""
        return shape

    def image(self, image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
        """Pixels in other tones, rounded to whole grey values."""
        values = 255 * (np.arange(256) / 255) ** self.gamma
        toned = values.astype(np.float32)[image]
        mean = toned.mean((0, 1), dtype=np.float64).astype(np.float32)
        return np.asarray(np.rint(np.clip(mean + self.contrast * (toned - mean), 0, 255)), np.uint8)

    def prompts(self, prompts: Prompts, shape: Shape, resolution: int) -> Prompts:
        """The prompts as they are."""
        return prompts

    def back(self, logits: NDArray[np.float32], shape: Shape, unseen: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits as they are."""
        return logits
