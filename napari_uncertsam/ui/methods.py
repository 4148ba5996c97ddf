"""Method and measure: what there is to choose, what is used until a model has the part that a method needs, the fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from napari_uncertsam.checkpoints import missing_part
from napari_uncertsam.estimators import Estimator
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.prediction import Settings
from napari_uncertsam.refinement.methods import METHODS, make_method
from napari_uncertsam.ui.jobs import Jobs, Loaded
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.texts import measure_tip, method_tip, time_text, why_not
from napari_uncertsam.ui.widget import RefineView
from napari_uncertsam.ui.worker import Worker

#: The measures to choose from; the others are for reproducing a paper.
MEASURES = ("entropy", "mutual-information", "std")
#: Used until a model has the part that the chosen method needs. It needs none itself.
SUBSTITUTE = "prompt"


class Methods:
    """The methods and measures of the widget.

    Parameters
    ----------
    view : RefineView
    jobs : Jobs
    worker : Worker
        Fits, in the background.
    messages : Messages
    changed : callable
        Called when another method can be used than before.
    """

    def __init__(
        self, view: RefineView, jobs: Jobs, worker: Worker, messages: Messages, changed: Callable[[], None]
    ) -> None:
        self._view, self._jobs, self._worker, self._messages = view, jobs, worker, messages
        self._changed = changed
        self._made: dict[str, Estimator] = {}
        self._offered = [name for name in METHODS if not getattr(self.method(name), "control", False)]
        self._missing: dict[str, frozenset[str]] = {}  # by model, as far as it was loaded
        self._hoped_for: set[tuple[str, str]] = set()  # parts that may have come since, from the command line
        self._fitting: list[str] = []  # models

    def method(self, name: str) -> Estimator:
        """A method, to be asked what it is."""
        if name not in self._made:
            self._made[name] = make_method(name)
        return self._made[name]

    # -- what can be used ----------------------------------------------------------------------------------------

    def knows(self, model: str) -> bool:
        """Whether it is known what a model lacks, without a part that may have come since."""
        return model in self._missing and not any(model == name for name, _ in self._hoped_for)

    def learn(self, loaded: Loaded) -> None:
        """Take notice of what a model lacks."""
        self._missing[loaded.model] = loaded.missing
        self._hoped_for = {(model, kind) for model, kind in self._hoped_for if model != loaded.model}
        self._changed()

    def look_again(self, settings: Settings) -> None:
        """Try the chosen method though its part was missing: it may have been fitted meanwhile."""
        kind = self.lacking(settings)
        if kind is not None:
            self._hoped_for.add((settings.model, kind))

    def lacking(self, settings: Settings) -> str | None:
        """Kind of the part that the chosen method needs and the model does not have, as far as is known."""
        kind = self.method(settings.method).needs
        lacks = kind in self._missing.get(settings.model, ()) and (settings.model, kind) not in self._hoped_for
        return kind if lacks else None

    def usable(self, settings: Settings) -> Settings:
        """The settings to predict with: what was chosen, with another method where a part is missing."""
        return settings if self.lacking(settings) is None else replace(settings, method=SUBSTITUTE)

    # -- what is shown -------------------------------------------------------------------------------------------

    def show(self, settings: Settings) -> None:
        """Show what is chosen and what there is to choose."""
        missing = self._missing.get(settings.model, frozenset())
        rows = []
        for name in self._offered:
            method = self.method(name)
            suffix = " (needs training)" if method.needs in missing else ""
            rows.append((name, method.title + suffix, method.answers))
        chosen = self.method(settings.method)
        self._view.set_methods(rows, settings.method, method_tip(chosen.title, chosen.answers))
        used = self.method(self.usable(settings).method)
        shown = settings.measure if settings.measure in used.measures else used.measures[0]
        measures = [
            (name, UNCERTAINTY_MEASURES[name].title, measure_tip(name), True)
            if name in used.measures
            else (name, UNCERTAINTY_MEASURES[name].title, why_not(name, used.title), False)
            for name in MEASURES
        ]
        self._view.set_measures(measures, shown or "")
        self.show_note(settings)

    def show_note(self, settings: Settings) -> None:
        """Say why another method is used and what to do about it, or nothing."""
        kind, model = self.lacking(settings), settings.model
        until = f"{self.method(SUBSTITUTE).title} is used until then."
        meanwhile = until[0].lower() + until[1:]
        if kind is None:
            self._view.set_method_note("", "")
        elif model in self._fitting:
            self._view.set_method_note(f"Laplace is being fitted for {model}; {meanwhile}", "")
        elif kind == "laplace":
            minutes = self._jobs.fit_seconds(model)
            about = f" (about {time_text(max(minutes, 60))})" if minutes is not None else ""
            text = f"Laplace has not been fitted for {model} yet; {meanwhile}"
            self._view.set_method_note(text, f"Fit Laplace for {model}{about}")
        else:
            self._view.set_method_note(f"{missing_part(kind, model)}\n{until}", "")

    # -- the fit -------------------------------------------------------------------------------------------------

    def fit(self, settings: Settings) -> None:
        """Fit Laplace for the chosen model, once and in the background; predictions go on meanwhile."""
        model = settings.model
        if model in self._fitting:
            return
        self._fitting.append(model)
        self.show_note(settings)
        self._worker.submit(
            f"Fitting Laplace for {model}",
            partial(self._jobs.fit, model),
            self._fitted,
            lambda text: self._not_fitted(model, text, failed=True),
            lambda: self._not_fitted(model, f"The fit of Laplace for {model} was stopped; nothing else is lost."),
            background=True,
        )

    def _fitted(self, loaded: Loaded) -> None:
        self._fitting.remove(loaded.model)
        self._messages.say(f"Laplace is fitted for {loaded.model} and ready from now on.")
        self.learn(loaded)

    def _not_fitted(self, model: str, text: str, *, failed: bool = False) -> None:
        self._fitting.remove(model)
        self._changed()
        (self._messages.complain if failed else self._messages.say)(text)
