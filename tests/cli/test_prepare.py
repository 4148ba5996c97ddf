"""``prepare`` from the command line: what it prints, and its sentences."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from napari_uncertsam.cli.app import _Sentences
from napari_uncertsam.cli.prepare import prepare
from napari_uncertsam.evaluation.datasets.prepare import Options
from tests.cli.conftest import Outcome, Run
from tests.evaluation.datasets.makers import COCO_WARNING, picture, save
from tests.evaluation.datasets.sources import LEFT, SHAPE, grey, istd

pytestmark = pytest.mark.filterwarnings(COCO_WARNING)


@pytest.fixture
def run() -> Run:
    """The command with the failures of the whole application turned into sentences."""
    app = typer.Typer(cls=_Sentences, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command("prepare")(prepare)
    app.callback()(lambda: None)

    def invoke(*args: object) -> Outcome:
        result = CliRunner().invoke(app, ["prepare", *(str(a) for a in args)], catch_exceptions=False)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke


def test_prepares_and_says_what(run: Run, tmp_path: Path) -> None:
    istd(tmp_path / "raw")
    result = run("ISTD", tmp_path / "raw", "--out", tmp_path / "data")
    assert result.code == 0, result.err
    split = tmp_path / "data" / "ISTD" / "test"
    assert result.out.splitlines() == [
        "Left out, because no object is large enough: 1",
        f"ISTD, test: 1 images with 2 masks in {split}",
    ]
    assert (split / "images" / "00000001.jpg").is_file()
    assert "prepared already" in run("istd", tmp_path / "raw", "--out", tmp_path / "data").sentence
    again = run(
        "istd", tmp_path / "raw", "--out", tmp_path / "data", "--overwrite", "--min-pixels", 20, "--closings", 0
    )
    assert again.code == 0, again.err
    assert "2 images with 4 masks" in again.out
    assert len(json.loads((split / "annotations" / "dataset.json").read_text("utf-8"))["annotations"]) == 4


def test_bad_files_are_listed(run: Run, tmp_path: Path) -> None:
    istd(tmp_path / "raw")
    test = tmp_path / "raw" / "ISTD_Dataset" / "test"
    save(test / "test_A" / "bad.png", picture(SHAPE))
    save(test / "test_B" / "bad.png", grey(LEFT.T))
    assert "bad.png" in run("istd", tmp_path / "raw", "--out", tmp_path / "data").sentence
    result = run("istd", tmp_path / "raw", "--out", tmp_path / "data", "--skip-bad")
    assert result.code == 0, result.err
    [line] = [line for line in result.err.splitlines() if line.startswith("Left out: ")]
    assert "bad.png" in line


def test_sentences(run: Run, tmp_path: Path) -> None:
    assert "neither a folder nor a known dataset" in run("cityscapes", tmp_path, "--out", tmp_path).sentence
    assert "needs no preparation" in run("kits23", tmp_path, "--out", tmp_path).sentence
    assert "There is no folder" in run("big", tmp_path / "no", "--out", tmp_path).sentence
    assert "as it is published" in run("big", tmp_path, "--out", tmp_path).sentence
    assert "no split 'everything'" in run("big", tmp_path, "--out", tmp_path, "--split", "everything").sentence
    assert run("big", tmp_path).code == 2
    assert run("big", tmp_path, "--out", tmp_path, "--quality", 200).code == 2


def test_defaults_are_those_of_the_preparation() -> None:
    parameters = inspect.signature(prepare).parameters
    for name, value in vars(Options()).items():
        assert parameters[name].default == value, name
