"""Which posterior: every setting is fitted to some images, and the one that explains the others best is kept.

By likelihood, never by how well entropy correlates with errors: the authors' correlation rises with anything that
pushes probabilities towards one half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_uncertsam.estimators.laplace import LaplacePosteriors, Posterior, Structure, mean_probability
from napari_uncertsam.estimators.laplace.curvature import Curvature
from napari_uncertsam.estimators.laplace.posterior import (
    DiagonalPosterior,
    HierarchicalPosterior,
    KroneckerPosterior,
    LowRankPosterior,
)
from napari_uncertsam.training.eigenpairs import leading_eigenpairs
from napari_uncertsam.training.laplace_data import Collected
from napari_uncertsam.training.laplace_settings import Choice, LaplaceSettings
from napari_uncertsam.training.scatter import fit_scatter

#: Precisions of the prior that are tried, and temperatures: each image's curvature counts 1 / T.
PRIORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TEMPERATURES: Mapping[Curvature, tuple[float, ...]] = {
    "bernoulli": (1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
    "softmax": (1e-3, 1e-2, 0.1, 1.0, 10.0),
}
#: For the hierarchical posterior: temperatures of a pixel's likelihood, and factors on the scatter.
SCATTER_TEMPERATURES = (3.0, 10.0, 30.0, 100.0, 300.0)
SCATTER_FACTORS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
#: A token with fewer prompts is fitted to those of all tokens together.
FEWEST = 32
#: Eigenvectors of the full curvature that are kept.
RANK = 256


@dataclass(frozen=True, eq=False)
class Candidate:
    """A posterior with how well it explains held-out pixels, in nats a pixel."""

    posterior: Posterior
    nll: float
    chosen: dict[str, Any]


Tried = Callable[[Candidate], None]


def fit_tokens(
    tokens: Sequence[Collected], settings: LaplaceSettings, tried: Tried = lambda _candidate: None
) -> tuple[LaplacePosteriors, list[dict[str, Any]]]:
    """Posteriors of all tokens, of the structure that is best for the first, and what was chosen for each.

    Parameters
    ----------
    tokens : sequence of Collected
    settings : LaplaceSettings
    tried : callable
        Told every candidate; what it raises stops the fit.
    """
    everything = _joined(tokens)
    structure, found, facts = settings.structure, [], []
    for data in tokens:
        best = fit_token(data if len(data) >= FEWEST else everything, settings, structure, tried)
        structure = best.chosen["structure"]
        found.append(best.posterior)
        facts.append(best.chosen | {"prompts": len(data)})
    return LaplacePosteriors(tuple(found)), facts


def fit_token(
    data: Collected, settings: LaplaceSettings, structure: Choice, tried: Tried = lambda _candidate: None
) -> Candidate:
    """The posterior that explains held-out images best; its scale is chosen there, its shape on the other images."""
    images = torch.tensor(sorted(set(data.image.tolist())))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(settings.seed))
    held = images[order[: max(1, round(settings.held_out * len(images)))]]
    out = torch.isin(data.image, held)
    fit, test = data.part(~out), data.part(out)
    if not len(fit) or not len(test):
        fit = test = data
    kinds: tuple[Structure, ...] = ("diagonal", "kfac", "hierarchical") if structure == "auto" else (structure,)
    best_of: list[Candidate] = []
    for kind in kinds:
        made = []
        for posterior, about in _candidates(kind, fit, settings):
            made.append(Candidate(posterior, held_out_nll(posterior, test), {"structure": kind} | about))
            tried(made[-1])
        best_of.append(min(made, key=lambda candidate: candidate.nll))
    best = min(best_of, key=lambda candidate: candidate.nll)
    baseline = _nll(test.logits.sigmoid(), test.truth)
    facts = {"held_out_nll": {c.chosen["structure"]: c.nll for c in best_of}, "held_out_nll_before": baseline}
    return Candidate(best.posterior, best.nll, best.chosen | facts)


def how_many(settings: LaplaceSettings, tokens: int) -> int:
    """About how many candidates are tried."""
    grid = (len(PRIORS) if settings.prior is None else 1) * (
        len(TEMPERATURES[settings.curvature]) if settings.temperature is None else 1
    )
    scatter = len(SCATTER_FACTORS) * (len(SCATTER_TEMPERATURES) if settings.temperature is None else 1)
    if settings.structure == "auto":
        return 2 * grid + tokens * scatter
    return tokens * (scatter if settings.structure == "hierarchical" else grid)


def _candidates(
    kind: Structure, data: Collected, settings: LaplaceSettings
) -> Iterator[tuple[Posterior, dict[str, Any]]]:
    """Posteriors of one structure to choose from."""
    if kind == "hierarchical":
        yield from _hierarchical(data, settings)
        return
    curvature = data.curvature[settings.curvature]
    priors = PRIORS if settings.prior is None else (settings.prior,)
    temperatures = TEMPERATURES[settings.curvature] if settings.temperature is None else (settings.temperature,)
    pairs = leading_eigenpairs(curvature, data.hidden, RANK) if kind == "full" else None
    for prior in priors:
        for temperature in temperatures:
            about = {"prior": prior, "temperature": temperature, "curvature": settings.curvature}
            if pairs is not None:
                yield LowRankPosterior.of_eigenpairs(*pairs, prior, temperature), about
            elif kind == "kfac":
                yield KroneckerPosterior.fit(curvature, data.hidden, prior, temperature), about
            else:
                yield DiagonalPosterior.fit(curvature, data.hidden, prior, temperature), about


def _hierarchical(data: Collected, settings: LaplaceSettings) -> Iterator[tuple[Posterior, dict[str, Any]]]:
    """The scatter of the last layer between images, at several temperatures and sizes."""
    temperatures = SCATTER_TEMPERATURES if settings.temperature is None else (settings.temperature,)
    for temperature in temperatures:
        weight = data.pixels / data.logits.shape[1] / temperature
        scatter = fit_scatter(data.logits, data.features, data.truth, weight)
        for factor in SCATTER_FACTORS:
            yield HierarchicalPosterior(factor * scatter), {"temperature": temperature, "factor": factor}


def held_out_nll(posterior: Posterior, data: Collected) -> float:
    """Mean negative log-likelihood of a pixel, in nats, under the closed-form mean probability."""
    covariance = posterior.output_covariance(data.hidden).float()
    total = 0.0
    for first in range(0, len(data), 256):
        part = slice(first, first + 256)
        u = data.features[part].float()
        variance = ((covariance[part] @ u) * u).sum(1).clamp(min=0)
        probability, _ = mean_probability(data.logits[part].numpy(), variance.numpy())
        total += _nll(torch.from_numpy(probability), data.truth[part]) * len(u)
    return total / len(data)


def _nll(probability: Tensor, truth: Tensor) -> float:
    p = probability.double().clamp(1e-7, 1 - 1e-7)
    return float(-(truth * p.log() + (1 - truth) * (1 - p).log()).mean())


def _joined(tokens: Sequence[Collected]) -> Collected:
    """The prompts of all tokens together."""

    def cat(name: str) -> Tensor:
        return torch.cat([getattr(data, name) for data in tokens])

    curvature = {kind: torch.cat([data.curvature[kind] for data in tokens]) for kind in tokens[0].curvature}
    columns = {name: cat(name) for name in ("logits", "features", "truth", "hidden", "image")}
    return Collected(**columns, curvature=curvature, pixels=tokens[0].pixels)
