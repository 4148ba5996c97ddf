"""From the pixels of a slice to what the image encoder makes of them, computed once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_uncertsam.engine.cache import EmbeddingCache
from napari_uncertsam.engine.disk_cache import DiskCache
from napari_uncertsam.engine.memory import memory_errors
from napari_uncertsam.engine.values import Embedding, Engine
from napari_uncertsam.errors import InputError
from napari_uncertsam.view import LARGEST_SIDE, View
from napari_uncertsam.volume import Window

#: Part of every key; raised when the same picture is embedded in another way.
_FORMAT = 1


class Embedder:
    """Embeds views of slices with one engine, each only once.

    Parameters
    ----------
    engine : Engine
    cache : EmbeddingCache
    disk : DiskCache, optional
        Looked into when `cache` does not have an embedding, and given what was computed. Left alone where the engine
        has no hash of its checkpoint: random weights are others the next time.
    """

    def __init__(self, engine: Engine, cache: EmbeddingCache, disk: DiskCache | None = None) -> None:
        self.engine, self.cache = engine, cache
        self.disk = disk if engine.sha256 else None

    def embedding(self, raw: NDArray[Any], window: Window, view: View) -> Embedding:
        """Embedding of a view, from the caches when the same pixels were seen before.

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
        key = self._key(image, window, shape)
        embedding = self.cache.get(key)
        if embedding is None:
            embedding = self._from_disk(key, image)
            if embedding is None:
                embedding = replace(self.engine.embed(image), shape=shape)
                if self.disk is not None:
                    self.disk.put(key, embedding)
            self.cache.put(key, embedding)
        return embedding

    def _from_disk(self, key: str, image: NDArray[np.uint8]) -> Embedding | None:
        if self.disk is None:
            return None
        with memory_errors(f"read an embedding of {self.engine.name}"):
            return self.disk.get(key, image, getattr(self.engine, "device", "cpu"))

    def _key(self, image: NDArray[np.uint8], window: Window, shape: tuple[int, int]) -> str:
        digest = hashlib.sha256(f"{self._of_model}|{window.low}|{window.high}|{image.shape}|{shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

    @cached_property
    def _of_model(self) -> str:
        """All that tells embeddings of one picture apart: the model, and where and with what it runs.

        Features of two devices, or of two versions of torch, differ in the last digits.
        """
        engine = self.engine
        adapter = (getattr(engine, "adapter", None) or {}).get("sha256", "")
        runs = (engine.device_label, torch.backends.cpu.get_cpu_capability(), torch.__version__, _version_of_sam2())
        return repr((_FORMAT, engine.name, engine.sha256, adapter, engine.resolution, *runs))


def _version_of_sam2() -> str:
    try:
        return version("sam2")
    except PackageNotFoundError:
        return ""
