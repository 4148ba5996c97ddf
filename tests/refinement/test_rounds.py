"""Automatic rounds on the fake engine: a box that cuts the object off is mended, and harm is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.engine import Embedding
from napari_uncertsam.errors import Cancelled, EngineError, InputError
from napari_uncertsam.estimators import Belief, Estimator, PointBelief
from napari_uncertsam.estimators.prompt_perturbation import PromptPerturbation
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.refinement import PAPER, PRESETS, RECOMMENDED, Refinement, UgpaSettings, refine
from napari_uncertsam.refinement.grid import Grid
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.suggestions import RULES, hypotheses
from napari_uncertsam.view import View
from tests.fakes import SCORE, FakeEngine, scene

OBJECT = Box(40, 34, 87, 97)
SHIFTED = Box(48, 56, 95, 119)  # overlap 0.38 with OBJECT, cuts off its left third
WHOLE = View.whole(128, 128)
#: One round of the uncertain box, judged by the entropy around the object.
UNCERTAIN = UgpaSettings(proposals="uncertain", verification="mean-entropy-roi")


@pytest.fixture(autouse=True)
def _score(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is what a round makes of a score, not how the score was fitted for the bundled model."""
    monkeypatch.setattr(hypotheses, "WEIGHTS", SCORE)


class Fixed:
    """Gives the same belief whatever the prompts."""

    name, title, answers = "fixed", "Fixed", "What was given?"

    def __init__(self, logits: np.ndarray) -> None:
        self.belief = PointBelief(logits)

    def estimate(
        self, engine: FakeEngine, embedding: Embedding, prompts: Prompts, rng: np.random.Generator
    ) -> PointBelief:
        return self.belief


def dice(belief: Belief, labels: np.ndarray) -> float:
    mask, truth = belief.logits() > 0, labels[1::2, 1::2] == 1
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def start(
    prompts: Prompts, estimator: Estimator | None = None, doubt: float = -1.5
) -> tuple[FakeEngine, Embedding, Prompts, Belief, Estimator]:
    engine = FakeEngine(doubt=doubt)
    embedding = engine.embed(scene()[0])
    local = WHOLE.prompts_to_view(prompts, engine.resolution)
    estimator = estimator or make_method("entropy")
    return engine, embedding, local, estimator.estimate(engine, embedding, local, np.random.default_rng(0)), estimator


def run(
    state: tuple[FakeEngine, Embedding, Prompts, Belief, Estimator],
    settings: UgpaSettings = UNCERTAIN,
    rounds: int = 1,
) -> Refinement:
    engine, embedding, prompts, belief, estimator = state
    return refine(engine, embedding, prompts, belief, estimator, np.random.default_rng(1), settings, rounds)


@pytest.mark.parametrize("name", ["entropy", "prompt"])
def test_a_shifted_box_is_moved_onto_the_object(name: str) -> None:
    labels = scene()[1]
    state = start(Prompts(box=SHIFTED), make_method(name))
    result = run(state)
    assert result.accepted
    assert dice(state[3], labels) < 0.85
    assert dice(result.belief, labels) > 0.97
    [only] = result.rounds
    assert only.after < only.before
    assert only.reason.startswith("Accepted")
    assert only.box == result.prompts.box
    assert only.belief is result.belief
    pixels = WHOLE.prompts_to_slice(result.prompts, 256).box
    assert pixels is not None
    # Of the object and the ramp of the shifted box's far edge.
    assert pixels.iou(OBJECT) > 0.9
    assert state[0].decode_calls == 2


def test_rounds_go_on_until_one_is_not_accepted() -> None:
    result = run(start(Prompts(box=SHIFTED)), rounds=5)
    assert 2 <= len(result.rounds) <= 5
    assert [r.accepted for r in result.rounds] == [True] * (len(result.rounds) - 1) + [False]
    assert result.rounds[0].prompts == result.prompts or result.rounds[-2].prompts == result.prompts
    assert run(start(Prompts(box=SHIFTED)), rounds=0).rounds == ()


def test_collapse_is_refused_and_everything_kept() -> None:
    engine, embedding, prompts, belief, _ = start(Prompts(box=SHIFTED))
    collapse = Fixed(np.full((64, 64), -20.0))
    rng = np.random.default_rng(0)
    result = refine(engine, embedding, prompts, belief, collapse, rng, UNCERTAIN)
    assert not result.accepted
    assert result.prompts is prompts
    assert result.belief is belief
    [tried] = result.rounds
    assert "empty" in tried.reason
    assert tried.area_ratio == 0
    assert tried.prompts != prompts
    # The paper's bare mean takes the bait: the guard is what refuses.
    bare = replace(UNCERTAIN, verification="mean-entropy-image", guard=None)
    assert refine(engine, embedding, prompts, belief, collapse, rng, bare).accepted


