"""Every number behind a stream counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.training.seeds import generator_of

numbers = st.lists(st.integers(0, 2**40), max_size=4)


@given(numbers, numbers)
def test_streams_are_the_same_for_the_same_numbers_only(one: list[int], other: list[int]) -> None:
    assert (generator_of(*one).initial_seed() == generator_of(*other).initial_seed()) == (one == other)


def test_zeros_and_the_upper_half_of_a_number_count() -> None:
    seeds = [generator_of(*n).initial_seed() for n in ((), (0,), (0, 0), (1,), (1, 0), (1 + 2**32,), (2**32, 1))]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**32
