"""What walks give back: mixtures of two ends, and anchors on other grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.propagation import Anchor
from napari_uncertsam.propagation.walking import Step, mask_over, merged
from napari_uncertsam.view import View

numbers = st.floats(-8, 8)
spreads = st.floats(0, 9)


def step(mean: float, variance: float, *, view: View = View(0, 0, 4, 4), present: bool = True) -> Step:  # noqa: B008
    full = np.ones((2, 2), np.float32)
    return Step(3, view, mean * full, variance * full, present)


@given(numbers, spreads, numbers, spreads, st.floats(0, 1))
def test_merged_has_the_moments_of_the_mixture(m1: float, v1: float, m2: float, v2: float, share: float) -> None:
    both = merged(step(m1, v1), step(m2, v2), share)
    first = (1 - share) * m1 + share * m2
    second = (1 - share) * (v1 + m1**2) + share * (v2 + m2**2)
    assert both.mean == pytest.approx(first, abs=1e-4)
    assert both.variance == pytest.approx(second - first**2, abs=1e-3)
    assert both.mean.dtype == both.variance.dtype == np.float32


def test_merged_against_samples(rng: np.random.Generator) -> None:
    both = merged(step(2.0, 0.5), step(-1.0, 2.0), 0.3)
    far = rng.random(200_000) < 0.3
    drawn = np.where(far, rng.normal(-1, 2**0.5, far.size), rng.normal(2, 0.5**0.5, far.size))
    assert both.mean.flat[0] == pytest.approx(drawn.mean(), abs=0.03)
    assert both.variance.flat[0] == pytest.approx(drawn.var(), abs=0.05)


def test_merged_is_on_the_grid_of_the_near_step() -> None:
    near, far = step(1, 1, present=False), step(1, 1, view=View(2, 0, 8, 8))
    both = merged(near, far, 0.5)
    assert (both.slice_index, both.view, both.present) == (3, near.view, True)
    assert both.mean == pytest.approx(1)
    assert not merged(near, step(0, 0, present=False), 0.5).present
    # All of the weight on one side gives that side.
    assert merged(near, step(-5, 3), 0.0).variance == pytest.approx(1)


def test_an_anchor_over_another_view() -> None:
    y, x = np.mgrid[:16, :16]
    anchor = Anchor(0, View(20, 40, 32, 32), (7 - np.hypot(y - 7.5, x - 7.5)).astype(np.float32))
    assert np.array_equal(mask_over(anchor, anchor.view, (16, 16)), anchor.logits)
    wide = View(4, 24, 64, 64)
    found = mask_over(anchor, wide, (64, 64))
    rows, columns = np.arange(64) + 4, np.arange(64) + 24
    distance = np.hypot(*np.meshgrid((rows - 35.5) / 2, (columns - 55.5) / 2, indexing="ij"))
    inside = (np.abs(rows - 35.5) < 16)[:, None] & (np.abs(columns - 55.5) < 16)
    near = inside & (distance > 1) & (distance < 7)
    np.testing.assert_allclose(found[near], (7 - distance)[near], atol=0.1)
    assert (found[~inside] <= -8).all()


def test_an_object_at_the_border_of_an_anchors_view_goes_on_to_that_border() -> None:
    """Of a coarse grid the outermost half cells belong to the view, too."""
    anchor = Anchor(0, View(0, 0, 96, 96), np.full((8, 8), 10, np.float32), confirmed=True)
    found = mask_over(anchor, View(0, 0, 48, 48), (48, 48))
    assert (found > 0).all()
    beyond = mask_over(anchor, View(-24, 48, 96, 96), (96, 96))
    assert np.array_equal(beyond > 0, np.arange(96)[:, None] - 24 >= np.where(np.arange(96) + 48 < 96, 0, 999))


def test_a_mask_that_is_no_mask() -> None:
    with pytest.raises(InputError, match="mask of slice 4 has to be finite"):
        Anchor(4, View(0, 0, 4, 4), np.full((4, 4), np.nan, np.float32))
    with pytest.raises(InputError, match="finite and"):
        Anchor(4, View(0, 0, 4, 4), np.zeros(4, np.float32))
