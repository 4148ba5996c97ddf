"""SAM 2 behind a small protocol: an image is embedded once, prompts are decoded in batches. The only file with sam2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def build_model(config: Path, overrides: dict[str, Any] | None = None) -> Any:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    loaded = OmegaConf.load(config)
    OmegaConf.resolve(loaded)
    return instantiate(loaded.model, _recursive_=True)


def normalise(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def image_features(model: Any, images: Tensor) -> list[Tensor]:
    encoded = model.forward_image(images)
    _, features, _, sizes = model._prepare_backbone_features(encoded)
    if model.directly_add_no_mem_embed:
        features[-1] = features[-1] + model.no_mem_embed
    return [f.permute(1, 2, 0).reshape(len(images), -1, *size) for f, size in zip(features, sizes, strict=True)]
