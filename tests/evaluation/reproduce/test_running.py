"""The loop and what it leaves: reasons, interruptions, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_uncertsam.errors import EngineError, InputError
from napari_uncertsam.evaluation.datasets import KNOWN, open_dataset
from napari_uncertsam.evaluation.metrics import bootstrap_interval
from napari_uncertsam.evaluation.reproduce import (
    DOCUMENT,
    NOTHING,
    PAGE,
    ReproductionSettings,
    find_paper,
    make_document,
    open_datasets,
    ran,
)
from napari_uncertsam.evaluation.reproduce.table import headings, lines, markdown, reasons
from napari_uncertsam.evaluation.results import PROGRESS
from napari_uncertsam.evaluation.running import Progress
from tests.evaluation.datasets.makers import save
from tests.evaluation.reproduce import layouts
from tests.evaluation.reproduce.conftest import Run
from tests.fakes import FakeEngine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """ISTD and SBU in UncertSAM's layout."""
    for seed, folder in enumerate(("ISTD", "SBU-shadow")):
        layouts.uncertsam(tmp_path / "data", folder, 3, seed)
    return tmp_path / "data"


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (DOCUMENT, PAGE)]


def cells(document: dict[str, Any], row: str = "SAM (No") -> dict[str, dict[str, Any]]:
    [found] = [r for t in document["tables"] for r in t["rows"] if r["name"].startswith(row)]
    return {c["title"]: c for c in found["cells"]}


def test_a_missing_dataset_has_its_own_sentence(run: Run, data: Path) -> None:
    document = run("uncertsam", data)
    found = cells(document)
    for title, key in (("BIG", "big"), ("Trans", "trans10k")):
        assert found[title]["reason"] == KNOWN[key].missing(data, "test")
        with pytest.raises(InputError) as error:
            open_dataset(key, root=data)
        assert found[title]["reason"] == str(error.value)
    assert found["ISTD"]["reason"] is None
    by_key = {said["key"]: said for said in document["datasets"]}
    assert by_key["istd"] == {
        **{"key": "istd", "title": "ISTD", "path": str(data / "ISTD" / "test"), "images": 3},
        **{"masks": 6, "groups": 3, "reason": None},
    }
    assert by_key["big"]["path"] is None
    assert list(by_key) == list(find_paper("uncertsam").datasets)


def test_every_cell_has_a_number_or_a_reason(run: Run, data: Path, tmp_path: Path) -> None:
    layouts.kvasir(tmp_path / "more", 1)
    for document in (run("uncertsam", data), run("medsam-u", tmp_path / "more", "medical", split="all")):
        for table in document["tables"]:
            for row in table["rows"]:
                for cell in row["cells"]:
                    assert (cell["n"] is None) is bool(cell["reason"])
                    value = cell["values"]["iou"]
                    assert (value["mean"] is None) is (cell["n"] is None)
                    assert value["published"] is not None


def test_intervals_draw_whole_images(run: Run, data: Path) -> None:
    document = run("uncertsam", data, seed=5)
    entries = [json.loads(line) for line in (data.parent / "out" / PROGRESS).read_text().splitlines()]
    values, groups = [], []
    for entry in entries:
        if entry["image"].startswith("sbu/"):
            for row in entry["rows"]:
                if row["run"] == "sam":
                    values.append(row["values"]["iou"])
                    groups.append(row["group"])
    ours = cells(document)["SBU"]["values"]["iou"]
    low, high = bootstrap_interval(values, np.random.default_rng(5), groups)
    assert (ours["mean"], ours["low"], ours["high"]) == pytest.approx((100 * np.mean(values), 100 * low, 100 * high))


def test_killed_half_way_and_started_again_gives_the_same_files(run: Run, data: Path) -> None:
    run("uncertsam", data, "whole")
    run("uncertsam", data, "cut")
    whole, folder = data.parent / "whole", data.parent / "cut"
    lines = (folder / PROGRESS).read_bytes().splitlines(keepends=True)
    (folder / PROGRESS).write_bytes(lines[0] + lines[1] + lines[2][:50])
    for name in (DOCUMENT, PAGE):
        (folder / name).unlink()
    engine = FakeEngine()
    run("uncertsam", data, "cut", engine=engine)
    assert files(folder) == files(whole)
    assert engine.embed_calls == 4  # four images of six were left, each embedded once for its two objects
    untouched = FakeEngine()
    run("uncertsam", data, "cut", engine=untouched)
    assert untouched.embed_calls == untouched.decode_calls == 0
    assert files(folder) == files(whole)


