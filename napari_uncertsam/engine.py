"""SAM 2 behind a small protocol: an image is embedded once, prompts are decoded in batches.

The only module that imports `sam2`. Everything a last-layer method needs (the hypernetwork's last hidden vector and the
upscaled features, METHODS 5.1) is captured by forward hooks during the one decode; SAM 2 itself is not patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.checkpoints import ResolvedCheckpoint, load_state_dict, resolve
from napari_uncertsam.devices import choose_device, device_label
from napari_uncertsam.errors import CheckpointError, EngineError, InputError
from napari_uncertsam.prompts import Prompts, to_sam_points

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: `SAM2ImagePredictor` clamps low-resolution logits to this before it gives them back as a mask prompt.
LOGIT_LIMIT = 32.0
#: What `build_sam2` sets for prediction: the best multi-mask token where token 0 is unstable.
STABILITY_FALLBACK = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder made of one image.

    Parameters
    ----------
    features : tuple of tensors (1, C_i, h_i, w_i)
        Highest resolution first, the image embedding last.
    shape : (int, int)
        ``(H, W)`` of the image that was embedded; prompts are in its pixel coordinates.
    """

    features: tuple[Tensor, ...]
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(f.nbytes for f in self.features)


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks for N prompts, and what they were computed from; float32 tensors on the CPU or the engine's device.

    Parameters
    ----------
    logits : (N, h, w)
        Low-resolution logits of the token that SAM 2 chose, not clamped.
    token : (N,) int64
        Which mask token that was: 0, or 1 to 3 where token 0 was unstable and the model has the fallback.
    hidden : (N, C)
        Input `a` of the last layer of the chosen token's hypernetwork.
    features : (N, K, h, w)
        Upscaled features `u`: ``logits = einsum("k,khw", W a + b, u)``.
    iou : (N,)
        Predicted intersection over union of the chosen mask.
    object_score : (N,)
        Logit of "there is an object".
    token_logits : (N, T, h, w)
        Logits of all T mask tokens.
    token_hidden : (N, T, C)
    token_iou : (N, T)
    """

    logits: Tensor
    token: Tensor
    hidden: Tensor
    features: Tensor
    iou: Tensor
    object_score: Tensor
    token_logits: Tensor
    token_hidden: Tensor
    token_iou: Tensor


@runtime_checkable
class Engine(Protocol):
    """A promptable segmentation model. Not safe for use from two threads at once."""

    @property
    def name(self) -> str:
        """Name of the model, as the user chose it."""

    @property
    def device_label(self) -> str:
        """Where it runs, for people: "CPU (2 threads)", "GPU: NVIDIA H200"."""

    @property
    def sha256(self) -> str:
        """Hash of the checkpoint file."""

    @property
    def resolution(self) -> int:
        """Side of the square input in model pixels."""

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an ``(H, W, 3)`` uint8 RGB image."""

    def decode(self, embedding: Embedding, prompts: Sequence[Prompts]) -> Decoded:
        """Masks for several prompts on one image."""


def config_path(config: str | Path) -> Path:
    """A configuration by its name inside the `sam2` package or by its path.

    Raises
    ------
    CheckpointError
        If there is no such file.
    """
    import sam2

    for candidate in (Path(config), Path(next(iter(sam2.__path__))) / config):
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"There is no model configuration {str(config)!r}: give a file, or a name of the sam2 package such as "
        "configs/sam2.1/sam2.1_hiera_t.yaml."
    )


def build_model(config: str | Path, *, fallback: bool = False, image_size: int | None = None) -> Any:
    """A `SAM2Base` with random weights from a configuration in sam2's format.

    Parameters
    ----------
    config : str or Path
        See :func:`config_path`.
    fallback : bool
        Choose another mask token when token 0 is unstable, as `build_sam2` sets it for prediction.
    image_size : int, optional
        Side of the input, where it is not the configuration's.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = config_path(config)
    try:
        loaded = OmegaConf.load(path)
        OmegaConf.resolve(loaded)
        model = loaded.model
    except (OmegaConfBaseException, YAMLError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path.name} is not a SAM 2 model configuration ({error}).") from error
    if fallback:
        model.sam_mask_decoder_extra_args = {**STABILITY_FALLBACK, **(model.get("sam_mask_decoder_extra_args") or {})}
    if image_size is not None:
        model.image_size = image_size
    return instantiate(model, _recursive_=True)


def normalise(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` images in [0, 1] less ImageNet's mean over its standard deviation."""
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def image_features(model: Any, images: Tensor) -> list[Tensor]:
    """Feature maps of normalised ``(B, 3, S, S)`` images, highest resolution first, image embedding last."""
    encoded = model.forward_image(images)
    _, features, _, sizes = model._prepare_backbone_features(encoded)
    if model.directly_add_no_mem_embed:
        features[-1] = features[-1] + model.no_mem_embed
    return [f.permute(1, 2, 0).reshape(len(images), -1, *size) for f, size in zip(features, sizes, strict=True)]


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn an out-of-memory error into a sentence; the session goes on."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineError(_out_of_memory(what)) from error
    except RuntimeError as error:
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            raise EngineError(_out_of_memory(what)) from error
        raise


