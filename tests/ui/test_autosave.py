"""Work that is saved by itself: within two seconds, by one session a file, and still there after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtTest import QTest

from napari_uncertsam.checkpoints import CACHE_VARIABLE
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.session import Session
from napari_uncertsam.ui.autosave import DELAY_MS, Autosave
from napari_uncertsam.ui.autosave_files import OwnFile, autosave_path, earlier_work
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.volume import Volume, Window
from tests.predictions import predicted
from tests.propagated import propagated

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (6, 40, 40)


class View:
    """What a view would show."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def set_message(self, text: str, *, error: bool = False, action: str = "") -> None:
        self.said.append(text)


class Desk:
    """A session at work, with its autosave."""

    def __init__(self, name: str = "scan") -> None:
        self.view, self.taken = View(), list[Path]()
        self.messages = Messages(self.view)
        self.autosave = Autosave(self.messages)
        self.session = Session(Volume(np.zeros(SHAPE, np.uint8), name=name), window=Window(0, 255))
        self.autosave.follow(self.session, self.taken.append)

    def saved(self) -> None:
        """Let time go by until everything is on disk."""
        deadline = time.monotonic() + 10
        while self.autosave._saved != self.autosave._changes or self.autosave._writing:
            assert time.monotonic() < deadline
            QTest.qWait(10)


