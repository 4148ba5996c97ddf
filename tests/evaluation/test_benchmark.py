"""An evaluation from start to end on a model without weights: numbers, files, interruptions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_uncertsam.errors import Cancelled, EngineError, InputError
from napari_uncertsam.estimators.base import EnsembleBelief
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.benchmark import EvaluationSettings, Progress, evaluate
from napari_uncertsam.evaluation.cases import case_rng
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.evaluation.predicting import predict_case
from napari_uncertsam.evaluation.results import MAPS, PROGRESS, RESULTS, RUN, TABLE, Results
from napari_uncertsam.evaluation.simulate import annotate, parse_prompt
from napari_uncertsam.io import write_map, write_mask
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene

SETTINGS = EvaluationSettings.of_names(("entropy", "prompt"), ("gt-box", "box-0.5"), model="fake")


def make_dataset(folder: Path, images: int = 4) -> Path:
    """Pictures of two bright ellipses, whose mask is not quite what is bright."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(images):
        picture, labels = scene(96, 128, Box(10, 12, 40 + number, 50), Box(55, 60, 88, 120 - number), seed=number)
        labels = np.roll(labels, number, 1)
        Image.fromarray(picture[..., 0]).save(folder / "images" / f"ellipses_{number}.png")
        Image.fromarray(labels.astype(np.uint8)).save(folder / "masks" / f"ellipses_{number}.png")
    (folder / "MANIFEST.csv").write_text("name,value,modality\nellipses_0,1,CT\nellipses_0,2,MR\nellipses_1,1,CT\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data")


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(FakeEngine())


Evaluate = Callable[..., Results]


@pytest.fixture
def run(data: Path, pipeline: Pipeline, tmp_path: Path) -> Evaluate:
    """``run(out="out", settings=SETTINGS, ...)``: evaluate the dataset into a folder."""

    def go(out: str = "out", settings: EvaluationSettings = SETTINGS, **others: Any) -> Results:
        return evaluate(open_dataset(data), others.pop("pipeline", pipeline), settings, tmp_path / out, **others)

    return go


