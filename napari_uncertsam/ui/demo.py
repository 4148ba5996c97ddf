"""The demo: the plugin's own widget on the sample CT, with a box already drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uncertsam.errors import EngineError
from napari_uncertsam.prompts import Box
from napari_uncertsam.ui.geometry import world_position
from napari_uncertsam.ui.plugin import RefineWidget, make_widget
from napari_uncertsam.ui.samples import abdomen_ct

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_uncertsam.session import Session
    from napari_uncertsam.ui.jobs import Jobs

#: A box as somebody would draw it around the right kidney of the sample CT.
SLICE, BOX = 29, Box(144, 62, 176, 98)
#: Pixels of the slice around the box that are shown with it, relative to its longer side.
_MARGIN = 2.0
_TITLE, _WINDOW = "napari-uncertsam demo", (1500, 950)
#: The first prediction of a slow machine that still compiles its caches; the demo ends with a sentence after that.
_SECONDS = 300.0


@dataclass(frozen=True)
class Saved:
    """What the demo left behind: files, and a sentence about the prediction."""

    paths: tuple[Path, ...]
    sentence: str


def prepare(viewer: ViewerModel, jobs: Jobs | None = None, seconds: float = _SECONDS) -> RefineWidget:
    """Put the sample CT, the widget, a box and its prediction into a viewer.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    jobs : Jobs, optional
        What runs on the widget's worker thread.
    seconds : float
        How long to wait for the prediction; the window stays alive.

    Raises
    ------
    EngineError
        If there is no prediction then; the sentence is the widget's own.
    """
    from napari.layers import Layer

    (layer_data,) = abdomen_ct()
    image = Layer.create(*layer_data)
    viewer.add_layer(image)
    widget = make_widget(viewer, jobs, autosave=False)  # nobody wants to go on with the demo
    session = _wait(widget, lambda session: True, seconds)
    axis, position = world_position(viewer.dims, image, 0, SLICE)
    viewer.dims.set_point(axis, position)
    session.set_box(BOX)
    _wait(widget, lambda session: session.is_current, seconds)
    _look_at_box(viewer, image)
    return widget


def show() -> None:
    """Open napari with the demo, and return when its window is closed."""
    import napari

    viewer = napari.Viewer(title=_TITLE)
    viewer.window.resize(*_WINDOW)
    prepare(viewer)
    napari.run()


def save(out: Path, viewer: Viewer | None = None, jobs: Jobs | None = None) -> Saved:
    """Open the demo, and save a picture of its window and the results into a folder.

    An earlier demo in that folder is replaced.

    Parameters
    ----------
    out : Path
        Made when missing.
    viewer : napari.Viewer, optional
        By default one is opened, and closed in the end.
    jobs : Jobs, optional

    Returns
    -------
    Saved
        ``screenshot.png`` and what :meth:`napari_uncertsam.session.Session.save` writes.

    Raises
    ------
    EngineError
        If the model could not predict.
    InputError
        If a file cannot be written.
    """
    if viewer is not None:
        return _save(out, viewer, jobs)
    import napari

    viewer = napari.Viewer(title=_TITLE)
    try:
        return _save(out, viewer, jobs)
    finally:
        viewer.close()


def _save(out: Path, viewer: Viewer, jobs: Jobs | None) -> Saved:
    from PIL import Image

    from napari_uncertsam.io import atomic

    viewer.window.resize(*_WINDOW)
    widget = prepare(viewer, jobs)
    _settle()
    picture = viewer.screenshot(canvas_only=False, flash=False)
    session = widget.coordinator.session
    if session is None or session.prediction is None:
        raise EngineError("The sample image was closed before it was saved; run the demo again.")
    prediction = session.prediction
    paths = session.save(out, overwrite=True)
    with atomic(out / "screenshot.png", overwrite=True) as temporary:
        Image.fromarray(picture).save(temporary)
    low, high = prediction.area_interval
    sentence = (
        f"{prediction.area_px:.0f} px (90% interval {low:.0f} to {high:.0f}), mean uncertainty "
        f"{prediction.mean_uncertainty:.3f} nats, {len(prediction.suggestions)} suggestions, "
        f"{prediction.seconds['total']:.1f} s on {prediction.record['device']}."
    )
    return Saved((out / "screenshot.png", *paths), sentence)


def _wait(widget: RefineWidget, ready: Callable[[Session], bool], seconds: float) -> Session:
    """Let the worker finish, and make sure that it brought what was waited for."""
    coordinator = widget.coordinator
    finished = coordinator.wait(seconds)
    session = coordinator.session
    if session is not None and ready(session):
        return session
    if not finished:
        raise EngineError(f"The prediction took longer than {seconds:.0f} seconds; try again on an idle machine.")
    raise EngineError(widget.view.message() or "The model gave no prediction for the sample image.")


def _settle() -> None:
    """Let Qt lay the widget out again, now that it has more to show; each pass can ask for another."""
    from qtpy.QtWidgets import QApplication

    for _ in range(10):
        QApplication.sendPostedEvents()
        QApplication.processEvents()


def _look_at_box(viewer: ViewerModel, image: Layer) -> None:
    """Centre the camera on the box and its surroundings."""
    scale = image.scale[-2:]
    shown = max(n * s for n, s in zip(image.data.shape[-2:], scale, strict=True))
    wanted = max(n * s for n, s in zip((BOX.height, BOX.width), scale, strict=True)) * (1 + _MARGIN)
    viewer.reset_view()  # fits the whole slice into the canvas, whatever its size
    viewer.scene.camera.zoom *= shown / wanted
    viewer.scene.camera.center = (0.0, *(c * s for c, s in zip(BOX.centre, scale, strict=True)))
