"""The curvature of the last layer in closed form, against the Jacobian and the Hessian of the logits by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.estimators.laplace.curvature import CURVATURES, curvature_of, with_bias
from tests.last_layer import LastLayer, kronecker_sum

LAYER = LastLayer.draw(seed=3)


def jacobian(image: int, *, halved: bool) -> Tensor:
    """``(pixels, weights)`` of the logits of an image."""

    def logits(weight: Tensor) -> Tensor:
        f = LAYER.logits_of(weight, image)
        return F.interpolate(f[None, None], scale_factor=0.5, mode="bilinear").flatten() if halved else f.flatten()

    return torch.func.jacrev(logits)(LAYER.weight).reshape(-1, LAYER.weight.numel())


def test_bernoulli_is_the_gauss_newton_matrix_of_one_coin_per_pixel() -> None:
    expected = torch.zeros(LAYER.weight.numel(), LAYER.weight.numel(), dtype=torch.float64)
    for n, f in enumerate(LAYER.logits):
        p, rows = f.sigmoid().flatten(), jacobian(n, halved=False)
        expected += rows.mT @ torch.diag(p * (1 - p)) @ rows
    torch.testing.assert_close(kronecker_sum(LAYER.curvature("bernoulli"), LAYER.hidden), expected)


def test_bernoulli_is_the_hessian_of_the_likelihood_whatever_the_truth() -> None:
    """The logits are linear in the layer, so nothing is left out of the Hessian."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(LAYER.logits.shape, generator=generator, dtype=torch.float64)

    def loss(weight: Tensor) -> Tensor:
        logits = torch.stack([LAYER.logits_of(weight, n) for n in range(len(LAYER.hidden))])
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")

    size = LAYER.weight.numel()
    expected = torch.func.hessian(loss)(LAYER.weight).reshape(size, size)
    torch.testing.assert_close(kronecker_sum(LAYER.curvature("bernoulli"), LAYER.hidden), expected)


def test_softmax_is_one_outcome_among_the_pixels_of_the_halved_map() -> None:
    expected = torch.zeros(LAYER.weight.numel(), LAYER.weight.numel(), dtype=torch.float64)
    for n, f in enumerate(LAYER.logits):
        p = F.interpolate(f[None, None], scale_factor=0.5, mode="bilinear").flatten().softmax(0)
        rows = jacobian(n, halved=True)
        expected += rows.mT @ (torch.diag(p) - torch.outer(p, p)) @ rows
    torch.testing.assert_close(kronecker_sum(LAYER.curvature("softmax"), LAYER.hidden), expected)


@pytest.mark.parametrize("kind", CURVATURES)
def test_a_batch_in_single_precision(kind: str) -> None:
    single = curvature_of(kind, LAYER.logits.float(), LAYER.features.float())  # type: ignore[arg-type]
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, LAYER.curvature(kind), rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
    torch.testing.assert_close(single, single.mT)
    assert torch.linalg.eigvalsh(single).min() > -1e-6


def test_the_bias_is_an_input_of_one() -> None:
    hidden = with_bias(torch.tensor([[2.0, 3.0]]))
    assert hidden.dtype == torch.float64
    assert hidden.tolist() == [[2, 3, 1]]
