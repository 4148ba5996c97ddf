"""A SAM 2 that is small enough for a test to train with: the bundled architecture, narrower, for 64-pixel images."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from omegaconf import OmegaConf

from napari_uncertsam.engine import Sam2Engine, build_model

#: Pretended hash of the checkpoint of a tiny engine.
SHA256 = "d" * 64


def tiny_config(folder: Path) -> Path:
    """The bundled model's configuration with a 64-pixel input and a narrow, shallow encoder."""
    loaded = OmegaConf.load(str(files("napari_uncertsam") / "weights" / "bundled.yaml"))
    trunk = loaded.model.image_encoder.trunk
    trunk.embed_dim, trunk.stages, trunk.global_att_blocks = 8, [1, 1, 2, 1], [3]
    loaded.model.image_encoder.neck.backbone_channel_list = [64, 32, 16, 8]
    loaded.model.image_size = 64
    for attention in ("self_attention", "cross_attention"):
        loaded.model.memory_attention.layer[attention].feat_sizes = [4, 4]
    path = folder / "tiny.yaml"
    OmegaConf.save(loaded, path)
    return path


def tiny_engine(folder: Path, *, fallback: bool = False) -> Sam2Engine:
    """An engine of random weights, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(tiny_config(folder), fallback=fallback)
    return Sam2Engine(model, "tiny", SHA256, device="cpu")
