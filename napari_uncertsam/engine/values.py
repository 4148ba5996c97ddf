"""What an engine takes and gives: embeddings, decoded masks, and the protocol itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_uncertsam.prompts import Prompts

#: Changes the dense prompt embedding ``(n, C, h, w)`` on its way into the mask decoder; the shape stays.
DenseTransform = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder made of one image.

    Parameters
    ----------
    features : tuple of tensors (1, C_i, h_i, w_i)
        Highest resolution first, the image embedding last.
    shape : (int, int)
        ``(H, W)`` of the image; prompts are in its pixel coordinates.
    image : (h, w, 3) uint8, optional
        The pixels that were embedded: all of the image's, or a huge one thinned out evenly.
    derived : dict
        Embeddings of changed copies of the image by what was changed, for methods that look at several; they are
        forgotten together with this one.
    """

    features: tuple[Tensor, ...]
    shape: tuple[int, int]
    image: NDArray[np.uint8] | None = field(default=None, repr=False)
    derived: dict[Hashable, Embedding] = field(default_factory=dict, repr=False)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        own = sum(f.nbytes for f in self.features) + (0 if self.image is None else self.image.nbytes)
        return own + sum(other.nbytes for other in list(self.derived.values()))


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks for N prompts, and what they were computed from; float32 tensors on the CPU or the engine's device.

    Parameters
    ----------
    logits : (N, h, w)
        Low-resolution logits of the token that SAM 2 chose, not clamped.
    token : (N,) int64
        Which mask token that was: 0, or 1 to 3 where token 0 was unstable and the model has the fallback.
    hidden : (N, C)
        Input `a` of the last layer of the chosen token's hypernetwork.
    features : (N, K, h, w)
        Upscaled features `u`: ``logits = einsum("k,khw", W a + b, u)``.
    iou : (N,)
        Predicted intersection over union of the chosen mask.
    object_score : (N,)
        Logit of "there is an object".
    token_logits : (N, T, h, w)
        Logits of all T mask tokens.
    token_hidden : (N, T, C)
    token_iou : (N, T)
    token_embedding : (N, T, C)
        Mask tokens as they leave the two-way transformer: input of the hypernetworks.
    source : (N, C, h / 4, w / 4)
        Image embedding as it leaves the two-way transformer: input of the upscaling.
    """

    logits: Tensor
    token: Tensor
    hidden: Tensor
    features: Tensor
    iou: Tensor
    object_score: Tensor
    token_logits: Tensor
    token_hidden: Tensor
    token_iou: Tensor
    token_embedding: Tensor
    source: Tensor


@runtime_checkable
class Engine(Protocol):
    """A promptable segmentation model. Not safe for use from two threads at once."""

    @property
    def name(self) -> str:
        """Name of the model, as the user chose it."""

    @property
    def device_label(self) -> str:
        """Where it runs, for people: "CPU (2 threads)", "GPU: NVIDIA H200"."""

    @property
    def sha256(self) -> str:
        """Hash of the checkpoint file."""

    @property
    def resolution(self) -> int:
        """Side of the square input in model pixels."""

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an ``(H, W, 3)`` uint8 RGB image."""

    def decode(
        self, embedding: Embedding, prompts: Sequence[Prompts], *, dense: DenseTransform | None = None
    ) -> Decoded:
        """Masks for several prompts on one image; `dense` changes the dense prompt embedding on its way."""
