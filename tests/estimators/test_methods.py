"""The estimators on the fake engine, and the geometry of perturbed prompts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uncertsam.errors import EngineError, InputError
from napari_uncertsam.estimators import ESTIMATORS
from napari_uncertsam.estimators.entropy import Entropy
from napari_uncertsam.estimators.prompt_perturbation import PromptPerturbation, jitter_boxes, jitter_points
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.view import View
from tests.fakes import FakeEngine, scene

OBJECT = Box(40, 34, 87, 97)


def prompts_in_view(prompts: Prompts, engine: FakeEngine) -> Prompts:
    return View.whole(128, 128).prompts_to_view(prompts, engine.resolution)


def test_fake_engine_fields_fit_together() -> None:
    engine = FakeEngine()
    image, _ = scene()
    prompts = [Prompts(box=OBJECT), Prompts((Point(64, 64), Point(10, 10, False))), Prompts((Point(64, 64),), OBJECT)]
    d = engine.decode(engine.embed(image), prompts)
    assert d.logits.shape == (3, 64, 64)
    heads = np.einsum("tkc,ntc->ntk", engine.weight, d.token_hidden) + engine.bias.numpy()
    np.testing.assert_allclose(np.einsum("ntk,nkhw->nthw", heads, d.features), d.token_logits, atol=2e-4)
    np.testing.assert_array_equal(d.logits, d.token_logits[:, 0])
    np.testing.assert_array_equal(d.hidden, d.token_hidden[:, 0])
    assert ((d.iou >= 0) & (d.iou <= 1)).all()


def test_fake_engine_segments_what_a_prompt_names() -> None:
    engine = FakeEngine()
    image, labels = scene(128, 128, Box(20, 20, 49, 59), Box(70, 60, 109, 119))
    embedding = engine.embed(image)
    for value, prompt in ((1, Prompts((Point(35, 40),))), (2, Prompts(box=Box(70, 60, 109, 119)))):
        logits = engine.decode(embedding, [prompts_in_view(prompt, engine)]).logits[0].numpy()
        cells = labels[1::2, 1::2] == value
        dice = 2 * ((logits > 0) & cells).sum() / ((logits > 0).sum() + cells.sum())
        assert dice > 0.95
    both = Prompts(box=Box(10, 10, 119, 125))
    erased = both.with_point(Point(90, 90, False))
    logits = engine.decode(embedding, [prompts_in_view(p, engine) for p in (both, erased)]).logits.numpy()
    assert logits[0, 45, 45] > 0 > logits[1, 45, 45]
    assert logits[1, 17, 20] > 0
    mask = MaskPrompt(logits[0])
    np.testing.assert_allclose(engine.decode(embedding, [Prompts(mask=mask)]).logits[0], logits[0], atol=1e-5)
    with pytest.raises(InputError, match="nothing to segment"):
        engine.decode(embedding, [Prompts()])


@pytest.mark.parametrize("estimator", [Entropy(), PromptPerturbation(), PromptPerturbation.medsam_u()])
def test_one_embedding_one_decode_and_the_same_again(estimator: Entropy | PromptPerturbation) -> None:
    engine = FakeEngine()
    image, labels = scene()
    embedding = engine.embed(image)
    prompts = prompts_in_view(Prompts(box=OBJECT), engine)
    first, again = (estimator.estimate(engine, embedding, prompts, np.random.default_rng(3)) for _ in range(2))
    assert (engine.embed_calls, engine.decode_calls) == (1, 2)
    np.testing.assert_array_equal(first.logits(), again.logits())
    mask, truth = first.logits() > 0, labels[1::2, 1::2] == 1
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9
    assert first.predicted_iou == pytest.approx(1, abs=0.1)


def test_entropy_is_the_single_decode() -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    prompts = Prompts((Point(60, 60),), OBJECT)
    belief = Entropy().estimate(engine, embedding, prompts, np.random.default_rng(0))
    np.testing.assert_array_equal(belief.logits(), engine.decode(embedding, [prompts]).logits[0].numpy())


def test_failure_of_the_engine_passes_through() -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    engine.fail = "decode"
    with pytest.raises(EngineError, match="memory"):
        PromptPerturbation().estimate(engine, embedding, Prompts(box=OBJECT), np.random.default_rng(0))


def test_presets_are_the_papers() -> None:
    rng = np.random.default_rng(0)
    prompts = Prompts((Point(50, 50), Point(5, 5, False)), OBJECT)
    ten = PromptPerturbation.uncertsam().variants(prompts, rng, shape=(128, 128), resolution=256)
    assert PromptPerturbation() == PromptPerturbation.uncertsam()
    assert len(ten) == 10
    assert ten[0] == prompts
    assert len({p.box for p in ten}) == 10
    assert all(p.points == prompts.points for p in ten)
    three = PromptPerturbation.medsam_u().variants(prompts, rng, shape=(128, 128), resolution=256)
    assert len(three) == 3
    assert prompts not in three


def test_clicks_are_moved_without_a_box_and_keep_their_labels() -> None:
    prompts = Prompts((Point(50, 50), Point(5, 5, False)))
    variants = PromptPerturbation(rule="ugmp", n=40, include_given=False).variants(
        prompts, np.random.default_rng(0), shape=(128, 256), resolution=256
    )
    labels = {tuple(p.positive for p in v.points) for v in variants}
    assert labels == {(True, False)}
    moved = np.array([[(p.y, p.x) for p in v.points] for v in variants]) - [(50, 50), (5, 5)]
    largest = np.abs(moved).max((0, 1))
    assert largest[0] <= 20 / 1024 * 128
    assert largest[1] <= 20 / 1024 * 256
    assert (largest > 0.8 * 20 / 1024 * np.array([128, 256])).all()


def test_a_mask_prompt_alone_is_one_member() -> None:
    engine = FakeEngine()
    prompts = Prompts(mask=MaskPrompt(np.full((64, 64), 2.0)))
    belief = PromptPerturbation().estimate(engine, engine.embed(scene()[0]), prompts, np.random.default_rng(0))
    assert len(belief.members) == 1
    np.testing.assert_allclose(belief.logits(), 2, atol=1e-6)


@pytest.mark.parametrize("rule", ["ugmp", "uncertsam"])
def test_noise_has_the_rules_distribution(rule: str) -> None:
    box, shape = Box(200, 300, 299, 699), (1024, 1024)
    boxes = jitter_boxes(box, 4000, np.random.default_rng(1), shape=shape, resolution=1024, rule=rule)  # type: ignore[arg-type]
    noise = np.array([(b.y0, b.x0, b.y1, b.x1) for b in boxes]) - (200, 300, 299, 699)
    if rule == "ugmp":
        np.testing.assert_allclose(noise.std(0), [5, 20, 5, 20], rtol=0.05)
        np.testing.assert_allclose(noise.mean(0), 0, atol=1)
    else:
        # 0.1 of the height is 10; 0.1 of the width would be 40, the cap is 20 pixels of 1024.
        np.testing.assert_allclose(np.abs(noise).max(0), [10, 20, 10, 20], rtol=0.01)
        np.testing.assert_allclose(noise.std(0), np.array([10, 20, 10, 20]) / np.sqrt(3), rtol=0.05)
    assert np.abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.06


def test_shared_noise_is_a_diagonal_shift() -> None:
    box = Box(30, 30, 49, 69)
    for b in jitter_boxes(box, 20, np.random.default_rng(1), shape=(128, 128), resolution=256, shift="shared"):
        np.testing.assert_allclose((b.height, b.width), (20, 40))
        np.testing.assert_allclose((b.x0 - 30) / 40, (b.y0 - 30) / 20)


sides = st.integers(8, 300)


@given(
    height=sides,
    width=sides,
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    rule=st.sampled_from(["ugmp", "uncertsam"]),
    scale=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_boxes_stay_in_the_view_and_wide_enough(
    height: int, width: int, corners: tuple[float, ...], rule: str, scale: float, seed: int
) -> None:
    y0, x0, y1, x1 = (c * (s - 1) for c, s in zip(corners, (height, width, height, width), strict=True))
    box = Box(y0, x0, y1, x1)
    rng = np.random.default_rng(seed)
    made = jitter_boxes(box, 5, rng, shape=(height, width), resolution=256, rule=rule, scale=scale)  # type: ignore[arg-type]
    assert len(made) == 5
    for b in made:
        assert b.y0 >= 0
        assert b.x0 >= 0
        assert b.y1 <= height * 255 / 256 + 1e-9
        assert b.x1 <= width * 255 / 256 + 1e-9
        assert b.y1 - b.y0 >= min(4, box.y1 - box.y0) - 1e-9
        assert b.x1 - b.x0 >= min(4, box.x1 - box.x0) - 1e-9


@given(height=sides, width=sides, y=st.floats(0, 1), x=st.floats(0, 1))
def test_points_stay_in_the_view(height: int, width: int, y: float, x: float) -> None:
    point = Point(y * (height - 1), x * (width - 1))
    for (moved,) in jitter_points((point,), 5, np.random.default_rng(0), shape=(height, width), resolution=256):
        assert 0 <= moved.y <= height * 255 / 256 + 1e-9
        assert 0 <= moved.x <= width * 255 / 256 + 1e-9


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"rule": "laplace"}, "ugmp, uncertsam"),
        ({"shift": "both"}, "shared"),
        ({"n": 0}, "n = 0"),
        ({"scale": 3.0}, "3.0"),
    ],
)
def test_bad_settings_are_refused(bad: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        PromptPerturbation(**bad)  # type: ignore[arg-type]


def test_medsam_u_s_rule_has_a_name_of_its_own() -> None:
    method = ESTIMATORS["prompt-medsam-u"]()
    assert isinstance(method, PromptPerturbation)
    assert (method.name, method.rule, method.n, method.include_given) == ("prompt-medsam-u", "ugmp", 3, False)
    engine = FakeEngine()
    embedding, prompts = engine.embed(scene()[0]), Prompts(box=Box(40, 34, 87, 97))
    belief = method.estimate(engine, embedding, prompts, np.random.default_rng(3))
    twin = PromptPerturbation.medsam_u().estimate(engine, embedding, prompts, np.random.default_rng(3))
    np.testing.assert_array_equal(belief.logits(), twin.logits())
    assert prompts not in engine.decoded[0]
