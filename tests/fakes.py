"""An engine without a model: bright objects on a dark ground, answered in closed form and in milliseconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from napari_uncertsam.engine import Decoded, DenseTransform, Embedding
from napari_uncertsam.errors import EngineError, InputError
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.suggestions.hypotheses import Weight

TOKENS, CHANNELS, HIDDEN, SOURCE = 4, 8, 12, 12
#: Logits of the other mask tokens, relative to token 0.
OFFSETS = (0.0, 1.5, 0.0, -1.5)

#: By which a mask's contrast and consensus decide, as they should for an engine that segments by brightness.
SCORE = {
    "overlap": Weight(0.7198, 0.4544, -0.0004, 0.0064, -0.0038),
    "consensus": Weight(0.7063, 0.1018, 0.0559, -0.0072, 0.0244),
    "contrast": Weight(0.1697, 0.1876, 0.0513, 0.0036, -0.0160),
    "area": Weight(-0.4928, 0.2333, 0.0219, -0.0030, -0.0014),
    "entropy": Weight(3.3043, 1.1014, -0.0217, 0.0028, -0.0018),
    "box": Weight(0.6721, 0.1357, -0.0009, 0.0015, -0.0022),
    "fit": Weight(0.6409, 0.1272, -0.0050, -0.0006, 0.0058),
    "tightness": Weight(0.8498, 0.0749, -0.0050, 0.0005, -0.0018),
    "border": Weight(0.1091, 0.3255, -0.0015, 0.0003, -0.0026),
}


class FakeEngine:
    """Segments the bright connected regions of an image that a prompt names.

    A grey value of 128 has the logit 0, brighter is object, with partial volume at edges. A box selects the regions
    that reach into it; their part outside of it is left open at the logit `doubt`, so a box that cuts an object off
    shows uncertainty where the object goes on. A positive point selects the whole region under it, a negative point
    takes the region away unless a box holds it; both also draw a bump of their sign around themselves. A mask prompt
    adds a quarter of its logits; alone it is repeated.

    All fields of `Decoded` fit together: with the `weight` (T, K, C) and `bias` (T, K) of this engine,
    ``token_logits[n, t] == einsum("k,khw", weight[t] @ token_hidden[n, t] + bias[t], features[n])``.

    Parameters
    ----------
    resolution : int
        Side of the pretended model input; maps are a quarter of that.
    doubt : float
        Logit of a selected object outside of the box.
    delay : float
        Seconds that every call takes.
    """

    def __init__(self, resolution: int = 256, doubt: float = -1.5, delay: float = 0.0) -> None:
        self.resolution, self.doubt, self.delay = resolution, doubt, delay
        self.name, self.device_label, self.sha256 = "fake", "CPU (fake)", "f" * 64
        #: Set to make the next calls of that kind fail as if memory had run out.
        self.fail: Literal["embed", "decode"] | None = None
        self.embed_calls = self.decode_calls = 0
        #: The prompts of every decode.
        self.decoded: list[tuple[Prompts, ...]] = []
        rng = np.random.default_rng(7)
        self.weight = torch.as_tensor(rng.normal(0, 0.3, (TOKENS, CHANNELS, HIDDEN)), dtype=torch.float32)
        self.bias = torch.as_tensor(rng.normal(0, 1, (TOKENS, CHANNELS)), dtype=torch.float32)
        self._mix = rng.normal(0, 1, (TOKENS, HIDDEN, 8))
        self._busy = threading.Lock()

    @property
    def grid(self) -> tuple[int, int]:
        return self.resolution // 4, self.resolution // 4

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        with self._call("embed"):
            self.embed_calls += 1
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
                raise InputError(f"The model embeds (H, W, 3) uint8 images, not {image.dtype} of shape {image.shape}.")
            grey = torch.as_tensor(image.mean(2, dtype=np.float32) / 255)[None, None]
            cells = F.interpolate(grey, self.grid, mode="bilinear", align_corners=False, antialias=True)
            return Embedding((cells,), (image.shape[0], image.shape[1]), image)

    def decode(
        self, embedding: Embedding, prompts: Sequence[Prompts], *, dense: DenseTransform | None = None
    ) -> Decoded:
        """As without a model: `dense` sees zeros of the right shape, and its mean is added to every logit."""
        with self._call("decode"):
            self.decode_calls += 1
            if not prompts or any(p.box is None and not p.points and p.mask is None for p in prompts):
                raise InputError("There is nothing to segment from: draw a box or click a point inside the object.")
            self.decoded.append(tuple(prompts))
            rows = [self._tokens(embedding, p) for p in prompts]
        columns = [torch.as_tensor(np.stack(c), dtype=torch.float32) for c in zip(*rows, strict=True)]
        logits, hidden, features, source = columns
        if dense is not None:
            changed = dense(torch.zeros(len(rows), SOURCE, *source.shape[-2:]))
            logits = logits + changed.mean((1, 2, 3))[:, None, None, None]
        token, iou = torch.zeros(len(rows), dtype=torch.int64), _expected_iou(logits)
        chosen = (logits[:, 0], token, hidden[:, 0], features, iou[:, 0], logits[:, 0].amax((1, 2)))
        return Decoded(*chosen, logits, hidden, iou, hidden, source)

    @contextmanager
    def _call(self, kind: str) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise AssertionError("An engine was used from two threads at once.")
        try:
            time.sleep(self.delay)
            if self.fail == kind:
                raise EngineError(f"There was not enough memory to {kind} with fake; choose a smaller model.")
            yield
        finally:
            self._busy.release()

    def _tokens(self, embedding: Embedding, prompts: Prompts) -> tuple[NDArray[np.float64], ...]:
        """Logits (T, h, w), hidden vectors (T, C) and features (K, h, w) that fit together."""
        grey = embedding.features[0][0, 0].double().numpy()
        masks = self._logits(grey, embedding.shape, prompts) + np.array(OFFSETS)[:, None, None]
        box = prompts.box or Box(0, 0, 0, 0)
        signs = sum(1 if p.positive else -1 for p in prompts.points)
        said = np.array([1, box.y0, box.x0, box.y1, box.x1, len(prompts.points), signs, prompts.box is None])
        hidden = np.maximum(self._mix @ (said / np.array([1, *embedding.shape, *embedding.shape, 4, 4, 1])), 0)
        heads = np.einsum("tkc,tc->tk", self.weight.double().numpy(), hidden) + self.bias.double().numpy()
        inverse = np.linalg.pinv(heads)
        rows, columns = np.mgrid[: grey.shape[0], : grey.shape[1]] / grey.shape[0]
        waves = np.stack([np.sin((k + 1) * rows) * np.cos(k * columns) + grey for k in range(CHANNELS)])
        null = np.eye(CHANNELS) - inverse @ heads
        features = np.einsum("kt,thw->khw", inverse, masks) + np.einsum("kj,jhw->khw", null, waves)
        small = features.reshape(CHANNELS, grey.shape[0] // 4, 4, grey.shape[1] // 4, 4).mean((2, 4))
        return masks, hidden, features, np.concatenate([small, small[: SOURCE - CHANNELS]])

    def _logits(self, grey: NDArray[np.float64], shape: tuple[int, int], prompts: Prompts) -> NDArray[np.float64]:
        memory = 0.0
        if prompts.mask is not None:
            given = torch.tensor(prompts.mask.logits)[None, None]
            memory = F.interpolate(given, grey.shape, mode="bilinear", align_corners=False)[0, 0].double().numpy()
            if prompts.box is None and not prompts.points:
                return memory
        cells = [(self._cell(p, shape), p.positive) for p in prompts.points]
        labels, count = ndimage.label(grey > 0.5)
        whole, boxed = np.zeros(count + 1, bool), np.zeros(count + 1, bool)
        inside = np.ones(grey.shape)
        if prompts.box is not None:
            inside = self._inside(prompts.box, shape)
            boxed[np.unique(labels[inside > 0.5])] = True
        for (y, x), positive in cells:
            row, column = (int(np.clip(round(v), 0, n - 1)) for v, n in zip((y, x), grey.shape, strict=True))
            whole[labels[row, column]] = positive
        whole[0] = boxed[0] = False
        # Cells at an edge are darker than 0.5 but belong to the region they touch: nearest label.
        nearest = labels
        if count:
            index = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
            nearest = labels[tuple(index)]
        evidence = np.clip(24 * (grey - 0.5), -6, 6)
        in_box = np.where(inside >= 0.5, evidence, np.minimum(evidence, self.doubt))
        soft = inside * evidence + (1 - inside) * in_box
        logits = np.where(whole[nearest], evidence, np.where(boxed[nearest], soft, -6.0))
        rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
        for (y, x), positive in cells:
            bump = 9 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 2.0**2))
            logits = logits + (bump if positive else -bump)
        return np.asarray(np.clip(logits, -12, 12) + 0.25 * memory)

    def _cell(self, point: Point, shape: tuple[int, int]) -> tuple[float, float]:
        """Fractional cell of a point, through the model's pixels as SAM 2 puts it there."""
        (h, w), half = self.grid, 0.5 / self.resolution
        return (point.y / shape[0] + half) * h - 0.5, (point.x / shape[1] + half) * w - 0.5

    def _inside(self, box: Box, shape: tuple[int, int]) -> NDArray[np.float64]:
        """1 inside a box and 0 outside, with a ramp of one cell."""
        ramps = []
        for low, high, side, n in ((box.y0, box.y1, shape[0], self.grid[0]), (box.x0, box.x1, shape[1], self.grid[1])):
            # A box prompt runs from the centre of its first to the centre of its last model pixel.
            centres = np.arange(n) + 0.5
            start, stop = low / side * n, (high / side + 1 / self.resolution) * n
            ramps.append(np.clip(np.minimum(centres - start, stop - centres) + 0.5, 0, 1))
        return np.minimum(ramps[0][:, None], ramps[1][None, :])


