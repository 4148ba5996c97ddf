"""One prediction under way, and what a reader needs to reproduce it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from numpy.typing import NDArray

from napari_uncertsam.engine import Engine
from napari_uncertsam.errors import Cancelled
from napari_uncertsam.prediction import Request
from napari_uncertsam.volume import Volume

CancelledCallback = Callable[[], bool]
ProgressCallback = Callable[[str, float], None]


@dataclass
class Run:
    """One prediction under way: the slice, how to stop, and where the time went."""

    volume: Volume
    request: Request
    cancelled: CancelledCallback
    progress: ProgressCallback
    seconds: dict[str, float] = field(default_factory=lambda: {"embed": 0.0, "decode": 0.0, "measure": 0.0})
    share: float = 0.0

    @cached_property
    def raw(self) -> NDArray[Any]:
        """The slice with its own intensities."""
        return self.volume.slice(self.request.plane, self.request.slice_index)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the slice."""
        height, width = self.raw.shape[:2]
        return height, width

    @property
    def spacing(self) -> tuple[float, float]:
        """Millimetres between rows and between columns of the slice."""
        return self.volume.plane_spacing(self.request.plane)

    def stop_if_cancelled(self) -> None:
        """Raise `Cancelled` when a newer request waits or the user pressed Cancel."""
        if self.cancelled():
            raise Cancelled("The prediction was cancelled.")

    def tell(self, stage: str, share: float) -> None:
        """Report progress; the share never falls, also where a stage comes again in a larger view."""
        self.share = max(self.share, share)
        self.progress(stage, self.share)

    def timed(self, stage: str, start: float) -> None:
        """Add the time since `start` to a stage."""
        self.seconds[stage] += time.perf_counter() - start


def record_of(engine: Engine) -> dict[str, Any]:
    """What is the same for every result of this pipeline: model, hash, device, versions."""
    versions = {name: _version(name) for name in ("napari-uncertsam", "torch", "sam2", "numpy")}
    adapter = getattr(engine, "adapter", None)  # which only a model that can have one knows of
    return {
        "model": engine.name,
        "checkpoint_sha256": engine.sha256,
        **({"adapter": dict(adapter)} if adapter else {}),
        "device": engine.device_label,
        "versions": {**versions, "python": platform.python_version()},
    }


@cache
def _version(name: str) -> str:
    # Looked up in the file system, which takes a millisecond.
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
