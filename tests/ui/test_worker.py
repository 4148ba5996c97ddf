from __future__ import annotations

import threading
import time

import pytest
from qtpy.QtCore import QThread

from napari_uncertsam.errors import Cancelled, EngineError
from napari_uncertsam.ui.worker import Worker


@pytest.fixture
def worker(qapp):
    worker = Worker("test")
    yield worker
    worker.close()


def refuse(text: str) -> None:
    raise AssertionError(text)


def test_results_come_back_on_the_gui_thread_from_one_thread(worker, qtbot):
    main, seen = QThread.currentThread(), []
    for number in range(3):
        worker.submit(
            "Work",
            lambda c, p: threading.current_thread().name,
            lambda r: seen.append((r, QThread.currentThread() is main)),
            refuse,
        )
        qtbot.waitUntil(lambda n=number: len(seen) == n + 1)
    assert seen == [("napari-uncertsam-test_0", True)] * 3


def test_the_newest_request_wins(worker, qtbot):
    started, done, stopped = threading.Event(), [], []

    def slow(cancelled, _progress):
        started.set()
        while not cancelled():
            time.sleep(0.001)
        raise Cancelled("stopped")

    ran = []
    worker.submit("Slow", slow, done.append, refuse, lambda: stopped.append("slow"))
    assert started.wait(5)
    for name in ("second", "third"):
        worker.submit(
            name, lambda c, p, n=name: ran.append(n) or n, done.append, refuse, lambda n=name: stopped.append(n)
        )
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert done == ["third"]
    assert ran == ["third"]
    assert stopped == ["slow", "second"]


def test_a_result_that_comes_in_spite_of_a_cancel_is_dropped(worker, qtbot):
    started, go, done = threading.Event(), threading.Event(), []

    def deaf(_cancelled, _progress):
        started.set()
        return go.wait(5)

    worker.submit("Deaf", deaf, done.append, refuse)
    assert started.wait(5)
    worker.cancel()
    go.set()
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert done == []


def test_queued_work_is_all_done(qapp, qtbot):
    worker, done = Worker("queue", newest_wins=False), []
    for number in range(4):
        worker.submit("Work", lambda c, p, n=number: n, done.append, refuse)
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert done == [0, 1, 2, 3]
    worker.close()


def test_what_work_yields_comes_first_and_its_return_is_the_result(worker, qtbot):
    came, go = [], threading.Event()

    def work(_cancelled, _progress):
        yield "soon"
        assert go.wait(5)
        return "in full"

    worker.submit("Work", work, lambda value: came.append(("done", value)), refuse, meanwhile=came.append)
    qtbot.waitUntil(lambda: came == ["soon"])
    assert worker.is_busy
    go.set()
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert came == ["soon", ("done", "in full")]


def test_nothing_is_handed_over_after_a_cancel_and_a_failure_after_it_is_a_sentence(worker, qtbot):
    came, said, go = [], [], threading.Event()

    def slow(_cancelled, _progress):
        assert go.wait(5)
        yield "late"

    def fails(_cancelled, _progress):
        yield "soon"
        raise EngineError("There was not enough memory.")

    worker.submit("Slow", slow, refuse, refuse, meanwhile=refuse)
    worker.submit("Fails", fails, refuse, said.append, meanwhile=came.append)
    go.set()
    qtbot.waitUntil(lambda: bool(said))
    assert (came, said) == (["soon"], ["There was not enough memory."])


def test_work_in_the_background_lets_everything_else_go_first(worker, qtbot):
    steps, done, go = [], [], threading.Event()

    def long(cancelled, _progress):
        steps.append("begun")
        assert go.wait(5)
        for number in range(3):
            if cancelled():
                raise Cancelled("stopped")
            steps.append(number)
        return "long"

    def short(_cancelled, _progress):
        steps.append("short")
        return "short"

    worker.submit("Long", long, done.append, refuse, lambda: refuse("it was not cancelled"), background=True)
    assert not worker.is_waited_for
    qtbot.waitUntil(lambda: steps == ["begun"])
    worker.submit("Replaced", lambda c, p: steps.append("replaced"), refuse, refuse)
    worker.submit("Short", short, done.append, refuse)
    assert worker.is_waited_for
    go.set()
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert steps == ["begun", "short", 0, 1, 2]
    assert done == ["short", "long"]
    worker.submit("After", lambda c, p: "after", done.append, refuse)
    qtbot.waitUntil(lambda: done[-1] == "after")


def test_work_in_the_background_waits_for_what_was_submitted_after_it(worker, qtbot):
    go, done = threading.Event(), []
    worker.submit("First", lambda c, p: go.wait(5) and "first", done.append, refuse)
    worker.submit("Behind", lambda c, p: "behind", done.append, refuse, background=True)
    worker.submit("Newest", lambda c, p: "newest", done.append, refuse)
    go.set()
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert done == ["newest", "behind"]


def test_work_in_the_background_is_cancelled_only_by_name(worker, qtbot):
    stopped, cycles, done = [], [], []

    def long(cancelled, _progress):
        while not cancelled():
            cycles.append(threading.current_thread().name)
            time.sleep(0.001)
        raise Cancelled("stopped")

    worker.submit("Long", long, refuse, refuse, lambda: stopped.append("long"), background=True)
    qtbot.waitUntil(lambda: bool(cycles))
    worker.cancel()

    def fail(_cancelled, _progress):
        raise EngineError("There was not enough memory.")

    worker.submit("Fails", fail, refuse, done.append)  # within the other, which goes on
    qtbot.waitUntil(lambda: bool(done))
    before = len(cycles)
    qtbot.waitUntil(lambda: len(cycles) > before)
    assert not stopped
    worker.cancel(background=True)
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert stopped == ["long"]
    assert set(cycles) == {"napari-uncertsam-test_0"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (EngineError("There was not enough memory."), "There was not enough memory."),
        (MemoryError(), "There was not enough memory; close other programs or use a smaller model."),
        (ZeroDivisionError("by zero"), "Work failed unexpectedly (ZeroDivisionError: by zero); your work is kept."),
    ],
)
def test_every_failure_is_a_sentence(worker, qtbot, error, sentence):
    said = []

    def fail(_cancelled, _progress):
        raise error

    worker.submit("Work", fail, refuse, said.append)
    qtbot.waitUntil(lambda: bool(said))
    assert said[0].startswith(sentence)
    worker.submit("Work", lambda c, p: 1, said.append, refuse)
    qtbot.waitUntil(lambda: said[-1] == 1)


def test_busy_and_progress_are_told(worker, qtbot):
    busy, progress = [], []
    worker.busy_changed.connect(busy.append)
    worker.progressed.connect(lambda text, share: progress.append((text, share)))

    def work(_cancelled, report):
        report("half", 0.5)
        report("too soon to be shown", 0.6)

    worker.submit("Work", work, lambda _: worker.submit("More", lambda c, p: None, lambda _: None, refuse), refuse)
    qtbot.waitUntil(lambda: busy == [True, True, False])
    assert progress == [("Work", -1.0), ("half", 0.5), ("More", -1.0)]


def test_a_closed_worker_is_silent(qapp, qtbot):
    worker, started, done = Worker("closing"), threading.Event(), []

    def slow(cancelled, _progress):
        started.set()
        while not cancelled():
            time.sleep(0.001)

    worker.submit("Slow", slow, done.append, done.append)
    assert started.wait(5)
    worker.close()
    worker.submit("Late", lambda c, p: 1, done.append, done.append)
    qtbot.wait(50)
    assert done == []
