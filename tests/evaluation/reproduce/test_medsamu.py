"""MedSAM-U's rows: against the evaluation, and UGPA from the prompts that the engine was really given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.benchmark import EvaluationSettings, evaluate
from napari_uncertsam.evaluation.cases import Case, case_rng
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.evaluation.reproduce import ReproductionSettings, find_paper
from napari_uncertsam.evaluation.reproduce.paper import Subject, Values
from napari_uncertsam.evaluation.reproduce.sight import Sight
from napari_uncertsam.evaluation.simulate import parse_prompt
from napari_uncertsam.evaluation.simulate.boxes import overlap_of
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prompts import Box
from napari_uncertsam.uncertainty import binary_entropy, logit, sigmoid
from tests.evaluation.reproduce import layouts
from tests.evaluation.reproduce.conftest import Run
from tests.fakes import FakeEngine

PAPER = find_paper("medsam-u")
POINTS = {"none": None, "0": 0, "3": 3, "5": 5, "10": 10}


def rows(document: dict[str, Any], table: str) -> dict[str, dict[str, Any]]:
    [found] = [t for t in document["tables"] if t["name"] == table]
    return {row["name"]: row for row in found["rows"]}


def cell(row: dict[str, Any], title: str) -> dict[str, Any]:
    [found] = [c for c in row["cells"] if c["title"] == title]
    return found


@pytest.mark.parametrize(("overlap", "suffix"), [("iou", ""), ("coverage", "-coverage")])
def test_prompted_rows_are_what_evaluate_measures_without_zoom(
    run: Run, tmp_path: Path, overlap: str, suffix: str
) -> None:
    layouts.kvasir(tmp_path / "data", 4)
    document = run("medsam-u", tmp_path / "data", split="all", overlap=overlap, seed=3)
    prompts = {
        ("Table II", "SAM 3P"): "3P",
        ("Table II", "SAM 10P"): "10P",
        ("Table II", "SAM 3B (0.5)"): f"boxes-3-0.5{suffix}",
        ("Table I", "SAM 3B (0.5)"): f"boxes-3-0.5{suffix}",
        ("Table I", "SAM 3B (0.75)"): f"boxes-3-0.75{suffix}",
        ("Table II", "SAM 10P&3B (0.5)"): f"points-10+boxes-3-0.5{suffix}",
    }
    settings = EvaluationSettings.of_names(
        ("entropy",), tuple(dict.fromkeys(prompts.values())), model="fake", zoom=False, seed=3
    )
    dataset = open_dataset("kvasir-seg", root=tmp_path / "data", split="all")
    results = evaluate(dataset, Pipeline(FakeEngine()), settings, tmp_path / "evaluated")
    parts = {part["prompt"]: part["measures"] for part in results.document["summary"]}
    for (table, name), prompt in prompts.items():
        ours = cell(rows(document, table)[name], "Colonoscopy")
        for measure in ("iou", "dice"):
            expected = parts[parse_prompt(prompt).name][measure]
            found = {k: ours["values"][measure][k] for k in ("mean", "low", "high")}
            assert found == pytest.approx({k: expected[k] for k in found}, abs=1e-9)
    assert cell(rows(document, "Table II")["SAM 3P"], "Colonoscopy")["values"]["dice"]["published"] == 0.359


def first_case(root: Path) -> Case:
    layouts.kvasir(root, 1)
    [case] = open_dataset("kvasir-seg", root=root, split="all").load("cju0")
    return case


def computed(engine: FakeEngine, case: Case, ratio: float, **options: Any) -> dict[str, Values]:
    settings = ReproductionSettings("medsam-u", "fake", **options)
    prefix = f"ugpa-{ratio:g}-"
    [group] = [g for g in PAPER.groups(settings) if g.runs[0].startswith(prefix)]
    assert group.runs == tuple(prefix + end for end in POINTS)
    subject = Subject("kvasir-seg", case, Sight.of(engine, case))
    return {run.removeprefix(prefix): values for run, values in group.compute(subject, settings, frozenset(group.runs))}


@pytest.mark.parametrize("overlap", [0.5, 0.75])
@pytest.mark.parametrize("seed", range(6))
def test_ugpa_by_hand_from_the_prompts_that_were_decoded(tmp_path: Path, overlap: float, seed: int) -> None:
    """Mean probability of three boxes; kept if the mean entropy of the next three, with k points, is lower."""
    case, engine = first_case(tmp_path), FakeEngine()
    values = computed(engine, case, overlap, seed=seed)
    batches, sight = list(engine.decoded), Sight.of(engine, case)
    assert [len(batch) for batch in batches] == [3] * len(batches)
    assert not any(p.points for p in batches[0])

    def mean(batch: Any) -> np.ndarray:
        return np.asarray(sigmoid(engine.decode(sight.embedding, batch).logits.double().numpy()).mean(0))

    def measured(probability: np.ndarray) -> tuple[float, float]:
        mask = sight.view.local_map(logit(probability, 1e-14).astype(np.float32), *case.truth.shape) > 0
        return metrics.iou(mask, case.truth), metrics.dice(mask, case.truth)

    start = mean(batches[0])
    assert (values["none"]["iou"], values["none"]["dice"]) == pytest.approx(measured(start))
    assert "accepted" not in values["none"]
    refined = [batch for batch in batches[1:]]
    assert len(refined) == 4
    assert len({tuple(p.box for p in batch) for batch in refined}) == 1  # the same three boxes every time
    for (name, points), batch in zip(list(POINTS.items())[1:], refined, strict=True):
        assert points is not None
        for given in batch:
            assert given.points == batch[0].points
            assert len(given.points) == points
            assert all(p.positive for p in given.points)
        after = mean(batch)
        accepted = binary_entropy(after).mean() < binary_entropy(start).mean()
        assert values[name]["accepted"] == float(accepted)
        expected = measured(after if accepted else start)
        assert (values[name]["iou"], values[name]["dice"]) == pytest.approx(expected)


def test_both_outcomes_of_the_verification_occur(tmp_path: Path) -> None:
    case, seen = first_case(tmp_path), set()
    for seed in range(6):
        values = computed(FakeEngine(), case, 0.75, seed=seed)
        seen |= {found["accepted"] for name, found in values.items() if name != "none"}
    assert seen == {0.0, 1.0}


@pytest.mark.parametrize("by", ["iou", "coverage"])
@pytest.mark.parametrize("overlap", [0.5, 0.75])
def test_the_first_boxes_scatter_about_one_at_the_overlap(tmp_path: Path, by: Any, overlap: float) -> None:
    case, engine = first_case(tmp_path), FakeEngine()
    spec = parse_prompt(f"box-{overlap:g}{'-coverage' if by == 'coverage' else ''}")
    [drawn] = spec.draw(case.truth, case_rng(1, case.key, spec.name))
    assert drawn.box is not None
    assert overlap_of(drawn.box, Box.of_mask(case.truth), by) == pytest.approx(overlap, abs=0.011)
    computed(engine, case, overlap, overlap=by, seed=1)
    local = Sight.of(engine, case).local(drawn).box
    assert local is not None
    first = [p.box for p in engine.decoded[0]]
    assert local not in first
    for box in first:
        assert box is not None
        shifts = np.subtract((box.y0, box.x0, box.y1, box.x1), (local.y0, local.x0, local.y1, local.x1))
        assert (np.abs(shifts) < 5 * 0.05 * np.tile((local.height, local.width), 2)).all()


def test_what_the_tables_need_of_each_dataset() -> None:
    prompts = {"points-3", "points-10", "boxes-3-0.5", "boxes-3-0.75", "points-10+boxes-3-0.5"}
    last = {"ugpa-0.5-10", "ugpa-0.75-10"}
    assert PAPER.wanted("kits23") == PAPER.wanted("brats21") == prompts | last
    assert PAPER.wanted("isic") == prompts | {f"ugpa-{r}-{end}" for r in ("0.5", "0.75") for end in POINTS}


def test_models_that_do_not_run_say_so_and_the_others_say_what_they_are(run: Run, tmp_path: Path) -> None:
    layouts.kvasir(tmp_path / "data", 2)
    document = run("medsam-u", tmp_path / "data", split="all")
    table = rows(document, "Table II")
    reason = {name: {c["reason"] for c in row["cells"]} for name, row in table.items()}
    assert reason["MedSAM 3P"] == {"MedSAM is a SAM 1 model (ViT-B), which this package does not run."}
    assert reason["MPA-MedSAM 10P"] == {
        "With --model NAME+adapter the row of SAM with these prompts is that of a model with the adapter (MPA)."
    }
    assert table["MedSAM 3P"]["model"] == "MedSAM"
    assert table["SAM 3P"]["model"] == "SAM 1"
    assert table["SAM 10P&3B (0.5)"]["beside"] == "10 random clicks and 3 boxes at overlap 0.5"
    whole, last = rows(document, "Table I")["MedSAM-U 3B (0.75)"], rows(document, "Table IV")["UGPA4: refined 10P & 3B"]
    assert whole["run"] == last["run"] == "ugpa-0.75-10"
    assert "10 points and three boxes" in last["beside"]
    assert cell(whole, "Colonoscopy")["values"]["iou"]["mean"] == cell(last, "Colonoscopy")["values"]["iou"]["mean"]
    assert "None of ours is computed with the paper's models" in document["notes"][0]
    assert any("all labelled positive" in note for note in document["notes"])


def test_averages_need_every_column(run: Run, tmp_path: Path) -> None:
    layouts.kvasir(tmp_path / "data", 2)
    layouts.isic(tmp_path / "data", 3)
    document = run("medsam-u", tmp_path / "data", "two", split="all")
    average = cell(rows(document, "Table III")["w/o UGPA"], "Average")
    assert average["n"] is None
    assert average["reason"] == "An average needs every column, and there is nothing for Ultrasound."
    assert average["values"]["dice"]["published"] == 0.748
    layouts.ct2us(tmp_path / "data", 2)
    document = run("medsam-u", tmp_path / "data", "three", split="all")
    row = rows(document, "Table III")["w/o UGPA"]
    means = [cell(row, title)["values"]["dice"]["mean"] for title in ("Dermoscopy", "Colonoscopy", "Ultrasound")]
    average = cell(row, "Average")
    assert average["n"] == 7
    assert average["values"]["dice"]["mean"] == pytest.approx(np.mean(means))
    assert average["values"]["dice"]["difference"] == pytest.approx(np.mean(means) - 0.748)
    assert "CT, MRI" in cell(rows(document, "Table I")["SAM 3B (0.5)"], "Average")["reason"]


def test_a_fifth_of_the_images_unless_all_are_asked_for(run: Run, tmp_path: Path) -> None:
    layouts.kvasir(tmp_path / "data", 5)
    fifth, everything = (
        run("medsam-u", tmp_path / "data", split, split=split)["datasets"][1] for split in ("test", "all")
    )
    assert (fifth["masks"], everything["masks"]) == (1, 5)
