"""Has the worker predict and refine for the session, and hands over what comes back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

from psygnal import Signal

from napari_uncertsam.prediction import Prediction, RefinedPrediction, Request
from napari_uncertsam.propagation import Propagated
from napari_uncertsam.session import Session
from napari_uncertsam.ui.batches import Propagation, in_batches
from napari_uncertsam.ui.jobs import Jobs, Loaded
from napari_uncertsam.ui.presenter import Presenter
from napari_uncertsam.ui.slice_texts import ALREADY, OUTDATED, stopped_text
from napari_uncertsam.ui.worker import Report, Worker


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
    loaded : callable
        Told of a model once it is loaded, and of the part that it lacks when it cannot predict for want of it.
    """

    #: Whether a propagation is under way.
    propagating = Signal(bool)

    def __init__(
        self, jobs: Jobs, worker: Worker, files: Worker, presenter: Presenter, loaded: Callable[[Loaded], None]
    ) -> None:
        self._jobs, self._worker, self._files, self._presenter = jobs, worker, files, presenter
        self._loaded = loaded
        self._session: Session | None = None
        self._propagation: Propagation | None = None

    def follow(self, session: Session | None, model: str = "") -> None:
        """Work for another session, or for none; loads the model before it is needed."""
        if self._session is not None:
            self._session.requested.disconnect(self.predict)
            self._worker.cancel()
            self._stop_propagating()
        self._session = session
        if session is None:
            return
        session.requested.connect(self.predict)
        if session.request is not None and not session.is_current:
            self.predict(session.request)
        else:
            self.warm_up(model)

    def predict(self, request: Request) -> None:
        """Segment as requested; whatever was under way is dropped.

        To points added to a prediction, the closed form answers first: the user sees at once what theirs did.
        """
        if self._session is None:
            return
        volume, before = self._session.volume, self._session.prediction
        if before is not None and not before.provisional and _with_measure_of(before.request, request) == request:
            measure = request.settings.measure
            self._worker.submit(
                "Measuring",
                lambda _cancelled, progress: self._jobs.remeasure(volume, before, measure, progress),
                self._predicted,
                self._failed,
            )
            return

        def work(cancelled: Callable[[], bool], progress: Report) -> Generator[Prediction, None, Prediction | Loaded]:
            if before is not None and before.request != request:
                foreseen = self._jobs.foresee(volume, before, request)
                if foreseen is not None:
                    yield foreseen
            return self._jobs.predict(volume, request, cancelled, progress)

        self._worker.submit("Segmenting", work, self._predicted, self._failed, meanwhile=self._predicted)

    def predict_again(self) -> None:
        """Segment what is on screen, if that has not been done."""
        request = self._session.request if self._session else None
        if self._session is not None and request is not None and not self._session.is_current:
            self.predict(request)

    def _predicted(self, outcome: Prediction | Loaded) -> None:
        if isinstance(outcome, Loaded):
            self._loaded(outcome)
        elif self._session is not None:
            self._session.deliver(outcome)

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

    def propagate(self, session: Session) -> None:
        """Fill in the slices between and beyond those that the user gave, in the background; clicks go first.

        One propagation at a time.

        Raises
        ------
        InputError
            If there is nothing to start from, or nothing to do.
        """
        if self._propagation is not None:
            self._presenter.say(ALREADY)
            return
        under_way, volume = Propagation(session.propagation_request()), session.volume
        self._propagation = under_way

        def work(cancelled: Callable[[], bool], progress: Report) -> Generator[list[Propagated]]:
            def stop() -> bool:
                return cancelled() or under_way.stopped.is_set()

            def tell(text: str, _share: float) -> None:
                if not under_way.came:  # after that, slices are what counts
                    progress(text, -1)

            return in_batches(self._jobs.propagate(volume, under_way.request, stop, tell), under_way, progress)

        self._worker.submit(
            "Propagating",
            work,
            lambda _: self._propagated(under_way),
            lambda text: self._not_propagated(under_way, text),
            lambda: self._propagated(under_way, stopped=True),
            background=True,
            meanwhile=lambda batch: self._take(under_way, batch),
        )
        self.propagating.emit(True)

    def _stop_propagating(self) -> None:
        if self._propagation is not None:
            self._propagation.stopped.set()
            self._propagation = None
            self.propagating.emit(False)

    def _take(self, under_way: Propagation, batch: list[Propagated]) -> None:
        if self._session is None or under_way is not self._propagation or under_way.outdated:
            return
        if self._session.deliver_propagated(under_way.request, batch):
            under_way.delivered += len(batch)
        else:
            under_way.outdated = True
            under_way.stopped.set()

    def _propagated(self, under_way: Propagation, *, stopped: bool = False) -> None:
        if under_way is not self._propagation or self._session is None:
            return
        self._stop_propagating()
        if under_way.outdated:
            self._presenter.say(OUTDATED)
        elif stopped:
            self._presenter.say(stopped_text(under_way.delivered))
        else:
            self._session.finish_propagation(under_way.request)  # which says what came of it

    def _not_propagated(self, under_way: Propagation, text: str) -> None:
        if under_way is self._propagation:
            self._stop_propagating()
            self._presenter.complain(text)

    def warm_up(self, model: str) -> None:
        """Load a model before it is needed."""
        self._worker.submit(
            f"Loading the model {model}",
            lambda _cancelled, progress: self._jobs.loaded(model, progress),
            self._loaded,
            self._presenter.complain,
        )

    def _failed(self, text: str) -> None:
        self._presenter.offer(text, "Try again", self.predict_again, error=True)

    def cancel(self) -> None:
        """Stop what is being computed, or else a fit in the background, or else what is being downloaded or saved."""
        if self._worker.is_waited_for:
            self._worker.cancel()
            self._presenter.offer("Cancelled; nothing was lost.", "Predict again", self.predict_again)
        elif self._worker.is_busy:
            self._worker.cancel(background=True)
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


def _with_measure_of(request: Request, other: Request) -> Request:
    return replace(request, settings=replace(request.settings, measure=other.settings.measure))
