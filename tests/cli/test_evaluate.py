"""``evaluate`` as somebody types it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from napari_uncertsam.checkpoints import installed_path
from napari_uncertsam.cli.evaluate import SHOWN
from napari_uncertsam.evaluation.comparing_methods import verdict
from napari_uncertsam.evaluation.results import Results
from napari_uncertsam.prompts import Box
from tests.fakes import FakeEngine, scene

Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures with two objects each."""
    folder = tmp_path / "cells"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(3):
        picture, labels = scene(96, 128, Box(10, 12, 40, 50), Box(55, 60, 88, 120), seed=number)
        Image.fromarray(picture[..., 0]).save(folder / "images" / f"cells_{number}.png")
        Image.fromarray(np.roll(labels, number + 1, 1).astype(np.uint8)).save(folder / "masks" / f"cells_{number}.png")
    return folder


def test_files_and_table(run: Run, engine: FakeEngine, data: Path, tmp_path: Path) -> None:
    done = run("evaluate", data, "--out", tmp_path / "out", "--prompts", "gt-box,3B(0.5)", "--methods", "entropy")
    assert done.code == 0, done.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("results.json", "results.csv", "report.html", "progress.jsonl", "run.json", "maps")
    }
    assert "cells: 6 objects in 3 images, 3 groups" in done.out
    results = Results.read(tmp_path / "out")
    mean = results.document["mean"]["entropy"]["dice"]
    assert f"{mean:.3f}" in done.out
    assert results.prompts == ("gt-box", "boxes-3-0.5")
    assert "<html" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_without_methods_it_is_entropy_and_what_segment_takes(
    run: Run, engine: FakeEngine, data: Path, tmp_path: Path
) -> None:
    words = ("evaluate", data, "--worst", 1, "--out")
    assert run(*words, tmp_path / "out").code == 0
    assert Results.read(tmp_path / "out").methods == ("entropy", "laplace")
    installed_path("laplace", engine.sha256).unlink()
    done = run(*words, tmp_path / "again")
    assert done.code == 0
    assert "no Laplace posterior" in done.err
    assert Results.read(tmp_path / "again").methods == ("entropy", "prompt")


def test_a_method_with_a_measure_and_which_means_differ(
    run: Run, engine: FakeEngine, data: Path, tmp_path: Path
) -> None:
    words = ("evaluate", data, "--out", tmp_path / "out", "--prompts", "box-0.5", "--worst", 1)
    done = run(*words, "--methods", "entropy,prompt:mi,prompt:std", "--annotators", "random", "--clicks", 1)
    assert done.code == 0, done.err
    results = Results.read(tmp_path / "out")
    assert results.methods == ("entropy", "prompt:mutual-information", "prompt:std")
    said = [verdict(name, entry) for entry in results.comparisons for name in SHOWN]
    assert {"better", "worse"} & set(said)
    for word in ("better", "worse"):
        # As a line of a cell; the caption has both words too.
        assert sum(line.split().count(word) for line in done.out.splitlines() if "\u2502" in line) == said.count(word)
    assert "Better and worse: than entropy" in " ".join(done.out.split())
    assert done.out.count("mutual-information") == 1
    assert run(*words, "--methods", "entropy:mi", "--overwrite").sentence.startswith("The method 'entropy' has no")


