"""Expected Dice of a mask, from masks that might be the true one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_uncertsam.estimators.field import Answer, MaskField
from napari_uncertsam.suggestions.quality import Drawn, draw_masks, drawn_dice, quality_of
from tests.fields import draw_field


def disc(sure: float, side: int = 32) -> MaskField:
    """A disc whose logit grows with the distance from its outline."""
    away = np.arange(side) - side / 2 + 0.5
    mean = sure * (side / 4 - np.hypot(away[:, None], away))
    return MaskField.prior(mean, np.zeros((0, side, side)), np.zeros((0, 0)), 3.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_dice_with_masks_made_by_hand() -> None:
    mask = np.array([[True, True, False, False]])
    masks = np.stack([mask, [[True, False, False, False]], [[False, False, True, True]], [[False] * 4]])
    assert drawn_dice(Drawn(masks, mask, 1)) == pytest.approx([1, 2 / 3, 0, 0])
    none = np.zeros((1, 4), bool)
    assert drawn_dice(Drawn(masks, none, 1)) == pytest.approx([0, 0, 0, 1])
    assert quality_of(Drawn(masks, none, 1)) is None
    quality = quality_of(Drawn(masks, mask, 1))
    assert quality is not None
    assert quality.dice == pytest.approx(5 / 12)
    assert 0 <= quality.low <= quality.dice <= quality.high <= 1


def test_a_certain_mask_is_right() -> None:
    drawn = draw_masks(disc(200.0), rng())
    assert (drawn_dice(drawn) == 1).all()


def test_the_surer_the_better() -> None:
    expected = [float(drawn_dice(draw_masks(disc(sure), rng())).mean()) for sure in (0.2, 0.5, 1.0, 2.0, 5.0)]
    assert expected == sorted(expected)
    assert expected[0] < 0.8 < 0.95 < expected[-1] < 1


def test_cells_beside_the_slice_do_not_count() -> None:
    field = disc(0.5)
    inside = np.zeros(field.shape, bool)
    inside[:, :16] = True
    drawn = draw_masks(field, rng(), inside)
    assert not drawn.masks[:, :, 16:].any()
    assert not drawn.mask[:, 16:].any()
    assert np.array_equal(drawn.mask[:, :16], field.mean[:, :16] > 0)


def test_finer_grids_are_thinned_out() -> None:
    drawn = draw_masks(disc(0.5, 128), rng(), draws=7)
    assert drawn.step == 2
    assert drawn.masks.shape == (7, 64, 64)
    assert np.array_equal(drawn.mask, disc(0.5, 128).mean[1::2, 1::2] > 0)


def test_answers_that_agree_make_the_mask_better() -> None:
    field = disc(0.3)
    answers = [Answer(y, x, bool(field.mean[y, x] > 0)) for y, x in ((16, 9), (9, 16), (16, 22), (22, 16), (16, 4))]
    before, after = (drawn_dice(draw_masks(f, rng())).mean() for f in (field, field.answered(answers)))
    assert after > before


def test_the_expectation_is_that_of_independent_draws() -> None:
    field = draw_field(4, (16, 16), length=2.0)
    one, other = (drawn_dice(draw_masks(field, np.random.default_rng(s), draws=3000)) for s in (1, 2))
    assert one.mean() == pytest.approx(other.mean(), abs=4 * np.sqrt(one.var() / 1500))
