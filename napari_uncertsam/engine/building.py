"""SAM 2 models from configuration files, and the image encoder's features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_uncertsam.errors import CheckpointError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: What `build_sam2` sets for prediction: the best multi-mask token where token 0 is unstable.
STABILITY_FALLBACK = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


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
