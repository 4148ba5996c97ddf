"""A case as small pictures side by side, each a PNG inside the page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.prediction import Maps
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.uncertainty import LN2
from napari_uncertsam.view import View

Colours = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Longer side of a picture in pixels.
SIDE = 220
#: The true outline and what is missed of it; the predicted outline and what is too much (Okabe and Ito's sky blue and
#: orange, which everybody tells apart).
TRUTH, PREDICTION = (86, 180, 233), (230, 159, 0)
_CASING, _PROMPT = (0, 0, 0), (255, 255, 255)
#: Margin around truth and mask, as a factor of the size of their common box.
_MARGIN = 1.5
#: The view is shown whole unless it is this much longer than the box around truth and mask.
_FAR = 3.0


class Panels(NamedTuple):
    """Pictures of a case as data addresses, all of the same size in pixels."""

    image: str
    truth: str
    prediction: str
    uncertainty: str
    error: str


def draw_panels(case: Case, maps: Maps, view: View, prompts: Sequence[Prompts] = (), *, largest: float = LN2) -> Panels:
    """The case around its object.

    Parameters
    ----------
    case : Case
    maps : Maps
        Prediction on the slice of the case.
    view : View
        What the model saw.
    prompts : sequence of Prompts
        Drawn on the image.
    largest : float
        Where the colours of the uncertainty end.
    """
    rows, columns = crop_around(case.truth, maps.mask, view)
    truth, mask = case.truth[rows, columns], maps.mask[rows, columns]
    picture = case.seen_through.apply(case.volume.slice(case.plane, case.slice_index)[rows, columns])
    size = picture_size(truth.shape, case.spacing)
    image = resized(picture, size)
    heat = uncertainty_colours(_resized_map(maps.uncertainty[rows, columns], size), largest)
    true, predicted = _resized_mask(truth, size), _resized_mask(mask, size)
    return Panels(
        image=data_uri(_with_prompts(image, prompts, rows, columns)),
        truth=data_uri(outlined(image, true >= 0.5, TRUTH)),
        prediction=data_uri(outlined(image, predicted >= 0.5, PREDICTION)),
        uncertainty=data_uri(heat),
        error=data_uri(error_colours(image, _resized_mask(truth & ~mask, size), _resized_mask(mask & ~truth, size))),
    )


def crop_around(truth: Mask, mask: Mask, view: View) -> tuple[slice, slice]:
    """Rows and columns to show: truth and mask with a margin, and the view unless it is far larger; near a square.

    Parameters
    ----------
    truth, mask : (H, W) bool
        The truth is not empty.
    view : View
    """
    height, width = truth.shape
    objects = Box.of_mask(truth | mask)
    shown = objects.expand(_MARGIN)
    longest = max(objects.height, objects.width)
    if max(view.height, view.width) <= _FAR * longest:
        shown = shown.union(view.box)
    side = max(shown.height, shown.width)
    spans = []
    for centre, length in zip(shown.centre, (height, width), strict=True):
        low, high = math.floor(centre - (side - 1) / 2), math.ceil(centre + (side - 1) / 2) + 1
        # Into the image, where it fits.
        shift = min(max(-low, 0), max(length - high, -low))
        spans.append(slice(max(low + shift, 0), min(high + shift, length)))
    return spans[0], spans[1]


def picture_size(shape: tuple[int, ...], spacing: tuple[float, float], longest: int = SIDE) -> tuple[int, int]:
    """Height and width of a picture of an area, in true proportions.

    Examples
    --------
    >>> picture_size((10, 20), (1, 1), 200), picture_size((10, 20), (4, 1), 200)
    ((100, 200), (200, 100))
    """
    height, width = shape[0] * spacing[0], shape[1] * spacing[1]
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def uncertainty_colours(uncertainty: NDArray[np.floating], largest: float = LN2) -> Colours:
    """Colours (..., 3) of an uncertainty from 0 to the largest, as the widget's heatmap has them."""
    from matplotlib import colormaps

    colours = np.asarray(colormaps["inferno"].colors, np.float64)  # type: ignore[attr-defined]
    steps = np.clip(np.floor(np.asarray(uncertainty) / largest * len(colours)), 0, len(colours) - 1).astype(int)
    picked: Colours = np.rint(255 * colours[steps]).astype(np.uint8)
    return picked


