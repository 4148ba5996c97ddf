"""SAM 2 of any size as an :class:`~napari_uncertsam.engine.values.Engine`.

What last-layer methods and trained heads need of the one decode is captured by forward hooks; SAM 2 itself is not
patched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.adapters import MpaAdapter, attach
from napari_uncertsam.checkpoints import (
    ResolvedCheckpoint,
    file_metadata,
    file_sha256,
    load_state_dict,
    read_part,
    resolve,
)
from napari_uncertsam.devices import choose_device, device_label
from napari_uncertsam.engine.building import build_model, image_features, normalise
from napari_uncertsam.engine.memory import memory_errors
from napari_uncertsam.engine.tracking import Sam2Tracker
from napari_uncertsam.engine.values import Decoded, DenseTransform, Embedding
from napari_uncertsam.errors import CheckpointError, InputError
from napari_uncertsam.prompts import Prompts, to_sam_points

#: `SAM2ImagePredictor` clamps low-resolution logits to this before it gives them back as a mask prompt.
LOGIT_LIMIT = 32.0


class Sam2Engine:
    """SAM 2 of any size.

    Parameters
    ----------
    model : sam2.modeling.sam2_base.SAM2Base
    name : str
        What the user calls it.
    sha256 : str
        Hash of its checkpoint; empty for random weights.
    device : str, optional
        "cuda", "mps", "cpu", or None for the best there is.
    adapter : mapping of str to str, optional
        Record of the adapter that is attached to `model`: hash of its file, and of the checkpoint that it belongs to.
    has_memory : bool
        Whether the model's memory of slices was trained.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        sha256: str = "",
        device: str | None = None,
        *,
        adapter: Mapping[str, str] | None = None,
        has_memory: bool = True,
    ) -> None:
        self.adapter, self.has_memory = adapter, has_memory
        self.device = choose_device(device)
        with memory_errors(f"load the model {name}"):
            self.model = model.to(self.device).eval()
        self.model.requires_grad_(False)
        self._name, self._sha256 = name, sha256
        self._captured: dict[str, Tensor] = {}
        decoder = self.model.sam_mask_decoder
        for token, mlp in enumerate(decoder.output_hypernetworks_mlps):
            mlp.layers[-1].register_forward_pre_hook(self._keep_input(f"hidden{token}"))
            mlp.register_forward_pre_hook(self._keep_input(f"token{token}"))
        decoder.output_upscaling[0].register_forward_pre_hook(self._keep_input("source"))
        decoder.output_upscaling[-1].register_forward_hook(self._keep_output("features"))

    @classmethod
    def load(cls, model: str = "bundled", config: str | None = None, device: str | None = None) -> Sam2Engine:
        """Build a model from its checkpoint.

        Parameters
        ----------
        model : str
            A name of `napari_uncertsam.checkpoints`, or the path of a checkpoint (then `config` is needed); with
            ``+adapter`` behind it, the model runs with its MPA adapter.
        config : str, optional
            Name inside the sam2 package, or path, of the model's configuration.
        device : str, optional

        Raises
        ------
        CheckpointError
            If the checkpoint or the adapter is missing or corrupt, or does not fit the configuration.
        """
        checkpoint = resolve(model, config)
        return cls.from_checkpoint(checkpoint, device)

    @classmethod
    def from_checkpoint(cls, checkpoint: ResolvedCheckpoint, device: str | None = None) -> Sam2Engine:
        """Build a model from a resolved checkpoint; see :meth:`load`."""
        with torch.random.fork_rng(devices=[]):  # random initialisation must not disturb the user's streams
            # The fallback to another token is how Meta's models are used; ours say themselves what they are.
            metadata = file_metadata(checkpoint.path)
            official = (checkpoint.base or checkpoint.name) != "bundled" and metadata.get("model") != "bundled"
            built = build_model(checkpoint.config, fallback=official, image_size=checkpoint.image_size)
        state = load_state_dict(checkpoint.path)
        try:
            built.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"The weights in {checkpoint.path.name} do not fit the configuration {Path(checkpoint.config).name}; "
                "give the configuration that the checkpoint was trained with (--config)."
            ) from error
        # The bundled weights say themselves whether their memory was trained.
        memory = official or metadata.get("memory") == "trained"
        if checkpoint.adapter is None:
            return cls(built, checkpoint.name, checkpoint.sha256 or "", device, has_memory=memory)
        part = read_part(checkpoint.adapter, "adapter", checkpoint.file_sha256)
        mpa = MpaAdapter.of_part(part, built)
        record = {"sha256": file_sha256(checkpoint.adapter), "checkpoint_sha256": checkpoint.file_sha256}
        engine = cls(built, checkpoint.name, checkpoint.sha256, device, adapter=record, has_memory=memory)
        with memory_errors(f"load the model {checkpoint.name}"):
            attach(engine.model, mpa)  # once the model is on its device
        return engine

    @property
    def name(self) -> str:
        """Name of the model, as the user chose it."""
        return self._name

    @property
    def sha256(self) -> str:
        """Hash of the checkpoint file; empty for random weights."""
        return self._sha256

    @property
    def resolution(self) -> int:
        """Side of the square input in model pixels."""
        return int(self.model.image_size)

    @property
    def device_label(self) -> str:
        """Where it runs, for people."""
        return device_label(self.device)

    def tracker(self, n_slices: int) -> Sam2Tracker:
        """Begin a walk through at most `n_slices` slices with the model's memory."""
        return Sam2Tracker(self, n_slices)

    def forget_captured(self) -> None:
        """Drop what the hooks kept of a decode that did not go through :meth:`decode_batch`."""
        self._captured.clear()

    def _keep_input(self, key: str) -> Any:
        def hook(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            self._captured[key] = inputs[0]

        return hook

    def _keep_output(self, key: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            self._captured[key] = output

        return hook

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an image, resized (antialiased, aspect not kept) to the model's square input as SAM 2 does.

        Parameters
        ----------
        image : (H, W, 3) uint8

        Raises
        ------
        InputError
            If the image has another shape or type.
        EngineError
            If memory runs out.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(f"The model embeds (H, W, 3) uint8 images, not {image.dtype} of shape {image.shape}.")
        with memory_errors(f"embed the image with {self.name}"):
            tensor = torch.as_tensor(np.array(image, order="C")).movedim(-1, 0)[None].to(self.device).float() / 255
            size = (self.resolution, self.resolution)
            resized = F.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
            features = image_features(self.model, normalise(resized))
        return Embedding(tuple(features), (image.shape[0], image.shape[1]), image)

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, prompts: Sequence[Prompts], *, dense: DenseTransform | None = None
    ) -> Decoded:
        """Masks for N prompts on one embedded image.

        Parameters
        ----------
        embedding : Embedding
        prompts : sequence of Prompts
            In pixel coordinates of the embedded image. Any mixture: prompts of the same form are decoded together.
        dense : callable, optional
            Changes the dense prompt embedding before it is added to the image's; called once for each form.

        Raises
        ------
        InputError
            If `prompts` is empty or one of them says nothing.
        EngineError
            If memory runs out.
        """
        if not prompts or any(p.box is None and not p.points and p.mask is None for p in prompts):
            raise InputError("There is nothing to segment from: draw a box or click a point inside the object.")
        forms: dict[tuple[int, bool, bool], list[int]] = {}
        for index, prompt in enumerate(prompts):
            form = (2 * (prompt.box is not None) + len(prompt.points), prompt.mask is not None, prompt.box is None)
            forms.setdefault(form, []).append(index)
        with memory_errors(f"decode {len(prompts)} prompts with {self.name}"):
            parts = [self._decode_group(embedding, [prompts[i] for i in indices], dense) for indices in forms.values()]
        if len(parts) == 1:
            return parts[0]
        order = torch.as_tensor(np.argsort(np.concatenate(list(forms.values()))))
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Decoded(*(torch.cat(column)[order.to(column[0].device)] for column in columns))

    def _decode_group(self, embedding: Embedding, prompts: Sequence[Prompts], change: DenseTransform | None) -> Decoded:
        """Prompts with the same number of points, all or none with a mask: one batch without padding tokens."""
        masks = None
        if prompts[0].mask is not None:
            masks = torch.as_tensor(np.stack([p.mask.logits for p in prompts if p.mask])[:, None]).to(self.device)
        return self.decode_batch(embedding.features, self._points(embedding, prompts), masks, dense=change)

    def decode_batch(
        self,
        features: Sequence[Tensor],
        points: tuple[Tensor, Tensor] | None,
        masks: Tensor | None = None,
        *,
        dense: DenseTransform | None = None,
    ) -> Decoded:
        """Masks for n prompts of one form, given as the model takes them.

        Autograd follows unless it is switched off around the call: training needs its way back to `masks` and `dense`.

        Parameters
        ----------
        features : sequence of tensors (1, C_i, h_i, w_i)
            Of one image, the image embedding last.
        points : ((n, k, 2) float32, (n, k) int32), optional
            ``(x, y)`` in pixels of the model's input, and SAM's labels.
        masks : (n, 1, h, w) float32, optional
            Logits of mask prompts, of any resolution.
        dense : callable, optional
            Changes the dense prompt embedding before it is added to the image's.
        """
        encoder, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        if masks is not None:
            masks = masks.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            if masks.shape[-2:] != encoder.mask_input_size:
                masks = F.interpolate(masks, encoder.mask_input_size, mode="bilinear", align_corners=False)
        sparse, embedded = encoder(points=points, boxes=None, masks=masks)
        logits, iou, _, score = decoder.predict_masks(
            image_embeddings=features[-1],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=embedded if dense is None else dense(embedded),
            repeat_image=len(sparse) > 1,
            high_res_features=list(features[:-1]),
        )
        tokens = range(logits.shape[1])
        hidden = torch.stack([self._captured[f"hidden{t}"] for t in tokens], 1).float()
        token_in = torch.stack([self._captured[f"token{t}"] for t in tokens], 1).float()
        upscaled, source = self._captured["features"].float(), self._captured["source"].float()
        self._captured.clear()
        logits, iou = logits.float(), iou.float()
        token, rows = self._chosen_token(logits, iou), torch.arange(len(logits), device=logits.device)
        chosen = (logits[rows, token], token, hidden[rows, token], upscaled, iou[rows, token], score.float()[:, 0])
        return Decoded(*chosen, logits, hidden, iou, token_in, source)

    def _points(self, embedding: Embedding, prompts: Sequence[Prompts]) -> tuple[Tensor, Tensor] | None:
        pairs = [to_sam_points(p) for p in prompts]
        if pairs[0][1].size == 0:
            return None
        height, width = embedding.shape
        coordinates = torch.as_tensor(np.stack([c for c, _ in pairs])).to(self.device)
        scale = torch.tensor([width, height], dtype=torch.float32, device=self.device)
        labels = torch.as_tensor(np.stack([k for _, k in pairs])).to(self.device)
        return coordinates / scale * self.resolution, labels

    def _chosen_token(self, logits: Tensor, iou: Tensor) -> Tensor:
        """Token 0; where it is unstable and the model falls back, the multi-mask token of highest predicted IoU."""
        decoder, zeros = self.model.sam_mask_decoder, torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        if not decoder.dynamic_multimask_via_stability:
            return zeros
        delta, threshold = decoder.dynamic_multimask_stability_delta, decoder.dynamic_multimask_stability_thresh
        inner, outer = ((logits[:, 0] > d).sum((-2, -1)).float() for d in (delta, -delta))
        stable = torch.where(outer > 0, inner / outer, 1.0) >= threshold
        return torch.where(stable, zeros, 1 + iou[:, 1:].argmax(-1))
