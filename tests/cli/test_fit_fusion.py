"""``fit fusion`` hands its options on, installs what it fitted, and refuses what there is not at once."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from napari_uncertsam.checkpoints import CACHE_VARIABLE, find_part, missing_part, write_part
from napari_uncertsam.cli.fit.fusion import fit_fusion
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.refinement.fusion_head import FusionHead
from napari_uncertsam.training import fusion as training
from napari_uncertsam.training.loop import LoopSettings
from tests.cli.conftest import Run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What the training was called with; it reports one row and writes a part."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    seen: list[dict[str, Any]] = []

    def fit(engine: Sam2Engine, data: Any, settings: LoopSettings, out: Path, **options: Any) -> Path:
        seen.append({"engine": engine, "data": data, "settings": settings, "out": out, **options})
        options["report"]({"step": 20.0, "progress": 1.0, "loss": 2.0, "validation": 3.0, "seconds": 5.0})
        kind = training.kind_of(options["control"])
        return write_part(out / f"{kind}.safetensors", kind, engine.sha256, FusionHead(8, 4).state_dict(), {})

    monkeypatch.setattr(training, "fit_fusion", fit)
    return seen


def test_options_reach_the_training_and_the_part_is_installed(
    run: Run, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    options = ("--steps", 60, "--minutes", 2.5, "--seed", 7, "--learning-rate", 0.001, "--weight-decay", 0.001)
    more = ("--control", "sam-ones", "--start", "random", "--device", "cpu", "--no-resume", "--install")
    result = run("fit", "fusion", "--out", tmp_path / "run", *options, *more)
    assert result.code == 0, result.err
    [call] = calls
    assert call["settings"] == LoopSettings(60, 0.001, 0.001, seed=7, minutes=2.5)
    assert (call["control"], call["start"], call["resume"]) == ("sam-ones", "random", False)
    assert call["data"].training.name == "synthetic scenes"
    assert "control with ones and SAM" in result.out
    found = find_part("fusion-sam-ones", call["engine"].sha256)
    assert found is not None
    assert str(found) in result.out


def test_the_command_that_a_missing_part_names_is_this_one(run: Run, calls: list[dict[str, Any]]) -> None:
    for kind in training.CONTROLS.values():
        command = missing_part(kind, "bundled").partition("napari-uncertsam ")[2]
        assert run(*command.split(), "--device", "cpu").code == 0
        assert training.kind_of(calls[-1]["control"]) == kind
        assert find_part(kind, calls[-1]["engine"].sha256) is not None


def test_defaults_are_the_training_s_own() -> None:
    parameters, own = inspect.signature(fit_fusion).parameters, LoopSettings()
    for name in ("steps", "minutes", "learning_rate", "weight_decay", "seed"):
        assert parameters[name].default == getattr(own, name), name
    assert parameters["start"].default == inspect.signature(training.fit_fusion).parameters["start"].default


def test_what_there_is_not_is_told_at_once(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    assert "no control 'ones'" in run("fit", "fusion", "--control", "ones").sentence
    assert "no start 'zeros'" in run("fit", "fusion", "--start", "zeros").sentence
    assert "learning_rate = -1.0" in run("fit", "fusion", "--learning-rate", "-1").sentence
    assert calls == []
    assert not (tmp_path / "cache" / "training").exists()
