"""The training loop on a model that is small enough for a test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open

from napari_uncertsam.engine import Sam2Engine, build_model
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.training import bundled
from napari_uncertsam.training.bundled import Averaged, Settings, fit, groups, schedule, training_loss
from tests.tiny import tiny_config

TINY = Settings(steps=3, images=1, prompts=4, rounds=2, warmup=2, boxes_until=0.4, seed=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of a model this small wait for each other most of the time, for minutes on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_config(tmp_path_factory.mktemp("model"))


def weights(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as stored:
        return {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118


def test_an_interrupted_training_ends_at_the_same_weights(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(TINY, tmp_path / "whole", config=config)
    ticks = itertools.count(step=1000.0)
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr(bundled, "time", clock)  # so much later every time that every step is saved
    calls = itertools.count()

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return training_loss(*arguments)

    monkeypatch.setattr(bundled, "training_loss", interrupted)
    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        fit(TINY, folder, config=config)
    assert [p.name for p in folder.iterdir()] == ["checkpoint.pt"]
    resumed = fit(TINY, folder, config=config)
    assert next(calls) == 4  # two steps before and one after; not from the start again
    before, after = weights(whole), weights(resumed)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_is_exported_is_a_model(config: Path, tmp_path: Path) -> None:
    path = fit(Settings(**{**vars(TINY), "steps": 1}), tmp_path, config=config)
    assert path == tmp_path / "bundled.safetensors"
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    assert json.loads(metadata["settings"])["seed"] == 3
    assert json.loads(metadata["state"])["step"] == 1
    assert metadata["torch"] == torch.__version__
    state = weights(path)
    assert all(value.dtype == torch.float32 for value in state.values())
    model = build_model(config)
    model.load_state_dict(state)
    engine = Sam2Engine(model, "tiny", device="cpu")
    embedding = engine.embed((torch.rand(50, 40, 3) * 255).byte().numpy())
    decoded = engine.decode(embedding, [Prompts((Point(5, 5),), Box(3, 3, 30, 30))])
    assert decoded.logits.shape == (1, 16, 16)
    assert torch.isfinite(decoded.logits).all()


def test_training_lowers_the_loss_and_reports_it(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, float]] = []
    settings = Settings(steps=40, images=1, prompts=4, rounds=1, warmup=5, boxes_until=1.0, balance_until=1e9, seed=1)
    batch = bundled.scene_batch(settings, 64, torch.Generator().manual_seed(0), torch.device("cpu"))
    monkeypatch.setattr(bundled, "scene_batch", lambda *_: batch)  # one scene, which it can learn by heart
    trained = build_model(config)
    trained.load_state_dict(weights(fit(settings, tmp_path, config=config, report=rows.append)))
    assert [row["step"] for row in rows] == [20, 40]
    lines = (tmp_path / "curve.csv").read_text("utf-8").splitlines()
    assert lines[0] == "step,progress,seconds,loss,iou"
    assert len(lines) == 3
    # Finished is finished: nothing is trained further.
    fit(settings, tmp_path, config=config, report=rows.append)
    assert len(rows) == 2
    torch.manual_seed(settings.seed)
    untrained = build_model(config)
    bundled.initialise(untrained)
    with torch.no_grad():
        before, after = (
            sum(training_loss(m, settings, 0.0, torch.Generator().manual_seed(k))[0].item() for k in range(4))
            for m in (untrained, trained)
        )
    assert after < 0.8 * before


def test_the_loss_of_a_batch_follows_from_the_seed(config: Path) -> None:
    torch.manual_seed(0)
    model = build_model(config).train()
    for progress in (0.0, 0.9):
        losses = [training_loss(model, TINY, progress, torch.Generator().manual_seed(2)) for _ in range(2)]
        assert losses[0][0].item() == losses[1][0].item()
        assert 0 <= losses[0][1] <= 1
        losses[0][0].backward()
    used = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    for part in ("image_encoder.trunk", "image_encoder.neck", "sam_prompt_encoder", "sam_mask_decoder"):
        assert any(name.startswith(part) for name in used), part


def test_first_boxes_then_half_of_them_other_forms() -> None:
    generator = torch.Generator().manual_seed(0)
    assert list(groups(TINY, 0.0, generator)) == [(slice(0, 4), "box")]
    forms = [list(groups(TINY, 0.5, generator)) for _ in range(300)]
    assert all(first == (slice(0, 2), "box") and second[0] == slice(2, 4) for first, second in forms)
    share = sum(second[1] == "point" for _, second in forms) / 300
    assert share == pytest.approx(bundled.FORMS["point"], abs=0.1)


def test_the_learning_rate_warms_up_and_decays() -> None:
    settings = Settings(warmup=10)
    assert schedule(0.0, 0, settings) == pytest.approx(0.1)
    assert schedule(0.0, 9, settings) == pytest.approx(1)
    assert schedule(0.5, 100, settings) == pytest.approx(0.505)
    assert schedule(1.0, 100, settings) == schedule(7.0, 100, settings) == pytest.approx(0.01)


def test_averaged_weights_follow_the_model() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    average = Averaged(model, decay=0.5)
    start = average.state["weight"].clone()
    with torch.no_grad():
        model.weight += 1
    average.update(model, step=1)  # 2 / 11 early on, so that the random start is forgotten
    assert torch.allclose(average.state["weight"], start + 1 - 2 / 11)
    for _ in range(30):
        average.update(model, step=100)
    assert torch.allclose(average.state["weight"], model.weight)


def test_the_clock_can_end_a_training(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=31.0)
    monkeypatch.setattr(bundled, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    fit(Settings(**{**vars(TINY), "steps": 10**6, "minutes": 2.0}), tmp_path, config=config)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert 1 <= content["state"]["step"] <= 3
