"""UncertSAM's rows: against the evaluation, by hand, and where the authors' code has its own ways."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_uncertsam.checkpoints import CACHE_VARIABLE, install_part, missing_part, write_part
from napari_uncertsam.engine import Decoded, Embedding
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.benchmark import EvaluationSettings, evaluate
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.evaluation.predicting import predict_case
from napari_uncertsam.evaluation.reproduce.uncertsam import halved
from napari_uncertsam.evaluation.simulate import parse_prompt
from napari_uncertsam.evaluation.simulate.hint import truth_logits
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box, MaskPrompt, Prompts
from napari_uncertsam.refinement.dense_fusion import DenseFusion
from napari_uncertsam.refinement.fusion_head import FusionHead
from napari_uncertsam.view import View
from tests.evaluation.reproduce import layouts
from tests.evaluation.reproduce.conftest import Run
from tests.fakes import SOURCE, FakeEngine

L = math.log((1 - 1e-7) / 1e-7)


def cell(document: dict[str, Any], row: str, dataset: str, measure: str) -> dict[str, Any]:
    [found] = [r for r in document["tables"][0]["rows"] if r["name"].startswith(row)]
    [inside] = [c for c in found["cells"] if c["dataset"] == dataset]
    return {"n": inside["n"], "reason": inside["reason"], **inside["values"].get(measure, {})}


def test_the_prompt_of_the_true_mask_by_hand() -> None:
    assert pytest.approx(16.118, abs=1e-3) == L
    truth = np.zeros((4, 8), bool)
    truth[:, 4:] = True
    # Halving, antialiased: pixels count 1, 3, 3, 1 eighths; what is beyond the border does not count.
    np.testing.assert_allclose(truth_logits(truth, 4), np.array([[-L, -0.75 * L, 0.75 * L, L]] * 4), rtol=1e-5)
    np.testing.assert_allclose(truth_logits(np.ones((31, 17), bool), 8), L, rtol=1e-5)


def test_the_prompt_has_the_size_that_the_model_takes(run: Run, tmp_path: Path) -> None:
    layouts.uncertsam(tmp_path / "data", "ISTD", 1)
    engine = FakeEngine(resolution=128)
    run("uncertsam", tmp_path / "data", engine=engine)
    for plain, hinted in engine.decoded:
        assert plain.mask is None
        assert hinted.mask is not None
        assert hinted.mask.logits.shape == (32, 32)
        assert plain.box == hinted.box
        assert not plain.points + hinted.points


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_half_resolution_is_pytorchs(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, truth = rng.normal(size=(height, width)).astype(np.float32), rng.random((height, width)) > 0.5
    small, mask = halved(logits, truth)
    tensors = (torch.as_tensor(a.astype(np.float32))[None, None] for a in (logits, truth))
    bilinear, nearest = (
        F.interpolate(t, scale_factor=0.5, mode=mode, **more)[0, 0].numpy()
        for t, mode, more in zip(tensors, ("bilinear", "nearest"), ({"align_corners": False}, {}), strict=True)
    )
    np.testing.assert_allclose(small, bilinear, atol=1e-6)
    np.testing.assert_array_equal(mask, nearest > 0)


def test_sam_is_what_evaluate_measures_without_zoom(run: Run, tmp_path: Path) -> None:
    layouts.uncertsam(tmp_path / "data", "ISTD")
    document = run("uncertsam", tmp_path / "data")
    settings = EvaluationSettings.of_names(("entropy",), ("gt-box",), model="fake", zoom=False)
    results = evaluate(
        open_dataset("istd", root=tmp_path / "data"), Pipeline(FakeEngine()), settings, tmp_path / "evaluated"
    )
    [part] = results.document["summary"]
    for measure in ("iou", "biou_2", "biou_1"):
        ours = cell(document, "SAM (No", "istd", measure)
        assert ours["n"] == 6
        for key in ("mean", "low", "high"):
            assert ours[key] == pytest.approx(100 * part["measures"][measure][key], abs=1e-9)
    assert cell(document, "SAM (No", "istd", "iou")["published"] == 65.71
    assert cell(document, "SAM (No", "istd", "biou_2")["published"] == 47.71
    assert cell(document, "SAM (No", "istd", "biou_1")["published"] is None
    ours = cell(document, "SAM (No", "istd", "iou")
    assert ours["difference"] == pytest.approx(ours["mean"] - 65.71)


def test_the_ground_truth_mask_through_the_pipeline(run: Run, tmp_path: Path) -> None:
    layouts.uncertsam(tmp_path / "data", "SBU-shadow", 2)
    document = run("uncertsam", tmp_path / "data")
    pipeline, found = Pipeline(FakeEngine()), []
    dataset = open_dataset("sbu", root=tmp_path / "data")
    for case in (case for image in dataset.images() for case in dataset.load(image)):
        hint = MaskPrompt(truth_logits(case.truth, 64))
        prompts = Prompts(box=Box.of_mask(case.truth), mask=hint)
        maps = predict_case(pipeline, case, [prompts], Settings("fake", "entropy", zoom=False)).maps
        found.append(metrics.iou(maps.mask, case.truth))
    ours = cell(document, "Ground truth", "sbu", "iou")
    assert ours["mean"] == pytest.approx(100 * np.mean(found))
    assert ours["mean"] > cell(document, "SAM (No", "sbu", "iou")["mean"]


def test_big_is_measured_at_half_resolution(run: Run, tmp_path: Path) -> None:
    for folder in ("BIG", "COIFT"):
        layouts.uncertsam(tmp_path / "data", folder, 2)
    document = run("uncertsam", tmp_path / "data")
    dataset, engine, found = open_dataset("big", root=tmp_path / "data"), FakeEngine(), []
    for case in (case for image in dataset.images() for case in dataset.load(image)):
        outcome = predict_case(
            Pipeline(engine), case, [Prompts(box=Box.of_mask(case.truth))], Settings("fake", "entropy", zoom=False)
        )
        logits = outcome.view.local_map(outcome.belief.logits(), *case.truth.shape)
        corners = [logits[a::2, b::2] for a in (0, 1) for b in (0, 1)]
        found.append(metrics.boundary_iou(np.mean(corners, 0) > 0, case.truth[::2, ::2]))
    assert cell(document, "SAM (No", "big", "biou_2")["mean"] == pytest.approx(100 * np.mean(found))
    # The same pictures under another name are measured as they are.
    assert cell(document, "SAM (No", "coift", "biou_2")["mean"] != cell(document, "SAM (No", "big", "biou_2")["mean"]
    assert any("half of its resolution" in note for note in document["notes"])


class Blind(FakeEngine):
    """Says that there is no object."""

    def decode(self, embedding: Embedding, prompts: Any) -> Decoded:
        decoded = super().decode(embedding, prompts)
        return replace(decoded, object_score=torch.full_like(decoded.object_score, -1))


def test_no_object_is_an_empty_mask(run: Run, tmp_path: Path) -> None:
    layouts.uncertsam(tmp_path / "data", "ISTD", 1)
    document = run("uncertsam", tmp_path / "data", engine=Blind())
    for row in ("SAM (No", "Ground truth"):
        assert cell(document, row, "istd", "iou")["mean"] == 0
        assert cell(document, row, "istd", "no_object")["mean"] == 1
    seen = run("uncertsam", tmp_path / "data", "seen")
    assert cell(seen, "SAM (No", "istd", "no_object")["mean"] == 0


def test_dense_fusion_says_what_it_needs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    layouts.uncertsam(tmp_path / "data", "ISTD", 1)
    document = run("uncertsam", tmp_path / "data")
    rows = [row for row in document["tables"][0]["rows"] if row["name"].startswith("Dense")]
    assert len(rows) == 3
    for row in rows:
        assert row["beside"] is None
        assert all(c["n"] is None and c["values"]["iou"]["published"] > 0 for c in row["cells"])
    reasons = {row["name"]: {c["reason"] for c in row["cells"]} for row in rows}
    assert reasons == {
        "Dense Fusion w/ SAM (Ones Map)": {missing_part("fusion-sam-ones", "fake")},
        "Dense Fusion w/ LA (Ones Map)": {missing_part("laplace", "fake")},
        "Dense Fusion w/ LA": {missing_part("laplace", "fake")},
    }
    assert document["left_out"] == []


def test_dense_fusion_runs_where_it_was_fitted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    layouts.uncertsam(tmp_path / "data", "ISTD", 2)
    run("uncertsam", tmp_path / "data")
    engine, name = FakeEngine(), "fusion-sam-ones"
    head = FusionHead(SOURCE, 4, "random")
    part = write_part(tmp_path / "part.safetensors", name, engine.sha256, head.state_dict(), {})
    install_part(part, name, engine.sha256)
    with pytest.raises(InputError, match=r"fitted: None then, fusion-sam-ones \w{12} now"):
        run("uncertsam", tmp_path / "data")  # what is finished there lacks it
    document = run("uncertsam", tmp_path / "data", "fitted")
    method, found = DenseFusion(name), []
    dataset = open_dataset("istd", root=tmp_path / "data")
    for case in (case for image in dataset.images() for case in dataset.load(image)):
        [prompts] = parse_prompt("gt-box").draw(case.truth, np.random.default_rng(0))
        embedding = engine.embed(case.seen_through.apply(case.volume.slice(case.plane, case.slice_index)))
        view = View.whole(*case.truth.shape)
        belief = method.estimate(engine, embedding, view.prompts_to_view(prompts, 256), np.random.default_rng(0))
        found.append(metrics.iou(view.local_map(belief.logits(), *case.truth.shape) > 0, case.truth))
    ours = cell(document, "Dense Fusion w/ SAM", "istd", "iou")
    assert ours["n"] == len(found)
    assert ours["mean"] == pytest.approx(100 * np.mean(found))
    assert ours["published"] is not None
    assert cell(document, "Dense Fusion w/ LA (", "istd", "iou")["n"] is None


def test_the_papers_checkpoint_is_recognised(run: Run, tmp_path: Path) -> None:
    layouts.uncertsam(tmp_path / "data", "ISTD", 1)
    assert "which ours is not" in run("uncertsam", tmp_path / "data")["notes"][0]
    engine = FakeEngine()
    engine.sha256 = "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"
    assert "the very checkpoint" in run("uncertsam", tmp_path / "data", "other", engine=engine)["notes"][0]
