"""Run lengths against a decoder of the tests' own, and damaged ones."""

from __future__ import annotations

import base64
import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets import rle
from tests.evaluation.datasets.makers import COCO_WARNING, mask_of, runs_of

pytestmark = pytest.mark.filterwarnings(COCO_WARNING)

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(masks)
def test_round_trip_and_the_independent_decoder(mask: np.ndarray) -> None:
    segmentation = rle.encode(mask)
    assert segmentation["size"] == list(mask.shape)
    np.testing.assert_array_equal(mask_of(segmentation), mask)
    decoded = rle.decode(segmentation)
    assert decoded.dtype == bool
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, mask)


def test_long_runs_take_several_characters() -> None:
    mask = np.zeros((1200, 1300), bool)
    mask[500:900, 300:1000] = True
    segmentation = rle.encode(mask)
    assert max(runs_of(base64.b64decode(segmentation["counts"]))) > 2**17
    np.testing.assert_array_equal(rle.decode(segmentation), mask)


def test_a_known_text() -> None:
    # Column by column: 7 * 3 + 2 = 23 off, then five times 2 on and 5 off, and what remains of 63.
    mask = np.zeros((7, 9), bool)
    mask[2:4, 3:8] = True
    assert base64.b64decode(rle.encode(mask)["counts"]) == b"g02500000005"
    assert runs_of(b"g02500000005") == [23, 2, 5, 2, 5, 2, 5, 2, 5, 2, 10]


@given(masks, st.data())
def test_a_text_that_was_cut_off_is_never_filled_with_memory(mask: np.ndarray, data: st.DataObject) -> None:
    segmentation = rle.encode(mask)
    counts = base64.b64decode(segmentation["counts"])
    short = counts[: data.draw(st.integers(0, len(counts) - 1))]
    with pytest.raises(InputError, match="add up to"):
        rle.decode({**segmentation, "counts": base64.b64encode(short).decode()})


@given(st.binary(max_size=30))
def test_any_bytes_give_a_mask_or_a_sentence(counts: bytes) -> None:
    try:
        mask = rle.decode({"size": [6, 5], "counts": base64.b64encode(counts).decode()})
    except InputError:
        return
    assert mask.shape == (6, 5)
    assert sum(runs_of(counts)) == 30
    np.testing.assert_array_equal(mask, mask_of({"size": [6, 5], "counts": base64.b64encode(counts).decode()}))


@pytest.mark.parametrize(
    "segmentation",
    [
        {},
        {"size": [3, 3]},
        {"size": [3], "counts": "aaaa"},
        {"size": ["a", 3], "counts": "aaaa"},
        {"size": [3, 3], "counts": "no base64!"},
        {"size": [3, 3], "counts": [4, 5]},
        {"size": [0, 0], "counts": ""},
        {"size": [-3, -3], "counts": "aaaa"},
        {"size": [3, 3], "counts": base64.b64encode(b"ooooooooooo0").decode()},
        None,
    ],
)
def test_other_damage_is_a_sentence(segmentation: Any) -> None:
    with pytest.raises(InputError):
        rle.decode(segmentation)


def test_without_pycocotools_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r'pip install "napari-uncertsam\[datasets\]"'):
        rle.encode(np.ones((2, 2), bool))
