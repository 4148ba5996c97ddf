from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.report.pictures import (
    PREDICTION,
    SIDE,
    TRUTH,
    colour_bar,
    crop_around,
    data_uri,
    draw_panels,
    picture_size,
    uncertainty_colours,
)
from napari_uncertsam.prediction import Maps
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.uncertainty import LN2
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume

SHAPE = (44, 44)
WHOLE = View(0, 0, *SHAPE)
#: Pixels of a picture per pixel of the slice.
SCALE = SIDE // SHAPE[0]


def decode(uri: str) -> NDArray[np.uint8]:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def rectangle(y0: int, x0: int, y1: int, x1: int, shape: tuple[int, int] = SHAPE) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def case_of(truth: NDArray[np.bool_], grey: int = 100, spacing: tuple[float, float] = (1.0, 1.0)) -> Case:
    return Case("im", 1, Volume(np.full(truth.shape, grey, np.uint8), spacing=spacing), truth)


def maps_of(mask: NDArray[np.bool_], uncertainty: float = 0.3) -> Maps:
    flat = np.full(mask.shape, uncertainty, np.float32)
    return Maps(mask.shape, slice(0, mask.shape[0]), slice(0, mask.shape[1]), mask, mask.astype(np.float32), flat)


def at(picture: NDArray[np.uint8], y: int, x: int) -> tuple[int, ...]:
    """Colour at the middle of a pixel of the slice."""
    return tuple(picture[y * SCALE + SCALE // 2, x * SCALE + SCALE // 2].tolist())


def test_colours_at_known_pixels() -> None:
    truth, mask = rectangle(8, 8, 30, 30), rectangle(12, 12, 34, 34)
    panels = draw_panels(case_of(truth), maps_of(mask), WHOLE)
    pictures = [decode(uri) for uri in panels]
    assert {p.shape for p in pictures} == {(SIDE, SIDE, 3)}
    image, true, predicted, heat, error = pictures
    assert (image == 100).all()
    assert at(error, 9, 20) == TRUTH  # missed
    assert at(error, 33, 20) == PREDICTION  # too much
    assert at(error, 20, 20) == at(error, 2, 2) == (45, 45, 45)
    top = 8 * SCALE
    assert tuple(true[top, 20 * SCALE]) == tuple(true[top + 1, 20 * SCALE]) == TRUTH
    assert tuple(true[top - 1, 20 * SCALE]) == (0, 0, 0)
    assert at(true, 20, 20) == at(true, 2, 2) == (100, 100, 100)
    assert tuple(predicted[12 * SCALE, 20 * SCALE]) == PREDICTION
    assert (heat == uncertainty_colours(np.float32(0.3))).all()


def test_a_right_mask_has_no_error_and_an_empty_one_no_outline() -> None:
    truth = rectangle(8, 8, 30, 30)
    right = draw_panels(case_of(truth), maps_of(truth), WHOLE)
    assert (decode(right.error) == 45).all()
    nothing = draw_panels(case_of(truth), maps_of(np.zeros(SHAPE, bool)), WHOLE)
    assert (decode(nothing.prediction) == 100).all()
    assert at(decode(nothing.error), 20, 20) == TRUTH


def test_prompts_are_drawn_where_they_are() -> None:
    truth = rectangle(8, 8, 30, 30)
    prompts = [Prompts((Point(20, 20), Point(40, 40, False)), Box(8, 8, 30, 30)), Prompts((), Box(-50, -50, 90, 90))]
    image = decode(draw_panels(case_of(truth), maps_of(truth), WHOLE, prompts).image)
    assert tuple(image[8 * SCALE + 1, 15 * SCALE]) == (255, 255, 255)
    assert at(image, 20, 20) == (255, 255, 255)
    assert at(image, 40, 40) == (0, 0, 0)  # hollow
    assert at(image, 5, 20) == (100, 100, 100)


def test_a_point_like_box_can_be_drawn() -> None:
    truth = rectangle(0, 0, 999, 999, (1000, 1000))
    panels = draw_panels(case_of(truth), maps_of(truth), View(0, 0, 1000, 1000), [Prompts((), Box(5, 5, 5, 5))])
    assert decode(panels.image).shape == (SIDE, SIDE, 3)


def test_thin_errors_survive_a_large_image() -> None:
    truth, mask = rectangle(100, 100, 1900, 1900, (2000, 2000)), rectangle(100, 100, 1900, 1905, (2000, 2000))
    error = decode(draw_panels(case_of(truth), maps_of(mask), View(0, 0, 2000, 2000)).error)
    column = error[SIDE // 2].astype(int)
    assert (column[:, 0] - column[:, 2]).max() > 60  # orange, mixed with the grey below


def test_proportions_are_those_of_the_patient() -> None:
    truth = rectangle(8, 8, 30, 30)
    panels = draw_panels(case_of(truth, spacing=(4.0, 1.0)), maps_of(truth), WHOLE)
    assert {decode(uri).shape for uri in panels} == {(SIDE, SIDE // 4, 3)}
    assert picture_size((1, 1000), (1, 1)) == (1, SIDE)


def test_colour_images_stay_coloured() -> None:
    truth = rectangle(8, 8, 30, 30)
    colours = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    case = Case("im", 1, Volume(colours, rgb=True), truth)
    image = decode(draw_panels(case, maps_of(truth), WHOLE).image).astype(int)
    whole = np.asarray(Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(image - whole).max() == 0


def test_uncertainty_runs_from_black_to_yellow() -> None:
    ends = uncertainty_colours(np.array([-1.0, 0.0, LN2, 2.0]))
    assert ends[0].tolist() == ends[1].tolist()
    assert ends[2].tolist() == ends[3].tolist()
    assert ends[1].max() < 10
    assert ends[2].min() > 150
    bar = decode(colour_bar())
    assert bar.shape == (1, 256, 3)
    luminance = bar[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -1).all()
    assert luminance[-1] - luminance[0] > 200


def test_palette_is_exact() -> None:
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (200, 3)).astype(np.uint8)[rng.integers(0, 200, (30, 40))]
    many = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    for picture in (few, many):
        assert (decode(data_uri(picture)) == picture).all()
    assert len(data_uri(few)) < len(data_uri(many))


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    extent=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    view=st.tuples(st.integers(-40, 60), st.integers(-40, 60), st.integers(1, 90)),
)
def test_crop_holds_the_objects_and_stays_inside(
    shape: tuple[int, int], corner: tuple[float, float], extent: tuple[float, float], view: tuple[int, int, int]
) -> None:
    first = [min(int(c * n), n - 1) for c, n in zip(corner, shape, strict=True)]
    last = [f + int(e * (n - 1 - f)) for f, e, n in zip(first, extent, shape, strict=True)]
    truth = rectangle(*first, *last, shape)
    rows, columns = crop_around(truth, np.zeros(shape, bool), View(view[0], view[1], view[2], view[2]))
    assert 0 <= rows.start < rows.stop <= shape[0]
    assert 0 <= columns.start < columns.stop <= shape[1]
    assert truth[rows, columns].sum() == truth.sum()
    height, width = rows.stop - rows.start, columns.stop - columns.start
    # Near a square, unless the image ends.
    assert abs(height - width) <= 1 or height == shape[0] or width == shape[1]


def test_crop_of_a_small_object_leaves_the_whole_view_out() -> None:
    shape = (500, 500)
    truth, nothing = rectangle(240, 240, 259, 259, shape), np.zeros(shape, bool)
    rows, columns = crop_around(truth, nothing, View.whole(*shape))
    assert (rows.stop - rows.start, columns.stop - columns.start) == (30, 30)
    near = View(230, 226, 40, 40)
    rows, columns = crop_around(truth, nothing, near)
    assert rows.start <= 230
    assert rows.stop >= 270
    assert columns.start <= 226
    assert columns.stop >= 266
    wrong = rectangle(100, 100, 110, 110, shape)
    rows, columns = crop_around(truth, wrong, near)
    assert rows.start < 100
    assert columns.start < 100
    assert rows.stop > 260


def test_border_of_the_picture_is_no_outline() -> None:
    truth = np.ones(SHAPE, bool)
    picture = decode(draw_panels(case_of(truth), maps_of(truth), WHOLE).truth)
    assert (picture == 100).all()


@pytest.mark.parametrize("uncertainty", [0.0, LN2])
def test_heat_ends(uncertainty: float) -> None:
    truth = rectangle(8, 8, 30, 30)
    heat = decode(draw_panels(case_of(truth), maps_of(truth, uncertainty), WHOLE).uncertainty)
    assert (heat == uncertainty_colours(np.array(uncertainty))).all()
