"""Training of the MPA adapter: its prompts, its loss by hand, what moves and what does not, and that it goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from napari_uncertsam.adapters import AdapterSettings, MpaAdapter, attach
from napari_uncertsam.checkpoints import read_part
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN, POSITIVE
from napari_uncertsam.training import adapter as training
from napari_uncertsam.training.adapter import (
    MIXTURES,
    Adapted,
    adapter_losses,
    adapter_prompts,
    coarse_boxes,
    fit_adapter,
    mask_loss,
    paper_settings,
    positive_points,
)
from napari_uncertsam.training.overlap import box_iou
from napari_uncertsam.training.schedule import mask_corners
from napari_uncertsam.training.sources import TrainingData
from napari_uncertsam.training.synthetic import Scene, make_scene
from tests.tiny import SHA256, tiny_engine


@pytest.fixture
def engine(tmp_path: Path) -> Sam2Engine:
    return tiny_engine(tmp_path)


class OneScene:
    """The same image every time, which can be learned by heart."""

    name = "one scene"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        return make_scene(torch.Generator().manual_seed(2), size)


DATA = TrainingData(OneScene(), OneScene())


def truths(size: int = 64) -> torch.Tensor:
    masks = torch.zeros(3, size, size, dtype=torch.bool)
    masks[0, 10:30, 5:50] = True
    masks[1, 40:64, 0:20] = True
    masks[2, 7:9, 60] = True
    return masks


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("seed", range(4))
def test_prompts_are_of_one_form_and_inside(name: str, seed: int) -> None:
    batch = adapter_prompts(truths(), MIXTURES[name], torch.Generator().manual_seed(seed))
    labels = batch.labels[0].tolist()
    assert (batch.labels == batch.labels[0]).all()
    corners = labels[:2] == [BOX_CORNER_MIN, BOX_CORNER_MAX]
    points = labels[2:] if corners else labels
    assert set(points) <= {POSITIVE}
    assert len(points) in ((0, 3, 5, 10) if corners else (3, 5, 10))
    assert {"boxes": corners and not points, "points": not corners, "paper": corners and bool(points)}.get(name, True)
    assert batch.coordinates.min() >= 0
    assert batch.coordinates.max() <= 63


def test_every_form_and_number_is_as_likely() -> None:
    generator, seen = torch.Generator().manual_seed(0), []
    for _ in range(600):
        labels = adapter_prompts(truths()[:1], MIXTURES["mixture"], generator).labels[0]
        box = bool((labels == BOX_CORNER_MIN).any())
        seen.append((box, int((labels == POSITIVE).sum())))
    for form, share in {(True, 0): 3, **{(box, k): 1 for box in (False, True) for k in (3, 5, 10)}}.items():
        assert seen.count(form) / 600 == pytest.approx(share / 9, abs=0.06)


def test_points_are_different_pixels_of_the_object() -> None:
    batch = positive_points(truths(), 10, torch.Generator().manual_seed(0))
    x, y = batch.coordinates.long().unbind(-1)
    assert truths()[torch.arange(3)[:, None], y, x].all()
    distinct = [len({tuple(p) for p in points.tolist()}) for points in batch.coordinates]
    assert distinct == [10, 10, 2]  # the last object has two pixels
    assert batch.coordinates.dtype == torch.float32


def test_boxes_are_jittered_outwards_or_at_an_overlap() -> None:
    truth = truths()[:1].expand(90, -1, -1)
    true = mask_corners(truth)
    jittered = coarse_boxes(truth, (None,), torch.Generator().manual_seed(0)).coordinates
    outwards = torch.stack([true[:, 0] - jittered[:, 0], jittered[:, 1] - true[:, 1]])
    assert outwards.min() >= 0
    assert 1.0 < outwards.max() <= 20 * 64 / 1024
    mixed = coarse_boxes(truth, (None, 0.75, 0.5), torch.Generator().manual_seed(0)).coordinates
    iou = box_iou(mixed, true)
    for overlap in (0.75, 0.5):
        assert ((iou - overlap).abs() < 0.011).float().mean().item() == pytest.approx(1 / 3, abs=0.15)


def test_the_losses_by_hand() -> None:
    logits = torch.tensor([[[0.0, 1.0], [-2.0, 3.0]]])
    truth = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    p = [[1 / (1 + math.exp(-v)) for v in row] for row in ((0, 1), (-2, 3))]
    flat, inside = [*p[0], *p[1]], [True, True, False, False]
    shared, mass = p[0][0] + p[0][1], sum(flat)
    focal = sum(
        0.25 * (1 - q) ** 2 * -math.log(q) if g else 0.75 * q**2 * -math.log(1 - q)
        for q, g in zip(flat, inside, strict=True)
    )
    standard = focal / 4 + 1 - (2 * shared + 1) / (mass + 2 + 1)
    assert mask_loss(logits, truth).item() == pytest.approx(standard, rel=1e-5)
    printed = sum(-0.25 * (1 - q) ** 2 * math.log(q) for q in flat) + 1 - 2 * shared / (mass + 2)
    assert mask_loss(logits, truth, "as-printed").item() == pytest.approx(printed, rel=1e-5)


def test_the_loss_of_a_scene_is_the_mean_over_its_decodes(engine: Sam2Engine) -> None:
    adapted, scene = Adapted(engine), OneScene().draw(torch.Generator(), 64)
    features = adapted.embed(scene.image)
    with torch.no_grad():
        [three] = adapter_losses(adapted, MIXTURES["mixture"])(features, scene.masks, torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(1)
        single = adapter_losses(adapted, MIXTURES["mixture"], decodes=1)
        each = [next(single(features, scene.masks, generator)).item() for _ in range(3)]
    assert len(set(each)) == 3
    assert three.item() == pytest.approx(sum(each) / 3, rel=1e-5)


def test_gradients_reach_the_adapters_and_the_prompt_encoder_only(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path, hiera=True)  # of random convolutions some let no gradient through
    adapted, mpa = Adapted(engine), MpaAdapter.of_model(engine.model, AdapterSettings(init="paper"))
    scene = OneScene().draw(torch.Generator(), 64)
    with attach(engine.model, mpa):
        losses = adapter_losses(adapted, MIXTURES["paper"])
        [loss] = losses(adapted.embed(scene.image), scene.masks, torch.Generator().manual_seed(0))
        loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mpa.encoder.parameters())
    assert mpa.prompt_encoder.point_embeddings[2].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in engine.model.parameters())


def test_training_lowers_the_loss_and_leaves_the_model_alone(engine: Sam2Engine, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    rows: list[dict[str, float]] = []
    settings = paper_settings(steps=60, learning_rate=1e-2, validate_every=30)
    path = fit_adapter(
        engine, DATA, settings, tmp_path / "run", prompts="boxes", report=rows.append, validation_images=2
    )
    assert rows[-1]["loss"] < 0.95 * rows[0]["loss"]
    part = read_part(path, "adapter", SHA256)
    assert float(part.metadata["validation_loss"]) < rows[0]["loss"]
    assert json.loads(part.metadata["settings"])["learning_rate"] == 1e-2
    said = {"prompts": "boxes", "loss": "standard", "init": "zero", "activation": "relu", "scale": "0.5"}
    assert said.items() <= part.metadata.items()
    after = engine.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for p in engine.model.parameters())
    mpa = MpaAdapter.of_part(part, engine.model)
    assert any(p.abs().sum() > 0 for name, p in mpa.encoder.named_parameters() if ".up." in name)
    own, trained = (e.point_embeddings[2].weight for e in (engine.model.sam_prompt_encoder, mpa.prompt_encoder))
    assert not torch.equal(own, trained)


def test_an_interrupted_fit_gives_the_same_part(
    engine: Sam2Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = paper_settings(steps=4, validate_every=2)
    whole = fit_adapter(engine, DATA, settings, tmp_path / "whole", validation_images=1)
    calls, loss = iter(range(100)), training.mask_loss

    def interrupted(*arguments: torch.Tensor) -> torch.Tensor:
        if next(calls) == 10:  # in the third step, after a validation
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(training, "mask_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(engine, DATA, settings, tmp_path / "parts", validation_images=1)
    assert not any(module._forward_hooks for module in engine.model.image_encoder.trunk.modules())
    monkeypatch.undo()
    resumed = fit_adapter(engine, DATA, settings, tmp_path / "parts", validation_images=1)
    one, two = (read_part(path, "adapter", SHA256).tensors for path in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(InputError, match="prompts = mixture"):
        fit_adapter(engine, DATA, settings, tmp_path / "parts", prompts="paper", validation_images=1)


def test_what_cannot_work_is_a_sentence(engine: Sam2Engine, tmp_path: Path) -> None:
    for options, said in (
        ({"prompts": "8P"}, "no mixture of prompts '8P'; choose one of mixture"),
        ({"loss": "hinge"}, "no loss 'hinge'; choose one of standard, as-printed"),
    ):
        with pytest.raises(InputError, match=said):
            fit_adapter(engine, DATA, paper_settings(steps=1), tmp_path, **options)  # type: ignore[arg-type]
    engine.adapter = {"sha256": "e" * 64}
    with pytest.raises(InputError, match="has an adapter already"):
        fit_adapter(engine, DATA, paper_settings(steps=1), tmp_path)
