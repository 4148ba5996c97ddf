"""Interactive segmentation as a loss: an opening prompt, then corrections where the mask is wrong, each answered.

As SAM is trained (Kirillov et al. 2023, section A): the mask of the round before is fed back, and every round counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.engine import image_features, normalise
from napari_uncertsam.engine.sam2_engine import LOGIT_LIMIT
from napari_uncertsam.training.feeding import Batch
from napari_uncertsam.training.losses import balanced_bce, hard_iou, soft_dice_loss
from napari_uncertsam.training.schedule import PromptBatch, corrections, first_prompts

#: What the half of the prompts that are no boxes are.
FORMS = {"point": 0.55, "points": 0.15, "box+points": 0.3}
#: Share of corrections with the mask fed back, as SAM is trained; the others have the points alone, as the plugin asks.
FEEDBACK = 0.5


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss.

    Parameters
    ----------
    balance : float in [0, 1]
        Of the cross-entropy between object and background, see :func:`~napari_uncertsam.training.losses.balanced_bce`.
    dice : float
        Of soft Dice, beside a cross-entropy of weight 1.
    """

    balance: float = 0.0
    dice: float = 1.0


def decode_all_tokens(
    model: Any, features: list[Tensor], prompts: PromptBatch, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Logits of all mask tokens (n, t, h, w), predicted IoU (n, t) and object score (n, 1) for n prompts."""
    encoder, size = model.sam_prompt_encoder, 4 * features[0].shape[-1]
    # The prompt encoder's size is that of the shipped model; scenes of other sizes are the same picture.
    scale = model.image_size / size
    sparse, dense = encoder(points=(prompts.coordinates * scale, prompts.labels), boxes=None, masks=mask)
    side = features[-1].shape[-1]
    if dense.shape[-1] != side:  # no mask is fed back: the same vector everywhere
        dense = dense[..., :1, :1].expand(-1, -1, side, side)
    out = model.sam_mask_decoder.predict_masks(
        image_embeddings=features[-1],
        image_pe=encoder.pe_layer((side, side))[None],
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=features[:-1],
    )
    return out[0], out[1], out[3]


def mask_loss(outputs: tuple[Tensor, ...], target: Tensor, weights: Weights) -> Tensor:
    """Loss of the single-mask token, the best of the multi-mask tokens, and the two quality heads.

    Parameters
    ----------
    outputs : of :func:`decode_all_tokens`
    target : (n, h, w) float32 in [0, 1]
    weights : Weights
    """
    logits, iou, score = (o.float() for o in outputs)
    upsampled = F.interpolate(logits[:, :1], target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    single = balanced_bce(upsampled, target, weights.balance) + weights.dice * soft_dice_loss(upsampled, target)
    small = F.interpolate(target[:, None], logits.shape[-2:], mode="area")
    several = balanced_bce(logits[:, 1:], small, weights.balance) + weights.dice * soft_dice_loss(logits[:, 1:], small)
    quality = (iou - hard_iou(logits, small)).abs().mean()
    presence = F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
    return single.mean() + 0.4 * several.amin(1).mean() + 0.2 * quality + 0.02 * presence


def groups(prompts: int, only_boxes: bool, generator: torch.Generator) -> Iterator[tuple[slice, str]]:
    """Halves of the prompts with their form; a half shares its form so that no padding tokens are needed."""
    if only_boxes:
        yield slice(0, prompts), "box"
        return
    drawn = torch.multinomial(torch.tensor(list(FORMS.values())), 1, generator=generator).item()
    half = prompts // 2
    yield slice(0, half), "box"
    yield slice(half, prompts), list(FORMS)[int(drawn)]


def interactive_loss(
    model: Any,
    batch: Batch,
    rounds: int,
    weights: Weights,
    generator: torch.Generator,
    *,
    only_boxes: bool = False,
) -> Iterator[tuple[Tensor, list[float]]]:
    """Loss of a batch, in parts: one for each form of prompt, with the mean IoU after every round.

    Parameters
    ----------
    model : SAM2Base
    batch : Batch
        On the model's device.
    rounds : int
        Decodes of each prompt: the opening and ``rounds - 1`` corrections.
    weights : Weights
    generator : torch.Generator
        On the CPU.
    only_boxes : bool

    Yields
    ------
    The loss, to be followed back with ``retain_graph`` for all but the last, and the IoU by round.
    """
    features = image_features(model, normalise(batch.images))
    prompts = batch.truths.shape[1]
    for which, form in groups(prompts, only_boxes, generator):
        truth = batch.truths[:, which].flatten(0, 1)
        count = truth.shape[0] // len(batch.images)
        repeated = [f.repeat_interleave(count, 0) for f in features]
        parts, quality = answer(model, repeated, truth, form, rounds, weights, generator)
        yield parts * (count / prompts), quality


def answer(
    model: Any,
    features: list[Tensor],
    truth: Tensor,
    form: str,
    rounds: int,
    weights: Weights,
    generator: torch.Generator,
) -> tuple[Tensor, list[float]]:
    """Mean loss over the rounds of n prompts of one form, and the IoU after each.

    Parameters
    ----------
    features : list of (n, C, h, w)
    truth : (n, s, s) bool
    """
    target = F.avg_pool2d(truth[:, None].float(), 2)[:, 0]
    halved = target > 0.5
    prompts, mask = first_prompts(truth, form, generator), None
    loss, quality = torch.zeros((), device=truth.device), []
    for turn in range(rounds):
        outputs = decode_all_tokens(model, features, prompts, mask)
        loss = loss + mask_loss(outputs, target, weights) / rounds
        chosen = outputs[0][:, :1].detach().float()
        seen = F.interpolate(chosen, halved.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        quality.append(hard_iou(seen, target).mean().item())
        if turn + 1 < rounds:
            more = corrections(halved, seen, generator)  # on every other pixel, which is fast and close enough
            prompts = prompts.extended(2 * more.coordinates + 0.5, more.labels)
            feed = bool(torch.rand((), generator=generator) < FEEDBACK)
            mask = chosen.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) if feed else None
    return loss, quality
