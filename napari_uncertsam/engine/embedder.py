"""From the pixels of a slice to what the image encoder makes of them, computed once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.engine.cache import EmbeddingCache
from napari_uncertsam.engine.values import Embedding, Engine
from napari_uncertsam.errors import InputError
from napari_uncertsam.view import LARGEST_SIDE, View
from napari_uncertsam.volume import Window


class Embedder:
    """Embeds views of slices with one engine, each only once.

    Parameters
    ----------
    engine : Engine
    cache : EmbeddingCache
    """

    def __init__(self, engine: Engine, cache: EmbeddingCache) -> None:
        self.engine, self.cache = engine, cache

    def embedding(self, raw: NDArray[Any], window: Window, view: View) -> Embedding:
        """Embedding of a view, from the cache when the same pixels were seen before.

        A huge view is thinned out to what the model can tell apart; prompts stay in the view's own pixels.

        Parameters
        ----------
        raw : (H, W) or (H, W, 3)
            The slice with its own intensities.
        window : Window
        view : View

        Raises
        ------
        InputError
            If every pixel in the view is NaN.
        EngineError
            If memory runs out.
        """
        pixels = view.crop(raw, LARGEST_SIDE)
        if pixels.dtype.kind == "f" and np.isnan(pixels).all():
            raise InputError("Every pixel around the prompt is NaN, so there is nothing to see; choose another place.")
        image, shape = window.apply(pixels), (view.height, view.width)
        digest = hashlib.sha256(f"{self.engine.name}|{self.engine.sha256}|{image.shape}|{shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        key = digest.hexdigest()
        embedding = self.cache.get(key)
        if embedding is None:
            embedding = replace(self.engine.embed(image), shape=shape)
            self.cache.put(key, embedding)
        return embedding
