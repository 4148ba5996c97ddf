"""Layers that trained heads have in common with SAM 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """Normalises the channels of every pixel of ``(n, C, h, w)``, with a scale and a shift for each channel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, values: Tensor) -> Tensor:
        """``(n, C, h, w)`` to the same shape."""
        last = values.movedim(1, -1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)
