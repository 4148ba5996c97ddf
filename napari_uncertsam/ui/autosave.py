"""Work that is saved by itself a few seconds after a change, and offered again when the image is next opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from qtpy.QtCore import QObject, QTimer

from napari_uncertsam.checkpoints import cache_dir
from napari_uncertsam.errors import InputError, UncertSamError
from napari_uncertsam.io import DicomSeries
from napari_uncertsam.session import Session
from napari_uncertsam.ui.presenter import Presenter
from napari_uncertsam.ui.worker import Worker
from napari_uncertsam.volume import Volume

_QUIET_MS = 3000


def autosave_path(volume: Volume) -> Path:
    """Where the work on an image is kept: told apart by file (or name), series, shape and type, not by contents."""
    identity = repr((str(volume.source or volume.name), volume.shape, volume.dtype.str, volume.spacing))
    if isinstance(volume.header, DicomSeries):  # several series can come from one folder
        identity += volume.header.key
    stem = "".join(c if c.isalnum() else "-" for c in volume.name)[:40].strip("-") or "image"
    return cache_dir() / "autosave" / f"{stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


class Autosave(QObject):
    """Saves the session that it follows.

    Parameters
    ----------
    files : Worker
    presenter : Presenter
        Offers earlier work, and says when saving fails.
    parent : QObject, optional
    """

    def __init__(self, files: Worker, presenter: Presenter, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._files, self._presenter = files, presenter
        self._session: Session | None = None
        self._started = False
        self._writing: Session | None = None  # whose saving in the background has not ended
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_QUIET_MS)
        self._timer.timeout.connect(self.save)

    def follow(self, session: Session | None, take_up: Callable[[Path], None] = lambda path: None) -> None:
        """Save another session from now on, or none; `take_up` gets the path of earlier work if the user wants it."""
        if self._session is not None:
            self._session.history_changed.disconnect(self._on_history)
            if self._timer.isActive() or self._writing is self._session:  # the other thread may end before it writes
                self._write_now()
        self._timer.stop()
        self._writing = None
        self._session, self._started = session, bool(session and session.entries)
        if session is None:
            return
        session.history_changed.connect(self._on_history)
        path = autosave_path(session.volume)
        if path.is_file() and not session.entries:
            when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%d %B, %H:%M")
            text = f"Draw a box to begin, or go on with your work on '{session.volume.name}' of {when}."
            self._presenter.offer(text, "Go on", lambda: take_up(path))

    def _on_history(self) -> None:
        self._timer.start()

    def save(self) -> None:
        """Save now, in the background; work of an earlier session is kept beside it."""
        write = self._writer()
        if write is not None:
            session = self._writing = self._session
            done = partial(self._written, session)
            self._files.submit("Saving by itself", lambda _c, _p: write(), done, self._presenter.complain)

    def _written(self, session: Session | None, _nothing: None) -> None:
        if self._writing is session:
            self._writing = None

    def _write_now(self) -> None:
        """When the session is left there may be no later: a few milliseconds."""
        write = self._writer()
        try:
            if write is not None:
                write()
        except UncertSamError as error:
            self._presenter.complain(str(error))

    def _writer(self) -> Callable[[], None] | None:
        session = self._session
        if session is None:
            return None
        path, first = autosave_path(session.volume), not self._started
        self._started = True

        def write() -> None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if first and path.is_file():
                    path.replace(path.with_suffix(".before.json"))
            except OSError as error:
                raise InputError(
                    f"The work could not be saved by itself in {path.parent} ({error.strerror})."
                ) from error
            session.autosave(path)  # reads immutable state only

        return write
