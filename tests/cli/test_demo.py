"""``demo``: shows where there is a display, saves where there is none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from napari_uncertsam.cli import display
from napari_uncertsam.errors import EngineError
from napari_uncertsam.ui import demo
from tests.cli.conftest import Run

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No display, whatever the tests themselves run in."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def pretended_display():
    yield "nowhere"


def test_without_a_display_it_saves(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "has_display", lambda: False)
    monkeypatch.setattr(display, "virtual_display", pretended_display)
    monkeypatch.setattr(demo, "save", lambda out: demo.Saved((out / "screenshot.png",), "All is well."))
    result = run("demo", "--out", tmp_path / "demo")
    assert result.code == 0
    assert "nowhere" in result.out
    assert "All is well." in result.out
    assert str(tmp_path / "demo" / "screenshot.png") in result.out


def test_with_a_display_it_shows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(display, "has_display", lambda: True)
    monkeypatch.setattr(demo, "show", lambda: shown.append(True))
    assert run("demo").code == 0
    assert shown == [True]


def test_failures_are_sentences(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(out: Path) -> None:
        raise EngineError("The model gave no prediction.")

    monkeypatch.setattr(display, "has_display", lambda: False)
    monkeypatch.setattr(display, "virtual_display", pretended_display)
    monkeypatch.setattr(demo, "save", fail)
    assert run("demo", "--out", tmp_path / "demo").sentence == "The model gave no prediction."
    (tmp_path / "file").write_text("x", "utf-8")
    assert "is a file" in run("demo", "--out", tmp_path / "file").sentence


@linux_only
def test_a_display_that_is_gone_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not display.has_display()
    for name in (":98765", ":", "nonsense", "unix:98765.0"):
        monkeypatch.setenv("DISPLAY", name)
        assert not display.has_display()
    monkeypatch.setenv("DISPLAY", "localhost:10.0")  # as ssh -X sets it
    assert display.has_display()
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert not display.has_display()


@linux_only
def test_a_listening_x_server_is_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0/tmp/.X11-unix/X98765")
        server.listen()
        monkeypatch.setenv("DISPLAY", ":98765.0")
        assert display.has_display()


@linux_only
def test_without_xvfb_qt_draws_offscreen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setenv("DISPLAY", ":98765")
    with display.virtual_display() as where:
        assert where == "Qt offscreen"
        assert os.environ["QT_QPA_PLATFORM"] == "offscreen"
    assert os.environ["DISPLAY"] == ":98765"
    assert "QT_QPA_PLATFORM" not in os.environ


@linux_only
@pytest.mark.parametrize("program", ["true", "false"])
def test_an_xvfb_that_does_not_start_is_none(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shutil.which(program)
    monkeypatch.setattr(shutil, "which", lambda _name: path)
    with display.virtual_display() as where:
        assert where == "Qt offscreen"


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")
def test_xvfb_listens_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with display.virtual_display() as where:
        assert where == "Xvfb"
        assert os.environ["QT_QPA_PLATFORM"] == "xcb"
        monkeypatch.delenv("QT_QPA_PLATFORM")
        assert display.has_display()
    assert "DISPLAY" not in os.environ
    [server] = started
    assert server.poll() is not None
