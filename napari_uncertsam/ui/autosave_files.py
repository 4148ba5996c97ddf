"""Files of work that is saved by itself: one for each session at work, whichever process it is in."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from napari_uncertsam.checkpoints import cache_dir
from napari_uncertsam.errors import InputError
from napari_uncertsam.io import DicomSeries
from napari_uncertsam.volume import Volume

if TYPE_CHECKING:
    from napari_uncertsam.workspace import Workspace

_BEFORE = ".before.json"


def autosave_path(volume: Volume, number: int = 1) -> Path:
    """Where the work on an image is kept: told apart by file (or name), shape and type, not by contents.

    The first of those that work on it at the same time has number 1.
    """
    identity = repr((str(volume.source or volume.name), volume.shape, volume.dtype.str, volume.spacing))
    if isinstance(volume.header, DicomSeries):  # several series can come from one folder
        identity += volume.header.key
    stem = "".join(c if c.isalnum() else "-" for c in volume.name)[:40].strip("-") or "image"
    rank = "" if number == 1 else f".{number}"
    return cache_dir() / "autosave" / f"{stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}{rank}.json"


def earlier_work(volume: Volume) -> Path | None:
    """The newest file of work on an image that nobody is at work on; None without one."""
    first, found = autosave_path(volume), []
    for path in first.parent.glob(f"{first.stem}*.json"):
        if not path.name.endswith(_BEFORE):
            with suppress(OSError):  # it may just go away
                found.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(found, reverse=True):
        lock = _locked(path)
        if lock is not None:
            lock.release()
            return path
    return None


class OwnFile:
    """The file of one session, which no other writes to; work of an earlier one is kept beside it.

    Parameters
    ----------
    volume : Volume
    written : (Path, int), optional
        The file that the session wrote before it was left, and its time of modification.

    Raises
    ------
    InputError
        If there can be no such file.
    """

    def __init__(self, volume: Volume, written: tuple[Path, int] | None = None) -> None:
        self.written = written
        self._number, self._mutex = -1, threading.Lock()
        try:
            autosave_path(volume).parent.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                self.path = autosave_path(volume, number)
                lock = _locked(self.path)
                if lock is not None:
                    self._lock = lock
                    break
        except OSError as error:
            raise _not_saved(self.path if hasattr(self, "path") else autosave_path(volume), error) from error

    def write(self, work: Workspace, number: int) -> None:
        """Save work, on any thread; nothing happens when that or something newer (of a higher number) is saved already.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        with self._mutex:
            if number <= self._number:
                return
            try:
                if self.path.is_file() and self.written != (self.path, self.path.stat().st_mtime_ns):
                    before = self.path.with_suffix(_BEFORE)
                    shutil.copy2(self.path, before.with_suffix(".tmp"))
                    os.replace(before.with_suffix(".tmp"), before)
                work.autosave(self.path)
                self.written, self._number = (self.path, self.path.stat().st_mtime_ns), number
            except OSError as error:
                raise _not_saved(self.path, error) from error

    def release(self) -> None:
        """Leave the file to whoever goes on with the work."""
        self._lock.release()


def _locked(path: Path) -> filelock.BaseFileLock | None:
    """The lock of a file, held; None where another session, here or in another process, holds it."""
    lock = filelock.FileLock(path.with_suffix(".lock"), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        return None
    return lock


def _not_saved(path: Path, error: OSError) -> InputError:
    return InputError(f"The work could not be saved by itself in {path.parent} ({error.strerror}).")
