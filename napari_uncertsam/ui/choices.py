"""Model, method, measure, zoom and window: what the user chose, and the download of models that are not there yet."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_uncertsam.checkpoints import list_models
from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.prediction import Settings
from napari_uncertsam.ui.jobs import Jobs, Loaded
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.methods import MEASURES, Methods
from napari_uncertsam.ui.target import AS_DISPLAYED, CUSTOM, Target
from napari_uncertsam.ui.texts import model_text, size_text
from napari_uncertsam.ui.widget import RefineView
from napari_uncertsam.ui.worker import Worker
from napari_uncertsam.volume import Window

#: The settings that the widget chooses; a session file may hold others.
CHOSEN = ("model", "method", "measure", "zoom")
_WINDOW_SETTLES_MS = 300


class Choices(QObject):
    """The settings of the widget, applied to whatever is being segmented.

    Parameters
    ----------
    view : RefineView
    jobs : Jobs
    worker : Worker
        Fits.
    files : Worker
        Downloads.
    messages : Messages
    parent : QObject, optional

    Attributes
    ----------
    settings : Settings
        What the user chose; :attr:`usable` is what is predicted with.
    """

    #: A model was chosen of which it is not known what it lacks, and no prediction is asked for that would tell.
    unknown = Signal(str)

    def __init__(
        self,
        view: RefineView,
        jobs: Jobs,
        worker: Worker,
        files: Worker,
        messages: Messages,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._view, self._jobs, self._files, self._messages = view, jobs, files, messages
        self._target: Target | None = None
        self.settings = Settings()
        self._methods = Methods(view, jobs, worker, messages, self._apply)
        # Contrast limits change with every step of the slider.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WINDOW_SETTLES_MS)
        self._timer.timeout.connect(self._on_settled)
        view.model_requested.connect(self.choose_model)
        view.download_requested.connect(self.download)
        view.method_requested.connect(self.choose_method)
        view.measure_requested.connect(lambda name: self.change(measure=name))
        view.fit_requested.connect(lambda: self._methods.fit(self.settings))
        view.zoom_requested.connect(lambda on: self.change(zoom=on))
        view.window_requested.connect(self.choose_window)
        view.own_window_requested.connect(self.set_own_window)
        self._show_models(self.settings.model)
        self._show_methods()
        view.set_zoom(self.settings.zoom)
        view.set_windows((), "", enabled=False)

    def follow(self, target: Target | None) -> None:
        """Apply the choices to another target."""
        if self._target is not None:
            self._target.image.events.contrast_limits.disconnect(self._on_contrast)
            self._target.session.prediction_changed.disconnect(self._on_prediction)
        self._timer.stop()
        self._target = target
        if target is None:
            self._view.set_windows((), "", enabled=False)
            return
        target.image.events.contrast_limits.connect(self._on_contrast)
        target.session.prediction_changed.connect(self._on_prediction)
        self._show_windows()
        self._on_contrast()  # may have been changed while another image was segmented

    @property
    def usable(self) -> Settings:
        """The settings to predict with: another method takes the place of one that the model lacks a part for."""
        return self._methods.usable(self.settings)

    def learn(self, loaded: Loaded) -> None:
        """Take notice of what a model lacks."""
        self._methods.learn(loaded)

    def change(self, **changes: Any) -> None:
        """Change some of the settings; what is on screen is predicted again."""
        self.settings = replace(self.settings, **changes)
        self._apply()

    def _apply(self) -> None:
        self._show_methods()
        if self._target is None:
            return
        session, usable = self._target.session, self.usable
        try:
            session.set_settings(**{name: getattr(usable, name) for name in CHOSEN})
        except UncertSamError as error:
            self._messages.complain(str(error))
        if session.request is None and not self._methods.knows(usable.model):
            self.unknown.emit(usable.model)

    def _show_methods(self) -> None:
        self._methods.show(self.settings)

    def _on_prediction(self) -> None:
        self._methods.show_note(self.settings)  # now it is known how fast the model is

    def adopt(self, settings: Settings) -> None:
        """Show settings that the session has taken from a file."""
        self.settings = settings if settings.measure in MEASURES else replace(settings, measure=None)
        self._show_models(settings.model)
        self._view.set_zoom(settings.zoom)
        if self._target is not None:
            self._target.show_window()
            self.follow(self._target)
        self._apply()

    def choose_method(self, name: str) -> None:
        """Use a method, as soon as the model has the part that it needs."""
        self.settings = replace(self.settings, method=name)
        self._methods.look_again(self.settings)
        self._apply()

    def choose_model(self, name: str) -> None:
        """Use a model if it is on disk, else offer to download it; the one before is used until then."""
        row = next(row for row in list_models() if row.name == name)
        if row.downloaded:
            self._view.set_download("")
            self.change(model=name)
        else:
            size = size_text(row.size)
            self._view.set_download(f"Download {name}{f' ({size})' if size else ''}")
            self._view.set_message(f"{row.title}: not downloaded yet; '{self.settings.model}' is used until then.")

    def download(self, name: str) -> None:
        """Fetch a model in the background, then use it."""
        self._view.set_download(f"Downloading {name} …", enabled=False)
        self._files.submit(
            f"Downloading {name}",
            partial(self._jobs.download, name),
            lambda _path: self._downloaded(name),
            lambda text: self._not_downloaded(name, text),
            lambda: self._not_downloaded(name, f"The download of {name} was stopped; it goes on from there next time."),
        )

    def choose_window(self, name: str) -> None:
        """Let the model see other intensities, and show the image with them."""
        if self._target is not None:
            self._set_window(self._target, self._target.window(name))

    def set_own_window(self, level: float, width: float) -> None:
        """Use a window of the user's own, by its level and width."""
        if self._target is not None:
            self._set_window(self._target, Window.level(level, width, CUSTOM))

    def _set_window(self, target: Target, window: Window) -> None:
        target.session.set_window(window)
        target.show_window()
        self._show_windows()

    def _show_windows(self) -> None:
        target = self._target
        if target is not None:
            enabled = len(target.windows) > 1
            self._view.set_windows(target.windows, target.window_name, enabled=enabled, own=target.own_window)

    def _on_contrast(self, _event: Any = None) -> None:
        """Follow the contrast of the layer: the model sees what the user sees, whichever window was chosen before."""
        if self._target is None or self._target.shows_window:
            self._timer.stop()
        else:
            self._timer.start()

    def _on_settled(self) -> None:
        if self._target is None or self._target.shows_window:
            return
        before = self._target.window_name
        self.choose_window(AS_DISPLAYED)
        if before != AS_DISPLAYED:
            self._messages.say(f"The model sees the image as displayed now, no longer through '{before}'.")

    def _downloaded(self, name: str) -> None:
        self._show_models(name)
        self._view.set_message(f"{name} is downloaded and in use.")
        self.choose_model(name)

    def _not_downloaded(self, name: str, text: str) -> None:
        self._show_models(name)
        self.choose_model(name)
        self._messages.complain(text)

    def _show_models(self, chosen: str) -> None:
        self._view.set_models([(row.name, model_text(row)) for row in list_models()], chosen)
