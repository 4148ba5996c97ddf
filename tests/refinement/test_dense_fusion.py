"""Two passes: what the second is given, what comes out of a head that changes nothing, and the controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_uncertsam.checkpoints import CACHE_VARIABLE, install_part, write_part
from napari_uncertsam.engine import Embedding, Sam2Engine, build_model
from napari_uncertsam.errors import CheckpointError, InputError
from napari_uncertsam.estimators import Estimator, PointBelief
from napari_uncertsam.estimators.laplace import GaussianBelief, Laplace, LaplacePosteriors
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.refinement.dense_fusion import TOKEN_LIMIT, VARIANTS, DenseFusion
from napari_uncertsam.refinement.fusion_head import FusionHead
from napari_uncertsam.refinement.methods import METHODS, make_method
from tests.fakes import CHANNELS, HIDDEN, OFFSETS, SOURCE, TOKENS, FakeEngine, scene

BOX = Prompts(box=Box(60, 40, 150, 130))
BOTH = Prompts((Point(100, 90), Point(20, 200, positive=False)), BOX.box)


def laplace(engine: FakeEngine | Sam2Engine, precision: float = 0.01) -> Laplace:
    """One that says something else than the model: only the prior is known, so that probabilities are flat."""
    if isinstance(engine, FakeEngine):
        return Laplace(posteriors=LaplacePosteriors.prior(TOKENS, CHANNELS, HIDDEN, precision))
    last = engine.model.sam_mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    return Laplace(posteriors=LaplacePosteriors.prior(4, last.out_features, last.in_features, precision))


class Spy(nn.Module):
    """Keeps what it is given; adds `shift`."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift, self.seen = shift, []

    def forward(self, mask_embedding: Tensor, uncertainty: Tensor) -> Tensor:
        self.seen.append((mask_embedding.clone(), uncertainty.clone()))
        return mask_embedding + self.shift


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (180, 240, 3), dtype=np.uint8)
    image[60:150, 40:130] += 120
    return image


@pytest.fixture(scope="module")
def small() -> Sam2Engine:
    from importlib.resources import files

    torch.manual_seed(1)
    config = str(files("napari_uncertsam") / "weights" / "bundled.yaml")
    return Sam2Engine(build_model(config, fallback=True), "bundled (random weights)", device="cpu")


def with_head(name: str, head: nn.Module, estimator: Laplace | None = None) -> DenseFusion:
    return DenseFusion(name, estimator, head)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("prompts", [BOX, BOTH], ids=["box", "box and points"])
