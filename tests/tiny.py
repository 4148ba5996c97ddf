"""A SAM 2 that is small enough for a test to train with: the bundled architecture, narrower, for 64-pixel images."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from omegaconf import OmegaConf

from napari_uncertsam.engine import Sam2Engine, build_model
from napari_uncertsam.engine.trunk import EfficientNetLite

#: Pretended hash of the checkpoint of a tiny engine.
SHA256 = "d" * 64


#: A trunk as Meta's models have, which the bundled one has not.
HIERA = {
    "_target_": "sam2.modeling.backbones.hieradet.Hiera",
    "embed_dim": 8,
    "num_heads": 1,
    "stages": [1, 1, 2, 1],
    "global_att_blocks": [3],
    "window_pos_embed_bkg_spatial_size": [7, 7],
}


def tiny_config(folder: Path, *, hiera: bool = False) -> Path:
    """The bundled model's configuration with a 64-pixel input and a narrow, shallow encoder."""
    loaded = OmegaConf.load(str(files("napari_uncertsam") / "weights" / "bundled.yaml"))
    encoder = loaded.model.image_encoder
    if hiera:
        encoder.trunk, encoder.neck.backbone_channel_list = HIERA, [64, 32, 16, 8]
    else:
        encoder.trunk.width, encoder.trunk.depth, encoder.trunk.side = 0.25, 0.3, 64
        encoder.neck.backbone_channel_list = EfficientNetLite(0.25).channel_list
    loaded.model.image_size = 64
    for attention in ("self_attention", "cross_attention"):
        loaded.model.memory_attention.layer[attention].feat_sizes = [4, 4]
    path = folder / "tiny.yaml"
    OmegaConf.save(loaded, path)
    return path


def tiny_engine(folder: Path, *, fallback: bool = False, hiera: bool = False) -> Sam2Engine:
    """An engine of random weights, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(tiny_config(folder, hiera=hiera), fallback=fallback)
    return Sam2Engine(model, "tiny", SHA256, device="cpu")