def _out_of_memory(what: str) -> str:
    return (
        f"There was not enough memory to {what}; choose a smaller model, close other programs, "
        "or run on the CPU. Nothing was lost."
    )


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
    """

    def __init__(self, model: Any, name: str, sha256: str = "", device: str | None = None) -> None:
        self.device = choose_device(device)
        with memory_errors(f"load the model {name}"):
            self.model = model.to(self.device).eval()
        self.model.requires_grad_(False)
        self._name, self._sha256 = name, sha256
        self._captured: dict[str, Tensor] = {}
        decoder = self.model.sam_mask_decoder
        for token, mlp in enumerate(decoder.output_hypernetworks_mlps):
            mlp.layers[-1].register_forward_pre_hook(self._keep_input(f"hidden{token}"))
        decoder.output_upscaling[-1].register_forward_hook(self._keep_output("features"))

    @classmethod
    def load(cls, model: str = "bundled", config: str | None = None, device: str | None = None) -> Sam2Engine:
        """Build a model from its checkpoint.

        Parameters
        ----------
        model : str
            A name of `napari_uncertsam.checkpoints`, or the path of a checkpoint (then `config` is needed).
        config : str, optional
            Name inside the sam2 package, or path, of the model's configuration.
        device : str, optional

        Raises
        ------
        CheckpointError
            If the checkpoint is missing or corrupt, or does not fit the configuration.
        """
        checkpoint = resolve(model, config)
        return cls.from_checkpoint(checkpoint, device)

    @classmethod
    def from_checkpoint(cls, checkpoint: ResolvedCheckpoint, device: str | None = None) -> Sam2Engine:
        """Build a model from a resolved checkpoint; see :meth:`load`."""
        with torch.random.fork_rng(devices=[]):  # random initialisation must not disturb the user's streams
            built = build_model(
                checkpoint.config, fallback=checkpoint.name != "bundled", image_size=checkpoint.image_size
            )
        state = load_state_dict(checkpoint.path)
        try:
            built.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"The weights in {checkpoint.path.name} do not fit the configuration {Path(checkpoint.config).name}; "
                "give the configuration that the checkpoint was trained with (--config)."
            ) from error
        return cls(built, checkpoint.name, checkpoint.sha256 or "", device)

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
        return Embedding(tuple(features), (image.shape[0], image.shape[1]))

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: Sequence[Prompts]) -> Decoded:
        """Masks for N prompts on one embedded image.

        Parameters
        ----------
        embedding : Embedding
        prompts : sequence of Prompts
            In pixel coordinates of the embedded image. Any mixture: prompts of the same form are decoded together.

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
            parts = [self._decode_group(embedding, [prompts[i] for i in indices]) for indices in forms.values()]
        order = torch.as_tensor(np.argsort(np.concatenate(list(forms.values()))))
        if len(parts) == 1:
            return Decoded(*parts[0])
        return Decoded(*(torch.cat(column)[order.to(column[0].device)] for column in zip(*parts, strict=True)))

    def _decode_group(self, embedding: Embedding, prompts: Sequence[Prompts]) -> tuple[Tensor, ...]:
        """Prompts with the same number of points, all or none with a mask: one batch without padding tokens."""
        encoder, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        points, masks = self._points(embedding, prompts), None
        if prompts[0].mask is not None:
            masks = torch.as_tensor(np.stack([p.mask.logits for p in prompts if p.mask])[:, None]).to(self.device)
            masks = masks.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            if masks.shape[-2:] != encoder.mask_input_size:
                masks = F.interpolate(masks, encoder.mask_input_size, mode="bilinear", align_corners=False)
        sparse, dense = encoder(points=points, boxes=None, masks=masks)
        logits, iou, _, score = decoder.predict_masks(
            image_embeddings=embedding.features[-1],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=len(prompts) > 1,
            high_res_features=list(embedding.features[:-1]),
        )
        tokens = range(logits.shape[1])
        hidden = torch.stack([self._captured[f"hidden{t}"] for t in tokens], 1).float()
        features = self._captured["features"].float()
        self._captured.clear()
        logits, iou = logits.float(), iou.float()
        token, rows = self._chosen_token(logits, iou), torch.arange(len(prompts), device=logits.device)
        chosen = (logits[rows, token], token, hidden[rows, token], features, iou[rows, token], score.float()[:, 0])
        return (*chosen, logits, hidden, iou)

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
