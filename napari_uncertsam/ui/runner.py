"""Has the worker predict and refine for the session, and hands over what comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_uncertsam.prediction import Prediction, RefinedPrediction, Request
from napari_uncertsam.session import Session
from napari_uncertsam.ui.jobs import Jobs
from napari_uncertsam.ui.presenter import Presenter
from napari_uncertsam.ui.worker import Worker


class Runner:
    """The computing of one widget.

    Parameters
    ----------
    jobs : Jobs
    worker : Worker
        Predicts and refines; the newest request wins.
    files : Worker
        Saves, one after the other.
    presenter : Presenter
    device_known : callable
        Takes the name of the model and where it runs, once it is loaded.
    """

    def __init__(
        self, jobs: Jobs, worker: Worker, files: Worker, presenter: Presenter, device_known: Callable[[str], None]
    ) -> None:
        self._jobs, self._worker, self._files, self._presenter = jobs, worker, files, presenter
        self._device_known = device_known
        self._session: Session | None = None

    def follow(self, session: Session | None, model: str = "") -> None:
        """Work for another session, or for none; loads the model before it is needed."""
        if self._session is not None:
            self._session.requested.disconnect(self.predict)
            self._worker.cancel()
        self._session = session
        if session is None:
            return
        session.requested.connect(self.predict)
        if session.request is not None and not session.is_current:
            self.predict(session.request)
        else:
            self._warm_up(model)

    def predict(self, request: Request) -> None:
        """Segment as requested; whatever was under way is dropped."""
        if self._session is None:
            return
        volume = self._session.volume
        self._worker.submit(
            "Segmenting",
            lambda cancelled, progress: self._jobs.predict(volume, request, cancelled, progress),
            self._predicted,
            self._failed,
        )

    def predict_again(self) -> None:
        """Segment what is on screen, if that has not been done."""
        request = self._session.request if self._session else None
        if self._session is not None and request is not None and not self._session.is_current:
            self.predict(request)

    def _predicted(self, prediction: Prediction) -> None:
        if self._session is not None:
            self._session.deliver(prediction)

    def refine(self, session: Session) -> None:
        """Run the automatic round on the present prediction.

        Raises
        ------
        InputError
            If there is none.
        """
        prediction, volume = session.refine_request(), session.volume
        self._worker.submit(
            "Refining",
            lambda cancelled, progress: self._jobs.refine(volume, prediction, cancelled, progress),
            self._refined,
            self._failed,
        )

    def _refined(self, refined: RefinedPrediction) -> None:
        if self._session is not None:
            self._session.deliver_refinement(refined)

    def _warm_up(self, model: str) -> None:
        self._worker.submit(
            f"Loading the model {model}",
            lambda _cancelled, progress: self._jobs.device(model, progress),
            lambda device: self._device_known(f"{model} · {device}"),
            self._presenter.complain,
        )

    def _failed(self, text: str) -> None:
        self._presenter.offer(text, "Try again", self.predict_again, error=True)

    def cancel(self) -> None:
        """Stop what is being computed, or else what is being downloaded or saved."""
        if self._worker.is_busy:
            self._worker.cancel()
            self._presenter.offer("Cancelled; nothing was lost.", "Predict again", self.predict_again)
        else:
            self._files.cancel()

    def save(self, session: Session, folder: Path, *, overwrite: bool) -> None:
        """Write masks, maps, prompts and a summary, in the background."""
        snapshot = session.snapshot()
        self._files.submit(
            f"Saving to {folder.name}",
            lambda _cancelled, _progress: snapshot.save(folder, overwrite=overwrite),
            lambda paths: self._presenter.say(f"Saved {', '.join(p.name for p in paths)} to {folder}."),
            self._presenter.complain,
        )