@pytest.fixture
def desk(qtbot: Any, private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("napari_uncertsam.ui.autosave.DELAY_MS", 30)
    desks: list[Desk] = []

    def make(name: str = "scan") -> Desk:
        desks.append(Desk(name))
        return desks[-1]

    yield make
    for each in desks:
        each.autosave.close()


def entries(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["entries"]
    return found


def test_later_changes_do_not_put_saving_off(desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_uncertsam.ui.autosave.DELAY_MS", DELAY_MS)
    work = desk()
    work.session.add_point(Point(1, 1))
    timer = work.autosave._timer
    assert timer.isActive()
    assert timer.interval() <= 1000
    QTest.qWait(50)
    left = timer.remainingTime()
    work.session.add_point(Point(2, 2))
    assert timer.remainingTime() <= left


def test_everything_counts_as_a_change(desk: Callable[..., Desk]) -> None:
    work = desk()
    session, path = work.session, autosave_path(work.session.volume)
    session.set_window(Window(5, 9))  # nothing to save yet
    QTest.qWait(100)
    assert not path.exists()
    session.set_box(Box(3, 3, 20, 20))
    work.saved()
    assert entries(path)[0]["mask"] is None
    session.deliver(predicted(session.request, SHAPE[1:], Box(3, 3, 20, 20)))
    work.saved()
    assert entries(path)[0]["mask"] is not None
    request = session.propagation_request()
    session.deliver_propagated(request, [propagated(4, SHAPE[1:], Box(4, 4, 9, 9), (3,))])
    work.saved()
    assert len(entries(path)) == 2
    session.set_reviewed(4)
    work.saved()
    assert [e["reviewed"] for e in entries(path)] == [False, True]
    session.set_window(Window(1, 2))
    session.set_settings(seed=4)
    work.saved()
    stored = json.loads(path.read_text("utf-8"))
    assert (stored["window"]["low"], stored["settings"]["seed"]) == (1, 4)
    for _ in range(4):
        session.undo()
    assert not session.entries
    work.saved()
    assert entries(path) == []  # that it is empty now is saved, too


def test_what_changes_while_it_is_written_comes_next(desk: Callable[..., Desk]) -> None:
    work = desk()
    work.session.add_point(Point(1, 1))
    work.autosave.save()
    work.session.add_point(Point(2, 2))
    work.autosave.save()  # the first is still being written
    assert work.autosave._again
    work.autosave._timer.stop()
    work.saved()
    assert len(entries(autosave_path(work.session.volume))[0]["prompts"]["points"]) == 2


def test_two_sessions_on_one_image_have_a_file_each(desk: Callable[..., Desk]) -> None:
    first, second = desk(), desk()
    first.session.add_point(Point(1, 1))
    first.saved()
    second.session.add_point(Point(2, 2))
    second.saved()
    volume = first.session.volume
    paths = [autosave_path(volume), autosave_path(volume, 2)]
    assert [entries(p)[0]["prompts"]["points"][0]["y"] for p in paths] == [1, 2]
    third = desk()
    assert third.view.said == []  # both are being worked on
    first.autosave.close()
    assert earlier_work(volume) == paths[0]
    second.autosave.close()
    fourth = desk()
    assert "go on with your work on 'scan'" in fourth.view.said[0]
    fourth.messages.act()
    assert fourth.taken == [paths[1]]  # the newest
    assert desk("another").view.said == []


def test_work_that_is_not_gone_on_with_is_kept(desk: Callable[..., Desk]) -> None:
    first = desk()
    first.session.add_point(Point(1, 1))
    first.autosave.close()
    path = autosave_path(first.session.volume)
    second = desk()
    for y in (5, 6):
        second.session.add_point(Point(y, 5))
        second.saved()
    assert [p["y"] for p in entries(path)[0]["prompts"]["points"]] == [5, 6]
    (kept,) = path.parent.glob("*.before.json")
    assert entries(kept)[0]["prompts"]["points"][0]["y"] == 1
    # Who comes back to a session that was left goes on with its file.
    second.autosave.follow(None)
    second.autosave.follow(second.session)
    second.session.add_point(Point(7, 5))
    second.saved()
    assert entries(kept)[0]["prompts"]["points"][0]["y"] == 1
    assert len(entries(path)[0]["prompts"]["points"]) == 3


def test_newer_work_is_not_written_over_by_older(desk: Callable[..., Desk]) -> None:
    session = desk().session
    session.add_point(Point(1, 1))
    older = session.snapshot()
    session.add_point(Point(2, 2))
    file = OwnFile(session.volume)
    file.write(session.snapshot(), 2)
    file.write(older, 1)
    assert len(entries(file.path)[0]["prompts"]["points"]) == 2
    file.release()


def test_a_folder_that_cannot_be_written_to_is_told_once(desk: Callable[..., Desk], private_cache: Path) -> None:
    private_cache.mkdir(parents=True, exist_ok=True)
    (private_cache / "autosave").write_text("in the way", "utf-8")
    work = desk()
    for y in range(3):
        work.session.add_point(Point(y, 1))
        QTest.qWait(60)
    assert len(work.view.said) == 1
    assert "could not be saved by itself" in work.view.said[0]
    (private_cache / "autosave").unlink()
    work.session.add_point(Point(9, 1))
    work.saved()
    assert len(entries(autosave_path(work.session.volume))[0]["prompts"]["points"]) == 4


STEADY_WORK = """
import sys, time
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.session import Session
from napari_uncertsam.ui.autosave import Autosave
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.volume import Volume, Window
from tests.predictions import predicted

class View:
    def set_message(self, text, *, error=False, action=""):
        print("said", text, flush=True)

application = QApplication([])
session = Session(Volume(np.zeros((6, 40, 40), np.uint8), name="scan"), window=Window(0, 255))
autosave = Autosave(Messages(View()))
autosave.follow(session)
count = 0

def work():
    global count
    session.add_point(Point(count // 40, count % 40))
    session.deliver(predicted(session.request, (40, 40), Box(3, 3, 20, 20)))
    count += 1
    print(time.monotonic(), count, flush=True)

timer = QTimer()
timer.timeout.connect(work)
timer.start(200)
application.exec()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_after_a_crash_all_but_the_last_two_seconds_are_there(desk: Callable[..., Desk], private_cache: Path) -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", CACHE_VARIABLE: str(private_cache)}
    command = [sys.executable, "-c", STEADY_WORK]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(4)
        killed = time.monotonic()
        process.kill()
        lines += process.stdout.readlines()
    done = [(float(when), int(count)) for when, count in (line.split() for line in lines)]
    assert len(done) > 5
    expected = max(count for when, count in done if when <= killed - 2)
    work = desk()  # the file is valid, and offered
    assert "go on with your work on 'scan'" in work.view.said[0]
    work.messages.act()
    work.session.load(work.taken[0])
    assert len(work.session.prompts.points) >= expected
    assert work.session.labels.any()
    assert not list(work.taken[0].parent.glob("*.before.json"))
