"""Fit the Laplace posterior of a model: collect, try every setting, keep the one that explains held-out images best.

Choosing by likelihood, never by how well entropy correlates with errors: the authors' correlation rises with anything
that pushes probabilities towards one half.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from napari_uncertsam.checkpoints import installed_path, write_part
from napari_uncertsam.engine import Engine
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.laplace import LaplacePosteriors, Posterior, Structure, logistic_moments
from napari_uncertsam.estimators.laplace.curvature import Curvature
from napari_uncertsam.estimators.laplace.posterior import (
    DiagonalPosterior,
    HierarchicalPosterior,
    KroneckerPosterior,
    LowRankPosterior,
)
from napari_uncertsam.training.eigenpairs import leading_eigenpairs
from napari_uncertsam.training.laplace_data import Collected, collect
from napari_uncertsam.training.scatter import fit_scatter

if TYPE_CHECKING:
    from napari_uncertsam.training.sources import Source

#: Precisions of the prior that are tried, and temperatures: each image's curvature counts 1 / T.
PRIORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TEMPERATURES: Mapping[Curvature, tuple[float, ...]] = {
    "bernoulli": (1.0, 10.0, 100.0, 1e3, 1e4),
    "softmax": (1e-3, 1e-2, 0.1, 1.0, 10.0),
}
#: For the hierarchical posterior: temperatures of a pixel's likelihood, and factors on the scatter.
SCATTER_TEMPERATURES = (3.0, 10.0, 30.0, 100.0, 300.0)
SCATTER_FACTORS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
#: A token with fewer prompts is fitted to those of all tokens together.
FEWEST = 32
#: Eigenvectors of the full curvature that are kept.
RANK = 256

Choice = Literal["auto", "diagonal", "kfac", "full", "hierarchical"]


@dataclass(frozen=True)
class LaplaceSettings:
    """Everything that decides a posterior; stored with it.

    Parameters
    ----------
    structure : {"auto", "diagonal", "kfac", "full", "hierarchical"}
        "auto" keeps the best of all but "full", by held-out likelihood.
    curvature : {"bernoulli", "softmax"}
        Of all but "hierarchical": the model as written, or as the authors' code behaves.
    prior, temperature : float, optional
        None chooses by held-out likelihood; UncertSAM has 1 and 1.
    images, prompts : int
        How many to look at, and prompts on each.
    held_out : float
        Share of the images by which is chosen.
    seed : int

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    structure: Choice = "auto"
    curvature: Curvature = "bernoulli"
    prior: float | None = None
    temperature: float | None = None
    images: int = 400
    prompts: int = 4
    held_out: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for what, value, known in (
            ("posterior structure", self.structure, get_args(Choice)),
            ("curvature", self.curvature, get_args(Curvature)),
        ):
            if value not in known:
                raise InputError(f"There is no {what} {value!r}; choose one of {', '.join(known)}.")
        if self.images < 4 or self.prompts < 1:
            raise InputError(
                f"A fit needs at least 4 images and 1 prompt on each, not {self.images} and {self.prompts}."
            )
        for name in ("prior", "temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"The {name} of a posterior is positive, not {value}.")
        if not 0 < self.held_out < 1:
            raise InputError(f"The held-out share is between 0 and 1, not {self.held_out}.")

    @classmethod
    def uncertsam(cls, **others: Any) -> LaplaceSettings:
        """The posterior of UncertSAM's code: diagonal, softmax curvature, prior precision and temperature 1."""
        return cls(structure="diagonal", curvature="softmax", prior=1.0, temperature=1.0, **others)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A posterior with how well it explains held-out pixels, in nats a pixel."""

    posterior: Posterior
    nll: float
    chosen: dict[str, Any]


def fit_laplace(
    engine: Engine,
    out: str | Path | None = None,
    *,
    source: Source | None = None,
    settings: LaplaceSettings | None = None,
    work: Path | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Fit a posterior for every mask token and write it as a part of the engine's checkpoint.

    Parameters
    ----------
    engine : Engine
    out : path, optional
        File; by default where the widget and the commands look for it.
    source : Source, optional
        Images with masks; synthetic ones by default.
    settings : LaplaceSettings, optional
    work : Path, optional
        Folder in which what was collected is kept, and taken up again.
    report : callable, optional
        Told ``{"progress", "seconds", "step"}`` after every image.
    cancelled : callable, optional

    Returns
    -------
    Path of the part.

    Raises
    ------
    InputError
        If there is nothing to fit to, or the model has no hash to belong to.
    Cancelled
        When `cancelled` said so; what was collected is kept in `work`.
    """
    from napari_uncertsam.training.sources import SyntheticSource

    settings, source = settings or LaplaceSettings(), source or SyntheticSource()
    if not engine.sha256:
        raise InputError(f"The model {engine.name} has no checkpoint file that a posterior could belong to.")

    def told(done: int, seconds: float) -> None:
        if report is not None:
            report({"progress": done / settings.images, "seconds": seconds, "step": float(done)})

    about = {"checkpoint": engine.sha256, "source": source.name, "seed": settings.seed, "prompts": settings.prompts}
    tokens = collect(
        engine,
        source,
        images=settings.images,
        prompts=settings.prompts,
        seed=settings.seed,
        keep=None if work is None else work / "collected.pt",
        stamp=about,
        report=told,
        cancelled=cancelled,
    )
    posteriors, facts = fit_tokens(tokens, settings)
    path = installed_path("laplace", engine.sha256) if out is None else Path(out)
    metadata = about | {"settings": asdict(settings), "tokens": facts, "torch": torch.__version__}
    text = {"structure": facts[0]["structure"], "fit": json.dumps(metadata)}
    return write_part(path, "laplace", engine.sha256, posteriors.tensors(), text)


def fit_tokens(
    tokens: Sequence[Collected], settings: LaplaceSettings
) -> tuple[LaplacePosteriors, list[dict[str, Any]]]:
    """Posteriors of all tokens, of the structure that is best for the first, and what was chosen for each."""
    everything = _joined(tokens)
    structure, found, facts = settings.structure, [], []
    for data in tokens:
        best = fit_token(data if len(data) >= FEWEST else everything, settings, structure)
        structure = best.chosen["structure"]
        found.append(best.posterior)
        facts.append(best.chosen | {"prompts": len(data)})
    return LaplacePosteriors(tuple(found)), facts


def fit_token(data: Collected, settings: LaplaceSettings, structure: Choice) -> Candidate:
    """The posterior that explains held-out images best; its scale is chosen there, its shape on the other images."""
    images = torch.tensor(sorted(set(data.image.tolist())))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(settings.seed))
    held = images[order[: max(1, round(settings.held_out * len(images)))]]
    out = torch.isin(data.image, held)
    fit, test = data.part(~out), data.part(out)
    if not len(fit) or not len(test):
        fit = test = data
    kinds: tuple[Structure, ...] = ("diagonal", "kfac", "hierarchical") if structure == "auto" else (structure,)
    tried = []
    for kind in kinds:
        made = [
            Candidate(posterior, held_out_nll(posterior, test), {"structure": kind} | about)
            for posterior, about in _candidates(kind, fit, settings)
        ]
        tried.append(min(made, key=lambda candidate: candidate.nll))
    best = min(tried, key=lambda candidate: candidate.nll)
    baseline = _nll(test.logits.sigmoid(), test.truth)
    facts = {"held_out_nll": {c.chosen["structure"]: c.nll for c in tried}, "held_out_nll_before": baseline}
    return Candidate(best.posterior, best.nll, best.chosen | facts)


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
        moments = logistic_moments(data.logits[part].numpy(), variance.numpy())
        total += _nll(torch.from_numpy(moments.probability), data.truth[part]) * len(u)
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


def posterior_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """How a stored posterior was fitted, from the metadata of its part."""
    return dict(json.loads(metadata.get("fit", "{}")))
