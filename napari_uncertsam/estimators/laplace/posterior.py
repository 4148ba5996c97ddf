"""Posteriors over a hypernetwork's last layer, and the covariance of its output that each implies.

All weights of the layer are ``theta = [W, b]``, ``(K, C + 1)``. Whatever the structure of their covariance, the layer's
output ``z = theta a~`` has a ``(K, K)`` covariance M, and pixels have ``Cov(f_p, f_r) = u_p^T M u_r``, of rank K at
most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from napari_uncertsam.errors import CheckpointError, InputError

Structure = Literal["diagonal", "kfac", "full", "hierarchical"]
STRUCTURES: tuple[Structure, ...] = get_args(Structure)


class Posterior(Protocol):
    """A covariance of the weights of one last layer."""

    def output_covariance(self, hidden: Tensor) -> Tensor:
        """Covariance M ``(N, K, K)`` of the layer's output for inputs a~ ``(N, C + 1)``, both float64."""

    def tensors(self) -> Mapping[str, Tensor]:
        """What is stored."""


@dataclass(frozen=True, eq=False)
class DiagonalPosterior:
    """Independent weights, UncertSAM's posterior: ``M = diag(sum_j s2[k, j] a~_j^2)``.

    Parameters
    ----------
    variance : (K, C + 1) float64
        Of every weight, ``1 / (H / T + prior precision)``.
    """

    variance: Tensor

    @classmethod
    def fit(cls, curvature: Tensor, hidden: Tensor, prior: float, temperature: float) -> DiagonalPosterior:
        """From the curvature B ``(N, K, K)`` and the input a~ ``(N, C + 1)`` of every image."""
        hessian = curvature.diagonal(dim1=1, dim2=2).mT @ hidden**2
        return cls(1 / (hessian / temperature + prior))

    def output_covariance(self, hidden: Tensor) -> Tensor:
        """See :class:`Posterior`."""
        return torch.diag_embed(hidden**2 @ self.variance.mT)

    def tensors(self) -> Mapping[str, Tensor]:
        """See :class:`Posterior`."""
        return {"variance": self.variance}


@dataclass(frozen=True, eq=False)
class KroneckerPosterior:
    """Kronecker-factored curvature ``H = G (x) A`` with a prior that is added exactly, in both eigenbases.

    Parameters
    ----------
    output_values, output_vectors : (K,), (K, K) float64
        Eigenvalues and eigenvectors (columns) of ``G = sum_n B_n / T``.
    input_values, input_vectors : (C + 1,), (C + 1, C + 1) float64
        Of ``A``, the mean of ``a~ a~^T``.
    prior : (1,) float64
        Prior precision.
    """

    output_values: Tensor
    output_vectors: Tensor
    input_values: Tensor
    input_vectors: Tensor
    prior: Tensor

    @classmethod
    def fit(cls, curvature: Tensor, hidden: Tensor, prior: float, temperature: float) -> KroneckerPosterior:
        """As :meth:`DiagonalPosterior.fit`."""
        outer = torch.linalg.eigh(curvature.sum(0) / temperature)
        inner = torch.linalg.eigh(hidden.mT @ hidden / len(hidden))
        values = (outer.eigenvalues.clamp(min=0), inner.eigenvalues.clamp(min=0))
        return cls(values[0], outer.eigenvectors, values[1], inner.eigenvectors, hidden.new_tensor([prior]))

    def output_covariance(self, hidden: Tensor) -> Tensor:
        """See :class:`Posterior`."""
        power = (hidden @ self.input_vectors) ** 2
        spread = power @ (1 / (self.output_values[:, None] * self.input_values + self.prior)).mT
        return (self.output_vectors * spread[:, None]) @ self.output_vectors.mT

    def tensors(self) -> Mapping[str, Tensor]:
        """See :class:`Posterior`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class LowRankPosterior:
    """The full curvature by its leading eigenvectors: ``Sigma = (I - V diag(e / (e + T prior)) V^T) / prior``.

    With all ``K (C + 1)`` eigenvectors that is the full posterior exactly; with fewer, directions that the data hardly
    determine keep the prior's variance.

    Parameters
    ----------
    vectors : (K, C + 1, r)
        Orthonormal eigenvectors V of H.
    shrink : (r,) float64
        ``e / (e + T prior)``, in [0, 1).
    prior : (1,) float64
    """

    vectors: Tensor
    shrink: Tensor
    prior: Tensor

    @classmethod
    def of_eigenpairs(cls, values: Tensor, vectors: Tensor, prior: float, temperature: float) -> LowRankPosterior:
        """From the leading eigenvalues ``(r,)`` and eigenvectors ``(K, C + 1, r)`` of the curvature."""
        values = values.clamp(min=0)
        return cls(vectors, values / (values + temperature * prior), values.new_tensor([prior]))

    def output_covariance(self, hidden: Tensor) -> Tensor:
        """See :class:`Posterior`."""
        seen = torch.einsum("kjr,nj->nkr", self.vectors.double(), hidden)
        known = (seen * self.shrink) @ seen.mT
        free = (hidden**2).sum(1)[:, None, None] * torch.eye(known.shape[-1], dtype=known.dtype, device=known.device)
        return (free - known) / self.prior

    def tensors(self) -> Mapping[str, Tensor]:
        """See :class:`Posterior`."""
        return {"vectors": self.vectors.float(), "shrink": self.shrink, "prior": self.prior}


@dataclass(frozen=True, eq=False)
class HierarchicalPosterior:
    """Every image has its own last layer, scattered about the trained one: M is the scatter of the layer's output.

    The other structures say how well the data determine one layer for all images, which thousands of pixels an image
    do only too well. What remains uncertain is by how much the best layer for the next image differs; that scatter is
    estimated from images with masks (:mod:`napari_uncertsam.training.scatter`).

    Parameters
    ----------
    scatter : (K, K) float64
    """

    scatter: Tensor

    def output_covariance(self, hidden: Tensor) -> Tensor:
        """See :class:`Posterior`; the same for every input."""
        return self.scatter.expand(len(hidden), -1, -1)

    def tensors(self) -> Mapping[str, Tensor]:
        """See :class:`Posterior`."""
        return {"scatter": self.scatter}


_CLASSES: Mapping[Structure, type[Posterior]] = {
    "diagonal": DiagonalPosterior,
    "kfac": KroneckerPosterior,
    "full": LowRankPosterior,
    "hierarchical": HierarchicalPosterior,
}


def posterior_from_tensors(structure: str, tensors: Mapping[str, Tensor]) -> Posterior:
    """A posterior as it was stored.

    Raises
    ------
    CheckpointError
        If the tensors are not those of this structure.
    """
    try:
        return _CLASSES[structure](**{k: v.double() for k, v in tensors.items()})  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"The Laplace posterior is damaged: {structure!r} with {', '.join(tensors)}.") from error


def check_structure(structure: str) -> None:
    """Raise `InputError` for a structure that does not exist."""
    if structure not in STRUCTURES:
        raise InputError(f"There is no posterior structure {structure!r}; choose one of {', '.join(STRUCTURES)}.")
