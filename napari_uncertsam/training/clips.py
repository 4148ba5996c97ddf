"""Clips: a few successive slices of something synthetic with the masks of objects, to learn to follow them.

Half of them come from a volume (:mod:`napari_uncertsam.training.volumes`), half from a 2-D scene that is warped from
frame to frame: those are cheap, and look like everything that the model was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.fields import Dice, blur, smooth_noise
from napari_uncertsam.training.synthetic import make_scene
from napari_uncertsam.training.volumes import Field, Phantom, make_phantom

#: Share of the frame that an object covers at least where it is prompted, and where it counts as present.
SMALLEST, PRESENT = 1.5e-3, 1e-4
#: Share of the clips that come from volumes.
VOLUMES = 0.55


@dataclass(frozen=True, eq=False)
class Clip:
    """Slices or frames in the order in which an object is followed, beginning where it is prompted.

    Parameters
    ----------
    images : (t, 3, s, s) float32 in [0, 1]
    masks : (n, t, s, s) bool
        Of n objects, each followed for itself; all are there in frame 0, and may be absent in others.
    """

    images: Tensor
    masks: Tensor


def draw_clip(seed: int, index: int, size: int, *, frames: int = 8, objects: int = 2) -> Clip:
    """The clip of an index: the same for the same seed and index, whatever was drawn before and wherever.

    Examples
    --------
    >>> clip = draw_clip(0, 0, 32, frames=3, objects=1)
    >>> tuple(clip.images.shape), tuple(clip.masks.shape)
    ((3, 3, 32, 32), (1, 3, 32, 32))
    """
    rng = np.random.default_rng((seed, index))
    if rng.random() < VOLUMES:
        return make_volume_clip(rng, size, frames=frames, objects=objects)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return make_clip(generator, size, frames=frames, objects=objects)


def first_frames(clips: Iterable[Clip]) -> tuple[Tensor, Tensor]:
    """First frames ``(n, 3, s, s)`` and the mask of the first object on each, ``(n, s, s)``."""
    images, masks = zip(*((clip.images[0], clip.masks[0, 0]) for clip in clips), strict=True)
    return torch.stack(images), torch.stack(masks)


def make_volume_clip(rng: np.random.Generator, size: int, *, frames: int = 8, objects: int = 2) -> Clip:
    """Successive slices of a synthetic volume, upwards or downwards, in a square view around an object.

    Parameters
    ----------
    rng : Generator
    size : int
        Side of the frames in pixels.
    frames : int
    objects : int
        At most so many are followed.
    """
    while True:
        side = int(rng.integers(120, 225))
        phantom = make_phantom(rng, (frames + 2, side, side))
        first = int(rng.integers(0, 3))
        steps = np.arange(first, first + frames)
        if rng.random() < 0.5:
            steps = steps[::-1]
        chosen = _chosen_labels(rng, phantom, steps, objects)
        if not chosen:
            continue
        masks = torch.as_tensor(np.stack([phantom.labels[steps] == k for k in chosen]))
        where = torch.as_tensor(_view(rng, phantom.labels[steps[0]] == chosen[0], size))
        shown = torch.as_tensor(_windowed(rng, phantom.image[steps]))
        images = _sampled(shown[:, None], where[None].expand(frames, -1, -1, -1))
        seen = _sampled(masks.float(), where[None].expand(len(masks), -1, -1, -1)) > 0.5
        clip = _kept(images.clamp(0, 1).expand(-1, 3, -1, -1), seen)
        if clip is not None:
            return clip


def make_clip(generator: torch.Generator, size: int, *, frames: int = 8, objects: int = 2) -> Clip:
    """A scene whose image and masks drift, turn, grow or shrink and bend from frame to frame, with fresh noise in each.

    In some clips the first object ends on the way: what is around it grows over it.

    Parameters
    ----------
    generator : torch.Generator
        The only source of randomness.
    size : int
        Side of the frames in pixels.
    frames : int
    objects : int
        At most so many are followed.
    """
    dice = Dice(generator)
    while True:
        scene = make_scene(generator, size, max_objects=objects)
        masks = scene.masks[scene.masks.float().mean((1, 2)) > SMALLEST][:objects]
        if not len(masks) or not torch.equal(masks[0], scene.masks[0]):
            continue
        grids = _motion(dice, size, frames)
        images, seen = scene.image.expand(frames, -1, -1, -1), masks[:, None].expand(-1, frames, -1, -1)
        if dice.chance(0.4):
            images, seen = _ending(dice, images, seen)
        both = torch.cat([images, seen.movedim(0, 1).float()], 1)
        moved = _sampled(both, grids)
        clip = _kept(_drifting(dice, moved[:, :3]), moved[:, 3:].movedim(1, 0) > 0.5)
        if clip is not None:
            return clip


def _kept(images: Tensor, masks: Tensor) -> Clip | None:
    """A clip of the objects that can be prompted in frame 0; None where the first cannot. Specks are no objects."""
    area = masks.float().mean((2, 3))
    masks = masks & (area > PRESENT)[..., None, None]
    there = (area[:, 0] > SMALLEST) & (area[:, 0] < 0.8)
    if not there[0]:
        return None
    return Clip(images.contiguous(), masks[there].contiguous())


def _sampled(values: Tensor, where: Tensor) -> Tensor:
    return F.grid_sample(values, where, mode="bilinear", padding_mode="reflection", align_corners=False)


def _chosen_labels(rng: np.random.Generator, phantom: Phantom, steps: NDArray[np.int64], objects: int) -> list[int]:
    """Objects to follow: large enough on the first slice, the first of them there on a third of the slices."""
    counts = np.stack([np.bincount(phantom.labels[z].ravel(), minlength=64)[1:] for z in steps])
    lasting = (counts > 0).mean(0) > 1 / 3
    chosen = [int(k) + 1 for k in rng.permutation(np.flatnonzero((counts[0] >= 25) & lasting))]
    image, labels = phantom.image[steps[0]], phantom.labels[steps[0]]
    return [k for k in chosen if _visible(image, labels == k)][:objects]


def _visible(image: Field, mask: NDArray[np.bool_]) -> bool:
    """Whether an object can be told from what is around it, at least on the average."""
    ring = ndimage.binary_dilation(mask, iterations=4) & ~mask
    if not ring.any():
        return False
    inside, around = image[mask], image[ring]
    return bool(abs(inside.mean() - around.mean()) > 0.4 * (inside.std() + around.std()) / 2)


def _windowed(rng: np.random.Generator, image: Field) -> Field:
    """Intensities as a window shows them that somebody set, or the whole range."""
    if rng.random() < 0.2:
        return image
    low, high = np.percentile(image[:, ::4, ::4], (0.5, 99.5))
    slack = rng.uniform(-0.15, 0.4, 2) * (high - low)
    low, high = low - slack[0], high + slack[1]
    return np.asarray(np.clip((image - low) / max(high - low, 0.05), 0, 1), np.float32)


def _view(rng: np.random.Generator, mask: NDArray[np.bool_], size: int) -> Field:
    """Sampling grid ``(s, s, 2)`` of a square around a mask as the plugin frames it, or further away."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = float(np.clip(extent * np.exp(rng.uniform(np.log(1.4), np.log(3.5))), 24, min(mask.shape)))
    slack = max(0.0, side - extent) / 2
    middles = ((rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2)
    cy, cx = (c + slack * rng.uniform(-0.5, 0.5) for c in middles)
    cy, cx = (float(np.clip(c, side / 2, n - side / 2)) for c, n in ((cy, height), (cx, width)))
    offsets = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * side
    v, u = np.meshgrid(offsets, offsets, indexing="ij")
    if rng.random() < 0.5:
        u = -u
    return np.stack([(cx + u) * 2 / width - 1, (cy + v) * 2 / height - 1], -1).astype(np.float32)


def _motion(dice: Dice, size: int, frames: int) -> Tensor:
    """Sampling grids ``(t, s, s, 2)`` that drift, turn, scale and bend smoothly, at a speed drawn for the clip."""
    speed = dice.log_uniform(0.15, 1.0)
    turn, scale, zoom = speed * dice.uniform(-0.06, 0.06), speed * dice.uniform(-0.06, 0.06), dice.uniform(0.8, 1.0)
    drift = [speed * dice.uniform(-0.06, 0.06) for _ in range(2)]
    bends = smooth_noise(dice, size // 4, size // 4, dice.uniform(1.5, 5), 4) * speed * dice.uniform(0, 0.03)
    bends = F.interpolate(bends[None], (size, size), mode="bilinear", align_corners=False)[0]
    offset = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    grids = []
    for k in range(frames):
        grow = zoom * math.exp(scale * k)
        v = grow * (y * math.cos(turn * k) + x * math.sin(turn * k)) + drift[0] * k
        u = grow * (x * math.cos(turn * k) - y * math.sin(turn * k)) + drift[1] * k
        v, u = (a + bends[i] * k / 2 + bends[i + 2] * math.sin(0.8 * k) for i, a in enumerate((v, u)))
        grids.append(torch.stack([u, v], -1))
    return torch.stack(grids)


def _ending(dice: Dice, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The first object shrinks from its border, perhaps until nothing is left; what is around it fills its place."""
    frames, _, size, _ = images.shape
    image, mask = images[0], masks[0, 0]
    depth = torch.as_tensor(ndimage.distance_transform_edt(mask.numpy()).astype(np.float32))
    outside = (~mask).float()[None]
    small = [F.avg_pool2d(v[None], 4)[0] for v in (image * outside, outside)]
    around, weight = (blur(v, max(1.0, size / 64)) for v in small)
    around = torch.where(weight > 1e-3, around / weight.clamp(min=1e-3), image.mean((1, 2), keepdim=True))
    fill = F.interpolate(around[None], image.shape[-2:], mode="bilinear", align_corners=False)[0]
    grain = (
        image - F.interpolate(F.avg_pool2d(image[None], 8), image.shape[-2:], mode="bilinear", align_corners=False)[0]
    )
    fill = fill + torch.where(mask, grain.roll((size // 3, size // 3), (1, 2)), 0.0)
    last = dice.uniform(1.5, frames + 2.0)  # frame at which the object has ended
    left = torch.tensor([max(-1.0, 1 - max(0.0, k - 0.3) / last) for k in range(frames)])
    # Of a ball, the outline on a slice shrinks as the square root of what is left of its height.
    threshold = depth.max() * (1 - left.clamp(min=0).sqrt()) + (left <= 0)
    level = depth[None] - threshold[:, None, None]
    alpha = torch.where((threshold == 0)[:, None, None], 1.0, (level / 2 + 0.5).clamp(0, 1))[:, None]
    first = masks[:1] & (level > 0)[None]
    changed = torch.where(mask, images * alpha + fill * (1 - alpha), images)
    return changed, torch.cat([first, masks[1:]])


def _drifting(dice: Dice, images: Tensor) -> Tensor:
    """Brightness that drifts and jumps a little from frame to frame, and noise of its own in each."""
    frames, _, height, width = images.shape
    drift, jump = dice.uniform(-0.02, 0.02), dice.uniform(0, 0.03)
    steps = torch.arange(frames)[:, None, None, None]
    gain = 1 + drift * steps + jump * dice.normal(frames, 1, 1, 1)
    noise = dice.normal(frames, 1, height, width)
    if dice.chance(0.5):
        noise = blur(noise[:, 0], dice.uniform(0.4, 1.2))[:, None]
        noise = noise / noise.std()
    return (images * gain + dice.log_uniform(0.003, 0.05) * noise).clamp(0, 1)
