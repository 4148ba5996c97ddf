"""Downloading a checkpoint: continued where it was cut, and kept only if it is the published file.

pooch compares the sha256 and moves a file to its final name only when it is right. What pooch lacks is continuing a
download, so it is given a downloader, :class:`_Resuming`, that asks for the missing bytes only (HTTP ``Range``) and
collects them in ``FILE.part``, which outlives a failed attempt. A lock file makes a second process wait for the first.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from napari_uncertsam.checkpoints import table
from napari_uncertsam.errors import Cancelled, CheckpointError

if TYPE_CHECKING:
    from requests import Response

#: Called with (bytes so far, total bytes or None where the server does not say).
Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 15  # bytes; small, so that Cancel is heard soon on a slow line
_TIMEOUT = (10, 15)  # seconds to connect, and of silence after which a connection counts as cut
_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt of one download
_REPORT_EVERY = 0.1  # seconds between progress reports


def download(
    name: str,
    *,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    base_url: str | None = None,
) -> Path:
    """Download a model of the table, unless it is on disk already, and check its sha256.

    A connection that is cut is taken up again, in this call and in later ones. A file that is not the published one is
    deleted. No unfinished file ever has the final name.

    Parameters
    ----------
    name : str
    progress : callable, optional
        ``progress(bytes_done, bytes_total)``, at most ten times a second and once at the end.
    cancel : callable, optional
        Polled throughout; when it returns True the download stops and can be continued later.
    base_url : str, optional
        Folder on another server (a mirror) that holds the file under the same name.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CheckpointError
        If the model is unknown or has no known checksum, or the download failed.
    Cancelled
        If `cancel` returned True.
    """
    entry = table.lookup(name)
    path = table.path_of(entry)
    if entry.url is None or entry.sha256 is None:
        if path.is_file():
            return path
        raise CheckpointError(table.missing_message(entry))
    url = entry.url if base_url is None else f"{base_url.rstrip('/')}/{entry.filename}"
    fetch = _Resuming(path.with_name(path.name + ".part"), entry.size, progress, cancel or (lambda: False))
    import requests

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, fetch.cancel):
            _retrieve(url, path, entry.sha256, fetch)
    except requests.RequestException as error:  # an OSError too, so before OSError
        raise CheckpointError(_network_sentence(error, url, name, fetch.have)) from error
    except OSError as error:
        raise CheckpointError(_disk_sentence(error, path.parent)) from error
    return path


def _retrieve(url: str, path: Path, sha256: str, fetch: _Resuming) -> None:
    import pooch

    try:
        pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=path.name, path=path.parent, downloader=fetch)
    except ValueError as error:
        import requests

        if isinstance(error, requests.RequestException):  # a malformed URL is both
            raise
        raise CheckpointError(
            f"The file from {url} is not the published checkpoint (its sha256 differs) and was deleted; try again, and "
            "if that does not help look for a proxy or mirror that changes it."
        ) from error


@dataclass
class _Resuming:
    """A pooch downloader that continues ``part`` where it ends, and again whenever the connection is cut."""

    part: Path
    expected: int | None
    progress: Progress | None
    cancel: Callable[[], bool]
    received: bool = field(default=False, init=False)
    reported: float = field(default=0.0, init=False)

    @property
    def have(self) -> int:
        """Bytes collected so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Collect the whole file in ``part``, then give it the name pooch asks for."""
        import requests

        cut = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
        for wait in (*_WAITS, None):
            try:
                self._request(url)
                break
            except cut:
                # Nothing came at all: there is no network, and waiting would only delay saying so.
                if wait is None or not self.received:
                    raise
                self._pause(wait)
        os.replace(self.part, output_file)

    def _request(self, url: str) -> None:
        """Ask once for what is missing and append it."""
        import requests

        have = self.have
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416 and have:  # nothing lies beyond the end of the part file
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    self._report(have, have, last=True)
                    return
                self.part.unlink()
                return self._request(url)
            response.raise_for_status()
            if response.status_code != 206:  # the server starts from the beginning, and so must we
                have = 0
            self._receive(response, have)

    def _receive(self, response: Response, have: int) -> None:
        import requests

        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        if total is not None and self.expected is not None and total != self.expected:
            self.part.unlink(missing_ok=True)
            raise CheckpointError(
                f"The server offers {total} bytes for {response.url} instead of the published {self.expected}, so "
                "nothing was downloaded; look for a proxy or mirror that changes it."
            )
        # Rather than fill the disk first and fail then.
        if total is not None and shutil.disk_usage(self.part.parent).free < total - have:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self.part.open("ab" if have else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                self._stop_if_cancelled()
                file.write(chunk)
                have += len(chunk)
                self.received = True
                self._report(have, total)
        if total is not None and have < total:
            raise requests.ConnectionError(f"{have} of {total} bytes")
        self._report(have, total, last=True)

    def _report(self, have: int, total: int | None, last: bool = False) -> None:
        now = time.monotonic()
        if self.progress is not None and (last or now - self.reported >= _REPORT_EVERY):
            self.reported = now
            self.progress(have, total)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._stop_if_cancelled()
            time.sleep(min(left, 0.1))

    def _stop_if_cancelled(self) -> None:
        if self.cancel():
            raise Cancelled(f"The download of {self.part.stem} was cancelled; it continues where it stopped next time.")


def _locked(path: Path, cancel: Callable[[], bool]) -> AbstractContextManager[object]:
    """The lock of a file's download, acquired; the system frees it if this process dies."""
    import filelock

    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    while True:
        if cancel():
            raise Cancelled(f"The download of {path.name} was cancelled.")
        try:
            return lock.acquire(timeout=0.2)
        except filelock.Timeout:
            continue


def _network_sentence(error: Exception, url: str, name: str, have: int) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return (
            f"The server answered {status} for {url}; try again later, or download the file elsewhere and use "
            "`--model PATH --config CONFIG`."
        )
    kept = f"; the {have} bytes received so far are kept" if have else ""
    return (
        f"The download from {urlsplit(url).hostname} failed ({type(error).__name__}){kept}; check the network "
        f"connection and run `napari-uncertsam models download {name}` again."
    )


def _disk_sentence(error: OSError, folder: Path) -> str:
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or type(error).__name__
    return (
        f"The checkpoint cannot be saved in {folder} ({reason}); make room there, or set {table.CACHE_VARIABLE} "
        "to another folder, and download again."
    )
