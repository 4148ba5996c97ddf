"""A last layer that is small enough for brute force: every weight is an axis of a dense matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_uncertsam.estimators.laplace.curvature import Curvature, curvature_of, with_bias

IMAGES, OUTPUTS, HIDDEN, SIDE = 7, 4, 5, 6
PRIOR, TEMPERATURE = 0.7, 2.5


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A layer ``(K, C + 1)`` of weights and bias, and what it meets in N images of ``side x side`` pixels.

    `hidden` is ``(N, C + 1)`` with a one, `features` ``(N, K, side, side)``.
    """

    weight: Tensor
    hidden: Tensor
    features: Tensor

    @classmethod
    def draw(cls, seed: int = 0, images: int = IMAGES, outputs: int = OUTPUTS, inputs: int = HIDDEN) -> LastLayer:
        """Random weights and features; hidden units are not negative, as behind a ReLU."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        hidden = with_bias(normal(images, inputs).relu())
        return cls(normal(outputs, inputs + 1), hidden, normal(images, outputs, SIDE, SIDE))

    def logits_of(self, weight: Tensor, image: int) -> Tensor:
        """Logits ``(side, side)`` of an image with other weights ``(K, C + 1)``; differentiable."""
        return torch.einsum("k,khw->hw", weight @ self.hidden[image], self.features[image])

    @property
    def logits(self) -> Tensor:
        """``(N, side, side)``."""
        return torch.stack([self.logits_of(self.weight, n) for n in range(len(self.hidden))])

    def curvature(self, kind: Curvature) -> Tensor:
        """The code under test: B of every image, ``(N, K, K)``."""
        return curvature_of(kind, self.logits, self.features)


def kronecker_sum(curvature: Tensor, hidden: Tensor) -> Tensor:
    """``sum_n B_n (x) a~_n a~_n^T`` as a dense matrix over the weights in row-major order."""
    return sum(torch.kron(b, torch.outer(a, a)) for b, a in zip(curvature, hidden, strict=True))  # type: ignore[return-value]


def output_covariance(weights: Tensor, a: Tensor) -> Tensor:
    """Covariance of ``theta a~`` from the dense covariance of the weights, by its definition."""
    jacobian = torch.kron(torch.eye(len(weights) // len(a), dtype=a.dtype), a[None])
    return jacobian @ weights @ jacobian.mT
