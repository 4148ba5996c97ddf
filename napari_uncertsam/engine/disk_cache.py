"""Embeddings on disk: from one session to the next, and between two that run at once.

An embedding is one safetensors file, named by its key. It gets its name when it is complete, and nobody is ever waited
for: whatever goes wrong with the disk, the embedding is computed instead.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_uncertsam.checkpoints import cache_dir
from napari_uncertsam.engine.values import Embedding
from napari_uncertsam.errors import InputError

#: Environment variable with the limit in GiB; 0 switches the cache off.
LIMIT_VARIABLE = "NAPARI_UNCERTSAM_CACHE_GB"
#: Embeddings of some 500 slices of SAM 2.1, 8,000 of the bundled model.
LIMIT_GB = 8.0
#: Evicting goes on until this share of the limit is taken, so that it does not begin again with the next file.
KEPT = 0.9
_TOUCH_EVERY = 60.0  # seconds between two notes that a file was used
_ABANDONED = 3600.0  # seconds after which an unfinished file is one of a process that died
_LOG = logging.getLogger(__name__)


class DiskCache:
    """Embeddings in files, least recently used removed first; any number of processes may share the folder.

    Parameters
    ----------
    folder : path
        Made when the first embedding is kept, for its owner alone: images can be told from their embeddings.
    limit_bytes : int
        What all files together may take. Each process that writes at the same time may go over it by a sixteenth.

    Examples
    --------
    >>> import tempfile
    >>> embedding = Embedding((torch.rand(1, 4, 8, 8),), (20, 30))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = DiskCache(folder, 1 << 20)
    ...     cache.put("ab12", embedding)
    ...     torch.equal(cache.get("ab12").features[0], embedding.features[0]), cache.get("cd34")
    (True, None)
    """

    def __init__(self, folder: str | os.PathLike[str], limit_bytes: int) -> None:
        self.folder, self.limit_bytes = Path(folder), int(limit_bytes)
        self._taken: int | None = None  # bytes when the folder was last looked through
        self._written = 0  # bytes written by this process since
        self._stopped = False

    @classmethod
    def default(cls) -> DiskCache | None:
        """The user's own cache; None where it is switched off.

        Raises
        ------
        InputError
            If the environment variable with the limit holds no number.
        """
        given = os.environ.get(LIMIT_VARIABLE) or LIMIT_GB
        try:
            limit = float(given)
        except ValueError:
            limit = math.nan
        if not (math.isfinite(limit) and limit >= 0):
            raise InputError(f"{LIMIT_VARIABLE} is {given!r}; give a number of gigabytes, or 0 for no cache on disk.")
        return cls(cache_dir() / "embeddings", int(limit * 2**30)) if limit else None

    def path(self, key: str) -> Path:
        """Where the embedding of a key lies, whether it is there or not."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(
        self, key: str, image: NDArray[np.uint8] | None = None, device: torch.device | str = "cpu"
    ) -> Embedding | None:
        """The embedding, or None where there is none that can be read; a damaged file is removed.

        Parameters
        ----------
        key : str
        image : (h, w, 3) uint8, optional
            The picture that was embedded, which is not kept: whoever knows the key has it.
        device : torch.device or str
            Where the features are wanted.
        """
        path = self.path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            embedding = _decoded(content, image, device)
        except _Damaged:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _TOUCH_EVERY:
                os.utime(path)
        return embedding

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding, without those derived from it; does nothing where the disk does not let it."""
        if self._stopped:
            return
        content, path = _encoded(embedding), self.path(key)
        if len(content) > self.limit_bytes or path.exists():
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(exist_ok=True)
            _write(path, content)
            self._written += len(content)
            self._evict()
        except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
            self._stopped = True
            reason = getattr(error, "strerror", None) or str(error)
            _LOG.warning("Embeddings are not kept on disk until the next start: %s (%s).", reason, self.folder)

    def _evict(self) -> None:
        """Remove what was used longest ago until the rest is within the limit, unless another process is at it."""
        known = self._taken is not None and self._written <= self.limit_bytes // 16
        if known and (self._taken or 0) + self._written <= self.limit_bytes:
            return
        import filelock

        try:
            with filelock.FileLock(self.folder / ".lock").acquire(timeout=0):
                self._taken = self._emptied(list(self._files()))
                self._written = 0
        except filelock.Timeout:
            return

    def _emptied(self, files: list[tuple[float, int, Path]]) -> int:
        """Remove the oldest of some files (time, size, path) if they are too many; returns what is left in bytes."""
        taken = sum(size for _, size, _ in files)
        if taken <= self.limit_bytes:
            return taken
        for _, size, path in sorted(files)[:-1]:  # never the newest
            if taken <= KEPT * self.limit_bytes:
                break
            with suppress(OSError):  # somebody has it open, where that keeps it from being removed
                path.unlink(missing_ok=True)
                taken -= size
        return taken

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of use, size and path of all embeddings; unfinished files of processes that died are removed."""
        for path in self.folder.glob("??/*"):
            try:
                stat = path.stat()
                if path.suffix == ".safetensors":
                    yield stat.st_mtime, stat.st_size, path
                elif time.time() - stat.st_mtime > _ABANDONED:
                    path.unlink()
            except OSError:
                continue


class _Damaged(Exception):
    """A file that is no embedding, or not all of one."""


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.stem}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content)
        try:
            os.replace(temporary, path)
        except PermissionError:
            if not path.exists():  # else another process has written it, and reads it
                raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _encoded(embedding: Embedding) -> bytes:
    """An embedding as the content of a file.

    Features are kept in the order in which they lie in memory, since a convolution of channels that lie together sums
    in another order: with the strides lost, masks would not be the same to the last bit.
    """
    from safetensors.torch import save

    tensors = {"shape": torch.tensor(embedding.shape)}
    for number, feature in enumerate(embedding.features):
        order = sorted(range(feature.ndim), key=[-stride for stride in feature.stride()].__getitem__)
        tensors[f"order{number}"] = torch.tensor(order)
        tensors[f"features{number}"] = feature.detach().permute(order).contiguous().cpu()
    tensors["sum"] = torch.tensor(_checksum(tensors))
    return bytes(save(tensors))


def _decoded(content: bytes, image: NDArray[np.uint8] | None, device: torch.device | str) -> Embedding:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(content)
        if int(tensors.pop("sum")) != _checksum(tensors):
            raise _Damaged
        height, width = tensors["shape"].tolist()
        features = []
        for number in range(len(tensors) // 2):
            order = tensors[f"order{number}"]
            # A copy, for sums depend on how memory is aligned, too.
            kept = tensors[f"features{number}"].clone().to(device)
            features.append(kept.permute(*order.argsort().tolist()))
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError, TypeError) as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        raise _Damaged from error
    return Embedding(tuple(features), (height, width), image)


def _checksum(tensors: dict[str, Tensor]) -> int:
    """CRC-32 of names and contents: after a power failure, a file can have its length and not its content."""
    value = 0
    for name in sorted(tensors):
        flat: NDArray[Any] = tensors[name].contiguous().view(-1).view(torch.uint8).numpy()
        value = zlib.crc32(flat.data, zlib.crc32(name.encode(), value))
    return value