def colour_bar() -> str:
    """The colours from 0 to the largest uncertainty, from left to right, as a data address."""
    return data_uri(uncertainty_colours((np.arange(256) + 0.5) / 256 * LN2)[None])


def error_colours(image: Colours, missed: NDArray[np.floating], added: NDArray[np.floating]) -> Colours:
    """The image, dark and grey, under what the mask misses and what it has too much, both (H, W) in [0, 1]."""
    out = np.repeat(0.45 * image.mean(axis=2, keepdims=True), 3, axis=2)
    for share, colour in ((missed, TRUTH), (added, PREDICTION)):
        out += share[..., None] * (np.array(colour) - out)
    mixed: Colours = np.rint(out).astype(np.uint8)
    return mixed


def outlined(image: Colours, mask: Mask, colour: tuple[int, int, int]) -> Colours:
    """The image with the outline of a mask: two pixels inside it, and a dark one around for bright images."""
    out = image.copy()
    out[ndimage.binary_dilation(mask) & ~mask] = _CASING
    # The picture's border is not an outline.
    out[mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1)] = colour
    return out


def resized(image: Colours, size: tuple[int, int]) -> Colours:
    """An (h, w, 3) image at a size (height, width), smooth."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def data_uri(colours: Colours) -> str:
    """An (h, w, 3) picture as the address of a PNG; with a palette where that is exact, which is far smaller."""
    from PIL import Image

    codes, index = np.unique(colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_inverse=True)
    if len(codes) <= 256:
        picture = Image.fromarray(index.reshape(colours.shape[:2]).astype(np.uint8), "P")
        picture.putpalette(b"".join(int(code).to_bytes(3, "big") for code in codes))
    else:
        picture = Image.fromarray(np.ascontiguousarray(colours))
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _resized_map(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    from PIL import Image

    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))


def _resized_mask(mask: Mask, size: tuple[int, int]) -> NDArray[np.float32]:
    """Share of every pixel of the picture that is inside; 0 or 1 where the picture is finer than the mask."""
    from PIL import Image

    values = Image.fromarray(mask.astype(np.float32))
    finer = size[0] >= mask.shape[0] and size[1] >= mask.shape[1]
    how = Image.Resampling.NEAREST if finer else Image.Resampling.BOX
    return np.asarray(values.resize(size[::-1], how))


def _with_prompts(image: Colours, prompts: Sequence[Prompts], rows: slice, columns: slice) -> Colours:
    """The image with boxes and points as they were given: white on black, a point outside of the object hollow."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    sy = image.shape[0] / (rows.stop - rows.start)
    sx = image.shape[1] / (columns.stop - columns.start)
    for box in (given.box for given in prompts if given.box is not None):
        left, top = (box.x0 - columns.start) * sx, (box.y0 - rows.start) * sy
        right = max((box.x1 + 1 - columns.start) * sx - 1, left + 2)
        bottom = max((box.y1 + 1 - rows.start) * sy - 1, top + 2)
        draw.rectangle([left, top, right, bottom], outline=_CASING, width=3)
        draw.rectangle([left + 1, top + 1, right - 1, bottom - 1], outline=_PROMPT)
    for point in dict.fromkeys(point for given in prompts for point in given.points):
        x, y = (point.x + 0.5 - columns.start) * sx, (point.y + 0.5 - rows.start) * sy
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=_CASING)
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=_PROMPT if point.positive else None, outline=_PROMPT)
    return np.asarray(picture)
