"""The simulated annotator: the session's own verbs, answers from the truth, and what is kept of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.simulate import POLICIES, AnnotationRun, annotate, parse_prompt, summarise_runs
from napari_uncertsam.evaluation.simulate.annotator import Annotator, Click, open_session
from napari_uncertsam.evaluation.simulate.clicks import pixel_at
from napari_uncertsam.evaluation.simulate.policies import ROUND, find_policy
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, Request, Settings
from napari_uncertsam.prompts import Box, Point, Prompts, Suggestion
from napari_uncertsam.suggestions.ugpa import LEAST_SCORE
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene
from tests.predictions import predicted

ENTROPY = Settings(method="entropy")


def easy_case(name: str = "easy") -> Case:
    image, labels = scene()
    return Case(name, 1, Volume(image, rgb=True), labels == 1)


class Recorder(Pipeline):
    """A pipeline that remembers what it predicted."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine)
        self.made: list[Prediction] = []

    def predict(self, volume: Volume, request: Request, **options: Any) -> Prediction:
        self.made.append(super().predict(volume, request, **options))
        return self.made[-1]


class Obedient(Pipeline):
    """Fills the box, then sets the one pixel under every click; the uncertainty is the same everywhere.

    So the annotation has a closed form: a right answer to a wrong pixel corrects this pixel and no other.
    """

    def __init__(self, suggested: tuple[tuple[int, int], ...] = ()) -> None:
        self.suggested = tuple(Suggestion("point", y, x, 0.5, 0.5) for y, x in suggested)

    def predict(self, volume: Volume, request: Request, **options: Any) -> Prediction:
        height, width = volume.plane_shape(request.plane)
        box = request.prompts.box or Box(0, 0, 0, 0)
        base = predicted(request, (height, width), Box(0, 0, height - 1, width - 1), suggestions=self.suggested)
        mask = np.zeros((height, width), bool)
        mask[round(box.y0) : round(box.y1) + 1, round(box.x0) : round(box.x1) + 1] = True
        for point in request.prompts.points:
            mask[pixel_at(point.y, point.x, mask.shape)] = point.positive
        return replace(base, maps=replace(base.maps, local_mask=mask))


def disc(side: int = 21, radius: float = 8) -> Case:
    away = np.arange(side) - side // 2
    return Case("disc", 1, Volume(np.zeros((side, side), np.uint8)), away[:, None] ** 2 + away**2 <= radius**2)


def test_the_oracle_corrects_one_pixel_after_the_other_until_none_is_wrong() -> None:
    case = disc()
    box = Box.of_mask(case.truth)
    wrong = int(box.area) - int(case.truth.sum())
    run = annotate(Obedient(), case, Settings(), policy="largest-error", start="gt-box", clicks=wrong + 5)
    assert len(run.clicks) == wrong == len({(c.y, c.x) for c in run.clicks})
    assert all(not c.inside and not c.wrong and not case.truth[int(c.y), int(c.x)] for c in run.clicks)
    area = int(case.truth.sum())
    left = [wrong - min(k, wrong) for k in range(wrong + 6)]
    assert run.dice == pytest.approx([2 * area / (2 * area + n) for n in left])
    assert run.iou == pytest.approx([area / (area + n) for n in left])
    assert run.mean_uncertainty == pytest.approx([0.1] * len(left))
    assert run.stopped == "No wrong pixel was left."


def test_wrong_answers_leave_the_oracle_where_it_was() -> None:
    case = disc()
    run = annotate(Obedient(), case, Settings(), policy="largest-error", start="gt-box", clicks=500, wrong_rate=1)
    # Every wrong pixel is clicked once and stays wrong; then there is none that was not clicked.
    assert len(set(run.dice)) == 1
    assert (
        len(run.clicks)
        == len({(c.y, c.x) for c in run.clicks})
        == int(Box.of_mask(case.truth).area) - int(case.truth.sum())
    )
    assert all(c.wrong and c.inside for c in run.clicks)
    assert run.stopped is not None


def test_the_rate_of_wrong_answers_is_the_one_asked_for() -> None:
    case, seeds, each = disc(), range(40), 20
    many = len(seeds) * each

    def answers(rate: float) -> list[Click]:
        options: dict[str, Any] = {"policy": "random", "start": "gt-box", "clicks": each, "wrong_rate": rate}
        return [c for seed in seeds for c in annotate(Obedient(), case, Settings(), **options, seed=seed).clicks]

    given = {rate: answers(rate) for rate in (0.0, 0.2, 0.5, 1.0)}
    wrong = {rate: np.array([c.wrong for c in clicks]) for rate, clicks in given.items()}
    assert all(len(w) == many for w in wrong.values())
    assert not wrong[0.0].any()
    assert wrong[1.0].all()
    for rate in (0.2, 0.5):
        assert abs(wrong[rate].mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / many)
    # The same answers are wrong at a higher rate, and more.
    assert (wrong[0.2] <= wrong[0.5]).all()
    for clicks in given.values():
        assert all(c.inside == (bool(case.truth[int(c.y), int(c.x)]) is not c.wrong) for c in clicks)


