"""How the inspector's layers look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_uncertsam.ui.styles import MAX_ENTROPY, TRANSPARENT, fading_colormap

if TYPE_CHECKING:
    from napari.layers import Layer

#: Of pixels that are falsely inside and falsely outside: told apart by the colour-blind, from the heatmaps too.
FALSE_INSIDE, FALSE_OUTSIDE = "#ff2fa0", "#29b6f6"
TRUTH_COLOUR, PREDICTION_COLOUR = "#3ddc97", "#ffd166"
#: Of large errors in their heatmap, which is "inferno".
ERROR_COLOUR = "#f98e09"


#: Layers that are drawn as outlines.
OUTLINES = ("ground truth", "prediction", "wrong")


def make_layer(role: str, data: NDArray[Any]) -> Layer:
    """A new layer of a role.

    Parameters
    ----------
    role : str
        See :data:`napari_uncertsam.ui.inspect.layers.ROLES`.
    data : array
        Of a slice, or of a slab one slice thick.
    """
    from napari.layers import Image, Labels

    if role == "image":
        return Image(data, name=role, rgb=data.ndim == 3, colormap=None if data.ndim == 3 else "gray")
    if role in ("error", "uncertainty"):
        limits = (0, 1) if role == "error" else (0, MAX_ENTROPY)
        colours = fading_colormap(role, "inferno" if role == "error" else "viridis", 0.35)
        return Image(
            data,
            name=role,
            colormap=colours,
            contrast_limits=limits,
            blending="translucent",
            interpolation2d="nearest",
            opacity=0.85,
            visible=role == "error",
        )
    if role == "wrong":
        return Labels(data, name=role, opacity=1.0, colormap=_colours(FALSE_INSIDE, FALSE_OUTSIDE), features=_FEATURES)
    return Labels(
        data, name=role, opacity=1.0, colormap=_colours(TRUTH_COLOUR if role != "prediction" else PREDICTION_COLOUR)
    )


_FEATURES = {"index": [0, 1, 2], "name": ["right", "falsely inside", "falsely outside"]}


def _colours(*colours: str) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, str] = {None: TRANSPARENT, 0: TRANSPARENT}
    return DirectLabelColormap(color_dict=table | dict(enumerate(colours, 1)))
