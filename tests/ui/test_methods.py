"""Method and measure in the widget: what can be chosen, what is used until a part is there, and the fit."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton

from napari_uncertsam.checkpoints import find_part, require_part, write_part
from napari_uncertsam.checkpoints.parts import installed_path
from napari_uncertsam.errors import Cancelled, EngineError
from napari_uncertsam.estimators import EnsembleBelief
from napari_uncertsam.estimators.base import decoded_logits
from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.prompts import Box
from napari_uncertsam.refinement.methods import METHODS, make_method
from napari_uncertsam.training.laplace import LaplaceSettings
from napari_uncertsam.ui.jobs import Jobs
from napari_uncertsam.ui.styles import heat_limits
from tests.fakes import FakeEngine
from tests.ui.conftest import Opened
from tests.ui.helpers import button, combo, grey, pick, wait_for

CUT, WHOLE = Box(40, 34, 70, 97), Box(38, 32, 89, 99)
SHA = FakeEngine().sha256


@dataclass(frozen=True)
class Fitted:
    """Two members about the one decode, if the part is there."""

    name: ClassVar[str] = "fitted"
    title: ClassVar[str] = "Fitted method"
    answers: ClassVar[str] = "What is in the part?"
    needs: ClassVar[str | None] = "laplace"
    measures: ClassVar[tuple[str, ...]] = ("mutual-information", "std")

    def estimate(self, engine: Any, embedding: Any, prompts: Any, _rng: Any) -> EnsembleBelief:
        require_part(self.needs or "", engine.sha256, engine.name)
        logits = decoded_logits(engine.decode(embedding, [prompts]))
        return EnsembleBelief(np.concatenate([logits - 0.5, logits + 0.5]))


class Headed(Fitted):
    name, title, needs, measures = "headed", "Headed method", "variance", ("std",)


class Control(Fitted):
    name, title, needs, control = "control", "Control method", "fusion-sam-ones", True


class Fit:
    """A fit that goes on when told to."""

    def __init__(self) -> None:
        self.go, self.steps, self.error = threading.Event(), 0, None

    def __call__(
        self, engine: Any, report: Callable[[Mapping[str, float]], None], cancelled: Callable[[], bool]
    ) -> Path:
        while not self.go.wait(0.005):
            if cancelled():
                raise Cancelled("The fit was stopped.")
            self.steps += 1
            report({"progress": 0.25, "seconds": 30.0})
        if self.error is not None:
            raise self.error
        return write_laplace(engine.sha256)


def write_laplace(sha256: str, kind: str = "laplace") -> Path:
    return write_part(installed_path(kind, sha256), kind, sha256, {"mean": torch.zeros(3)}, {})


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (Fitted, Headed, Control):
        monkeypatch.setitem(METHODS, made.name, made)


@pytest.fixture
def fit() -> Fit:
    return Fit()


@pytest.fixture
def open_widget(qapp: Any, private_cache: Path) -> Iterator[Callable[..., Opened]]:
    """The widget on an image, without napari's window, which takes longer to open than all the rest."""
    opened: list[Opened] = []

    def factory(engine: FakeEngine | None = None) -> Opened:
        viewer = ViewerModel()
        viewer.add_image(grey(), name="photo")
        opened.append(Opened(viewer, engine or FakeEngine(), []))
        return opened[-1]

    yield factory
    for entry in opened:
        entry.coordinator.close()
        entry.widget.deleteLater()


@pytest.fixture
def opened(open_widget: Any, monkeypatch: pytest.MonkeyPatch, fit: Fit) -> Any:
    widget = open_widget()
    monkeypatch.setattr(widget.coordinator.jobs, "_fit", fit)
    return widget


def note(opened: Any) -> str:
    (label,) = [x for x in opened.view.findChildren(QLabel) if x.accessibleName() == "Note on Method"]
    return "" if label.isHidden() else label.text()


def fit_button(opened: Any) -> QPushButton | None:
    found = [b for b in opened.view.findChildren(QPushButton) if b.text().startswith("Fit ") and not b.isHidden()]
    return found[0] if found else None


