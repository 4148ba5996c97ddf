"""Expected reduction of the uncertain area, against asking and answering for real."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.answered import AnsweredBelief
from napari_uncertsam.estimators.field import Answer, MaskField
from napari_uncertsam.estimators.truncation import truncation
from napari_uncertsam.prompts import Box
from napari_uncertsam.suggestions.information import box_gain, expected_reduction, suggest_informative
from napari_uncertsam.suggestions.quality import Drawn, draw_masks
from tests.fields import SHAPE, draw_field

EVERY = np.array([(y, x) for y in range(SHAPE[0]) for x in range(SHAPE[1])])


def by_hand(field: MaskField, y: int, x: int) -> float:
    """Both answers given, and the uncertain area that each leaves weighted with its chance."""
    left = 0.0
    for inside in (True, False):
        chance = float(truncation(field.mean[y, x], field.variance[y, x], inside)[2])
        left += chance * field.answered([Answer(y, x, inside)]).wrong_area()
    return field.wrong_area() - left


def plain(mean: list[list[float]], length: float = 1.0) -> MaskField:
    values = np.array(mean)
    return MaskField.prior(values, np.zeros((0, *values.shape)), np.zeros((0, 0)), length)


@pytest.mark.parametrize("answers", [[], [Answer(1, 1, True), Answer(3, 2, False)]])
@pytest.mark.parametrize("seed", range(3))
def test_the_expected_reduction_is_that_of_both_answers(seed: int, answers: list[Answer]) -> None:
    field = draw_field(seed).answered(answers)
    found = expected_reduction(field, EVERY[:, 0], EVERY[:, 1])
    assert found == pytest.approx([by_hand(field, y, x) for y, x in EVERY], abs=2e-4)


@given(st.integers(0, 10_000), st.floats(0.5, 6), st.integers(0, 4))
def test_knowing_more_is_not_expected_to_leave_more_wrong(seed: int, length: float, features: int) -> None:
    field = draw_field(seed, features=features, length=length)
    assert (expected_reduction(field, EVERY[:, 0], EVERY[:, 1]) > -0.02 * field.wrong_area() - 1e-4).all()


def test_outside_counts_as_much_as_inside() -> None:
    field = draw_field(2)
    mirrored = MaskField.prior(-field.mean, field.features, field.covariance, field.length)
    ys, xs = EVERY.T
    assert expected_reduction(mirrored, ys, xs) == pytest.approx(expected_reduction(field, ys, xs), abs=1e-4)
    places = [[(p.y, p.x) for p in suggest_informative(f, 4)] for f in (field, mirrored)]
    assert places[0] == places[1]


def test_on_a_finer_grid_gains_are_thinned_out_and_count_cells() -> None:
    mean = np.full((128, 128), 8.0)
    mean[32:96, 32:96] = 0
    field = MaskField.prior(mean, np.zeros((0, 128, 128)), np.zeros((0, 0)), 20.0)
    (found,) = expected_reduction(field, np.array([65]), np.array([65]))
    assert found == pytest.approx(by_hand(field, 65, 65), rel=0.02)
    assert found > 100


def test_what_one_answer_settles_is_not_asked_twice() -> None:
    """Left cells are one unknown, right cells another, smaller one: the second question is about the other."""
    left, right = np.zeros((6, 12)), np.zeros((6, 12))
    left[:, :6], right[:, 7:] = 3, 3
    mean = np.where(left + right > 0, 0.2, -9.0)
    field = MaskField.prior(mean, np.stack([left, right]), np.eye(2), 0.3)
    gains = expected_reduction(field, np.array([2, 3, 2]), np.array([1, 4, 8]))
    assert gains[0] == pytest.approx(gains[1], rel=1e-3)
    assert gains[1] > 1.1 * gains[2] > 0
    few = np.zeros((6, 12), bool)
    few[2:4, [1, 4, 8, 10]] = True
    first, second = suggest_informative(field, 2, allowed=few)
    assert first.x < 6 < second.x
    assert first.gain > second.gain
    assert suggest_informative(field, 1, allowed=few) == [first]


def test_points_are_where_it_is_allowed_and_not_where_it_is_known() -> None:
    field = plain([[0.0] * 12])
    allowed = np.zeros((1, 12), bool)
    allowed[:, 4:9] = True
    found = suggest_informative(field, 12, allowed=allowed, known=[(0, 5.2)], known_radius=1.5)
    assert {p.x for p in found} <= {4, 7, 8} - {4}
    assert len({p.x for p in found}) == len(found) > 0
    assert all(p.gain > 0 for p in found)
    assert all(p.probability == pytest.approx(0.5) for p in found)
    assert suggest_informative(field, 0) == []


def test_what_is_certain_is_not_asked() -> None:
    assert suggest_informative(plain([[9.0, -9.0, 9.0]]), 3) == []


def test_bald_asks_what_says_most_of_the_layer() -> None:
    """Left the layer is in doubt, right nothing but noise, and more of it."""
    layer = np.zeros((6, 12))
    layer[:, :3] = 2
    mean = np.where(layer > 0, 1.0, 0.0)
    field = MaskField.prior(mean, layer[None], np.eye(1), 1.5)
    (told,) = suggest_informative(field, 1, ranking="mutual-information")
    assert told.x < 3
    information = AnsweredBelief(field).mutual_information()
    assert information[told.y, told.x] == information.max()
    (area,) = suggest_informative(field, 1)
    assert area.gain >= told.gain > 0


@pytest.mark.parametrize(("options", "said"), [({"k": -1}, "at least 0, not -1"), ({"ranking": "luck"}, "'luck'")])
def test_what_cannot_be_ranked_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        suggest_informative(draw_field(), **{"k": 1, **options})  # type: ignore[arg-type]


def test_a_box_that_is_the_present_one_teaches_nothing() -> None:
    field = plain((np.random.default_rng(0).normal(0, 1, (12, 12))).tolist(), 2.0)
    drawn = draw_masks(field, np.random.default_rng(0))
    box = Box(2, 2, 8, 8)
    assert box_gain(drawn, box, box, np.random.default_rng(1)) == 0


def test_a_box_that_tells_two_masks_apart_settles_them() -> None:
    """Half of the masks are the left square, half the right one: 32 cells are open, and an answer settles all."""
    masks = np.zeros((200, 8, 16), bool)
    masks[:100, 2:6, 2:6] = True
    masks[100:, 2:6, 10:14] = True
    drawn = Drawn(masks, masks[0], 1)
    gain = box_gain(drawn, Box(2, 2, 5, 5), Box(2, 10, 5, 13), np.random.default_rng(0))
    assert gain == pytest.approx(16, rel=0.15)
    assert box_gain(Drawn(masks[:1], masks[0], 1), Box(2, 2, 5, 5), Box(2, 10, 5, 13), np.random.default_rng(0)) == 0
    doubled = Drawn(masks, masks[0], 2)
    scaled = box_gain(doubled, Box(5, 5, 11, 11), Box(5, 21, 11, 27), np.random.default_rng(0))
    assert scaled == pytest.approx(4 * gain)
