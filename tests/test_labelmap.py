"""The label map as a function of the state."""

from __future__ import annotations

import numpy as np

from napari_uncertsam.annotations import Entry, Key, Patch, State
from napari_uncertsam.labelmap import LabelMap


def mask(top: int, left: int, height: int, width: int) -> Patch:
    return Patch(top, left, np.ones((height, width), bool))


def state(**entries: Entry) -> State:
    """Entries by "p0s1o2": plane, slice and object."""
    keys = {name: Key(int(name[1]), int(name[3]), int(name[5])) for name in entries}
    objects = tuple(sorted({key.object_id for key in keys.values()})) or (1,)
    return State(objects, objects[0]).with_entries({keys[name]: entry for name, entry in entries.items()})


def test_only_what_changed_is_drawn() -> None:
    labels = LabelMap((3, 8, 8))
    first = state(p0s1o1=Entry(remembered=mask(1, 1, 3, 3)))
    assert labels.update(State(), first) == [(0, 1)]
    assert labels.labels.sum() == 9
    labels.labels[1, 7, 7] = 9  # outside of what changes: not looked at
    second = first.with_entries({Key(0, 1, 2): Entry(remembered=mask(2, 2, 3, 3))})
    assert labels.update(first, second) == [(0, 1)]
    assert labels.labels[1, 7, 7] == 9
    labels.labels[1, 7, 7] = 0
    assert labels.update(second, second.with_object(5)) == []
    assert labels.update(second, State()) == [(0, 1)]
    assert not labels.labels.any()


def test_planes_are_united() -> None:
    labels = LabelMap((4, 5, 6))
    both = state(p0s2o1=Entry(remembered=mask(0, 0, 5, 6)), p2s3o1=Entry(remembered=mask(0, 0, 4, 5)))
    assert labels.update(State(), both) == [(0, 2), (2, 3)]
    expected = np.zeros((4, 5, 6), bool)
    expected[2] = expected[:, :, 3] = True
    assert np.array_equal(labels.labels == 1, expected)


def test_pixels_kept_from_an_object() -> None:
    labels = LabelMap((6, 6))
    two = state(p0s0o1=Entry(remembered=mask(0, 0, 3, 3)), p0s0o2=Entry(remembered=mask(1, 1, 3, 3)))
    labels.update(State(), two)
    assert labels.withheld(two, Key(0, 0, 2)).tolist() == [1] * 4
    assert labels.withheld(two, Key(0, 0, 1)).size == 0
    assert labels.withheld(two, Key(0, 0, 7)).size == 0


def test_what_was_touched_is_a_rectangle() -> None:
    labels = LabelMap((500, 9000))  # more than one block of rows
    painted = labels.labels.copy()
    assert labels.touched(0, 0, painted) is None
    painted[3, 8000] = 4
    painted[490, 20] = 5
    found = labels.touched(0, 0, painted)
    assert found is not None
    assert found.where == (slice(3, 491), slice(20, 8001))
    assert (found.values[0, -1], found.values[-1, 0]) == (4, 5)


def test_patches() -> None:
    patch = Patch(2, 3, np.array([[0, 0, 0], [0, 1, 0]], np.int8))
    trimmed = patch.trimmed()
    assert trimmed is not None
    assert (trimmed.top, trimmed.left, trimmed.values.tolist()) == (3, 4, [[1]])
    both = trimmed.under(Patch(1, 5, np.array([[-1]], np.int8)))
    assert both is not None
    assert both.where == (slice(1, 4), slice(4, 6))
    assert both.values.tolist() == [[0, -1], [0, 0], [1, 0]]
    replaced = both.under(Patch(3, 4, np.array([[-1]], np.int8)))
    assert replaced is not None
    assert replaced.values.tolist() == [[0, -1], [0, 0], [-1, 0]]
    assert Patch(0, 0, np.zeros((2, 2), np.int8)).trimmed() is None


def test_masks_of_entries() -> None:
    entry = Entry(remembered=mask(1, 1, 2, 2), painted=Patch(0, 1, np.array([[1], [-1]], np.int8)))
    expected = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]], bool)
    assert np.array_equal(entry.mask((3, 4)), expected)
    assert not Entry().mask((3, 4)).any()
    assert Entry().local_mask() is None
    assert Entry().is_empty
    assert not entry.is_empty
