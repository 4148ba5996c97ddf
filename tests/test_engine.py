"""The engine against SAM2ImagePredictor on the same (random) weights, and what it captures on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from napari_uncertsam.engine import Embedding, Engine, Sam2Engine, WatchedEngine, build_model, config_path
from napari_uncertsam.errors import CheckpointError, EngineError, InputError
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from tests.fakes import FakeEngine, scene

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"
BOX = Box(60, 40, 150, 130)
POINTS = (Point(100, 90), Point(20, 200, positive=False))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (180, 240, 3), dtype=np.uint8)
    image[60:150, 40:130] += 120
    return image


@pytest.fixture(scope="module")
def tiny() -> Sam2Engine:
    torch.manual_seed(0)
    return Sam2Engine(build_model(TINY, fallback=True), "sam2.1-tiny (random weights)", device="cpu")


@pytest.fixture(scope="module")
def tiny_embedding(tiny: Sam2Engine, image: np.ndarray) -> Embedding:
    return tiny.embed(image)


@pytest.fixture(scope="module")
def predictor(tiny: Sam2Engine, image: np.ndarray):
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(tiny.model)
    predictor.set_image(image)
    return predictor


@pytest.fixture(scope="module")
def small() -> Sam2Engine:
    """The bundled architecture with random weights: everything that does not need a predictor is fast with it."""
    from importlib.resources import files

    torch.manual_seed(1)
    config = str(files("napari_uncertsam") / "weights" / "bundled.yaml")
    return Sam2Engine(build_model(config), "bundled (random weights)", device="cpu")


def reference(predictor, prompts: Prompts) -> np.ndarray:
    xy = np.array([(p.x, p.y) for p in prompts.points], np.float32) if prompts.points else None
    labels = np.array([int(p.positive) for p in prompts.points]) if prompts.points else None
    box = None if prompts.box is None else np.array([prompts.box.x0, prompts.box.y0, prompts.box.x1, prompts.box.y1])
    mask = None if prompts.mask is None else prompts.mask.logits[None].copy()
    return predictor.predict(xy, labels, box, mask, multimask_output=False)[2][0]


MASK = MaskPrompt(np.random.default_rng(3).normal(0, 4, (256, 256)).astype(np.float32))


@pytest.mark.parametrize(
    "prompts",
    [Prompts(box=BOX), Prompts(POINTS), Prompts(POINTS, BOX), Prompts(POINTS[:1], None, MASK), Prompts((), BOX, MASK)],
    ids=["box", "points", "both", "point and mask", "box and mask"],
)
def test_same_logits_as_the_predictor(tiny, tiny_embedding, predictor, prompts: Prompts) -> None:
    ours = tiny.decode(tiny_embedding, [prompts]).logits[0].clamp(-32, 32).numpy()
    np.testing.assert_allclose(ours, reference(predictor, prompts), atol=1e-4)


def test_a_batch_of_different_forms_gives_what_each_gives_alone(tiny, tiny_embedding, predictor) -> None:
    batch = [Prompts(POINTS), Prompts(box=BOX), Prompts(POINTS[:1]), Prompts(POINTS, BOX), Prompts(box=BOX.expand(0.8))]
    together = tiny.decode(tiny_embedding, batch)
    for index, prompts in enumerate(batch):
        ours = together.logits[index].clamp(-32, 32).numpy()
        np.testing.assert_allclose(ours, reference(predictor, prompts), atol=1e-3)


def test_logits_follow_from_what_was_captured(tiny, tiny_embedding) -> None:
    decoded = tiny.decode(tiny_embedding, [Prompts(box=BOX), Prompts(POINTS)])
    mlps = tiny.model.sam_mask_decoder.output_hypernetworks_mlps
    for row in range(2):
        last = mlps[int(decoded.token[row])].layers[-1]
        with torch.no_grad():
            rebuilt = torch.einsum("k,khw->hw", last(decoded.hidden[row]), decoded.features[row])
        torch.testing.assert_close(rebuilt, decoded.logits[row], atol=1e-4, rtol=1e-4)
        token = decoded.token[row]
        torch.testing.assert_close(decoded.token_logits[row, token], decoded.logits[row])
        torch.testing.assert_close(decoded.token_hidden[row, token], decoded.hidden[row])
        torch.testing.assert_close(decoded.token_iou[row, token], decoded.iou[row])


def test_shapes_follow_the_model_not_the_image(small) -> None:
    embedding = small.embed(np.zeros((33, 70, 3), np.uint8))
    decoded = small.decode(embedding, [Prompts(box=Box(3, 4, 20, 30))] * 3)
    assert embedding.shape == (33, 70)
    assert decoded.logits.shape == (3, 96, 96)
    assert decoded.hidden.shape == (3, 128)
    assert decoded.features.shape == (3, 16, 96, 96)
    assert decoded.token_logits.shape == (3, 4, 96, 96)
    assert torch.isfinite(decoded.logits).all()


def test_one_captured_decode_runs_the_decoder_once(small, monkeypatch) -> None:
    embedding, calls = small.embed(np.zeros((64, 64, 3), np.uint8)), []
    original = small.model.sam_mask_decoder.predict_masks
    monkeypatch.setattr(small.model.sam_mask_decoder, "predict_masks", lambda **k: (calls.append(1), original(**k))[1])
    small.decode(embedding, [Prompts(box=Box(1, 1, 30, 30))] * 4)
    assert len(calls) == 1


def test_nothing_to_segment_from(small) -> None:
    embedding = small.embed(np.zeros((32, 32, 3), np.uint8))
    for prompts in ([], [Prompts()]):
        with pytest.raises(InputError, match="draw a box"):
            small.decode(embedding, prompts)


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)])
def test_only_rgb_bytes_are_embedded(small, bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        small.embed(bad)


def test_running_out_of_memory_is_a_sentence(small, monkeypatch) -> None:
    def exhausted(_images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(small.model, "forward_image", exhausted)
    with pytest.raises(EngineError, match="not enough memory"):
        small.embed(np.zeros((8, 8, 3), np.uint8))


def test_an_absent_device_is_a_sentence() -> None:
    with pytest.raises(EngineError, match="choose auto or cpu"):
        Sam2Engine(torch.nn.Identity(), "none", device="cuda:77")


def test_weights_of_another_model_are_refused(tmp_path, small) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="do not fit"):
        Sam2Engine.load(str(path), TINY)


def test_a_configuration_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match="no model configuration"):
        config_path("configs/none.yaml")


@pytest.mark.parametrize("text", ["not: a model", "model: [1, 2", ""])
def test_a_damaged_configuration_is_a_sentence(tmp_path, text: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="not a SAM 2 model configuration"):
        build_model(path)


def test_building_leaves_the_random_stream_alone(tmp_path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Sam2Engine.load("bundled", device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_a_watched_engine_says_what_the_other_says() -> None:
    other, calls, image = FakeEngine(), [], scene()[0]

    @contextmanager
    def embedding() -> Iterator[None]:
        calls.append("embedding")
        yield
        calls.append("embedded")

    watched = WatchedEngine(other, embedding, lambda: calls.append("decoding"))
    assert isinstance(watched, Engine)
    for name in ("name", "device_label", "sha256", "resolution"):
        assert getattr(watched, name) == getattr(other, name)
    seen = watched.embed(image)
    prompts = [Prompts(box=BOX), Prompts(box=BOX)]
    first = watched.decode(seen, prompts)
    assert torch.equal(first.logits, other.decode(seen, prompts).logits)
    lifted = watched.decode(seen, prompts, dense=lambda zeros: zeros + 2)
    assert torch.allclose(lifted.logits, first.logits + 2)
    assert calls == ["embedding", "embedded", "decoding", "decoding"]

    def stop() -> None:
        raise EngineError("stop")

    with pytest.raises(EngineError, match="stop"):
        WatchedEngine(other, embedding, stop).decode(seen, prompts)
    assert other.decode_calls == 3
