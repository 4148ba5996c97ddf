"""Training of the variance head: what it is told, that it learns to foresee errors, and that it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from napari_uncertsam.checkpoints import read_part
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.estimators.variance_head import VarianceHead
from napari_uncertsam.training import variance
from napari_uncertsam.training.frozen import Frozen
from napari_uncertsam.training.sources import TrainingData
from napari_uncertsam.training.steps import step_prompts
from napari_uncertsam.training.synthetic import Scene, make_scene
from napari_uncertsam.training.variance import fit_variance, paper_settings, variance_losses
from tests.tiny import SHA256, tiny_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Sam2Engine:
    return tiny_engine(tmp_path_factory.mktemp("model"), fallback=True)


class OneScene:
    """The same image every time, which can be learned by heart."""

    name = "one scene"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        return make_scene(torch.Generator().manual_seed(5), size)


DATA = TrainingData(OneScene(), OneScene())


def test_the_paper_s_settings() -> None:
    settings = paper_settings(seed=3)
    assert (settings.steps, settings.learning_rate, settings.weight_decay, settings.clip) == (17_500, 1e-4, 1e-4, 0.1)
    assert settings.seed == 3


def test_the_loss_by_hand(engine: Sam2Engine) -> None:
    frozen, scene = Frozen(engine), OneScene().draw(torch.Generator(), 64)
    head = VarianceHead.of_model(engine.model)
    features = frozen.embed(scene.image)
    losses = list(variance_losses(head, frozen)(features, scene.masks, torch.Generator().manual_seed(1)))
    assert len(losses) == 8
    for loss, prompts in zip(losses, step_prompts(scene.masks, torch.Generator().manual_seed(1)), strict=True):
        with torch.no_grad():
            decoded = frozen.decode(features, prompts)
            every = head(decoded.source, decoded.token_embedding)
            picked = torch.stack([maps[token] for maps, token in zip(every, decoded.token, strict=True)])
            f, s = (F.interpolate(v[None], (64, 64), mode="bilinear")[0] for v in (decoded.logits, picked))
            total = sum(
                0.5 * (torch.exp(-s[k]) * (torch.sigmoid(f[k]) - mask.float()) ** 2 + s[k]).mean()
                for k, mask in enumerate(scene.masks)
            )
        assert loss.item() == pytest.approx(float(total) / len(scene.masks), rel=1e-4)
    sum(losses).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in head.parameters())


def test_it_learns_where_the_mask_is_wrong(tmp_path: Path) -> None:
    """The bundled model, whose masks are wrong in places and not everywhere as those of random weights."""
    engine = Sam2Engine.load("bundled", device="cpu")
    frozen, scene = Frozen(engine), OneScene().draw(torch.Generator(), engine.resolution)
    path = fit_variance(engine, DATA, paper_settings(steps=15, learning_rate=3e-3, validate_every=100), tmp_path)
    part = read_part(path, "variance", engine.sha256)
    assert json.loads(part.metadata["settings"])["steps"] == 15
    assert (part.metadata["images"], part.metadata["steps"]) == ("one scene", "15")
    [prompts] = step_prompts(scene.masks, torch.Generator().manual_seed(7), steps=1)
    with torch.no_grad():
        decoded = frozen.decode(frozen.embed(scene.image), prompts)
        error = (decoded.logits.sigmoid() - F.avg_pool2d(scene.masks[:, None].float(), 4)[:, 0]).square()
        heads = (VarianceHead.of_model(engine.model), VarianceHead.of_tensors(part.tensors))
        before, after = (
            float(torch.corrcoef(torch.stack([h.of_chosen(decoded).exp().flatten(), error.flatten()]))[0, 1])
            for h in heads
        )
    assert after > 0.3
    assert after > before + 0.2


def test_an_interrupted_fit_gives_the_same_part(
    engine: Sam2Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = paper_settings(steps=4, validate_every=2)
    whole = fit_variance(engine, DATA, settings, tmp_path / "whole")
    calls, loss = iter(range(100)), variance.heteroscedastic_loss

    def interrupted(*arguments: torch.Tensor) -> torch.Tensor:
        if next(calls) == 20:  # in the third step
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(variance, "heteroscedastic_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_variance(engine, DATA, settings, tmp_path / "parts")
    monkeypatch.undo()
    resumed = fit_variance(engine, DATA, settings, tmp_path / "parts")
    one, two = (read_part(path, "variance", SHA256).tensors for path in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