def test_a_head_that_changes_nothing_gives_sam_2_with_the_same_mask_prompt(
    small: Sam2Engine, image: NDArray[np.uint8], rng: np.random.Generator, name: str, prompts: Prompts
) -> None:
    embedding, head = small.embed(image), FusionHead.of_model(small.model)
    fusion = with_head(name, head, laplace(small))
    logits, _ = fusion.first_pass(small, embedding, prompts, rng)
    expected = small.decode(embedding, [prompts.with_mask(MaskPrompt(logits))])
    ours = fusion.second_pass(small, embedding, prompts, rng)
    torch.testing.assert_close(ours.logits, expected.logits, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(ours.token_iou, expected.token_iou, atol=1e-5, rtol=1e-5)
    random = with_head(name, FusionHead.of_model(small.model, "random"), laplace(small))
    assert not torch.allclose(random.second_pass(small, embedding, prompts, rng).logits, expected.logits, atol=1e-3)


def test_identity_against_the_predictor(small: Sam2Engine, image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(small.model)
    predictor._bb_feat_sizes = [(96, 96), (48, 48), (24, 24)]  # it knows those of a 1024 px input only
    predictor.set_image(image)
    corners = np.array([40, 60, 130, 150])
    first = predictor.predict(box=corners, multimask_output=False)[2]
    second = predictor.predict(box=corners, mask_input=first, multimask_output=False)[2][0]
    fusion = with_head("fusion-sam-ones", FusionHead.of_model(small.model))
    belief = fusion.estimate(small, small.embed(image), BOX, rng)
    np.testing.assert_allclose(belief.logits(), second, atol=1e-3)


@pytest.fixture
def embedded() -> tuple[FakeEngine, Embedding]:
    engine = FakeEngine(resolution=64)
    return engine, engine.embed(scene()[0])


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variant_gives_the_second_pass_what_it_says(
    embedded: tuple[FakeEngine, Embedding], rng: np.random.Generator, name: str
) -> None:
    engine, embedding = embedded
    prompts = Prompts((Point(60, 60),), Box(40, 34, 87, 97), MaskPrompt(np.full((16, 16), 3.0)))
    spy = Spy()
    belief = with_head(name, spy, laplace(engine)).estimate(engine, embedding, prompts, rng)
    first, second = engine.decoded
    assert first == (prompts,)
    [again] = second
    assert (again.points, again.box) == (prompts.points, prompts.box)
    plain = engine.decode(embedding, [prompts])
    believed = laplace(engine).estimate(engine, embedding, prompts, rng)
    assert not np.allclose(believed.logits(), plain.logits[0], atol=0.5)
    mean = torch.as_tensor(believed.logits())
    expected = {
        "fusion": mean,
        "fusion-laplace-ones": mean,
        "fusion-sam-ones": plain.logits[0],
        "fusion-token0-ones": plain.token_logits[0, 0].clamp(-TOKEN_LIMIT, TOKEN_LIMIT),
    }[name]
    assert again.mask is not None
    np.testing.assert_allclose(again.mask.logits, expected.numpy(), atol=1e-5)
    [(dense, uncertainty)] = spy.seen
    assert dense.shape == (1, SOURCE, 4, 4)
    assert uncertainty.shape == (1, 1, 16, 16)
    if name == "fusion":
        np.testing.assert_allclose(uncertainty[0, 0], believed.entropy(), atol=1e-6)
        assert 0.3 < float(uncertainty.max()) <= np.log(2) + 1e-6
    else:
        assert bool((uncertainty == 1).all())
    if "laplace" in name or name == "fusion":
        assert isinstance(belief, GaussianBelief)
        after = laplace(engine).estimate(engine, embedding, again, rng)
        np.testing.assert_allclose(belief.mutual_information(), after.mutual_information(), atol=1e-6)
        np.testing.assert_allclose(belief.logits(), after.logits(), atol=1e-5)
    else:
        assert isinstance(belief, PointBelief)
        np.testing.assert_allclose(belief.logits(), engine.decode(embedding, [again]).logits[0], atol=1e-5)


def test_sam_falls_back_to_another_token_and_the_first_token_does_not(
    embedded: tuple[FakeEngine, Embedding], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    engine, embedding = embedded
    decode = engine.decode

    def unstable(*args, **kwargs):
        decoded = decode(*args, **kwargs)
        return replace(decoded, logits=decoded.token_logits[:, 1], token=torch.ones_like(decoded.token))

    monkeypatch.setattr(engine, "decode", unstable)
    prompts = Prompts(box=Box(40, 34, 87, 97))
    sam, first = (
        with_head(name, Spy()).first_pass(engine, embedding, prompts, rng)[0]
        for name in ("fusion-sam-ones", "fusion-token0-ones")
    )
    free = np.abs(first) < TOKEN_LIMIT - 1e-3
    np.testing.assert_allclose((sam - first)[free], OFFSETS[1], atol=1e-5)
    assert np.abs(sam).max() > TOKEN_LIMIT >= np.abs(first).max()


def test_the_head_reaches_the_mask(embedded: tuple[FakeEngine, Embedding], rng: np.random.Generator) -> None:
    engine, embedding = embedded
    prompts = Prompts(box=Box(40, 34, 87, 97))
    still, moved = (
        with_head("fusion-sam-ones", Spy(shift)).estimate(engine, embedding, prompts, rng).logits()
        for shift in (0.0, 2.5)
    )
    np.testing.assert_allclose(moved - still, 2.5, atol=1e-5)


def test_a_map_of_another_resolution_is_interpolated() -> None:
    from napari_uncertsam.refinement.dense_fusion import fused

    spy, ramp = Spy(), np.arange(8, dtype=np.float32)[None].repeat(8, 0)
    fused(spy, ramp)(torch.zeros(2, 3, 4, 4))  # type: ignore[arg-type]
    [(_, seen)] = spy.seen
    assert seen.shape == (2, 1, 16, 16)
    np.testing.assert_allclose(seen[1, 0, 5], np.clip(np.arange(16) / 2 - 0.25, 0, 7))


def test_a_fitted_part_is_found_and_a_missing_one_says_how_to_fit_it(
    embedded: tuple[FakeEngine, Embedding], rng: np.random.Generator, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, embedding = embedded
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    name, prompts = "fusion-sam-ones", Prompts(box=Box(40, 34, 87, 97))
    with pytest.raises(CheckpointError, match="fit fusion --model fake --install --control sam-ones"):
        DenseFusion(name).estimate(engine, embedding, prompts, rng)
    assert engine.decode_calls == 0
    head = FusionHead(SOURCE, 4, "random")
    part = write_part(tmp_path / "part.safetensors", name, engine.sha256, head.state_dict(), {})
    install_part(part, name, engine.sha256)
    method = DenseFusion(name)
    read = method.estimate(engine, embedding, prompts, rng).logits()
    assert method.head(engine) is method.head(engine)
    given = with_head(name, head).estimate(engine, embedding, prompts, rng).logits()
    np.testing.assert_allclose(read, given, atol=1e-6)
    again = write_part(tmp_path / "part.safetensors", name, engine.sha256, FusionHead(SOURCE, 4).state_dict(), {})
    install_part(again, name, engine.sha256)
    fitted_again = method.estimate(engine, embedding, prompts, rng).logits()
    assert not np.allclose(fitted_again, read, atol=1e-3)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_what_people_and_the_widget_read(name: str) -> None:
    fusion = make_method(name)
    assert isinstance(fusion, DenseFusion)
    assert isinstance(fusion, Estimator)
    assert fusion.needs == fusion.name == name
    assert fusion.control is (name != "fusion")
    assert fusion.measures == (Laplace.measures if name in ("fusion", "fusion-laplace-ones") else ("entropy",))
    assert fusion.answers.endswith("?")


def test_there_is_no_other_fusion() -> None:
    assert [name for name in METHODS if name.startswith("fusion")] == list(VARIANTS)
    with pytest.raises(InputError, match="no dense fusion 'fusion-ones'"):
        DenseFusion("fusion-ones")
