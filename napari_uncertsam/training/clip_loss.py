"""What a memory is trained on and measured by: the loss of following the objects of a clip, and their Dice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.engine import image_features, normalise
from napari_uncertsam.training.clips import Clip
from napari_uncertsam.training.fields import Dice
from napari_uncertsam.training.following import Follower, Look
from napari_uncertsam.training.losses import balanced_bce, hard_iou, soft_dice_loss
from napari_uncertsam.training.schedule import first_prompts

#: Opening prompts and their shares; corrections are boxes or points.
OPENINGS = {"box": 0.6, "point": 0.1, "points": 0.1, "mask": 0.2}
CORRECTIONS = {"box": 0.5, "points": 0.5}
#: How often a later frame is prompted again, and how often the numbers of the frames leave a gap behind the first, as
#: when a long walk is taken up in another view; and the largest gap.
CORRECTED, GAPPED, GAP = 0.25, 0.3, 24
#: Weights beside the chosen token's: of the best token, of the predicted overlap, of the object score.
BEST, OVERLAP, SCORE = 0.5, 0.1, 0.4


@dataclass(frozen=True)
class Plan:
    """How a clip is walked through.

    Parameters
    ----------
    opening : str
        Key of :data:`OPENINGS`.
    gap : int
        Steps left out between the opening frame and the next.
    correction : str
        Key of :data:`CORRECTIONS`.
    corrected : int
        Frame that is prompted again; 0 for none.
    """

    opening: str = "box"
    gap: int = 0
    correction: str = "box"
    corrected: int = 0

    @classmethod
    def drawn(cls, generator: torch.Generator, masks: Tensor) -> Plan:
        """A plan for masks ``(n, t, s, s)``: only a frame where all objects are can be prompted again."""
        dice = Dice(generator)
        gap = dice.integer(1, GAP + 1) if dice.chance(GAPPED) else 0
        opening, correction = dice.choice(OPENINGS), dice.choice(CORRECTIONS)
        frames = [k for k in range(2, masks.shape[1]) if masks[:, k].flatten(1).any(1).all()]
        corrected = frames[dice.integer(0, len(frames))] if frames and dice.chance(CORRECTED) else 0
        return cls(opening, gap, correction, corrected)


def clip_features(model: Any, images: Tensor) -> list[Tensor]:
    """Features of all frames, without gradient; images as the plugin gives them, of 256 levels."""
    with torch.no_grad():
        levels = (images * 255).round() / 255
        return [f.float() for f in image_features(model, normalise(levels))]


def clip_loss(model: Any, clip: Clip, plan: Plan, generator: torch.Generator, *, prompted: bool = False) -> Tensor:
    """Mean loss of the frames of a clip.

    Parameters
    ----------
    model : SAM2Base
    clip : Clip
        On the model's device, of its size.
    plan : Plan
    generator : torch.Generator
        For the prompts; on the CPU.
    prompted : bool
        Whether masks on prompted frames count too: where the mask decoder is trained.
    """
    masks, count = clip.masks, clip.masks.shape[1]
    follower = Follower(model, clip_features(model, clip.images), len(masks))
    losses = []
    if plan.opening == "mask":
        follower.know_masks(0, 0, masks[:, 0])
    else:
        seen = follower.know(0, 0, first_prompts(masks[:, 0], plan.opening, generator))
        losses.append(frame_loss(seen, masks[:, 0], only_score=not prompted))
    for frame in range(1, count):
        step = frame + plan.gap
        if frame == plan.corrected:
            seen = follower.know(step, frame, first_prompts(masks[:, frame], plan.correction, generator))
            losses.append(frame_loss(seen, masks[:, frame], only_score=not prompted))
            continue
        seen = follower.look(step, frame)
        losses.append(frame_loss(seen, masks[:, frame]))
        if frame + 1 < count:
            follower.remember(step, frame, seen)
    return torch.stack(losses).mean()


def frame_loss(seen: Look, truth: Tensor, *, only_score: bool = False) -> Tensor:
    """Loss of n objects on one frame: of masks and predicted overlaps where an object is, of the object score always.

    Parameters
    ----------
    seen : Look
    truth : (n, s, s) bool
    only_score : bool
        Leave out masks and overlaps.
    """
    there = truth.flatten(1).any(1)
    presence = F.binary_cross_entropy_with_logits(seen.score[:, 0], there.float())
    if only_score or not there.any():
        return SCORE * presence
    small = F.interpolate(truth[there, None].float(), seen.logits.shape[-2:], mode="area")
    logits, chosen = seen.logits[there], seen.chosen[there]
    each = balanced_bce(logits, small, 0.0) + soft_dice_loss(logits, small)
    mask = each.gather(1, chosen[:, None])[:, 0] + BEST * each[:, 1:].amin(1)
    overlap = (seen.iou[there] - hard_iou(logits, small)).abs()[:, 1:].mean(1)
    share = there.float().mean()
    return share * (mask + OVERLAP * overlap).mean() + SCORE * presence


@dataclass(frozen=True)
class Followed:
    """How well objects were followed.

    Parameters
    ----------
    dice : float
        Mean Dice over the followed frames that an object is on.
    unmoved : float
        What the opening mask has there, carried on unchanged.
    presence : float
        Share of all followed frames where the object was rightly said to be there or not.
    frames : int
        Of all objects together.
    """

    dice: float
    unmoved: float
    presence: float
    frames: int


@torch.no_grad()
def measure_following(model: Any, clips: Iterable[Clip]) -> Followed:
    """Follow the objects of clips from a box on the first frame."""
    device = next(model.parameters()).device
    dice, unmoved, presence = [], [], []
    for number, drawn in enumerate(clips):
        masks = drawn.masks.to(device)
        generator = torch.Generator().manual_seed(number)
        follower = Follower(model, clip_features(model, drawn.images.to(device)), len(masks))
        seen = follower.know(0, 0, first_prompts(masks[:, 0], "box", generator))
        first = _shown(seen.mask, masks)
        for frame in range(1, masks.shape[1]):
            seen, truth = follower.look(frame, frame), masks[:, frame]
            follower.remember(frame, frame, seen)
            mask = _shown(torch.where(seen.score[..., None] > 0, seen.mask, -1.0), masks)
            there = truth.flatten(1).any(1)
            presence += (mask.flatten(1).any(1) == there).tolist()
            dice += _dice(mask, truth)[there].tolist()
            unmoved += _dice(first, truth)[there].tolist()
    return Followed(_mean(dice), _mean(unmoved), _mean(presence), len(presence))


def _shown(logits: Tensor, masks: Tensor) -> Tensor:
    """Masks in pixels of the frames from logits ``(n, h, w)``."""
    return F.interpolate(logits[:, None], masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0


def _dice(mask: Tensor, truth: Tensor) -> Tensor:
    both = (mask & truth).flatten(1).sum(1)
    total = (mask.flatten(1).sum(1) + truth.flatten(1).sum(1)).clamp(min=1)
    return 2 * both / total


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
