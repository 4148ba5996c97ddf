"""Embeddings that were computed before."""

from __future__ import annotations

from collections import OrderedDict

from napari_uncertsam.engine.values import Embedding

#: Memory that cached embeddings may take: about 60 slices of SAM 2.1, 1,000 of the bundled model.
CACHE_BYTES = 1 << 30


class EmbeddingCache:
    """Embeddings by content, least recently used dropped first; with them go those of changed copies of the image."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._entries: OrderedDict[str, Embedding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Embedding | None:
        """The embedding, now the most recently used, or None."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding; the newest is kept even if it alone is over the limit."""
        self._entries[key] = embedding
        self.trim()

    def trim(self) -> None:
        """Drop what was used longest ago until the rest is within the limit: entries grow as methods look at copies."""
        while len(self._entries) > 1 and sum(e.nbytes for e in self._entries.values()) > self.limit_bytes:
            self._entries.popitem(last=False)
