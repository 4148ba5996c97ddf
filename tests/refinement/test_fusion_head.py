"""The trained part of dense fusion: size, the start that changes nothing, SAM 2's mask encoder as a second route."""

from __future__ import annotations

import pytest
import torch

from napari_uncertsam.engine import build_model
from napari_uncertsam.errors import CheckpointError, InputError
from napari_uncertsam.refinement.fusion_head import FusionHead


@pytest.fixture(scope="module")
def bundled():
    from importlib.resources import files

    return build_model(str(files("napari_uncertsam") / "weights" / "bundled.yaml"))


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_sam_2_as_in_the_paper() -> None:
    head = FusionHead.of_model(build_model("configs/sam2.1/sam2.1_hiera_t.yaml"))
    assert count(head.encoder) == 4_684
    assert count(head.fusion) == 131_328
    assert count(head) == 136_012


def test_dimensions_are_the_models(bundled) -> None:
    head = FusionHead.of_model(bundled)
    assert count(head.encoder) == count(bundled.sam_prompt_encoder.mask_downscaling)
    assert count(head.fusion) == 128 * 256 + 128
    assert head(torch.randn(3, 128, 16, 16), torch.rand(3, 1, 64, 64)).shape == (3, 128, 16, 16)


def test_the_encoder_is_the_mask_encoder_with_weights_of_its_own(bundled) -> None:
    masks, theirs = torch.randn(2, 1, 64, 64), bundled.sam_prompt_encoder.mask_downscaling
    head = FusionHead.of_model(bundled)
    assert not torch.allclose(head.encoder(masks), theirs(masks), atol=1e-3)
    head.encoder.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(head.encoder(masks), theirs(masks))


def test_identity_passes_the_mask_through_and_learns(bundled) -> None:
    embedding, uncertainty = torch.randn(2, 128, 16, 16), torch.rand(2, 1, 64, 64)
    head = FusionHead.of_model(bundled)
    torch.testing.assert_close(head(embedding, uncertainty), embedding)
    assert not torch.allclose(FusionHead.of_model(bundled, "random")(embedding, uncertainty), embedding, atol=0.1)
    optimiser = torch.optim.SGD(head.parameters(), 0.1)
    for step in range(2):
        optimiser.zero_grad()
        (head(embedding, uncertainty) - uncertainty.mean()).square().mean().backward()
        gradient = head.encoder[0].weight.grad
        assert gradient is not None
        # The encoder is reached as soon as the fusion has opened to it: after the first step.
        assert bool(gradient.abs().sum() > 0) is (step == 1)
        optimiser.step()
    before, after = (head(embedding, u) for u in (uncertainty, uncertainty.flip(-1)))
    assert not torch.allclose(before, after)


def test_the_same_seed_gives_the_same_start_and_leaves_other_streams_alone(bundled) -> None:
    before = torch.random.get_rng_state()
    first, same, other = (FusionHead.of_model(bundled, "random", seed).state_dict() for seed in (3, 3, 4))
    FusionHead.of_tensors(first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["fusion.weight"], other["fusion.weight"])


def test_weights_come_back_and_others_are_refused() -> None:
    head = FusionHead(8, 4, "random")
    embedding, uncertainty = torch.randn(1, 8, 2, 2), torch.rand(1, 1, 8, 8)
    again = FusionHead.of_tensors(head.state_dict())
    torch.testing.assert_close(again(embedding, uncertainty), head(embedding, uncertainty))
    assert not any(p.requires_grad for p in again.parameters())
    for bad in ({}, {"encoder.6.weight": torch.zeros(8)}, {**head.state_dict(), "more": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match="not the weights of a dense fusion"):
            FusionHead.of_tensors(bad)
    with pytest.raises(InputError, match="no start 'zeros'"):
        FusionHead(8, 4, "zeros")  # type: ignore[arg-type]
