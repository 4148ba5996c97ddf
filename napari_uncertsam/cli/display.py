"""A display to draw on: the user's own, else a virtual one (Xvfb), else Qt's offscreen platform."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCREEN = "1600x1000x24"
_SECONDS = 20.0


def has_display() -> bool:
    """Whether a window would be seen by somebody; True on macOS and Windows, where there is no way to tell."""
    if os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0] in ("offscreen", "minimal", "vnc"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    return _answers(os.environ.get("DISPLAY", ""))


def _answers(display: str) -> bool:
    """Whether an X server listens: Qt ends the whole process when DISPLAY names one that is gone."""
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    if host not in ("", "unix"):
        return True  # over the network, as with ssh -X
    for address in (f"\0/tmp/.X11-unix/X{number}", f"/tmp/.X11-unix/X{number}"):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(address)
            except OSError:
                continue
            return True
    return False


@contextmanager
def virtual_display() -> Iterator[str]:
    """Point this process at a virtual display for the time of the block, and say in a sentence which one.

    Yields
    ------
    str
        "Xvfb", or "Qt offscreen" where Xvfb is not installed or does not start.
    """
    before = {name: os.environ.get(name) for name in ("DISPLAY", "QT_QPA_PLATFORM", "WAYLAND_DISPLAY")}
    server = _start_xvfb()
    try:
        os.environ.pop("WAYLAND_DISPLAY", None)
        if server is None:
            os.environ["QT_QPA_PLATFORM"] = "offscreen"
            yield "Qt offscreen"
        else:
            os.environ.update(DISPLAY=f":{server[1]}", QT_QPA_PLATFORM="xcb")
            yield "Xvfb"
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        if server is not None:
            server[0].terminate()
            server[0].wait()


def _start_xvfb() -> tuple[subprocess.Popen[bytes], int] | None:
    """A running Xvfb and its display number, which it chooses itself; None where there is none."""
    program = shutil.which("Xvfb")
    if program is None:
        return None
    reading, writing = os.pipe()
    command = [program, "-displayfd", str(writing), "-screen", "0", _SCREEN, "-nolisten", "tcp", "+extension", "GLX"]
    server = subprocess.Popen(
        command, pass_fds=(writing,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path("/")
    )
    os.close(writing)
    number = _read_number(reading)
    if number is None:
        server.kill()
        server.wait()
        return None
    return server, number


def _read_number(descriptor: int) -> int | None:
    """The line that Xvfb writes once it listens; None when it ends or stays silent instead."""
    import select

    text = b""
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        while not text.endswith(b"\n"):
            if not select.select([pipe], [], [], _SECONDS)[0]:
                return None
            piece = pipe.read(16)
            if not piece:
                return None
            text += piece
    return int(text)
