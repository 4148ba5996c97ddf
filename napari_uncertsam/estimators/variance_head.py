"""The trained part of UncertSAM's variance network (App. C): the log-variance of each mask token's probability.

A branch beside the mask decoder's upscaling, and a hypernetwork for each mask token beside the decoder's own; their
product is a map, as it is for the masks. Dimensions are the model's: 725,344 parameters for SAM 2 of any size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_uncertsam.engine.layers import ChannelNorm
from napari_uncertsam.errors import CheckpointError
from napari_uncertsam.estimators.measures import LOG_VARIANCE_LIMIT

if TYPE_CHECKING:
    from napari_uncertsam.engine import Decoded


class VarianceHead(nn.Module):
    """Log-variances from what leaves the decoder's two-way transformer.

    Parameters
    ----------
    channels : int
        C of the mask tokens and the source.
    between, features : int
        Channels after the first and the second convolution; the decoder's upscaling has C / 4 and C / 8.
    tokens : int
        Mask tokens.

    Examples
    --------
    >>> head = VarianceHead(256, 64, 32, 4)
    >>> sum(p.numel() for p in head.parameters())
    725344
    >>> head(torch.zeros(2, 256, 5, 5), torch.zeros(2, 4, 256)).shape
    torch.Size([2, 4, 20, 20])
    """

    def __init__(self, channels: int, between: int, features: int, tokens: int) -> None:
        super().__init__()
        self.upscaling = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(channels, between, 3, padding=1),
            ChannelNorm(between),
            nn.GELU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(between, features, 3, padding=1),
            nn.GELU(),
        )
        self.hypernetworks = nn.ModuleList(_hypernetwork(channels, features) for _ in range(tokens))

    @classmethod
    def of_model(cls, model: Any, seed: int = 0) -> VarianceHead:
        """An untrained head for a `SAM2Base`; the same for the same seed."""
        decoder = model.sam_mask_decoder
        convolutions = [layer for layer in decoder.output_upscaling if hasattr(layer, "out_channels")]
        between, features = (layer.out_channels for layer in convolutions)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(decoder.transformer_dim, between, features, decoder.num_mask_tokens)

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> VarianceHead:
        """A head with the weights of a fitted part, for inference.

        Raises
        ------
        CheckpointError
            If they are not those of a head.
        """
        try:
            between, channels = tensors["upscaling.1.weight"].shape[:2]
            features = tensors["upscaling.5.weight"].shape[0]
            count = len({name.split(".")[1] for name in tensors if name.startswith("hypernetworks.")})
            with torch.random.fork_rng(devices=[]):
                head = cls(channels, between, features, count)
            head.load_state_dict(dict(tensors))
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError("These are not the weights of a variance head; fit it again.") from error
        return head.eval().requires_grad_(False)

    def forward(self, source: Tensor, token_embedding: Tensor) -> Tensor:
        """Log-variances of all mask tokens, within +-5.

        Parameters
        ----------
        source : (n, C, h / 4, w / 4)
            See :class:`napari_uncertsam.engine.Decoded`.
        token_embedding : (n, T, C)

        Returns
        -------
        (n, T, h, w)
        """
        maps = self.upscaling(source)
        weights = torch.stack([mlp(token_embedding[:, t]) for t, mlp in enumerate(self.hypernetworks)], 1)
        limit = LOG_VARIANCE_LIMIT
        return torch.einsum("ntk,nkhw->nthw", weights, maps).clamp(-limit, limit)

    def of_chosen(self, decoded: Decoded) -> Tensor:
        """Log-variances ``(n, h, w)`` of the tokens that the model chose."""
        rows = torch.arange(len(decoded.token), device=decoded.token.device)
        maps: Tensor = self(decoded.source, decoded.token_embedding)
        return maps[rows, decoded.token]


def _hypernetwork(channels: int, features: int) -> nn.Sequential:
    """Three linear layers; Kaiming-normal by fan-out, without bias to begin with."""
    widths = (channels, channels, features)
    layers: list[nn.Module] = []
    for width in widths:
        linear = nn.Linear(channels, width)
        nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
