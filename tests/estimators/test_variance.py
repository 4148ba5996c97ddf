"""The variance network: its head against the mathematics, and the estimator on the fake engine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_uncertsam.checkpoints import CACHE_VARIABLE, install_part, write_part
from napari_uncertsam.engine import build_model
from napari_uncertsam.errors import CheckpointError
from napari_uncertsam.estimators.entropy import Entropy
from napari_uncertsam.estimators.measures import uncertainty_of
from napari_uncertsam.estimators.variance import VarianceNetwork
from napari_uncertsam.estimators.variance_head import VarianceHead
from napari_uncertsam.prompts import Box, Prompts
from tests.fakes import CHANNELS, SOURCE, TOKENS, FakeEngine, scene

PROMPTS = Prompts(box=Box(40, 34, 87, 97))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def head(seed: int = 0) -> VarianceHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VarianceHead(SOURCE, 3, CHANNELS, TOKENS)


def install(engine: FakeEngine, folder: Path, trained: VarianceHead) -> Path:
    path = write_part(folder / "variance.safetensors", "variance", engine.sha256, trained.state_dict(), {})
    return install_part(path, "variance", engine.sha256)


def test_parameters_are_the_paper_s() -> None:
    config = "configs/sam2.1/sam2.1_hiera_t.yaml"
    made = VarianceHead.of_model(build_model(config))
    assert sum(p.numel() for p in made.upscaling.parameters()) == 166_112
    assert sum(p.numel() for p in made.hypernetworks.parameters()) == 559_232
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == 725_344


def test_the_start_is_the_paper_s_and_follows_from_the_seed() -> None:
    torch.manual_seed(0)
    made = VarianceHead(256, 64, 32, 4)
    for network in made.hypernetworks:
        for layer in (m for m in network if isinstance(m, nn.Linear)):
            assert not layer.bias.any()
            assert layer.weight.std().item() == pytest.approx((2 / layer.out_features) ** 0.5, rel=0.05)
    from importlib.resources import files

    model = build_model(str(files("napari_uncertsam") / "weights" / "bundled.yaml"))
    before = torch.get_rng_state()
    one, same, other = (VarianceHead.of_model(model, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["upscaling.1.weight"], other["upscaling.1.weight"])
    assert one["upscaling.1.weight"].shape[0] * 2 == one["upscaling.1.weight"].shape[1] // 2  # C / 4 of the model's C


def test_the_head_by_hand() -> None:
    made = head().double()
    generator = torch.Generator().manual_seed(1)
    source, token = (
        torch.randn(2, SOURCE, 4, 5, generator=generator),
        torch.randn(2, TOKENS, SOURCE, generator=generator),
    )
    source, token = source.double(), token.double()
    weights = made.state_dict()

    def enlarged(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    x = F.conv2d(enlarged(source), weights["upscaling.1.weight"], weights["upscaling.1.bias"], padding=1)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    x = F.conv2d(enlarged(F.gelu(x)), weights["upscaling.5.weight"], weights["upscaling.5.bias"], padding=1)
    u = F.gelu(x)
    got = made(source, token)
    assert got.shape == (2, TOKENS, 16, 20)
    for t in range(TOKENS):
        z = token[:, t]
        for k in (0, 2, 4):
            z = z @ weights[f"hypernetworks.{t}.{k}.weight"].T + weights[f"hypernetworks.{t}.{k}.bias"]
            z = z.relu() if k < 4 else z
        expected = (z[:, :, None, None] * u).sum(1).clamp(-5, 5)
        torch.testing.assert_close(got[:, t], expected)


def test_log_variances_are_clamped() -> None:
    maps = head()(100 * torch.randn(1, SOURCE, 4, 4), 100 * torch.randn(1, TOKENS, SOURCE))
    assert (maps.min().item(), maps.max().item()) == (-5, 5)


def test_weights_go_through_a_file() -> None:
    made = head()
    read = VarianceHead.of_tensors(made.state_dict())
    source, token = torch.randn(1, SOURCE, 4, 4), torch.randn(1, TOKENS, SOURCE)
    torch.testing.assert_close(read(source, token), made(source, token))
    assert not any(p.requires_grad for p in read.parameters())
    for broken in ({}, {"upscaling.1.weight": torch.zeros(3)}, {**made.state_dict(), "more": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match="fit it again"):
            VarianceHead.of_tensors(broken)


def test_the_mask_is_the_model_s_and_the_variance_the_head_s(tmp_path: Path) -> None:
    engine, trained = FakeEngine(), head()
    install(engine, tmp_path, trained)
    embedding, estimator = engine.embed(scene()[0]), VarianceNetwork()
    belief, again = (estimator.estimate(engine, embedding, PROMPTS, np.random.default_rng(k)) for k in range(2))
    plain = Entropy().estimate(engine, embedding, PROMPTS, np.random.default_rng(0))
    np.testing.assert_array_equal(belief.logits(), plain.logits())
    assert belief.predicted_iou == plain.predicted_iou
    decoded = engine.decode(embedding, [PROMPTS])
    with torch.no_grad():
        s = trained(decoded.source, decoded.token_embedding)[0, 0].numpy()
    np.testing.assert_allclose(belief.standard_deviation(), np.exp(s / 2), rtol=1e-5)
    np.testing.assert_allclose(uncertainty_of(belief, "log-variance"), s + 5, atol=1e-5)
    np.testing.assert_array_equal(uncertainty_of(belief, "std"), uncertainty_of(again, "std"))


def test_the_chosen_token_has_its_own_map() -> None:
    trained, engine = head(), FakeEngine()
    decoded = engine.decode(engine.embed(scene()[0]), [PROMPTS, PROMPTS])
    mixed = type(decoded)(**{**vars(decoded), "token": torch.tensor([2, 0])})
    with torch.no_grad():
        every, chosen = trained(decoded.source, decoded.token_embedding), trained.of_chosen(mixed)
    torch.testing.assert_close(chosen, torch.stack([every[0, 2], every[1, 0]]))


def test_a_missing_head_is_a_sentence_before_anything_is_decoded() -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    with pytest.raises(CheckpointError, match=r"fit variance --model fake --install"):
        VarianceNetwork().estimate(engine, embedding, PROMPTS, np.random.default_rng(0))
    assert engine.decode_calls == 0


def test_a_head_is_read_once_and_again_when_it_was_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_uncertsam.estimators import fitted

    reads: list[Path] = []
    read = fitted.read_part
    monkeypatch.setattr(fitted, "read_part", lambda path, *rest: reads.append(path) or read(path, *rest))
    engine, estimator = FakeEngine(), VarianceNetwork()
    embedding = engine.embed(scene()[0])
    where = install(engine, tmp_path, head(0))
    maps = [estimator.estimate(engine, embedding, PROMPTS, np.random.default_rng(0)).standard_deviation()]
    maps.append(estimator.estimate(engine, embedding, PROMPTS, np.random.default_rng(0)).standard_deviation())
    assert len(reads) == 1
    install(engine, tmp_path, head(1))
    os.utime(where, ns=(1, 1))  # another time, however coarse the clock
    maps.append(estimator.estimate(engine, embedding, PROMPTS, np.random.default_rng(0)).standard_deviation())
    assert len(reads) == 2
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_the_head_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    engine, other = FakeEngine(), FakeEngine()
    other.sha256 = "0" * 64
    path = install(other, tmp_path, head())
    from napari_uncertsam.checkpoints.parts import installed_path

    target = installed_path("variance", engine.sha256)
    target.parent.mkdir(parents=True)
    target.write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="another checkpoint"):
        VarianceNetwork().estimate(engine, engine.embed(scene()[0]), PROMPTS, np.random.default_rng(0))
