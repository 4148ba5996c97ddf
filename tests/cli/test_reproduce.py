"""``reproduce`` as somebody types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_uncertsam.errors import CheckpointError
from tests.cli.conftest import Run
from tests.evaluation.reproduce import layouts
from tests.fakes import FakeEngine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One dataset of each paper."""
    layouts.uncertsam(tmp_path / "data", "ISTD", 2)
    layouts.kvasir(tmp_path / "data", 2)
    return tmp_path / "data"


def test_tables_notes_and_files(run: Run, engine: FakeEngine, data: Path, tmp_path: Path) -> None:
    done = run("reproduce", "uncertsam", "--data", data, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("reproduction.json", "reproduction.md", "progress.jsonl", "run.json")
    }
    document = json.loads((tmp_path / "out" / "reproduction.json").read_text("utf-8"))
    assert document["settings"]["model"] == "sam2-large"
    [row] = [r for r in document["tables"][0]["rows"] if r["name"] == "SAM (No Refinement)"]
    [cell] = [c for c in row["cells"] if c["title"] == "ISTD"]
    for said in (f"{cell['values']['iou']['mean']:.2f}", "65.71", "47.71", "Ground truth mask", "not run [1]"):
        assert said in done.out
    assert "[1] BIG is not in" in done.out
    assert "f" * 64 in done.out
    assert "bfloat16" in done.out
    assert str(tmp_path / "out" / "reproduction.md") in done.out


def test_options_reach_the_run(run: Run, engine: FakeEngine, data: Path, tmp_path: Path) -> None:
    done = run(
        *("reproduce", "MedSAM-U", "--data", data, "--out", tmp_path / "out", "--model", "sam2.1-tiny", "--seed", 4),
        *("--split", "all", "--limit", 1, "--overlap", "coverage", "--datasets", "kvasir"),
    )
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "out" / "reproduction.json").read_text("utf-8"))
    assert document["settings"] == {
        **{"paper": "medsam-u", "model": "sam2.1-tiny", "seed": 4, "overlap": "coverage", "split": "all"},
        "level": 0.95,
    }
    assert document["limit"] == 1
    assert [said["masks"] for said in document["datasets"]] == [0, 1, 0, 0, 0]
    assert document["datasets"][0]["reason"] == "It was not asked for."
    assert "the part of the true box" in done.out
    assert "MedSAM is a SAM 1 model (ViT-B)" in done.out


def test_without_data_the_published_numbers_and_one_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> FakeEngine:
        raise AssertionError("no model is loaded for nothing")

    monkeypatch.setattr("napari_uncertsam.cli.segment.load_engine", load)
    done = run("reproduce", "medsam-u", "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert done.code == 2
    for said in ("Table I:", "Table IV:", ".883", "[1] ISIC is not in", "BraTS21 is not in", "the adapter (MPA)"):
        assert said in done.out
    assert "None of the datasets of MedSAM-U could be opened" in done.sentence
    assert not (tmp_path / "out").exists()


def test_without_the_checkpoint_every_cell_says_so(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_UNCERTSAM_CACHE", str(tmp_path / "empty"))
    done = run("reproduce", "uncertsam", "--data", data, "--out", tmp_path / "out")
    assert done.sentence == (
        "The model 'sam2-large' is not downloaded; run `napari-uncertsam models download sam2-large`."
    )
    assert done.sentence in done.out
    assert "65.71" in done.out
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_is_a_reason_too(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> FakeEngine:
        raise CheckpointError("The weights are damaged; download them again.")

    monkeypatch.setattr("napari_uncertsam.cli.segment.load_engine", load)
    done = run("reproduce", "uncertsam", "--data", data, "--out", tmp_path / "out")
    assert done.sentence == "The weights are damaged; download them again."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sam",), "no paper 'sam'"),
        (("medsam-u", "--overlap", "dice"), "'dice'"),
        (("uncertsam", "--datasets", "kits23"), "kits23"),
        (("uncertsam", "--datasets", "nothing"), "'nothing'"),
        (("uncertsam", "--limit", "0"), "--limit"),
        ((), "PAPER"),
    ],
)
def test_bad_input_is_a_sentence(
    run: Run, engine: FakeEngine, data: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run("reproduce", *arguments, "--data", data, "--out", tmp_path / "out")
    assert done.code == 2
    assert said.lower() in done.err.lower()
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_when_no_mask_can_be_measured_the_last_word_is_a_sentence(
    run: Run, engine: FakeEngine, data: Path, tmp_path: Path
) -> None:
    for picture in (data / "ISTD" / "test" / "images").iterdir():
        picture.write_bytes(b"no picture")
    done = run("reproduce", "uncertsam", "--data", data, "--out", tmp_path / "out")
    assert done.code == 2
    assert "No mask could be measured: " in done.out
    assert done.err.strip().endswith("No mask of the datasets could be measured; the reasons are above.")


@pytest.mark.parametrize(("paper", "rows"), [("uncertsam", 5), ("medsam-u", 4)])
def test_the_bundled_model_from_end_to_end(run: Run, data: Path, tmp_path: Path, paper: str, rows: int) -> None:
    done = run(
        *("reproduce", paper, "--data", data, "--out", tmp_path / "out", "--model", "bundled", "--device", "cpu"),
        *("--limit", 1, "--split", "test"),
    )
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "out" / "reproduction.json").read_text("utf-8"))
    assert document["record"]["model"] == "bundled"
    assert len(document["record"]["checkpoint_sha256"]) == 64
    ours = {
        row["name"]: cell["values"]["iou"]["mean"]
        for row in document["tables"][0]["rows"]
        for cell in row["cells"]
        if cell["n"]
    }
    assert len(ours) == rows
    assert all(value is not None and value > 0 for value in ours.values())
    if paper == "uncertsam":
        assert all(30 < value <= 100 for value in ours.values())
