"""Uncertainties that are no entropies: their colours reach as far as they can, their means have their own unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_uncertsam.evaluation.inspection import Picture
from napari_uncertsam.evaluation.inspection.findings import Scene
from napari_uncertsam.evaluation.inspection.stored import open_evaluation
from napari_uncertsam.prompts import Box
from napari_uncertsam.ui.inspect.layers import InspectLayers, Place
from napari_uncertsam.ui.inspect.texts import columns_of
from napari_uncertsam.uncertainty import LN2
from tests.evaluation.results_builder import build_results

SIDE = 32


def picture(largest: float) -> Picture:
    image, truth = np.zeros((SIDE, SIDE)), np.eye(SIDE, dtype=bool)
    scene = Scene(image, (0, 1), truth, truth, np.full((SIDE, SIDE), largest / 2, np.float32), largest)
    return Picture(Box(0, 0, 9, 9), (1, 1), np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.uint8), scene)


def test_colours_reach_as_far_as_the_measure() -> None:
    layers = InspectLayers(ViewerModel())
    for largest in (LN2, 0.5, 10.0, LN2):
        layers.show(picture(largest), Place())
        layer = layers.existing("uncertainty")
        assert layer is not None
        assert tuple(layer.contrast_limits) == pytest.approx((0, largest))
    # What the user has set stays for the next case of the same kind.
    layer.contrast_limits = (0.1, 0.3)
    layers.show(picture(LN2), Place())
    assert tuple(layer.contrast_limits) == pytest.approx((0.1, 0.3))
    layers.show(picture(0.5), Place())
    assert tuple(layer.contrast_limits) == pytest.approx((0, 0.5))
    layers.close()


def test_means_have_the_unit_of_what_is_shown(tmp_path: Path) -> None:
    build_results(tmp_path, cases=2, prompts=("gt-box",), methods=("entropy", "variance"))
    stored = open_evaluation(tmp_path / "run")
    for method, unit in (("entropy", ", in nats."), ("variance", "Mean uncertainty, around the true object.")):
        *_, column = columns_of(stored.choose("gt-box", method), ["mean_uncertainty_roi"])
        assert unit in column.help
