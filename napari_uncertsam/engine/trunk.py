"""EfficientNet-Lite as the trunk of a SAM 2 image encoder: what fits into a small file and runs fast without a GPU.

Tan and Le, "EfficientNet: Rethinking model scaling for convolutional neural networks" (2019); the Lite variants leave
out squeeze-and-excitation and use ReLU6. Batch normalisation is folded into the convolutions before it, which leaves
plain convolutions with biases: they are what is fine-tuned, stored and run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks of one width: the first changes the resolution by `stride`."""

    repeats: int
    channels: int
    kernel: int
    stride: int
    expansion: int


#: Of the smallest network (Lite0), from which the others are scaled.
STAGES = (
    Stage(1, 16, 3, 1, 1),
    Stage(2, 24, 3, 2, 6),
    Stage(2, 40, 5, 2, 6),
    Stage(3, 80, 3, 2, 6),
    Stage(3, 112, 5, 1, 6),
    Stage(4, 192, 5, 2, 6),
    Stage(1, 320, 3, 1, 6),
)
STEM = 32


class PaddedConv(nn.Conv2d):
    """Convolution that pads as TensorFlow's "SAME" does for an input of a given side, whatever side it then gets.

    With stride 2, an even side is padded more behind than before and an odd one evenly; a network keeps the alignment
    that it was trained with when it is run at another resolution.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, side: int = 1, groups: int = 1):
        total = max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
        self.before = kernel // 2 if stride == 1 else total // 2
        self.behind = kernel // 2 if stride == 1 else total - total // 2
        even = self.before == self.behind
        super().__init__(inputs, outputs, kernel, stride, self.before if even else 0, groups=groups)

    def forward(self, values: Tensor) -> Tensor:
        """``(n, inputs, h, w)`` to ``(n, outputs, h / stride, w / stride)``, rounded up."""
        if self.before != self.behind:
            values = F.pad(values, (self.before, self.behind, self.before, self.behind))
        return super().forward(values)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection, around which the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stage: Stage, stride: int, side: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        layers: list[nn.Module] = []
        if stage.expansion != 1:
            layers += [PaddedConv(inputs, inner, 1), nn.ReLU6()]
        deep = PaddedConv(inner, inner, stage.kernel, stride=stride, side=side, groups=inner)
        layers += [deep, nn.ReLU6(), PaddedConv(inner, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.dim_out, self.residual = outputs, stride == 1 and inputs == outputs

    def forward(self, values: Tensor) -> Tensor:
        """``(n, inputs, h, w)`` to ``(n, outputs, h / stride, w / stride)``."""
        out: Tensor = self.layers(values)
        return out + values if self.residual else out


class EfficientNetLite(nn.Module):
    """Trunk with feature maps at 4, 8, 16 and 32 pixels, as `sam2.modeling.backbones.image_encoder` takes one.

    Parameters
    ----------
    width, depth : float
        Factors on channels and repeats: 1, 1 for Lite0; 1, 1.1 for Lite1; 1.1, 1.2 for Lite2.
    side : int
        Side of the images that the weights were trained with (224, 240, 260), which decides how they are padded.
    freeze : int
        So many of the first stages, and the stem, get no gradient: the early layers of a pretrained network are the
        most expensive to train, and change least.

    Examples
    --------
    >>> import torch
    >>> trunk = EfficientNetLite()
    >>> [tuple(m.shape[1:]) for m in trunk(torch.zeros(1, 3, 64, 64))]
    [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    """

    def __init__(self, width: float = 1.0, depth: float = 1.0, side: int = 224, freeze: int = 0) -> None:
        super().__init__()
        self.freeze = freeze
        self.stem = nn.Sequential(PaddedConv(3, STEM, 3, stride=2, side=side), nn.ReLU6())
        self.stages = nn.ModuleList()
        inputs, side = STEM, math.ceil(side / 2)
        for k, stage in enumerate(STAGES):
            ends = k in (0, len(STAGES) - 1)  # the Lite networks scale neither the stem nor the depth of the ends
            repeats = stage.repeats if ends else math.ceil(depth * stage.repeats)
            outputs, blocks = rounded(width * stage.channels), []
            for r in range(repeats):
                stride = stage.stride if r == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, stage, stride, side))
                inputs, side = outputs, math.ceil(side / stride)
            self.stages.append(nn.Sequential(*blocks))
        #: Indices of the stages whose output is the last of its resolution.
        self.taken = [k for k, (_, after) in enumerate(pairwise(STAGES)) if after.stride == 2 and k > 0]
        self.taken.append(len(STAGES) - 1)
        #: Of the outputs, lowest resolution first: the order in which sam2's neck lists its inputs.
        self.channel_list = [rounded(width * STAGES[k].channels) for k in reversed(self.taken)]

    @property
    def blocks(self) -> list[InvertedResidual]:
        """All blocks in their order."""
        return [module for module in self.modules() if isinstance(module, InvertedResidual)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised ``(n, 3, s, s)`` images to four maps, highest resolution first."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.freeze == 0):
            values = self.stem(images.contiguous(memory_format=torch.channels_last))
        maps = []
        for k, stage in enumerate(self.stages):
            with torch.set_grad_enabled(torch.is_grad_enabled() and k >= self.freeze):
                values = stage(values)
            if k in self.taken:
                maps.append(values.contiguous())  # sam2's predictors reshape what they get in place
        return maps


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, never less than nine tenths of what was asked for."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
