"""Suggested points and the uncertain box: examples drawn by hand, brute force, and geometry that always holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box
from napari_uncertsam.suggestions import box_means, cells_in, suggest_points, uncertain_box
from napari_uncertsam.uncertainty import LN2

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
maps = hnp.arrays(np.float32, shapes, elements=st.floats(0, 0.6875, width=16))


@given(maps, st.integers(0, 8), st.sampled_from(["nms", "none"]), st.floats(0, 0.5))
def test_points_are_the_most_uncertain_and_apart(entropy: np.ndarray, k: int, spread: str, radius: float) -> None:
    box = Box(0, 0, 9, 9)
    found = suggest_points(entropy, entropy, k, spread=spread, radius=radius, box=box)  # type: ignore[arg-type]
    assert len(found) <= k
    assert len({(p.y, p.x) for p in found}) == len(found)
    scores = [p.score for p in found]
    assert scores == sorted(scores, reverse=True)
    assert all(p.score == entropy[p.y, p.x] > 0.01 for p in found)
    reach = max(1.0, radius * np.hypot(10, 10)) if spread == "nms" else 0
    gaps = [np.hypot(a.y - b.y, a.x - b.x) for i, a in enumerate(found) for b in found[:i]]
    assert all(gap > reach for gap in gaps)
    if k:
        assert bool(found) == bool((entropy > 0.01).any())


@given(maps, st.integers(0, 8))
def test_plain_top_k_is_a_stable_sort(entropy: np.ndarray, k: int) -> None:
    found = suggest_points(entropy, entropy, k, spread="none")
    order = np.argsort(-entropy.ravel().astype(np.float64), kind="stable")[:k]
    expected = [tuple(map(int, divmod(int(i), entropy.shape[1]))) for i in order if entropy.ravel()[i] > 0.01]
    assert [(p.y, p.x) for p in found] == expected


def test_spread_covers_a_ring_that_plain_top_k_does_not() -> None:
    rows, columns = np.mgrid[:64, :64] - 32
    entropy = LN2 * np.exp(-(((np.hypot(rows, columns) - 20) / 2) ** 2)) * (1 + 0.01 * (rows == -20))
    probability = (np.hypot(rows, columns) < 20).astype(float)
    plain = suggest_points(entropy, probability, 3, spread="none")
    apart = suggest_points(entropy, probability, 3, radius=0.5)
    assert {p.y for p in plain} == {12}
    assert np.ptp([p.x for p in plain]) <= 2
    assert min(np.hypot(a.y - b.y, a.x - b.x) for a in apart for b in apart if a is not b) > 25


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_nothing_to_ask_where_nothing_is_uncertain(level: float) -> None:
    assert suggest_points(np.full((8, 8), level), np.zeros((8, 8)), 5) == []


def test_a_flat_uncertain_map_is_taken_in_raster_order() -> None:
    found = suggest_points(np.full((4, 9), 0.3), np.full((4, 9), 0.2), 3, box=Box(0, 0, 3, 3))
    assert [(p.y, p.x) for p in found] == [(0, 0), (0, 2), (0, 4)]
    assert found[0].score == pytest.approx(0.3)
    assert found[0].probability == pytest.approx(0.2)


def test_answered_places_are_not_asked_again() -> None:
    entropy = np.zeros((10, 10))
    entropy[2, 2], entropy[2, 3], entropy[7, 7] = 0.6, 0.5, 0.4
    found = suggest_points(entropy, entropy, 5, known=[(2.4, 2.2)], known_radius=1.0)
    assert [(p.y, p.x) for p in found] == [(7, 7)]
    again = suggest_points(entropy, entropy, 5, known=[(2.4, 2.2)], known_radius=0.1, spread="none")
    assert len(again) == 3
    assert suggest_points(entropy, entropy, 5, known=[(-50, 900)])[0].y == 2


def test_box_of_the_uncertain_edge() -> None:
    entropy = np.zeros((40, 40))
    entropy[10:30, 12:32] = 0.6
    entropy[12:28, 14:30] = 0.0
    probability = np.zeros((40, 40))
    probability[11:29, 13:31] = 1
    assert uncertain_box(entropy, probability) == Box(10, 12, 29, 31)


def test_which_regions_count() -> None:
    entropy, probability = np.zeros((40, 40)), np.zeros((40, 40))
    entropy[5:9, 5:9] = 0.5  # at the box
    entropy[20:30, 20:30] = 0.6  # far, larger
    box = Box(2, 2, 7, 7)
    assert uncertain_box(entropy, probability, box) == Box(5, 5, 8, 8)
    assert uncertain_box(entropy, probability, box, components="largest") == Box(20, 20, 29, 29)
    assert uncertain_box(entropy, probability, box, components="all") == Box(5, 5, 29, 29)
    assert uncertain_box(entropy, probability, box, smallest=17) is None
    probability[19, 19] = 0.9  # a mask that only meets the far region at a corner
    assert uncertain_box(entropy, probability, box) == Box(5, 5, 29, 29)


def test_thresholds() -> None:
    entropy = np.zeros((20, 20))
    entropy[4:16, 4:16], entropy[8:12, 8:12] = 0.3, 0.65
    mask = np.ones((20, 20))
    assert uncertain_box(entropy, mask, threshold="half-max") == Box(8, 8, 11, 11)  # above 0.325
    assert uncertain_box(entropy, mask, threshold="absolute") == Box(8, 8, 11, 11)  # above 0.347
    assert uncertain_box(entropy * 0.9, mask, threshold="otsu") == Box(4, 4, 15, 15)


def test_a_certain_map_has_no_box() -> None:
    certain = np.full((8, 8), 0.05)
    certain[3:5, 3:5] = 0.099
    assert uncertain_box(certain, np.ones((8, 8))) is None
    assert uncertain_box(certain, np.ones((8, 8)), floor=0.0) == Box(0, 0, 7, 7)
    assert uncertain_box(np.zeros((8, 8)), np.zeros((8, 8)), floor=0.0) is None
    for threshold in ("half-max", "otsu", "absolute"):
        uncertain_box(np.full((8, 8), 0.2), np.ones((8, 8)), threshold=threshold)  # type: ignore[arg-type]


@given(maps, st.sampled_from(["half-max", "otsu", "absolute"]), st.sampled_from(["touching", "largest", "all"]))
def test_the_box_holds_uncertain_cells_on_every_side(entropy: np.ndarray, threshold: str, components: str) -> None:
    probability = np.full(entropy.shape, 0.6)
    box = uncertain_box(entropy, probability, threshold=threshold, components=components)  # type: ignore[arg-type]
    if box is None:
        assert entropy.max() < 0.1 or threshold != "half-max"
        return
    cells = cells_in(entropy.shape, box)
    assert entropy[cells].max() == (entropy.max() if components != "largest" else entropy[cells].max())
    for side in (Box(box.y0, box.x0, box.y0, box.x1), Box(box.y0, box.x1, box.y1, box.x1)):
        assert (entropy[cells_in(entropy.shape, side)] > 0).any()


@given(shapes, st.tuples(*[st.floats(-3, 14)] * 4), st.floats(0, 1))
def test_cells_of_a_box_by_brute_force(shape: tuple[int, int], corners: tuple[float, ...], dilation: float) -> None:
    box = Box(*corners)
    grow = max(1.0, dilation * max(box.height, box.width)) if dilation else 0.0
    expected = [
        [
            box.y0 - 0.5 - grow <= y <= box.y1 + 0.5 + grow and box.x0 - 0.5 - grow <= x <= box.x1 + 0.5 + grow
            for x in range(shape[1])
        ]
        for y in range(shape[0])
    ]
    # Written as in the definition, so rounding at the very edge may differ by an ulp: compare away from it.
    made = cells_in(shape, box, dilation)
    near = np.isclose(_edge_distance(shape, box, grow), 0, atol=1e-6)
    assert (made == np.array(expected))[~near].all()


def _edge_distance(shape: tuple[int, int], box: Box, grow: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    edges = [y - (box.y0 - 0.5 - grow), (box.y1 + 0.5 + grow) - y, x - (box.x0 - 0.5 - grow), (box.x1 + 0.5 + grow) - x]
    return np.abs(edges).min(0)


def test_means_in_a_box() -> None:
    entropy = np.arange(12.0).reshape(3, 4) / 20
    assert box_means(entropy, entropy / 2, Box(0, 1, 1, 2)) == pytest.approx((0.175, 0.0875))
    assert box_means(entropy, entropy, Box(50, 50, 60, 60)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("entropy", "probability", "match"),
    [
        (np.zeros((3, 3)), np.zeros((3, 4)), "do not fit"),
        (np.zeros(3), np.zeros(3), "do not fit"),
        (np.full((3, 3), np.nan), np.zeros((3, 3)), "not numbers"),
    ],
)
def test_bad_maps_are_refused(entropy: np.ndarray, probability: np.ndarray, match: str) -> None:
    with pytest.raises(InputError, match=match):
        suggest_points(entropy, probability, 3)
    with pytest.raises(InputError, match=match):
        uncertain_box(entropy, probability)


def test_bad_options_are_refused() -> None:
    zeros = np.zeros((3, 3))
    with pytest.raises(InputError, match="-1"):
        suggest_points(zeros, zeros, -1)
    with pytest.raises(InputError, match="nms, none"):
        suggest_points(zeros, zeros, 1, spread="far")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="half-max, otsu, absolute"):
        uncertain_box(zeros, zeros, threshold="max")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="touching, largest, all"):
        uncertain_box(zeros, zeros, components="near")  # type: ignore[arg-type]
