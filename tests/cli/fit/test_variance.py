"""``fit variance`` from the command line: a real fit of a few steps, its options, and its sentences."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_uncertsam.checkpoints import CACHE_VARIABLE, find_part, missing_part, read_part
from napari_uncertsam.cli.fit import common, curve
from napari_uncertsam.cli.fit.variance import fit_variance
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.training import frozen
from napari_uncertsam.training.variance import paper_settings
from tests.cli.conftest import Run
from tests.fakes import scene
from tests.tiny import SHA256, tiny_engine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sam2Engine:
    """A tiny model, whatever is asked for, an empty cache folder, and quick validations."""
    made = tiny_engine(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(common, "open_engine", lambda _options: made)
    monkeypatch.setattr(frozen.fit_head, "__kwdefaults__", {**frozen.fit_head.__kwdefaults__, "validation_images": 1})
    return made


def test_defaults_are_the_paper_s() -> None:
    parameters = inspect.signature(fit_variance).parameters
    for name, value in vars(paper_settings()).items():
        if name in parameters:
            assert parameters[name].default == value, name


def test_one_command_fits_and_installs(run: Run, engine: Sam2Engine, tmp_path: Path) -> None:
    result = run("fit", "variance", "--steps", 21, "--install")
    assert result.code == 0, result.err
    found = find_part("variance", SHA256)
    assert found is not None
    assert found.is_relative_to(tmp_path / "cache")
    assert read_part(found, "variance", SHA256).metadata["steps"] == "21"
    folder = common.default_folder("variance", SHA256)
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.pt",
        "curve.csv",
        "curve.png",
        "variance.safetensors",
    ]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    for said in ("synthetic scenes", "Ctrl+C", str(found), "curve.png"):
        assert said in result.out
    assert "min left" in result.err or "step 21" in result.err
    again = run("fit", "variance", "--steps", 21)  # nothing left to do
    assert again.code == 0, again.err
    with (folder / "curve.csv").open(newline="") as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["20.0", "21.0"]


def test_the_sentence_about_a_missing_part_names_this_command(run: Run, engine: Sam2Engine) -> None:
    command = missing_part("variance", "bundled").partition("napari-uncertsam ")[2]
    assert run(*command.split(), "--steps", 1).code == 0


def test_a_folder_of_images(run: Run, engine: Sam2Engine, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for k in range(3):
        image, labels = scene(96, 80)
        Image.fromarray(image).save(tmp_path / "set" / "images" / f"{k}.png")
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "set" / "masks" / f"{k}.png")
    options = ("--steps", 2, "--data", tmp_path / "set", "--out", tmp_path / "run")
    result = run("fit", "variance", *options, "--whole")
    assert result.code == 0, result.err
    assert "set, 2 images, whole" in result.out
    part = read_part(tmp_path / "run" / "variance.safetensors", "variance", SHA256)
    assert (part.metadata["images"], part.metadata["validation"]) == ("set, 2 images, whole", "set, 1 images, whole")
    assert "images = set, 2 images, whole" in run("fit", "variance", *options, "--zoom").sentence.replace("\n", " ")


def test_what_cannot_work_is_one_sentence(run: Run, engine: Sam2Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    assert "is a file" in run("fit", "variance", "--out", tmp_path / "file").sentence
    assert "no folder" in run("fit", "variance", "--data", tmp_path / "nowhere").sentence
    assert "learning_rate" in run("fit", "variance", "--learning-rate", -1).sentence
    assert run("fit", "variance", "--steps", 0).code == 2
    out = tmp_path / "run"
    assert run("fit", "variance", "--steps", 1, "--out", out).code == 0
    assert "seed = 0" in run("fit", "variance", "--steps", 1, "--out", out, "--seed", 1).sentence
    assert run("fit", "variance", "--steps", 1, "--out", out, "--seed", 1, "--no-resume").code == 0
    (out / "checkpoint.pt").write_bytes(b"garbage")
    assert "--no-resume" in run("fit", "variance", "--steps", 1, "--out", out).sentence


def test_models_that_are_not_there(run: Run, tmp_path: Path) -> None:
    assert "no model" in run("fit", "variance", "--model", "nonsense").sentence
    assert "toaster" in run("fit", "variance", "--device", "toaster").sentence


def test_ctrl_c_keeps_the_checkpoint(
    run: Run, engine: Sam2Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_uncertsam.training import variance as training

    calls, loss = iter(range(100)), training.heteroscedastic_loss

    def interrupted(*arguments: Any) -> torch.Tensor:
        if next(calls) == 20:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(training, "heteroscedastic_loss", interrupted)
    result = run("fit", "variance", "--steps", 3, "--out", tmp_path / "run")
    assert (result.code, result.out.count("Traceback")) == (130, 0)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]
    assert state["step"] == 2
    monkeypatch.undo()


def test_a_curve_of_any_measurements_is_drawn(tmp_path: Path) -> None:
    table = tmp_path / "curve.csv"
    for text in (
        "step,progress,loss,validation,seconds\n20,0.5,1.0,,3\n25,0.6,,0.5,4\n40,1.0,0.9,0.4,6\n",
        "step,progress,seconds,loss,iou\n20,1.0,3,1.0,0.4\n",
        "step,progress,loss,validation,seconds\n1,1.0,,0.5,4\n",
        "step,progress,loss,validation,seconds\n",
    ):
        table.write_text(text, "utf-8")
        picture = curve.plot_curve(table)
        assert picture is not None
        assert picture.read_bytes().startswith(b"\x89PNG")