def install_posterior(engine: FakeEngine, precision: float = 100.0) -> Path:
    """Give the engine's checkpoint a Laplace posterior in the cache: nothing but a prior."""
    from napari_uncertsam.checkpoints import installed_path, write_part
    from napari_uncertsam.estimators.laplace import LaplacePosteriors

    prior = LaplacePosteriors.prior(TOKENS, CHANNELS, HIDDEN, precision)
    path = installed_path("laplace", engine.sha256)
    return write_part(path, "laplace", engine.sha256, prior.tensors(), {"structure": "diagonal"})


def _expected_iou(logits: torch.Tensor) -> torch.Tensor:
    """Expected intersection over expected union of the masks, from their own probabilities."""
    probability, mask = logits.sigmoid(), (logits > 0).float()
    shared = (probability * mask).sum((-2, -1))
    return shared / (mask + probability * (1 - mask)).sum((-2, -1)).clamp(min=1e-6)


def scene(
    height: int = 128, width: int = 128, *boxes: Box, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A dark RGB image with one bright ellipse per box, and its label image (1, 2, ... in the boxes' order).

    Without boxes: one ellipse of rows 40 to 87 and columns 34 to 97 in the default size.
    """
    image = np.random.default_rng(seed).normal(30, 4, (height, width))
    labels = np.zeros((height, width), np.uint16)
    rows, columns = np.ogrid[:height, :width]
    for value, box in enumerate(boxes or (Box(40, 34, 87, 97),), 1):
        (cy, cx), ry, rx = box.centre, box.height / 2, box.width / 2
        inside = ((rows - cy) / ry) ** 2 + ((columns - cx) / rx) ** 2 <= 1
        labels[inside] = value
        image[inside] += 190
    grey = np.clip(image, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2), labels
