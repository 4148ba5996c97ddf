"""Fits of Laplace posteriors: what is collected, which posterior is kept, and that a fit goes on where it stopped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.checkpoints import CACHE_VARIABLE, installed_path, read_part
from napari_uncertsam.errors import Cancelled, CheckpointError, InputError
from napari_uncertsam.estimators.laplace import (
    DiagonalPosterior,
    GaussianBelief,
    HierarchicalPosterior,
    Laplace,
    LaplacePosteriors,
)
from napari_uncertsam.estimators.laplace.curvature import CURVATURES, curvature_of
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.training import laplace_choice, laplace_data
from napari_uncertsam.training.laplace import LaplaceSettings, fit_laplace, posterior_facts
from napari_uncertsam.training.laplace_choice import Candidate, fit_token, fit_tokens, held_out_nll, how_many
from napari_uncertsam.training.laplace_data import PIXELS, Collected, collect
from napari_uncertsam.training.synthetic import Scene
from tests.fakes import CHANNELS, HIDDEN, TOKENS, FakeEngine, scene

SMALL = LaplaceSettings(images=8, prompts=3, structure="diagonal")


class Ellipses:
    """Bright ellipses; what is called true is a little smaller or larger than what is seen, by image."""

    name = "ellipses"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        place, radius, wrong = (
            torch.rand(2, generator=generator),
            torch.rand(2, generator=generator),
            torch.rand(1, generator=generator),
        )
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        centre, radii = size * (0.35 + 0.3 * place), size * (0.12 + 0.15 * radius)
        distance = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2
        image = torch.where(distance <= 1, 0.85, 0.1).expand(3, -1, -1)
        return Scene(image, (distance <= 0.7 + 0.6 * wrong)[None])


class Nothing:
    """Images without an object."""

    name = "nothing"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        return Scene(torch.zeros(3, size, size), torch.zeros(0, size, size, dtype=torch.bool))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tokens() -> list[Collected]:
    return collect(FakeEngine(64), Ellipses(), images=24, prompts=4, seed=0)


def same(a: Collected, b: Collected) -> None:
    for name in ("logits", "features", "truth", "hidden", "image"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0.0, atol=0.0)
    for kind in CURVATURES:
        torch.testing.assert_close(a.curvature[kind], b.curvature[kind], rtol=0.0, atol=0.0)
    assert a.pixels == b.pixels


# What is collected


def test_the_first_token_has_every_prompt_and_the_others_share_them(tokens: list[Collected]) -> None:
    assert len(tokens) == TOKENS
    assert len(tokens[0]) == 24 * 4
    assert sum(len(t) for t in tokens[1:]) == 24 * 4
    first = tokens[0]
    assert first.pixels == (pixels := PIXELS)
    assert first.logits.shape == first.truth.shape == (96, pixels)
    assert (first.features.shape, first.features.dtype) == ((96, CHANNELS, pixels), torch.float16)
    assert (first.hidden.shape, first.hidden.dtype) == ((96, HIDDEN + 1), torch.float64)
    assert (first.hidden[:, -1] == 1).all()
    assert first.image.tolist() == sorted(first.image.tolist())
    assert set(first.image.tolist()) == set(range(24))
    assert 0 <= first.truth.min() <= first.truth.max() <= 1


def test_what_is_collected_fits_together(tokens: list[Collected]) -> None:
    """Of a FakeEngine the last layer is known: its output times the features is the logit at every pixel kept."""
    engine = FakeEngine(64)
    for number, data in enumerate(tokens):
        if not len(data):
            continue
        weight = torch.cat([engine.weight[number], engine.bias[number][:, None]], 1).double()
        logits = ((data.hidden @ weight.mT)[:, None] @ data.features.double())[:, 0]
        torch.testing.assert_close(logits.float(), data.logits, atol=0.05, rtol=0.01)  # features in half precision
        for row in range(len(data)):  # the curvature is of all pixels, so those kept have no more of it
            features = data.features[row].float().unique(dim=1)
            known = (weight.float()[:, :-1] @ data.hidden[row, :-1].float() + weight.float()[:, -1]) @ features
            kept = curvature_of("bernoulli", known[None, None], features[None, :, None])[0]
            rest = data.curvature["bernoulli"][row] - kept
            assert torch.linalg.eigvalsh(rest.double()).min() > -0.05


def test_truth_is_the_share_of_a_pixel_in_the_right_place() -> None:
    """A pixel of the true mask and its logit stay together through the shuffle."""
    data = collect(FakeEngine(64), Ellipses(), images=6, prompts=2, seed=3)[0]
    for row in range(len(data)):
        inside, outside = data.logits[row][data.truth[row] == 1], data.logits[row][data.truth[row] == 0]
        assert inside.mean() > 1
        assert outside.mean() < -1


def test_pixels_are_those_around_the_object_each_as_often_as_the_next() -> None:
    truth = torch.zeros(1, 60, 80)
    truth[0, 20:30, 40:44] = 0.5
    near = laplace_data._around(truth)[0]
    expected = torch.zeros(60, 80, dtype=torch.bool)
    expected[18:32, 38:46] = True  # 2 % of the diagonal of 100
    assert torch.equal(near.view(60, 80), expected)
    drawn = laplace_data._drawn_pixels(near, torch.Generator().manual_seed(0))
    times = torch.bincount(drawn, minlength=near.numel())
    assert len(drawn) == PIXELS
    assert torch.equal(times > 0, near)
    assert int(times[near].max() - times[near].min()) <= 1


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    first, again, other = (collect(FakeEngine(64), Ellipses(), images=3, prompts=2, seed=s) for s in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        same(a, b)
    assert not torch.equal(first[0].truth, other[0].truth)


def test_a_few_pixels_of_large_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_uncertsam.training.laplace_data.PIXELS", 100)
    data = collect(FakeEngine(64), Ellipses(), images=3, prompts=2, seed=1)[0]
    assert data.logits.shape == (6, 100)
    assert data.pixels == 100


def test_images_without_objects() -> None:
    with pytest.raises(InputError, match="no object in any image"):
        collect(FakeEngine(64), Nothing(), images=2, prompts=1, seed=0)


def test_part_by_mask_and_numbers(tokens: list[Collected]) -> None:
    chosen = tokens[0].image == 3
    assert len(tokens[0].part(chosen)) == 4
    same(tokens[0].part(chosen), tokens[0].part(chosen.nonzero()[:, 0]))


# Which posterior


def test_held_out_nll_of_no_variance_is_cross_entropy(tokens: list[Collected]) -> None:
    data = tokens[0]
    nothing = HierarchicalPosterior(torch.zeros(CHANNELS, CHANNELS, dtype=torch.float64))
    expected = F.binary_cross_entropy_with_logits(data.logits.double(), data.truth.double())
    assert held_out_nll(nothing, data) == pytest.approx(float(expected), abs=5e-5)


def test_held_out_nll_by_draws(tokens: list[Collected]) -> None:
    data = tokens[0].part(torch.arange(3))
    scatter = 0.3 * torch.eye(CHANNELS, dtype=torch.float64)
    noise = torch.randn(20_000, CHANNELS, generator=torch.Generator().manual_seed(0)) * 0.3**0.5
    total = []
    for row in range(3):
        p = (data.logits[row] + noise @ data.features[row].float()).sigmoid().mean(0).double()
        total.append(-(data.truth[row] * p.log() + (1 - data.truth[row]) * (1 - p).log()).mean())
    assert held_out_nll(HierarchicalPosterior(scatter), data) == pytest.approx(float(sum(total) / 3), rel=0.01)


def tried_by(data: Collected, settings: LaplaceSettings) -> tuple[Candidate, list[Candidate]]:
    found: list[Candidate] = []
    return fit_token(data, settings, settings.structure, found.append), found


@pytest.mark.parametrize("structure", ["diagonal", "kfac", "full", "hierarchical", "auto"])
def test_the_best_of_all_that_were_tried_is_kept(tokens: list[Collected], structure: str) -> None:
    settings = LaplaceSettings(structure=structure)  # type: ignore[arg-type]
    best, tried = tried_by(tokens[0], settings)
    assert best.nll == min(c.nll for c in tried)
    assert best.nll <= best.chosen["held_out_nll_before"]
    assert len(tried) == (40 + 84 if structure == "auto" else 40 if structure == "hierarchical" else 42)
    for kind, nll in best.chosen["held_out_nll"].items():
        assert nll == min(c.nll for c in tried if c.chosen["structure"] == kind)
    if structure != "auto":
        assert len(tried) == how_many(settings, 1)
        assert best.chosen["structure"] == structure


def test_choice_is_made_on_images_that_were_not_fitted(
    tokens: list[Collected], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, judged = [], []
    fit, nll = DiagonalPosterior.fit, laplace_choice.held_out_nll

    def watched(curvature: Tensor, *rest: Any) -> DiagonalPosterior:
        fitted.append(len(curvature))
        return fit(curvature, *rest)

    def judge(posterior: Any, data: Collected) -> float:
        judged.append(set(data.image.tolist()))
        return nll(posterior, data)

    monkeypatch.setattr(DiagonalPosterior, "fit", watched)
    monkeypatch.setattr(laplace_choice, "held_out_nll", judge)
    tried_by(tokens[0], LaplaceSettings(structure="diagonal", held_out=0.25))
    assert {len(images) for images in judged} == {6}
    assert all(images == judged[0] for images in judged)
    assert set(fitted) == {18 * 4}


def test_given_prior_and_temperature_are_not_chosen(tokens: list[Collected]) -> None:
    settings = LaplaceSettings(structure="diagonal", prior=2.0, temperature=50.0)
    best, tried = tried_by(tokens[0], settings)
    assert len(tried) == 1
    assert (best.chosen["prior"], best.chosen["temperature"]) == (2.0, 50.0)
    fit = tokens[0].part(torch.isin(tokens[0].image, torch.tensor(sorted(set(range(24)) - held_images(settings)))))
    expected = DiagonalPosterior.fit(fit.curvature["bernoulli"], fit.hidden, 2.0, 50.0)
    torch.testing.assert_close(best.posterior.tensors()["variance"], expected.variance)


def held_images(settings: LaplaceSettings) -> set[int]:
    order = torch.randperm(24, generator=torch.Generator().manual_seed(settings.seed))
    return set(order[:6].tolist())


def test_softmax_curvature_is_used_where_asked(tokens: list[Collected]) -> None:
    settings = LaplaceSettings.uncertsam()
    best, tried = tried_by(tokens[0], settings)
    assert len(tried) == 1
    fit = tokens[0].part(torch.isin(tokens[0].image, torch.tensor(sorted(set(range(24)) - held_images(settings)))))
    hessian = torch.einsum("nkk,nj->kj", fit.curvature["softmax"], fit.hidden**2)
    torch.testing.assert_close(best.posterior.tensors()["variance"], 1 / (hessian + 1))


def test_tokens_share_a_structure_and_those_with_few_prompts_borrow(tokens: list[Collected]) -> None:
    assert min(len(t) for t in tokens) < laplace_choice.FEWEST
    posteriors, facts = fit_tokens(tokens, LaplaceSettings())
    assert len({fact["structure"] for fact in facts}) == 1
    assert [fact["prompts"] for fact in facts] == [len(t) for t in tokens]
    for few, token in enumerate(tokens):
        covariance = posteriors.tokens[few].output_covariance(tokens[0].hidden[:1])
        assert torch.isfinite(covariance).all(), len(token)


# The whole fit


def test_a_fit_writes_a_part_that_the_estimator_reads(rng: np.random.Generator) -> None:
    engine, rows = FakeEngine(64), []
    with pytest.raises(CheckpointError):
        Laplace().posteriors_of(engine)
    path = fit_laplace(engine, source=Ellipses(), settings=replace(SMALL, structure="auto"), report=rows.append)
    assert path == installed_path("laplace", engine.sha256)
    found = Laplace().posteriors_of(engine)
    assert len(found.tokens) == TOKENS
    facts = posterior_facts(found.metadata)
    assert (facts["checkpoint"], facts["source"], facts["settings"]["images"]) == (engine.sha256, "ellipses", 8)
    assert len(facts["tokens"]) == TOKENS
    assert found.metadata["structure"] == facts["tokens"][0]["structure"]
    embedding = engine.embed(scene()[0])
    belief = Laplace().estimate(engine, embedding, Prompts(box=Box(20, 17, 43, 48)), rng)
    assert isinstance(belief, GaussianBelief)
    progress = [row["progress"] for row in rows]
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(1, abs=0.1)
    assert all(row["seconds"] >= 0 for row in rows)
    assert rows[-1]["held-out NLL"] > 0


@pytest.mark.parametrize("structure", ["diagonal", "kfac", "full", "hierarchical"])
def test_every_structure_goes_through_its_file(tmp_path: Path, structure: str) -> None:
    engine = FakeEngine(64)
    settings = replace(SMALL, structure=structure, prior=1.0, temperature=10.0)  # type: ignore[arg-type]
    path = fit_laplace(engine, tmp_path / "out.safetensors", source=Ellipses(), settings=settings)
    assert path == tmp_path / "out.safetensors"
    part = read_part(path, "laplace", engine.sha256)
    assert part.metadata["structure"] == structure
    again = fit_laplace(engine, tmp_path / "again", source=Ellipses(), settings=settings)
    for name, tensor in read_part(again, "laplace", engine.sha256).tensors.items():
        torch.testing.assert_close(tensor, part.tensors[name], rtol=0.0, atol=0.0)
    LaplacePosteriors.of_part(part)


def stop_after(calls: int) -> Any:
    count = iter(range(10**6))
    return lambda: next(count) >= calls


@pytest.mark.parametrize("stop", [3, 10])
def test_a_fit_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, stop: int) -> None:
    """Stopped after 3 of 8 images, and after all of them, between candidates."""
    engine = FakeEngine(64)
    whole = fit_laplace(engine, tmp_path / "whole", source=Ellipses(), settings=SMALL, work=tmp_path / "a")
    with pytest.raises(Cancelled, match="same command goes on"):
        fit_laplace(
            engine,
            tmp_path / "part",
            source=Ellipses(),
            settings=SMALL,
            work=tmp_path / "b",
            cancelled=stop_after(stop),
        )
    assert not (tmp_path / "part").exists()
    seen, before = [], engine.embed_calls
    resumed = fit_laplace(
        engine, tmp_path / "part", source=Ellipses(), settings=SMALL, work=tmp_path / "b", report=seen.append
    )
    assert engine.embed_calls - before == 8 - min(stop, 8)
    one, other = (read_part(p, "laplace", engine.sha256) for p in (whole, resumed))
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(other.tensors[name], tensor, rtol=0.0, atol=0.0)
    assert json.loads(one.metadata["fit"]) == json.loads(other.metadata["fit"])
    assert [row["seconds"] for row in seen] == sorted(row["seconds"] for row in seen)


@pytest.mark.parametrize("change", [{"seed": 1}, {"prompts": 2}])
def test_other_settings_do_not_go_on(tmp_path: Path, change: dict[str, int]) -> None:
    engine = FakeEngine(64)
    fit_laplace(engine, tmp_path / "p", source=Ellipses(), settings=SMALL, work=tmp_path / "work")
    with pytest.raises(InputError, match=f"{next(iter(change))} = .*use the same or --no-resume"):
        fit_laplace(engine, source=Ellipses(), settings=replace(SMALL, **change), work=tmp_path / "work")


def test_another_model_or_source_does_not_go_on(tmp_path: Path) -> None:
    engine = FakeEngine(64)
    fit_laplace(engine, tmp_path / "p", source=Ellipses(), settings=SMALL, work=tmp_path / "work")
    other = Ellipses()
    other.name = "others"  # type: ignore[misc]
    with pytest.raises(InputError, match="source = ellipses"):
        fit_laplace(engine, source=other, settings=SMALL, work=tmp_path / "work")
    engine.sha256 = "e" * 64
    with pytest.raises(InputError, match="checkpoint = ffff"):
        fit_laplace(engine, source=Ellipses(), settings=SMALL, work=tmp_path / "work")


def test_another_structure_uses_the_same_images_again(tmp_path: Path) -> None:
    engine = FakeEngine(64)
    fit_laplace(engine, tmp_path / "p", source=Ellipses(), settings=SMALL, work=tmp_path / "work")
    before = engine.embed_calls
    fit_laplace(
        engine, tmp_path / "p", source=Ellipses(), settings=replace(SMALL, structure="kfac"), work=tmp_path / "work"
    )
    assert engine.embed_calls == before
    assert read_part(tmp_path / "p", "laplace", engine.sha256).metadata["structure"] == "kfac"


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    engine = FakeEngine(64)
    fit_laplace(engine, tmp_path / "p", source=Ellipses(), settings=SMALL, work=tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(InputError, match="damaged"):
        fit_laplace(engine, source=Ellipses(), settings=SMALL, work=tmp_path)


def test_a_model_without_a_checkpoint() -> None:
    engine = FakeEngine(64)
    engine.sha256 = ""
    with pytest.raises(InputError, match="no checkpoint file"):
        fit_laplace(engine, source=Ellipses(), settings=SMALL)


# Settings


def test_uncertsam_s_settings() -> None:
    made = LaplaceSettings.uncertsam(images=50, seed=4)
    assert (made.structure, made.curvature, made.prior, made.temperature) == ("diagonal", "softmax", 1.0, 1.0)
    assert (made.schedule, made.images, made.seed) == ("uncertsam", 50, 4)


def test_uncertsam_s_prompts_are_collected() -> None:
    engine = FakeEngine(64)
    collect(engine, Ellipses(), images=12, prompts=4, seed=0, schedule="uncertsam")
    given = [prompts for batch in engine.decoded for prompts in batch]
    assert {len(prompts.points) for prompts in given} <= set(range(9))
    assert max(len(prompts.points) for prompts in given) > 4
    assert 0.3 < np.mean([prompts.box is not None for prompts in given]) < 0.7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"structure": "banded"}, "posterior structure 'banded'; choose one of auto, diagonal"),
        ({"curvature": "probit"}, "curvature 'probit'; choose one of bernoulli, softmax"),
        ({"schedule": "mine"}, "schedule of prompts 'mine'"),
        ({"images": 3}, "at least 4 images"),
        ({"prompts": 0}, "at least 4 images and 1 prompt"),
        ({"prior": 0.0}, "prior of a posterior is positive, not 0"),
        ({"temperature": math.nan}, "temperature of a posterior is positive, not nan"),
        ({"held_out": 1.0}, "held-out share is between 0 and 1, not 1"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        LaplaceSettings(**change)
