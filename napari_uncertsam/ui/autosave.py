"""Work that is saved by itself within two seconds of every change, and offered again when the image is next opened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, QTimer

from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.session import Session
from napari_uncertsam.ui.autosave_files import OwnFile, earlier_work
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.worker import Worker

#: From the first change that is not saved yet to its saving; later changes do not put it off.
DELAY_MS = 1000


class Autosave(QObject):
    """Saves the session that it follows, on a thread of its own.

    Parameters
    ----------
    messages : Messages
        Offers earlier work, and says when saving fails.
    parent : QObject, optional
    """

    def __init__(self, messages: Messages, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._messages = messages
        self._worker = Worker("autosave", newest_wins=False, parent=self)
        self._session: Session | None = None
        self._file: OwnFile | None = None
        self._written: WeakKeyDictionary[Session, tuple[Path, int]] = WeakKeyDictionary()
        self._begun = False  # whether there was something worth saving
        self._changes = self._saved = 0  # changes so far, and how many of them are on disk
        self._writing = self._again = False
        self._complaint = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self.save)

    def follow(self, session: Session | None, take_up: Callable[[Path], None] = lambda path: None) -> None:
        """Save another session from now on, or none; `take_up` gets the path of earlier work if the user wants it."""
        self._leave()
        self._session = session
        if session is None:
            return
        self._begun = bool(session.entries)
        session.changed.connect(self._on_change)
        path = None if self._begun else earlier_work(session.volume)
        if path is not None:
            when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%d %B, %H:%M")
            text = f"Draw a box to begin, or go on with your work on '{session.volume.name}' of {when}."
            self._messages.offer(text, "Go on", lambda: take_up(path))

    def close(self) -> None:
        """Save what is not saved yet, and let the thread end."""
        self.follow(None)
        self._worker.close()

    def save(self) -> None:
        """Save now, in the background; work of an earlier session is kept beside it."""
        if self._writing:
            self._again = True
            return
        self._timer.stop()
        write, changes = self._writer(), self._changes
        if write is not None:
            self._writing = True
            done = partial(self._on_written, self._session, changes)
            self._worker.submit("Saving by itself", lambda _c, _p: write(), done, self._on_failed)

    def _on_change(self) -> None:
        self._changes += 1
        if not self._timer.isActive():
            self._timer.start()

    def _on_written(self, session: Session | None, changes: int, _nothing: None) -> None:
        if session is self._session:
            self._saved, self._complaint = max(self._saved, changes), ""
        self._go_on()

    def _on_failed(self, text: str) -> None:
        if text != self._complaint:  # not once a second
            self._complaint = text
            self._messages.complain(text)
        self._go_on()

    def _go_on(self) -> None:
        """A saving has ended; what changed meanwhile comes next."""
        again, self._writing, self._again = self._again, False, False
        if again:
            self.save()

    def _leave(self) -> None:
        """Stop following. There may be no later, and the other thread may end before it writes: a few milliseconds."""
        session, self._again = self._session, False
        self._timer.stop()
        if session is None:
            return
        session.changed.disconnect(self._on_change)
        try:
            write = self._writer() if self._changes != self._saved else None
            if write is not None:
                write()
        except UncertSamError as error:
            self._messages.complain(str(error))
        if self._file is not None:
            if self._file.written is not None:
                self._written[session] = self._file.written
            self._file.release()
        self._file, self._session, self._saved = None, None, self._changes

    def _writer(self) -> Callable[[], None] | None:
        """Writes the work as it is now; None where there is nothing to write, or nowhere."""
        session = self._session
        if session is None or not (self._begun or session.entries):
            return None
        self._begun = True
        if self._file is None:
            try:
                self._file = OwnFile(session.volume, self._written.get(session))
            except UncertSamError as error:
                self._on_failed(str(error))
                return None
        return partial(self._file.write, session.snapshot(), self._changes)
