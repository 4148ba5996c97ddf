"""Wires the view, the session, the layers, the keys and the worker threads together; decides nothing about pixels.

psygnal's connections are weak: whoever shows the widget has to hold the coordinator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication

from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.session import Session
from napari_uncertsam.ui.autosave import Autosave
from napari_uncertsam.ui.choices import Choices
from napari_uncertsam.ui.dialogue import Dialogue
from napari_uncertsam.ui.geometry import world_position
from napari_uncertsam.ui.images import NO_IMAGE, ImageChooser
from napari_uncertsam.ui.jobs import Jobs, Loaded
from napari_uncertsam.ui.keys import KeyBindings
from napari_uncertsam.ui.modes import PromptModes
from napari_uncertsam.ui.presenter import Presenter, overlap
from napari_uncertsam.ui.reviewing import Reviewing
from napari_uncertsam.ui.runner import Runner
from napari_uncertsam.ui.target import Target, Targets
from napari_uncertsam.ui.widget import RefineView
from napari_uncertsam.ui.worker import Worker

if TYPE_CHECKING:
    from napari.components import ViewerModel

_NO_SLICE = "Boxes and points are drawn on a slice: show the image in 2D, at one of its slices."
_SAVED = ("mask", "probability", "uncertainty", "summary", "session")


class Coordinator(QObject):
    """One widget at work in one viewer.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    view : RefineView
    jobs : Jobs, optional
        What runs on the worker thread; with it, tests and scripts bring engines of their own.
    parent : QObject, optional
    autosave : bool
        Save the work by itself, and offer to go on with earlier work.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: RefineView,
        jobs: Jobs | None = None,
        parent: QObject | None = None,
        *,
        autosave: bool = True,
    ) -> None:
        super().__init__(parent)
        self.viewer, self.view, self.jobs = viewer, view, jobs or Jobs()
        self.worker = Worker("model", parent=self)
        self.files = Worker("files", newest_wins=False, parent=self)
        self._closed = False
        self.presenter = Presenter(view)
        self.dialogue = Dialogue(viewer, view, self.presenter, self)
        self.choices = Choices(view, self.jobs, self.worker, self.files, self.presenter, self)
        targets = Targets(viewer, self.presenter.complain, lambda function: QTimer.singleShot(0, function))
        self.images = ImageChooser(viewer, targets, self.worker, self.jobs, self.presenter, lambda: self.choices.usable)
        self.runner = Runner(self.jobs, self.worker, self.files, self.presenter, self._on_loaded)
        self.reviewing = Reviewing(view.slices, self.presenter, self.runner, self.do, self.show_slice, self)
        self._autosave = Autosave(self.presenter, self) if autosave else None
        self._modes = PromptModes(viewer, view.set_mode)
        self._keys = KeyBindings(viewer, self._verbs())
        self._connect()
        self.images.refresh()

    # -- wiring --------------------------------------------------------------------------------------------------

    def _verbs(self) -> dict[str, Callable[[], Any]]:
        """What the keys of `keys.KEYS` do."""
        return {
            "draw_box": partial(self.set_mode, "box"),
            "draw_positive": partial(self.set_mode, "positive"),
            "draw_negative": partial(self.set_mode, "negative"),
            "new_object": self.new_object,
            "next_suggestion": self.dialogue.next,
            "accept_inside": partial(self.dialogue.answer, None, True),
            "accept_outside": partial(self.dialogue.answer, None, False),
            "dismiss": partial(self.dialogue.dismiss, None),
            "refine": self.refine,
            "undo": partial(self.do, Session.undo),
            "redo": partial(self.do, Session.redo),
            "propagate": self.reviewing.propagate,
            "toggle_reviewed": self.reviewing.toggle_reviewed,
            "next_uncertain_slice": self.reviewing.next,
            "most_useful_slice": self.reviewing.go_where_useful,
        }

    def _connect(self) -> None:
        view = self.view
        view.image_requested.connect(self.images.open_row)
        view.object_requested.connect(lambda number: self.do(lambda session: session.select_object(number)))
        view.new_object_requested.connect(self.new_object)
        view.clear_requested.connect(lambda: self.do(Session.clear_prompts))
        view.mode_requested.connect(self.set_mode)
        view.refine_requested.connect(self.refine)
        view.answer_requested.connect(self.dialogue.answer)
        view.dismiss_requested.connect(self.dialogue.dismiss)
        view.chosen_answer_requested.connect(partial(self.dialogue.answer, None))
        view.chosen_dismiss_requested.connect(partial(self.dialogue.dismiss, None))
        view.suggestion_requested.connect(self.dialogue.choose)
        view.undo_requested.connect(lambda: self.do(Session.undo))
        view.redo_requested.connect(lambda: self.do(Session.redo))
        view.save_requested.connect(self._save_as)
        view.cancel_requested.connect(self.runner.cancel)
        view.cancel_requested.connect(self.dialogue.stop_waiting)  # the model may take a while to notice
        self.worker.rested.connect(self.dialogue.stop_waiting)
        view.action_requested.connect(self.presenter.act)
        for worker in (self.worker, self.files):
            worker.busy_changed.connect(self._on_busy)
            worker.progressed.connect(view.set_progress)
        view.measure_requested.connect(self._show_measure)
        self.choices.unknown.connect(self.runner.warm_up)
        self.images.entered.connect(self._on_entered)
        self.images.leaving.connect(self._on_leaving)
        self.images.listed.connect(self._on_listed)

    def _on_listed(self, names: list[str], row: int | None) -> None:
        self.view.set_images(names, row)

    def _show_measure(self, _name: str) -> None:
        """A slice that was propagated is not predicted again: its maps have all measures."""
        if self.target is not None:
            self.target.sync.draw_maps()

    def close(self) -> None:
        """Let go of the viewer and stop the threads; a mask stays as an ordinary layer."""
        if self._closed:
            return
        self._closed = True
        self.images.close()
        self._modes.close()
        self._keys.close()
        self.worker.close()
        self.files.close()
        if self._autosave is not None:
            self._autosave.close()

    @property
    def target(self) -> Target | None:
        """The image that is being segmented, with its session and layers."""
        return self.images.target

    @property
    def session(self) -> Session | None:
        """The session of the image that is being segmented."""
        return self.target.session if self.target else None

    @property
    def is_busy(self) -> bool:
        """Whether anything is being computed, opened, downloaded or saved."""
        return self.worker.is_busy or self.files.is_busy

    def wait(self, seconds: float = 60.0) -> bool:
        """For scripts: keep the window alive until nothing is being computed; False when that took longer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            QApplication.processEvents()
            if not self.is_busy and (self.target is None or self.target.sync.is_drawn):
                return True
            time.sleep(0.005)
        return False

    def _on_busy(self, _busy: bool) -> None:
        self.view.set_busy(self.is_busy)

    def _on_loaded(self, loaded: Loaded) -> None:
        self.view.set_device(f"{loaded.model} · {loaded.device}")
        self.choices.learn(loaded)

    def _on_entered(self, target: Target) -> None:
        session = target.session
        session.message.connect(self._on_message)
        target.layers.created.connect(self._keys.bind_layer)
        mask = target.layers.existing("mask")
        if mask is not None:
            self._keys.bind_layer("mask", mask)
        self._modes.follow(target.layers)
        target.sync.draw_all()
        self.choices.follow(target)
        self.presenter.follow(target)
        self.dialogue.follow(target)
        self.reviewing.follow(target)
        if target.sync.slot is not None:
            self._modes.set("box")
        if self._autosave is not None:
            self._autosave.follow(session, self._take_up)
        self.runner.follow(session, self.choices.settings.model)

    def _on_leaving(self, target: Target) -> None:
        if self._autosave is not None:
            self._autosave.follow(None)
        self.runner.follow(None)
        self.choices.follow(None)
        self.presenter.follow(None)
        self.dialogue.follow(None)
        self.reviewing.follow(None)
        self._modes.follow(None)
        target.session.message.disconnect(self._on_message)
        target.layers.created.disconnect(self._keys.bind_layer)
        mask = target.layers.existing("mask")
        if mask is not None:
            self._keys.release_layer(mask)

    def _take_up(self, path: Path) -> None:
        """Go on with work that was saved by itself."""
        self.do(lambda session: session.load(path))
        target = self.target
        if target is None:
            return
        self.choices.adopt(target.session.settings)
        slot = target.sync.slot
        if slot is not None and slot[0] == target.session.plane and target.image.ndim == 3:
            self.show_slice(target.session.slice_index)
        elif slot is not None:
            target.session.go_to(*slot)

    def show_slice(self, index: int) -> None:
        """Move the viewer to a slice of the present plane of a volume."""
        if self.target is not None:
            plane, dims = self.target.session.plane, self.viewer.dims
            dims.set_point(*world_position(dims, self.target.image, plane, index))

    def _on_message(self, text: str) -> None:
        session = self.session
        if session is not None and overlap(session):
            take = partial(self.do, Session.take_overlap)
            self.presenter.offer(text, f"Give them to object {session.object_id}", take)
        else:
            self.presenter.say(text)

    # -- what the user wants -------------------------------------------------------------------------------------

    def do(self, verb: Callable[[Session], Any]) -> None:
        """Call a verb of the session; what it refuses becomes a sentence."""
        if self.session is None:
            self.presenter.say(NO_IMAGE)
            return
        try:
            verb(self.session)
        except UncertSamError as error:
            self.presenter.complain(str(error))

    def set_mode(self, mode: str) -> None:
        """Let the mouse draw a "box", or "positive" or "negative" points."""
        if self.target is None:
            self.presenter.say(NO_IMAGE)
        elif self.target.sync.slot is None:
            self.presenter.complain(_NO_SLICE)
        else:
            self._modes.set(mode)

    def new_object(self) -> None:
        """Start the next object, with a box."""
        self.do(Session.new_object)
        self.set_mode("box")

    def refine(self) -> None:
        """Run the automatic round on the present prediction."""
        self.do(self.runner.refine)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write masks, maps, prompts and a summary, in the background."""
        self.do(lambda session: self.runner.save(session, Path(folder), overwrite=overwrite))

    def _save_as(self) -> None:
        folder = self.view.ask_folder()
        if not folder:
            return
        there = sorted(p.name for p in Path(folder).iterdir() if p.name.partition(".")[0] in _SAVED)
        question = f"{folder} has {', '.join(there)}. Replace what was saved there?"
        if not there or self.view.ask_overwrite(question):
            self.save(folder, overwrite=bool(there))
