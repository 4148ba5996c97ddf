"""Which image is being segmented: the list of image layers, opening one, leaving it, coming back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.intensity import Extent
from napari_uncertsam.prediction import Settings
from napari_uncertsam.ui.geometry import is_described, volume_of
from napari_uncertsam.ui.jobs import Jobs
from napari_uncertsam.ui.marks import is_ours
from napari_uncertsam.ui.presenter import Presenter
from napari_uncertsam.ui.target import Target, Targets
from napari_uncertsam.ui.worker import Worker
from napari_uncertsam.volume import Volume, Window

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

NO_IMAGE = "Open an image to begin: File > Open, or File > Open Sample."


class ImageChooser:
    """Follows the viewer's image layers and keeps one of them open.

    Parameters
    ----------
    viewer : ViewerModel
    targets : Targets
    worker : Worker
        Looks at the intensities of a new image.
    jobs : Jobs
    presenter : Presenter
    settings : callable
        Returns the settings that a new session begins with.
    """

    entered = Signal(object)  # Target: its layers are not made yet
    leaving = Signal(object)  # Target: its layers are still there
    listed = Signal(object, object)  # names of the images, and the row that is open or None

    def __init__(
        self,
        viewer: ViewerModel,
        targets: Targets,
        worker: Worker,
        jobs: Jobs,
        presenter: Presenter,
        settings: Callable[[], Settings],
    ) -> None:
        self._viewer, self._targets, self._worker, self._jobs = viewer, targets, worker, jobs
        self._presenter, self._settings = presenter, settings
        self._opening: Image | None = None
        self.target: Target | None = None
        self.images: list[Image] = []
        for emitter in self._events():
            emitter.connect(self.refresh)

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def close(self) -> None:
        """Leave the image and stop listening."""
        for emitter in self._events():
            emitter.disconnect(self.refresh)
        self.leave()

    def refresh(self, _event: Any = None) -> None:
        """List the images anew; open one if none is, and leave one that was removed."""
        from napari.layers import Image

        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        self.images = [layer for layer in layers if not is_ours(layer)]
        current = self.target.image if self.target else self._opening
        if current is not None and current not in self.images:
            self.leave()
            current = None
        self._list(current)
        if current is None and self.images:
            active = self._viewer.layers.selection.active
            self.open(active if active in self.images else self.images[-1])
        elif current is None:
            self._presenter.say(NO_IMAGE)

    def _list(self, current: Image | None) -> None:
        row = self.images.index(current) if current is not None and current in self.images else None
        self.listed.emit([image.name for image in self.images], row)

    def open_row(self, row: int) -> None:
        """Open an image by its place in the list."""
        self.open(self.images[row])

    def open(self, image: Image) -> None:
        """Segment an image layer from now on; what was done on the one before is kept."""
        if self.target is not None and self.target.image is image:
            return
        self.leave()
        self._opening = image
        self._list(image)
        target = self._targets.returning(image, self._settings())
        if target is not None:
            self._enter(target)
            return
        try:
            volume, described = volume_of(image), is_described(image)
        except UncertSamError as error:
            self._presenter.complain(str(error))
            return
        self._presenter.say(f"Reading {image.name} …")
        self._worker.submit(
            f"Reading {image.name}",
            lambda _cancelled, _progress: self._jobs.open(volume, described=described),
            partial(self._opened, image),
            self._presenter.complain,
        )

    def _opened(self, image: Image, result: tuple[Volume, Window, Extent]) -> None:
        if image in self._viewer.layers:
            self._enter(self._targets.new(image, *result, self._settings()))

    def _enter(self, target: Target) -> None:
        self._opening, self.target = None, target
        target.image.events.data.connect(self._on_data)
        target.layers.created.connect(self.refresh)  # the layer was listed when it was inserted, before it was marked
        self.entered.emit(target)

    def leave(self) -> None:
        """Stop segmenting; a mask stays as an ordinary layer."""
        self._opening = None
        target, self.target = self.target, None
        if target is not None:
            self.leaving.emit(target)
            target.image.events.data.disconnect(self._on_data)
            target.layers.created.disconnect(self.refresh)
            self._targets.leave(target)

    def _on_data(self, _event: Any = None) -> None:
        """Other pixels are another image; what was segmented stays as a layer."""
        if self.target is not None:
            image = self.target.image
            self.leave()
            self.open(image)
