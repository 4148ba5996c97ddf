"""Reading checkpoint files: their hash, and their weights without running any code in them."""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_uncertsam.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in lower-case hexadecimal, remembered until its size or modification time changes.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        stat = path.stat()
        return _sha256(path.absolute(), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read ({error.strerror}).") from error


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_metadata(path: str | Path) -> dict[str, str]:
    """What a ``.safetensors`` file says of itself; nothing for other files, or where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    if not str(path).endswith(".safetensors"):
        return {}
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Weights of a ``.pt`` or ``.safetensors`` file, on the CPU; code inside a file is refused, never run.

    Parameters
    ----------
    path : str or Path
        A ``.pt`` file holds the weights themselves or under ``"model"`` or ``"state_dict"``.

    Returns
    -------
    dict of str to Tensor
        Parameter name to tensor.

    Raises
    ------
    CheckpointError
        If the file is missing, cut short, damaged, not a checkpoint, or contains code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint file {path}; check the path.")
    loaded = _read(path)
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    import torch

    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise CheckpointError(f"The file {path} holds no model weights; give a SAM 2 checkpoint.")
    return {str(key): value for key, value in loaded.items()}


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"The file {path} is damaged or contains code instead of only weights, and was not loaded; "
            "use a checkpoint from its publisher."
        ) from error
    except Exception as error:  # damaged bytes can raise nearly anything inside the two readers
        raise CheckpointError(
            f"The checkpoint {path} is damaged or cut short ({path.stat().st_size} bytes); download it again."
        ) from error