def test_a_model_that_fails_stops_the_run_and_can_be_continued(run: Run, data: Path) -> None:
    engine = FakeEngine()

    def fail(progress: Progress) -> None:
        if progress.done >= 4:
            engine.fail = "decode"

    with pytest.raises(EngineError, match="memory"):
        run("uncertsam", data, "failed", engine=engine, report=fail)
    assert not (data.parent / "failed" / DOCUMENT).exists()
    run("uncertsam", data, "failed")
    run("uncertsam", data, "whole")
    assert files(data.parent / "failed") == files(data.parent / "whole")


def test_a_dataset_that_comes_later_and_a_larger_limit_are_taken_in(run: Run, data: Path) -> None:
    engine = FakeEngine()
    first = run("uncertsam", data, limit=1, only=("istd",), engine=engine)
    assert cells(first)["SBU"]["reason"] == "It was not asked for."
    assert cells(first)["ISTD"]["n"] == 2
    assert (first["limit"], engine.embed_calls) == (1, 1)
    later = run("uncertsam", data, limit=2, engine=engine)
    assert (cells(later)["ISTD"]["n"], cells(later)["SBU"]["n"]) == (4, 4)
    assert engine.embed_calls == 4
    assert later == run("uncertsam", data, "fresh", limit=2)


def test_progress_goes_up_to_the_end(run: Run, data: Path) -> None:
    seen: list[Progress] = []
    run("uncertsam", data, report=seen.append)
    done = [p.done for p in seen]
    assert done == sorted(done)
    assert (done[-1], seen[-1].total) == (6, 6)
    assert 0.5 in done


def test_other_settings_are_refused_in_the_same_folder(run: Run, data: Path) -> None:
    run("uncertsam", data)
    with pytest.raises(InputError, match=r"seed: 0 then, 1 now.*--overwrite"):
        run("uncertsam", data, seed=1)
    layouts.kvasir(data)
    with pytest.raises(InputError, match=r"medsam-u.*--overwrite"):
        run("medsam-u", data)
    engine = FakeEngine()
    engine.sha256 = "0" * 64
    with pytest.raises(InputError, match="another checkpoint"):
        run("uncertsam", data, engine=engine)
    assert run("uncertsam", data, seed=1, overwrite=True)["settings"]["seed"] == 1


def test_a_damaged_image_is_left_out_until_it_is_mended(run: Run, data: Path) -> None:
    path = data / "ISTD" / "test" / "images" / "00000001.jpg"
    whole = path.read_bytes()
    path.write_bytes(b"no picture")
    document = run("uncertsam", data)
    assert cells(document)["ISTD"]["n"] == 4
    [left] = document["left_out"]
    assert (left["dataset"], left["what"], left["run"]) == ("istd", "00000001", None)
    assert "00000001" in left["reason"]
    assert left["reason"] in markdown(document)
    path.write_bytes(whole)
    assert run("uncertsam", data)["left_out"] == []