def test_random_clicks_are_spread_over_all_uncertain_pixels() -> None:
    case = disc(11, 4)
    run = annotate(Obedient(), case, Settings(), policy="random", start="gt-box", clicks=200)
    # Everything is uncertain, so every pixel is asked for once.
    assert sorted((c.y, c.x) for c in run.clicks) == [(y, x) for y in range(11) for x in range(11)]
    assert run.stopped == "No uncertain pixel was left."
    assert run.dice[121] == run.dice[200] == 1
    rows = [
        annotate(Obedient(), case, Settings(), policy="random", start="gt-box", clicks=1, seed=s) for s in range(80)
    ]
    assert abs(np.mean([r.clicks[0].y for r in rows]) - 5) < 4 * np.sqrt(10 / 80)


def test_without_suggestions_the_annotator_stops_and_nothing_changes() -> None:
    run = annotate(Obedient(), disc(), Settings(), policy="suggested", start="gt-box", clicks=4)
    assert run.clicks == ()
    assert run.stopped == "No suggested point was left to answer."
    assert len(run.dice) == len(run.iou) == len(run.mean_uncertainty) == 5
    assert len(set(run.dice)) == 1
    nothing = replace(ENTROPY, n_suggestions=0)
    none = annotate(Pipeline(FakeEngine()), easy_case(), nothing, policy="suggested", start="gt-box", clicks=2)
    assert none.clicks == ()


def test_suggestions_are_answered_in_their_order_and_once() -> None:
    case = disc()
    places = ((2, 2), (10, 10), (10, 3))
    run = annotate(Obedient(places), case, Settings(), policy="suggested", start="gt-box", clicks=5)
    assert [(c.y, c.x) for c in run.clicks] == list(places)
    assert [c.inside for c in run.clicks] == [False, True, True]
    assert run.stopped is not None
    assert run.dice[3:] == (run.dice[3],) * 3


def test_every_answer_is_the_first_open_suggestion_and_a_step_that_can_be_undone() -> None:
    case = easy_case()
    session = open_session(case, ENTROPY)
    annotator = Annotator(Pipeline(FakeEngine()), session, case.truth)
    annotator.begin(Prompts((Point(60, 60),), Box(40, 34, 87, 70)))
    for k in range(3):
        first = next(s for s in session.suggestions if s.kind == "point")
        assert annotator.go_on(find_policy("suggested"), np.random.default_rng(0), wrong=False)
        assert (annotator.clicks[k].y, annotator.clicks[k].x) == (first.y, first.x)
        assert session.prompts.points[-1] == first.answer(bool(case.truth[pixel_at(first.y, first.x, (128, 128))]))
        assert session.is_current
        assert session.prediction is not None
        assert annotator.dice[-1] == metrics.dice(session.labels, case.truth)
        assert annotator.mean_uncertainty[-1] == session.prediction.mean_uncertainty
    # Three answers, a click and a box: five steps back to nothing.
    for points in (3, 2, 1, 0):
        session.undo()
        assert len(session.prompts.points) == points
    assert session.prompts == Prompts(box=Box(40, 34, 87, 70))
    session.undo()
    assert session.request is None
    assert not session.can_undo


def test_box_suggestions_are_not_answered() -> None:
    case, pipeline = easy_case(), Recorder(FakeEngine())
    run = annotate(pipeline, case, ENTROPY, policy="suggested", start="box-0.25", clicks=3)
    assert any(s.kind == "box" for p in pipeline.made for s in p.suggestions)
    assert len({p.request.prompts.box for p in pipeline.made}) == 1
    assert [len(p.request.prompts.points) for p in pipeline.made] == [0, 1, 2, 3]
    assert len(run.clicks) == 3


def test_the_oracle_brings_back_what_a_box_cut_off() -> None:
    """The engine takes the whole object once a click confirms what it leaves open outside of the box."""
    case = easy_case()
    for seed in range(6):
        run = annotate(
            Pipeline(FakeEngine()), case, ENTROPY, policy="largest-error", start="box-0.5", clicks=1, seed=seed
        )
        assert run.clicks[0].inside
        assert run.dice[0] < 0.95 < 0.99 < run.dice[1]