def timeless(value: Any) -> Any:
    """A document without its times."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "seconds"}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def text(results: Results) -> str:
    return json.dumps(timeless(json.loads((results.folder / RESULTS).read_text())))


def test_rows_are_predictions_measured_one_by_one(run: Evaluate, data: Path, pipeline: Pipeline) -> None:
    results = run()
    assert [row["case"] for row in results.select("gt-box", "entropy")] == [
        f"ellipses_{n}/{v}" for n in range(4) for v in (1, 2)
    ]
    dataset = open_dataset(data)
    for row in results.rows:
        [case] = [c for c in dataset.load(row["image"]) if c.key == row["case"]]
        prompts = parse_prompt(row["prompt"]).draw(case.truth, case_rng(0, case.key, row["prompt"]))
        outcome, reference = (
            predict_case(pipeline, case, prompts, Settings(model="fake", method=m)) for m in (row["method"], "entropy")
        )
        maps = outcome.maps
        expected = metrics.measure_case(
            maps.mask, maps.probability, maps.uncertainty, case.truth, reference=reference.maps.probability
        ).values
        assert {name: row[name] for name in expected} == expected
        assert row["area_px"] == case.truth.sum()


def test_the_maps_are_kept_to_the_last_bit(run: Evaluate, data: Path, pipeline: Pipeline) -> None:
    results = run()
    for row in results.rows[::3]:
        case = results.case(row)
        prompts = parse_prompt(row["prompt"]).draw(case.truth, case_rng(0, case.key, row["prompt"]))
        maps = predict_case(pipeline, case, prompts, Settings(model="fake", method=row["method"])).maps
        kept = results.maps(row, case.truth.shape)
        np.testing.assert_array_equal(kept.mask, maps.mask)
        np.testing.assert_array_equal(kept.probability, maps.probability)
        np.testing.assert_allclose(kept.uncertainty, maps.uncertainty, atol=1e-6)


def test_means_by_hand_and_modalities_set_apart(run: Evaluate) -> None:
    results = run(settings=replace(SETTINGS, apart=("MR",)))
    rows = results.select("gt-box", "prompt")
    inside = [row["dice"] for row in rows if row["modality"] != "MR"]
    assert len(inside) == len(rows) - 1
    assert results.document["mean"]["prompt"]["dice"] == pytest.approx(np.mean(inside))
    parts = {
        p["modality"]: p for p in results.document["summary"] if (p["prompt"], p["method"]) == ("gt-box", "prompt")
    }
    assert {m: p["n"] for m, p in parts.items()} == {None: 7, "CT": 2, "MR": 1, "unknown": 5}
    assert parts[None]["groups"] == 4
    low, high = metrics.bootstrap_interval(
        inside, np.random.default_rng(0), [row["group"] for row in rows if row["modality"] != "MR"]
    )
    assert (parts[None]["measures"]["dice"]["low"], parts[None]["measures"]["dice"]["high"]) == pytest.approx(
        (low, high)
    )
    [agreement] = [a for a in results.document["agreement"] if (a["prompt"], a["method"]) == ("gt-box", "prompt")]
    means = [row["mean_uncertainty_roi"] for row in rows if row["modality"] != "MR"]
    assert agreement["pearson_roi"]["value"] == pytest.approx(metrics.correlation(means, 1 - np.array(inside)))


def test_the_table_holds_every_row(run: Evaluate) -> None:
    results = run()
    with (results.folder / TABLE).open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(results.rows) == 4 * 2 * 2 * 2
    assert float(lines[3]["dice"]) == results.rows[3]["dice"]
    assert lines[3]["prompt"] == results.rows[3]["prompt"]


def test_killed_half_way_and_started_again_gives_the_same_results(run: Evaluate, tmp_path: Path) -> None:
    whole = run("whole")
    folder = tmp_path / "cut"
    run("cut")
    # As a kill leaves it: two images finished, the third one's line cut off, no results yet.
    lines = (folder / PROGRESS).read_bytes().splitlines(keepends=True)
    (folder / PROGRESS).write_bytes(lines[0] + lines[1] + lines[2][:100])
    (folder / RESULTS).unlink()
    engine = FakeEngine()
    again = run("cut", pipeline=Pipeline(engine))
    assert text(again) == text(whole)
    assert (again.folder / TABLE).read_bytes() == (whole.folder / TABLE).read_bytes()
    # Two images of two objects were left: each is embedded for its two prompts at most.
    assert 0 < engine.embed_calls <= 8
    untouched = FakeEngine()
    assert text(run("cut", pipeline=Pipeline(untouched))) == text(whole)
    assert untouched.embed_calls == untouched.decode_calls == 0


@pytest.mark.parametrize("after", [1, 3, 7])
def test_stopping_keeps_what_is_finished(run: Evaluate, tmp_path: Path, after: int) -> None:
    answers = iter([False] * after + [True])
    with pytest.raises(Cancelled):
        run("stopped", cancelled=lambda: next(answers))
    progress = tmp_path / "stopped" / PROGRESS
    finished = progress.read_text().count("\n") if progress.exists() else 0
    assert finished == after // 2
    with pytest.raises(InputError, match="not finished" if finished else "choose another folder"):
        Results.read(tmp_path / "stopped")
    assert text(run("stopped")) == text(run("whole"))


def test_a_model_that_fails_stops_the_run_and_can_be_continued(run: Evaluate) -> None:
    engine = FakeEngine()

    def fail(progress: Progress) -> None:
        if progress.done >= 2:
            engine.fail = "decode"

    with pytest.raises(EngineError, match="memory"):
        run("failed", pipeline=Pipeline(engine), report=fail)
    assert text(run("failed")) == text(run("whole"))


def test_results_depend_on_the_seed_and_not_on_what_else_is_evaluated(run: Evaluate) -> None:
    both, alone = run("both"), run("alone", EvaluationSettings.of_names(("prompt",), ("box-0.5",), model="fake"))
    drawn = [[row["prompts"] for row in results.select("box-0.5", "prompt")] for results in (both, alone)]
    assert drawn[0] == drawn[1]
    dice = [[row["dice"] for row in results.select("box-0.5", "prompt")] for results in (both, alone)]
    assert dice[0] == dice[1]
    other = run("other", replace(SETTINGS, seed=1))
    assert other.select("box-0.5")[0]["prompts"] != both.select("box-0.5")[0]["prompts"]
    assert other.select("gt-box")[0]["prompts"] == both.select("gt-box")[0]["prompts"]


def test_another_evaluation_in_the_folder_is_refused(run: Evaluate, tmp_path: Path) -> None:
    run()
    with pytest.raises(InputError, match=r"seed: 0 then, 4 now.*--overwrite"):
        run(settings=replace(SETTINGS, seed=4))
    with pytest.raises(InputError, match="other images"):
        run(limit=2)
    engine = FakeEngine()
    engine.sha256 = "0" * 64
    with pytest.raises(InputError, match="another checkpoint"):
        run(pipeline=Pipeline(engine))
    assert run(settings=replace(SETTINGS, seed=4), overwrite=True).document["settings"]["seed"] == 4
    (tmp_path / "notes" / "maps").mkdir(parents=True)
    (tmp_path / "notes" / "maps" / "000000.npz").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="other files"):
            run("notes", overwrite=overwrite)
    assert (tmp_path / "notes" / "maps" / "000000.npz").read_text() == "mine"


def test_an_image_that_changed_is_evaluated_again(run: Evaluate, data: Path) -> None:
    said: list[str] = []
    before = run(say=said.append)
    assert not said
    mask = data / "masks" / "ellipses_2.png"
    Image.fromarray(np.roll(np.asarray(Image.open(mask)), 9, 0)).save(mask)
    engine = FakeEngine()
    after = run(pipeline=Pipeline(engine), say=said.append)
    assert said == [
        "1 images have changed since they were evaluated, and are evaluated again.",
        "3 of 4 images are finished already.",
    ]
    changed = {a["image"] for a, b in zip(before.rows, after.rows, strict=True) if a["dice"] != b["dice"]}
    assert changed == {"ellipses_2"}
    assert engine.embed_calls <= 4
    assert text(run("whole")) == text(after)


def test_two_evaluations_in_one_folder_at_a_time_are_refused(run: Evaluate, tmp_path: Path) -> None:
    def second(progress: Progress) -> None:
        with pytest.raises(InputError, match="Another evaluation is writing"):
            run()

    run(report=second)
    assert not (tmp_path / "out" / ".lock").exists()


def test_what_is_left_out_is_said(run: Evaluate, data: Path) -> None:
    (data / "masks" / "ellipses_0.png").unlink()
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(data / "masks" / "ellipses_3.png")
    failed = {f["image"]: f["reason"] for f in run().document["failed"]}
    assert set(failed) == {"ellipses_0", "ellipses_3"}
    assert "no mask of that name" in failed["ellipses_0"]
    assert "no object" in failed["ellipses_3"]


def test_what_was_asked_for_in_vain_is_said(run: Evaluate) -> None:
    said: list[str] = []
    settings = EvaluationSettings.of_names(("entropy",), ("gt-box", "3B(0.5)"), apart=("Octa",), clicks=1)
    results = run(settings=replace(settings, annotators=("suggested",)), say=said.append)
    assert said == [
        "No case has the modality 'Octa' that was to be set apart; there are CT, MR, unknown.",
        "Annotators go on from a single prediction as a user makes it, so not from boxes-3-0.5.",
    ]
    assert [a["start"] for a in results.document["annotators"]] == ["gt-box"]
    with pytest.raises(InputError, match="no prompt is one"):
        EvaluationSettings.of_names(("entropy",), ("3B(0.5)",), annotators=("suggested",))


def test_a_window_reaches_the_model_and_the_pictures(run: Evaluate) -> None:
    dark = run(settings=replace(SETTINGS, window=Window(200, 2000, "custom")))
    assert max(row["dice"] for row in dark.rows) < 0.1  # everything is black through this window
    assert dark.case(dark.rows[0]).seen_through == Window(200, 2000, "custom")


def test_a_damaged_folder_is_named(run: Evaluate, tmp_path: Path) -> None:
    run()
    progress = tmp_path / "out" / PROGRESS
    progress.write_text("{}\n" + progress.read_text())
    with pytest.raises(InputError, match=r"Line 1 of .* is damaged"):
        run()
    (tmp_path / "out" / RUN).write_text("[")
    with pytest.raises(InputError, match=r"run.json is damaged"):
        run()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run("file")


def test_an_image_that_cannot_be_read_is_left_out_and_named(run: Evaluate, data: Path) -> None:
    (data / "images" / "ellipses_1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    results = run()
    [failure] = results.document["failed"]
    assert failure["image"] == "ellipses_1"
    assert "damaged" in failure["reason"]
    assert {row["image"] for row in results.rows} == {"ellipses_0", "ellipses_2", "ellipses_3"}
    # Mended, the same command takes it in.
    Image.fromarray(scene(96, 128)[0][..., 0]).save(data / "images" / "ellipses_1.png")
    assert not run().document["failed"]


def test_a_prompt_that_cannot_be_drawn_is_left_out_and_named(tmp_path: Path, pipeline: Pipeline) -> None:
    data = make_dataset(tmp_path / "tiny", 1)
    for part in ("images", "masks"):
        Image.fromarray(np.full((1, 1), 1, np.uint8)).save(data / part / "dot.png")
    results = evaluate(open_dataset(data), pipeline, SETTINGS, tmp_path / "out")
    [failure] = results.document["failed"]
    assert failure["image"] == "dot/1 (box-0.5)"
    assert "1 x 1 image" in failure["reason"]
    assert text(evaluate(open_dataset(data), pipeline, SETTINGS, tmp_path / "out")) == text(results)


def test_nothing_to_evaluate_is_said(tmp_path: Path, data: Path, pipeline: Pipeline) -> None:
    for mask in (data / "masks").glob("*.png"):
        Image.fromarray(np.zeros((96, 128), np.uint8)).save(mask)
    with pytest.raises(InputError, match=r"nothing to evaluate in .*: its mask holds no object"):
        evaluate(open_dataset(data), pipeline, SETTINGS, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())  # nothing that could be taken for an unfinished evaluation
    with pytest.raises(InputError, match="at least 1, not 0"):
        evaluate(open_dataset(data), pipeline, SETTINGS, tmp_path / "out", limit=0)


def test_progress_goes_up_to_the_end(run: Evaluate) -> None:
    seen: list[Progress] = []
    run(report=seen.append)
    done = [p.done for p in seen]
    assert done == sorted(done)
    assert (seen[-1].done, seen[-1].total, seen[-1].image) == (4, 4, "")
    assert 0.5 in done  # one of two objects of the first image


def test_a_limit_spreads_over_all_images(run: Evaluate) -> None:
    assert list(dict.fromkeys(row["image"] for row in run(limit=2).rows)) == ["ellipses_0", "ellipses_3"]


def test_three_boxes_are_averaged_in_one_view(run: Evaluate, data: Path) -> None:
    engine = FakeEngine()
    results = run(
        settings=EvaluationSettings.of_names(("entropy",), ("3B(0.5)",), model="fake"), pipeline=Pipeline(engine)
    )
    assert engine.embed_calls == 8  # one view an object, three boxes in it
    row = results.rows[0]
    assert len(row["prompts"]) == 3
    case = results.case(row)
    prompts = parse_prompt("3B(0.5)").draw(case.truth, case_rng(0, case.key, "boxes-3-0.5"))
    outcome = predict_case(Pipeline(engine), case, prompts, Settings(model="fake", method="entropy"))
    assert isinstance(outcome.belief, EnsembleBelief)
    single = [
        predict_case(Pipeline(engine), case, [p], Settings(model="fake", method="entropy", zoom=False)) for p in prompts
    ]
    averaged = predict_case(Pipeline(engine), case, prompts, Settings(model="fake", method="entropy", zoom=False))
    np.testing.assert_allclose(
        averaged.belief.probability(), np.mean([o.belief.probability() for o in single], axis=0), atol=1e-5
    )


def test_several_clicks_without_a_box_share_a_view(data: Path, pipeline: Pipeline) -> None:
    case = open_dataset(data).load("ellipses_0")[0]
    clicks = [
        Prompts((p,))
        for (prompts,) in [parse_prompt("points-3").draw(case.truth, case_rng(0, "a", "b"))]
        for p in prompts.points
    ]
    view = predict_case(pipeline, case, clicks, Settings(model="fake", method="entropy")).view
    for given in clicks:
        assert view.top <= given.points[0].y <= view.top + view.height
        assert view.left <= given.points[0].x <= view.left + view.width


def test_annotators_are_those_of_single_runs(run: Evaluate, pipeline: Pipeline, data: Path) -> None:
    settings = replace(SETTINGS, annotators=("largest-error", "suggested"), clicks=3, apart=("MR",))
    results = run(settings=settings)
    assert [(a["start"], a["policy"]) for a in results.document["annotators"]] == [
        (start, policy) for start in ("gt-box", "box-0.5") for policy in ("largest-error", "suggested")
    ]
    summary = results.document["annotators"][0]
    assert summary["runs"] == 7
    single = [
        annotate(pipeline, case, Settings("fake", "entropy"), policy="largest-error", start="gt-box", clicks=3)
        for image in open_dataset(data).images()
        for case in open_dataset(data).load(image)
        if case.modality != "MR"
    ]
    assert summary["dice"][-1]["mean"] == pytest.approx(np.mean([r.dice[-1] for r in single]))


def test_methods_are_the_models_alone_and_annotators_condition() -> None:
    settings = replace(SETTINGS, annotators=("information",))
    assert not settings.of_method("entropy").conditioning
    assert settings.of_method("entropy").n_suggestions == 0
    assert settings.of_annotator().conditioning
    assert settings.of_annotator().n_suggestions > 0
    assert not replace(settings, conditioning=False).of_annotator().conditioning
    assert settings.to_dict()["conditioning"]


def test_without_maps_nothing_is_kept_of_predictions(run: Evaluate) -> None:
    results = run(settings=replace(SETTINGS, maps=False))
    assert not (results.folder / MAPS).exists()
    with pytest.raises(InputError, match="--no-maps"):
        results.maps(results.rows[0], (96, 128))


def test_volumes_slice_by_slice_with_their_spacing(tmp_path: Path, pipeline: Pipeline) -> None:
    data = tmp_path / "volumes"
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
    slices = [scene(64, 64, Box(20, 20, 40 + k, 44)) for k in range(3)]
    array = np.stack([s[0][..., 0] for s in slices]).astype(np.int16)
    volume = Volume(array, spacing=(3.0, 0.5, 2.0), affine=np.diag([3.0, 0.5, 2.0, 1.0]), name="a")
    write_map(data / "images" / "a.nii.gz", array, volume)
    write_mask(data / "masks" / "a.nii.gz", np.stack([np.roll(s[1], 2, 1) for s in slices]), volume)
    results = evaluate(open_dataset(data), pipeline, replace(SETTINGS, methods=("entropy",)), tmp_path / "out")
    rows = results.select("gt-box")
    assert [row["case"] for row in rows] == ["a/z0/1", "a/z1/1", "a/z2/1"]
    assert {row["group"] for row in rows} == {"a"}
    assert results.document["summary"][0]["measures"]["dice"]["low"] is None  # one group has no interval
    case = results.case(rows[1])
    maps = results.maps(rows[1], case.truth.shape)
    assert rows[1]["hd95"] == pytest.approx(metrics.hausdorff_distance(maps.mask, case.truth, (0.5, 2.0)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ()}, "at least one"),
        ({"methods": ("entropy", "entropy")}, "once"),
        ({"methods": ("magic",)}, "magic"),
        ({"annotators": ("nobody",)}, "nobody"),
        ({"seed": -1}, "seed"),
        ({"clicks": -1}, "clicks"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"wrong_rate": 1.5}, "rate"),
        ({"level": 1.0}, "level"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(SETTINGS, **changes)


def test_reading_what_is_no_evaluation(run: Evaluate, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results.json"):
        Results.read(tmp_path)
    folder = run().folder
    document = json.loads((folder / RESULTS).read_text())
    for change, said in (({"format": "x"}, "not an evaluation"), ({"version": 9}, "update")):
        (folder / RESULTS).write_text(json.dumps(document | change))
        with pytest.raises(InputError, match=said):
            Results.read(folder)
    (folder / RESULTS).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        Results.read(folder)


def test_maps_that_are_gone_and_a_dataset_that_moved(run: Evaluate, data: Path) -> None:
    results = run()
    for archive in (results.folder / MAPS).iterdir():
        archive.unlink()
    with pytest.raises(InputError, match="missing or damaged"):
        results.maps(results.rows[0], (96, 128))
    (data / "masks" / "ellipses_0.png").unlink()
    (data / "images" / "ellipses_0.png").unlink()
    with pytest.raises(InputError, match="ellipses_0"):
        results.case(results.rows[0])
    data.rename(data.with_name("elsewhere"))
    with pytest.raises(InputError, match=str(data)):
        _ = Results.read(results.folder).dataset