def test_what_cannot_be_drawn_is_a_reason_for_those_rows_only(run: Run, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        save(tmp_path / "tiny" / "Kvasir-SEG" / part / "dot.png", np.full((1, 1), 255, np.uint8))
    document = run("medsam-u", tmp_path / "tiny", split="all")
    table = {row["name"]: row["cells"][1] for row in document["tables"][1]["rows"]}
    assert table["SAM 3P"]["n"] == 1
    assert table["SAM 3B (0.5)"]["n"] is None
    assert table["SAM 3B (0.5)"]["reason"].startswith("No mask could be measured: No box in the 1 x 1 image")
    runs = {left["run"] for left in document["left_out"]}
    assert runs == find_paper("medsam-u").wanted("kvasir-seg") - {"points-3", "points-10"}


def test_no_mask_at_all_is_said(run: Run, tmp_path: Path) -> None:
    folder = layouts.kvasir(tmp_path / "data", 1)
    Image.fromarray(np.zeros(layouts.SHAPE, np.uint8)).save(folder / "masks" / "cju0.jpg")
    document = run("medsam-u", tmp_path / "data", split="all")
    assert not ran(document)
    assert document["datasets"][1]["reason"] == "No mask could be measured: its masks are empty."


def test_nothing_there_still_has_every_published_number(tmp_path: Path) -> None:
    for key in ("uncertsam", "medsam-u"):
        paper = find_paper(key)
        collection = open_datasets(paper, tmp_path)
        assert not collection.found
        document = make_document(paper, ReproductionSettings(key, "fake"), collection, None, NOTHING)
        assert not ran(document)
        page = markdown(document)
        for table in paper.tables:
            assert table.name in page
            for row in table.rows:
                for values in row.values.values():
                    assert all(f"{v:.{2 if table.percent else 3}f}" in page for v in values)
        for dataset in paper.datasets:
            assert KNOWN[dataset].missing(tmp_path, "test") in page


def test_datasets_of_another_paper_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="UncertSAM has no table with kits23; choose among big, coift"):
        open_datasets(find_paper("uncertsam"), tmp_path, only=("KiTS23",))
    with pytest.raises(InputError, match="'nowhere'"):
        open_datasets(find_paper("uncertsam"), tmp_path, only=("nowhere",))
    with pytest.raises(InputError, match="choose uncertsam or medsam-u"):
        find_paper("sam")


def test_a_folder_that_only_has_the_name_is_not_taken(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data are looked for under the root, even where a folder `big` lies in the present one."""
    layouts.uncertsam(tmp_path / "elsewhere", "big", 1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "BIG is not in" in cells(run("uncertsam", data))["BIG"]["reason"]


@pytest.mark.parametrize("options", [{"seed": -1}, {"overlap": "dice"}])
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"-1|dice"):
        ReproductionSettings("medsam-u", "fake", **options)


def test_lines_and_the_page(run: Run, data: Path) -> None:
    document = run("uncertsam", data)
    [table] = document["tables"]
    titles = headings(document, table)
    grid = [dict(zip(titles, line, strict=True)) for line in lines(document, table)]
    assert len(grid) == 40
    [line] = [li for li in grid if li["row"].startswith("SAM (No") and li["dataset"] == "ISTD"]
    ours = cells(document)["ISTD"]["values"]["iou"]
    assert line["IoU, ours"] == f"{ours['mean']:.2f} ({ours['low']:.2f} to {ours['high']:.2f})"
    assert line["masks"] == "6"
    known = reasons(document)
    [line] = [li for li in grid if li["row"].startswith("SAM (No") and li["dataset"] == "BIG"]
    assert line["IoU, ours"] == "\N{EN DASH}"
    assert line["masks"] == f"not run [{known.index(KNOWN['big'].missing(data, 'test')) + 1}]"
    page = (data.parent / "out" / PAGE).read_text("utf-8")
    assert page == markdown(json.loads((data.parent / "out" / DOCUMENT).read_text("utf-8")))
    for said in ("sam2-large", "bfloat16", "f" * 64, "seed 0", "ISTD: 6 masks in 3 images", *known):
        assert said in page
    # Every line of a table of Markdown has as many cells.
    assert {row.count(" | ") for row in page.splitlines() if row.startswith("| ")} == {len(titles) - 1}


def test_how_often_a_round_was_kept_stands_beside_the_masks(run: Run, tmp_path: Path) -> None:
    layouts.kvasir(tmp_path / "data", 4)
    document = run("medsam-u", tmp_path / "data", split="all")
    [table] = [t for t in document["tables"] if t["name"] == "Table III"]
    grid = [dict(zip(headings(document, table), line, strict=True)) for line in lines(document, table)]
    masks = {line["row"]: line["masks"] for line in grid if line["dataset"] == "Colonoscopy"}
    share = table["rows"][4]["cells"][1]["values"]["accepted"]["mean"]
    assert masks["w/o UGPA"] == "4"
    assert masks["UGPA4: refined 10P & 3B"] == f"4, {100 * share:.0f} % kept"
    assert {line["published for"] for line in grid} == {"MedSAM with MPA", "MedSAM with MPA and UGPA"}
