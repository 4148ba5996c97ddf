"""One persistent worker thread behind the GUI, where the newest request wins.

A thread of its own, and always the same one: cuDNN keeps its plans per thread, and a model is not safe for use from
two threads. Results come back on the GUI thread through a queued Qt signal.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from napari_uncertsam.errors import Cancelled, UncertSamError

logger = logging.getLogger(__name__)

#: ``progress(text, fraction)`` with a fraction in [0, 1], or below 0 where it is not known.
Report = Callable[[str, float], None]
#: ``work(cancelled, progress)``, called on the worker thread; a generator's values are handed over as they come.
Work = Callable[[Callable[[], bool], Report], Any]

_NICENESS = 10
_REPORT_EVERY = 0.05  # seconds; the GUI repaints no faster


@dataclass(eq=False)
class _Ticket:
    title: str
    work: Work
    done: Callable[[Any], None]
    failed: Callable[[str], None]
    stopped: Callable[[], None] | None = None
    background: bool = False
    meanwhile: Callable[[Any], None] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker(QObject):
    """Runs functions one after the other on one thread of its own.

    Parameters
    ----------
    name : str
        Of the thread.
    newest_wins : bool
        Submitting replaces what waits and tells what runs to stop; its result is dropped. Otherwise work is queued.
        Work in the background is left alone by both: it goes on until it is cancelled itself.
    parent : QObject, optional
    """

    #: Work begins (True) or all of it has ended (False).
    busy_changed = Signal(bool)
    #: All work has ended but what is in the background: done, failed or cancelled.
    rested = Signal()
    #: What is being done, and the fraction done (below 0: not known).
    progressed = Signal(str, float)

    _arrived = Signal(object, object)
    _yielded = Signal(object, object)
    _reported = Signal(object, str, float)

    def __init__(self, name: str, *, newest_wins: bool = True, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._newest_wins = newest_wins
        self._executor = ThreadPoolExecutor(1, f"napari-uncertsam-{name}", initializer=_give_way)
        self._open: list[_Ticket] = []
        self._waiting: deque[_Ticket] = deque()
        self._waiting_behind: deque[_Ticket] = deque()
        self._closed = False
        # Queued: the signals are emitted on the worker thread, the slots run on the GUI thread.
        self._arrived.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self._yielded.connect(self._hand_over, Qt.ConnectionType.QueuedConnection)
        self._reported.connect(self._report, Qt.ConnectionType.QueuedConnection)

    @property
    def is_busy(self) -> bool:
        """Whether anything runs or waits."""
        return bool(self._open)

    @property
    def is_waited_for(self) -> bool:
        """Whether anything runs or waits that is not in the background."""
        return any(not ticket.background for ticket in self._open)

    def submit(
        self,
        title: str,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[str], None],
        stopped: Callable[[], None] | None = None,
        *,
        background: bool = False,
        meanwhile: Callable[[Any], None] | None = None,
    ) -> None:
        """Have `work` run on the worker thread; returns at once.

        Parameters
        ----------
        title : str
            For the progress bar: "Predicting".
        work : callable
            ``work(cancelled, progress)``: `cancelled()` says whether to stop (by raising `Cancelled`). If it is a
            generator function, what it yields is handed over at once, and what it returns is the result.
        done, failed : callable
            Called on the GUI thread with the result, or with one sentence; neither is called after a cancel.
        stopped : callable, optional
            Called on the GUI thread instead of the two after a cancel.
        background : bool
            For work of minutes: whenever it asks `cancelled()`, the thread first does what else was submitted.
        meanwhile : callable, optional
            Called on the GUI thread with each value that `work` yields, before `done`; not after a cancel.
        """
        if self._closed:
            return
        if self._newest_wins and not background:
            self.cancel()
        ticket = _Ticket(title, work, done, failed, stopped, background, meanwhile)
        was_busy = self.is_busy
        self._open.append(ticket)
        if not was_busy:
            self.busy_changed.emit(True)
        self.progressed.emit(title, -1.0)
        (self._waiting_behind if background else self._waiting).append(ticket)
        self._executor.submit(self._next)

    def cancel(self, *, background: bool = False) -> None:
        """Tell what runs or waits to stop, with or without what is in the background; late results are dropped."""
        for ticket in self._open:
            if background or not ticket.background:
                ticket.cancelled.set()

    def close(self) -> None:
        """Cancel everything and let the thread end; does not wait for it."""
        self._closed = True
        self.cancel(background=True)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        """On the worker thread: do one thing that waits, if it has not been done in between; the background is last."""
        for tickets in (self._waiting, self._waiting_behind):
            if tickets:
                self._run(tickets.popleft())
                return

    def _in_between(self, ticket: _Ticket) -> bool:
        """On the worker thread, asked by work in the background: does what waits; whether that work is to stop."""
        while self._waiting and not self._closed:
            self._run(self._waiting.popleft())
        return ticket.cancelled.is_set()

    def _run(self, ticket: _Ticket) -> None:
        """On the worker thread."""
        outcome: Any = Cancelled("Cancelled.")
        if not ticket.cancelled.is_set():
            try:
                cancelled = partial(self._in_between, ticket) if ticket.background else ticket.cancelled.is_set
                outcome = _Result(self._finish(ticket, ticket.work(cancelled, self._reporter(ticket))))
            except UncertSamError as error:
                outcome = error
            except MemoryError:
                outcome = UncertSamError("There was not enough memory; close other programs or use a smaller model.")
            except Exception as error:
                logger.exception("%s failed", ticket.title)
                outcome = UncertSamError(
                    f"{ticket.title} failed unexpectedly ({type(error).__name__}: {error}); your work is kept. "
                    "Please report this."
                )
        self._emit(self._arrived, ticket, outcome)

    def _finish(self, ticket: _Ticket, value: Any) -> Any:
        """On the worker thread: the result of work, once it has yielded what comes before that."""
        if not isinstance(value, Generator):
            return value
        while True:
            try:
                self._emit(self._yielded, ticket, next(value))
            except StopIteration as end:
                return end.value

    def _reporter(self, ticket: _Ticket) -> Report:
        last = 0.0

        def report(text: str, fraction: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _REPORT_EVERY:
                last = now
                self._emit(self._reported, ticket, text, float(fraction))

        return report

    def _emit(self, signal: Any, *values: Any) -> None:
        if self._closed:
            return
        try:
            signal.emit(*values)
        except RuntimeError:  # the window was closed meanwhile and Qt has deleted this object
            logger.debug("nobody is left to hear of the worker")

    def _report(self, ticket: _Ticket, text: str, fraction: float) -> None:
        if not ticket.cancelled.is_set():
            self.progressed.emit(text, fraction)

    def _hand_over(self, ticket: _Ticket, value: Any) -> None:
        """On the GUI thread."""
        if not (self._closed or ticket.cancelled.is_set() or ticket.meanwhile is None):
            ticket.meanwhile(value)

    def _deliver(self, ticket: _Ticket, outcome: Any) -> None:
        """On the GUI thread."""
        if self._closed:
            return
        self._open.remove(ticket)
        try:
            if ticket.cancelled.is_set() or isinstance(outcome, Cancelled):
                if ticket.stopped is not None:
                    ticket.stopped()
            elif isinstance(outcome, _Result):
                ticket.done(outcome.value)
            else:
                ticket.failed(str(outcome))
        finally:
            # `done` may have submitted more work.
            if not self._open:
                self.busy_changed.emit(False)
            if not self.is_waited_for:
                self.rested.emit()


def _give_way() -> None:
    """Let the GUI thread go first where both want the processor; the threads that torch starts inherit it.

    Only Linux has priorities of single threads.
    """
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_NICENESS + os.nice(0), 19))
        except OSError:
            logger.debug("the worker thread keeps the priority of the GUI thread")


@dataclass(frozen=True)
class _Result:
    """Keeps a result apart from an error, whatever the work returned."""

    value: Any