def items(opened: Any, item: str) -> dict[str, tuple[str, str, bool]]:
    """Data to (text, tooltip, whether it can be chosen) of the list that has an item."""
    box = combo(opened, item)
    return {
        box.itemData(row): (
            box.itemText(row),
            box.itemData(row, Qt.ItemDataRole.ToolTipRole),
            box.model().item(row).isEnabled(),
        )
        for row in range(box.count())
    }


# -- what there is to choose -------------------------------------------------------------------------------------------


def test_every_method_but_the_controls_is_offered_with_its_question(opened):
    offered = items(opened, "Fitted")
    assert list(offered) == [n for n in METHODS if not getattr(make_method(n), "control", False)]
    assert "control" not in offered
    assert all(offered[name][1] == make_method(name).answers for name in offered)
    assert offered["headed"][0] == "Headed method (needs training)"
    assert offered["entropy"][0] == make_method("entropy").title


def test_measures_are_offered_as_the_method_has_them(opened):
    pick(opened, "Entropy of")
    offered = items(opened, "Mutual")
    assert list(offered) == ["entropy", "mutual-information", "std"]
    assert [enabled for _, _, enabled in offered.values()] == [True, False, False]
    assert offered["entropy"][1] == f"{UNCERTAINTY_MEASURES['entropy'].answers} From 0 to 0.69 nats (ln 2)."
    assert offered["mutual-information"][1].endswith("a single prediction has nothing to disagree with.")
    pick(opened, "Prompt")
    assert all(enabled for _, _, enabled in items(opened, "Mutual").values())
    assert UNCERTAINTY_MEASURES["std"].answers in items(opened, "Mutual")["std"][1]


def test_a_measure_is_shown_without_a_new_decode_and_remembered(opened):
    pick(opened, "Prompt")
    opened.session.set_box(CUT)
    opened.settle()
    embedded, layer = opened.engine.embed_calls, opened.viewer.layers["uncertainty"]
    own = make_method("prompt").measures[0]
    assert opened.session.settings.measure is None
    assert combo(opened, "Mutual").currentData() == own
    for text, name in (("Mutual", "mutual-information"), ("Standard", "std"), ("Entropy", "entropy")):
        decoded = opened.engine.decode_calls
        box = combo(opened, "Mutual")
        box.setCurrentIndex(box.findText(text, Qt.MatchFlag.MatchStartsWith))
        box.activated.emit(box.currentIndex())
        opened.settle()
        prediction = opened.session.prediction
        assert opened.session.is_current
        assert prediction.record["measure"] == name
        assert opened.engine.decode_calls == decoded
        assert (layer.data == prediction.maps.uncertainty).all()
        title, unit = UNCERTAINTY_MEASURES[name].title.lower(), UNCERTAINTY_MEASURES[name].unit
        text = opened.view._card.text()
        assert f"\n{title} {prediction.mean_uncertainty:.4f}{' ' + unit if unit else ''}\n" in text
    again = opened.coordinator.jobs.pipeline("bundled", lambda *_: None).predict(
        opened.session.volume, opened.session.request
    )
    assert again.mean_uncertainty == opened.session.prediction.mean_uncertainty
    assert (again.maps.uncertainty == layer.data).all()
    pick(opened, "Mutual")
    pick(opened, "Entropy of")
    assert combo(opened, "Mutual").currentData() == "entropy"
    assert opened.session.prediction.record["measure"] == "entropy"
    pick(opened, "Prompt")
    assert combo(opened, "Mutual").currentData() == "mutual-information"
    assert opened.session.prediction.record["measure"] == "mutual-information"
    assert opened.engine.embed_calls == embedded


