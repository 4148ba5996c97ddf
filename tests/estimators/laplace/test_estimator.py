"""The estimator on the fake engine, whose last layer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_uncertsam.checkpoints import CACHE_VARIABLE, installed_path, write_part
from napari_uncertsam.engine import Decoded, DenseTransform, Embedding
from napari_uncertsam.errors import CheckpointError, EngineError, InputError
from napari_uncertsam.estimators import ESTIMATORS, EnsembleBelief, PointBelief
from napari_uncertsam.estimators.laplace import (
    DiagonalPosterior,
    GaussianBelief,
    HierarchicalPosterior,
    Laplace,
    LaplacePosteriors,
)
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.uncertainty import LN2
from tests.fakes import CHANNELS, HIDDEN, TOKENS, FakeEngine, install_posterior, scene

PROMPTS = Prompts((Point(120, 130),), Box(80, 68, 175, 195))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def posteriors(seed: int = 0) -> LaplacePosteriors:
    """A diagonal posterior of its own for every token."""
    generator = torch.Generator().manual_seed(seed)
    shape = (TOKENS, CHANNELS, HIDDEN + 1)
    return LaplacePosteriors(tuple(map(DiagonalPosterior, torch.rand(shape, generator=generator, dtype=torch.float64))))


class Choosing(FakeEngine):
    """Gives the mask of another token, as SAM 2 does when the first is unstable."""

    def decode(self, embedding: Embedding, prompts: list[Prompts], *, dense: DenseTransform | None = None) -> Decoded:  # type: ignore[override]
        found = super().decode(embedding, prompts, dense=dense)
        return replace(found, token=torch.full_like(found.token, 2), logits=found.token_logits[:, 2])


def by_weights(engine: FakeEngine, decoded: Decoded, token: int, n: int) -> np.ndarray:
    """Logits ``(n, pixels)`` of sampled last layers of a token."""
    scale = posteriors().tokens[token].tensors()["variance"].sqrt().numpy()
    noise = np.random.default_rng(3).normal(size=(n, *scale.shape)) * scale
    weight = torch.cat([engine.weight[token], engine.bias[token][:, None]], 1).double().numpy()
    hidden = np.append(decoded.token_hidden[0, token].double().numpy(), 1)
    return (weight + noise) @ hidden @ decoded.features[0].flatten(1).double().numpy()


@pytest.mark.parametrize(("token", "kind"), [(2, "chosen"), (0, "first")])
def test_the_belief_is_that_of_sampled_weights_of_the_right_token(
    rng: np.random.Generator, token: int, kind: str
) -> None:
    engine = Choosing(64)
    embedding = engine.embed(scene()[0])
    prompts = Prompts(box=Box(20, 17, 43, 48))
    belief = Laplace(token=kind, posteriors=posteriors()).estimate(engine, embedding, prompts, rng)  # type: ignore[arg-type]
    assert isinstance(belief, GaussianBelief)
    decoded = engine.decode(embedding, [prompts])
    np.testing.assert_allclose(belief.mean, decoded.token_logits[0, token], atol=1e-6)
    assert belief.predicted_iou == pytest.approx(float(decoded.token_iou[0, token]))
    drawn = by_weights(engine, decoded, token, 4000)
    np.testing.assert_allclose(drawn.mean(0), belief.mean.ravel(), atol=0.1 * np.sqrt(belief.variance.max()))
    np.testing.assert_allclose(drawn.var(0) / belief.variance.ravel(), 1, atol=0.15)


def test_one_decode_and_no_randomness() -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    estimator = Laplace(posteriors=posteriors())
    first, again = (estimator.estimate(engine, embedding, PROMPTS, np.random.default_rng(seed)) for seed in (0, 1))
    assert (engine.embed_calls, engine.decode_calls) == (1, 2)
    for name in ("logits", "entropy", "mutual_information", "standard_deviation"):
        np.testing.assert_array_equal(getattr(first, name)(), getattr(again, name)())
    np.testing.assert_array_equal(first.logits() > 0, engine.decode(embedding, [PROMPTS]).logits[0] > 0)


def test_samples_agree_with_the_closed_form(rng: np.random.Generator) -> None:
    engine = FakeEngine(128)
    embedding, prompts = engine.embed(scene()[0]), Prompts(box=Box(40, 34, 87, 97))
    exact = Laplace(posteriors=posteriors()).estimate(engine, embedding, prompts, rng)
    drawn = Laplace(samples=4000, posteriors=posteriors()).estimate(engine, embedding, prompts, rng)
    assert isinstance(drawn, EnsembleBelief)
    assert len(drawn.members) == 4000
    assert drawn.predicted_iou == exact.predicted_iou
    np.testing.assert_allclose(drawn.probability(), exact.probability(), atol=0.04)
    np.testing.assert_allclose(drawn.entropy(), exact.entropy(), atol=0.04)
    np.testing.assert_allclose(drawn.mutual_information(), exact.mutual_information(), atol=0.04)
    np.testing.assert_allclose(drawn.standard_deviation(), exact.standard_deviation(), atol=0.03)


def test_a_prior_without_variance_is_the_entropy_baseline(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    nothing = LaplacePosteriors((HierarchicalPosterior(torch.zeros(CHANNELS, CHANNELS).double()),) * TOKENS)
    belief = Laplace(posteriors=nothing).estimate(engine, embedding, PROMPTS, rng)
    point = ESTIMATORS["entropy"]().estimate(engine, embedding, PROMPTS, rng)
    assert isinstance(point, PointBelief)
    np.testing.assert_allclose(belief.probability(), point.probability(), atol=1e-6)
    np.testing.assert_allclose(belief.mutual_information(), 0, atol=1e-5)


def test_uncertsam_s_settings() -> None:
    made = Laplace.uncertsam()
    assert (made.token, made.samples, made.eps) == ("first", 1000, 0.01)
    assert Laplace.uncertsam(100).samples == 100
    assert Laplace().samples == 0


def test_it_finds_its_part_and_reads_it_again_when_it_has_changed(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding, estimator = engine.embed(scene()[0]), Laplace()
    with pytest.raises(
        CheckpointError, match=r"no Laplace posterior for the model fake yet; fit one with: .*fit laplace"
    ):
        estimator.estimate(engine, embedding, PROMPTS, rng)
    assert engine.decode_calls == 0
    path = install_posterior(engine, 100.0)
    sure = estimator.estimate(engine, embedding, PROMPTS, rng)
    assert estimator.posteriors_of(engine) is estimator.posteriors_of(engine)
    install_posterior(engine, 1.0)
    unsure = estimator.estimate(engine, embedding, PROMPTS, rng)
    np.testing.assert_allclose(unsure.variance, 100 * sure.variance, rtol=1e-4)  # type: ignore[attr-defined]
    path.unlink()
    with pytest.raises(CheckpointError, match="fit one with"):
        estimator.estimate(engine, embedding, PROMPTS, rng)


def test_every_model_has_a_posterior_of_its_own(rng: np.random.Generator) -> None:
    one, other, estimator = FakeEngine(), FakeEngine(), Laplace()
    other.sha256 = "e" * 64
    install_posterior(one, 100.0)
    install_posterior(other, 4.0)
    variances = [estimator.estimate(e, e.embed(scene()[0]), PROMPTS, rng).variance for e in (one, other, one)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(variances[1], 25 * variances[0], rtol=1e-4)
    np.testing.assert_array_equal(variances[0], variances[2])


def test_a_damaged_part_is_named(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    install_posterior(engine).write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        Laplace().estimate(engine, embedding, PROMPTS, rng)
    path = installed_path("laplace", engine.sha256)
    write_part(path, "laplace", engine.sha256, {"token0.variance": torch.ones(2, 2)}, {"structure": "kfac"})
    with pytest.raises(CheckpointError, match="damaged: 'kfac'"):
        Laplace().estimate(engine, embedding, PROMPTS, rng)


def test_bad_settings_and_failures(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="mask token 'second'; choose one of chosen, first"):
        Laplace(token="second")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 0, not -1"):
        Laplace(samples=-1)
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    with pytest.raises(InputError, match="nothing to segment"):
        Laplace(posteriors=posteriors()).estimate(engine, embedding, Prompts(), rng)
    engine.fail = "decode"
    with pytest.raises(EngineError, match="memory"):
        Laplace(posteriors=posteriors()).estimate(engine, embedding, PROMPTS, rng)


def test_it_is_in_the_table_of_estimators() -> None:
    made = ESTIMATORS["laplace"]()
    assert isinstance(made, Laplace)
    assert made.needs == "laplace"
    assert made.measures == ("entropy", "mutual-information", "std")
    belief = Laplace(posteriors=posteriors()).estimate(
        engine := FakeEngine(), engine.embed(scene()[0]), PROMPTS, np.random.default_rng(0)
    )
    assert 0.1 < belief.mutual_information().max() <= LN2
