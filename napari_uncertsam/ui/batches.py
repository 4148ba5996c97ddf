"""A propagation under way: its slices are handed over a few at a time, so that the window has time to draw them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.propagating import PropagationRequest
from napari_uncertsam.propagation import Propagated

#: Seconds between two batches.
EVERY = 0.3


@dataclass(eq=False)
class Propagation:
    """What was asked for and what became of it so far.

    Parameters
    ----------
    request : PropagationRequest
    stopped : threading.Event
        Tells the worker thread to stop.
    came, delivered : int
        Slices that are done, and those that the session took.
    outdated : bool
        Whether what it started from was changed meanwhile.
    """

    request: PropagationRequest
    stopped: threading.Event = field(default_factory=threading.Event)
    delivered: int = 0
    came: int = 0
    outdated: bool = False

    @property
    def slices(self) -> int:
        """How many slices are to be filled in at most: the object may end before."""
        return sum(span.stop - span.start for span in self.request.spans)


def in_batches(
    results: Iterator[Propagated], propagation: Propagation, report: Callable[[str, float], None]
) -> Generator[list[Propagated]]:
    """Slices as they come, all of them, at most every `EVERY` seconds; the first at once."""
    batch: list[Propagated] = []
    last = -EVERY
    try:
        for result in results:
            batch.append(result)
            propagation.came = done = propagation.came + 1
            report(f"Propagating: slice {result.slice_index}, {done} done", done / max(propagation.slices, done))
            if time.monotonic() - last >= EVERY:
                yield batch
                batch, last = [], time.monotonic()
    except UncertSamError:
        if batch:
            yield batch  # what was done before it failed is worth keeping
        raise
    if batch:
        yield batch
