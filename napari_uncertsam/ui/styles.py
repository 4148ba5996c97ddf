"""How the layers look: names, colours, and a new layer of each role."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
from napari_uncertsam.ui.geometry import spatial_shape, transform_of

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.utils.colormaps import Colormap

#: The layers the widget owns, bottom first; a role is the layer's name when it is made.
Role = Literal[
    "uncertainty", "probability", "mask", "changed", "suggested boxes", "suggested points", "boxes", "points"
]
ROLES: tuple[Role, ...] = get_args(Role)

POSITIVE_COLOUR, NEGATIVE_COLOUR = "#2ecc71", "#ff4d4d"
BOX_COLOUR = "#4cc9f0"
#: Of suggestions: told apart from every colour of the heatmap that they lie on.
SUGGESTION_COLOUR, CHOSEN_COLOUR = "#ffffff", "#ff2fa0"
#: Values in `changed`: pixels that an answer brought to the mask, or took from it.
CAME, LEFT = 1, 2
#: Their colours, which nothing else has, and how these are called.
CHANGE_COLOURS = {CAME: ("#1f5bff", "blue"), LEFT: ("#e000ff", "magenta")}
TRANSPARENT = "#00000000"
#: Of objects, told apart from each other, from grey images and from the colours of prompts and uncertainty.
OBJECT_COLOURS = ("#3ddc97", "#4895ef", "#f15bb5", "#b5e48c", "#9b5de5", "#00bbf9", "#ff99c8", "#90f1ef")
MAX_ENTROPY = math.log(2)
#: Measures that stay far below their largest possible value: colours go up to a percentile of the map, at least to the
#: value given.
FITTED_LIMITS = {"mutual-information": 0.05, "std": 0.1}
_PERCENTILE, _SAMPLED = 99.5, 256


def contour_width(image: Image) -> int:
    """Pixels of a mask's outline: it shows where the mask ends and leaves image and uncertainty visible.

    At most two: napari erodes the whole slice once for each pixel, which at 4096 pixels takes it seconds for sixteen.
    """
    return min(max(1, min(spatial_shape(image)[-2:]) // 256), 2)


def heat_limits(measure: str, values: NDArray[np.float32]) -> tuple[float, float]:
    """Contrast limits of an uncertainty map: 0 and the largest value that the measure can have, or does have here.

    Parameters
    ----------
    measure : str
        Of `napari_uncertsam.estimators.measures.UNCERTAINTY_MEASURES`.
    values : (h, w) float32
        The map where there is one; of a big one a sample is enough.

    Examples
    --------
    >>> heat_limits("std", np.zeros((4, 4), np.float32)), heat_limits("mutual-information", np.full((4, 4), 0.25))
    ((0.0, 0.1), (0.0, 0.25))
    """
    largest = UNCERTAINTY_MEASURES[measure].largest
    if measure not in FITTED_LIMITS or not values.size:
        return 0.0, float(largest)
    step = max(1, min(values.shape) // _SAMPLED)
    reached = float(np.percentile(values[::step, ::step], _PERCENTILE))
    return 0.0, min(max(reached, FITTED_LIMITS[measure]), float(largest))


def fading_colormap(name: str, base: str, opaque_from: float) -> Colormap:
    """A perceptually uniform colour map that fades out towards 0, so that the image stays visible.

    Parameters
    ----------
    name : str
        Of the new map.
    base : str
        One of napari's.
    opaque_from : float
        Share of the range from which on colours are opaque.
    """
    from napari.utils.colormaps import AVAILABLE_COLORMAPS, Colormap

    steps = np.linspace(0, 1, 256)
    colours = np.asarray(AVAILABLE_COLORMAPS[base].map(steps), np.float32)
    colours[:, 3] = np.clip(steps / opaque_from, 0, 1)
    return Colormap(colours, name=name, display_name=name)


def make_layer(role: Role, image: Image, slab: NDArray[np.float32], mask: NDArray[Any] | None = None) -> Layer:
    """A new layer of a role over an image.

    Parameters
    ----------
    role : Role
    image : Image
    slab : (H, W), or the same with an axis of length 1 for the plane of a volume
        First content of the two maps.
    mask : array of the image's spatial shape, integers, optional
        First content of `mask`; owned by the layer from then on.
    """
    common = {"name": role, **transform_of(image)}
    side = min(n for n in spatial_shape(image)[-2:])
    if role == "uncertainty":
        colours = fading_colormap("uncertainty", "inferno", 0.5)
        return _map(slab, common, colormap=colours, contrast_limits=(0, MAX_ENTROPY), opacity=0.5)
    if role == "probability":
        colours = fading_colormap("probability", "viridis", 0.25)
        return _map(slab, common, colormap=colours, contrast_limits=(0, 1), opacity=0.6, visible=False)
    if role == "mask":
        return _labels(mask if mask is not None else np.zeros(spatial_shape(image), np.uint16), common)
    if role == "changed":
        return _changes(image.ndim, common)
    if role in ("boxes", "suggested boxes"):
        return _boxes(image.ndim, side, common, BOX_COLOUR if role == "boxes" else SUGGESTION_COLOUR)
    return _points(image.ndim, side, common, suggested=role == "suggested points")


def _map(slab: NDArray[np.float32], common: dict[str, Any], **style: Any) -> Layer:
    from napari.layers import Image

    return Image(slab, blending="translucent", interpolation2d="linear", **style, **common)


def _labels(data: NDArray[Any], common: dict[str, Any]) -> Layer:
    from napari.layers import Labels

    return Labels(data, opacity=0.9, colormap=_object_colormap(), **common)


def _changes(ndim: int, common: dict[str, Any]) -> Layer:
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    colours: dict[int | None, str] = {None: TRANSPARENT, 0: TRANSPARENT}
    colours |= {value: colour for value, (colour, _) in CHANGE_COLOURS.items()}
    colormap = DirectLabelColormap(color_dict=colours)
    layer = Labels(np.zeros((1,) * ndim, np.uint8), opacity=1.0, colormap=colormap, **common)
    layer.editable = False
    return layer


def _object_colormap() -> Any:
    from napari.utils.colormaps import CyclicLabelColormap

    # The first colour is the background's; the rest repeat.
    return CyclicLabelColormap(colors=[TRANSPARENT, *OBJECT_COLOURS], background_value=0)


def _boxes(ndim: int, side: int, common: dict[str, Any], colour: str) -> Layer:
    from napari.layers import Shapes

    return Shapes(
        ndim=ndim,
        edge_color=colour,
        face_color=TRANSPARENT,
        edge_width=max(side / 250, 0.3),
        features={"rank": np.zeros(0, dtype=str)},
        feature_defaults={"rank": ""},
        text={"string": "{rank}", "color": colour, "size": 11, "anchor": "upper_left"},
        **common,
    )


def _points(ndim: int, side: int, common: dict[str, Any], *, suggested: bool) -> Layer:
    from napari.layers import Points

    style: dict[str, Any]
    if suggested:
        style = {
            "face_color": TRANSPARENT,
            "border_color": SUGGESTION_COLOUR,
            "border_width": 0.1,
            "features": {"rank": np.zeros(0, dtype=str)},
            # Beside the ring at any zoom: napari shifts texts by pixels of the image, spaces are pixels of the screen.
            "text": {"string": "       {rank}", "color": SUGGESTION_COLOUR, "size": 13, "anchor": "center"},
        }
    else:
        style = {
            "face_color": POSITIVE_COLOUR,
            "border_color": "white",
            "border_width": 0.12,
            "features": {"positive": np.zeros(0, dtype=bool)},
            "feature_defaults": {"positive": True},
        }
    layer = Points(ndim=ndim, size=max(side / (36 if suggested else 45), 1.5), **style, **common)
    # On screen a point is never too small to hit, nor does it cover what it marks. A border is at least half as wide as
    # the smallest point, which would fill the ring of a suggestion.
    layer.canvas_size_limits = (6, 22) if suggested else (9, 22)
    return layer