def test_options_reach_the_evaluation(run: Run, engine: FakeEngine, data: Path, tmp_path: Path) -> None:
    done = run(
        *("evaluate", data, "--out", tmp_path / "out", "--methods", "prompt", "--prompts", "click", "--no-zoom"),
        *("--seed", 3, "--limit", 2, "--apart", "CT", "--annotators", "largest-error", "--clicks", 2),
        *("--wrong-rate", 0.5, "--no-maps", "--tolerance", 1.5, "--min-area", 900, "--worst", 0),
        *("--window", "10,250", "--no-conditioning"),
    )
    assert done.code == 0, done.err
    document = Results.read(tmp_path / "out").document
    assert document["settings"] == {
        **{"model": "bundled", "methods": ["prompt"], "prompts": ["click"], "zoom": False, "seed": 3},
        **{"tolerance": 1.5, "level": 0.95, "apart": ["CT"], "annotators": ["largest-error"], "clicks": 2},
        **{"wrong_rate": 0.5, "conditioning": False, "maps": False, "window": [10.0, 250.0, "custom"]},
    }
    opened = {"where": str(data.resolve()), "root": None, "split": None, "options": {"min_area": 900}}
    assert {name: document["dataset"][name] for name in opened} == opened
    assert document["dataset"]["images"] == 2
    assert all(row["area_px"] >= 900 for row in document["cases"])
    assert len(document["annotators"][0]["dice"]) == 3
    assert "No case has the modality 'CT'" in done.err
    assert "largest-error" in done.out


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_its_terminal(run: Run, engine: FakeEngine, data: Path, tmp_path: Path, width: int) -> None:
    from napari_uncertsam.cli.evaluate import show

    methods = "entropy,prompt,prompt:mutual-information"
    assert run("evaluate", data, "--out", tmp_path / "out", "--methods", methods).code == 0
    console = Console(width=width, force_terminal=True, file=StringIO(), color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.console.Console", lambda **_: console)
        show(Results.read(tmp_path / "out"))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    sentences = " ".join(text.split())
    assert ("more measures had no room" in sentences) == (width < 32 + 16 * len(SHOWN))
    assert "3 groups they are not to be trusted" in sentences


def test_a_dataset_by_name_is_found_again(run: Run, engine: FakeEngine, data: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    for mask in (data / "masks").iterdir():
        Image.fromarray(255 * (np.asarray(Image.open(mask)) > 0).astype(np.uint8)).save(mask)
    data.rename(tmp_path / "all" / "Kvasir-SEG")
    words = ("evaluate", "kvasir-seg", "--data", tmp_path / "all", "--out", tmp_path / "out", "--split", "all")
    done = run(*words, "--methods", "entropy")
    assert done.code == 0, done.err
    results = Results.read(tmp_path / "out")
    assert results.document["dataset"]["name"] == results.dataset.name
    for row in results.rows:
        assert results.case(row).truth.sum() == row["area_px"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere/at/all",), "no folder"),
        (("trans10k",), "Trans10K"),
        (("DATA", "--methods", "magic"), "'magic'"),
        (("DATA", "--methods", ","), "at least one"),
        (("DATA", "--prompts", "boxes"), "gt-box"),
        (("DATA", "--annotators", "nobody"), "nobody"),
        (("DATA", "--wrong-rate", "2"), "--wrong-rate"),
    ],
)
def test_bad_input_is_a_sentence(
    run: Run, engine: FakeEngine, data: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    words = [data if word == "DATA" else word for word in arguments]
    done = run("evaluate", *words, "--out", tmp_path / "out")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_is_named_and_the_rest_goes_on(
    run: Run, engine: FakeEngine, data: Path, tmp_path: Path
) -> None:
    (data / "images" / "cells_1.png").write_bytes(b"no picture")
    done = run("evaluate", data, "--out", tmp_path / "out", "--methods", "entropy")
    assert done.code == 0
    assert "Left out: cells_1" in done.err
    assert "4 objects in 2 images" in done.out


def test_without_matplotlib_only_the_report_is_missing(
    run: Run, engine: FakeEngine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_uncertsam.evaluation.report.find_spec", lambda name: None)
    done = run("evaluate", data, "--out", tmp_path / "out", "--methods", "entropy")
    assert done.code == 0
    assert "There is no report: The report needs matplotlib" in done.out
    assert not (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "results.json").exists()


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "seconds"}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_killed_and_run_again_with_the_bundled_model(data: Path, tmp_path: Path) -> None:
    """A real process that gets SIGKILL once some images are finished; then the same command to its end."""
    for number in range(3, 12):
        for part in ("images", "masks"):
            (data / part / f"cells_{number}.png").write_bytes((data / part / f"cells_{number % 3}.png").read_bytes())

    def command(out: str) -> list[str]:
        words = ["evaluate", str(data), "--out", str(tmp_path / out), "--methods", "entropy,prompt", "--worst", "1"]
        return [sys.executable, "-m", "napari_uncertsam.cli", *words]

    subprocess.run(command("whole"), check=True, capture_output=True, timeout=100)
    process = subprocess.Popen(command("cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    progress, start = tmp_path / "cut" / "progress.jsonl", time.monotonic()
    while not (progress.exists() and progress.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() - start < 60
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "cut" / "results.json").exists()
    kept = progress.read_bytes().count(b"\n")
    assert 2 <= kept < 12
    subprocess.run(command("cut"), check=True, capture_output=True, timeout=100)
    documents = [json.loads((tmp_path / out / "results.json").read_text()) for out in ("whole", "cut")]
    assert json.dumps(timeless(documents[0])) == json.dumps(timeless(documents[1]))
    tables = [(tmp_path / out / "results.csv").read_bytes() for out in ("whole", "cut")]
    assert tables[0] == tables[1]
