"""The inspector in a real viewer, and on a viewer without a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from napari.components import ViewerModel

from napari_uncertsam.ui.inspect.plugin import InspectWidget, make_inspector
from tests.ui.inspect.scenes import Inspecting, Scene, scene


@pytest.fixture
def made() -> Scene:
    return scene()


@pytest.fixture
def inspect(make_napari_viewer: Any) -> Iterator[Callable[[Any], Inspecting]]:
    """``inspect()``: the widget docked in a real window that is shown."""
    opened: list[Inspecting] = []

    def factory(viewer: Any = None) -> Inspecting:
        viewer = viewer or make_napari_viewer()
        viewer.window.resize(1400, 900)
        viewer.window.show()
        opened.append(Inspecting(viewer, make_inspector(viewer)))
        return opened[-1]

    yield factory
    for entry in opened:
        entry.coordinator.close()


@pytest.fixture
def inspect_model(qtbot: Any) -> Iterator[Callable[[Any], Inspecting]]:
    """``inspect_model(viewer)``: the widget on a viewer model, without napari's window."""
    opened: list[Inspecting] = []

    def factory(viewer: Any = None) -> Inspecting:
        viewer = ViewerModel() if viewer is None else viewer
        widget = InspectWidget(viewer)
        qtbot.addWidget(widget)
        opened.append(Inspecting(viewer, widget))
        return opened[-1]

    yield factory
    for entry in opened:
        entry.coordinator.close()


@pytest.fixture
def volume_viewer(made: Scene) -> ViewerModel:
    """A viewer with image, prediction, truth and probability of a volume."""
    return fill(ViewerModel(), made)


def fill(viewer: Any, made: Scene, **layer: Any) -> Any:
    viewer.add_image(made.image, name="scan", **layer)
    viewer.add_labels(made.truth, name="ground truth of scan", **layer)
    viewer.add_labels(made.prediction, name="prediction", **layer)
    viewer.add_image(made.probability, name="probability", **layer)
    return viewer