def test_random_clicks_lie_where_the_prediction_before_was_uncertain() -> None:
    case, pipeline = easy_case(), Recorder(FakeEngine())
    run = annotate(pipeline, case, ENTROPY, policy="random", start="box-0.5", clicks=8)
    assert len(run.clicks) == 8
    for click, before in zip(run.clicks, pipeline.made, strict=False):
        assert before.maps.uncertainty[int(click.y), int(click.x)] > LEAST_SCORE
        assert click.inside == case.truth[int(click.y), int(click.x)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("start", ["gt-box", "noisy-box", "click", "points-3+box-0.5-coverage"])
@pytest.mark.parametrize("zoom", [True, False])
def test_every_policy_works_from_every_start(policy: str, start: str, zoom: bool) -> None:
    case, settings = easy_case(), replace(ENTROPY, zoom=zoom)
    options: dict[str, Any] = {"policy": policy, "start": start, "clicks": 4, "wrong_rate": 0.5}
    pipeline = Recorder(FakeEngine())
    run = annotate(pipeline, case, settings, **options)
    assert (run.policy, run.start, run.wrong_rate, run.seed) == (policy, start, 0.5, 0)
    # Where nothing is left that an answer would teach, the widget does not ask.
    assert len(run.clicks) == 4 or (run.stopped and find_policy(policy).settings["suggest"] != "entropy")
    # A suggested box that was refused changes nothing, and is not predicted again.
    refused = [c.kind == "box" and not c.inside for c in run.clicks]
    made = iter(pipeline.made)
    shown = [next(made)]
    for same in refused:
        shown.append(shown[-1] if same else next(made))
    assert next(made, None) is None
    shown += shown[-1:] * (4 - len(run.clicks))
    assert run.dice == tuple(metrics.dice(p.maps.mask, case.truth) for p in shown)
    assert run.iou == tuple(metrics.iou(p.maps.mask, case.truth) for p in shown)
    assert run.mean_uncertainty == tuple(p.mean_uncertainty for p in shown)
    assert run.quality == tuple(p.quality for p in shown)
    assert run.gain == tuple(p.gain_px for p in shown)
    assert run.worth_asking == tuple(p.worth_asking for p in shown)
    assert all(p.request.settings == find_policy(policy).applied(settings) for p in pipeline.made)
    assert annotate(Pipeline(FakeEngine()), case, settings, **options) == run
    assert AnnotationRun.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_a_round_of_medsam_u_is_of_one_prediction_and_its_box_is_taken_when_it_is_better() -> None:
    case, pipeline = easy_case(), Recorder(FakeEngine())
    run = annotate(pipeline, case, ENTROPY, policy="ugpa", start="box-0.5", clicks=ROUND + 1)
    assert [c.kind for c in run.clicks] == ["point"] * ROUND + ["box"]
    first = pipeline.made[0]
    entropy, grid = first.belief.entropy().astype(float), first.belief.shape
    for click in run.clicks[:ROUND]:
        y, x = first.view.slice_to_grid(click.y, click.x, grid)
        # Plain top-K of the first prediction, whatever was predicted since.
        assert entropy[round(y), round(x)] == entropy.max()
        entropy[round(y), round(x)] = 0
    (suggested,) = [s for s in first.suggestions if s.kind == "box"]
    true, present = Box.of_mask(case.truth), first.request.prompts.box
    assert suggested.box is not None
    assert present is not None
    assert run.clicks[-1].inside == (suggested.box.iou(true) > present.iou(true))
    assert pipeline.made[-1].request.prompts.box == (suggested.box if run.clicks[-1].inside else present)


def test_the_most_uncertain_place_is_asked_one_at_a_time_and_never_twice() -> None:
    case, pipeline = easy_case(), Recorder(FakeEngine())
    run = annotate(pipeline, case, ENTROPY, policy="entropy", start="box-0.5", clicks=6)
    assert len({pixel_at(c.y, c.x, case.truth.shape) for c in run.clicks}) == 6
    for number, (click, before) in enumerate(zip(run.clicks, pipeline.made, strict=False)):
        entropy = before.belief.entropy().astype(float)
        for earlier in run.clicks[:number]:
            y, x = before.view.slice_to_grid(earlier.y, earlier.x, entropy.shape)
            entropy[round(y), round(x)] = 0
        y, x = before.view.slice_to_grid(click.y, click.x, entropy.shape)
        assert entropy[round(y), round(x)] == entropy.max()


def test_without_conditioning_answers_are_prompts_alone() -> None:
    case, settings = easy_case(), replace(ENTROPY, conditioning=False)
    pipeline = Recorder(FakeEngine())
    run = annotate(pipeline, case, settings, policy="largest-error", start="box-0.5", clicks=3)
    assert not run.conditioning
    assert run.quality == (None,) * 4
    assert all(p.field is None for p in pipeline.made)
    old = {k: v for k, v in run.to_dict().items() if k not in ("conditioning", "quality", "gain", "worth_asking")}
    assert AnnotationRun.from_dict(old).dice == run.dice
    assert not AnnotationRun.from_dict(old).conditioning


def test_policies_share_their_start_and_seeds_decide() -> None:
    case, pipeline = easy_case(), Recorder(FakeEngine())
    first = {}
    for policy in POLICIES:
        pipeline.made.clear()
        annotate(pipeline, case, ENTROPY, policy=policy, start=parse_prompt("box-0.5"), clicks=1)
        first[policy] = pipeline.made[0].request.prompts
    assert len(set(first.values())) == 1
    runs = [annotate(pipeline, case, ENTROPY, policy="random", start="gt-box", clicks=2, seed=s) for s in (0, 1)]
    assert runs[0].clicks != runs[1].clicks
    other = annotate(pipeline, easy_case("another"), ENTROPY, policy="random", start="gt-box", clicks=2)
    assert other.clicks != runs[0].clicks


def test_a_slice_of_a_volume_is_annotated_as_the_image_alone() -> None:
    image, labels = scene()
    grey = image[..., 0].astype(np.int16)
    alone = Case("scan", 1, Volume(grey), labels == 1, window=Window(0, 255))
    stack = Volume(np.stack([grey[::-1], grey, np.zeros_like(grey)]))
    within = Case("scan", 1, stack, labels == 1, plane=0, slice_index=1, window=Window(0, 255))
    side = Case(
        "scan", 1, Volume(np.stack([grey, grey], 2)), labels == 1, plane=2, slice_index=1, window=Window(0, 255)
    )
    options: dict[str, Any] = {"policy": "largest-error", "start": "gt-box", "clicks": 3}
    runs = [annotate(Pipeline(FakeEngine()), case, ENTROPY, **options) for case in (alone, within, side)]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0].clicks) == 3
    assert runs[0].dice[0] > 0.98


