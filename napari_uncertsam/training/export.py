"""Weights as they are shipped: half precision in one file that is complete or not there, and not too large to ship."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from napari_uncertsam.errors import InputError

#: Largest file of the bundled weights, in bytes.
MOST_BYTES = 20 * 10**6


def stored(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Weights as the file holds them: floating tensors in `dtype`, on the CPU; others as they are.

    Raises
    ------
    InputError
        If a value is not finite or overflows `dtype`, or the tensors alone are more than :data:`MOST_BYTES`.
    """
    out = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu()
        if value.is_floating_point():
            largest, most = value.abs().max().item() if value.numel() else 0.0, torch.finfo(dtype).max
            if not largest < most:  # NaN too
                raise InputError(
                    f"The weights {name} hold {largest:g}, which cannot be stored as {str(dtype).rpartition('.')[2]} "
                    f"(below {most:g}); train with a lower learning rate."
                )
            value = value.to(dtype)
        out[name] = value.clone(memory_format=torch.contiguous_format)  # safetensors refuses memory that is shared
    _check_size(sum(v.numel() * v.element_size() for v in out.values()))
    return out


def write_weights(
    state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float16
) -> Path:
    """Write weights as safetensors; the file is complete, or the one before is still there.

    Parameters
    ----------
    state : mapping of str to Tensor
    path : Path
        In a folder that exists.
    metadata : mapping of str to str
    dtype : torch.dtype
        Of floating tensors in the file. They are loaded into float32 modules, so nothing is computed in it.

    Returns
    -------
    `path`.

    Raises
    ------
    InputError
        See :func:`stored`; or if the file would be larger than :data:`MOST_BYTES`, or cannot be written.
    """
    from safetensors.torch import save_file

    tensors, partial = stored(state, dtype), path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, partial, metadata=dict(metadata))
        _check_size(partial.stat().st_size)
        partial.chmod(0o644)  # safetensors keeps its files to their owner
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"The weights cannot be written to {path} ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise InputError(
            f"The weights take {size / 1e6:.1f} MB, more than the {MOST_BYTES / 1e6:.0f} MB that may be shipped; "
            "choose a smaller model."
        )
