"""The folder of an evaluation under way: what is finished so far, and whether it may be continued."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.results import MAPS, PROGRESS, REPORT, RESULTS, RUN, TABLE
from napari_uncertsam.session_file import write_json

#: Present while an evaluation writes into its folder.
LOCK = ".lock"


class ProgressFile:
    """Finished images, a line of JSON each; a line that was cut off when the program was killed is dropped.

    Parameters
    ----------
    path : Path
        Need not exist.

    Raises
    ------
    InputError
        If a line before the last one is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Image to what :meth:`add` was given.
        self.finished: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._load()

    @property
    def folder(self) -> Path:
        """The folder of the evaluation."""
        return self.path.parent

    def _load(self) -> None:
        content, whole = self.path.read_bytes(), 0
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                self.finished[entry["image"]] = entry
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"Line {number} of {self.path} is damaged; start over with --overwrite.") from error
            whole += len(line)
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def add(self, entry: dict[str, Any]) -> None:
        """Keep a finished image; `entry` has its name as "image", and what came of it in plain values."""
        line = json.dumps(entry, allow_nan=False, separators=(",", ":"))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.finished[entry["image"]] = entry


def prepare_folder(
    out: Path,
    run: Mapping[str, Any],
    *,
    overwrite: bool = False,
    files: Sequence[str] = (RESULTS, TABLE, REPORT),
) -> ProgressFile:
    """Make or take up the folder of an evaluation.

    Parameters
    ----------
    out : Path
    run : mapping
        Everything that decides the numbers, in plain values; kept as ``run.json``.
    overwrite : bool
        Remove what an earlier evaluation left, and start over. A folder of other files is refused all the same.
    files : sequence of str
        Names of what is written at the end.

    Raises
    ------
    InputError
        If the folder holds an evaluation of something else, other files, or cannot be made.
    """
    _make(out)
    ours = (out / RUN).is_file()
    if not ours and any(path.name != LOCK for path in out.iterdir()):
        raise InputError(f"The folder {out} holds other files already; choose another --out.")
    if ours and overwrite:
        clear_folder(out, files)
        ours = False
    if ours:
        _compare(out / RUN, run)
    else:
        write_json(out / RUN, run, overwrite=True)
    return ProgressFile(out / PROGRESS)


def _make(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out the name of a folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {out} could not be made: {error.strerror or error}.") from error


def clear_folder(out: Path, files: Sequence[str] = (RESULTS, TABLE, REPORT)) -> None:
    """Remove everything that an evaluation writes, and nothing else."""
    for name in (*files, PROGRESS, RUN):
        (out / name).unlink(missing_ok=True)
    for archive in (out / MAPS).glob("*.npz"):
        archive.unlink()


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep a second evaluation out of a folder while the block runs.

    Raises
    ------
    InputError
        If one is running there, or the folder cannot be made.
    """
    from filelock import FileLock, Timeout

    _make(out)
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"Another evaluation is writing into {out}; wait for it, or choose another --out.") from None
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # the next one has it already
            (out / LOCK).unlink(missing_ok=True)


def stamp_of(files: Sequence[Path]) -> list[list[int]]:
    """Size and time of change (nanoseconds) of files; 0 for those that are not there."""
    found = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found.append([0, 0])
        else:
            found.append([status.st_size, status.st_mtime_ns])
    return found


def _compare(path: Path, run: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings, another model or other images."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        flat = [_flat(dict(values)) for values in (earlier, run)]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged; start over with --overwrite, or choose another --out.") from error
    for name, value in flat[1].items():
        if flat[0].get(name) != value:
            before = f"{_said(flat[0].get(name))} then, {_said(value)} now"
            what = {"images": "other images", "checkpoint_sha256": "another checkpoint"}.get(name, f"{name}: {before}")
            raise InputError(
                f"{path.parent} holds an evaluation with other settings ({what}); choose another --out, or start over "
                "with --overwrite."
            )


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """One level of nesting less, with the settings' own names."""
    return {
        k: v for name, part in values.items() for k, v in (part if isinstance(part, dict) else {name: part}).items()
    }
