"""Methods that name a measure, "prompt:mi": predicted once, measured and shown each by itself, from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.benchmark import EvaluationSettings, evaluate
from napari_uncertsam.evaluation.cases import case_rng
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.evaluation.inspection.stored import open_evaluation
from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.metrics.table import CONFIDENT, measure_case
from napari_uncertsam.evaluation.predicting import predict_case, predict_methods
from napari_uncertsam.evaluation.report import write_report
from napari_uncertsam.evaluation.results import Results
from napari_uncertsam.evaluation.simulate import parse_prompt
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.uncertainty import LN2
from tests.evaluation.report.page_reader import Page
from tests.evaluation.test_benchmark import make_dataset
from tests.fakes import FakeEngine

METHODS = ("prompt", "prompt:mi", "prompt:std")
FULL = ("prompt", "prompt:mutual-information", "prompt:std")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("measures") / "data")


def settings(*methods: str, **others: Any) -> EvaluationSettings:
    return EvaluationSettings.of_names(methods, ("box-0.5",), model="fake", **others)


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("evaluation") / "out"
    return evaluate(open_dataset(data), Pipeline(FakeEngine()), settings(*METHODS), folder)


def test_measures_share_one_prediction(data: Path, tmp_path: Path) -> None:
    calls = []
    for methods in (("prompt",), METHODS):
        engine = FakeEngine()
        evaluate(open_dataset(data), Pipeline(engine), settings(*methods), tmp_path / str(len(methods)))
        calls.append((engine.embed_calls, engine.decode_calls))
    assert calls[0] == calls[1]
    assert calls[0][1] > 0


def test_rows_are_predictions_made_one_by_one(data: Path, results: Results) -> None:
    assert results.methods == FULL
    dataset, pipeline = open_dataset(data), Pipeline(FakeEngine())
    for row in results.rows:
        [case] = [c for c in dataset.load(row["image"]) if c.key == row["case"]]
        prompts = parse_prompt("box-0.5").draw(case.truth, case_rng(0, case.key, "box-0.5"))
        made = [
            predict_case(pipeline, case, prompts, settings(method).of_method(method))
            for method in (row["method"], "entropy", "prompt")
        ]
        maps, reference, entropy = (outcome.maps for outcome in made)
        expected = measure_case(
            maps.mask,
            maps.probability,
            maps.uncertainty,
            case.truth,
            reference=reference.probability,
            entropy=entropy.uncertainty,
        ).values
        assert {name: row[name] for name in MEASURES} == {k: v if np.isfinite(v) else None for k, v in expected.items()}
        assert row["measure"] == made[0].measure
        kept = results.maps(row, case.truth.shape)
        np.testing.assert_allclose(kept.uncertainty, maps.uncertainty, atol=1e-6)


def test_whether_a_pixel_is_confident_does_not_depend_on_what_is_shown(results: Results) -> None:
    confident = [[row["confident_error"] for row in results.select(method=method)] for method in FULL]
    assert confident[0] == confident[1] == confident[2]
    ause = [[row["ause_roi"] for row in results.select(method=method)] for method in FULL]
    assert ause[0] != ause[1] != ause[2]
    truth, mask = np.zeros((2, 8, 8), bool)
    truth[2:6, 2:6] = True
    probability = np.where(truth, 0.4, 0.01)
    shown = np.full((8, 8), 7.0)  # log-variances, say
    entropy = np.where(np.arange(8) < 4, 0.9, 1.1)[None] * CONFIDENT * np.ones((8, 1))
    found = measure_case(mask, probability, shown, truth, entropy=entropy).values
    assert found["confident_error"] == 0.5
    assert measure_case(mask, probability, shown, truth).values["confident_error"] == 0.0
    assert found["mean_uncertainty"] == 7.0
    with pytest.raises(InputError):
        measure_case(mask, probability, shown, truth, entropy=entropy[:4])


def test_a_name_is_written_out_and_given_once() -> None:
    assert settings("prompt:mi").methods == ("prompt:mutual-information",)
    for methods, said in (
        (("prompt:mi", "prompt:mutual-information"), "once"),
        (("entropy:mi",), "'entropy' has no measure 'mutual-information'; it has entropy"),
        (("prompt:magic",), "'magic'"),
        (("magic:mi",), "'magic'"),
        (("prompt:",), "''"),
    ):
        with pytest.raises(InputError, match=said):
            settings(*methods)


def test_several_prompts_averaged(data: Path) -> None:
    case = open_dataset(data).load("ellipses_1")[0]
    prompts = parse_prompt("3B(0.5)").draw(case.truth, np.random.default_rng(0))
    pipeline, wanted = Pipeline(FakeEngine()), settings(*METHODS)
    found = predict_methods(pipeline, case, prompts, {m: wanted.of_method(m) for m in wanted.methods})
    for method, outcome in found.items():
        alone = predict_case(pipeline, case, prompts, wanted.of_method(method))
        np.testing.assert_array_equal(outcome.maps.uncertainty, alone.maps.uncertainty)
        assert outcome.measure == alone.measure


def test_annotators_go_on_from_a_method_with_a_measure(data: Path, tmp_path: Path) -> None:
    wanted = settings("prompt:mi", annotators=("suggested",), clicks=2)
    found = evaluate(open_dataset(data), Pipeline(FakeEngine()), wanted, tmp_path / "out", limit=2)
    [summary] = found.document["annotators"]
    assert (summary["policy"], summary["start"], len(summary["dice"])) == ("suggested", "box-0.5", 3)


def test_report_and_inspector(results: Results, tmp_path: Path) -> None:
    page = Page(write_report(results, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Prompt perturbation, standard deviation" in page.text
    table = page.table("Differences from prompt")
    assert [row[1].text for row in table.rows] == ["prompt:mutual-information", "prompt:std"]
    stored = open_evaluation(results.folder)
    for method, largest in zip(FULL, (LN2, LN2, 0.5), strict=True):
        source = stored.choose("box-0.5", method)
        scene = source.picture(source.findings[0]).scene
        assert scene is not None
        assert scene.uncertainty is not None
        assert (scene.largest, scene.uncertainty.max() <= largest) == (largest, True)
