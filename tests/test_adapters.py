"""The MPA adapter: sizes of the papers' models, nothing changed at the start, hooks against the block by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor, nn

from napari_uncertsam.adapters import Adapter, AdapterSettings, EncoderAdapters, MpaAdapter, attach
from napari_uncertsam.checkpoints import read_part, write_part
from napari_uncertsam.engine import Sam2Engine, config_path
from napari_uncertsam.errors import CheckpointError, InputError
from napari_uncertsam.prompts import Box, Point, Prompts
from tests.fakes import scene
from tests.tiny import SHA256, tiny_engine

PROMPTS = [Prompts(box=Box(5, 6, 40, 50)), Prompts((Point(20, 30), Point(2, 3, positive=False)))]
PAPER = AdapterSettings(init="paper")


@pytest.fixture(scope="module", params=[True, False], ids=["hiera", "convolutions"])
def engine(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Sam2Engine:
    return tiny_engine(tmp_path_factory.mktemp("model"), hiera=request.param)


@pytest.fixture(scope="module")
def hiera(tmp_path_factory: pytest.TempPathFactory) -> Sam2Engine:
    return tiny_engine(tmp_path_factory.mktemp("hiera"), hiera=True)


def logits(engine: Sam2Engine) -> Tensor:
    return engine.decode(engine.embed(scene(96, 80)[0]), PROMPTS).token_logits


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_an_adapter_of_vit_b_has_the_paper_s_size() -> None:
    assert count(Adapter(768)) == 295_872
    assert count(EncoderAdapters([768] * 12)) == 7_100_928


@pytest.mark.parametrize(
    ("letter", "parameters"), [("t", 2_306_544), ("s", 2_900_208), ("b+", 5_822_208), ("l", 17_859_888)]
)
def test_sizes_for_sam_2_1(letter: str, parameters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = OmegaConf.load(config_path(f"configs/sam2.1/sam2.1_hiera_{letter}.yaml"))
    # Nothing is allocated; Hiera reads one small list back, which a tensor without memory cannot give.
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        trunk = instantiate(config.model.image_encoder.trunk)
        adapters = EncoderAdapters([block.dim_out for block in trunk.blocks])
    assert count(adapters) == parameters


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_at_the_start_the_model_is_as_it_was(engine: Sam2Engine, activation: str) -> None:
    before = logits(engine)
    settings = AdapterSettings("zero", activation)  # type: ignore[arg-type]
    with attach(engine.model, MpaAdapter.of_model(engine.model, settings)):
        assert torch.equal(logits(engine), before)


def test_the_bundled_model_is_as_it_was() -> None:
    engine = Sam2Engine.load("bundled", device="cpu")
    before = logits(engine)
    with attach(engine.model, MpaAdapter.of_model(engine.model)):
        assert torch.equal(logits(engine), before)


def test_detaching_gives_the_model_back(engine: Sam2Engine) -> None:
    before, names, encoder = logits(engine), list(engine.model.state_dict()), engine.model.sam_prompt_encoder
    attached = attach(engine.model, MpaAdapter.of_model(engine.model, PAPER))
    assert not torch.allclose(logits(engine), before)
    assert engine.model.sam_prompt_encoder is not encoder
    attached.detach()
    attached.detach()
    assert torch.equal(logits(engine), before)
    assert engine.model.sam_prompt_encoder is encoder
    assert list(engine.model.state_dict()) == names
    assert not any(module._forward_hooks for module in engine.model.image_encoder.trunk.modules())


def by_hand(block: nn.Module, first: nn.Module, second: nn.Module, scale: float, x: Tensor) -> Tensor:
    """A block of the trunk with adapters where the paper draws them: Adapter 1 after the windows are put together."""
    from sam2.modeling.backbones.hieradet import do_pool
    from sam2.modeling.backbones.utils import window_partition, window_unpartition

    shortcut, x = x, block.norm1(x)
    if block.dim != block.dim_out:
        shortcut = do_pool(block.proj(x), block.pool)
    size, (height, width) = block.window_size, x.shape[1:3]
    if size:
        x, padded = window_partition(x, size)
    x = block.attn(x)
    if block.q_stride:
        size, (height, width) = size // block.q_stride[0], shortcut.shape[1:3]
        padded = tuple(n + (size - n % size) % size for n in (height, width)) if size else None
    if block.window_size:
        x = window_unpartition(x, size, padded, (height, width))
    x = shortcut + first(x)
    n = block.norm2(x)
    return x + block.mlp(n) + scale * second(n)


@pytest.mark.parametrize("size", [(16, 16), (12, 20)], ids=["whole windows", "windows that are padded"])
def test_every_block_is_as_drawn(hiera: Sam2Engine, size: tuple[int, int]) -> None:
    mpa = MpaAdapter.of_model(hiera.model, PAPER)
    generator = torch.Generator().manual_seed(0)
    trunk = hiera.model.image_encoder.trunk
    x = torch.randn(1, *size, 8, generator=generator)
    with torch.no_grad():
        for block, first, second in zip(trunk.blocks, mpa.encoder.attention, mpa.encoder.mlp, strict=True):
            wanted = by_hand(block, first, second, 0.5, x)
            with attach(hiera.model, mpa):
                x = block(x)
            torch.testing.assert_close(x, wanted)
    assert x.shape[-1] == trunk.blocks[-1].dim_out


def test_every_block_of_convolutions_has_one_on_its_branch_and_one_beside_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    engine = tiny_engine(tmp_path_factory.mktemp("model"))
    trunk, mpa = engine.model.image_encoder.trunk, MpaAdapter.of_model(engine.model, PAPER)
    x = torch.randn(1, 32, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block, first, second in zip(trunk.blocks, mpa.encoder.attention, mpa.encoder.mlp, strict=True):
            last = x.movedim(1, -1)
            wanted = first(block.layers(x).movedim(1, -1))
            wanted = wanted + last + 0.5 * second(last) if block.residual else wanted
            with attach(engine.model, mpa):
                x = block(x)
            torch.testing.assert_close(x, wanted.movedim(-1, 1))
    assert {block.residual for block in trunk.blocks} == {True, False}


@given(height=st.integers(1, 9), width=st.integers(1, 9), skip=st.booleans(), settings=st.sampled_from([PAPER, None]))
def test_an_adapter_is_pointwise(height: int, width: int, skip: bool, settings: AdapterSettings | None) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        adapter, x = Adapter(8, skip=skip, settings=settings), torch.randn(2, height, width, 8)
    with torch.no_grad():
        whole = adapter(x)
        alone = torch.stack([adapter(pixel) for pixel in x.reshape(-1, 8)]).view_as(x)
    torch.testing.assert_close(whole, alone)
    if settings is None:
        assert torch.equal(whole, x if skip else torch.zeros_like(x))


def test_the_prompt_encoder_is_a_copy(engine: Sam2Engine) -> None:
    mpa, before = MpaAdapter.of_model(engine.model), logits(engine)
    with torch.no_grad():
        for embedding in mpa.prompt_encoder.point_embeddings:
            embedding.weight += 1
    assert torch.equal(logits(engine), before)
    with attach(engine.model, mpa):
        assert not torch.allclose(logits(engine), before)
    assert not any(p.requires_grad for p in engine.model.parameters())
    assert all(p.requires_grad for p in mpa.parameters())


def test_what_is_random_is_seeded(engine: Sam2Engine) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (MpaAdapter.of_model(engine.model, PAPER, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.mlp.0.up.weight"], other["encoder.mlp.0.up.weight"])


def test_a_part_gives_the_same_adapter(engine: Sam2Engine, tmp_path: Path) -> None:
    made = MpaAdapter.of_model(engine.model, AdapterSettings("paper", "gelu", scale=0.25))
    known = {"activation": "gelu", "scale": "0.25"}
    path = write_part(tmp_path / "adapter.safetensors", "adapter", SHA256, made.state_dict(), known)
    with attach(engine.model, made):
        wanted = logits(engine)
    read = MpaAdapter.of_part(read_part(path, "adapter", SHA256), engine.model)
    with attach(engine.model, read):
        np.testing.assert_array_equal(logits(engine), wanted)
    assert not any(p.requires_grad for p in read.parameters())


def test_a_part_of_another_architecture_is_a_sentence(engine: Sam2Engine, tmp_path: Path) -> None:
    for number, (tensors, known) in enumerate(
        [({"weight": torch.ones(2)}, {}), (MpaAdapter.of_model(engine.model).state_dict(), {"activation": "tanh"})]
    ):
        path = write_part(tmp_path / str(number), "adapter", SHA256, tensors, known)
        with pytest.raises(CheckpointError, match="does not fit this model's image encoder"):
            MpaAdapter.of_part(read_part(path, "adapter", SHA256), engine.model)


def test_unknown_names_are_sentences() -> None:
    with pytest.raises(InputError, match="no init 'nought' of an adapter; choose one of zero, paper"):
        AdapterSettings(init="nought")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="choose one of relu, gelu"):
        AdapterSettings(activation="tanh")  # type: ignore[arg-type]
