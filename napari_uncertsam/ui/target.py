"""What is being segmented: an image layer, its session, and the layers over it; coming, going and coming back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_uncertsam.prediction import Settings
from napari_uncertsam.session import Session
from napari_uncertsam.ui.geometry import full_resolution, has_spacing
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.marks import mark, unmark
from napari_uncertsam.ui.sync import LayerSync
from napari_uncertsam.volume import WINDOWS, Volume, Window

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

AS_DISPLAYED, AUTOMATIC, COLOUR = "as displayed", "automatic", "colour"
#: A CT shown over a wider range than this, in HU, shows nothing: it is put into the window that the model sees.
_WIDE_HU = 2000.0


@dataclass
class Target:
    """An image with its session and layers while it is being segmented."""

    image: Image
    session: Session
    layers: LayerSet
    sync: LayerSync
    automatic: Window

    @property
    def windows(self) -> list[str]:
        """Names of the windows to choose from."""
        if self.session.volume.rgb:
            return [COLOUR]
        return [*(WINDOWS if self.session.volume.modality == "CT" else [AUTOMATIC]), AS_DISPLAYED]

    @property
    def window_name(self) -> str:
        """The window that is chosen."""
        name = self.session.window.name
        return COLOUR if self.session.volume.rgb else name if name in self.windows else AUTOMATIC

    def window(self, name: str) -> Window:
        """A window by its name."""
        if name == AS_DISPLAYED:
            low, high = (float(v) for v in self.image.contrast_limits)
            return Window(low, high, AS_DISPLAYED)
        return WINDOWS.get(name, self.automatic)

    def show_window(self) -> None:
        """Show the image as the model sees it."""
        window = self.session.window
        if not self.session.volume.rgb and window.name != AS_DISPLAYED and window.low < window.high:
            self.image.contrast_limits = (window.low, window.high)

    @property
    def pixel_mm(self) -> tuple[float, float] | None:
        """Millimetres per pixel of the slice, None where they are not known."""
        volume = self.session.volume
        known = volume.affine is not None or has_spacing(self.image)
        return volume.plane_spacing(self.session.plane) if known else None


class Targets:
    """Makes targets, and remembers the sessions of images that were left, so that coming back loses nothing.

    Parameters
    ----------
    viewer : ViewerModel
    say, defer : callable
        See :class:`LayerSync`.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        say: Callable[[str], None],
        defer: Callable[[Callable[[], None]], None],
    ) -> None:
        self._viewer, self._say, self._defer = viewer, say, defer
        self._left: WeakKeyDictionary[Layer, tuple[Any, Session, Window, Layer | None]] = WeakKeyDictionary()

    def returning(self, image: Image, settings: Settings) -> Target | None:
        """The target of an image that was left, None when it is new or shows another array since."""
        array, session, automatic, mask = self._left.pop(image, (None, None, None, None))
        if session is None or automatic is None or array is not full_resolution(image):
            return None
        chosen = {name: getattr(settings, name) for name in ("model", "method", "measure", "zoom")}
        session.set_settings(**chosen)
        return self._make(image, session, automatic, mask)

    def new(self, image: Image, volume: Volume, window: Window, settings: Settings) -> Target:
        """The target of an image that was just opened."""
        target = self._make(image, Session(volume, settings, window), window, None)
        if volume.modality == "CT":
            low, high = image.contrast_limits
            if high - low > _WIDE_HU:
                target.show_window()
        return target

    def _make(self, image: Image, session: Session, automatic: Window, mask: Layer | None) -> Target:
        layers = LayerSet(self._viewer, image, lambda: session.labels)
        layers.created.connect(mark)
        sync = LayerSync(session, layers, self._say, self._defer)
        if mask is not None and mask in self._viewer.layers and mask.data.shape == session.labels.shape:
            layers.adopt("mask", mask)
        return Target(image, session, layers, sync, automatic)

    def leave(self, target: Target) -> None:
        """Stop segmenting an image: its mask stays as a layer of the user's, its session is kept."""
        mask = target.layers.existing("mask")
        target.sync.close()
        target.layers.close(keep_mask_as=f"mask [{target.image.name}]")
        kept = mask if mask is not None and mask in self._viewer.layers else None
        if kept is not None:
            unmark(kept)
        self._left[target.image] = (target.session.volume.array, target.session, target.automatic, kept)
