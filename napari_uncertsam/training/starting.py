"""What a training of the bundled model starts from: random weights, ImageNet's trunk, earlier weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from napari_uncertsam.checkpoints import load_state_dict
from napari_uncertsam.engine.trunk import EfficientNetLite
from napari_uncertsam.errors import InputError
from napari_uncertsam.training.imagenet import load_imagenet, read_imagenet

IMAGENET = "imagenet"


def start_from(model: Any, sources: Sequence[str]) -> list[str]:
    """Fill a model with weights; a later source wins over an earlier one.

    Parameters
    ----------
    model : SAM2Base
        With random weights.
    sources : sequence of str
        ``"imagenet"`` or the path of a checkpoint, of which every tensor with a fitting name and shape is taken: that
        of a model with another trunk brings its decoder.

    Returns
    -------
    One sentence for each source.
    """
    initialise(model)
    said = []
    for source in sources:
        if source == IMAGENET:
            trunk = model.image_encoder.trunk
            if not isinstance(trunk, EfficientNetLite):
                raise InputError("ImageNet weights are for an EfficientNet-Lite trunk; leave out --start imagenet.")
            load_imagenet(trunk, read_imagenet())
            said.append("The trunk starts from ImageNet weights.")
            continue
        own, loaded = model.state_dict(), load_state_dict(Path(source))
        fitting = {k: v for k, v in loaded.items() if k in own and own[k].shape == v.shape}
        if not fitting:
            raise InputError(f"Nothing in {source} fits the model; give weights of a similar one to --start.")
        model.load_state_dict(fitting, strict=False)
        said.append(f"{len(fitting)} of {len(own)} tensors start from {Path(source).name}.")
    return said


def initialise(model: Any) -> None:
    """Initial scales without which a network this small does not start to learn: see docs/MODEL_CARD.md."""
    with torch.no_grad():
        for level in model.image_encoder.neck.convs:
            level.conv.weight.mul_(0.1)
        model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(0.3)
