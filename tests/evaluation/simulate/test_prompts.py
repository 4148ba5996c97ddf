"""Prompts by name: what is read, what is drawn, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate import (
    TOLERANCE,
    PromptSpec,
    box_at_overlap,
    centre_click,
    noisy_box,
    parse_prompt,
    parse_prompts,
)
from napari_uncertsam.evaluation.simulate.boxes import overlap_of
from napari_uncertsam.evaluation.simulate.prompts import BoxRule, PointRule
from napari_uncertsam.prompts import Box, Prompts
from tests.fakes import scene

TRUTH = scene()[1] == 1
TIGHT = Box(40, 34, 87, 97)


@pytest.mark.parametrize(
    ("text", "name", "title", "count"),
    [
        ("gt-box", "gt-box", "tight box", 1),
        ("Noisy-Box", "noisy-box", "tight box with UncertSAM's noise", 1),
        ("box-0.5", "box-0.5", "box at IoU 0.5", 1),
        ("box-.750", "box-0.75", "box at IoU 0.75", 1),
        ("box-1", "gt-box", "tight box", 1),
        ("box-0.5-coverage", "box-0.5-coverage", "box at coverage 0.5", 1),
        ("boxes-3-0.5", "boxes-3-0.5", "3 boxes at IoU 0.5", 3),
        ("boxes-1-0.5", "box-0.5", "box at IoU 0.5", 1),
        ("boxes-2-0.75-coverage", "boxes-2-0.75-coverage", "2 boxes at coverage 0.75", 2),
        ("boxes-3-1.0", "gt-box", "tight box", 1),
        ("points-1", "points-1", "1 random click", 1),
        ("points-10", "points-10", "10 random clicks", 1),
        ("click", "click", "click at the centre", 1),
        ("GT-mask", "gt-mask", "tight box and the true mask", 1),
        ("click+gt-mask", "click+gt-mask", "click at the centre and tight box and the true mask", 1),
        ("points-10+box-0.5", "points-10+box-0.5", "10 random clicks and box at IoU 0.5", 1),
        ("boxes-3-0.5 + points-10", "points-10+boxes-3-0.5", "10 random clicks and 3 boxes at IoU 0.5", 3),
        ("3P", "points-3", "3 random clicks", 1),
        ("5p", "points-5", "5 random clicks", 1),
        ("10P", "points-10", "10 random clicks", 1),
        ("3B(0.5)", "boxes-3-0.5", "3 boxes at IoU 0.5", 3),
        ("3b(.75)", "boxes-3-0.75", "3 boxes at IoU 0.75", 3),
        ("10P&3B(0.5)", "points-10+boxes-3-0.5", "10 random clicks and 3 boxes at IoU 0.5", 3),
    ],
)
def test_names(text: str, name: str, title: str, count: int) -> None:
    spec = parse_prompt(text)
    assert (spec.name, spec.title, spec.count) == (name, title, count)
    assert parse_prompt(spec.name) == spec


box_rules = st.sampled_from([BoxRule("tight"), BoxRule("noisy"), BoxRule("mask")]) | st.builds(
    BoxRule,
    st.just("overlap"),
    st.floats(1e-12, 1, exclude_max=True),
    st.sampled_from(["iou", "coverage"]),
    st.integers(1, 99),
)
point_rules = st.just(PointRule()) | st.builds(PointRule, st.just("random"), st.integers(1, 99))


@given(points=st.none() | point_rules, box=box_rules)
def test_every_prompt_can_be_read_by_its_name(points: PointRule | None, box: BoxRule) -> None:
    spec = PromptSpec(points, box)
    assert parse_prompt(spec.name) == spec == parse_prompt(spec.name.upper())


@pytest.mark.parametrize(
    "text",
    [
        *("", "box", "box-", "box-0", "box-1.5", "box--0.5", "box-half", "gt box", "box-0.5-iou", "boxes-0-0.5"),
        *("points-0", "points--1", "point-3", "points-" + "9" * 5000, "0P", "1e5P", "3P&", "3B()", "3B(0.5"),
        *("gt-box+box-0.5", "click+points-3", "gt-box+"),
    ],
)
def test_what_is_no_prompt_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(InputError, match=r"choose gt-box, noisy-box, box-R.*such as points-10") as caught:
        parse_prompt(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_keep_their_order_and_merge_what_is_named_twice() -> None:
    names = [spec.name for spec in parse_prompts("box-0.5, gt-box,3P,,points-3, BOX-.5,")]
    assert names == ["box-0.5", "gt-box", "points-3"]
    for empty in ("", " , "):
        with pytest.raises(InputError, match="No prompt is named; choose among gt-box"):
            parse_prompts(empty)
    with pytest.raises(InputError, match="'nonsense'"):
        parse_prompts("gt-box,nonsense")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PromptSpec(), "points or a box"),
        (lambda: BoxRule("overlap", 1.0), "between 0 and 1"),
        (lambda: BoxRule("tight", 0.5), "no overlap"),
        (lambda: BoxRule("noisy", count=3), "one only"),
        (lambda: BoxRule("overlap", 0.5, count=0), "at least 1"),
        (lambda: BoxRule("round"), "no box 'round'"),  # type: ignore[arg-type]
        (lambda: PointRule("centre", 2), "2 centre points"),
        (lambda: PointRule("random", 0), "0 random points"),
        (lambda: PointRule("edge"), "no points 'edge'"),  # type: ignore[arg-type]
    ],
)
def test_specifications_that_make_no_sense_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_a_single_rule_draws_what_its_function_draws() -> None:
    def draw(name: str) -> Prompts:
        (prompts,) = parse_prompt(name).draw(TRUTH, np.random.default_rng(3))
        return prompts

    fresh = np.random.default_rng
    assert draw("gt-box") == draw("gt-mask") == Prompts(box=TIGHT)
    assert draw("click") == Prompts((centre_click(TRUTH),))
    assert draw("noisy-box") == Prompts(box=noisy_box(TIGHT, fresh(3), (128, 128)))
    assert draw("box-0.5") == Prompts(box=box_at_overlap(TIGHT, 0.5, fresh(3), (128, 128)))
    assert draw("box-0.5-coverage") == Prompts(box=box_at_overlap(TIGHT, 0.5, fresh(3), (128, 128), "coverage"))
    assert draw("click+gt-box") == Prompts((centre_click(TRUTH),), TIGHT)


@pytest.mark.parametrize(("suffix", "by"), [("", "iou"), ("-coverage", "coverage")])
@pytest.mark.parametrize("overlap", [0.5, 0.75])
def test_every_box_gets_all_points(overlap: float, suffix: str, by: str) -> None:
    spec = parse_prompt(f"points-10+boxes-3-{overlap}{suffix}")
    drawn = spec.draw(TRUTH.astype(np.uint16), np.random.default_rng(0))
    assert len(drawn) == 3 == len({p.box for p in drawn})
    assert len({p.points for p in drawn}) == 1
    points = drawn[0].points
    assert len({(p.y, p.x) for p in points}) == 10
    assert all(TRUTH[int(p.y), int(p.x)] and p.positive for p in points)
    for prompts in drawn:
        assert prompts.box is not None
        assert abs(overlap_of(prompts.box, TIGHT, by) - overlap) <= TOLERANCE  # type: ignore[arg-type]
    assert drawn == spec.draw(TRUTH, np.random.default_rng(0)) != spec.draw(TRUTH, np.random.default_rng(1))


def test_an_object_without_pixels_cannot_be_prompted(rng: np.random.Generator) -> None:
    for name in ("gt-box", "click", "points-3", "box-0.5"):
        with pytest.raises(InputError, match="empty"):
            parse_prompt(name).draw(np.zeros((8, 8), bool), rng)


def test_only_what_a_user_can_give_opens_a_session() -> None:
    opens = {name: parse_prompt(name).opens for name in ("gt-box", "click", "gt-mask", "points-3+gt-mask", "3B(0.5)")}
    assert opens == {"gt-box": True, "click": True, "gt-mask": False, "points-3+gt-mask": False, "3B(0.5)": False}
    assert parse_prompt("points-3+gt-mask").hint
    assert not parse_prompt("points-3").hint
