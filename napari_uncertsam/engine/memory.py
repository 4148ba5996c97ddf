"""Running out of memory, as a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from napari_uncertsam.errors import EngineError


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn an out-of-memory error into a sentence; the session goes on."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineError(_out_of_memory(what)) from error
    except RuntimeError as error:
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            raise EngineError(_out_of_memory(what)) from error
        raise


def _out_of_memory(what: str) -> str:
    return (
        f"There was not enough memory to {what}; choose a smaller model, close other programs, "
        "or run on the CPU. Nothing was lost."
    )
