"""Posteriors of every structure against dense matrices, and what is stored of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from napari_uncertsam.checkpoints import Part, read_part, write_part
from napari_uncertsam.errors import CheckpointError, InputError
from napari_uncertsam.estimators.laplace import (
    STRUCTURES,
    DiagonalPosterior,
    HierarchicalPosterior,
    KroneckerPosterior,
    LaplacePosteriors,
    LowRankPosterior,
    Posterior,
    Structure,
)
from napari_uncertsam.estimators.laplace.posterior import check_structure, posterior_from_tensors
from napari_uncertsam.training.eigenpairs import leading_eigenpairs
from tests.last_layer import OUTPUTS, PRIOR, TEMPERATURE, LastLayer, kronecker_sum, output_covariance

LAYER = LastLayer.draw(seed=5)
CURVATURE = LAYER.curvature("bernoulli")
SIZE = LAYER.weight.numel()
IDENTITY = torch.eye(SIZE, dtype=torch.float64)
SCATTER = torch.diag(torch.linspace(0.1, 1.5, OUTPUTS, dtype=torch.float64)) + 0.2


def low_rank(rank: int) -> LowRankPosterior:
    return LowRankPosterior.of_eigenpairs(*leading_eigenpairs(CURVATURE, LAYER.hidden, rank), PRIOR, TEMPERATURE)


POSTERIORS: dict[Structure, Callable[[], Posterior]] = {
    "diagonal": lambda: DiagonalPosterior.fit(CURVATURE, LAYER.hidden, PRIOR, TEMPERATURE),
    "kfac": lambda: KroneckerPosterior.fit(CURVATURE, LAYER.hidden, PRIOR, TEMPERATURE),
    "full": lambda: low_rank(SIZE),
    "hierarchical": lambda: HierarchicalPosterior(SCATTER.clone()),
}


def expected(weights: Tensor) -> Tensor:
    return torch.stack([output_covariance(weights, a) for a in LAYER.hidden])


def test_every_structure_is_here() -> None:
    assert tuple(POSTERIORS) == STRUCTURES
    for name in STRUCTURES:
        check_structure(name)
    with pytest.raises(InputError, match="no posterior structure 'banded'; choose one of diagonal, kfac"):
        check_structure("banded")


def test_diagonal_is_the_inverse_of_the_diagonal() -> None:
    hessian = kronecker_sum(CURVATURE, LAYER.hidden).diagonal()
    weights = torch.diag(1 / (hessian / TEMPERATURE + PRIOR))
    torch.testing.assert_close(POSTERIORS["diagonal"]().output_covariance(LAYER.hidden), expected(weights))


def test_kronecker_is_the_inverse_of_the_product_and_the_prior() -> None:
    inner = LAYER.hidden.mT @ LAYER.hidden / len(LAYER.hidden)
    weights = torch.linalg.inv(torch.kron(CURVATURE.sum(0) / TEMPERATURE, inner) + PRIOR * IDENTITY)
    torch.testing.assert_close(POSTERIORS["kfac"]().output_covariance(LAYER.hidden), expected(weights))


def test_kronecker_of_images_with_the_same_input_is_full() -> None:
    hidden = LAYER.hidden[:1].expand(len(LAYER.hidden), -1)
    made = KroneckerPosterior.fit(CURVATURE, hidden, PRIOR, TEMPERATURE)
    weights = torch.linalg.inv(kronecker_sum(CURVATURE, hidden) / TEMPERATURE + PRIOR * IDENTITY)
    torch.testing.assert_close(made.output_covariance(LAYER.hidden), expected(weights))


def test_full_of_all_eigenpairs_is_the_dense_inverse() -> None:
    weights = torch.linalg.inv(kronecker_sum(CURVATURE, LAYER.hidden) / TEMPERATURE + PRIOR * IDENTITY)
    torch.testing.assert_close(POSTERIORS["full"]().output_covariance(LAYER.hidden), expected(weights))


def test_fewer_eigenpairs_leave_more_variance_between_full_and_prior() -> None:
    prior = expected(IDENTITY / PRIOR)
    covariances = [low_rank(rank).output_covariance(LAYER.hidden) for rank in (SIZE, 8, 2)] + [prior]
    for less, more in itertools.pairwise(covariances):
        assert torch.linalg.eigvalsh(more - less).min() > -1e-9


def test_hierarchical_is_a_shift_of_the_output() -> None:
    found = POSTERIORS["hierarchical"]().output_covariance(LAYER.hidden)
    torch.testing.assert_close(found, SCATTER.expand(len(LAYER.hidden), -1, -1))


@pytest.mark.parametrize("structure", ["diagonal", "kfac", "full"])
def test_without_data_it_is_the_prior_and_a_high_temperature_is_no_data(structure: Structure) -> None:
    nothing, prior = torch.zeros_like(CURVATURE), expected(IDENTITY / PRIOR)
    pairs = leading_eigenpairs(CURVATURE, LAYER.hidden, SIZE)
    for curvature, temperature in ((nothing, 1.0), (CURVATURE, 1e12)):
        made: Posterior
        if structure == "diagonal":
            made = DiagonalPosterior.fit(curvature, LAYER.hidden, PRIOR, temperature)
        elif structure == "kfac":
            made = KroneckerPosterior.fit(curvature, LAYER.hidden, PRIOR, temperature)
        else:
            values = pairs[0] * bool(curvature.any())
            made = LowRankPosterior.of_eigenpairs(values, pairs[1], PRIOR, temperature)
        torch.testing.assert_close(made.output_covariance(LAYER.hidden), prior)


def test_prior_of_a_model() -> None:
    made = LaplacePosteriors.prior(3, OUTPUTS, LAYER.hidden.shape[1] - 1, precision=PRIOR)
    assert len(made.tokens) == 3
    torch.testing.assert_close(made.tokens[2].output_covariance(LAYER.hidden), expected(IDENTITY / PRIOR))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_stored_and_read_again(structure: Structure, tmp_path: Path) -> None:
    made = LaplacePosteriors((POSTERIORS[structure](), POSTERIORS[structure]()))
    path = write_part(tmp_path / "part", "laplace", "a" * 64, made.tensors(), {"structure": structure})
    again = LaplacePosteriors.of_part(read_part(path, "laplace", "a" * 64))
    assert again.metadata["structure"] == structure
    assert len(again.tokens) == 2
    for token in again.tokens:
        assert type(token) is type(made.tokens[0])
        covariance = token.output_covariance(LAYER.hidden)
        assert covariance.dtype == torch.float64
        # Eigenvectors, the bulk of a file, are stored in single precision.
        precision = {"rtol": 1e-5, "atol": 1e-6} if structure == "full" else {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(covariance, made.tokens[0].output_covariance(LAYER.hidden), **precision)


@pytest.mark.parametrize(
    ("structure", "tensors"),
    [
        ("banded", {"token0.variance": torch.ones(2, 3)}),
        ("", {"token0.variance": torch.ones(2, 3)}),
        ("kfac", {"token0.variance": torch.ones(2, 3)}),
        ("diagonal", {"variance": torch.ones(2, 3)}),
        ("diagonal", {}),
    ],
)
def test_tensors_of_something_else_are_refused(structure: str, tensors: dict[str, Tensor]) -> None:
    part = Part("laplace", Path("some.safetensors"), tensors, {"structure": structure})
    with pytest.raises(CheckpointError, match="posterior"):
        LaplacePosteriors.of_part(part)


def test_a_posterior_comes_in_double_precision() -> None:
    made = posterior_from_tensors("diagonal", {"variance": torch.ones(2, 3)})
    assert made.tensors()["variance"].dtype == torch.float64
