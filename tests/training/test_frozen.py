"""The frozen model in training: as the engine decodes, gradients only where asked, and heads fitted on top."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.training.frozen import Frozen, fit_head, metadata_of
from napari_uncertsam.training.loop import LoopSettings
from napari_uncertsam.training.schedule import PromptBatch
from napari_uncertsam.training.sources import synthetic_data
from tests.tiny import SHA256, tiny_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Sam2Engine:
    return tiny_engine(tmp_path_factory.mktemp("model"), fallback=True)


BATCH = PromptBatch(
    torch.tensor([[[5.0, 7.0], [40.0, 50.0], [20.0, 30.0]], [[1.0, 2.0], [60.0, 61.0], [3.0, 3.0]]]),
    torch.tensor([[2, 3, 1], [2, 3, 0]], dtype=torch.int32),
)


def test_a_batch_decodes_as_the_same_prompts_of_a_user(engine: Sam2Engine) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    frozen = Frozen(engine)
    features = frozen.embed(torch.as_tensor(image).movedim(-1, 0) / 255)
    ours = frozen.decode(features, BATCH)
    prompts = [
        Prompts((Point(30, 20),), Box(7, 5, 50, 40)),
        Prompts((Point(3, 3, positive=False),), Box(2, 1, 61, 60)),
    ]
    theirs = engine.decode(engine.embed(image), prompts)
    for name, value in vars(theirs).items():
        torch.testing.assert_close(getattr(ours, name), value, msg=name)


def test_gradients_reach_the_mask_and_what_changes_the_dense_embedding(engine: Sam2Engine) -> None:
    frozen = Frozen(engine)
    features = frozen.embed(torch.rand(3, 64, 64))
    assert not any(f.requires_grad for f in features)
    masks = torch.randn(2, 1, 16, 16, requires_grad=True)
    scale = torch.ones((), requires_grad=True)
    decoded = frozen.decode(features, BATCH, masks, dense=lambda dense: scale * dense)
    (decoded.logits.sum() + decoded.iou.sum()).backward()
    assert masks.grad is not None
    assert masks.grad.abs().sum() > 0
    assert scale.grad is not None
    assert not any(p.requires_grad or p.grad is not None for p in engine.model.parameters())
    with torch.no_grad():
        assert not frozen.decode(features, BATCH).logits.requires_grad


def test_a_head_is_fitted_with_its_images_and_model_in_the_stamp(engine: Sam2Engine, tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []
    head = nn.Conv2d(16, 1, 1)

    def losses(features: tuple[Tensor, ...], truth: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        seen.append(tuple(truth.shape))
        yield (head(features[0][:, :16]).mean() - truth.float().mean()).square()

    settings, data = LoopSettings(steps=3, validate_every=2, learning_rate=0.01), synthetic_data()
    options = {"stamp": {"head": "mean"}, "validation_images": 2}
    trained = fit_head(head, Frozen(engine), losses, data, settings, tmp_path, **options)
    assert len(seen) == 3 + 2 * 2
    assert all(1 <= shape[0] <= 32 and shape[1:] == (64, 64) for shape in seen)
    assert seen[2:4] == seen[5:7]  # the same images for every validation
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]
    assert state["stamp"]["checkpoint_sha256"] == SHA256
    assert state["stamp"]["images"] == "synthetic scenes"
    metadata = metadata_of(trained, settings, data, engine)
    assert json.loads(metadata["settings"])["learning_rate"] == 0.01
    assert {"steps", "model", "images", "validation_loss", "torch"} <= set(metadata)
    other = Sam2Engine(engine.model, "other", "0" * 64, device="cpu")
    with pytest.raises(InputError, match="checkpoint_sha256"):
        fit_head(head, Frozen(other), losses, data, settings, tmp_path, **options)