def test_a_certain_mask_is_left_alone() -> None:
    engine, embedding, prompts, _, estimator = start(Prompts(box=OBJECT))
    logits = np.full((64, 64), -9.0)
    logits[20:44, 17:49] = 9.0
    calls = engine.decode_calls
    result = refine(engine, embedding, prompts, PointBelief(logits), estimator, np.random.default_rng(0), UNCERTAIN)
    [skipped] = result.rounds
    assert not skipped.accepted
    assert skipped.box is None
    assert skipped.before == skipped.after
    assert "certain everywhere" in skipped.reason
    assert engine.decode_calls == calls


def test_uncertainty_elsewhere_is_not_the_objects() -> None:
    engine, embedding, prompts, _, estimator = start(Prompts(box=OBJECT))
    logits = np.full((64, 64), -9.0)
    logits[20:44, 17:49] = 9.0
    logits[56:63, 56:63] = -0.1
    result = refine(engine, embedding, prompts, PointBelief(logits), estimator, np.random.default_rng(0), UNCERTAIN)
    assert "nothing uncertain touches the object" in result.rounds[0].reason
    assert result.rounds[0].before < 2e-3  # the mean around the box, not of the view


def test_clicks_start_from_the_mask() -> None:
    result = run(start(Prompts((Point(64, 64),))))
    [only] = result.rounds
    assert only.box is not None
    assert only.prompts.points == start(Prompts((Point(64, 64),)))[2].points


def test_neither_box_nor_mask_is_skipped_with_a_reason() -> None:
    engine, embedding, prompts, _, estimator = start(Prompts((Point(5, 5, False),)))
    belief = PointBelief(np.full((64, 64), -0.5))
    result = refine(engine, embedding, prompts, belief, estimator, np.random.default_rng(0), UNCERTAIN)
    assert result.rounds[0].belief is None
    assert "draw a box" in result.rounds[0].reason


def test_the_mask_keeps_a_box_from_shrinking_to_the_one_uncertain_side() -> None:
    engine, embedding, prompts, _, estimator = start(Prompts(box=OBJECT))
    logits = np.full((64, 64), -9.0)
    logits[20:44, 17:49] = 9.0
    logits[20:44, 17:20] = 0.2  # only the left side is open
    literal = replace(UNCERTAIN, extent="uncertain")
    widths = []
    for settings in (UNCERTAIN, literal):
        out = refine(engine, embedding, prompts, PointBelief(logits), estimator, np.random.default_rng(0), settings)
        assert out.rounds[0].box is not None
        widths.append(out.rounds[0].box.width)
    assert widths[0] > 60
    assert widths[1] < 10


def test_paper_preset_makes_three_boxes_with_ten_positive_points() -> None:
    state = start(Prompts(box=SHIFTED), PromptPerturbation.medsam_u())
    result = run(state, PAPER)
    tried = state[0].decoded[-1]
    assert len(tried) == 3
    assert len({p.box for p in tried}) == 3
    assert all(p.points == tried[0].points for p in tried)
    [only] = result.rounds
    assert len(only.points) == 10
    assert all(p.positive for p in only.points)
    assert only.box not in {p.box for p in tried}


@pytest.mark.parametrize(("labels", "expected"), [("by-probability", None), ("oracle", None), ("none", 0)])
def test_label_rules(labels: str, expected: int | None) -> None:
    settings = replace(UNCERTAIN, points=5, labels=labels)  # type: ignore[arg-type]
    engine, embedding, prompts, belief, estimator = start(Prompts(box=SHIFTED))
    truth = scene()[1] == 1

    def inside(y: float, x: float) -> bool:
        return bool(truth[round(y), round(x)])

    rng = np.random.default_rng(0)
    [only] = refine(engine, embedding, prompts, belief, estimator, rng, settings, truth=inside).rounds
    if expected is not None:
        assert len(only.points) == expected
        return
    assert len(only.points) == 5
    assert only.prompts.points == only.points
    for point in WHOLE.prompts_to_slice(Prompts(only.points), engine.resolution).points:
        y, x = WHOLE.slice_to_grid(point.y, point.x, (64, 64))
        assert (y, x) == pytest.approx((round(y), round(x)), abs=1e-6)
        probable = belief.probability()[round(y), round(x)] > 0.5
        assert point.positive == (probable if labels == "by-probability" else inside(point.y, point.x))


