"""Fitted parts in memory: read when first needed, again when their file has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from napari_uncertsam.checkpoints import Part, read_part, require_part

if TYPE_CHECKING:
    from pathlib import Path

    from napari_uncertsam.engine import Engine

T = TypeVar("T")


class FittedParts(Generic[T]):
    """What one kind of part became, for each model that was asked for.

    Parameters
    ----------
    kind : str
        Of `napari_uncertsam.checkpoints.KINDS`.
    make : callable
        What to make of a part.
    """

    def __init__(self, kind: str, make: Callable[[Part], T]) -> None:
        self.kind, self.make = kind, make
        self._made: dict[str, tuple[Path, int, T]] = {}

    def of(self, engine: Engine) -> T:
        """What was made of the part of an engine's checkpoint.

        Raises
        ------
        CheckpointError
            If there is none, or it is damaged or belongs to another checkpoint.
        """
        path = require_part(self.kind, engine.sha256, engine.name)
        changed = path.stat().st_mtime_ns
        known = self._made.get(engine.sha256)
        if known is None or known[:2] != (path, changed):
            known = (path, changed, self.make(read_part(path, self.kind, engine.sha256)))
            self._made[engine.sha256] = known
        return known[2]
