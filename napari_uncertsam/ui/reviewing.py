"""Through the slices of a volume: what the panel shows, propagating, going through what nobody has looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer

from napari_uncertsam.facts import most_useful, next_to_review, volume_of
from napari_uncertsam.session import Session
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.runner import Runner
from napari_uncertsam.ui.slice_texts import (
    ALL_OWN,
    NOTHING_YET,
    ONE_IMAGE,
    OWN,
    SlicesText,
    all_reviewed_text,
    is_own,
    slices_text,
)
from napari_uncertsam.ui.target import Target
from napari_uncertsam.ui.volume_panel import VolumePanel
from napari_uncertsam.volumetry import SliceFacts

_MM3_PER_ML = 1000.0


class Reviewing(QObject):
    """The slices of the target that is on screen.

    Moving to another slice of the same plane touches no other slice: only the mark of the present one moves.

    Parameters
    ----------
    panel : VolumePanel
    messages : Messages
    runner : Runner
        Propagates.
    do : callable
        Calls a verb of the session; what it refuses becomes a sentence.
    show_slice : callable
        Moves the viewer to a slice of the present plane.
    parent : QObject, optional
    """

    def __init__(
        self,
        panel: VolumePanel,
        messages: Messages,
        runner: Runner,
        do: Callable[[Callable[[Session], Any]], None],
        show_slice: Callable[[int], None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._panel, self._messages, self._runner = panel, messages, runner
        self._do, self._show_slice = do, show_slice
        self._target: Target | None = None
        self._facts: dict[int, SliceFacts] = {}
        self._shown: tuple[int, int] | None = None  # plane and object that the panel is about
        self._timer = QTimer(self)  # what changes several times in one turn of the event loop is shown once
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self.show)
        panel.propagate_requested.connect(self.propagate)
        panel.next_requested.connect(self.next)
        panel.useful_requested.connect(self.go_where_useful)
        panel.slice_requested.connect(show_slice)
        panel.reviewed_requested.connect(self.set_reviewed)
        runner.propagating.connect(panel.set_propagating)
        panel.hide()

    def follow(self, target: Target | None) -> None:
        """Show the slices of another target; nothing for a single image."""
        self._timer.stop()
        if self._target is not None:
            for signal, slot in self._signals(self._target.session):
                signal.disconnect(slot)
        self._target = target if target is not None and target.session.volume.ndim == 3 else None
        self._panel.setVisible(self._target is not None)
        if self._target is not None:
            for signal, slot in self._signals(self._target.session):
                signal.connect(slot)
        self.show()

    def _signals(self, session: Session) -> tuple[tuple[Any, Callable[[], None]], ...]:
        return (
            (session.propagation_changed, self._soon),
            (session.reviewed_changed, self._soon),
            (session.objects_changed, self._soon),
            (session.prompts_changed, self._on_move),  # another slice comes with this one
        )

    def _soon(self) -> None:
        self._timer.start()

    def _on_move(self) -> None:
        target = self._target
        if target is None:
            return
        if (target.session.plane, target.session.object_id) != self._shown:
            self._soon()
        elif not self._timer.isActive():
            self._show_present(target.session)

    # -- what is shown -------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Show everything about the present plane and object."""
        if self._target is None:
            self._facts, self._shown = {}, None
            self._panel.set_slices((), 1)
            self._panel.set_text(SlicesText())
            return
        session = self._target.session
        facts = session.slice_facts()
        self._facts = {fact.slice_index: fact for fact in facts}
        self._shown = session.plane, session.object_id
        self._panel.set_slices(facts, session.volume.n_slices(session.plane))
        estimate = volume_of(facts, session.volume, session.plane)  # the session would collect them again
        useful = most_useful(facts, session.volume, session.plane)
        self._panel.set_text(slices_text(facts, estimate, next_to_review(facts), self._voxel_ml, useful))
        self._show_present(session)

    def _show_present(self, session: Session) -> None:
        fact = self._facts.get(session.slice_index)
        self._panel.set_present(session.slice_index)
        own = fact is not None and is_own(fact)
        # A slice of one's own needs no review; confirmed, it would be another one to propagate from.
        self._panel.set_reviewed(fact is not None and (own or fact.reviewed), enabled=fact is not None and not own)

    @property
    def _voxel_ml(self) -> float | None:
        """Millilitres of what the session takes for a voxel, where the spacing is not known."""
        if self._target is None or self._target.pixel_mm is not None:
            return None
        return math.prod(self._target.session.volume.spacing) / _MM3_PER_ML

    # -- what the user wants -------------------------------------------------------------------------------------

    def propagate(self) -> None:
        """Fill in what is not up to date, from the slices that the user gave, in the background."""
        self._do(self._runner.propagate)

    def set_reviewed(self, reviewed: bool) -> None:
        """Say whether the present slice was looked at and is right."""
        self._do(lambda session: session.set_reviewed(session.slice_index, reviewed))
        if self._target is not None:
            self._show_present(self._target.session)  # what was refused is put back

    def toggle_reviewed(self) -> None:
        """The opposite of what is said of the present slice."""
        if self._target is None:
            self._messages.say(ONE_IMAGE)
            return
        self._update()
        fact = self._facts.get(self._target.session.slice_index)
        if fact is None:
            self._messages.say("There is no mask of this object on this slice to be reviewed.")
        elif is_own(fact):
            self._messages.say(OWN)
        else:
            self.set_reviewed(not fact.reviewed)

    def next(self) -> None:
        """Take the present slice as looked at and fine, and go to the most uncertain of the others."""
        target = self._target
        if target is None:
            self._messages.say(ONE_IMAGE)
            return
        session = target.session
        self._update()
        here = self._facts.get(session.slice_index)
        seen = target.sync.slot == (session.plane, session.slice_index) and target.sync.is_drawn
        if here is not None and seen and not (here.reviewed or is_own(here)):
            self.set_reviewed(True)
        index = session.next_to_review()
        if index is None and self._facts and all(is_own(fact) for fact in self._facts.values()):
            self._next_own(session.slice_index)
        else:
            self._go(index)

    def go_where_useful(self) -> None:
        """Go to the slice whose correction is expected to settle most; nothing is marked as reviewed."""
        if self._target is None:
            self._messages.say(ONE_IMAGE)
            return
        self._update()
        self._go(self._target.session.most_useful_slice())

    def _go(self, index: int | None) -> None:
        """To a slice, or say why there is none to go to."""
        if index is not None:
            self._show_slice(index)
        elif not self._facts:
            self._messages.say(NOTHING_YET)
        elif all(is_own(fact) for fact in self._facts.values()):
            self._messages.say(ALL_OWN)
        else:
            self._messages.say(all_reviewed_text(list(self._facts.values())))

    def _next_own(self, here: int) -> None:
        """The next of the slices that the user gave, from the most uncertain to the least and round again."""
        ranking = sorted(self._facts, key=lambda index: (-self._facts[index].uncertainty, index))
        self._show_slice(ranking[(ranking.index(here) + 1) % len(ranking)] if here in ranking else ranking[0])
        self._messages.say(ALL_OWN)

    def _update(self) -> None:
        """Show what has changed in this turn of the event loop."""
        if self._timer.isActive():
            self._timer.stop()
            self.show()
