"""A real viewer with the widget in it, and an engine that answers in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_uncertsam.checkpoints import CACHE_VARIABLE
from napari_uncertsam.suggestions import hypotheses
from napari_uncertsam.ui.coordinator import Coordinator
from napari_uncertsam.ui.jobs import Jobs
from napari_uncertsam.ui.plugin import RefineWidget, make_widget
from tests.fakes import SCORE, FakeEngine


@pytest.fixture(autouse=True)
def _score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes are weighed as suits the engine without a model; the score that ships is fitted for the bundled one."""
    monkeypatch.setattr(hypotheses, "WEIGHTS", SCORE)


class Opened:
    """The widget in a viewer, with what tests ask of it."""

    def __init__(self, viewer: Any, engine: FakeEngine, loads: list[str], jobs: Callable[..., Jobs] = Jobs) -> None:
        self.viewer, self.engine, self.loads = viewer, engine, loads

        def load(name: str) -> FakeEngine:
            loads.append(name)
            engine.name = name
            return engine

        self.widget: RefineWidget = make_widget(viewer, jobs(load))
        self.coordinator: Coordinator = self.widget.coordinator
        self.view = self.widget.view
        self.settle()

    def settle(self) -> None:
        assert self.coordinator.wait(20)

    @property
    def session(self) -> Any:
        assert self.coordinator.session is not None
        return self.coordinator.session

    @property
    def message(self) -> str:
        return self.view.message()


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def open_widget(make_napari_viewer: Any, private_cache: Path) -> Iterator[Callable[..., Opened]]:
    """``open_widget(image, **layer)``: a viewer with an image layer and the widget on it, at work by `jobs(load)`."""
    opened: list[Opened] = []

    def factory(
        image: Any = None,
        engine: FakeEngine | None = None,
        viewer: Any = None,
        jobs: Callable[..., Jobs] = Jobs,
        **layer: Any,
    ) -> Opened:
        viewer = viewer or make_napari_viewer()
        if image is not None:
            viewer.add_image(image, **layer)
        opened.append(Opened(viewer, engine or FakeEngine(), [], jobs))
        return opened[-1]

    yield factory
    for entry in opened:
        entry.coordinator.close()
