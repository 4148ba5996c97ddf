"""The posterior that ships with the bundled model, on scenes that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_uncertsam.checkpoints import CACHE_VARIABLE
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.estimators.laplace import GaussianBelief, HierarchicalPosterior, Laplace
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.training.laplace import posterior_facts
from napari_uncertsam.training.laplace_choice import held_out_nll
from napari_uncertsam.training.laplace_data import collect
from napari_uncertsam.training.sources import SyntheticSource
from napari_uncertsam.training.synthetic import make_scene

SCENES, SEED = 20, 987_654


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sam2Engine]:
    """The bundled model, with nothing fitted on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield Sam2Engine.load("bundled", device="cpu")


def test_it_explains_new_scenes_better_than_the_bare_model(engine: Sam2Engine) -> None:
    """Held-out likelihood on prompts as people draw them; it says itself that it did so where it was fitted."""
    posteriors = Laplace().posteriors_of(engine)
    facts = posterior_facts(posteriors.metadata)
    assert facts["checkpoint"] == engine.sha256
    assert facts["seed"] != SEED
    for token in facts["tokens"]:
        assert min(token["held_out_nll"].values()) < token["held_out_nll_before"]

    tokens = collect(engine, SyntheticSource(), images=SCENES, prompts=4, seed=SEED)
    assert len(tokens) == len(posteriors.tokens) == len(facts["tokens"])
    outputs = tokens[0].features.shape[1]
    bare = HierarchicalPosterior(torch.zeros(outputs, outputs, dtype=torch.float64))
    before, after = held_out_nll(bare, tokens[0]), held_out_nll(posteriors.tokens[0], tokens[0])
    assert after < 0.98 * before
    # The other tokens have fewer prompts; together they gain as well.
    rest = [
        (held_out_nll(bare, t), held_out_nll(p, t), len(t))
        for t, p in zip(tokens[1:], posteriors.tokens[1:], strict=True)
        if len(t)
    ]
    assert sum(new * n for _, new, n in rest) < sum(old * n for old, _, n in rest)


def test_it_answers_a_box_without_changing_the_mask(engine: Sam2Engine, rng: np.random.Generator) -> None:
    scene = make_scene(torch.Generator().manual_seed(SEED), engine.resolution)
    embedding = engine.embed((scene.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    prompts = Prompts(box=Box.of_mask(scene.masks[0].numpy()))
    belief = Laplace().estimate(engine, embedding, prompts, rng)
    assert isinstance(belief, GaussianBelief)
    decoded = engine.decode(embedding, [prompts])
    np.testing.assert_array_equal(belief.logits() > 0, decoded.token_logits[0, decoded.token[0]] > 0)
    assert belief.predicted_iou == pytest.approx(float(decoded.token_iou[0, decoded.token[0]]))
    assert 0.02 < belief.mutual_information().max() < 0.5
    low, high = belief.area_interval()
    assert low < (belief.mean > 0).sum() < high
