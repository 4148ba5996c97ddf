"""What is being segmented: an image layer, its session, and the layers over it; coming, going and coming back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_uncertsam.intensity import Extent
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

AS_DISPLAYED, AUTOMATIC, COLOUR, CUSTOM = "as displayed", "automatic", "colour", "custom"
#: A CT shown over a wider range than this, in HU, shows nothing.
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
        return [*(WINDOWS if self.session.volume.modality == "CT" else [AUTOMATIC]), CUSTOM, AS_DISPLAYED]

    @property
    def window_name(self) -> str:
        """The window that is chosen."""
        window, names = self.session.window, self.windows
        if COLOUR in names:
            return COLOUR
        if window.name in names:
            return window.name
        return AUTOMATIC if AUTOMATIC in names and window == self.automatic else CUSTOM

    @property
    def own_window(self) -> tuple[float, float] | None:
        """Level and width of the window of the user's own, None where another is chosen."""
        window = self.session.window
        if self.window_name != CUSTOM:
            return None
        return (window.low + window.high) / 2, window.high - window.low

    def window(self, name: str) -> Window:
        """A window by its name."""
        if name == AS_DISPLAYED:
            return Window(*self._limits, AS_DISPLAYED)
        if name == CUSTOM:  # begins with what is seen now
            return replace(self.session.window, name=CUSTOM)
        return WINDOWS.get(name, self.automatic)

    @property
    def _limits(self) -> tuple[float, float]:
        low, high = (float(v) for v in self.image.contrast_limits)
        return low, high

    @property
    def shows_window(self) -> bool:
        """Whether the layer shows what the model sees, as far as it can: colours and empty windows are not limits."""
        window = self.session.window
        return self.session.volume.rgb or window.low == window.high or self._limits == (window.low, window.high)

    def show_window(self) -> None:
        """Show the image as the model sees it."""
        if not self.shows_window:
            self.image.contrast_limits = (self.session.window.low, self.session.window.high)

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

    def new(self, image: Image, volume: Volume, window: Window, extent: Extent, settings: Settings) -> Target:
        """The target of an image that was just opened; the model sees what the layer shows, or the layer follows.

        Limits of the layer that somebody chose are the window. Those that show everything are napari's own, and give
        way to `window`.
        """
        seen = window if volume.rgb else _seen(image, volume, window, extent)
        target = self._make(image, Session(volume, settings, seen), window, None)
        target.show_window()
        if not volume.rgb and volume.dtype.itemsize > 1:
            # The slider is to reach all values of the data, and not all that its type could hold.
            low, high = image.contrast_limits
            image.contrast_limits_range = (min(low, extent.low), max(high, extent.high))
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


def _seen(image: Image, volume: Volume, window: Window, extent: Extent) -> Window:
    """The window that a layer shows, by its name if it has one; `window` where its limits are not a choice."""
    low, high = (float(v) for v in image.contrast_limits)
    is_ct = volume.modality == "CT"
    named: tuple[Window, ...] = (window, *WINDOWS.values()) if is_ct else (window,)
    for known in named:
        if math.isclose(low, known.low, abs_tol=1e-6) and math.isclose(high, known.high, abs_tol=1e-6):
            return known
    if extent.explains(low, high) or (is_ct and high - low > _WIDE_HU):
        return window
    return Window(low, high, AS_DISPLAYED)
