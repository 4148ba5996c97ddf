"""Which parts of a SAM 2 are its memory, and where a memory that was never trained starts from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from napari_uncertsam.training.clip_loss import clip_features

#: Parts of a SAM 2 that only following objects uses, and the score that says whether an object is there.
MEMORY = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "sam_mask_decoder.pred_obj_score_head.",
)
#: The mask decoder but for what makes part of the frozen features.
DECODER, FEATURES = "sam_mask_decoder.", ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")


def trained_parameters(model: nn.Module, decoder: bool) -> dict[str, nn.Parameter]:
    """What is trained, by name; everything else of the model is frozen."""
    chosen = {}
    for name, parameter in model.named_parameters():
        wanted = name.startswith(MEMORY) or (decoder and name.startswith(DECODER) and not name.startswith(FEATURES))
        parameter.requires_grad_(wanted)
        if wanted:
            chosen[name] = parameter
    return chosen


def prepare_memory(model: Any, images: Tensor) -> None:
    """Where a memory that was never trained starts from: it changes nothing yet, and looks at the same place.

    The residual branches of the memory attention begin with zeros, and its last normalisation is fitted so that it
    gives back, as nearly as a gain and an offset for each channel can, the embedding that a single image has. Equal
    biases of queries and keys make the rotary attention to memories a local one.

    Parameters
    ----------
    model : SAM2Base
    images : (b, 3, s, s) in [0, 1]
        What the normalisation is fitted on.
    """
    attention = model.memory_attention
    with torch.no_grad():
        for layer in attention.layers:
            cross = layer.cross_attn_image
            for last in (layer.self_attn.out_proj, cross.out_proj, layer.linear2):
                last.weight.mul_(0.02)
                last.bias.zero_()
            for projection in (cross.q_proj, cross.k_proj):
                projection.weight.mul_(0.3)
                projection.bias.fill_(2.0)
        for block in model.memory_encoder.fuser.layers:
            if block.gamma is not None:
                block.gamma.fill_(0.1)
        wanted = clip_features(model, images)[-1]
        plain = wanted
        if model.directly_add_no_mem_embed:
            plain = wanted - model.no_mem_embed.reshape(1, -1, 1, 1)
        if attention.pos_enc_at_input:
            plain = plain + 0.1 * model.image_encoder.neck.position_encoding(plain)
        channels = plain.movedim(1, -1).flatten(0, -2)
        given = nn.functional.layer_norm(channels, channels.shape[-1:], eps=attention.norm.eps)
        target = wanted.movedim(1, -1).flatten(0, -2)
        centred = given - given.mean(0)
        gain = (centred * target).sum(0) / centred.square().sum(0).clamp(min=1e-6)
        attention.norm.weight.copy_(gain)
        attention.norm.bias.copy_(target.mean(0) - gain * given.mean(0))
