"""SAM 2's memory, slice by slice: what was seen on slices before tells what the object looks like on the next.

The modules are those of the video predictor, and so are the numbers: which memories are attended to, their positions
in time, half precision in between. What differs is the bookkeeping: only memories that can still be attended to are
kept, so a volume of any length takes the same memory, and every slice comes with all of `Decoded`, so that last-layer
methods need no second pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.engine.memory import memory_errors
from napari_uncertsam.engine.values import Decoded, Embedding, Engine

if TYPE_CHECKING:
    from napari_uncertsam.engine.sam2_engine import Sam2Engine
    from napari_uncertsam.prompts import Prompts

#: Logit of a mask that the model says is not there.
NO_OBJECT = -1024.0


class Tracker(Protocol):
    """A walk through the slices, away from slices whose mask is known. Slices are numbered in the order of the walk."""

    def know(
        self,
        step: int,
        embedding: Embedding,
        logits: NDArray[np.float32],
        prompts: Prompts | None,
    ) -> None:
        """Remember a slice whose mask the person gave.

        Parameters
        ----------
        step : int
        embedding : Embedding
            Of the view that the whole walk has.
        logits : (h, w) float32
            Of the mask over the view.
        prompts : Prompts, optional
            That the mask came of, in pixels of the embedded view; None where it is exactly what the person wants.
        """

    def look(self, step: int, embedding: Embedding) -> Decoded:
        """Decode a slice, given what is remembered. Rows of `Decoded`: one, of the mask token the model chose."""

    def remember(self, step: int, logits: NDArray[np.float32] | None = None) -> None:
        """Remember the slice last looked at, with its own mask or another one."""


@runtime_checkable
class RemembersSlices(Engine, Protocol):
    """An engine with a memory for the slices of a volume."""

    @property
    def has_memory(self) -> bool:
        """Whether the memory was trained; without, a walk through the slices is worth nothing."""

    def tracker(self, n_slices: int) -> Tracker:
        """Begin a walk."""


@dataclass(eq=False)
class _Seen:
    """The slice last looked at."""

    features: list[Tensor]
    decoded: Decoded


class Sam2Tracker:
    """A walk with the memory of a SAM 2.

    Parameters
    ----------
    engine : Sam2Engine
    n_slices : int
        Of the walk at most; the model never looks back further.
    """

    def __init__(self, engine: Sam2Engine, n_slices: int) -> None:
        self._engine, self._model, self._count = engine, engine.model, n_slices
        self._memories: dict[str, dict[int, dict[str, Any]]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        self._seen: _Seen | None = None

    @torch.inference_mode()
    def know(self, step: int, embedding: Embedding, logits: NDArray[np.float32], prompts: Prompts | None) -> None:
        """Remember a slice whose mask the person gave; see :class:`Tracker`."""
        model, features = self._model, list(embedding.features)
        with memory_errors("remember a slice"):
            if prompts is None:
                score, pointer = self._of_mask(features, logits)
            else:
                decoded = self._engine.decode(embedding, [prompts])
                points = 2 * (prompts.box is not None) + len(prompts.points)
                several = model._use_multimask(True, {"point_labels": torch.zeros(1, points)})
                decoded = _best_of_several(decoded) if several else decoded
                score = decoded.object_score.clamp(min=1e-3) if (logits > 0).any() else decoded.object_score
                pointer = self._pointer(decoded, several, score)
            low = torch.as_tensor(logits, dtype=torch.float32, device=self._engine.device)[None, None]
            memory = self._encoded(features, low, score, from_person=True)
        self._memories["cond_frame_outputs"][step] = {**memory, "obj_ptr": pointer}

    @torch.inference_mode()
    def look(self, step: int, embedding: Embedding) -> Decoded:
        """Decode a slice, given what is remembered; see :class:`Tracker`."""
        model, engine, features = self._model, self._engine, list(embedding.features)
        with memory_errors(f"follow the object to another slice with {engine.name}"):
            flat, sizes = self._flat(features)
            conditioned = model._prepare_memory_conditioned_features(
                frame_idx=step,
                is_init_cond_frame=False,
                current_vision_feats=[flat],
                current_vision_pos_embeds=[self._positions(features[-1])],
                feat_sizes=[sizes],
                output_dict=self._memories,
                num_frames=self._count,
            )
            nothing = (
                torch.zeros(1, 1, 2, device=engine.device),
                -torch.ones(1, 1, dtype=torch.int32, device=engine.device),
            )
            decoded = engine.decode_batch([*features[:-1], conditioned], nothing)
            if model._use_multimask(False, None):
                decoded = _best_of_several(decoded)
        self._seen = _Seen(features, decoded)
        return decoded

    @torch.inference_mode()
    def remember(self, step: int, logits: NDArray[np.float32] | None = None) -> None:
        """Remember the slice last looked at; see :class:`Tracker`."""
        if self._seen is None:
            raise RuntimeError("no slice was looked at")
        features, decoded = self._seen.features, self._seen.decoded
        low = decoded.logits[:, None]
        if logits is not None:
            low = torch.as_tensor(logits, dtype=torch.float32, device=low.device)[None, None]
        low = torch.where(decoded.object_score[:, None, None, None] > 0, low, NO_OBJECT)
        with memory_errors("remember a slice"):
            memory = self._encoded(features, low, decoded.object_score, from_person=False)
            pointer = self._pointer(decoded, self._model._use_multimask(False, None), decoded.object_score)
        kept = self._memories["non_cond_frame_outputs"]
        kept[step] = {**memory, "obj_ptr": pointer}
        spatial = step - self._model.num_maskmem + 2  # the oldest whose spatial memory the next slice attends to
        oldest = min(spatial, step - self._model.max_obj_ptrs_in_encoder + 2)
        for old in [s for s in kept if s < oldest]:
            del kept[old]
        for old, entry in kept.items():
            if old < spatial:
                entry["maskmem_features"] = entry["maskmem_pos_enc"] = None

    def _of_mask(self, features: list[Tensor], logits: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Object score and pointer of a mask that is taken as it is."""
        size = self._engine.resolution
        low = torch.as_tensor(logits, dtype=torch.float32, device=self._engine.device)[None, None]
        mask = (F.interpolate(low, (size, size), mode="bilinear", align_corners=False) > 0).float()
        outputs = self._model._use_mask_as_output(self._plain(features[-1]), features[:-1], mask)
        self._engine.forget_captured()
        return outputs[-1][:, 0], outputs[-2]

    def _plain(self, feature: Tensor) -> Tensor:
        """The image embedding as the memory attention takes it, without what stands for "no memory"."""
        if not self._model.directly_add_no_mem_embed:
            return feature
        plain: Tensor = feature - self._model.no_mem_embed.reshape(1, -1, 1, 1)
        return plain

    def _flat(self, features: list[Tensor]) -> tuple[Tensor, tuple[int, int]]:
        feature = self._plain(features[-1])
        return feature.flatten(2).permute(2, 0, 1), (feature.shape[-2], feature.shape[-1])

    def _positions(self, feature: Tensor) -> Tensor:
        """Sine positions of the embedding's cells, ``(HW, 1, C)``."""
        encoding: Tensor = self._model.image_encoder.neck.position_encoding(feature)
        flat: Tensor = encoding.flatten(2).permute(2, 0, 1)
        return flat

    def _encoded(self, features: list[Tensor], low: Tensor, score: Tensor, *, from_person: bool) -> dict[str, Any]:
        size = self._engine.resolution
        high = F.interpolate(low, (size, size), mode="bilinear", align_corners=False)
        flat, sizes = self._flat(features)
        memory, positions = self._model._encode_new_memory([flat], [sizes], high, score[:, None], from_person)
        # Half precision, as the video predictor keeps it.
        return {"maskmem_features": memory.to(torch.bfloat16), "maskmem_pos_enc": positions}

    def _pointer(self, decoded: Decoded, several: bool, score: Tensor) -> Tensor:
        """The object pointer, or the one that stands for "no object"."""
        model = self._model
        chosen = decoded.token if several and model.use_multimask_token_for_obj_ptr else torch.zeros_like(decoded.token)
        rows = torch.arange(len(chosen), device=chosen.device)
        pointer: Tensor = model.obj_ptr_proj(decoded.token_embedding[rows, chosen])
        if not model.pred_obj_scores:
            return pointer
        there = (score[:, None] > 0).float()
        if model.soft_no_obj_ptr:
            there = score[:, None].sigmoid()
        if model.fixed_no_obj_ptr:
            pointer = there * pointer
        absent: Tensor = (1 - there) * model.no_obj_ptr
        return pointer + absent


def _best_of_several(decoded: Decoded) -> Decoded:
    """The multi-mask token of highest predicted overlap in place of the first token."""
    token = 1 + decoded.token_iou[:, 1:].argmax(-1)
    rows = torch.arange(len(token), device=token.device)
    return replace(
        decoded,
        logits=decoded.token_logits[rows, token],
        token=token,
        hidden=decoded.token_hidden[rows, token],
        iou=decoded.token_iou[rows, token],
    )
