"""Changed copies of an embedded image, embedded once and kept with it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import decoded_iou, decoded_logits

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine
    from napari_uncertsam.estimators.tta.warps import Warp
    from napari_uncertsam.prompts import Prompts


@runtime_checkable
class LooksAtCopies(Protocol):
    """An estimator that embeds changed copies of the image before its first belief."""

    @property
    def copies(self) -> int:
        """How many at most, not counting the image as it is."""


def pixels_of(embedding: Embedding) -> NDArray[np.uint8]:
    """The pixels that were embedded, ``(h, w, 3)``.

    Raises
    ------
    InputError
        If the embedding does not hold them.
    """
    if embedding.image is None:
        raise InputError(
            "Test-time augmentation changes the image, but this embedding holds no pixels; "
            "embed the image again or choose another method."
        )
    return embedding.image


def copy_rng(image: NDArray[np.uint8], seed: int, index: int) -> np.random.Generator:
    """The generator for one copy: the same for the same pixels, independent between images."""
    digest = zlib.crc32(np.ascontiguousarray(image).data)
    return np.random.default_rng([seed, digest, index])


def copy_embedding(
    engine: Engine, embedding: Embedding, key: Hashable, shape: tuple[int, int], make: Callable[[], NDArray[np.uint8]]
) -> Embedding:
    """The embedding of a changed copy, from the memory of the unchanged one if it was asked for before.

    Parameters
    ----------
    engine : Engine
    embedding : Embedding
        Of the unchanged image.
    key : hashable
        What was changed, in full.
    shape : (int, int)
        ``(H, W)`` of the frame that prompts on the copy are in.
    make : callable
        Gives the pixels of the copy, uint8.

    Raises
    ------
    EngineError
        If the model fails or memory runs out.
    """
    from napari_uncertsam.engine import memory_errors

    if key not in embedding.derived:
        with memory_errors("change a copy of the image"):
            pixels = make()
        embedding.derived[key] = replace(engine.embed(pixels), shape=shape, image=None)
    return embedding.derived[key]


def look_through(
    engine: Engine, embedding: Embedding, prompts: Prompts, warps: Sequence[Warp]
) -> tuple[NDArray[np.float32], list[float]]:
    """Logits ``(n, h, w)`` and predicted IoU of an image and of warped copies, one decode each, on the image's grid.

    The image as it is comes first. Where a warped copy does not reach, its logits are those of the image as it is.

    Raises
    ------
    InputError
        If the prompts say nothing, or the embedding does not hold the pixels of the image.
    EngineError
        If the model fails.
    """
    image, shape = pixels_of(embedding), embedding.shape
    decoded = engine.decode(embedding, [prompts])
    members, trust = [decoded_logits(decoded)[0]], [decoded_iou(decoded)]
    for warp in warps:
        make = partial(warp.image, image, shape)
        look = copy_embedding(engine, embedding, ("warp", warp), warp.shape(shape), make)
        decoded = engine.decode(look, [warp.prompts(prompts, shape, engine.resolution)])
        members.append(warp.back(decoded_logits(decoded)[0], shape, members[0]))
        trust.append(decoded_iou(decoded))
    return np.stack(members), trust
