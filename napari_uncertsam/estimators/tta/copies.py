"""Changed copies of an embedded image, embedded once and kept with it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from napari_uncertsam.engine import Embedding, Engine


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