def test_colours_follow_the_measure_and_leave_the_user_s_limits_alone(opened):
    pick(opened, "Prompt")
    opened.session.set_box(CUT)
    opened.settle()
    layer = opened.viewer.layers["uncertainty"]
    opened.coordinator.choices.change(measure="entropy")
    opened.settle()
    assert layer.contrast_limits == pytest.approx([0, np.log(2)])
    opened.coordinator.choices.change(measure="std")
    opened.settle()
    assert tuple(layer.contrast_limits) == heat_limits("std", opened.session.prediction.maps.local_uncertainty)
    assert 0.1 <= layer.contrast_limits[1] < 0.5 == layer.contrast_limits_range[1]
    layer.contrast_limits = (0, 0.3)
    opened.session.set_box(WHOLE)
    opened.settle()
    assert tuple(layer.contrast_limits) == (0, 0.3)
    opened.coordinator.choices.change(measure="mutual-information")
    opened.settle()
    local = opened.session.prediction.maps.local_uncertainty
    assert layer.contrast_limits[1] == pytest.approx(max(0.05, np.percentile(local, 99.5)))
    assert tuple(layer.contrast_limits_range) == pytest.approx((0, np.log(2)))
    opened.coordinator.choices.change(measure="std")
    opened.settle()
    opened.viewer.layers.remove("uncertainty")
    opened.session.set_box(CUT)
    opened.settle()
    assert opened.viewer.layers["uncertainty"].contrast_limits[1] < 0.5


def test_a_refinement_is_told_in_entropy_whatever_the_map_shows(opened):
    pick(opened, "Prompt")
    opened.coordinator.choices.change(measure="std")
    opened.session.set_box(CUT)
    opened.settle()
    assert "\nstandard deviation 0." in opened.view._card.text()
    button(opened, "Refine by uncertainty").click()
    opened.settle()
    refined = opened.session.last_refinement
    assert f"\nentropy {refined.rounds[0].mean_uncertainty[0]:.4f} → " in opened.view._card.text()


def test_another_image_gets_the_measure_too(opened):
    pick(opened, "Prompt")
    opened.viewer.add_image(grey()[:100], name="second")
    pick(opened, "second")
    pick(opened, "Mutual")
    assert opened.session.settings.measure == "mutual-information"
    pick(opened, "photo")
    assert opened.session.settings.measure == "mutual-information"


# -- methods whose part is missing -------------------------------------------------------------------------------------


def test_without_its_part_a_method_is_replaced_and_the_note_says_so(opened):
    opened.session.set_box(WHOLE)
    opened.settle()
    pick(opened, "Fitted")
    assert opened.session.is_current
    assert opened.session.prediction.record["method"] == "prompt"
    assert opened.session.prompts.box == WHOLE
    assert combo(opened, "Fitted").currentData() == "fitted"
    assert note(opened) == "Laplace has not been fitted for bundled yet; prompt perturbation is used until then."
    assert fit_button(opened).text().startswith("Fit Laplace for bundled")
    pick(opened, "Headed")
    assert "napari-uncertsam fit variance --model bundled --install\nPrompt perturbation is used" in note(opened)
    assert fit_button(opened) is None
    assert opened.session.prediction.record["method"] == "prompt"
    pick(opened, "Entropy of")
    assert note(opened) == ""
    assert opened.session.prediction.record["method"] == "entropy"


def test_the_note_needs_no_prompt(opened):
    pick(opened, "Headed")
    assert "fit variance" in note(opened)
    assert opened.session.request is None
    assert opened.session.settings.method == "prompt"
    opened.session.set_box(WHOLE)
    opened.settle()
    assert opened.session.is_current


def test_a_part_that_came_meanwhile_is_found_when_the_method_is_chosen_again(opened):
    opened.session.set_box(WHOLE)
    opened.settle()
    pick(opened, "Headed")
    assert opened.session.prediction.record["method"] == "prompt"
    write_laplace(SHA, "variance")
    pick(opened, "Headed")
    opened.settle()
    assert opened.session.prediction.record["method"] == "headed"
    pick(opened, "Entropy of")
    pick(opened, "Headed")
    assert opened.session.prediction.record["method"] == "headed"
    assert note(opened) == ""


