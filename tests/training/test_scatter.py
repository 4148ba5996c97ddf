"""The scatter of the last layer between images, on images that were made with a known one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.training.scatter import fit_scatter, posterior_of_shift

OUTPUTS = 3
SCATTER = torch.tensor([[1.5, 0.6, 0.0], [0.6, 0.8, -0.3], [0.0, -0.3, 0.4]], dtype=torch.float64)


def images(n: int, pixels: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, features and truths of images whose layer is shifted by e ``(n, K)``."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, OUTPUTS, pixels, generator=generator)
    e = torch.randn(n, OUTPUTS, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(SCATTER).mT
    logits = (torch.randn(n, 1, OUTPUTS, generator=generator) @ u)[:, 0]
    p = (logits + (e.float()[:, None] @ u)[:, 0]).sigmoid()
    return logits, u, (torch.rand(p.shape, generator=generator) < p).float(), e


def test_the_scatter_that_images_were_made_with() -> None:
    logits, u, truth, e = images(500, 400)
    found = fit_scatter(logits, u, truth, 1.0)
    drawn = e.mT @ e / len(e)
    assert (found - found.mT).abs().max() == 0
    # Of the shifts that were drawn, up to the pixels' noise; of the scatter behind them, up to that of 500 draws.
    torch.testing.assert_close(found, drawn, atol=0.06, rtol=0.0)
    torch.testing.assert_close(found, SCATTER, atol=4 * float(SCATTER.max()) * (2 / 500) ** 0.5, rtol=0.0)


def test_without_a_difference_between_images_the_scatter_shrinks() -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(200, OUTPUTS, 300, generator=generator)
    logits = torch.randn(200, 300, generator=generator)
    truth = (torch.rand(logits.shape, generator=generator) < logits.sigmoid()).float()
    sizes = [torch.linalg.eigvalsh(fit_scatter(logits, u, truth, 1.0, rounds=rounds)).max() for rounds in (1, 4, 16)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 0.02


def test_half_precision_features_and_another_start_come_to_the_same() -> None:
    logits, u, truth, _ = images(150, 400)
    found = fit_scatter(logits, u, truth, 1.0, rounds=12)
    torch.testing.assert_close(fit_scatter(logits, u.half(), truth, 1.0, rounds=12), found, atol=0.01, rtol=0.01)
    start = 0.2 * torch.eye(OUTPUTS, dtype=torch.float64)
    torch.testing.assert_close(fit_scatter(logits, u, truth, 1.0, start=start, rounds=12), found, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("weight", [1.0, 0.03, 20.0])
def test_the_mode_is_stationary_and_the_covariance_is_the_inverse_hessian(weight: float) -> None:
    logits, u, truth, _ = images(70, 200, seed=1)  # more than one chunk of a fit
    precision = torch.linalg.inv(SCATTER)
    mode, covariance = posterior_of_shift(logits, u, truth, precision, weight)
    assert (mode.shape, covariance.shape) == ((70, OUTPUTS), (70, OUTPUTS, OUTPUTS))
    for n in (0, 33, 69):

        def objective(e: Tensor, n: int = n) -> Tensor:
            f = logits[n].double() + e @ u[n].double()
            loss = F.binary_cross_entropy_with_logits(f, truth[n].double(), reduction="sum")
            return weight * loss + 0.5 * e @ precision @ e

        start, there = (torch.func.grad(objective)(e).norm() for e in (torch.zeros_like(mode[n]), mode[n]))
        assert there < 1e-4 * start
        hessian = torch.func.hessian(objective)(mode[n])
        torch.testing.assert_close(covariance[n], torch.linalg.inv(hessian), rtol=1e-3, atol=1e-6)


def test_steps_that_would_overshoot_are_halved() -> None:
    """Very sure and wrong: the curvature is next to nothing, and a full step would leap far beyond."""
    u = torch.ones(2, 1, 50)
    logits, truth = torch.tensor([[12.0], [-12.0]]).expand(2, 50), torch.tensor([[0.0], [1.0]]).expand(2, 50)
    precision = torch.tensor([[0.01]], dtype=torch.float64)
    mode, covariance = posterior_of_shift(logits.contiguous(), u, truth.contiguous(), precision, 1.0)

    def value(e: float) -> float:
        loss = F.binary_cross_entropy_with_logits(
            torch.tensor(12.0 + e, dtype=torch.float64), torch.tensor(0.0).double()
        )
        return float(50 * loss + 0.005 * e * e)

    assert value(float(mode[0])) < value(0)
    assert float(mode[0]) == pytest.approx(-float(mode[1]), rel=1e-2)
    assert float(mode[0]) < -8
    assert torch.isfinite(covariance).all()
    assert (covariance > 0).all()
