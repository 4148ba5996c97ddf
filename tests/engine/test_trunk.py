"""EfficientNet-Lite: shapes, padding, frozen stages, and the folding of batch normalisation, each by a second route."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.engine.building import normalise
from napari_uncertsam.engine.trunk import STAGES, EfficientNetLite, PaddedConv, rounded
from napari_uncertsam.errors import InputError
from napari_uncertsam.training import imagenet
from napari_uncertsam.training.imagenet import imagenet_file, load_imagenet

NARROW = {"width": 0.25, "depth": 0.3}


@pytest.mark.parametrize(
    ("width", "depth", "side", "channels", "millions"),
    [(1.0, 1.0, 224, [320, 112, 40, 24], 2.94), (1.1, 1.2, 260, [352, 120, 48, 24], 4.33)],
)
def test_the_published_networks(width: float, depth: float, side: int, channels: list[int], millions: float) -> None:
    trunk = EfficientNetLite(width, depth, side)
    assert trunk.channel_list == channels
    assert sum(p.numel() for p in trunk.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3))
def test_maps_of_any_image_that_is_a_multiple_of_32(rows: int, columns: int) -> None:
    trunk = EfficientNetLite(**NARROW)
    maps = trunk(torch.zeros(2, 3, 32 * rows, 32 * columns))
    sides = [(8 * rows, 8 * columns), (4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns)]
    assert [tuple(m.shape[-2:]) for m in maps] == sides
    assert [m.shape[1] for m in maps] == trunk.channel_list[::-1]
    assert all(m.is_contiguous() for m in maps)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([3, 5]), st.integers(7, 40))
def test_padding_is_that_of_the_side_it_was_made_for(kernel: int, side: int) -> None:
    conv = PaddedConv(1, 1, kernel, stride=2, side=side)
    image = torch.rand(1, 1, side, side)
    outputs = -(-side // 2)
    total = max(0, 2 * (outputs - 1) + kernel - side)
    wide = torch.zeros(1, 1, side + total, side + total)
    wide[..., total // 2 : total // 2 + side, total // 2 : total // 2 + side] = image
    expected = F.conv2d(wide, conv.weight, conv.bias, 2)
    assert expected.shape[-1] == outputs
    assert torch.allclose(conv(image), expected, atol=1e-6)


def test_frozen_stages_get_no_gradient() -> None:
    trunk = EfficientNetLite(**NARROW, freeze=2)
    sum(m.sum() for m in trunk(torch.rand(1, 3, 32, 32))).backward()
    frozen = [*trunk.stem.parameters(), *trunk.stages[0].parameters(), *trunk.stages[1].parameters()]
    assert all(p.grad is None for p in frozen)
    assert all(p.grad is not None for stage in trunk.stages[2:] for p in stage.parameters())


def test_channels_are_multiples_of_eight_and_never_far_below() -> None:
    assert [rounded(c) for c in (1, 8, 17.6, 26.4, 44, 123.2, 352)] == [8, 8, 16, 24, 48, 120, 352]


def published(trunk: EfficientNetLite) -> dict[str, Tensor]:
    """Random weights under the names of the published files, with batch normalisations that do something."""
    state: dict[str, Tensor] = {}
    layers = iter([m for m in trunk.modules() if isinstance(m, torch.nn.Conv2d)])

    def put(conv: str, norm: str) -> None:
        weight = next(layers).weight
        state[f"{conv}.weight"] = torch.randn_like(weight) / weight[0].numel() ** 0.5
        for name, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.2, 0.2),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.5, 2.0),
        ):
            state[f"{norm}.{name}"] = low + (high - low) * torch.rand(len(weight))

    put("_conv_stem", "_bn0")
    block = 0
    for stage, spec in zip(trunk.stages, STAGES, strict=True):
        for _ in stage:
            if spec.expansion != 1:
                put(f"_blocks.{block}._expand_conv", f"_blocks.{block}._bn0")
            put(f"_blocks.{block}._depthwise_conv", f"_blocks.{block}._bn1")
            put(f"_blocks.{block}._project_conv", f"_blocks.{block}._bn2")
            block += 1
    state["_fc.weight"] = torch.zeros(1)  # the classifier, which is left out
    return state


def test_folding_leaves_the_published_network_as_it_was() -> None:
    """The network with its normalisations, written out, on its own kind of input."""
    torch.manual_seed(0)
    trunk = EfficientNetLite(**NARROW)
    state = published(trunk)
    load_imagenet(trunk, state)
    image = torch.rand(1, 3, 64, 64)

    def layer(values: Tensor, conv: str, norm: str, stride: int, groups: int) -> Tensor:
        weight = state[f"{conv}.weight"]
        before = (weight.shape[-1] - 1) // 2 if stride == 1 else (weight.shape[-1] - 2) // 2
        behind = weight.shape[-1] - stride - before
        out = F.conv2d(F.pad(values, (before, behind, before, behind)), weight, None, stride, 0, 1, groups)
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return F.batch_norm(out, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    values = layer((255 * image - 127) / 128, "_conv_stem", "_bn0", 2, 1).clamp(0, 6)
    block = 0
    for stage, spec in zip(trunk.stages, STAGES, strict=True):
        for repeat in range(len(stage)):
            name, start, stride = f"_blocks.{block}", values, spec.stride if repeat == 0 else 1
            if spec.expansion != 1:
                values = layer(values, f"{name}._expand_conv", f"{name}._bn0", 1, 1).clamp(0, 6)
            values = layer(values, f"{name}._depthwise_conv", f"{name}._bn1", stride, values.shape[1]).clamp(0, 6)
            values = layer(values, f"{name}._project_conv", f"{name}._bn2", 1, 1)
            values = values + start if start.shape == values.shape and stride == 1 else values
            block += 1
    folded = trunk(normalise(image))[0]
    stem = trunk.stem(normalise(image))
    exact = layer((255 * image - 127) / 128, "_conv_stem", "_bn0", 2, 1).clamp(0, 6)
    # The border is padded with what is black to one and grey to the other: behind, where the stem pads.
    assert torch.allclose(stem[..., :-1, :-1], exact[..., :-1, :-1], atol=1e-4)
    assert torch.isfinite(folded).all()
    deepest = trunk(normalise(image))[-1]
    assert (deepest - values).abs().mean() < 0.05 * values.abs().mean()


def test_without_the_package_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(InputError, match="train"):
        imagenet_file()
