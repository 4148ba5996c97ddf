"""The loss of an interaction: which prompts, which parts, at any size of scene."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from napari_uncertsam.engine import build_model, image_features, normalise
from napari_uncertsam.training import interactive
from napari_uncertsam.training.feeding import Batch
from napari_uncertsam.training.interactive import (
    FORMS,
    Weights,
    answer,
    decode_all_tokens,
    groups,
    interactive_loss,
    mask_loss,
)
from napari_uncertsam.training.schedule import PromptBatch
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    return build_model(tiny_config(tmp_path_factory.mktemp("model"))).train()


def batch(size: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    truths = torch.zeros(2, 4, size, size, dtype=torch.bool)
    for k in range(4):
        truths[:, k, 8 * k // 2 : 20 + 6 * k, 10 : 30 + 5 * k] = True
    return Batch(torch.rand(2, 3, size, size, generator=generator), truths)


@pytest.mark.parametrize("size", [32, 64, 96])
@pytest.mark.parametrize("fed", [False, True])
def test_scenes_of_any_size_are_decoded(model: Any, size: int, fed: bool) -> None:
    features = image_features(model, normalise(batch(size).images))
    prompts = PromptBatch(torch.rand(2, 2, 2) * size, torch.tensor([[2, 3]] * 2, dtype=torch.int32))
    mask = torch.zeros(2, 1, size // 4, size // 4) if fed else None
    logits, iou, score = decode_all_tokens(model, features, prompts, mask)
    assert logits.shape == (2, 4, size // 4, size // 4)
    assert iou.shape == (2, 4)
    assert score.shape == (2, 1)


def test_at_the_models_own_size_the_numbers_are_those_of_the_engine(model: Any) -> None:
    features = image_features(model, normalise(batch().images))
    prompts = PromptBatch(torch.rand(2, 2, 2) * 64, torch.tensor([[2, 3]] * 2, dtype=torch.int32))
    encoder = model.sam_prompt_encoder
    sparse, dense = encoder(points=(prompts.coordinates, prompts.labels), boxes=None, masks=None)
    expected = model.sam_mask_decoder.predict_masks(
        features[-1], encoder.get_dense_pe(), sparse, dense, False, features[:-1]
    )[0]
    assert torch.equal(decode_all_tokens(model, features, prompts, None)[0], expected)


def test_the_loss_of_a_batch_follows_from_the_generator_and_reaches_what_it_trains(model: Any) -> None:
    def parts() -> list[tuple[torch.Tensor, list[float]]]:
        generator = torch.Generator().manual_seed(2)
        return list(interactive_loss(model, batch(), 3, Weights(0.5, 1.0), generator))

    one, other = parts(), parts()
    assert [p[0].item() for p in one] == [p[0].item() for p in other]
    assert len(one) == 2  # boxes, and one of the other forms
    assert all(len(quality) == 3 and all(0 <= q <= 1 for q in quality) for _, quality in one)
    model.zero_grad()
    torch.stack([p[0] for p in one]).sum().backward()
    used = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    for part in ("image_encoder.trunk", "image_encoder.neck", "sam_prompt_encoder", "sam_mask_decoder"):
        assert any(name.startswith(part) for name in used), part
    assert not any(name.startswith(("memory_attention", "memory_encoder", "obj_ptr")) for name in used)


def test_every_correction_is_a_point_where_the_mask_before_was_wrong(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[PromptBatch, torch.Tensor]] = []
    decode = interactive.decode_all_tokens

    def watched(*arguments: Any) -> Any:
        outputs = decode(*arguments)
        full = torch.nn.functional.interpolate(outputs[0][:, :1], (32, 32), mode="bilinear")[:, 0]
        seen.append((arguments[2], full > 0))
        return outputs

    monkeypatch.setattr(interactive, "decode_all_tokens", watched)
    truth = batch().truths[0]
    features = [f[:1].repeat_interleave(4, 0) for f in image_features(model, normalise(batch().images))]
    answer(model, features, truth, "point", 4, Weights(), torch.Generator().manual_seed(1))
    halved = torch.nn.functional.avg_pool2d(truth[:, None].float(), 2)[:, 0] > 0.5
    for (_, mask), (prompts, _) in pairwise(seen):
        for k in range(4):
            x, y = ((prompts.coordinates[k, -1] - 0.5) / 2).long().tolist()
            assert bool(halved[k, y, x]) == bool(prompts.labels[k, -1])
            if (mask[k] != halved[k]).any():
                assert mask[k, y, x] != halved[k, y, x]
    assert [p.labels.shape[1] for p, _ in seen] == [1, 2, 3, 4]


def test_a_right_mask_costs_nothing_and_a_wrong_one_does() -> None:
    target = torch.zeros(1, 32, 32)
    target[:, 8:24, 8:24] = 1
    small = torch.nn.functional.interpolate(target[:, None], (16, 16), mode="area")
    right = 40 * (small - 0.5).expand(1, 4, 16, 16)
    sure = torch.full((1, 1), 40.0)
    good = mask_loss((right, torch.ones(1, 4), sure), target, Weights())
    bad = mask_loss((-right, torch.zeros(1, 4), sure), target, Weights())
    assert good.item() < 0.5 < bad.item()
    # The best of the other tokens counts: one right among wrong ones is enough.
    mixed = right.clone()
    mixed[:, 2:] *= -1
    one_of_many = mask_loss((mixed, torch.tensor([[1.0, 1.0, 0.0, 0.0]]), sure), target, Weights())
    assert one_of_many.item() == pytest.approx(good.item(), abs=1e-4)


def test_half_of_the_prompts_are_boxes() -> None:
    generator = torch.Generator().manual_seed(0)
    assert list(groups(4, True, generator)) == [(slice(0, 4), "box")]
    forms = [list(groups(4, False, generator)) for _ in range(300)]
    assert all(first == (slice(0, 2), "box") and second[0] == slice(2, 4) for first, second in forms)
    share = sum(second[1] == "point" for _, second in forms) / 300
    assert share == pytest.approx(FORMS["point"], abs=0.1)
