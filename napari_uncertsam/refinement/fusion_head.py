"""The trained part of dense embedding fusion (UncertSAM, App. D): an encoder of the uncertainty and a 1x1 convolution.

The encoder has the architecture of SAM 2's mask encoder; the convolution makes one dense prompt embedding of the mask's
and the uncertainty's. Dimensions are the model's: 136,012 parameters for SAM 2 of any size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from napari_uncertsam.engine.layers import ChannelNorm
from napari_uncertsam.errors import CheckpointError, InputError

Start = Literal["identity", "random"]


def check_start(start: str) -> None:
    """Raise `InputError` for initial values that there are not."""
    if start not in get_args(Start):
        raise InputError(f"There is no start {start!r} of a dense fusion; choose one of {', '.join(get_args(Start))}.")


class FusionHead(nn.Module):
    """Dense prompt embedding from that of a mask prompt and a map of the mask's uncertainty.

    Parameters
    ----------
    channels : int
        C of the model's dense prompt embedding.
    mask_channels : int
        Widest hidden layer of the model's mask encoder; a multiple of 4.
    start : {"identity", "random"}
        Initial values. "identity" passes the mask's embedding through and leaves the uncertainty out, so that training
        starts from what the model does with the mask prompt; "random" is the paper's, which has to learn to let the
        mask through first.

    Examples
    --------
    >>> sum(p.numel() for p in FusionHead(256, 16).parameters())
    136012
    >>> embedding = torch.randn(2, 8, 3, 3)
    >>> torch.equal(FusionHead(8, 4)(embedding, torch.rand(2, 1, 12, 12)), embedding)
    True
    """

    def __init__(self, channels: int, mask_channels: int, start: Start = "identity") -> None:
        super().__init__()
        check_start(start)
        quarter = mask_channels // 4
        self.encoder = nn.Sequential(
            nn.Conv2d(1, quarter, 2, stride=2),
            ChannelNorm(quarter),
            nn.GELU(),
            nn.Conv2d(quarter, mask_channels, 2, stride=2),
            ChannelNorm(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, channels, 1),
        )
        self.fusion = nn.Conv2d(2 * channels, channels, 1)
        if start == "identity":
            with torch.no_grad():
                self.fusion.weight.zero_()[:, :channels, 0, 0].fill_diagonal_(1)
                self.fusion.bias.zero_()  # type: ignore[union-attr]

    @classmethod
    def of_model(cls, model: Any, start: Start = "identity", seed: int = 0) -> FusionHead:
        """An untrained head for a `SAM2Base`; the same for the same seed."""
        last = model.sam_prompt_encoder.mask_downscaling[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(last.out_channels, last.in_channels, start)

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> FusionHead:
        """A head with the weights of a fitted part, for inference.

        Raises
        ------
        CheckpointError
            If they are not those of a head.
        """
        try:
            channels, mask_channels = tensors["encoder.6.weight"].shape[:2]
            with torch.random.fork_rng(devices=[]):
                head = cls(channels, mask_channels)
            head.load_state_dict(dict(tensors))
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError("These are not the weights of a dense fusion; fit it again.") from error
        return head.eval().requires_grad_(False)

    def forward(self, mask_embedding: Tensor, uncertainty: Tensor) -> Tensor:
        """Fuse.

        Parameters
        ----------
        mask_embedding : (n, C, h, w)
            The model's dense embedding of the mask prompt.
        uncertainty : (n, 1, 4 h, 4 w)
            At the mask prompt's resolution; in nats if it is an entropy.

        Returns
        -------
        (n, C, h, w)
        """
        fused: Tensor = self.fusion(torch.cat([mask_embedding, self.encoder(uncertainty)], 1))
        return fused
