"""Wires the inspector's view, the viewer's layers and the worker threads together; computes nothing itself.

psygnal's connections are weak: whoever shows the widget has to hold the coordinator.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication

from napari_uncertsam.errors import InputError, UncertSamError
from napari_uncertsam.evaluation.inspection import (
    Comparison,
    PairingName,
    Source,
    StoredEvaluation,
    compare,
    open_evaluation,
)
from napari_uncertsam.io import atomic
from napari_uncertsam.ui.inspect import keys, plot
from napari_uncertsam.ui.inspect.choices import OPTIONAL, SLOTS, LayerChoices, Slot
from napari_uncertsam.ui.inspect.freezing import inputs_of
from napari_uncertsam.ui.inspect.presenter import FindingPresenter
from napari_uncertsam.ui.inspect.stage import Stage
from napari_uncertsam.ui.inspect.texts import NO_LAYERS, compared_text, evaluation_text
from napari_uncertsam.ui.inspect.view import InspectView
from napari_uncertsam.ui.inspect.watching import LayerWatch, Staleness
from napari_uncertsam.ui.messages import Messages
from napari_uncertsam.ui.worker import Worker

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_TABLE_NAME = "failures.csv"


class InspectCoordinator(QObject):
    """One inspector at work in one viewer.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    view : InspectView
    parent : QObject, optional
    """

    def __init__(self, viewer: ViewerModel, view: InspectView, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer, self.view = viewer, view
        self.comparer, self.painter = Worker("comparison", parent=self), Worker("pictures", parent=self)
        self.choices, self.messages = LayerChoices(viewer), Messages(view)
        self.presenter = FindingPresenter(view)
        self._not_shown = ""  # why the selected line is not on screen
        self.stage = Stage(
            viewer, self.painter, self.presenter, self.messages, view.zooms, self._on_stale, self._on_shown
        )
        self.pairing: PairingName = "same"
        #: What is shown in the table.
        self.source: Source | None = None
        self._watch = Staleness(viewer, self._on_stale)
        self._closed = False
        self._connect()
        self._list_layers()
        self._follow_theme()
        self.messages.say(NO_LAYERS if self.choices.chosen("truth") is None else "")

    def _connect(self) -> None:
        view = self.view
        view.layer_requested.connect(self.choose_layer)
        view.pairing_requested.connect(self.set_pairing)
        view.compare_requested.connect(self.compare)
        view.open_requested.connect(self._open_chosen)
        view.results_requested.connect(self.open_results)
        view.kind_requested.connect(self.choose_kind)
        view.preset_requested.connect(self.apply_preset)
        view.order_requested.connect(lambda _name, _descending: self.messages.say(self.presenter.sorted_by_user()))
        view.filter_measure_requested.connect(lambda measure: self._filtered(self.presenter.filter_by(measure)))
        view.filter_requested.connect(lambda chosen: self._filtered(self.presenter.filtered_by_user(chosen)))
        view.columns_requested.connect(self.presenter.set_columns)
        view.finding_requested.connect(self.go_to)
        view.copy_requested.connect(self._copy)
        view.export_requested.connect(self._export)
        view.cancel_requested.connect(self.cancel)
        view.action_requested.connect(self.messages.act)
        for worker in (self.comparer, self.painter):
            worker.busy_changed.connect(self._on_busy)
            worker.progressed.connect(view.set_progress)
        self.choices.changed.connect(self._list_layers)
        self.stage.layers.created.connect(self._on_created)
        self.viewer.events.theme.connect(self._follow_theme)

    def close(self) -> None:
        """Let go of the viewer, take the layers away and stop the threads."""
        if self._closed:
            return
        self._closed = True
        self.viewer.events.theme.disconnect(self._follow_theme)
        self._watch.close()
        self.choices.close()
        self.stage.close()
        self.comparer.close()
        self.painter.close()
        self.source = None

    @property
    def is_busy(self) -> bool:
        """Whether anything is being computed or read."""
        return self.comparer.is_busy or self.painter.is_busy

    def wait(self, seconds: float = 60.0) -> bool:
        """For scripts: keep the window alive until nothing is being computed; False when that took longer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            QApplication.processEvents()
            if not self.is_busy:
                return True
            time.sleep(0.005)
        return False

    # -- layers --------------------------------------------------------------------------------------------------

    def choose_layer(self, slot: Slot, row: int) -> None:
        """Compare another layer."""
        self.choices.choose(slot, row)

    def set_pairing(self, name: PairingName) -> None:
        """Let objects find each other in another way; "one" takes the values from the view."""
        self.pairing = name
        self.view.layers.set_pairing(name)

    def compare(self) -> None:
        """Measure the chosen layers against each other, in the background."""
        chosen = {slot: self.choices.chosen(slot) for slot in SLOTS}
        try:
            inputs = inputs_of(chosen, self.viewer.dims)
        except UncertSamError as error:
            self.messages.complain(str(error))
            return
        how, one, begun = self.pairing, self.view.layers.pair(), time.monotonic()
        used = [chosen[slot] for slot in SLOTS if slot != "image"]
        layers = [layer for layer in used if layer is not None]
        watch = self._watch.begin(layers)  # from now on: what changes while it is measured is stale too
        self.messages.say("Comparing …")
        self.comparer.submit(
            "Comparing",
            lambda cancelled, progress: compare(inputs, how, one, cancelled=cancelled, progress=progress),
            partial(self._compared, chosen["truth"], watch, begun),
            lambda problem: self._not_compared(watch, problem),
            lambda: self._not_compared(watch),
        )

    def _not_compared(self, watch: LayerWatch, problem: str = "") -> None:
        """The table stays, and with it whether it is out of date."""
        self._watch.drop(watch)
        if problem:
            self.messages.complain(problem)
        else:
            self.messages.say("Cancelled; the table is as it was.")

    def _compared(self, truth: Layer, watch: LayerWatch, begun: float, comparison: Comparison) -> None:
        self.view.set_stale(self._watch.accept(watch))
        text = compared_text(comparison, time.monotonic() - begun)
        self._take(comparison, comparison.notes, truth, anew=not isinstance(self.source, Comparison))
        if comparison.better is None:
            self.messages.say(text)
            return
        ours, true = comparison.better
        self.messages.offer(
            f"{text} Object {ours} of the prediction lies mostly on value {true} of the truth, not on {ours}.",
            "Compare by best overlap",
            self._by_overlap,
        )

    def _by_overlap(self) -> None:
        self.set_pairing("overlap")
        self.compare()

    def _list_layers(self) -> None:
        for slot in SLOTS:
            names = [OPTIONAL[slot] if layer is None else layer.name for layer in self.choices.options(slot)]
            self.view.layers.set_layers(slot, names, self.choices.row(slot))

    # -- an evaluation -------------------------------------------------------------------------------------------

    def _open_chosen(self) -> None:
        path = self.view.ask_results()
        if path:
            self.open_results(path)

    def open_results(self, path: str | Path) -> None:
        """Show the results in a folder, in the background."""
        self.view.show_source("results")
        self.messages.say(f"Reading {Path(path).name} …")
        self.comparer.submit(
            "Reading results",
            lambda _cancelled, _progress: open_evaluation(path),
            self._opened,
            self.messages.complain,
            lambda: self.messages.say("Cancelled; the table is as it was."),
        )

    def _opened(self, stored: StoredEvaluation) -> None:
        self._watch.close()
        self.view.set_stale("")
        results = stored.results
        text = evaluation_text(results)
        self.view.results.set_results(text, results.prompts, stored.prompt, results.methods, stored.method)
        self._take(stored, anew=True)
        self.messages.say(text)

    def choose_kind(self, prompt: str, method: str) -> None:
        """Show another prompt or method of the evaluation."""
        if isinstance(self.source, StoredEvaluation):
            self._take(self.source.choose(prompt, method))

    def _on_shown(self, problem: str) -> None:
        """The selected line is on screen, or cannot be shown."""
        if not problem:
            if self._not_shown and self.view.message() == self._not_shown:
                self.messages.say("")
        elif isinstance(self.source, StoredEvaluation):
            self._offer_to_find(problem)
        else:
            self.messages.complain(problem)
        self._not_shown = problem

    def _offer_to_find(self, problem: str) -> None:
        self.messages.offer(problem, "Find the dataset…", partial(self._find_chosen, problem), error=True)

    def _find_chosen(self, problem: str) -> None:
        path = self.view.ask_dataset()
        if path:
            self.relocate(path)
        else:
            self._offer_to_find(problem)

    def relocate(self, path: str | Path) -> None:
        """Read the dataset of the evaluation from the folder to which it was moved."""
        before = self.source
        if not isinstance(before, StoredEvaluation):
            return
        self.messages.say(f"Reading {Path(path).name} …")
        self.comparer.submit(
            "Opening the dataset",
            lambda _cancelled, _progress: before.relocated(path),
            partial(self._relocated, before),
            self._offer_to_find,
            lambda: self.messages.say("Cancelled; the table is as it was."),
        )

    def _relocated(self, before: StoredEvaluation, moved: StoredEvaluation) -> None:
        now = self.source
        if isinstance(now, StoredEvaluation) and now.results is before.results:
            self.messages.say(f"The dataset is read from {moved.results.dataset.root}.")
            self._take(moved.choose(now.prompt, now.method))

    # -- findings ------------------------------------------------------------------------------------------------

    def _take(
        self, source: Source, notes: tuple[str, ...] = (), truth: Layer | None = None, *, anew: bool = False
    ) -> None:
        self.source = source
        self.view.set_outlines(isinstance(source, StoredEvaluation))
        self.stage.set(source, truth)
        row = self.presenter.show(source, notes, anew=anew)
        if row is not None:
            self.go_to(row)
        else:
            self._filtered(None)
        self._load_plot()

    def apply_preset(self, name: str) -> None:
        """Sort and filter by a preset, and go to its first line."""
        self.messages.say(self.presenter.apply(name))
        rows = self.view.table.rows()
        if rows:
            self.go_to(rows[0])
        else:
            self._filtered(None)

    def _filtered(self, sentence: str | None) -> None:
        """Other lines are shown; where none is, no case stays in sight either."""
        if sentence is not None:
            self.messages.say(sentence)
        if not self.view.table.rows():
            self.presenter.choose(None)
            self.stage.clear()

    def go_to(self, row: int) -> None:
        """Select a line, show its slice, its object and its errors."""
        self.stage.go_to(row)

    def step(self, by: int) -> None:
        """Go to the next line of the table (1) or the one before (-1)."""
        self.view.table.step(by)

    def _on_created(self, layer: Layer) -> None:
        keys.bind(layer, {"next": partial(self.step, 1), "previous": partial(self.step, -1)})

    def _on_stale(self, reason: str) -> None:
        if not self._closed and isinstance(self.source, Comparison):
            self.view.set_stale(reason)
            self.messages.offer(reason, "Compare again", self.compare)

    # -- the table as a file -------------------------------------------------------------------------------------

    def _copy(self) -> None:
        self.view.to_clipboard(self.presenter.as_csv(shown_columns=True, delimiter="\t"))
        self.messages.say("The table is in the clipboard.")

    def _export(self) -> None:
        path = self.view.ask_file(_TABLE_NAME)
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Save the lines that are shown, in their order, with all measures; an older file is replaced."""
        path = path if path.suffix else path.with_suffix(".csv")
        try:
            if self.source is None:
                raise InputError("There is no table to save yet; compare layers or open results first.")
            with atomic(path, overwrite=True) as temporary:
                temporary.write_text(self.presenter.as_csv(), encoding="utf-8")
        except UncertSamError as error:
            self.messages.complain(str(error))
        else:
            self.messages.say(f"Saved {path}.")

    # -- what is said --------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop what is being computed or read."""
        self.comparer.cancel()
        if self.painter.is_busy:
            self.stage.clear()
            self.messages.say("Cancelled; go to the line again to see it.")

    def _on_busy(self, _busy: bool) -> None:
        self.view.set_busy(self.is_busy)

    def _load_plot(self) -> None:
        """Load matplotlib while the user looks at the table, so that the plot comes up at once."""
        if not plot.is_loaded():
            self.comparer.submit(
                "Loading the plot",
                lambda _c, _p: plot.preload(),
                lambda _: self.view.plot.draw(),
                self.messages.complain,
            )

    def _follow_theme(self, _event: Any = None) -> None:
        from napari.utils.theme import get_theme

        theme = get_theme(self.viewer.theme)
        self.view.plot.set_colours(plot.PlotColours(theme.text.as_hex(), theme.secondary.as_hex()))
