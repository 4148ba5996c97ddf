"""Losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from napari_uncertsam.training.losses import balanced_bce, focal_loss, hard_iou, heteroscedastic_loss, soft_dice_loss


def test_plain_cross_entropy_is_the_mean_over_pixels() -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 0.0]]])
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.5]]])
    by_hand = (math.log(2) + math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log(2)) / 4
    assert balanced_bce(logits, target, 0).tolist() == pytest.approx([by_hand])


def test_balanced_cross_entropy_gives_object_and_background_the_same_weight() -> None:
    target = torch.zeros(1, 10, 10)
    target[0, 0, :4] = 1
    logits = torch.full((1, 10, 10), -2.0)  # all background
    inside, outside = math.log1p(math.exp(2)), math.log1p(math.exp(-2))
    assert balanced_bce(logits, target, 1).item() == pytest.approx((inside + outside) / 2)
    plain = 0.04 * inside + 0.96 * outside
    assert balanced_bce(logits, target, 0).item() == pytest.approx(plain)
    mixed = 0.3 * (inside + outside) / 2 + 0.7 * plain
    assert balanced_bce(logits, target, 0.3).item() == pytest.approx(mixed)


def test_one_target_for_several_masks() -> None:
    logits = torch.stack([torch.full((3, 4, 4), 1.0), torch.full((3, 4, 4), -1.0)])  # (n, t, h, w)
    target = torch.ones(2, 1, 4, 4)
    for balance in (0, 0.5, 1):
        assert balanced_bce(logits, target, balance).shape == (2, 3)
    loss = balanced_bce(logits, target, 0)
    assert torch.allclose(loss[0], torch.full((3,), math.log1p(math.exp(-1))))
    assert torch.allclose(loss[1], torch.full((3,), math.log1p(math.exp(1))))


def test_plain_cross_entropy_is_smallest_at_the_true_probability() -> None:
    target = torch.full((1, 2, 2), 0.3)
    best = torch.full((1, 2, 2), math.log(0.3 / 0.7))
    losses = [balanced_bce(best + shift, target, 0).item() for shift in (-0.5, 0.0, 0.5)]
    assert losses[1] == min(losses)


def test_soft_dice_in_closed_form() -> None:
    target = torch.zeros(2, 4, 4)
    target[0, :2] = 1
    zero = torch.zeros(2, 4, 4)  # P = 1/2 everywhere
    first, second = soft_dice_loss(zero, target).tolist()
    assert first == pytest.approx(1 - (2 * 4 + 1) / (8 + 8 + 1))
    assert second == pytest.approx(1 - 1 / (8 + 1))
    assert soft_dice_loss(80 * (target - 0.5), target).tolist() == pytest.approx([0, 0], abs=1e-6)
    wrong = soft_dice_loss(-80 * (target - 0.5), target)
    assert torch.allclose(wrong, torch.tensor([1 - 1 / 17, 1 - 1 / 17]))


def test_hard_iou_counts_pixels() -> None:
    truth = torch.zeros(3, 4, 4)
    truth[0, :, :2] = 1
    truth[1, :, :2] = 1
    logits = torch.full((3, 4, 4), -1.0)
    logits[0, :, 1:3] = 1
    assert hard_iou(logits, truth).tolist() == pytest.approx([4 / 12, 0, 0])
    several = hard_iou(logits[:, None].expand(3, 2, 4, 4), truth[:, None])
    assert several.shape == (3, 2)


def test_losses_can_be_descended() -> None:
    target = (torch.arange(64).reshape(1, 8, 8) % 3 == 0).float()
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    (balanced_bce(logits, target, 0.5) + soft_dice_loss(logits, target)).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad < 0, target > 0)


def test_focal_loss_by_two_other_routes() -> None:
    from monai.losses import FocalLoss
    from torchvision.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(5, 6, 7, generator=generator, dtype=torch.float64)
    target = (torch.rand(5, 6, 7, generator=generator) < 0.4).double()
    for alpha, gamma in ((0.25, 2.0), (0.7, 0.5)):
        ours = focal_loss(logits, target, alpha, gamma)
        theirs = sigmoid_focal_loss(logits, target, alpha, gamma).mean((-2, -1))
        torch.testing.assert_close(ours, theirs)
        monai = FocalLoss(alpha=alpha, gamma=gamma, reduction="none")(logits[:, None], target[:, None])
        torch.testing.assert_close(ours, monai[:, 0].mean((-2, -1)).double(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(focal_loss(logits, target, 0.5, 0.0), balanced_bce(logits, target, 0) / 2)


def test_focal_loss_has_a_gradient_where_it_is_certain() -> None:
    logits = torch.tensor([[-80.0, 80.0, 0.0]], requires_grad=True)
    focal_loss(logits[None], torch.tensor([[1.0, 1.0, 1.0]])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].tolist() == pytest.approx([-0.25 / 3, 0, -0.25 / 3 * (0.25 * 0.5 + math.log(2) * 0.25)])


def test_heteroscedastic_loss_is_the_gaussian_likelihood() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, s = (3 * torch.randn(4, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    target = (torch.rand(4, 5, 6, generator=generator) < 0.5).double()
    torchs = torch.nn.functional.gaussian_nll_loss(logits.sigmoid(), target, s.exp(), eps=1e-12, reduction="none")
    torch.testing.assert_close(heteroscedastic_loss(logits, s, target), torchs.mean((-2, -1)))
    normal = torch.distributions.Normal(logits.sigmoid(), (s / 2).exp())
    likelihood = -normal.log_prob(target).mean((-2, -1)) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(heteroscedastic_loss(logits, s, target), likelihood)


def test_the_best_log_variance_is_that_of_the_squared_error() -> None:
    logits, target = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 0.0]])
    s = torch.zeros(1, 2, requires_grad=True)
    best = (logits.sigmoid() - target).square().log()
    heteroscedastic_loss(logits, best + s, target).sum().backward()
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-6
