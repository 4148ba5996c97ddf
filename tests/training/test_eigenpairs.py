"""Leading eigenpairs by subspace iteration against the dense matrix."""

from __future__ import annotations

import pytest
import torch

from napari_uncertsam.training.eigenpairs import leading_eigenpairs
from tests.last_layer import LastLayer, kronecker_sum

LAYER = LastLayer.draw(seed=2, images=70, outputs=4, inputs=11)  # more images than are multiplied at once
CURVATURE = LAYER.curvature("bernoulli")
DENSE = kronecker_sum(CURVATURE, LAYER.hidden)
SIZE = len(DENSE)


@pytest.mark.parametrize("rank", [1, 8, SIZE])
def test_they_are_those_of_the_dense_matrix(rank: int) -> None:
    values, vectors = leading_eigenpairs(CURVATURE, LAYER.hidden, rank, iterations=30)
    assert vectors.shape == (4, 12, rank)
    expected = torch.linalg.eigvalsh(DENSE).flip(0)[:rank]
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-9)
    flat = vectors.reshape(SIZE, rank)
    torch.testing.assert_close(flat.mT @ flat, torch.eye(rank, dtype=torch.float64))
    torch.testing.assert_close(DENSE @ flat, flat * values, rtol=1e-4, atol=1e-4 * float(expected[0]))


def test_few_iterations_find_most_of_the_curvature() -> None:
    values, _ = leading_eigenpairs(CURVATURE, LAYER.hidden, 12)
    expected = torch.linalg.eigvalsh(DENSE).flip(0)[:12]
    assert (values <= expected + 1e-9).all()  # Rayleigh-Ritz comes from below
    assert values.sum() > 0.999 * expected.sum()


def test_no_more_than_there_are_and_the_same_again() -> None:
    values, vectors = leading_eigenpairs(CURVATURE, LAYER.hidden, 1000)
    assert (len(values), vectors.shape[-1]) == (SIZE, SIZE)
    assert (values.diff() <= 1e-9).all()
    torch.testing.assert_close(leading_eigenpairs(CURVATURE, LAYER.hidden, 1000)[0], values, rtol=0.0, atol=0.0)