def test_no_answers_is_the_prediction_of_the_start_alone() -> None:
    case = easy_case()
    run = annotate(Pipeline(FakeEngine()), case, ENTROPY, policy="suggested", start="gt-box", clicks=0)
    assert len(run.dice) == 1
    assert run.dice[0] > 0.99
    assert (run.clicks, run.stopped) == ((), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "guess"}, "no policy 'guess'.*information, .*largest-error"),
        ({"start": "3B(0.5)"}, "cannot start from boxes-3-0.5, which averages 3"),
        ({"start": "nothing"}, "'nothing' is none"),
        ({"clicks": -1}, "not -1 and 0"),
        ({"seed": -1}, "not 10 and -1"),
        ({"wrong_rate": 1.5}, "1.5 is not between 0 and 1"),
        ({"wrong_rate": float("nan")}, "nan is not between 0 and 1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        annotate(Pipeline(FakeEngine()), easy_case(), ENTROPY, **{"policy": "random", "start": "gt-box", **options})


@pytest.mark.parametrize(
    "values", [{}, {"dice": ["a"]}, {"dice": [], "iou": [], "mean_uncertainty": [], "clicks": [1]}]
)
def test_a_damaged_record_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="not the record"):
        AnnotationRun.from_dict(values)


def test_with_the_bundled_model() -> None:
    from napari_uncertsam.engine import Sam2Engine

    pipeline = Pipeline(Sam2Engine.load("bundled", device="cpu"))
    image, labels = scene(128, 160, Box(30, 20, 80, 60), Box(40, 90, 110, 140))
    cases = [Case("two", value, Volume(image, rgb=True), labels == value, group=str(value)) for value in (1, 2)]
    runs = [
        annotate(pipeline, case, Settings(), policy=policy, start="gt-box", clicks=3)
        for policy in ("suggested", "largest-error")
        for case in cases
    ]
    assert min(run.dice[0] for run in runs) > 0.9
    assert all(len(run.clicks) == 3 or run.stopped for run in runs)
    summary = summarise_runs(runs[:2], [case.group for case in cases], seed=0)
    assert summary.dice[0].mean == pytest.approx(np.mean([run.dice[0] for run in runs[:2]]))
    assert [n.clicks.mean for n in summary.needed if n.measure == "dice"] == [0, 0]
