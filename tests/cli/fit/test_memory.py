"""``fit memory`` hands its options on, says how well objects are followed, and refuses what cannot work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from napari_uncertsam.cli.fit import memory as fit_module
from napari_uncertsam.training import memory
from napari_uncertsam.training.memory_settings import MemorySettings
from tests.cli.conftest import Run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the training function was called with; it reports a row and writes a file."""
    seen: list[dict[str, Any]] = []

    def fit(settings: MemorySettings, out: Path, *, report: Callable[[Any], None], **options: Any) -> tuple[Path, str]:
        seen.append({"settings": settings, "out": out, **options})
        (out / "curve.csv").write_text("step,progress,seconds,loss,dice\n20,0.5,1,2.0,\n40,1,2,1.0,0.7\n", "utf-8")
        report({"step": 40.0, "progress": 1.0, "seconds": 2.0, "loss": 1.0, "dice": 0.7})
        path = out / "bundled.safetensors"
        path.write_bytes(b"weights")
        return path, "Mean Dice: 0.5 before, 0.7 after."

    monkeypatch.setattr(memory, "fit_memory", fit)
    return seen


def test_options_reach_the_training(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    options = ("--minutes", 2.5, "--seed", 7, "--size", 96, "--objects", 3, "--decoder-rate", 0.1, "--workers", 2)
    result = run("fit", "memory", "--out", tmp_path / "run", "--device", "cpu", *options, "--no-resume")
    assert result.code == 0, result.err
    [call] = calls
    expected = {"minutes": 2.5, "seed": 7, "size": 96, "objects": 3, "decoder_rate": 0.1, "precision": "float32"}
    assert {k: v for k, v in asdict(call["settings"]).items() if k in expected} == expected
    assert (call["weights"].name, Path(call["config"]).name) == ("bundled.safetensors", "bundled.yaml")
    assert (call["device"], call["workers"], call["resume"]) == ("cpu", 2, False)
    assert "0.7 after" in result.out
    assert (tmp_path / "run" / "curve.png").is_file()


def test_defaults_are_the_training_s_own() -> None:
    import inspect

    parameters = inspect.signature(fit_module.fit_memory).parameters
    for name, value in asdict(MemorySettings()).items():
        if name in parameters:
            assert parameters[name].default == value, name


def test_the_result_is_installed_when_asked_for(
    run: Run, calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed.safetensors"
    monkeypatch.setattr(fit_module, "_TARGET", installed)
    result = run("fit", "memory", "--out", tmp_path / "run", "--device", "cpu", "--install")
    assert result.code == 0, result.err
    assert installed.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "missing.safetensors"), "missing.safetensors"),
        (("--size", 50), "multiple of 32"),
        (("--weights", "other.pt", "--config", "bundled.yaml"), "no safetensors file"),
        (("--weights", "other.safetensors", "--config", "other.yaml", "--install"), "--config"),
    ],
)
def test_what_cannot_work_is_a_sentence(
    run: Run, calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("other.pt", "other.safetensors", "other.yaml", "bundled.yaml"):
        (tmp_path / name).write_bytes(b"")
    result = run("fit", "memory", "--out", tmp_path / "run", "--device", "cpu", *options)
    assert result.code == 2
    assert words in " ".join(result.err.split())
    assert not calls