def test_a_model_that_has_the_part_uses_it_and_one_that_has_not_says_so(opened, monkeypatch):
    def load(name: str) -> FakeEngine:
        engine = FakeEngine()
        engine.name, engine.sha256 = name, name[-1] * 64
        return engine

    monkeypatch.setattr(opened.coordinator.jobs, "_load", load)
    write_laplace("y" * 64)  # sam2.1-tiny
    opened.coordinator.choices.change(model="sam2.1-small", method="fitted")
    opened.settle()
    assert "sam2.1-small yet" in note(opened)
    opened.session.set_box(WHOLE)
    opened.settle()
    for model, method in (("sam2.1-tiny", "fitted"), ("sam2.1-small", "prompt"), ("sam2.1-tiny", "fitted")):
        opened.coordinator.choices.change(model=model)
        opened.settle()
        assert opened.session.is_current
        assert (opened.session.prediction.record["model"], opened.session.settings.method) == (model, method)
        assert bool(note(opened)) == (method == "prompt")
        assert ("(needs training)" in combo(opened, "Fitted").currentText()) == (method == "prompt")


@pytest.mark.parametrize("method", ["fitted", "headed", "control"])
def test_a_session_file_that_names_it_opens(opened, tmp_path, method):
    opened.session.set_settings(method=method, measure="std", seed=5)
    opened.session.set_box(WHOLE)
    path = opened.session.autosave(tmp_path / "session.json")
    opened.session.clear_prompts()
    opened.settle()
    pick(opened, "Entropy of")
    opened.coordinator._take_up(path)
    opened.settle()
    assert opened.session.is_current
    assert opened.session.prompts.box == WHOLE
    assert opened.session.settings.seed == 5
    assert opened.session.prediction.record["method"] == "prompt"
    assert opened.session.prediction.record["measure"] == "std"
    assert opened.coordinator.choices.settings.method == method
    assert note(opened)


# -- the fit -----------------------------------------------------------------------------------------------------------


def test_the_fit_runs_once_while_predictions_go_on(opened, fit, qtbot):
    opened.session.set_box(WHOLE)
    opened.settle()
    pick(opened, "Fitted")
    fit_button(opened).click()
    opened.view.fit_requested.emit()  # a second time does nothing
    wait_for(qtbot, lambda: fit.steps > 3)
    assert note(opened) == "Laplace is being fitted for bundled; prompt perturbation is used until then."
    assert fit_button(opened) is None
    said = []
    opened.coordinator.worker.progressed.connect(lambda text, share: said.append((text, share)))
    opened.session.set_box(CUT)
    wait_for(qtbot, lambda: opened.session.is_current)
    assert opened.session.prediction.record["method"] == "prompt"
    wait_for(qtbot, lambda: ("fitting Laplace for bundled, 2 min left", 0.25) in said)
    assert opened.coordinator.is_busy
    fit.go.set()
    opened.settle()
    assert not opened.coordinator.worker.is_busy
    assert find_part("laplace", SHA) is not None
    assert opened.session.prediction.record["method"] == "fitted"
    assert opened.session.prompts.box == CUT
    assert (note(opened), fit_button(opened)) == ("", None)
    assert combo(opened, "Fitted").currentText() == "Fitted method"


def test_another_model_can_be_used_during_a_fit(opened, fit, qtbot):
    pick(opened, "Fitted")
    fit_button(opened).click()
    wait_for(qtbot, lambda: fit.steps > 0)
    opened.coordinator.choices.change(model="sam2.1-tiny", method="entropy")
    opened.session.set_box(WHOLE)
    wait_for(qtbot, lambda: opened.session.is_current)
    assert opened.session.prediction.record["model"] == "sam2.1-tiny"
    loads = list(opened.loads)
    fit.go.set()
    opened.settle()
    assert "Laplace is fitted for bundled" in opened.message
    assert opened.loads == loads == ["bundled", "sam2.1-tiny"]
    assert opened.session.prediction.record["model"] == "sam2.1-tiny"


