"""Following objects through a clip with SAM 2's memory, in a way that gradients can go back through.

The numbers are those of :class:`napari_uncertsam.engine.Sam2Tracker`; several objects of one clip are followed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.engine.tracking import NO_OBJECT
from napari_uncertsam.training.schedule import PromptBatch

#: Frames that a memory can look back over; more than any clip has.
COUNT = 1000
#: Logits of a mask that the person gave.
SURE = 10.0


@dataclass(frozen=True, eq=False)
class Look:
    """What the model says of n objects on one frame.

    Parameters
    ----------
    logits : (n, t, h, w)
        Of all mask tokens, the single one first.
    iou : (n, t)
    score : (n, 1)
        Logit of the object being there.
    chosen : (n,) int64
        Token whose mask is taken.
    vectors : (n, t, c)
        Output tokens of the masks, from which object pointers are made.
    """

    logits: Tensor
    iou: Tensor
    score: Tensor
    chosen: Tensor
    vectors: Tensor

    @property
    def mask(self) -> Tensor:
        """Logits of the chosen token: ``(n, h, w)``."""
        return self.logits[torch.arange(len(self.chosen), device=self.chosen.device), self.chosen]


class Follower:
    """The memory of n objects of one clip.

    Parameters
    ----------
    model : sam2.modeling.sam2_base.SAM2Base
    features : sequence of (t, c_i, h_i, w_i)
        Of the frames, as `image_features` gives them: the image embedding last, with what stands for "no memory".
    n : int
        Objects.
    """

    def __init__(self, model: Any, features: Sequence[Tensor], n: int) -> None:
        self.model, self.features, self.n = model, list(features), n
        embedding = self.features[-1]
        self.plain, self.sizes = embedding, (embedding.shape[-2], embedding.shape[-1])
        if model.directly_add_no_mem_embed:
            self.plain = embedding - model.no_mem_embed.reshape(1, -1, 1, 1)
        positions = model.image_encoder.neck.position_encoding(embedding[:1])
        self.positions = positions.flatten(2).permute(2, 0, 1).expand(-1, n, -1)
        self.kept: dict[str, dict[int, dict[str, Any]]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}

    def know(self, step: int, frame: int, prompts: PromptBatch) -> Look:
        """Remember a frame whose masks come of prompts.

        Parameters
        ----------
        step : int
            Number of the frame in the walk.
        frame : int
            Index of the frame in the clip.
        prompts : PromptBatch
            One for each object.
        """
        seen = self._decoded(self.features[-1][frame], frame, (prompts.coordinates, prompts.labels))
        several = self.model._use_multimask(True, {"point_labels": prompts.labels})
        low = seen.logits[:, :1]
        found = (low > 0).flatten(1).any(1, keepdim=True)
        score = torch.where(found, seen.score.clamp(min=1e-3), seen.score)
        pointer = self._pointer(_best(seen) if several else seen, score)
        self.kept["cond_frame_outputs"][step] = self._memory(frame, low, score, pointer, from_person=True)
        return seen

    def know_masks(self, step: int, frame: int, masks: Tensor) -> None:
        """Remember a frame whose masks the person gave: ``(n, s, s)`` bool."""
        low = F.interpolate(masks[:, None].float(), [4 * s for s in self.sizes], mode="area")
        low = torch.where(low > 0.5, SURE, -SURE)
        side = self.model.image_size
        full = (F.interpolate(low, (side, side), mode="bilinear", align_corners=False) > 0).float()
        plain = self.plain[frame].expand(self.n, -1, -1, -1)
        fine = [f[frame].expand(self.n, -1, -1, -1) for f in self.features[:-1]]
        *_, pointer, score = self.model._use_mask_as_output(plain, fine, full)
        self.kept["cond_frame_outputs"][step] = self._memory(frame, low, score, pointer, from_person=True)

    def look(self, step: int, frame: int) -> Look:
        """Decode a frame, given what is remembered."""
        conditioned = self.model._prepare_memory_conditioned_features(
            frame_idx=step,
            is_init_cond_frame=False,
            current_vision_feats=[self._flat(frame)],
            current_vision_pos_embeds=[self.positions],
            feat_sizes=[self.sizes],
            output_dict=self.kept,
            num_frames=COUNT,
        )
        nothing = (
            torch.zeros(self.n, 1, 2, device=conditioned.device),
            -torch.ones(self.n, 1, dtype=torch.int32, device=conditioned.device),
        )
        seen = self._decoded(conditioned, frame, nothing)
        return _best(seen) if self.model._use_multimask(False, None) else seen

    def remember(self, step: int, frame: int, seen: Look) -> None:
        """Remember a frame that was looked at, with its own masks."""
        low = torch.where(seen.score[..., None, None] > 0, seen.mask[:, None], NO_OBJECT)
        pointer = self._pointer(seen, seen.score)
        self.kept["non_cond_frame_outputs"][step] = self._memory(frame, low, seen.score, pointer, from_person=False)

    def _flat(self, frame: int) -> Tensor:
        return self.plain[frame].flatten(1).T[:, None].expand(-1, self.n, -1)

    def _decoded(self, embedding: Tensor, frame: int, points: tuple[Tensor, Tensor]) -> Look:
        encoder = self.model.sam_prompt_encoder
        sparse, dense = encoder(points=points, boxes=None, masks=None)
        logits, iou, vectors, score = self.model.sam_mask_decoder.predict_masks(
            image_embeddings=embedding.expand(self.n, -1, -1, -1),
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=[f[frame : frame + 1] for f in self.features[:-1]],
        )
        first = torch.zeros(self.n, dtype=torch.int64, device=logits.device)
        return Look(logits.float(), iou.float(), score.float(), first, vectors)

    def _memory(self, frame: int, low: Tensor, score: Tensor, pointer: Tensor, *, from_person: bool) -> dict[str, Any]:
        side = self.model.image_size
        high = F.interpolate(low, (side, side), mode="bilinear", align_corners=False)
        memory, positions = self.model._encode_new_memory([self._flat(frame)], [self.sizes], high, score, from_person)
        return {"maskmem_features": memory.to(torch.bfloat16), "maskmem_pos_enc": positions, "obj_ptr": pointer.float()}

    def _pointer(self, seen: Look, score: Tensor) -> Tensor:
        """Object pointers, or the one that stands for "no object"."""
        model, rows = self.model, torch.arange(self.n, device=score.device)
        chosen = seen.chosen if model.use_multimask_token_for_obj_ptr else torch.zeros_like(seen.chosen)
        pointer: Tensor = model.obj_ptr_proj(seen.vectors[rows, chosen])
        if not model.pred_obj_scores:
            return pointer
        there = score.sigmoid() if model.soft_no_obj_ptr else (score > 0).float()
        if model.fixed_no_obj_ptr:
            pointer = there * pointer
        absent: Tensor = (1 - there) * model.no_obj_ptr
        return pointer + absent


def _best(seen: Look) -> Look:
    """The multi-mask token of highest predicted overlap in place of the first."""
    chosen = 1 + seen.iou[:, 1:].argmax(-1)
    return Look(seen.logits, seen.iou, seen.score, chosen, seen.vectors)
