"""Mirrored and turned copies: exact where the model does not mind, uncertain where it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_uncertsam.engine import Decoded, DenseTransform, Embedding
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import EnsembleBelief
from napari_uncertsam.estimators.tta.geometric import GROUPS, SCALES, TURN, GeometricTta
from napari_uncertsam.estimators.tta.warps import SmallWarp
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.uncertainty import LN2
from napari_uncertsam.view import View
from tests.fakes import FakeEngine, scene

CASES = {
    "square": ((128, 128), Box(40, 34, 87, 97)),
    "wide": ((60, 200), Box(10, 90, 41, 171)),
    "tall": ((210, 75), Box(30, 12, 100, 50)),
    "small": ((24, 40), Box(5, 8, 15, 30)),
}


def look(name: str, engine: FakeEngine) -> tuple[Embedding, View, Box]:
    (height, width), box = CASES[name]
    image = scene(height, width, box)[0]
    return engine.embed(image), View.whole(height, width), box


class Tilted(FakeEngine):
    """Sees an object the better the higher up it is."""

    def decode(
        self, embedding: Embedding, prompts: Sequence[Prompts], *, dense: DenseTransform | None = None
    ) -> Decoded:
        decoded = super().decode(embedding, prompts, dense=dense)
        decoded.logits.sub_(torch.linspace(0, 9, decoded.logits.shape[1])[:, None])
        return decoded


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["box", "part of the object", "points", "box and point", "mask"])
def test_members_agree_when_the_model_does_not_mind(name: str, kind: str, rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding, view, box = look(name, engine)
    y, x = box.centre
    part = replace(box, y1=box.centre[0] + 1.3, x0=box.x0 + 2.6)
    mask = MaskPrompt(np.add.outer(np.linspace(-3, 2, 64), np.linspace(0, 4, 64)).astype(np.float32))
    prompts = {
        "box": Prompts(box=box),
        "part of the object": Prompts(box=part),
        "points": Prompts((Point(y, x), Point(box.y0 + 1, x + 3), Point(1, 2, False))),
        "box and point": Prompts((Point(y - 2, x + 5, False),), box),
        "mask": Prompts(box=box, mask=mask),
    }[kind]
    local = view.prompts_to_view(prompts, engine.resolution)
    belief = GeometricTta().estimate(engine, embedding, local, rng)
    assert belief.members.shape == (8, 64, 64)
    np.testing.assert_allclose(belief.members, np.broadcast_to(belief.members[0], (8, 64, 64)), atol=1e-4)
    assert belief.mutual_information().max() < 1e-5
    single = engine.decode(embedding, [local])
    np.testing.assert_allclose(belief.logits(), single.logits[0], atol=1e-3)
    assert belief.predicted_iou == pytest.approx(float(single.iou[0]), abs=1e-4)


def test_members_disagree_when_the_model_minds(rng: np.random.Generator) -> None:
    """The other route: numpy's turns and mirrors, without prompts' geometry (the object is in the middle)."""
    engine, plain = Tilted(), FakeEngine()
    image = scene(128, 128, Box(34, 34, 93, 93))[0]
    prompts = View.whole(128, 128).prompts_to_view(Prompts(box=Box(34, 34, 93, 93)), 256)
    belief = GeometricTta().estimate(engine, engine.embed(image), prompts, rng)
    assert belief.mutual_information().max() > 0.1 * LN2
    straight = plain.decode(plain.embed(image), [prompts]).logits[0].numpy()
    slope = np.broadcast_to(np.linspace(0, 9, 64)[:, None], (64, 64))
    expected = [straight - mirror for k in range(4) for mirror in (np.rot90(slope, k), np.rot90(slope, k)[:, ::-1])]
    for member in belief.members:
        assert min(np.abs(member - e).max() for e in expected) < 1e-3


def test_only_the_first_prompt_on_an_image_pays(rng: np.random.Generator) -> None:
    engine, method = FakeEngine(), make_method("tta-geometric")
    embedding, view, box = look("wide", engine)
    for decodes in (8, 16):
        method.estimate(engine, embedding, view.prompts_to_view(Prompts(box=box), 256), rng)
        assert (engine.embed_calls, engine.decode_calls) == (8, decodes)
    assert {copy.shape for copy in embedding.derived.values()} == {(60, 200), (200, 60)}
    assert GeometricTta().copies == 7


@pytest.mark.parametrize("name", ["square", "wide"])
def test_small_warps_come_back_close(name: str, rng: np.random.Generator) -> None:
    engine = FakeEngine(1024)
    embedding, view, box = look(name, engine)
    method = GeometricTta("none", warps=6)
    assert method.copies == 6
    belief = method.estimate(engine, embedding, view.prompts_to_view(Prompts(box=box), 1024), rng)
    assert belief.members.shape == (7, 256, 256)
    assert engine.embed_calls == 7
    masks = belief.members > 0
    for mask in masks[1:]:
        assert 2 * (mask & masks[0]).sum() / (mask.sum() + masks[0].sum()) > 0.95
    # Corners that a warp does not show have the logits of the image as it is.
    corners = belief.members[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, np.broadcast_to(corners[0], corners.shape), atol=1e-3)


def test_small_warps_belong_to_the_image_and_the_seed() -> None:
    image, other = scene()[0], scene(seed=1)[0]
    [*first] = GeometricTta("none", warps=200).changes(image)
    assert all(isinstance(w, SmallWarp) for w in first)
    turns, scales = (np.array([getattr(w, what) for w in first]) for what in ("degrees", "scale"))
    assert -TURN <= turns.min() < -0.95 * TURN
    assert 0.95 * TURN < turns.max() <= TURN
    assert SCALES[0] <= scales.min() < 0.86
    assert 1.14 < scales.max() <= SCALES[1]
    assert GeometricTta("none", warps=3).changes(image.copy()) == tuple(first[:3])
    assert GeometricTta("none", warps=3, seed=1).changes(image) != tuple(first[:3])
    assert GeometricTta("none", warps=3).changes(other) != tuple(first[:3])


def test_groups_contain_each_other() -> None:
    assert [len(GROUPS[name]) for name in ("square", "flips", "mirror", "none")] == [8, 4, 2, 1]
    assert not any(s.transpose for s in GROUPS["flips"])
    assert [(s.flip_y, s.flip_x) for s in GROUPS["mirror"]] == [(False, False), (False, True)]
    assert GeometricTta("none").copies == 0
    engine = FakeEngine()
    embedding, view, box = look("square", engine)
    prompts = view.prompts_to_view(Prompts(box=box), 256)
    belief = GeometricTta("none").estimate(engine, embedding, prompts, np.random.default_rng(0))
    assert isinstance(belief, EnsembleBelief)
    np.testing.assert_allclose(belief.logits(), engine.decode(embedding, [prompts]).logits[0], atol=1e-5)


def test_an_embedding_without_pixels_is_refused(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding, _, box = look("square", engine)
    with pytest.raises(InputError, match="holds no pixels"):
        GeometricTta().estimate(engine, replace(embedding, image=None), Prompts(box=box), rng)


@pytest.mark.parametrize(
    ("bad", "match"), [({"symmetries": "cube"}, "square, flips"), ({"warps": -1}, "-1"), ({"seed": -2}, "-2")]
)
def test_bad_settings_are_refused(bad: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        GeometricTta(**bad)  # type: ignore[arg-type]
