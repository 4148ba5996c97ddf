"""What MedSAM-U leaves open about its perturbed boxes: averaging, mask token, noise in pixels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.prompt_perturbation import PromptPerturbation, jitter_boxes
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.uncertainty import sigmoid
from tests.fakes import FakeEngine, scene

PROMPTS = Prompts(box=Box(48, 56, 95, 119))


def members(**options: object) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the belief and the members' logits by the engine's own token."""
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    chosen = PromptPerturbation("ugmp", 4, 0.2, include_given=False, **options)  # type: ignore[arg-type]
    belief = chosen.estimate(engine, embedding, PROMPTS, np.random.default_rng(3))
    variants = chosen.variants(PROMPTS, np.random.default_rng(3), shape=embedding.shape, resolution=engine.resolution)
    return belief.probability(), engine.decode(embedding, variants).token_logits.numpy()


def test_what_is_averaged() -> None:
    mean, tokens = members()
    own = tokens[:, 0]
    np.testing.assert_allclose(mean, sigmoid(own).mean(0), atol=1e-5)
    np.testing.assert_allclose(members(average="logit")[0], sigmoid(own.mean(0)), atol=1e-5)
    np.testing.assert_allclose(members(average="binary")[0], (own > 0).mean(0), atol=1e-5)


def test_which_token() -> None:
    first, tokens = members(token="first")
    np.testing.assert_allclose(first, sigmoid(tokens[:, 0]).mean(0), atol=1e-5)
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    decoded = engine.decode(embedding, [PROMPTS])
    best = int(decoded.token_iou[0].argmax())
    found = PromptPerturbation(n=1, token="best-iou").estimate(engine, embedding, PROMPTS, np.random.default_rng(0))
    np.testing.assert_allclose(found.logits(), decoded.token_logits[0, best].numpy(), atol=1e-4)
    assert found.predicted_iou == pytest.approx(float(decoded.token_iou[0, best]))


def test_noise_in_pixels_is_the_same_for_every_box() -> None:
    spread = []
    for box in (Box(100, 100, 119, 119), Box(60, 60, 179, 179)):
        rng = np.random.default_rng(0)
        made = jitter_boxes(box, 4000, rng, shape=(256, 256), resolution=256, rule="pixels", scale=0.01)
        spread.append(np.std([b.y0 for b in made]))
    np.testing.assert_allclose(spread, 2.56, rtol=0.05)


def test_options_are_checked() -> None:
    for bad in ({"average": "median"}, {"token": "last"}, {"rule": "metres"}):
        with pytest.raises(InputError, match="choose one of"):
            PromptPerturbation(**bad)  # type: ignore[arg-type]
