"""From chosen layers to what is compared, as a value: arrays, spacing, plane. Reads the layers, never changes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.inspection import Inputs, Stack
from napari_uncertsam.ui.geometry import (
    displayed_slice,
    full_resolution,
    grid_offset,
    has_spacing,
    is_described,
    spacing_of,
    spatial_shape,
    volume_of,
)
from napari_uncertsam.ui.inspect.choices import Slot
from napari_uncertsam.volume import Volume

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Labels, Layer

_TITLES = ("name", "label", "class", "title")


def inputs_of(chosen: Mapping[Slot, Layer | None], dims: Dims) -> Inputs:
    """What the layers hold now.

    Parameters
    ----------
    chosen : mapping of slot to layer
    dims : Dims
        Volumes are compared along the plane that is displayed.

    Raises
    ------
    InputError
        If one is missing, they do not lie over each other, or one is of a kind that cannot be compared.
    """
    prediction, truth = chosen["prediction"], chosen["truth"]
    if prediction is None or truth is None:
        missing = "a prediction" if prediction is None else "the ground truth"
        raise InputError(f"Choose {missing} to compare: a labels layer, or an image of probabilities or values.")
    if prediction is truth:
        raise InputError(f"'{truth.name}' is both prediction and ground truth; choose two layers.")
    image, maps = chosen["image"], {slot: chosen[slot] for slot in ("probability", "uncertainty")}
    stacks = {slot: _stack(layer, truth) for slot, layer in maps.items() if layer is not None}
    spacing, known = spacing_of(truth), has_spacing(truth)
    if image is not None:
        _require_over(image, truth)
        if is_described(image):
            volume = volume_of(image)
            spacing, known = volume.spacing, known or volume.affine is not None
    shown = displayed_slice(dims, truth)
    return Inputs(
        prediction=_stack(prediction, truth),
        truth=_stack(truth, truth),
        probability=stacks.get("probability"),
        uncertainty=stacks.get("uncertainty"),
        spacing=spacing,
        millimetres=known,
        plane=0 if shown is None else shown[0],
        name=(image or truth).name,
        titles=_titles(truth),
    )


def _stack(layer: Any, truth: Any) -> Stack:
    """A layer on the grid of the truth, or on one slice of it."""
    if getattr(layer, "rgb", False):
        raise InputError(f"'{layer.name}' is a colour image; choose a mask or a map of single values.")
    volume = Volume(full_resolution(layer), name=layer.name)
    shape, expected = spatial_shape(layer), spatial_shape(truth)
    if shape == expected:
        _require_over(layer, truth)
        return Stack(volume)
    offset = grid_offset(layer, truth)
    if offset is not None and len(shape) == 3:
        thin = [axis for axis in range(3) if shape[axis] != expected[axis]]
        if len(thin) == 1 and shape[thin[0]] == 1 and not any(n for axis, n in enumerate(offset) if axis != thin[0]):
            return Stack(volume, (thin[0], offset[thin[0]]))
    raise _other_shape(layer, truth)


def _require_over(layer: Any, truth: Any) -> None:
    if spatial_shape(layer) != spatial_shape(truth):
        raise _other_shape(layer, truth)
    offset = grid_offset(layer, truth)
    if offset is None or any(offset):
        raise InputError(
            f"'{layer.name}' does not lie over '{truth.name}': scale, position or rotation differ; give both the same "
            "transform, or resample one of them."
        )


def _other_shape(layer: Any, truth: Any) -> InputError:
    return InputError(
        f"'{layer.name}' has shape {spatial_shape(layer)}, but '{truth.name}' {spatial_shape(truth)}; choose layers of "
        "one shape."
    )


def _titles(truth: Image | Labels) -> dict[int, str]:
    """What the values of a truth are called, where its features say so."""
    features: Any = getattr(truth, "features", {})
    column = next((c for c in _TITLES if c in features), None)
    if column is None or "index" not in features:
        return {}
    pairs = zip(features["index"], features[column], strict=True)
    return {int(value): str(title) for value, title in pairs if str(value).lstrip("-").isdigit()}
