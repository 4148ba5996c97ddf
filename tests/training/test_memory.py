"""Training of the memory: its numbers are the tracker's, only it changes, a run goes on as if it had not stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_uncertsam.engine import Sam2Engine, build_model
from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN, Box, Point, Prompts
from napari_uncertsam.training import memory
from napari_uncertsam.training.clip_loss import Plan, clip_features, clip_loss, frame_loss, measure_following
from napari_uncertsam.training.clips import Clip, draw_clip
from napari_uncertsam.training.following import SURE, Follower, Look
from napari_uncertsam.training.memory import fit_memory
from napari_uncertsam.training.memory_parts import MEMORY, prepare_memory, trained_parameters
from napari_uncertsam.training.memory_settings import MemorySettings
from napari_uncertsam.training.runs import CHECKPOINT, CURVE
from napari_uncertsam.training.schedule import PromptBatch
from tests.tiny import tiny_config, tiny_engine

SIDE = 64
QUICK = MemorySettings(steps=4, frames=3, validation=1, validate_every=2, warmup=1, seed=3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_config(tmp_path_factory.mktemp("config"), hiera=True)  # random convolutions make flat features


@pytest.fixture(scope="module")
def weights(config: Path) -> Path:
    """Random weights that say of every frame that the object is there, in half precision."""
    torch.manual_seed(1)
    model = build_model(config)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(3.0)
    path = config.with_name("start.safetensors")
    state = {k: v.half() for k, v in model.state_dict().items()}
    save_file(state, path, metadata={"origin": "chance", "memory": "none"})
    return path


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FITTED", 2)


@pytest.fixture
def clip() -> Clip:
    return draw_clip(5, 1, SIDE, frames=4)


def model_of(config: Path, weights: Path) -> Any:
    model = build_model(config).eval()
    model.load_state_dict(load_file(weights))
    return model


@pytest.mark.parametrize("opening", ["box", "point", "mask"])
@pytest.mark.parametrize("seen", [5.0, -5.0])
def test_the_numbers_of_following_are_those_of_the_tracker(tmp_path: Path, opening: str, seen: float) -> None:
    engine = tiny_engine(tmp_path, hiera=True)
    with torch.no_grad():
        engine.model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(seen)
        torch.nn.init.normal_(engine.model.maskmem_tpos_enc, std=0.5, generator=torch.Generator().manual_seed(3))
    images = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) / 4
    images[:, :, 16:40, 20:44] += 0.6
    embeddings = [engine.embed((i * 255).round().byte().movedim(0, -1).numpy()) for i in images]
    tracker, steps = engine.tracker(1000), [0, 4, 5, 6, 7, 8]  # a gap behind the opening, as in another view
    prompts = {"box": Prompts(box=Box(16, 20, 39, 43)), "point": Prompts((Point(28, 32),)), "mask": None}[opening]
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, 16:40, 20:44] = True
    low = np.where(mask[0, 2::4, 2::4].numpy(), np.float32(SURE), np.float32(-SURE))
    logits = low if prompts is None else engine.decode(embeddings[0], [prompts]).logits[0].numpy()
    tracker.know(0, embeddings[0], logits, prompts)

    model = engine.model
    follower = Follower(model, clip_features(model, images), 2)  # twice the same object: rows do not mix
    if opening == "mask":
        follower.know_masks(0, 0, mask.expand(2, -1, -1))
    else:
        corners = [[20.0, 16.0], [43.0, 39.0]] if opening == "box" else [[32.0, 28.0]]
        labels = [BOX_CORNER_MIN, BOX_CORNER_MAX] if opening == "box" else [1]
        given = torch.tensor([corners] * 2), torch.tensor([labels] * 2, dtype=torch.int32)
        follower.know(0, 0, PromptBatch(*given))
    for frame, step in enumerate(steps[1:], 1):
        decoded, ours = tracker.look(step, embeddings[frame]), follower.look(step, frame)
        tracker.remember(step)
        follower.remember(step, frame, ours)
        for row in range(2):
            torch.testing.assert_close(ours.mask[row], decoded.logits[0], atol=2e-4, rtol=1e-4)
            torch.testing.assert_close(ours.score[row], decoded.object_score, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(ours.iou[row], decoded.token_iou[0], atol=1e-4, rtol=1e-4)
        theirs = tracker._memories["non_cond_frame_outputs"][step]["obj_ptr"]
        torch.testing.assert_close(follower.kept["non_cond_frame_outputs"][step]["obj_ptr"][:1], theirs)


def test_a_step_changes_the_memory_and_nothing_else(config: Path, weights: Path, clip: Clip) -> None:
    model = model_of(config, weights)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    chosen = trained_parameters(model, decoder=False)
    optimiser = torch.optim.AdamW(chosen.values(), 1e-2)
    for opening in ("box", "mask"):
        clip_loss(model, clip, Plan(opening), torch.Generator().manual_seed(0)).backward()
    without = {name for name, p in chosen.items() if p.grad is None}
    assert without <= {"no_obj_ptr", "no_obj_embed_spatial"}, without
    optimiser.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed <= set(chosen)
    for part in MEMORY:
        assert part.startswith("no_obj") or any(name.startswith(part) for name in changed), part
    assert not any(name.startswith(("image_encoder", "sam_prompt_encoder", "no_mem")) for name in chosen)


def test_the_mask_decoder_can_be_trained_too(config: Path, weights: Path, clip: Clip) -> None:
    model = model_of(config, weights)
    chosen = trained_parameters(model, decoder=True)
    more = set(chosen) - set(trained_parameters(model, decoder=False))
    assert all(name.startswith("sam_mask_decoder.") for name in more)
    assert "sam_mask_decoder.mask_tokens.weight" in more
    assert not any("conv_s" in name for name in more)  # they make the features, which are frozen
    trained_parameters(model, decoder=True)
    clip_loss(model, clip, Plan(), torch.Generator().manual_seed(0), prompted=True).backward()
    assert model.sam_mask_decoder.mask_tokens.weight.grad.abs().sum() > 0


def test_a_run_that_was_interrupted_ends_with_the_same_numbers(config: Path, weights: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    rows: list[dict[str, float]] = []
    path, sentence = fit_memory(QUICK, whole, weights=weights, config=config, report=rows.append)
    # The schedule is that of 4 steps all the time; the second step is where the power fails.
    with pytest.MonkeyPatch.context() as patch:
        real = memory._Run._update

        def failing(run: memory._Run, progress: float) -> None:
            if run.state["step"] == 2:
                raise KeyboardInterrupt
            real(run, progress)

        patch.setattr(memory._Run, "_update", failing)
        with pytest.raises(KeyboardInterrupt):
            fit_memory(QUICK, parts, weights=weights, config=config)
    again, same = fit_memory(QUICK, parts, weights=weights, config=config)
    assert same == sentence
    one, other = load_file(path), load_file(again)
    assert all(torch.equal(one[k], other[k]) for k in one)
    first, second = (torch.load(f / CHECKPOINT, weights_only=True) for f in (whole, parts))
    assert all(torch.equal(first["trained"][k], second["trained"][k]) for k in first["trained"])
    assert [row["step"] for row in rows] == []
    with pytest.raises(InputError, match="seed = 3"):
        fit_memory(replace(QUICK, seed=4), parts, weights=weights, config=config)


def test_what_is_written_is_the_model_with_another_memory(config: Path, weights: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, steps=2, validate_every=1)
    path, sentence = fit_memory(settings, tmp_path, weights=weights, config=config)
    assert "held-out synthetic clips" in sentence
    assert (tmp_path / CURVE).is_file() is False or "dice" in (tmp_path / CURVE).read_text("utf-8")
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    assert metadata["origin"] == "chance"
    assert metadata["memory"] == "trained"
    facts = json.loads(metadata["memory_settings"])
    assert (facts["step"], facts["seed"]) == (2, 3)
    assert 0 <= facts["after"]["dice"] <= 1
    before, after = load_file(weights), load_file(path)
    assert before.keys() == after.keys()
    assert all(after[k].dtype == torch.float16 for k in after)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed
    assert all(name.startswith(MEMORY) for name in changed)
    # Single images are segmented as before, to the bit.
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    masks = []
    for file in (weights, path):
        engine = Sam2Engine(model_of(config, file), "tiny", device="cpu")
        masks.append(engine.decode(engine.embed(image), [Prompts(box=Box(9, 9, 40, 44))]).token_logits)
    assert torch.equal(*masks)
    with pytest.raises(InputError, match="overwritten"):
        fit_memory(settings, tmp_path, weights=path, config=config)


def test_a_few_steps_on_one_clip_lower_its_loss(config: Path, weights: Path) -> None:
    model, clip = model_of(config, weights), draw_clip(5, 1, SIDE, frames=3, objects=1)
    chosen = trained_parameters(model, decoder=False)
    optimiser = torch.optim.AdamW(chosen.values(), 1e-2)
    losses = []
    for _ in range(12):
        loss = clip_loss(model, clip, Plan(), torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


def test_a_memory_begins_as_a_mask_prompt(config: Path, weights: Path, clip: Clip) -> None:
    model = model_of(config, weights)
    prepare_memory(model, clip.images, clip.masks[0])
    encoder, features = model.sam_prompt_encoder, clip_features(model, clip.images)
    given: list[torch.Tensor] = []
    model.memory_attention.register_forward_hook(lambda _module, _inputs, output: given.append(output[:, 0].T))
    with torch.no_grad():
        for mask in (clip.masks[:1, 0], torch.zeros_like(clip.masks[:1, 0])):
            follower = Follower(model, features, 1)
            follower.know_masks(0, 0, mask)
            follower.look(1, 1)
        logits = clip.masks[:1, :1, 2::4, 2::4].float() * 2 * SURE - SURE
        prompt, empty, none = (
            encoder(points=None, boxes=None, masks=m)[1].expand(1, -1, 4, 4)[0].flatten(1)
            for m in (logits, torch.full_like(logits, -SURE), None)
        )
    wanted = features[-1][1].flatten(1) + prompt - none
    assert (given[0] - wanted).square().mean() < 0.5 * wanted.var()
    change = torch.stack([(given[0] - given[1]).flatten(), (prompt - empty).flatten()])
    assert torch.corrcoef(change)[0, 1] > 0.2


def test_where_no_object_is_only_the_score_counts() -> None:
    seen = Look(
        torch.randn(2, 4, 8, 8),
        torch.rand(2, 4),
        torch.tensor([[2.0], [-1.0]]),
        torch.tensor([1, 1]),
        torch.zeros(2, 4, 3),
    )
    nothing = torch.zeros(2, 32, 32, dtype=torch.bool)
    expected = 0.4 * torch.nn.functional.softplus(torch.tensor([2.0, -1.0])).mean()
    torch.testing.assert_close(frame_loss(seen, nothing), expected)
    one = nothing.clone()
    one[0, 4:20, 4:20] = True
    assert frame_loss(seen, one) > frame_loss(seen, one, only_score=True) > 0


def test_following_perfectly_has_a_dice_of_one(config: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(config, weights)
    still = torch.zeros(1, 4, SIDE, SIDE, dtype=torch.bool)
    still[:, :3, 16:48] = True  # and gone on the last frame
    clip = Clip(torch.rand(4, 3, SIDE, SIDE), still)
    truth = torch.where(still[0].float()[:, 2::4, 2::4] > 0, 9.0, -9.0)

    def seen(follower: Follower, _step: int, frame: int, *_: Any) -> Look:
        look = Look(
            truth[frame].expand(1, 4, -1, -1), torch.ones(1, 4), torch.full((1, 1), 1.0 if frame < 3 else -1.0),
            torch.zeros(1, dtype=torch.int64), torch.zeros(1, 4, follower.plain.shape[1]),
        )  # fmt: skip
        return look

    monkeypatch.setattr(Follower, "look", seen)
    monkeypatch.setattr(Follower, "know", lambda self, step, frame, _prompts: seen(self, step, frame))
    followed = measure_following(model, [clip])
    assert (followed.dice, followed.unmoved, followed.presence, followed.frames) == (1.0, 1.0, 1.0, 3)


def test_plans_correct_only_where_all_objects_are() -> None:
    masks = torch.ones(2, 5, 4, 4, dtype=torch.bool)
    masks[1, 3] = False
    plans = [Plan.drawn(torch.Generator().manual_seed(k), masks) for k in range(200)]
    assert {p.corrected for p in plans} == {0, 2, 4}
    assert {p.opening for p in plans} == {"box", "point", "points", "mask"}
    assert 0 == min(p.gap for p in plans) < max(p.gap for p in plans) <= 24


@pytest.mark.parametrize("change", [{"steps": 0}, {"frames": 1}, {"size": 50}, {"precision": "half"}, {"seed": -1}])
def test_settings_that_cannot_work_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=str(next(iter(change.values())))):
        replace(QUICK, **change)
