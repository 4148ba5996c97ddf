"""An engine whose calls can be watched and stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.engine.values import Decoded, DenseTransform, Embedding, Engine
from napari_uncertsam.prompts import Prompts


class WatchedEngine:
    """Another engine, with something around each image that it embeds and before each decode.

    A method that looks at ten copies of an image need not know of progress or of cancelling this way.

    Parameters
    ----------
    engine : Engine
    embedding : callable
        Gives the context in which an image is embedded.
    decoding : callable
        Called before each decode; may raise, as the context may.
    """

    def __init__(
        self,
        engine: Engine,
        embedding: Callable[[], AbstractContextManager[None]],
        decoding: Callable[[], None],
    ) -> None:
        self._engine, self._embedding, self._decoding = engine, embedding, decoding

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._engine.name

    @property
    def device_label(self) -> str:
        """Where it runs, for people."""
        return self._engine.device_label

    @property
    def sha256(self) -> str:
        """Hash of the checkpoint file."""
        return self._engine.sha256

    @property
    def resolution(self) -> int:
        """Side of the square input in model pixels."""
        return self._engine.resolution

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an image as the other engine does."""
        with self._embedding():
            return self._engine.embed(image)

    def decode(
        self, embedding: Embedding, prompts: Sequence[Prompts], *, dense: DenseTransform | None = None
    ) -> Decoded:
        """Decode prompts as the other engine does."""
        self._decoding()
        return self._engine.decode(embedding, prompts, dense=dense)
