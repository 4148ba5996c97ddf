"""Masks of many boxes weighed against each other: closed forms, and what the features see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics import dice
from napari_uncertsam.prompts import Box
from napari_uncertsam.suggestions.hypotheses import (
    WEIGHTS,
    Weight,
    dice_matrix,
    expected_dice,
    features,
    outlines,
    scores,
)

SHAPE = (32, 40)
OBJECT = Box(8, 10, 19, 27)


def logits_of(box: Box, strength: float = 6.0) -> np.ndarray:
    logits = np.full(SHAPE, -strength, np.float32)
    logits[int(box.y0) : int(box.y1) + 1, int(box.x0) : int(box.x1) + 1] = strength
    return logits


def picture() -> np.ndarray:
    """Two colours, four pixels a cell."""
    inside = np.repeat(np.repeat(logits_of(OBJECT) > 0, 4, 0), 4, 1)
    return np.where(inside[..., None], 200, 50).astype(np.uint8).repeat(3, 2)


@given(st.integers(0, 10_000))
def test_the_matrix_holds_dice_of_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 5, 6)) < rng.random((4, 1, 1))
    matrix = dice_matrix(masks)
    np.testing.assert_allclose(matrix, matrix.T)
    for i, j in np.ndindex(4, 4):
        wanted = dice(masks[i], masks[j]) if masks[i].any() or masks[j].any() else 1.0
        assert matrix[i, j] == pytest.approx(wanted, abs=1e-6)


def test_expected_dice_follows_the_scores() -> None:
    masks = np.zeros((2, 1, 4), bool)
    masks[0, 0, :2] = masks[1, 0, 2:] = True
    odds = 3.0
    found = expected_dice(masks, np.array([0.0, 0.1 * np.log(odds)]), temperature=0.1)
    np.testing.assert_allclose(found, [1 / (1 + odds), odds / (1 + odds)])
    # Scores count by their differences.
    np.testing.assert_allclose(expected_dice(masks, np.array([5.0, 5 + 0.1 * np.log(odds)]), temperature=0.1), found)


def test_outlines_count_pairs_of_neighbours() -> None:
    [length] = outlines(logits_of(OBJECT)[None] > 0)
    assert length == 2 * (OBJECT.height + OBJECT.width)


def test_features_of_a_fitting_and_of_a_shifted_mask() -> None:
    shifted = Box(8, 18, 19, 35)
    logits = np.stack([logits_of(OBJECT), logits_of(shifted), np.full(SHAPE, -6.0, np.float32)])
    values = features(logits, [OBJECT, shifted, OBJECT], np.array([0.9, 0.5, 0.0], np.float32), OBJECT, picture())
    right, wrong, empty = (dict(zip(WEIGHTS, row, strict=True)) for row in values)
    assert right["overlap"] == pytest.approx(np.log(9), rel=1e-5)
    assert right["contrast"] == pytest.approx(1, abs=0.05)
    assert wrong["contrast"] < 0.5
    assert right["tightness"] == wrong["tightness"] == 1
    assert right["box"] == right["fit"] == 1
    assert wrong["box"] == wrong["fit"] == pytest.approx(OBJECT.iou(shifted))
    assert right["area"] == pytest.approx(np.log(217 / 216))
    assert right["entropy"] == pytest.approx(logits[0].size * 0.017313 / 60, rel=1e-3)
    assert empty["fit"] == empty["tightness"] == empty["contrast"] == 0
    assert np.isfinite(values).all()
    blind = features(logits, [OBJECT, shifted, OBJECT], np.array([0.9, 0.5, 0.0], np.float32), OBJECT, None)
    names = list(WEIGHTS)
    assert not blind[:, names.index("contrast")].any()


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="2 boxes"):
        features(logits_of(OBJECT)[None], [OBJECT, OBJECT], np.ones(1, np.float32), OBJECT, None)


def test_scores_are_relative_to_the_first() -> None:
    values = np.random.default_rng(0).normal(size=(5, len(WEIGHTS)))
    found = scores(values)
    assert found[0] == 0
    # A square and a product by hand.
    table = {"only": Weight(1.0, 2.0, 0.3, 0.5, -0.7)}
    z0, z = (3 - 1) / 2, (7 - 1) / 2
    wanted = 0.3 * (z - z0) + 0.5 * (z**2 - z0**2) - 0.7 * (z - z0) * z0
    assert scores(np.array([[3.0], [7.0]]), table)[1] == pytest.approx(wanted)


def test_the_true_mask_among_wrong_ones_is_expected_to_be_best() -> None:
    moved = [Box(8 + dy, 10 + dx, 19 + dy, 27 + dx) for dy, dx in ((0, 0), (-5, 0), (5, 0), (0, -6), (0, 6))]
    first = Box(3, 15, 14, 32)
    boxes = [first, *moved]
    # Each box is filled as far as the object goes, and a bit more: what a model does that trusts its box.
    logits = np.stack([np.maximum(logits_of(OBJECT) * (logits_of(b) > 0), logits_of(b, 1.0)) for b in boxes])
    trusted = np.array([0.5, 0.9, 0.6, 0.6, 0.6, 0.6], np.float32)
    values = features(logits.astype(np.float32), boxes, trusted, first, picture())
    assert expected_dice(logits > 0, scores(values)).argmax() == 1
