"""Request in, prediction out, on an engine without a model."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_uncertsam import pipeline as pipeline_module
from napari_uncertsam.errors import Cancelled, EngineError, InputError
from napari_uncertsam.estimators.base import PointBelief
from napari_uncertsam.measure import areas, cells_on_slice, maps_on_slice, suggestions_on_slice
from napari_uncertsam.pipeline import EmbeddingCache, Pipeline, Prediction, Request, Settings
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.refinement.rounds import Refinement, Round, UgpaSettings
from napari_uncertsam.uncertainty import LN2
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene

OBJECT = Box(40, 34, 87, 97)


#: A round of the uncertain box, judged by the entropy around the object.
UNCERTAIN = UgpaSettings(proposals="uncertain", verification="mean-entropy-roi")


def make(
    volume: Volume, prompts: Prompts, *, view: View | None = None, window: Window | None = None, **settings: Any
) -> Request:
    chosen = Settings(**{"method": "entropy", **settings})
    return Request("image", 0, 0, window or Window.for_volume(volume), view, 1, prompts, chosen)


def photo(height: int = 128, width: int = 128, *boxes: Box) -> tuple[Volume, np.ndarray]:
    image, labels = scene(height, width, *boxes)
    return Volume(image, rgb=True), labels


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def check(prediction: Prediction, shape: tuple[int, int]) -> None:
    """What holds for every prediction."""
    maps = prediction.maps
    for name, kind in (("mask", bool), ("probability", np.float32), ("uncertainty", np.float32)):
        full = getattr(maps, name)
        assert full.shape == shape
        assert full.dtype == kind
        assert np.isfinite(full).all()
    assert 0 <= maps.probability.min() <= maps.probability.max() <= 1
    assert 0 <= maps.uncertainty.min() <= maps.uncertainty.max() <= LN2 + 1e-6
    assert np.array_equal(maps.local_mask, maps.local_probability > 0.5)
    low, high = prediction.area_interval
    assert 0 <= low <= prediction.area_px == maps.mask.sum() <= high <= shape[0] * shape[1]
    assert 0 <= prediction.mean_uncertainty <= LN2
    pixels = set()
    for suggestion in prediction.suggestions:
        assert Point(suggestion.y, suggestion.x).is_in(*shape)
        assert suggestion.box is None or suggestion.box == suggestion.box.clip(*shape)
        assert 0 <= suggestion.score <= LN2 + 1e-6
        pixels.add((suggestion.kind, round(suggestion.y), round(suggestion.x)))
    assert len(pixels) == len(prediction.suggestions)
    assert set(prediction.seconds) == {"embed", "decode", "measure", "total"}
    stages = sum(prediction.seconds[name] for name in ("embed", "decode", "measure"))
    assert stages <= prediction.seconds["total"] + 1e-6


@pytest.mark.parametrize("method", ["entropy", "prompt", "tta", "tta-train", "tta-geometric"])
def test_a_box_gives_mask_maps_and_suggestions(method: str) -> None:
    volume, labels = photo()
    engine = FakeEngine()
    prediction = Pipeline(engine).predict(volume, make(volume, Prompts(box=OBJECT), method=method))
    check(prediction, (128, 128))
    assert dice(prediction.maps.mask, labels == 1) > 0.95
    assert prediction.view == View.around(OBJECT, 128, 128)
    assert prediction.predicted_iou == prediction.belief.predicted_iou
    assert len(prediction.suggestions) > 0
    assert prediction.record["model"] == "fake"
    assert prediction.record["checkpoint_sha256"] == "f" * 64
    assert prediction.record["device"] == "CPU (fake)"
    assert prediction.record["method"] == method
    assert set(prediction.record["versions"]) == {"napari-uncertsam", "torch", "sam2", "numpy", "python"}
    assert prediction.nbytes > prediction.maps.local_uncertainty.nbytes


SMALL = {
    "1x1": np.full((1, 1), 200, np.uint8),
    "2x3": np.arange(6, dtype=np.uint8).reshape(2, 3) * 40,
    "wide": np.repeat(scene(40, 300, Box(10, 100, 30, 180))[0][..., :1], 1, 2)[..., 0],
    "tall": scene(300, 40, Box(100, 10, 180, 30))[0][..., 0],
    "constant": np.full((50, 60), 7, np.uint8),
    "some NaN": np.where(scene(64, 64, Box(20, 20, 40, 40))[0][..., 0] > 100, np.nan, 1.0).astype(np.float32),
    "infinite": np.where(np.eye(32) > 0, np.inf, -np.inf),
    "boolean": np.eye(20) > 0,
    "HU below -1024": np.where(np.add.outer(np.arange(50), np.arange(60)) > 60, 60, -3024).astype(np.int16),
    "uint16": (scene(64, 80, Box(20, 20, 40, 60))[0][..., 0].astype(np.uint16) * 200),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("zoom", [True, False])
def test_any_image_gives_maps_of_its_shape(name: str, zoom: bool) -> None:
    array = SMALL[name]
    height, width = array.shape
    volume = Volume(array, modality="CT" if array.dtype == np.int16 else "grey")
    pipeline = Pipeline(FakeEngine(64))
    centre = Point((height - 1) / 2, (width - 1) / 2)
    box = Box(height // 4, width // 4, height - 1 - height // 4, width - 1 - width // 4)
    corner = (Point(0, 0, False),) if array.size > 1 else ()
    for prompts in (Prompts(box=box), Prompts((centre,)), Prompts((centre, *corner), box)):
        check(pipeline.predict(volume, make(volume, prompts, zoom=zoom)), (height, width))


def test_colour_with_alpha() -> None:
    image, labels = scene()
    volume = Volume(np.dstack([image, np.full(image.shape[:2], 3, np.uint8)]), rgb=True)
    prediction = Pipeline(FakeEngine()).predict(volume, make(volume, Prompts(box=OBJECT)))
    assert dice(prediction.maps.mask, labels == 1) > 0.95


def test_every_plane_of_a_volume() -> None:
    stack = np.repeat(scene(48, 60, Box(10, 12, 35, 40))[0][None, ..., 0], 20, 0)
    volume = Volume(stack)
    pipeline = Pipeline(FakeEngine())
    for plane, shape, box in (
        (0, (48, 60), Box(10, 12, 35, 40)),
        (1, (20, 60), Box(0, 14, 19, 38)),
        (2, (20, 48), Box(0, 12, 19, 33)),
    ):
        request = replace(make(volume, Prompts(box=box)), plane=plane, slice_index=20 if plane else 10)
        if plane == 2:
            request = replace(request, slice_index=26)
        prediction = pipeline.predict(volume, request)
        check(prediction, shape)
        assert dice(prediction.maps.mask, volume.slice(plane, request.slice_index) > 128) > 0.9


def test_the_same_pixels_are_embedded_once() -> None:
    volume, _ = photo()
    engine = FakeEngine()
    pipeline = Pipeline(engine)
    pipeline.predict(volume, make(volume, Prompts(box=OBJECT)))
    assert (engine.embed_calls, len(pipeline.cache)) == (1, 1)
    # Another object, other points, a nudged box, the same content as another volume or slice: nothing new to see.
    nudged = Box(41, 34, 87, 97)
    again = make(volume, Prompts((Point(60, 60),), nudged))
    twin = Volume(np.stack([volume.array, volume.array]), rgb=True)
    pipeline.predict(volume, again)
    pipeline.predict(twin, replace(again, image_id="twin", object_id=2, slice_index=1))
    assert engine.embed_calls == 1
    # Other intensities, another view, other pixels: embedded again.
    pipeline.predict(volume, replace(again, window=Window(0, 100)))
    pipeline.predict(volume, replace(again, view=View(0, 0, 100, 100)))
    changed = np.array(volume.array)
    changed[60, 60] += 1
    pipeline.predict(Volume(changed, rgb=True), again)
    assert engine.embed_calls == 4


def test_the_cache_drops_what_was_used_longest_ago() -> None:
    engine = FakeEngine(64)
    image = scene(32, 32)[0]
    embeddings = [engine.embed(image) for _ in range(3)]
    cache = EmbeddingCache(limit_bytes=2 * embeddings[0].nbytes)
    cache.put("a", embeddings[0])
    cache.put("b", embeddings[1])
    assert cache.get("a") is embeddings[0]
    cache.put("c", embeddings[2])
    assert (cache.get("b"), len(cache)) == (None, 2)
    tiny = EmbeddingCache(limit_bytes=1)
    tiny.put("a", embeddings[0])
    tiny.put("b", embeddings[1])
    assert tiny.get("b") is embeddings[1]
    assert len(tiny) == 1


def test_the_cache_counts_what_has_grown() -> None:
    engine = FakeEngine(64)
    image = scene(32, 32)[0]
    first, second, third = (engine.embed(image) for _ in range(3))
    cache = EmbeddingCache(limit_bytes=4 * first.nbytes)
    for key, embedding in (("a", first), ("b", second), ("c", third)):
        cache.put(key, embedding)
    third.derived["copy"] = engine.embed(image)
    cache.trim()
    assert len(cache) == 3
    third.derived["another"] = engine.embed(image)
    cache.trim()
    assert (cache.get("a"), len(cache)) == (None, 2)
    second.derived.update({n: engine.embed(image) for n in range(9)})
    cache.get("b")
    cache.trim()
    assert (cache.get("c"), len(cache)) == (None, 1)
    assert cache.get("b") is second  # alone over the limit, but in use


def test_copies_are_forgotten_with_their_image() -> None:
    """With its copies an image takes nearly three times the memory; two such images do not fit."""
    engine = FakeEngine()
    one = engine.embed(scene()[0])
    pipeline = Pipeline(engine, cache_bytes=5 * one.nbytes)
    volumes = [Volume(scene(seed=seed)[0], rgb=True) for seed in range(3)]
    for volume in volumes:
        pipeline.predict(volume, make(volume, Prompts(box=OBJECT), zoom=False))
    assert (len(pipeline.cache), engine.embed_calls) == (3, 4)
    for volume in volumes[:2]:
        pipeline.predict(volume, make(volume, Prompts(box=OBJECT), zoom=False, method="tta-geometric"))
    assert (len(pipeline.cache), engine.embed_calls) == (1, 4 + 2 * 7)
    pipeline.predict(volumes[1], make(volumes[1], Prompts(box=OBJECT), zoom=False, method="tta-geometric"))
    assert engine.embed_calls == 4 + 2 * 7


@pytest.mark.parametrize("done", [0, 1, 4])
def test_looking_at_copies_is_told_and_can_be_stopped(done: int) -> None:
    volume, _ = photo()
    engine = FakeEngine(delay=0.002)
    pipeline = Pipeline(engine)
    request = make(volume, Prompts(box=OBJECT), method="tta-geometric")
    told: list[tuple[str, float]] = []
    with pytest.raises(Cancelled):
        pipeline.predict(
            volume,
            request,
            cancelled=lambda: engine.embed_calls > done,
            progress=lambda stage, share: told.append((stage, share)),
        )
    assert engine.embed_calls == done + 1
    assert [stage for stage, _ in told[1:]] == [f"looking at changed copy {n + 1} of 7" for n in range(done)]
    # What was seen is kept for the next time.
    prediction = pipeline.predict(volume, request, progress=lambda stage, share: told.append((stage, share)))
    check(prediction, (128, 128))
    assert engine.embed_calls == 8
    assert [s for s in told if s[0] == "measuring"] == [("measuring", 0.9)]
    assert prediction.seconds["embed"] >= 0.002 * (7 - done)
    assert prediction.seconds["decode"] >= 0.002 * 8
    again = pipeline.predict(volume, request)
    assert engine.embed_calls == 8
    assert again.seconds["embed"] < 0.002 * 7
    assert np.array_equal(again.maps.probability, prediction.maps.probability)


def test_progress_never_falls_when_copies_are_seen_in_a_larger_view() -> None:
    volume, _ = photo(400, 400, Box(60, 60, 339, 339))
    told: list[tuple[str, float]] = []
    pipeline = Pipeline(FakeEngine(doubt=2.0))
    request = make(volume, Prompts(box=Box(150, 150, 250, 250)), method="tta-geometric")
    pipeline.predict(volume, request, progress=lambda stage, share: told.append((stage, share)))
    assert sum(stage == "zooming out" for stage, _ in told) == 2
    assert sum(stage == "looking at changed copy 7 of 7" for stage, _ in told) == 3
    assert [share for _, share in told] == sorted(share for _, share in told)


def test_refinement_looks_at_copies_once() -> None:
    volume, _ = photo()
    engine = FakeEngine()
    pipeline = Pipeline(engine)
    cut = make(volume, Prompts(box=Box(40, 34, 87, 80)), method="tta-geometric", zoom=False)
    prediction = pipeline.predict(volume, cut)
    assert engine.embed_calls == 8
    refined = pipeline.refine(volume, prediction)
    assert engine.embed_calls == 8
    check(refined.prediction, (128, 128))


@pytest.mark.parametrize("method", ["entropy", "prompt"])
def test_equal_requests_have_equal_predictions(method: str) -> None:
    volume, _ = photo()
    request = make(volume, Prompts((Point(35, 35, False),), Box(40, 34, 87, 80)), method=method, seed=3)
    a, b = (Pipeline(FakeEngine()).predict(volume, request) for _ in range(2))
    assert np.array_equal(a.maps.probability, b.maps.probability)
    assert np.array_equal(a.maps.uncertainty, b.maps.uncertainty)
    assert (a.suggestions, a.area_interval, a.mean_uncertainty) == (b.suggestions, b.area_interval, b.mean_uncertainty)
    other = Pipeline(FakeEngine()).predict(volume, replace(request, settings=replace(request.settings, seed=4)))
    assert np.array_equal(a.maps.probability, other.maps.probability) == (method == "entropy")


@pytest.mark.parametrize("prompts", [Prompts(box=OBJECT), Prompts((Point(60, 60),))])
def test_another_measure_of_the_same_belief_asks_no_model(prompts: Prompts) -> None:
    volume, _ = photo()
    engine = FakeEngine()
    pipeline = Pipeline(engine)
    request = make(volume, prompts, method="prompt")
    first = pipeline.predict(volume, request)
    calls = engine.embed_calls, engine.decode_calls
    shown = pipeline.remeasure(volume, first, "std")
    assert (engine.embed_calls, engine.decode_calls) == calls
    again = pipeline.predict(volume, replace(request, settings=replace(request.settings, measure="std")))
    assert shown.request == again.request
    assert (shown.record, shown.suggestions) == (again.record, again.suggestions)
    assert (shown.mean_uncertainty, shown.area_px, shown.area_interval) == (
        again.mean_uncertainty,
        again.area_px,
        again.area_interval,
    )
    assert np.array_equal(shown.maps.uncertainty, again.maps.uncertainty)
    assert not np.array_equal(shown.maps.uncertainty, first.maps.uncertainty)
    assert shown.seconds == first.seconds


def test_clicks_zoom_in_two_steps() -> None:
    small = Box(100, 300, 130, 340)
    volume, labels = photo(512, 512, small, Box(300, 20, 450, 200))
    engine = FakeEngine()
    prediction = Pipeline(engine).predict(volume, make(volume, Prompts((Point(115, 320),))))
    check(prediction, (512, 512))
    assert 4 <= engine.embed_calls <= 6  # three zooms to look from, and a view about each different box they propose
    assert prediction.view.height <= 2.5 * small.width
    assert dice(prediction.maps.mask, labels == 1) > 0.95
    assert not prediction.maps.mask[labels == 2].any()
    large = FakeEngine(1024)
    Pipeline(large).predict(volume, make(volume, Prompts((Point(115, 320),))))
    assert large.embed_calls == 2  # a large model looks at the whole slice first, and once


def test_all_clicks_are_in_the_view() -> None:
    volume, _ = photo(512, 512, Box(100, 300, 130, 340))
    prompts = Prompts((Point(115, 320), Point(400, 20, False)))
    view = Pipeline(FakeEngine()).predict(volume, make(volume, prompts)).view
    assert view.top <= 115
    assert view.left <= 20
    assert view.top + view.height > 400


def test_clicks_on_nothing_still_give_an_answer() -> None:
    volume = Volume(np.zeros((200, 300), np.uint8))
    prediction = Pipeline(FakeEngine()).predict(volume, make(volume, Prompts((Point(150, 250), Point(0, 0, False)))))
    check(prediction, (200, 300))


def test_the_view_grows_when_the_object_runs_out_of_it() -> None:
    whole = Box(60, 60, 339, 339)
    volume, labels = photo(400, 400, whole)
    engine = FakeEngine(doubt=2.0)  # a model that follows the object out of the box
    box = Box(150, 150, 250, 250)
    prediction = Pipeline(engine).predict(volume, make(volume, Prompts(box=box)))
    start = View.around(box, 400, 400)
    assert prediction.view == start.grown(400, 400).grown(400, 400)
    assert engine.embed_calls == 3
    assert prediction.maps.mask.sum() > 1.5 * start.height**2
    assert prediction.maps.mask[labels == 0].sum() < 100
    # Not where the image ends there, too, nor in a view that was asked for.
    full, _ = photo(100, 100, Box(-200, -200, 300, 300))
    engine = FakeEngine(doubt=2.0)
    Pipeline(engine).predict(full, make(full, Prompts(box=Box(0, 0, 99, 99))))
    pinned = make(volume, Prompts(box=box), view=start)
    assert Pipeline(engine).predict(volume, pinned).view == start
    assert engine.embed_calls == 2


def test_without_zoom_the_whole_slice_is_seen() -> None:
    volume, labels = photo(100, 160, Box(30, 40, 70, 110))
    prediction = Pipeline(FakeEngine()).predict(volume, make(volume, Prompts(box=Box(30, 40, 70, 110)), zoom=False))
    assert prediction.view == View.whole(100, 160)
    assert dice(prediction.maps.mask, labels == 1) > 0.95


def test_views_over_the_border_do_not_count_what_is_not_there() -> None:
    view, shape = View(-32, 0, 64, 64), (32, 64)
    belief = PointBelief(np.full((64, 64), 0.5))
    inside = cells_on_slice((64, 64), view, shape)
    assert inside.sum() == 32 * 64
    assert not inside[:32].any()
    maps = maps_on_slice(belief, view, shape)
    assert maps.local_mask.shape == shape
    assert areas(belief, view, maps) == (2048, (0, 2048))
    # Uncertain everywhere, most of all beyond the border: still, only places on the image are asked about.
    logits = np.full((64, 64), 0.5)
    logits[:32] = 0
    found = suggestions_on_slice(PointBelief(logits), view, Prompts(box=Box(5, 5, 20, 20)), Settings(), shape)
    assert len(found) == 6
    assert all(Point(s.y, s.x).is_in(*shape) for s in found)
    nowhere = PointBelief(np.where(np.arange(64)[:, None] < 20, 0.0, -9.0) * np.ones(64))
    assert suggestions_on_slice(nowhere, view, Prompts((Point(3, 3),)), Settings(), shape) == ()


def test_suggestions_keep_away_from_what_was_answered() -> None:
    volume, _ = photo()
    pipeline = Pipeline(FakeEngine())
    first = pipeline.predict(volume, make(volume, Prompts(box=OBJECT), n_suggestions=3))
    points = [s for s in first.suggestions if s.kind == "point"]
    assert len(points) == 3
    answered = Prompts((points[0].answer(False),), OBJECT)
    second = pipeline.predict(volume, make(volume, answered, n_suggestions=3))
    assert all(np.hypot(s.y - points[0].y, s.x - points[0].x) > 1 for s in second.suggestions if s.kind == "point")
    assert pipeline.predict(volume, make(volume, Prompts(box=OBJECT), n_suggestions=0)).suggestions == ()


@pytest.mark.parametrize("after", range(6))
def test_cancelling_stops_between_stages(after: int) -> None:
    volume, _ = photo()
    calls = iter(range(100))
    pipeline = Pipeline(FakeEngine())
    request = make(volume, Prompts((Point(60, 60),)))
    with pytest.raises(Cancelled):
        pipeline.predict(volume, request, cancelled=lambda: next(calls) >= after)
    told: list[tuple[str, float]] = []
    check(pipeline.predict(volume, request, progress=lambda stage, share: told.append((stage, share))), (128, 128))
    assert told[0][0] == "looking at the image"
    assert [share for _, share in told] == sorted(share for _, share in told)


@pytest.mark.parametrize(
    ("prompts", "view", "message"),
    [
        (Prompts(), None, "nothing to segment"),
        (Prompts((Point(1, 1, False),)), None, "nothing to segment"),
        (Prompts((Point(500, 1),)), None, "outside the 128 x 128 image"),
        (Prompts(box=Box(200, 200, 300, 300)), None, "outside the 128 x 128 image"),
        (Prompts(mask=MaskPrompt(np.ones((64, 64)))), None, "needs the view"),
        (Prompts(box=OBJECT), View(128, 0, 50, 50), "shows nothing"),
    ],
)
def test_bad_requests_are_sentences(prompts: Prompts, view: View | None, message: str) -> None:
    volume, _ = photo()
    with pytest.raises(InputError, match=message):
        Pipeline(FakeEngine()).predict(volume, make(volume, prompts, view=view))


def test_a_mask_prompt_with_its_view() -> None:
    volume, _ = photo()
    logits = np.full((64, 64), -5.0)
    logits[16:48, 16:48] = 5
    prompts = Prompts(mask=MaskPrompt(logits))
    prediction = Pipeline(FakeEngine()).predict(volume, make(volume, prompts, view=View.whole(128, 128)))
    assert prediction.area_px == 64 * 64
    check(prediction, (128, 128))


@pytest.mark.parametrize("stage", ["embed", "decode"])
def test_running_out_of_memory_leaves_the_pipeline_usable(stage: Any) -> None:
    volume, _ = photo()
    engine = FakeEngine()
    pipeline, request = Pipeline(engine), make(volume, Prompts(box=OBJECT))
    engine.fail = stage
    with pytest.raises(EngineError, match="memory"):
        pipeline.predict(volume, request)
    engine.fail = None
    check(pipeline.predict(volume, request), (128, 128))


def test_maps_that_do_not_fit_into_memory_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, _ = photo()

    def full(*_args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(pipeline_module, "maps_on_slice", full)
    with pytest.raises(EngineError, match="not enough memory"):
        Pipeline(FakeEngine()).predict(volume, make(volume, Prompts(box=OBJECT)))


@pytest.mark.parametrize("changes", [{"seed": -1}, {"n_suggestions": -3}, {"rounds": -1}])
def test_settings_are_checked(changes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        Settings(**changes)  # type: ignore[arg-type]


# --- refinement ---------------------------------------------------------------------------------------------------


def test_a_box_that_cuts_the_object_off_is_refined() -> None:
    volume, labels = photo(256, 256, Box(80, 70, 170, 190))
    pipeline = Pipeline(FakeEngine(doubt=-0.4))
    cut = Box(80, 70, 170, 165)
    before = pipeline.predict(volume, make(volume, Prompts((Point(70.25, 60.125, False),), cut), ugpa=UNCERTAIN))
    refined = pipeline.refine(volume, before)
    assert refined.accepted
    assert refined.before is before
    after = refined.prediction
    check(after, (256, 256))
    assert after.mean_uncertainty < before.mean_uncertainty
    assert dice(after.maps.mask, labels == 1) > dice(before.maps.mask, labels == 1)
    prompts = after.request.prompts
    assert prompts.points == before.request.prompts.points  # to the last digit
    assert prompts.box is not None
    assert prompts.box.x1 > cut.x1 + 5
    assert after.request == replace(before.request, prompts=prompts, view=before.view)
    assert after.view == before.view
    # The request that comes with it leads there again.
    again = pipeline.predict(volume, after.request)
    assert np.array_equal(again.maps.mask, after.maps.mask)


def test_a_certain_mask_is_kept() -> None:
    volume, _ = photo()
    pipeline = Pipeline(FakeEngine())
    image = np.where(scene()[1] > 0, 255, 0).astype(np.uint8)
    volume = Volume(image)
    before = pipeline.predict(volume, make(volume, Prompts(box=OBJECT)))
    refined = pipeline.refine(volume, before)
    assert not refined.accepted
    assert refined.prediction is before
    assert len(refined.rounds) == 1
    assert refined.rounds[0].reason


def test_without_zoom_a_refinement_pins_no_view() -> None:
    volume, _ = photo(256, 256, Box(80, 70, 170, 190))
    pipeline = Pipeline(FakeEngine(doubt=-0.4))
    before = pipeline.predict(volume, make(volume, Prompts(box=Box(80, 70, 170, 165)), zoom=False, ugpa=UNCERTAIN))
    refined = pipeline.refine(volume, before)
    assert refined.accepted
    assert refined.prediction.request.view is None


def test_what_a_refinement_adds_outside_the_image_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, _ = photo(40, 200, Box(5, 60, 34, 140))
    pipeline = Pipeline(FakeEngine())
    before = pipeline.predict(volume, make(volume, Prompts((Point(20, 100),), Box(5, 60, 34, 140))))
    assert before.view.top < -20

    def beyond(engine: Any, embedding: Any, prompts: Prompts, belief: Any, *_args: Any, **_more: Any) -> Refinement:
        tried = replace(prompts, points=(*prompts.points, Point(5, 5), Point(60, 60, False)), box=Box(0, 0, 120, 120))
        return Refinement(tried, belief, (Round(0.2, 0.1, True, "", tried.box, (), tried, belief),))

    monkeypatch.setattr(pipeline_module, "refine_rounds", beyond)
    after = pipeline.refine(volume, before).prediction
    check(after, (40, 200))
    prompts = after.request.prompts
    assert prompts.points[0] == Point(20, 100)
    assert len(prompts.points) == 2
    assert prompts == prompts.clipped(40, 200)


def test_refinement_can_be_cancelled() -> None:
    volume, _ = photo()
    pipeline = Pipeline(FakeEngine())
    before = pipeline.predict(volume, make(volume, Prompts(box=OBJECT)))
    with pytest.raises(Cancelled):
        pipeline.refine(volume, before, cancelled=lambda: True)


# --- huge images --------------------------------------------------------------------------------------------------


def test_a_small_object_in_a_huge_image_costs_what_a_small_image_does() -> None:
    array = np.zeros((20_000, 20_000), np.uint8)
    array[10_000:10_100, 10_000:10_100] = 255
    volume, pipeline = Volume(array), Pipeline(FakeEngine())
    request = make(volume, Prompts(box=Box(10_000, 10_000, 10_099, 10_099)), window=Window(0, 255))
    tracemalloc.start()
    try:
        prediction = pipeline.predict(volume, request)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6
    assert abs(prediction.area_px - 10_000) < 500
    assert prediction.maps.shape == (20_000, 20_000)


def test_huge_views_are_thinned_out_without_moving_anything() -> None:
    array = np.zeros((4600, 4200), np.uint8)
    array[1500:3500, 1000:3000] = 255
    volume, engine = Volume(array), FakeEngine()
    box = Box(1500, 1000, 3499, 2999)
    prediction = Pipeline(engine).predict(volume, make(volume, Prompts(box=box), window=Window(0, 255), zoom=False))
    found = Box.of_mask(prediction.maps.mask)
    cell = 4600 / 64
    corners = np.array([[found.y0, found.x0, found.y1, found.x1], [box.y0, box.x0, box.y1, box.x1]])
    assert np.abs(np.diff(corners, axis=0)).max() < cell / 4


def test_nothing_but_nan_is_a_sentence() -> None:
    volume = Volume(np.full((40, 50), np.nan, np.float32))
    with pytest.raises(InputError, match="nothing to see"):
        Pipeline(FakeEngine()).predict(volume, make(volume, Prompts(box=Box(5, 5, 20, 20))))
