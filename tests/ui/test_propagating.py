"""Propagation behind the widget, and going through the slices: a real viewer, slices that come when a test says so."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtWidgets import QCheckBox, QLabel

from napari_uncertsam.errors import Cancelled
from napari_uncertsam.prompts import Box
from napari_uncertsam.propagation import Propagated
from napari_uncertsam.session import Session
from napari_uncertsam.ui import batches
from napari_uncertsam.ui.jobs import Jobs
from napari_uncertsam.ui.presenter import Presenter
from napari_uncertsam.ui.slice_texts import (
    ALL_OWN,
    ALREADY,
    CORRECT,
    ONE_IMAGE,
    OUTDATED,
    OWN,
    PROPAGATE,
    PROPAGATE_AGAIN,
    PROPAGATING,
)
from napari_uncertsam.ui.widget import RefineView
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume
from tests.ui.helpers import button, grey, press, wait_for

WHOLE, MOVED = Box(22, 18, 73, 77), Box(20, 16, 70, 70)
#: The object lies on slices 2 to 9.
COUNT, FIRST, LAST, GIVEN = 12, 2, 9, 5


def ball() -> np.ndarray:
    """A volume of 12 slices of 96 x 96 with a bright object on eight of them."""
    z, y, x = np.ogrid[:COUNT, :96, :96]
    inside = (((y - 47.5) / 26) ** 2 + ((x - 47.5) / 30) ** 2 <= 1) & (z >= FIRST) & (z <= LAST)
    return np.where(inside, 220, 30).astype(np.uint8)


class SlowJobs(Jobs):
    """Propagates by thresholding, more uncertain with each slice; waits before each slice for `go`."""

    def __init__(self, load) -> None:
        super().__init__(load)
        self.go, self.ended = threading.Semaphore(10**6), 0

    def hold(self) -> None:
        self.go = threading.Semaphore(0)

    def propagate(self, volume, request, cancelled, progress):
        for span in request.spans:
            source = next(a for a in (span.before, span.after) if a is not None)
            for index in sorted(range(span.start, span.stop), key=lambda i: abs(i - source)):
                while not self.go.acquire(timeout=0.005):
                    if cancelled():
                        raise Cancelled("Stopped.")
                if cancelled():
                    raise Cancelled("Stopped.")
                result = threshold(volume, request.plane, index, source)
                if result is not None:
                    yield result


def threshold(volume, plane, index, source) -> Propagated | None:
    grid = volume.slice(plane, index)
    inside = grid > 128
    if not inside.any():
        return None
    doubt = 0.01 * abs(index - source)
    mean = np.where(inside, 6, -6).astype(np.float16)
    return Propagated(
        plane, index, grid.shape, View.whole(*grid.shape), mean, np.full(grid.shape, 1 + doubt, np.float16), (source,),
        float(inside.sum()), 5.0, 3.0, doubt, 0.95,
    )  # fmt: skip


@pytest.fixture
def open_ball(open_widget, monkeypatch):
    monkeypatch.setattr(batches, "EVERY", 0.0)

    def factory(**layer):
        opened = open_widget(ball(), jobs=SlowJobs, **layer)
        opened.viewer.dims.set_point(0, GIVEN * layer.get("scale", (1,))[0])
        opened.session.set_box(WHOLE)
        opened.settle()
        return opened

    return factory


def panel(opened) -> str:
    opened.coordinator.reviewing.show()
    return opened.view.slices.text()


def kinds(opened) -> dict[int, str]:
    return {fact.slice_index: fact.kind for fact in opened.session.slice_facts()}


def test_propagating_fills_all_slices_and_each_shows_its_own_maps(open_ball):
    opened = open_ball(scale=(2, 1, 1))
    refreshed: list[int] = []
    opened.viewer.layers["mask"].events.set_data.connect(lambda _event: refreshed.append(1))
    press(opened, "G")
    assert refreshed == []  # the slice on screen is the user's own, and no other is drawn
    mask = opened.viewer.layers["mask"].data
    assert [i for i in range(COUNT) if mask[i].any()] == list(range(FIRST, LAST + 1))
    assert kinds(opened) == {i: "prompted" if i == GIVEN else "propagated" for i in range(FIRST, LAST + 1)}
    assert f"{LAST - FIRST} slices" in opened.message  # the session's own sentence
    assert "mL (90 %" in panel(opened)
    assert "1 of 8 slices reviewed" in panel(opened)
    opened.viewer.dims.set_point(0, 16)
    opened.settle()
    uncertainty = opened.viewer.layers["uncertainty"]
    assert uncertainty.data.max() > 0
    assert uncertainty.translate[0] == 16
    assert opened.viewer.layers["probability"].data[0, 48, 48] > 0.9
    card = opened.view._card.text()
    assert "propagated from slice 5" in card
    assert "likely 0.95" in card
    assert "entropy 0.0300 nats" in card
    assert opened.message == CORRECT
    assert CORRECT in [label.text() for label in opened.view.findChildren(QLabel) if label.isVisibleTo(opened.view)]
    before = uncertainty.data.copy()
    opened.view.measure_requested.emit("std")
    opened.settle()
    assert not np.array_equal(opened.viewer.layers["uncertainty"].data, before)
    opened.viewer.dims.order = (1, 0, 2)
    opened.settle()
    panel(opened)
    assert (opened.session.plane, opened.view.slices.plot._facts) == (1, {})
    opened.viewer.dims.order = (0, 1, 2)
    opened.settle()
    panel(opened)
    assert sorted(opened.view.slices.plot._facts) == list(range(FIRST, LAST + 1))


def test_going_through_what_nobody_has_looked_at(open_ball, monkeypatch):
    opened = open_ball()
    press(opened, "]")
    assert opened.message == ALL_OWN
    press(opened, "K")
    assert opened.message == OWN
    press(opened, "G")
    order = []
    for _ in range(LAST - FIRST):
        press(opened, "]")
        order.append(opened.session.slice_index)
    doubts = [abs(index - GIVEN) for index in order]
    assert doubts == sorted(doubts, reverse=True)
    assert sorted(order) == [i for i in range(FIRST, LAST + 1) if i != GIVEN]
    assert "7 of 8 slices reviewed" in panel(opened)
    press(opened, "]")
    assert opened.message == "All 8 slices are reviewed."
    press(opened, "Control-Z")
    assert "7 of 8 slices reviewed" in panel(opened)
    review = next(box for box in opened.view.findChildren(QCheckBox) if box.text() == "Slice reviewed")
    assert review.isEnabled()
    assert not review.isChecked()
    review.click()
    assert "8 of 8 slices reviewed" in panel(opened)
    press(opened, "K")
    assert "7 of 8 slices reviewed" in panel(opened)
    opened.viewer.dims.set_point(0, 0)
    opened.settle()
    assert not review.isEnabled()
    press(opened, "K")
    assert "no mask" in opened.message
    # A move touches nothing but the mark of the present slice, however many slices there are.
    for verb in ("slice_facts", "volume_estimate", "next_to_review"):
        monkeypatch.setattr(opened.session, verb, lambda: pytest.fail("all slices were touched"))
    for index in (3, 8, 6):
        opened.viewer.dims.set_point(0, index)
        opened.settle()
        assert opened.view.slices.plot._present == index
    opened.view.slices.slice_requested.emit(4)
    assert opened.session.slice_index == 4


def test_going_where_a_correction_helps_most_marks_nothing(open_ball):
    opened = open_ball()
    press(opened, "[")
    assert opened.message == ALL_OWN
    press(opened, "G")
    for trigger in (lambda: press(opened, "["), button(opened, "Where a correction helps most").click):
        opened.viewer.dims.set_point(0, LAST)
        opened.settle()
        trigger()
        assert opened.session.slice_index == opened.session.most_useful_slice() == 6  # two slices below, four above
        assert "1 of 8 slices reviewed" in panel(opened)
    assert button(opened, "Where a correction helps most").toolTip().startswith("Slice 6: correcting it")


def test_a_correction_meanwhile_stops_the_propagation_and_the_rest_is_asked_for_again(open_ball, qtbot):
    opened = open_ball()
    jobs = opened.coordinator.jobs
    jobs.hold()
    press(opened, "G", settle=False)
    assert panel(opened).endswith(PROPAGATING)
    jobs.go.release(3)
    wait_for(qtbot, lambda: len(kinds(opened)) == 4)
    opened.session.set_box(MOVED)
    wait_for(qtbot, lambda: opened.session.is_current)  # from now on the slice looks different
    jobs.go.release(3)  # two of them beyond the object
    opened.settle()
    assert len(kinds(opened)) == 4
    assert opened.message == OUTDATED
    assert "3 slices are from before your last correction: propagate again." in panel(opened)
    assert panel(opened).endswith(PROPAGATE_AGAIN)
    jobs.go.release(1000)
    button(opened, PROPAGATE_AGAIN).click()
    opened.settle()
    assert len(kinds(opened)) == 8
    assert panel(opened).endswith(PROPAGATE)
    press(opened, "G")
    assert "up to date" in opened.message


def test_clicks_go_first_and_cancel_keeps_what_came(open_ball, qtbot):
    opened = open_ball()
    jobs = opened.coordinator.jobs
    jobs.hold()
    press(opened, "G", settle=False)
    jobs.go.release(2)
    wait_for(qtbot, lambda: len(kinds(opened)) == 3)
    opened.session.new_object()
    opened.session.set_box(WHOLE)
    wait_for(qtbot, lambda: opened.session.is_current)  # while the propagation waits
    assert opened.coordinator.is_busy
    opened.session.select_object(1)
    wait_for(qtbot, lambda: not opened.coordinator.worker.is_waited_for)
    press(opened, "G", settle=False)
    assert opened.message == ALREADY
    opened.view.cancel_requested.emit()
    opened.settle()
    assert opened.message == "The propagation was stopped; 2 slices are kept."
    assert len(kinds(opened)) == 3
    assert not panel(opened).endswith(PROPAGATING)
    press(opened, "G", settle=False)
    opened.viewer.add_image(grey(), name="photo")
    opened.coordinator.images.open(opened.viewer.layers["photo"])
    opened.settle()  # the propagation of the image that was left has stopped
    assert opened.view.slices.isHidden()
    for key in ("]", "[", "K"):
        press(opened, key)
        assert opened.message == ONE_IMAGE
    press(opened, "G")
    assert opened.message == "A 2D image has no slices to propagate to; open a volume."


def test_what_has_to_be_known_about_an_image_is_said(qtbot):
    view = RefineView()
    qtbot.addWidget(view)
    presenter, notes = Presenter(view), ("Two slices are missing.", "The spacing is uneven.")
    for told in ((), notes, ()):
        volume = Volume(np.zeros((4, 16, 16), np.uint8), notes=told)
        presenter.follow(SimpleNamespace(session=Session(volume), pixel_mm=None))
        assert view._notes.isHidden() == (not told)
        assert view._notes.toolTip() == "\n".join(told)
        assert view.message() == " ".join([*told[:1], "Draw a box or click inside the object."]) or not told


def test_batches_come_at_most_so_often_and_all_of_them(monkeypatch):
    monkeypatch.setattr(batches, "EVERY", 0.05)
    request = SimpleNamespace(spans=(SimpleNamespace(start=0, stop=40),))

    def slices():
        for index in range(20):
            time.sleep(0.01)
            yield SimpleNamespace(slice_index=index)

    said = []
    came = list(batches.in_batches(slices(), batches.Propagation(request), lambda *report: said.append(report)))
    assert [s.slice_index for batch in came for s in batch] == list(range(20))
    assert 2 <= len(came) <= 6
    assert said[-1] == ("Propagating: slice 19, 20 done", 0.5)
