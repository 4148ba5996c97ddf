"""Training of dense fusion: what goes in is what the method uses, the loss by hand, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_uncertsam.checkpoints import CACHE_VARIABLE, install_part, read_part, write_part
from napari_uncertsam.engine import Decoded, Embedding, Sam2Engine, build_model
from napari_uncertsam.errors import CheckpointError, InputError
from napari_uncertsam.estimators.laplace import DiagonalPosterior, Laplace, LaplacePosteriors
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.refinement.dense_fusion import VARIANTS, DenseFusion
from napari_uncertsam.refinement.fusion_head import FusionHead
from napari_uncertsam.training.frozen import Frozen
from napari_uncertsam.training.fusion import CONTROLS, FusionLosses, first_look, fit_fusion, fusion_loss, laplace_look
from napari_uncertsam.training.loop import LoopSettings
from napari_uncertsam.training.schedule import PromptBatch
from napari_uncertsam.training.sources import TrainingData
from napari_uncertsam.training.steps import step_prompts
from napari_uncertsam.training.synthetic import Scene, make_scene

SIZE = 384


@pytest.fixture(scope="module")
def engine() -> Sam2Engine:
    from importlib.resources import files

    torch.manual_seed(1)
    config = str(files("napari_uncertsam") / "weights" / "bundled.yaml")
    return Sam2Engine(build_model(config, fallback=True), "small", sha256="e" * 64, device="cpu")


@pytest.fixture(scope="module")
def bundled() -> Sam2Engine:
    return Sam2Engine.load("bundled", device="cpu")


@pytest.fixture(scope="module")
def posteriors(engine: Sam2Engine) -> LaplacePosteriors:
    """Of each token another, so that a token taken for another would show."""
    last = engine.model.sam_mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    rng = torch.Generator().manual_seed(5)
    shape = (last.out_features, last.in_features + 1)
    return LaplacePosteriors(
        tuple(DiagonalPosterior((1 + t) * torch.rand(shape, generator=rng, dtype=torch.float64)) for t in range(4))
    )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(torch.Generator().manual_seed(4), SIZE)


@pytest.fixture(scope="module")
def prompts(scene: Scene) -> PromptBatch:
    return list(step_prompts(scene.masks, torch.Generator().manual_seed(0), 3))[-1]


@pytest.fixture(scope="module")
def features(engine: Sam2Engine, scene: Scene) -> tuple[torch.Tensor, ...]:
    return Frozen(engine).embed(scene.image)


@pytest.fixture(scope="module")
def decoded(engine: Sam2Engine, features: tuple[torch.Tensor, ...], prompts: PromptBatch) -> Decoded:
    with torch.no_grad():
        return Frozen(engine).decode(features, prompts)


def as_values(batch: PromptBatch, row: int) -> Prompts:
    """A row of a batch as the plugin's own values."""
    places = list(zip(batch.coordinates[row].tolist(), batch.labels[row].tolist(), strict=True))
    corners = [xy for xy, label in places if label > 1]
    box = Box(corners[0][1], corners[0][0], corners[1][1], corners[1][0]) if corners else None
    return Prompts(tuple(Point(y, x, label == 1) for (x, y), label in places if label < 2), box)


def test_laplace_of_a_batch_is_that_of_its_rows(decoded: Decoded, posteriors: LaplacePosteriors) -> None:
    assert len(decoded.token) > 2
    logits, entropy = laplace_look(decoded, posteriors)
    for row in range(len(logits)):
        belief = Laplace(posteriors=posteriors).belief_of(decoded, row, posteriors)
        np.testing.assert_allclose(logits[row], belief.logits(), atol=2e-4, rtol=1e-4)
        np.testing.assert_allclose(entropy[row], belief.entropy(), atol=1e-5)


@pytest.mark.parametrize("kind", list(VARIANTS))
def test_training_sees_what_the_method_will_be_given(
    engine: Sam2Engine,
    features: tuple[torch.Tensor, ...],
    scene: Scene,
    prompts: PromptBatch,
    decoded: Decoded,
    posteriors: LaplacePosteriors,
    kind: str,
) -> None:
    torch.manual_seed(0)
    head = FusionHead.of_model(engine.model, "random")
    logits, uncertainty = first_look(decoded, VARIANTS[kind], posteriors)
    again = FusionLosses(Frozen(engine), head, VARIANTS[kind]).second(features, prompts, (logits, uncertainty))
    method, rng = DenseFusion(kind, Laplace(posteriors=posteriors), head), np.random.default_rng(0)
    embedding = Embedding(features, (SIZE, SIZE))
    for row in range(len(logits)):
        given = as_values(prompts, row)
        mask, map_ = method.first_pass(engine, embedding, given, rng)
        np.testing.assert_allclose(logits[row], mask, atol=1e-3, rtol=1e-3)
        np.testing.assert_allclose(uncertainty[row], map_, atol=1e-4)
        ours = method.second_pass(engine, embedding, given, rng)
        torch.testing.assert_close(again.token_logits[row], ours.token_logits[0], atol=2e-3, rtol=1e-3)