def test_a_fit_can_be_cancelled_and_begun_again(opened, fit, qtbot):
    pick(opened, "Fitted")
    fit_button(opened).click()
    wait_for(qtbot, lambda: fit.steps > 0)
    opened.view.cancel_requested.emit()
    opened.settle()
    assert "was stopped" in opened.message
    assert fit_button(opened) is not None
    fit.go.set()
    fit_button(opened).click()
    opened.settle()
    assert note(opened) == ""


def test_cancelling_a_prediction_leaves_the_fit_alone(opened, fit, qtbot):
    pick(opened, "Fitted")
    fit_button(opened).click()
    wait_for(qtbot, lambda: fit.steps > 0)
    opened.engine.delay = 0.2
    opened.session.set_box(WHOLE)
    opened.view.cancel_requested.emit()
    wait_for(qtbot, lambda: not opened.coordinator.worker.is_waited_for)
    assert "Cancelled; nothing was lost" in opened.message
    before = fit.steps
    wait_for(qtbot, lambda: fit.steps > before)
    opened.engine.delay = 0
    fit.go.set()
    opened.settle()
    assert find_part("laplace", SHA) is not None


def test_a_fit_that_fails_says_why(opened, fit):
    fit.error = EngineError("There was not enough memory.")
    fit.go.set()
    opened.session.set_box(WHOLE)
    opened.settle()
    pick(opened, "Fitted")
    fit_button(opened).click()
    opened.settle()
    assert opened.message == "There was not enough memory."
    assert fit_button(opened) is not None
    assert opened.session.is_current


def test_closing_the_widget_stops_the_fit(opened, fit, qtbot):
    pick(opened, "Fitted")
    fit_button(opened).click()
    wait_for(qtbot, lambda: fit.steps > 0)
    opened.coordinator.close()
    qtbot.wait(50)
    before = fit.steps
    qtbot.wait(50)
    assert fit.steps == before


def test_the_time_of_a_fit_is_told_once_the_model_has_shown_its_pace(open_widget):
    opened = open_widget(FakeEngine(delay=0.1))
    pick(opened, "Fitted")
    assert fit_button(opened).text() == "Fit Laplace for bundled"
    opened.session.set_box(WHOLE)
    opened.settle()
    (minutes,) = re.fullmatch(r"Fit Laplace for bundled \(about (\d+) min\)", fit_button(opened).text()).groups()
    embedding = opened.session.prediction.seconds["embed"]
    assert embedding > 0.1
    assert int(minutes) == round(LaplaceSettings().images * (embedding + 0.2) / 60)


def test_a_fit_that_writes_elsewhere_is_installed(tmp_path, private_cache):
    def elsewhere(engine: Any, _report: Any, _cancelled: Any) -> Path:
        return write_part(tmp_path / "own.safetensors", "laplace", engine.sha256, {"mean": torch.zeros(3)}, {})

    loaded = Jobs(lambda _name: FakeEngine(), elsewhere).fit("bundled", lambda: False, lambda *_: None)
    assert "laplace" not in loaded.missing
    assert find_part("laplace", SHA) == installed_path("laplace", SHA)


def test_the_real_fit_is_what_the_widget_expects(private_cache, monkeypatch):
    few = partial(LaplaceSettings, images=6, prompts=2, structure="diagonal")
    monkeypatch.setattr("napari_uncertsam.training.laplace.LaplaceSettings", few)
    said: list[tuple[str, float]] = []
    jobs = Jobs(lambda _name: FakeEngine())
    assert "laplace" in jobs.loaded("bundled", lambda *_: None).missing
    loaded = jobs.fit("bundled", lambda: False, lambda text, share: said.append((text, share)))
    assert "laplace" not in loaded.missing
    assert find_part("laplace", SHA) == installed_path("laplace", SHA)
    assert max(share for _, share in said) == 1
    assert any(text.endswith(" s left") for text, _ in said)
    with pytest.raises(Cancelled):
        jobs.fit("bundled", lambda: True, lambda *_: None)
