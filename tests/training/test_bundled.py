"""The training loop on a model that is small enough for a test."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_uncertsam.engine import Sam2Engine, build_model
from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.training import bundled
from napari_uncertsam.training.bundled import Averaged, Settings, fit, schedule, training_loss
from napari_uncertsam.training.feeding import Batch
from napari_uncertsam.training.starting import start_from
from napari_uncertsam.training.synthetic import make_scene
from tests.tiny import tiny_config

TINY = Settings(steps=3, images=1, prompts=4, sizes=(64,), rounds=2, warmup=2, boxes_until=0.4, seed=3)


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


@pytest.mark.parametrize("changed", [{}, {"ranks": 2, "images": 2}], ids=["one process", "two processes"])
def test_an_interrupted_training_ends_at_the_same_weights(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    settings = replace(TINY, **changed)
    whole = fit(settings, tmp_path / "whole", config=config)
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
        fit(settings, folder, config=config)
    assert [p.name for p in folder.iterdir()] == ["checkpoint.pt"]
    resumed = fit(settings, folder, config=config)
    assert next(calls) == 4  # two steps before and one after; not from the start again
    before, after = weights(whole), weights(resumed)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    if not changed:
        with pytest.raises(InputError, match="seed = 3"):
            fit(replace(settings, seed=4), folder, config=config)


def test_what_is_exported_is_a_model(config: Path, tmp_path: Path) -> None:
    path = fit(replace(TINY, steps=1), tmp_path, config=config)
    assert path == tmp_path / "bundled.safetensors"
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    assert json.loads(metadata["settings"])["seed"] == 3
    assert json.loads(metadata["state"])["step"] == 1
    assert metadata["torch"] == torch.__version__
    state = weights(path)
    assert all(value.dtype == torch.float16 for value in state.values())
    model = build_model(config)
    model.load_state_dict(state)
    engine = Sam2Engine(model, "tiny", device="cpu")
    embedding = engine.embed((torch.rand(50, 40, 3) * 255).byte().numpy())
    decoded = engine.decode(embedding, [Prompts((Point(5, 5),), Box(3, 3, 30, 30))])
    assert decoded.logits.shape == (1, 16, 16)
    assert torch.isfinite(decoded.logits).all()


def test_training_lowers_the_loss_and_reports_it(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, float]] = []
    changed = {"steps": 40, "rounds": 1, "warmup": 5, "boxes_until": 1.0, "balance_until": 1e9, "seed": 1}
    settings = replace(TINY, learning_rate=1e-3, trunk_rate=1.0, **changed)
    scene = make_scene(torch.Generator().manual_seed(0), 64)
    batch = Batch(scene.image[None], scene.masks[:1].expand(4, -1, -1)[None])
    monkeypatch.setattr(bundled, "feed", lambda *_, **__: itertools.repeat(batch))  # which it can learn by heart
    fit(settings, tmp_path, config=config, report=rows.append)
    assert [row["step"] for row in rows] == [20, 40]
    assert rows[1]["loss"] < 0.9 * rows[0]["loss"]
    lines = (tmp_path / "curve.csv").read_text("utf-8").splitlines()
    assert lines[0] == "step,progress,seconds,loss,iou,corrected"
    assert len(lines) == 3
    # Finished is finished: nothing is trained further.
    fit(settings, tmp_path, config=config, report=rows.append)
    assert len(rows) == 2


def test_the_memory_is_trained_where_clips_are_asked_for(config: Path, tmp_path: Path) -> None:
    torch.manual_seed(TINY.seed)
    untrained = build_model(config).state_dict()
    plain = weights(fit(replace(TINY, steps=1, ema=0.0), tmp_path / "plain", config=config))
    both = weights(fit(replace(TINY, steps=1, ema=0.0, clip_every=1), tmp_path / "both", config=config))
    for name, value in untrained.items():
        if name.startswith("memory_attention."):
            assert torch.equal(plain[name], value.half()), name
    moved = [name for name, value in untrained.items() if not torch.equal(both[name], value.half())]
    for part in ("image_encoder.trunk", "sam_mask_decoder", "memory_attention", "memory_encoder"):
        assert any(name.startswith(part) for name in moved), part


def test_a_scene_that_overflows_is_no_step(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def once(model: Any, *arguments: Any) -> tuple[float, ...]:
        measured = training_loss(model, *arguments)
        return (math.nan, *measured[1:]) if next(calls) == 1 else measured

    monkeypatch.setattr(bundled, "training_loss", once)
    state = weights(fit(TINY, tmp_path / "one", config=config))
    assert all(torch.isfinite(value).all() for value in state.values())
    monkeypatch.setattr(bundled, "MOST_LOST", 1)
    monkeypatch.setattr(bundled, "training_loss", lambda *_: (math.nan, 0.0, 0.0))
    with pytest.raises(InputError, match="not a number for 2 steps"):
        fit(TINY, tmp_path / "all", config=config)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"sizes": (50,)}, "50 pixels"), ({"ranks": 2}, "shared by 2"), ({"precision": "int8"}, "int8")],
)
def test_settings_that_cannot_work_are_a_sentence(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(TINY, **changed)


def test_weights_to_start_from(config: Path, tmp_path: Path) -> None:
    first = fit(replace(TINY, steps=1), tmp_path / "first", config=config)
    torch.manual_seed(9)
    model = build_model(config)
    [said] = start_from(model, [str(first)])
    assert said.startswith(f"{len(weights(first))} of {len(model.state_dict())} tensors")
    assert all(torch.equal(v.half(), weights(first)[k]) for k, v in model.state_dict().items())
    save_file({"elsewhere": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="Nothing in"):
        start_from(model, [str(tmp_path / "other.safetensors")])


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
    fit(replace(TINY, steps=10**6, minutes=2.0), tmp_path, config=config)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert 1 <= content["state"]["step"] <= 3
