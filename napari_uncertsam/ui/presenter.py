"""Shows a session in the view: results, history, messages. Reads the session, never changes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_uncertsam.session import Session
from napari_uncertsam.ui.drawing import slice_of
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.question_texts import status_text
from napari_uncertsam.ui.slice_texts import CORRECT, propagated_text
from napari_uncertsam.ui.target import Target
from napari_uncertsam.ui.texts import ResultText, result_text
from napari_uncertsam.ui.widget import RefineView


class Presenter(Messages):
    """What is on screen about the present target.

    Parameters
    ----------
    view : RefineView
    """

    def __init__(self, view: RefineView) -> None:
        super().__init__(view)
        self._view = view
        self._target: Target | None = None
        self._state: tuple[Any, ...] | None = None  # of the session, when the status was last derived from it
        self.show()

    def follow(self, target: Target | None) -> None:
        """Show another target, or none."""
        if self._target is not None:
            for signal, slot in self._signals(self._target.session):
                signal.disconnect(slot)
        self._target, self._state = target, None
        if target is not None:
            for signal, slot in self._signals(target.session):
                signal.connect(slot)
        self.show()
        notes = () if target is None else target.session.volume.notes
        self._view.set_notes(notes)
        if target is not None and notes:
            self.say(f"{notes[0]} {status_text(target.session)}")

    def _signals(self, session: Session) -> tuple[tuple[Any, Callable[[], None]], ...]:
        return (
            (session.prediction_changed, self.show_result),
            (session.objects_changed, self.show),
            (session.history_changed, self.show),
            (session.refined, self.show_result),
            # Whatever changes on screen, another slice too, comes with this one; a refused refinement only with that.
            (session.prompts_changed, self.show_status),
            (session.refined, self.show_status),
        )

    def show(self) -> None:
        """Show everything."""
        session = self._target.session if self._target else None
        self._view.set_object(session.object_id if session else 1)
        self._view.set_history(bool(session and session.can_undo), bool(session and session.can_redo))
        self.show_result()
        self.show_status()

    def show_status(self) -> None:
        """Say what to do next, once per state of the session: what else is said stays until that changes."""
        if self._target is None:
            return
        session = self._target.session
        state = (session.prediction, session.prompts, session.last_refinement, status_text(session))
        if state != self._state:
            self._state = state
            self.say(state[-1])

    def show_result(self) -> None:
        """Show uncertainty, area and the last run, and which actions make sense."""
        target = self._target
        if target is None:
            self._view.set_result(ResultText())
            self._view.set_ready(refine=False, save=False)
            return
        session = target.session
        if session.entry.is_propagated:
            self._view.set_result(propagated_text(session.entry, target.pixel_mm))
        else:
            self._view.set_result(result_text(session.prediction, session.last_refinement, target.pixel_mm))
        self._view.set_invitation(CORRECT if session.entry.is_propagated else "")
        self._view.set_ready(refine=session.prediction is not None, save=bool(session.entries))


def overlap(session: Session) -> int:
    """Pixels that the current object's mask would take from other objects; they are left to those."""
    labels = slice_of(session.labels, session.plane, session.slice_index)
    claimed = session.entry.mask(session.volume.plane_shape(session.plane))
    return int((claimed & (labels != 0) & (labels != session.object_id)).sum())