def test_the_loss_by_hand(decoded: Decoded, scene: Scene) -> None:
    from torchvision.ops import sigmoid_focal_loss

    expected = []
    for row, mask in enumerate(scene.masks):
        logits = F.interpolate(decoded.logits[row][None, None], (SIZE, SIZE), mode="bilinear")[0, 0]
        truth, p = mask.float(), logits.sigmoid()
        dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
        found = logits > 0
        iou = (found & mask).sum() / (found | mask).sum()
        focal = sigmoid_focal_loss(logits, truth, 0.25, 2.0).mean()
        expected.append((20 * focal + dice + (decoded.iou[row] - iou).abs()).item())
    assert fusion_loss(decoded, scene.masks).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_eight_losses_whose_gradients_reach_the_head_alone(
    engine: Sam2Engine, features: tuple[torch.Tensor, ...], scene: Scene
) -> None:
    head = FusionHead.of_model(engine.model)
    losses = FusionLosses(Frozen(engine), head, VARIANTS["fusion-sam-ones"])
    parts = list(losses(features, scene.masks[:1], torch.Generator().manual_seed(1)))
    assert len(parts) == 8
    sum(parts).backward()
    assert float(head.fusion.weight.grad.abs().sum()) > 0
    assert all(p.grad is None and not p.requires_grad for p in engine.model.parameters())


def test_the_identity_start_is_sam_2_with_the_mask_prompt(
    engine: Sam2Engine, features: tuple[torch.Tensor, ...], prompts: PromptBatch, decoded: Decoded
) -> None:
    losses = FusionLosses(Frozen(engine), FusionHead.of_model(engine.model), VARIANTS["fusion-sam-ones"])
    look = first_look(decoded, losses.variant, None)
    ours = losses.second(features, prompts, look)
    hinted = [as_values(prompts, row).with_mask(MaskPrompt(look[0][row].numpy())) for row in range(len(look[0]))]
    theirs = engine.decode(Embedding(features, (SIZE, SIZE)), hinted)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-3, rtol=1e-3)


class OneScene:
    """The same scene every time."""

    name = "one scene"

    def __init__(self, scene: Scene) -> None:
        self.scene = Scene(scene.image, scene.masks[:1])

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        return self.scene


def test_a_few_steps_lower_the_loss_and_the_part_is_what_the_method_reads(
    bundled: Sam2Engine, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    data, rows = TrainingData(OneScene(scene), OneScene(scene)), []
    settings = LoopSettings(steps=6, learning_rate=1e-3, validate_every=2)
    part = fit_fusion(bundled, data, settings, tmp_path, control="sam-ones", report=rows.append, validation_images=1)
    validation = [row["validation"] for row in rows]
    assert len(validation) == 3
    assert min(validation) < 0.97 * validation[0]
    install_part(part, "fusion-sam-ones", bundled.sha256)
    head = DenseFusion("fusion-sam-ones").head(bundled)
    written = read_part(part, "fusion-sam-ones", bundled.sha256)
    metadata = written.metadata
    torch.testing.assert_close(dict(head.state_dict()), dict(written.tensors))
    assert float(metadata["validation_loss"]) == pytest.approx(min(validation), rel=1e-4)
    assert (metadata["head"], metadata["start"], metadata["images"]) == ("fusion-sam-ones", "identity", "one scene")
    with pytest.raises(InputError, match="start = identity"):
        fit_fusion(bundled, data, settings, tmp_path, control="sam-ones", start="random", validation_images=1)


def test_laplace_has_to_be_fitted_first(
    engine: Sam2Engine, posteriors: LaplacePosteriors, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    data, settings = TrainingData(OneScene(scene), OneScene(scene)), LoopSettings(steps=1)
    for control in ("", "laplace-ones"):
        with pytest.raises(CheckpointError, match="fit laplace --model small"):
            fit_fusion(engine, data, settings, tmp_path / control, control=control)
    part = write_part(
        tmp_path / "laplace.safetensors", "laplace", engine.sha256, posteriors.tensors(), {"structure": "diagonal"}
    )
    install_part(part, "laplace", engine.sha256)
    written = fit_fusion(engine, data, settings, tmp_path / "now", validation_images=1)
    assert written.name == "fusion.safetensors"
    metadata = read_part(written, "fusion", engine.sha256).metadata
    assert (len(metadata["laplace_sha256"]), metadata["steps"]) == (64, "1")
    with pytest.raises(InputError, match="no control 'ones'; choose one of laplace-ones, sam-ones, token0-ones"):
        fit_fusion(engine, data, settings, tmp_path / "ones", control="ones")


def test_controls_are_the_kinds_of_parts() -> None:
    assert dict(CONTROLS) == {
        "": "fusion",
        "laplace-ones": "fusion-laplace-ones",
        "sam-ones": "fusion-sam-ones",
        "token0-ones": "fusion-token0-ones",
    }
