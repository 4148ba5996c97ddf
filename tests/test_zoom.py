"""Where to look first, in slices whose pixels are not square."""

from __future__ import annotations

import numpy as np
import pytest

from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, Request, Settings
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from napari_uncertsam.zoom import coarse_views, surroundings
from tests.fakes import FakeEngine

CLICK = Prompts((Point(15, 130),))


def test_coarse_views_are_square_in_millimetres() -> None:
    square = coarse_views(CLICK, 120, 260, 256)
    flat = coarse_views(CLICK, 30, 260, 256, (4.0, 1.0))
    assert [view.width for view in flat] == [view.width for view in square] == [260, 130, 65]
    assert [view.height for view in flat] == [65, 33, 17]
    for view in flat:
        assert view.top <= 15 < view.top + view.height
    # Two clicks far apart in millimetres, although not in pixels.
    apart = Prompts((Point(2, 130), Point(27, 130)))
    assert [view.width for view in coarse_views(apart, 30, 260, 256, (4.0, 1.0))] == [260, 130]  # 1.3 x 100
    assert [view.width for view in coarse_views(apart, 30, 260, 256, (8.0, 1.0))] == [260]


def test_surroundings_are_an_eighth_of_the_longer_side() -> None:
    square, flat = surroundings(CLICK, 240, 320), surroundings(CLICK, 60, 320, (4.0, 1.0))
    assert (square.height, square.width) == (40, 40)
    assert (flat.height, flat.width) == (10, 40)


def ellipsoid(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipsoid of 60 x 70 x 80 voxels in noise, its first axis sampled at `rows` places of 120."""
    z, y, x = np.ogrid[:rows, :120, :120]
    z = (z + 0.5) * 120 / rows - 0.5
    distance = np.sqrt(((z - 62) / 30) ** 2 + ((y - 55) / 35) ** 2 + ((x - 60) / 40) ** 2)
    noise = np.random.default_rng(0).normal(0, 4, (rows, 120, 120))
    return (60 + 90 / (1 + np.exp(25 * (distance - 1))) + noise).astype(np.float32), distance < 1


@pytest.mark.parametrize(("plane", "index"), [(1, 50), (2, 64)])
def test_thick_slices_are_segmented_as_thin_ones(plane: int, index: int) -> None:
    engine, found = Sam2Engine.load("bundled", device="cpu"), {}
    for rows in (120, 30):
        array, truth = ellipsoid(rows)
        volume = Volume(array, spacing=(120 / rows, 1.0, 1.0))
        here = np.take(truth, index, plane)
        chosen = Settings(method="entropy", n_suggestions=0)
        asked = Request("i", plane, index, Window(30, 200), None, 1, Prompts(box=Box.of_mask(here)), chosen)
        found[rows] = prediction = Pipeline(engine).predict(volume, asked)
        assert dice(prediction.maps.mask, here) > 0.93
    thin, thick = found[120], found[30]
    assert thick.view.width == thin.view.width
    assert thick.view.height == pytest.approx(thin.view.height / 4, abs=1)
    averaged = thin.maps.probability.reshape(30, 4, 120).mean(1) > 0.5
    assert dice(thick.maps.mask, averaged) > 0.96


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def test_clicks_boxes_and_what_grows_go_by_millimetres() -> None:
    array = np.zeros((40, 200, 200), np.uint8)
    array[15:25, 60:110, 70:130] = 255  # 40 mm x 50 mm x 60 mm
    volume = Volume(array, spacing=(4.0, 1.0, 1.0))

    def predict(prompts: Prompts, doubt: float = -1.5) -> Prediction:
        chosen = Settings(method="entropy", n_suggestions=0)
        return Pipeline(FakeEngine(doubt=doubt)).predict(
            volume, Request("i", 2, 100, Window(0, 255), None, 1, prompts, chosen)
        )

    truth = array[:, :, 100] > 0
    for prompts in (Prompts((Point(20, 85),)), Prompts(box=Box(15, 60, 24, 109))):
        prediction = predict(prompts)
        assert dice(prediction.maps.mask, truth) > 0.95
        view = prediction.view
        assert 4 * view.height == pytest.approx(view.width, abs=4)
        assert view.width < 130
    small = Box(18, 75, 20, 85)
    grown = predict(Prompts(box=small), doubt=2.0).view
    start = View.around(small, 40, 200, spacing=(4.0, 1.0))
    assert grown == start.grown(40, 200, spacing=(4.0, 1.0)).grown(40, 200, spacing=(4.0, 1.0))
