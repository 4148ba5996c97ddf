"""Where the model runs, and what to call it."""

from __future__ import annotations

import torch

from napari_uncertsam.errors import EngineError


def best_device() -> torch.device:
    """CUDA, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_label(device: torch.device) -> str:
    """Name of a device for people."""
    if device.type == "cuda":
        return f"GPU: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU: Apple (Metal)"
    return f"CPU ({torch.get_num_threads()} threads)"


def choose_device(device: str | None) -> torch.device:
    """A device by name, or the best there is for None or "auto".

    Raises
    ------
    EngineError
        If the named device is not there.
    """
    if device in (None, "auto"):
        return best_device()
    try:
        chosen = torch.device(str(device))
        if chosen.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("not a kind of device that this package runs on")
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EngineError(f"The device {device!r} cannot be used here; choose auto or cpu.") from error
    return chosen
