"""Asks about one place after the other: which is next, where the camera looks, what the last answer changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_uncertsam.annotations import REPEAT_OVERLAP, REPEAT_RADIUS, Change, Entry, Key
from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.prompts import Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.ui.geometry import from_slice, on_canvas
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.question_texts import (
    SETTLED,
    WAITING,
    QuestionText,
    change_text,
    is_settled,
    question_text,
    suggestion_rows,
)
from napari_uncertsam.ui.target import Target
from napari_uncertsam.ui.widget import RefineView

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: How long the changed pixels are outlined.
OUTLINED_MS = 2000
#: A place within this share of the canvas about its centre is seen well: the camera stays, or people get seasick.
_SEEN = 0.5
_NO_QUESTION = "There is no suggestion to answer: draw a box or click a point first."


class Dialogue(QObject):
    """Questions and answers about the target that is on screen.

    The place that is asked about stays the same when other places come and go around it, and from an answer until the
    model's prediction nothing is asked, so that a key never answers another question than the one that was read. The
    camera moves only for somebody who goes through the questions.

    Parameters
    ----------
    viewer : ViewerModel
    view : RefineView
    messages : Messages
    parent : QObject, optional
    """

    def __init__(
        self, viewer: ViewerModel, view: RefineView, messages: Messages, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._messages = viewer, view, messages
        self._target: Target | None = None
        self._seen: tuple[Key, Entry] | None = None  # what was shown last
        self._asked: Suggestion | None = None
        self._change: Change | None = None
        self._answering = self._following = self._answered = False
        #: Whether nothing is asked because the model has not looked at the last answer yet.
        self.waiting = False
        #: Row of the suggestion that the keys answer, from 0.
        self.chosen: int | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(OUTLINED_MS)
        self._timer.timeout.connect(self._take_outline_away)

    def follow(self, target: Target | None) -> None:
        """Ask about another target, or about none."""
        if self._target is not None:
            self._target.session.suggestions_changed.disconnect(self.show)
        self._timer.stop()
        self._target, self._seen, self._asked, self._change, self.chosen = target, None, None, None, None
        self._following = self._answered = self.waiting = False
        if target is not None:
            target.session.suggestions_changed.connect(self.show)
        self.show()

    @property
    def _session(self) -> Session | None:
        return self._target.session if self._target else None

    @property
    def _open(self) -> tuple[Suggestion, ...]:
        """What can be answered now."""
        return self._session.suggestions if self._session and not self.waiting else ()

    # -- what the user wants -------------------------------------------------------------------------------------

    def next(self) -> bool:
        """Look at the next question, after the last at the first; False when there is none and none is to come.

        One that is not on the canvas yet is not passed over.
        """
        suggestions = self._open
        if not suggestions:
            return self.waiting  # the keyboard stays where it is: the next question comes in a moment
        if self.chosen is None or not self._is_out_of_sight(suggestions[self.chosen]):
            self.choose((-1 if self.chosen is None else self.chosen) + 1)
        else:
            self.choose(self.chosen)
        return True

    def choose(self, row: int) -> None:
        """Ask about one of the suggestions, and look there."""
        suggestions = self._open
        if suggestions:
            self._following = True
            self._ask(suggestions, row % len(suggestions))

    def answer(self, row: int | None, inside: bool) -> None:
        """Answer a question (by default the one that is asked): inside or outside the object."""
        self._reply(row, lambda session, suggestion: session.answer(suggestion, inside))

    def dismiss(self, row: int | None) -> None:
        """Answer "don't know"."""
        self._reply(row, lambda session, suggestion: session.dismiss(suggestion))

    def _reply(self, row: int | None, verb: Callable[[Session, Suggestion], Any]) -> None:
        session, row, suggestions = self._session, self.chosen if row is None else row, self._open
        if self.waiting:
            self._messages.say(WAITING)
            return
        if session is None or row is None or row >= len(suggestions):
            self._messages.say(_NO_QUESTION)
            return
        try:
            with self._answer():
                verb(session, suggestions[row])
        except UncertSamError as error:
            self._messages.complain(str(error))

    @contextmanager
    def _answer(self) -> Iterator[None]:
        """Steps in here are answers: the camera goes on to the next question."""
        self._answering = self._following = True
        try:
            yield
        finally:
            self._answering = False

    def stop_waiting(self) -> None:
        """The model is not looking any more, it failed or was told to stop: ask about what there is."""
        session = self._session
        if session is not None and self.waiting:
            self.waiting = False
            self._ask(session.suggestions, 0 if session.suggestions else None)
            self._tell_change()

    # -- what is shown -------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Show the questions about the present slice and object, and what the last answer changed."""
        session, seen = self._session, self._seen
        if session is None:
            self._ask((), None)
            self._show_change(None, outlined=False)
            return
        here, entry = session.key, session.entry
        before = seen[1] if seen is not None and seen[0] == here else None
        self._seen = here, entry
        if before is None or (before.prompts != entry.prompts and not self._answering):
            # Another slice or object, or something was drawn or undone: nobody wants to be led on.
            self._following = False
            # Back at an answer that the model was not asked about: its prediction counts as that to the answer.
            self._answered = before is None and not session.is_current
        came = before is not None and before.prompts == entry.prompts and before.prediction is not entry.prediction
        self.waiting = self._has_to_wait(session, before, entry)
        if self.waiting:
            self._ask_nothing_yet()
        else:
            self._ask(session.suggestions, self._next_row(session.suggestions, before, entry))
        self._show_change(session.last_change, outlined=came)

    def _has_to_wait(self, session: Session, before: Entry | None, entry: Entry) -> bool:
        """Whether an answer awaits the model's prediction; what was taken back can be answered at once."""
        if before is None or session.request is None or session.is_current:
            return False
        if self._answering and before.prompts != entry.prompts:
            self._answered = True
            return True
        return self.waiting and not _said(before) - _said(entry)

    def _ask_nothing_yet(self) -> None:
        """The list stays as it was, so that nothing jumps; the numbers on the canvas would be of the past."""
        self.chosen = self._asked = None
        self._view.set_chosen(None)
        self._view.set_question(QuestionText(WAITING))
        self._view.set_advice("")
        self._view.set_answerable(False)
        if self._target is not None:
            self._target.sync.choose(None, asks=False)

    def _next_row(self, suggestions: tuple[Suggestion, ...], before: Entry | None, entry: Entry) -> int | None:
        """Which of the open suggestions to ask about."""
        if not suggestions:
            return None
        if before is None:
            return 0
        if self._answering or (self._answered and entry.prediction is not before.prediction):
            self._answered = False
            return 0  # the most useful one
        taken_back = _said(before) - _said(entry)
        for row, suggestion in enumerate(suggestions):
            if (suggestion.y, suggestion.x) in taken_back:
                return row
        same = self._row_of_asked(suggestions)
        if same is not None:
            return same
        return min(self.chosen or 0, len(suggestions) - 1) if self._following else 0

    def _row_of_asked(self, suggestions: tuple[Suggestion, ...]) -> int | None:
        """Where the question that is being asked has got to."""
        asked, session = self._asked, self._session
        if asked is None or session is None or session.prediction is None:
            return None
        view = session.prediction.view
        nearest, best = REPEAT_RADIUS * max(view.height, view.width), None
        for row, suggestion in enumerate(suggestions):
            if suggestion.box is not None and asked.box is not None:
                if suggestion.box.iou(asked.box) >= REPEAT_OVERLAP:
                    return row
            elif suggestion.kind == asked.kind == "point":
                distance = float(np.hypot(suggestion.y - asked.y, suggestion.x - asked.x))
                if distance <= nearest:
                    nearest, best = distance, row
        return best

    def _ask(self, suggestions: tuple[Suggestion, ...], row: int | None) -> None:
        target, session = self._target, self._session
        self.chosen, self._asked = row, None if row is None else suggestions[row]
        pixel_mm = target.pixel_mm if target else None
        has_box = session is not None and session.prompts.box is not None
        self._view.set_suggestions(suggestion_rows(suggestions, pixel_mm), row)
        settled = session is not None and is_settled(session.prediction)
        text = question_text(suggestions, row, pixel_mm, has_box=has_box, is_optional=settled)
        self._view.set_question(text)
        self._view.set_advice(SETTLED if settled else "")
        self._view.set_answerable(True)
        if target is not None:
            target.sync.choose(row)
            if self._asked is not None and self._following and not target.sync.is_held:
                self._look_at(self._asked)

    def _show_change(self, change: Change | None, *, outlined: bool) -> None:
        old, target, self._change = self._change, self._target, change
        is_new = change is None or old is None or change.after.prediction is not old.after.prediction
        pixels = change.pixels if change is not None and outlined else None
        if is_new and target is not None:
            if pixels is not None:
                target.sync.outline(pixels)
                self._timer.start()
            elif self._timer.isActive():
                self._timer.stop()
                self._take_outline_away()
        self._tell_change()

    def _tell_change(self) -> None:
        change, outlined = self._change, self._timer.isActive()
        text = "" if change is None else change_text(change, waiting=self.waiting, outlined=outlined)
        self._view.set_change(text)

    def _take_outline_away(self) -> None:
        if self._target is not None:
            self._target.sync.outline(None)
        self._tell_change()

    # -- where to look -------------------------------------------------------------------------------------------

    def _distance(self, suggestion: Suggestion) -> float | None:
        """How far from the centre of the canvas, as a share of it: 0 in the middle, 1 at the border; None in 3D."""
        target = self._target
        if target is None or target.sync.slot is None:
            return None
        camera, size = self._viewer.scene.camera, np.asarray(self._viewer.canvas.size[-2:], float)
        away = np.abs(self._on_canvas(target, suggestion) - np.asarray(camera.center[-2:])) * camera.zoom
        return float((2 * away / np.maximum(size, 1)).max())

    def _on_canvas(self, target: Target, suggestion: Suggestion) -> Any:
        session, image = target.session, target.image
        positions = from_slice([(suggestion.y, suggestion.x)], session.plane, session.slice_index, image.ndim)
        return on_canvas(self._viewer.dims, image, positions)[0]

    def _is_out_of_sight(self, suggestion: Suggestion) -> bool:
        distance = self._distance(suggestion)
        return distance is not None and distance > 1

    def _look_at(self, suggestion: Suggestion) -> None:
        """Centre a place that is not seen well; the zoom stays."""
        target, distance = self._target, self._distance(suggestion)
        if target is None or distance is None or distance <= _SEEN:
            return
        y, x = (float(v) for v in self._on_canvas(target, suggestion))
        camera = self._viewer.scene.camera
        camera.center = (camera.center[0], y, x)


def _said(entry: Entry) -> set[tuple[float, float]]:
    """Places that the user has said something about, or does not know."""
    places = {(p.y, p.x) for p in entry.prompts.points} | {(s.y, s.x) for s in entry.dismissed}
    return places if entry.prompts.box is None else places | {entry.prompts.box.centre}
