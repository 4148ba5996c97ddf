"""The engine: an image is embedded once, prompts are decoded in batches. The only room that builds a SAM 2."""

from napari_uncertsam.engine.building import build_model, config_path, image_features, normalise
from napari_uncertsam.engine.cache import CACHE_BYTES, EmbeddingCache
from napari_uncertsam.engine.disk_cache import DiskCache
from napari_uncertsam.engine.embedder import Embedder
from napari_uncertsam.engine.memory import memory_errors
from napari_uncertsam.engine.sam2_engine import Sam2Engine
from napari_uncertsam.engine.tracking import RemembersSlices, Sam2Tracker, Tracker
from napari_uncertsam.engine.values import Decoded, DenseTransform, Embedding, Engine
from napari_uncertsam.engine.watched import WatchedEngine

__all__ = [
    "CACHE_BYTES",
    "Decoded",
    "DenseTransform",
    "DiskCache",
    "Embedder",
    "Embedding",
    "EmbeddingCache",
    "Engine",
    "RemembersSlices",
    "Sam2Engine",
    "Sam2Tracker",
    "Tracker",
    "WatchedEngine",
    "build_model",
    "config_path",
    "image_features",
    "memory_errors",
    "normalise",
]
