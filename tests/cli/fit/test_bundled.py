"""``fit bundled`` trains, resumes, draws its curve, and refuses what cannot work."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_uncertsam.cli.fit import bundled as fit_module
from napari_uncertsam.training import bundled
from tests.cli.conftest import Run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the training function was called with; it reports three rows and writes a file."""
    seen: list[dict[str, Any]] = []

    def fit(settings: bundled.Settings, out: Path, **options: Any) -> Path:
        seen.append({"settings": settings, "out": out, **options})
        with (out / "curve.csv").open("a", newline="") as stream:
            writer = csv.DictWriter(stream, ["step", "progress", "seconds", "loss", "iou"])
            writer.writeheader()
            for i in (1, 2, 3):
                row = {"step": 20 * i, "progress": i / 3, "seconds": 5.0 * i, "loss": 1 / i, "iou": 0.2 * i}
                writer.writerow(row)
                options["report"](row)
        (out / "bundled.safetensors").write_bytes(b"weights")
        return out / "bundled.safetensors"

    monkeypatch.setattr(bundled, "fit", fit)
    return seen


def test_options_reach_the_training(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    options = ("--steps", 60, "--minutes", 2.5, "--seed", 7, "--images", 2, "--prompts", 4, "--device", "cpu")
    options += ("--start", "imagenet", "--start", "a.pt", "--size", 64, "--size", 96, "--ranks", 2, "--workers", 3)
    options += ("--rounds", 4, "--freeze", 1, "--final", 0.5, "--clip-every", 2, "--precision", "bfloat16")
    result = run("fit", "bundled", "--out", tmp_path / "run", *options)
    assert result.code == 0, result.err
    [call] = calls
    expected = {"steps": 60, "minutes": 2.5, "seed": 7, "images": 2, "prompts": 4}
    expected |= {"start": ("imagenet", "a.pt"), "sizes": (64, 96), "ranks": 2, "rounds": 4, "freeze": 1}
    expected |= {"final": 0.5, "clip_every": 2, "precision": "bfloat16"}
    assert {k: v for k, v in asdict(call["settings"]).items() if k in expected} == expected
    assert call["config"].name == "bundled.yaml"
    assert (call["device"], call["resume"], call["workers"]) == ("cpu", True, 3)
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "curve.png" in result.out
    assert "training" in result.err or "step" in result.err


def test_defaults_are_the_training_s_own() -> None:
    import inspect

    parameters = inspect.signature(fit_module.fit_bundled).parameters
    for name, value in asdict(bundled.Settings()).items():
        if name in parameters and name != "start":
            assert parameters[name].default == value, name
    assert parameters["start"].default == ["imagenet"]
    assert tuple(parameters["size"].default) == bundled.Settings().sizes


def test_starting_over_drops_the_old_curve(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("old\n", "utf-8")
    assert run("fit", "bundled", "--out", tmp_path, "--no-resume", "--device", "cpu").code == 0
    assert "old" not in (tmp_path / "curve.csv").read_text("utf-8")
    assert calls[0]["resume"] is False


def test_install_replaces_the_bundled_model(
    run: Run, calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "installed"
    weights.mkdir()
    monkeypatch.setattr(fit_module, "_WEIGHTS", weights)
    assert run("fit", "bundled", "--out", tmp_path / "run", "--device", "cpu", "--install").code == 0
    assert [p.name for p in weights.iterdir()] == ["bundled.safetensors"]
    assert (weights / "bundled.safetensors").read_bytes() == b"weights"


def test_a_damaged_checkpoint_is_not_resumed(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    for content in (b"garbage", b""):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        assert "--no-resume" in run("fit", "bundled", "--out", tmp_path, "--device", "cpu").sentence
    torch.save({"model": {}}, tmp_path / "checkpoint.pt")
    assert "no training checkpoint" in run("fit", "bundled", "--out", tmp_path, "--device", "cpu").sentence
    assert calls == []


def test_what_cannot_work_is_told_first(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    assert "is a file" in run("fit", "bundled", "--out", tmp_path / "file").sentence
    assert "shared by 3" in run("fit", "bundled", "--out", tmp_path / "run", "--ranks", 3).sentence
    assert "50 pixels" in run("fit", "bundled", "--out", tmp_path / "run", "--size", 50).sentence
    assert "even number" in run("fit", "bundled", "--out", tmp_path / "run", "--prompts", 3).sentence
    assert "toaster" in run("fit", "bundled", "--out", tmp_path / "run", "--device", "toaster").sentence
    assert run("fit", "bundled", "--out", tmp_path / "run", "--steps", 0).code == 2
    assert calls == []


@pytest.mark.timeout(300)  # seconds of work, minutes on a machine that is training something
def test_a_real_step_and_a_resumed_run(run: Run, tmp_path: Path) -> None:
    options = ("--start", "random", "--size", 128, "--steps", 1, "--images", 1, "--prompts", 2, "--device", "cpu")
    result = run("fit", "bundled", "--out", tmp_path, *options)
    assert result.code == 0, result.err
    assert (tmp_path / "bundled.safetensors").stat().st_size < 20e6
    again = run("fit", "bundled", "--out", tmp_path, *options)  # finished already: nothing left to do
    assert again.code == 0, again.err
