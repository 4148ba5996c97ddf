"""Propagation asked for and given, on an engine without a model; once with the bundled one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_uncertsam import propagating
from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.estimators.marginal import MarginalBelief
from napari_uncertsam.io import read, read_labels, sample_path
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prompts import Box
from napari_uncertsam.propagating import Span, figures_of, propagate
from napari_uncertsam.propagation import Anchor, Propagated
from napari_uncertsam.propagation.grids import area_px
from napari_uncertsam.propagation.walking import Step, merged
from napari_uncertsam.session import Session
from napari_uncertsam.uncertainty import LN2, binary_entropy
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume
from tests.fakes import FakeEngine, install_posterior
from tests.propagated_scenes import (
    WINDOW,
    asked,
    bright,
    dice,
    ellipsoid,
    extent,
    filled,
    outwards,
    pipeline,
    predicted_anchor,
    stacked,
)

SHAPE = (20, 96, 96)
ROUND = ellipsoid(SHAPE, (9.5, 46, 50), (7.2, 18, 22))


@pytest.fixture
def work() -> Pipeline:
    return pipeline()


@pytest.fixture(scope="module")
def volume() -> Volume:
    return bright(ROUND)


# --- one anchor --------------------------------------------------------------------------------------------------


def test_an_ellipsoid_from_one_slice(work: Pipeline, volume: Volume) -> None:
    anchor = predicted_anchor(work, volume, ROUND, 9)
    found = filled(work, volume, asked([anchor], outwards(anchor, 20)))
    mask = stacked(found.values(), [anchor], SHAPE)
    assert dice(mask, ROUND) > 0.9
    for ours, theirs in zip(extent(mask), extent(ROUND), strict=True):
        assert abs(ours - theirs) <= 1
    for index, result in found.items():
        assert (result.plane, result.shape, result.anchors) == (0, SHAPE[1:], (9,))
        assert (result.mean.dtype, result.variance.dtype) == (np.float16, np.float16)
        assert result.area_px == mask[index].sum() > 0
        assert result.variance.min() >= 0
        assert result.area_sd_px >= 0
        assert 0 <= result.uncertain_px <= SHAPE[1] * SHAPE[2]
        assert 0 <= result.mean_uncertainty <= LN2
        assert 0 < result.expected_dice <= 1
        assert result.record["propagation"] == "carried"
        assert result.record["method"] == "entropy"
    # It is told in the order of the walk, away from the anchor.
    order = [r.slice_index for r in propagate(work, volume, asked([anchor], outwards(anchor, 20)))]
    below, above = [i for i in order if i < 9], [i for i in order if i > 9]
    assert order == below + above
    assert below == list(range(8, 8 - len(below), -1))
    assert above == list(range(10, 10 + len(above)))


def test_uncertainty_grows_with_the_distance(work: Pipeline, volume: Volume) -> None:
    anchor = predicted_anchor(work, volume, ROUND, 6)
    found = filled(work, volume, asked([anchor], [Span(7, 13, 6, None)]))
    variance = [float(found[i].variance.astype(float).mean()) for i in range(7, 13)]
    assert variance == sorted(variance)
    assert variance[0] > 0


def test_the_methods_variance_goes_on(volume: Volume) -> None:
    engine = FakeEngine()
    install_posterior(engine, precision=1.0)
    work = Pipeline(engine)
    plain, laplace = (
        filled(work, volume, asked([predicted_anchor(work, volume, ROUND, 9, method=m)], [Span(10, 13, 9)], method=m))
        for m in ("entropy", "laplace")
    )
    for index in (10, 11, 12):
        assert laplace[index].variance.astype(float).mean() > plain[index].variance.astype(float).mean()
    assert laplace[10].record["method"] == "laplace"


def test_an_object_that_is_cut_off_by_the_volume(work: Pipeline) -> None:
    mask = ellipsoid(SHAPE, (2.5, 4, 90), (9.2, 20, 18))
    volume = bright(mask)
    anchor = predicted_anchor(work, volume, mask, 5)
    found = filled(work, volume, asked([anchor], outwards(anchor, 20)))
    assert {0, 1, 2, 3, 4} <= set(found)
    assert dice(stacked(found.values(), [anchor], SHAPE), mask) > 0.9


def test_a_given_mask_is_an_anchor(work: Pipeline, volume: Volume) -> None:
    logits = np.where(ROUND[9], 10, -10).astype(np.float32)
    anchor = Anchor(9, View.whole(96, 96), logits, confirmed=True)
    found = filled(work, volume, asked([anchor], outwards(anchor, 20)))
    assert dice(stacked(found.values(), [anchor], SHAPE), ROUND) > 0.9


def test_pixels_and_slices_may_be_far_from_cubes(work: Pipeline) -> None:
    shape = (24, 96, 60)
    mask = ellipsoid(shape, (12, 48, 30), (8, 24, 18))
    volume = bright(mask, (3.0, 1.0, 1.2))
    anchor = predicted_anchor(work, volume, mask, 28, plane=2)
    found = filled(work, volume, asked([anchor], outwards(anchor, 60), plane=2))
    result = stacked(found.values(), [anchor], shape, 2)
    assert dice(result, mask) > 0.9
    for ours, theirs in zip(extent(result, 2), extent(mask, 2), strict=True):
        assert abs(ours - theirs) <= 2
    assert all(r.shape == (24, 96) and r.plane == 2 for r in found.values())


def test_the_view_follows_an_object_that_moves(work: Pipeline) -> None:
    z, y, x = np.ogrid[:20, :96, :96]
    mask = (y - 20 - 2.5 * z) ** 2 + (x - 76 + 2.5 * z) ** 2 <= 9**2
    volume = bright(mask, (5.0, 1.0, 1.0))
    anchor = predicted_anchor(work, volume, mask, 2)
    found = filled(work, volume, asked([anchor], outwards(anchor, 20)))
    assert set(found) == set(range(20)) - {2}
    assert dice(stacked(found.values(), [anchor], SHAPE), mask) > 0.9
    assert len({r.view for r in found.values()}) > 2
    for index, result in found.items():
        box = Box.of_mask(mask[index])
        assert result.view.top <= box.y0 <= box.y1 < result.view.top + result.view.height
        assert result.view.left <= box.x0 <= box.x1 < result.view.left + result.view.width


def test_whole_slices_where_the_zoom_is_off(work: Pipeline, volume: Volume) -> None:
    anchor = predicted_anchor(work, volume, ROUND, 9, zoom=False)
    found = filled(work, volume, asked([anchor], outwards(anchor, 20), zoom=False))
    assert {r.view for r in found.values()} == {View.whole(96, 96)}
    assert dice(stacked(found.values(), [anchor], SHAPE), ROUND) > 0.9


# --- two anchors, and several spans ------------------------------------------------------------------------------


def test_between_two_anchors_both_are_heard(work: Pipeline, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = [predicted_anchor(work, volume, ROUND, i) for i in (5, 13)]
    heard: dict[int, tuple[Step, Step, float]] = {}

    def listening(near: Step, far: Step, share: float) -> Step:
        heard[near.slice_index] = near, far, share
        return merged(near, far, share)

    monkeypatch.setattr(propagating, "merged", listening)
    between = filled(work, volume, asked(anchors, [Span(6, 13, 5, 13)]))
    assert list(between) == list(heard) == list(range(12, 5, -1))
    assert between[7].anchors == (5, 13)
    assert between[11].anchors == (13, 5)
    root = [np.sqrt(area_px(a.logits > 0, a.view)) for a in anchors]
    for index, result in between.items():
        from_above, from_below, share = heard[index]
        weights = root[0] / (index - 5), root[1] / (13 - index)
        assert share == pytest.approx(weights[0] / sum(weights))
        expected = merged(from_above, from_below, share)
        np.testing.assert_allclose(result.mean.astype(np.float32), expected.mean, atol=0.02)
    assert dice(stacked(between.values(), anchors, SHAPE)[5:14], ROUND[5:14]) > 0.9


def same(first: Propagated, second: Propagated) -> bool:
    """Whether two results are equal bit for bit."""
    return (
        first.view == second.view
        and first.anchors == second.anchors
        and np.array_equal(first.mean, second.mean)
        and np.array_equal(first.variance, second.variance)
        and (first.area_px, first.area_sd_px, first.uncertain_px, first.mean_uncertainty, first.expected_dice)
        == (second.area_px, second.area_sd_px, second.uncertain_px, second.mean_uncertainty, second.expected_dice)
    )


def test_spans_do_not_depend_on_each_other(work: Pipeline, volume: Volume) -> None:
    anchors = [predicted_anchor(work, volume, ROUND, i) for i in (5, 9, 13)]
    spans = (Span(0, 5, None, 5), Span(6, 9, 5, 9), Span(10, 13, 9, 13), Span(14, 20, 13, None))
    together = filled(work, volume, asked(anchors, spans))
    alone: dict[int, Propagated] = {}
    for span in reversed(spans):
        wanted = [a for a in anchors if a.slice_index in (span.before, span.after)]
        alone |= filled(pipeline(), volume, asked(wanted, [span]))
    assert set(together) == set(alone)
    assert all(same(together[i], alone[i]) for i in together)


def test_a_correction_touches_the_spans_beside_it_only(work: Pipeline, volume: Volume) -> None:
    session = Session(volume)
    session.set_window(WINDOW)
    session.set_settings(method="entropy")
    for index in (4, 9, 14):
        session.go_to(0, index)
        session.set_box(Box.of_mask(ROUND[index]))
        assert session.deliver(work.predict(volume, session.request))
    request = session.propagation_request()
    assert session.deliver_propagated(request, list(propagate(work, volume, request)))
    assert session.finish_propagation(request)
    before = {
        key.slice_index: entry.propagated for key, entry in session.entries.items() if entry.propagated is not None
    }
    session.go_to(0, 9)
    box = Box.of_mask(ROUND[9])
    session.set_box(Box(box.y0 + 6, box.x0, box.y1, box.x1))
    assert session.deliver(work.predict(volume, session.request))
    request = session.propagation_request()
    assert request.spans == (Span(5, 9, 4, 9), Span(10, 14, 9, 14))
    results = list(propagate(work, volume, request))
    assert {r.slice_index for r in results} == {5, 6, 7, 8, 10, 11, 12, 13}
    assert session.deliver_propagated(request, results)
    assert session.finish_propagation(request)
    after = {
        key.slice_index: entry.propagated for key, entry in session.entries.items() if entry.propagated is not None
    }
    assert set(after) == set(before)
    assert {i for i in after if after[i] is not before[i]} == {r.slice_index for r in results}
    with pytest.raises(InputError, match="up to date"):
        session.propagation_request()


# --- told on the way ---------------------------------------------------------------------------------------------


def test_progress_never_falls(work: Pipeline, volume: Volume) -> None:
    anchors = [predicted_anchor(work, volume, ROUND, i) for i in (5, 13)]
    spans = (Span(0, 5, None, 5), Span(6, 13, 5, 13), Span(14, 20, 13, None))
    told: list[tuple[str, float]] = []
    results = list(
        propagate(work, volume, asked(anchors, spans), progress=lambda text, part: told.append((text, part)))
    )
    parts = [part for _, part in told]
    assert len(told) == len(results)
    assert parts == sorted(parts)
    assert 0 < parts[0] <= parts[-1] <= 1
    assert told[-1][0] == f"slice {results[-1].slice_index}, {len(results)} done"


@pytest.mark.parametrize("after", [0, 1, 4])
def test_cancelling_stops_before_the_next_slice(work: Pipeline, volume: Volume, after: int) -> None:
    anchor = predicted_anchor(work, volume, ROUND, 9)
    engine = work.engine
    assert isinstance(engine, FakeEngine)
    came: list[Propagated] = []
    calls = (engine.decode_calls, engine.embed_calls)
    request = asked([anchor], [Span(10, 20, 9, None)])
    results = propagate(work, volume, request, cancelled=lambda: len(came) == after)
    for _ in range(after):
        came.append(next(results))
        calls = (engine.decode_calls, engine.embed_calls)
    with pytest.raises(Cancelled):
        next(results)
    assert (engine.decode_calls, engine.embed_calls) == calls


@pytest.mark.parametrize("spans", [[Span(6, 20, 5, None)], [Span(0, 5, None, 5)], [Span(6, 12, 5, 12)]])
def test_an_empty_mask_leads_nowhere(work: Pipeline, volume: Volume, spans: list[Span]) -> None:
    empty = Anchor(5, View.whole(96, 96), np.full((64, 64), -5, np.float32))
    other = predicted_anchor(work, volume, ROUND, 12)
    with pytest.raises(InputError, match="mask of slice 5 is empty; draw the object there"):
        list(propagate(work, volume, asked([empty, other], spans)))


def test_slices_without_the_object_count_when_it_comes_back(
    work: Pipeline, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {10: True, 11: False, 12: True, 13: False}
    anchor = predicted_anchor(work, volume, ROUND, 9)

    class Scripted:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def step(self, index: int) -> Step | None:
            level = np.full((8, 8), -4, np.float32)
            return Step(index, View.whole(96, 96), level, level + 5, there[index]) if index in there else None

    monkeypatch.setattr(propagating, "CarryingWalk", Scripted)
    results = list(propagate(work, volume, asked([anchor], [Span(10, 20, 9, None)])))
    assert [r.slice_index for r in results] == [10, 11, 12]
    assert [r.area_px for r in results] == [0, 0, 0]
    assert all(r.expected_dice == 0 for r in results)


# --- figures -----------------------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    mean = np.full((10, 10), -2.0, np.float32)
    mean[2:6, 3:8] = 2
    belief, view = MarginalBelief(mean, np.zeros((10, 10))), View(10, 20, 20, 20)
    area, deviation, wrong, entropy, expected = figures_of(belief, view, (60, 60))
    p = 1 / (1 + np.exp(-2))
    assert area == (view.local_map(mean, 60, 60) > 0).sum() == pytest.approx(80, abs=8)
    # All cells lie between the two level sets; a cell is 4 pixels.
    assert deviation == pytest.approx(100 * 4 / (2 * 1.645))
    assert wrong == pytest.approx(400 * (1 - p), rel=1e-5)
    assert entropy == pytest.approx(float(binary_entropy(np.array(p))), rel=1e-5)
    assert expected == pytest.approx(2 * 20 * p / (20 + 20 * p + 80 * (1 - p)), rel=1e-5)


def test_figures_where_all_is_sure_or_nothing_there() -> None:
    view = View.whole(20, 20)
    mean = np.full((20, 20), -30, np.float32)
    area, deviation, wrong, entropy, expected = figures_of(MarginalBelief(mean, 0 * mean), view, (20, 20))
    assert (area, deviation) == (0, 0)
    assert wrong == pytest.approx(0, abs=1e-6)
    assert entropy == pytest.approx(0, abs=1e-5)
    assert 0 <= expected <= 1
    mean[4:9, 4:14] = 30
    area, deviation, wrong, entropy, expected = figures_of(MarginalBelief(mean, 0 * mean), view, (20, 20))
    assert (area, deviation, expected) == (50, 0, pytest.approx(1))


def test_entropy_is_that_around_the_object() -> None:
    mean = np.full((30, 30), -30, np.float32)
    mean[10:20, 10:20] = 30
    mean[0:4], mean[26:] = 0, 0  # doubt far away
    *_, entropy, _ = figures_of(MarginalBelief(mean, 0 * mean), View.whole(30, 30), (30, 30))
    assert entropy == pytest.approx(0, abs=1e-5)


def test_what_lies_beyond_the_slice_does_not_count() -> None:
    mean = np.full((20, 20), -2, np.float32)
    mean[5:15, 5:15] = 2
    beyond = mean.copy()
    beyond[:, :5] = 0  # columns -5 to -1 of the slice
    view = View(0, -5, 20, 20)
    first, second = (figures_of(MarginalBelief(m, 0 * m), view, (20, 15)) for m in (mean, beyond))
    assert first[0] == 100
    assert first[1] == pytest.approx(15 * 20 / (2 * 1.645))
    assert first[2] == pytest.approx(300 / (1 + np.exp(2)), rel=1e-5)
    assert first[2:] == pytest.approx(second[2:])


# --- with the bundled model --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kidney() -> tuple[Volume, np.ndarray]:
    """Every third slice of the sample CT and the left kidney on it."""
    array = np.asarray(read(sample_path("abdomen_ct")).array)[::3]
    labels = np.asarray(read_labels(sample_path("abdomen_labels")).array)[::3]
    return Volume(array, spacing=(9.0, 1.3, 1.3), modality="CT"), labels == 4


def test_a_kidney_from_one_box(kidney: tuple[Volume, np.ndarray]) -> None:
    from napari_uncertsam.engine import Sam2Engine

    volume, truth = kidney
    work, session = Pipeline(Sam2Engine.load("bundled", device="cpu")), Session(volume)
    session.go_to(0, 7)
    session.set_box(Box.of_mask(truth[7]))
    assert session.deliver(work.predict(volume, session.request))
    request = session.propagation_request()
    results = list(propagate(work, volume, request))
    assert session.deliver_propagated(request, results)
    assert session.finish_propagation(request)
    mask = stacked(results, request.anchors, volume.shape)
    assert dice(mask, truth) > 0.85
    for ours, theirs in zip(extent(mask), extent(truth), strict=True):
        assert abs(ours - theirs) <= 2
    assert all(0 < r.mean_uncertainty < LN2 and r.variance.max() > 0 for r in results)
    assert len(session.slice_facts()) == len(results) + 1