def test_oracle_without_a_truth_is_refused() -> None:
    with pytest.raises(InputError, match="ground truth"):
        run(start(Prompts(box=SHIFTED)), replace(UNCERTAIN, points=3, labels="oracle"))


def test_per_pixel_keeps_the_surer_belief_everywhere() -> None:
    state = start(Prompts(box=SHIFTED))
    result = run(state, replace(UNCERTAIN, verification="per-pixel"))
    assert result.accepted
    assert (result.belief.entropy() <= state[3].entropy() + 2e-6).all()


def test_user_points_are_kept_and_held_by_the_box() -> None:
    far = Point(110, 20)
    [only] = run(start(Prompts((far,), OBJECT))).rounds
    assert only.prompts.points[0] == start(Prompts((far,), OBJECT))[2].points[0]
    box = WHOLE.prompts_to_slice(only.prompts, 256).box
    assert box is not None
    assert box.y1 >= 109
    assert box.x0 <= 21


def test_cancelling_and_failing_pass_through() -> None:
    engine, embedding, prompts, belief, estimator = start(Prompts(box=SHIFTED))
    rng = np.random.default_rng(0)
    with pytest.raises(Cancelled):
        refine(engine, embedding, prompts, belief, estimator, rng, cancelled=lambda: True)
    engine.fail = "decode"
    with pytest.raises(EngineError):
        refine(engine, embedding, prompts, belief, estimator, rng)


@given(
    height=st.integers(16, 400),
    width=st.integers(16, 400),
    cells=st.tuples(*[st.floats(0, 63)] * 4),
    resolution=st.sampled_from([256, 1024]),
)
def test_boxes_and_points_go_to_the_grid_and_back(
    height: int, width: int, cells: tuple[float, ...], resolution: int
) -> None:
    grid = Grid(View.whole(height, width), (64, 64), resolution)
    y, x = (int(c) for c in cells[:2])
    # At least a pixel of the view wide: thinner ones are not boxes of pixels.
    box = Box(y, x, max(cells[2], y) + np.ceil(64 / height), max(cells[3], x) + np.ceil(64 / width))
    made = grid.prompts(box, ((y, x, True),))
    assert made.box is not None
    back = grid.box_to_cells(made.box)
    np.testing.assert_allclose((back.y0, back.x0, back.y1, back.x1), (box.y0, box.x0, box.y1, box.x1), atol=1e-6)
    np.testing.assert_allclose(grid.points_to_cells(made.points), [(y, x)], atol=1e-6)


def test_the_whole_view_is_the_whole_grid() -> None:
    grid = Grid(View.whole(100, 200), (64, 64), 256)
    whole = View.whole(100, 200).prompts_to_view(Prompts(box=Box(0, 0, 99, 199)), 256).box
    assert whole is not None
    cells = grid.box_to_cells(whole)
    np.testing.assert_allclose((cells.y0, cells.x0, cells.y1, cells.x1), (0, 0, 63, 63), atol=1e-9)


def test_the_recommended_round_finds_the_box_that_was_meant() -> None:
    labels = scene()[1]
    state = start(Prompts(box=SHIFTED))
    result = run(state, RECOMMENDED, rounds=3)
    first = result.rounds[0]
    assert first.accepted
    assert first.rule == "hypotheses-entropy"
    assert first.after > first.before + 0.06  # of Dice
    assert first.mean_uncertainty[0] != first.before
    assert first.points == ()
    assert dice(state[3], labels) < 0.85
    assert dice(result.belief, labels) > 0.9
    # What is kept is what the user's own method says of the new prompts.
    again = state[4].estimate(*state[:2], result.prompts, np.random.default_rng(0))
    assert np.array_equal(again.logits(), result.belief.logits())


def test_the_recommended_round_leaves_a_good_box_alone() -> None:
    for box in (OBJECT, OBJECT.expand(1.1)):
        result = run(start(Prompts(box=box)), RECOMMENDED, rounds=3)
        assert not result.accepted
        [only] = result.rounds
        assert only.reason.startswith("Kept the")


