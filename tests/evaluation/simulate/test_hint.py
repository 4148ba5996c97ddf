"""The true mask as a prompt: made for what the model sees, an upper bound, and never where a user begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.benchmark import EvaluationSettings, evaluate
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.evaluation.predicting import predict_case
from napari_uncertsam.evaluation.simulate import annotate
from napari_uncertsam.evaluation.simulate.hint import truth_logits
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.view import View
from tests.fakes import FakeEngine, scene


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A bright ellipse of which the truth is another part than the model finds."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    picture, labels = scene(96, 128, Box(20, 22, 60, 70))
    labels[:, :46] = 0
    Image.fromarray(picture[..., 0]).save(tmp_path / "images" / "half.png")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "masks" / "half.png")
    return open_dataset(tmp_path).load("half")[0]


@pytest.mark.parametrize("zoom", [True, False])
def test_the_mask_is_made_for_what_the_model_sees(case: Case, zoom: bool) -> None:
    engine, box = FakeEngine(), Box.of_mask(case.truth)
    outcome = predict_case(
        Pipeline(engine), case, [Prompts(box=box)], Settings("fake", "entropy", zoom=zoom, n_suggestions=0), hint=True
    )
    view = View.around(box, 96, 128) if zoom else View.whole(96, 128)
    assert outcome.view == view
    [[given]] = engine.decoded
    assert given.mask is not None
    cells = np.array(
        [[case.truth[tuple(map(round, view.point_to_slice(y, x, (64, 64))))] for x in range(64)] for y in range(64)]
    )
    inside, outside = given.mask.logits > 16, given.mask.logits < -16
    assert (inside | outside).mean() > 0.9  # all but the edge
    assert cells[inside].all()
    assert not cells[outside].any()


def test_it_is_an_upper_bound_and_evaluated_by_name(case: Case, tmp_path: Path) -> None:
    plain, hinted = (
        predict_case(
            Pipeline(FakeEngine()), case, [Prompts(box=Box.of_mask(case.truth))], Settings("fake", "entropy"), hint=h
        )
        for h in (False, True)
    )
    gain = metrics.iou(hinted.maps.mask, case.truth) - metrics.iou(plain.maps.mask, case.truth)
    assert gain >= 0
    settings = EvaluationSettings.of_names(
        ("entropy",), ("gt-box", "gt-mask"), model="fake", annotators=("suggested",), clicks=1
    )
    said: list[str] = []
    results = evaluate(open_dataset(tmp_path), Pipeline(FakeEngine()), settings, tmp_path / "out", say=said.append)
    by_prompt = {row["prompt"]: row for row in results.rows}
    assert by_prompt["gt-mask"]["iou"] == pytest.approx(metrics.iou(hinted.maps.mask, case.truth))
    assert by_prompt["gt-mask"]["prompts"] == by_prompt["gt-box"]["prompts"]  # the mask follows from its name
    assert {run["start"] for run in results.document["annotators"]} == {"gt-box"}
    assert any("gt-mask" in sentence for sentence in said)


def test_no_annotator_begins_with_the_answer(case: Case) -> None:
    with pytest.raises(InputError, match="shows the model the true mask"):
        annotate(Pipeline(FakeEngine()), case, Settings("fake"), policy="suggested", start="gt-mask")
    with pytest.raises(InputError, match="no prompt is one"):
        EvaluationSettings.of_names(("entropy",), ("gt-mask", "3B(0.5)"), annotators=("suggested",))


def test_cells_are_averages_of_the_view_alone() -> None:
    truth = np.zeros((8, 8), bool)
    truth[2:6, 2:6] = True
    np.testing.assert_allclose(truth_logits(truth, 2, View(2, 2, 4, 4)), 16.118, rtol=1e-4)
    np.testing.assert_allclose(truth_logits(truth, 8), np.where(truth, 16.118, -16.118), rtol=1e-4)
