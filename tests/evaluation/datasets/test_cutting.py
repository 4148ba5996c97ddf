"""Slices, objects on them, and the grid that image and mask share."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets.cutting import check_same_grid, cut, pick_slices, upright
from napari_uncertsam.volume import Volume


@given(
    st.sets(st.integers(0, 300), min_size=1).map(sorted), st.integers(1, 40), st.floats(0.01, 1.0, exclude_min=False)
)
def test_every_kth_slice_around_the_middle(held: list[int], every: int, central: float) -> None:
    picked = pick_slices(held, every, central)
    positions = [held.index(z) for z in picked]
    assert len(held) // 2 in positions
    assert (np.diff(positions) == every).all()
    reach = max(1, round(central * len(held)))
    assert positions[-1] - positions[0] < reach
    # No further slice would fit into the central part.
    assert len(picked) >= reach // every


def test_all_slices_by_default_and_none_of_nothing() -> None:
    assert pick_slices([3, 5, 9]) == [3, 5, 9]
    assert pick_slices([]) == []
    for every, central in ((0, 1.0), (1, 0.0), (1, 1.5)):
        with pytest.raises(InputError, match="every"):
            pick_slices([1], every, central)


@given(
    hnp.arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 3)),
    st.integers(1, 9),
    st.sampled_from([np.uint8, np.int16, np.int32, np.uint64, ">u2"]),
)
def test_objects_are_those_that_a_loop_finds(labels: np.ndarray, min_area: int, dtype: str) -> None:
    volume = Volume(np.zeros(labels.shape), name="v")
    found = [
        (value, z)
        for value in (1, 2, 3)
        for z in range(4)
        if sum(labels[z, y, x] == value for y in range(5) for x in range(6)) >= min_area
    ]
    cases = cut(volume, labels.astype(dtype), min_area=min_area, modality={1: "one"})
    assert [(case.value, case.slice_index) for case in cases] == found
    for case in cases:
        np.testing.assert_array_equal(case.truth, labels[case.slice_index] == case.value)
        assert case.volume is volume
        assert case.modality == ("one" if case.value == 1 else "unknown")


def test_labels_too_large_to_count_and_booleans() -> None:
    labels = np.zeros((3, 4), np.int32)
    labels[0] = 2**31 - 1
    labels[2, 1:] = 70000
    image = Volume(np.zeros((3, 4)), name="i")
    assert [(c.value, int(c.truth.sum()), c.key) for c in cut(image, labels)] == [
        (70000, 3, "i/70000"),
        (2**31 - 1, 4, f"i/{2**31 - 1}"),
    ]
    assert [c.value for c in cut(image, labels > 0)] == [1]
    with pytest.raises(InputError, match=r"\(3, 4\).*\(4, 3\)"):
        cut(image, labels.T)


def test_grids_may_differ_by_a_tenth_of_a_voxel() -> None:
    array, affine = np.zeros((5, 6, 7)), np.diag([4.0, 1.0, 2.0, 1.0])
    image = Volume(array, affine=affine, name="head")
    shifted = affine.copy()
    shifted[1, 3] = 0.09
    check_same_grid(image, Volume(array, affine=shifted))
    shifted[1, 3] = 0.11
    with pytest.raises(InputError, match=r"head.*0\.11 mm"):
        check_same_grid(image, Volume(array, affine=shifted))
    # A small rotation does not move the first voxel but the last one.
    turned = affine.copy()
    turned[:3, 1] = 0, np.cos(0.03), np.sin(0.03)
    with pytest.raises(InputError, match="apart"):
        check_same_grid(image, Volume(array, affine=turned))
    check_same_grid(image, Volume(array))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_upright_keeps_every_voxel_where_it_is(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    array = rng.random((3, 4, 5))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, world in enumerate(order):
        affine[world, axis] = signs[axis] * (axis + 1.5)
    affine[:3, :3] = np.array([[1, 0.1, 0], [-0.1, 1, 0.05], [0, -0.05, 1]]) @ affine[:3, :3]  # tilted a little
    affine[:3, 3] = 7, 8, 9
    volume = Volume(array, affine=affine, name="x", modality="CT")
    result = upright(volume)
    assert result.modality == "CT"
    dominant = np.abs(result.affine[:3, :3]).argmax(axis=0)
    assert dominant.tolist() == [2, 1, 0]
    np.testing.assert_allclose(np.linalg.norm(result.affine[:3, :3], axis=0), result.spacing)
    where = {tuple(np.round(affine @ (*i, 1), 6)): array[i] for i in np.ndindex(array.shape)}
    moved = {tuple(np.round(result.affine @ (*i, 1), 6)): result.array[i] for i in np.ndindex(result.shape)}
    assert where == moved


def test_upright_leaves_what_has_no_affine() -> None:
    volume = Volume(np.zeros((3, 4, 5)))
    assert upright(volume) is volume
