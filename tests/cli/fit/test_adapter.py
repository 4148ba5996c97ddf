"""``fit adapter`` from the command line: a real fit of a few steps, and the adapted model in use afterwards."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from napari_uncertsam.checkpoints import CACHE_VARIABLE, file_sha256, find_part, missing_part, read_part, table
from napari_uncertsam.cli.fit.adapter import fit_adapter
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.training import adapter as training
from tests.cli.conftest import Run
from tests.tiny import tiny_config, tiny_engine


@pytest.fixture
def sha256(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A tiny model in place of the bundled one, an empty cache folder, and quick validations; the model's hash."""
    weights = tmp_path / "weights"
    weights.mkdir()
    tiny_config(weights).rename(weights / "bundled.yaml")
    save_file(tiny_engine(tmp_path).model.state_dict(), weights / "bundled.safetensors")
    monkeypatch.setattr(table, "_WEIGHTS", weights)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    defaults = training.fit_adapter.__kwdefaults__
    monkeypatch.setattr(training.fit_adapter, "__kwdefaults__", {**defaults, "validation_images": 1})
    return file_sha256(weights / "bundled.safetensors")


def test_defaults_are_the_paper_s() -> None:
    parameters = inspect.signature(fit_adapter).parameters
    for name, value in vars(training.paper_settings()).items():
        if name in parameters:
            assert parameters[name].default == value, name


def test_fitted_installed_and_used(run: Run, sha256: str, picture: Path, tmp_path: Path) -> None:
    command = missing_part("adapter", "bundled").partition("napari-uncertsam ")[2]
    result = run(*command.split(), "--steps", 2)
    assert result.code == 0, result.err
    found = find_part("adapter", sha256)
    assert found is not None
    assert found.is_relative_to(tmp_path / "cache")
    assert read_part(found, "adapter", sha256).metadata["prompts"] == "mixture"
    assert "--model bundled+adapter" in result.out
    listed = [line.split()[0] for line in run("models", "list").out.splitlines()[1:3]]
    assert listed == ["bundled", "bundled+adapter"]
    options = ("--box", 40, 34, 87, 97, "--method", "entropy", "--device", "cpu", "--out", tmp_path / "out")
    segmented = run("segment", picture, "--model", "bundled+adapter", *options)
    assert segmented.code == 0, segmented.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["model"] == "bundled+adapter"
    assert summary["adapter"] == {"sha256": file_sha256(found), "checkpoint_sha256": sha256}
    assert "already" in run("fit", "adapter", "--model", "bundled+adapter").sentence


def test_a_fit_beside_the_cache_and_the_model_with_its_file(run: Run, sha256: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run("fit", "adapter", "--steps", 1, "--out", out, "--init", "paper", "--loss", "as-printed")
    assert result.code == 0, result.err
    part = read_part(out / "adapter.safetensors", "adapter", sha256)
    assert (part.metadata["init"], part.metadata["loss"]) == ("paper", "as-printed")
    engine = Sam2Engine.load(f"bundled+{out / 'adapter.safetensors'}", device="cpu")
    assert f"--model {engine.name}" in result.out
    assert find_part("adapter", sha256) is None
    assert "loss = as-printed" in run("fit", "adapter", "--steps", 1, "--out", out).sentence


def test_a_laplace_posterior_of_the_adapted_model(run: Run, sha256: str) -> None:
    assert run("fit", "adapter", "--steps", 1, "--install").code == 0
    options = ("--images", 6, "--structure", "diagonal", "--install")
    result = run("fit", "laplace", "--model", "bundled+adapter", *options)
    assert result.code == 0, result.err
    assert find_part("laplace", Sam2Engine.load("bundled+adapter", device="cpu").sha256) is not None
    assert find_part("laplace", sha256) is None


def test_what_cannot_work_is_one_sentence(run: Run, sha256: str) -> None:
    result = run("fit", "laplace", "--model", "bundled+adapter")
    assert result.code == 2
    assert "napari-uncertsam fit adapter --model bundled --install" in result.err
    for options, said in (
        (("--init", "ones"), "choose one of zero, paper"),
        (("--activation", "tanh"), "choose one of relu, gelu"),
        (("--loss", "hinge"), "choose one of standard, as-printed"),
        (("--prompts", "8P"), "choose one of mixture"),
    ):
        assert said in run("fit", "adapter", *options).sentence