def test_a_better_box_that_contradicts_the_user_is_not_tried() -> None:
    state = start(Prompts(box=SHIFTED))
    engine, embedding, prompts, belief, estimator = state
    moved = run(state, RECOMMENDED)
    assert moved.accepted
    # A point where the better mask gains: the user says that it is outside.
    gained = (moved.belief.logits() > 0) & ~(belief.logits() > 0)
    y, x = np.argwhere(gained)[len(np.argwhere(gained)) // 2]
    grid = Grid(WHOLE, (64, 64), engine.resolution)
    said = grid.prompts(OBJECT, ((int(y), int(x), False),)).points
    told = replace(prompts, points=said)
    before = estimator.estimate(engine, embedding, told, np.random.default_rng(0))
    result = refine(engine, embedding, told, before, estimator, np.random.default_rng(0), RECOMMENDED)
    assert result.prompts.points == said
    assert not (result.belief.logits() > 0)[y, x]


def test_the_paper_starts_from_three_boxes_whatever_the_users_method() -> None:
    engine, embedding, prompts, _, estimator = start(Prompts((Point(64, 64),), SHIFTED))
    whatever = PointBelief(np.full((64, 64), -0.5))
    engine.decoded.clear()
    result = refine(engine, embedding, prompts, whatever, estimator, np.random.default_rng(1), PAPER)
    first, second = engine.decoded
    assert len(first) == len(second) == 3
    assert prompts.box not in {p.box for p in first}
    assert all(p.points == prompts.points for p in first)
    [only] = result.rounds
    rng = np.random.default_rng(1)
    ugmp = PAPER.first()
    assert ugmp is not None
    started = ugmp.estimate(engine, embedding, prompts, rng)
    assert only.before == pytest.approx(float(started.entropy().mean()))
    # Refused, what it started from stays.
    refused = refine(
        engine, embedding, prompts, whatever, estimator, np.random.default_rng(1), replace(PAPER, margin=1.0)
    )
    assert not refused.accepted
    assert refused.prompts is prompts
    np.testing.assert_array_equal(refused.belief.logits(), started.logits())


def test_the_first_boxes_can_do_without_the_users_points() -> None:
    engine, embedding, prompts, belief, estimator = start(Prompts((Point(64, 64),), SHIFTED))
    engine.decoded.clear()
    alone = replace(PAPER, first_points="none", include_given=True)
    [only] = refine(engine, embedding, prompts, belief, estimator, np.random.default_rng(1), alone).rounds
    assert all(p.points == () for p in engine.decoded[0])
    assert engine.decoded[0][0].box == prompts.box
    assert only.prompts.points[:1] == prompts.points  # kept throughout


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_judges_both_proposals(rule: str) -> None:
    for proposals in ("hypotheses", "uncertain"):
        settings = replace(UNCERTAIN, proposals=proposals, verification=rule)  # type: ignore[arg-type]
        [only] = run(start(Prompts(box=SHIFTED)), settings).rounds
        assert only.rule == rule
        assert only.belief is not None
        assert np.isfinite([only.before, only.after]).all()


def test_a_round_in_places_of_the_slice() -> None:
    view = View.around(Box(40, 34, 87, 97), 128, 128)
    [only] = run(start(Prompts(box=SHIFTED)), PAPER).rounds
    placed = only.on_slice(view, 256)
    assert only.box is not None
    assert placed.box == view.prompts_to_slice(Prompts(box=only.box), 256).box == placed.prompts.box
    assert placed.points == placed.prompts.points
    back = view.prompts_to_view(Prompts(placed.points), 256).points
    np.testing.assert_allclose([(p.y, p.x) for p in back], [(p.y, p.x) for p in only.points], atol=1e-9)
    assert placed.belief is only.belief


def test_presets_by_name() -> None:
    assert UgpaSettings.preset("paper") == PRESETS["paper"] == PAPER
    assert UgpaSettings.preset("recommended") == RECOMMENDED
    with pytest.raises(InputError, match="recommended, paper"):
        UgpaSettings.preset("magic")


def test_settings_are_frozen_values_with_choices() -> None:
    assert UgpaSettings() == RECOMMENDED
    assert hash(PAPER) != hash(RECOMMENDED)
    assert RECOMMENDED.refined() is None
    made = PAPER.refined()
    assert made is not None
    assert (made.n, made.rule, made.include_given) == (3, "ugmp", False)
    for bad, match in (
        ({"labels": "guess"}, "all-positive"),
        ({"verification": "coin"}, "mean-entropy-roi"),
        ({"points": -1}, "not negative"),
        ({"refined_boxes": 0}, "at least 1"),
        ({"first_boxes": 0}, "at least 1"),
        ({"margin": -0.1}, "not negative"),
        ({"token": "last"}, "best-iou"),
        ({"average": "median"}, "probability"),
        ({"guard": (2.0, 4.0)}, "holds 1"),
    ):
        with pytest.raises(InputError, match=match):
            UgpaSettings(**bad)  # type: ignore[arg-type]
