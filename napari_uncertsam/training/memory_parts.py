"""Which parts of a SAM 2 are its memory, and where a memory that was never trained starts from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uncertsam.training.clip_loss import clip_features
from napari_uncertsam.training.following import SURE, Follower

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


def prepare_memory(model: Any, images: Tensor, masks: Tensor) -> None:
    """Where a memory that was never trained starts from: a remembered mask acts as a mask prompt at the same place.

    All is fitted in closed form, without a step of training. The residual branches of the memory attention begin near
    zero, and its last normalisation gives back, as nearly as a gain and an offset for each channel can, the embedding
    that a single image has. Equal biases of queries and keys make the rotary attention to memories a local one, and the
    last layer makes of what it finds there, by ridge regression, what the prompt encoder makes of the mask.

    Parameters
    ----------
    model : SAM2Base
    images : (b, 3, s, s) in [0, 1]
    masks : (b, s, s) bool
        Of an object in each.
    """
    attention = model.memory_attention
    device = next(model.parameters()).device
    images, masks = images.to(device), masks.to(device)
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
        features = clip_features(model, images)
        follower = Follower(model, features, 1)
        wanted, given = _rows(features[-1]), follower.plain
        if attention.pos_enc_at_input:
            given = given + 0.1 * model.image_encoder.neck.position_encoding(given)
        tokens = _rows(given)
        flat = nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=attention.norm.eps)
        centred = flat - flat.mean(0)
        gain = (centred * wanted).sum(0) / centred.square().sum(0).clamp(min=1e-6)
        attention.norm.weight.copy_(gain)
        attention.norm.bias.copy_(wanted.mean(0) - gain * flat.mean(0))
        _hand_on(model, follower, masks, tokens.std(-1).mean() / gain.clamp(min=0.1 * float(gain.abs().mean())))


def _hand_on(model: Any, follower: Follower, masks: Tensor, scale: Tensor) -> None:
    """Let the last layer add, times `scale`, what a mask prompt would add to the embedding."""
    cross, encoder = model.memory_attention.layers[-1].cross_attn_image, model.sam_prompt_encoder
    memories, prompts = [], []
    for k, mask in enumerate(masks):
        follower.know_masks(0, k, mask[None])
        memories.append(_rows(follower.kept["cond_frame_outputs"].pop(0)["maskmem_features"].float()))
        logits = F.interpolate(mask[None, None].float(), encoder.mask_input_size, mode="area") * 2 * SURE - SURE
        dense = [encoder(points=None, boxes=None, masks=m)[1] for m in (logits, None)]
        prompts.append(_rows(dense[0] - dense[1].expand_as(dense[0])))
    found, asked = torch.cat(memories), torch.cat(prompts) * scale
    centred = found - found.mean(0)
    ridge = 1e-3 * centred.square().sum() / centred.shape[1] * torch.eye(centred.shape[1], device=found.device)
    solution = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (asked - asked.mean(0)))
    nn.init.orthogonal_(cross.v_proj.weight)
    cross.v_proj.bias.zero_()
    cross.out_proj.weight.copy_(solution.T @ torch.linalg.pinv(cross.v_proj.weight))
    cross.out_proj.bias.copy_(asked.mean(0) - found.mean(0) @ solution)


def _rows(maps: Tensor) -> Tensor:
    """``(b, c, h, w)`` as a row for each place: ``(b h w, c)``."""
    return maps.movedim(1, -1).flatten(0, -2)
