"""Copies in other colours: which, how many, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_uncertsam.errors import EngineError, InputError
from napari_uncertsam.estimators.tta.colours import changed
from napari_uncertsam.estimators.tta.copies import LooksAtCopies
from napari_uncertsam.estimators.tta.photometric import PhotometricTta
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.uncertainty import sigmoid
from tests.fakes import FakeEngine, scene

OBJECT = Box(40, 34, 87, 97)
BOX = Prompts(box=OBJECT)


def coloured() -> np.ndarray:
    """The scene in orange on blue, with a long soft edge so that a change of brightness moves the border."""
    image = scene()[0].astype(float)
    image[:, :, 0] *= np.linspace(0.5, 1.2, 128)
    image[:, :, 2] *= 0.3
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("name", ["tta", "tta-train"])
def test_only_the_first_prompt_on_an_image_pays(name: str, rng: np.random.Generator) -> None:
    engine, method = FakeEngine(), make_method(name)
    embedding = engine.embed(coloured())
    first = method.estimate(engine, embedding, BOX, rng)
    assert (engine.embed_calls, engine.decode_calls) == (11, 10)
    assert set(engine.decoded) == {(BOX,)}
    again = method.estimate(engine, embedding, BOX, rng)  # the generator of the prompt has moved on
    other = method.estimate(engine, embedding, Prompts((Point(64, 64),)), np.random.default_rng(99))
    assert (engine.embed_calls, engine.decode_calls) == (11, 30)
    np.testing.assert_array_equal(first.members, again.members)  # type: ignore[attr-defined]
    assert other.shape == first.shape
    assert first.mutual_information().max() > 1e-3
    assert embedding.nbytes > 11 * embedding.features[0].nbytes
    assert all(copy.image is None for copy in embedding.derived.values())


def test_the_copies_depend_on_image_and_seed(rng: np.random.Generator) -> None:
    engine, image = FakeEngine(), coloured()
    members = [
        PhotometricTta("train", seed=seed).estimate(engine, engine.embed(pixels), BOX, rng).members
        for seed, pixels in ((0, image), (0, image.copy()), (1, image), (0, np.roll(image, 1, 0)))
    ]
    np.testing.assert_array_equal(members[0], members[1])
    assert not np.array_equal(members[0], members[2])
    assert not np.allclose(members[0][:, :-2], members[3][:, :-2], atol=0.1)


def test_more_copies_and_other_sets_share_what_is_there(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding = engine.embed(coloured())
    for method, embeds in (
        (PhotometricTta("hue", n=4), 4),
        (PhotometricTta("hue", n=6), 6),
        (PhotometricTta("hue", n=2), 6),
        (PhotometricTta("train", n=3), 9),
        (PhotometricTta("hue", n=3, seed=1), 12),
    ):
        assert isinstance(method, LooksAtCopies)
        assert method.copies == method.n
        assert len(method.estimate(engine, embedding, BOX, rng).members) == method.n
        assert engine.embed_calls == 1 + embeds


def test_the_mean_is_of_the_copies_alone(rng: np.random.Generator) -> None:
    """The other route: change, embed and decode the copies here."""
    engine, image, steps = FakeEngine(), coloured(), [("hue", 0.25)]
    method = PhotometricTta("hue", n=1)
    embedding = engine.embed(image)
    embedding.derived[("colours", "hue", 0, 0)] = replace(engine.embed(changed(image, steps)), image=None)
    belief = method.estimate(engine, embedding, BOX, rng)
    expected = engine.decode(engine.embed(changed(image, steps)), [BOX])
    np.testing.assert_allclose(belief.logits(), expected.logits[0], atol=1e-5)
    assert belief.predicted_iou == pytest.approx(float(expected.iou[0]))
    ten = PhotometricTta("train").estimate(engine, embedding, BOX, rng)
    np.testing.assert_allclose(ten.probability(), sigmoid(ten.members).mean(0), atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 128), (30, 200)])
def test_prompts_stay_in_the_frame_of_the_view(shape: tuple[int, int], rng: np.random.Generator) -> None:
    """Copies of "train" are square, and a huge view is thinned out, but prompts are in pixels of the view."""
    engine = FakeEngine()
    embedding = replace(engine.embed(coloured()), shape=shape)
    for colours in ("hue", "train"):
        PhotometricTta(colours).estimate(engine, embedding, BOX, rng)  # type: ignore[arg-type]
    assert {copy.shape for copy in embedding.derived.values()} == {shape}


def test_a_grey_image_has_no_hue_to_change(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding = engine.embed(scene()[0])
    belief = PhotometricTta("hue").estimate(engine, embedding, BOX, rng)
    assert (engine.embed_calls, engine.decode_calls) == (1, 1)
    np.testing.assert_allclose(belief.logits(), engine.decode(embedding, [BOX]).logits[0], atol=1e-5)
    assert belief.mutual_information().max() == 0
    PhotometricTta("train").estimate(engine, embedding, BOX, rng)
    assert engine.embed_calls == 11


def test_an_embedding_without_pixels_is_refused(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    bare = replace(engine.embed(coloured()), image=None)
    with pytest.raises(InputError, match="holds no pixels"):
        PhotometricTta().estimate(engine, bare, BOX, rng)


def test_a_failure_in_between_leaves_what_was_done(rng: np.random.Generator) -> None:
    engine = FakeEngine()
    embedding = engine.embed(coloured())
    PhotometricTta(n=3).estimate(engine, embedding, BOX, rng)
    engine.fail = "embed"
    with pytest.raises(EngineError, match="memory"):
        PhotometricTta().estimate(engine, embedding, BOX, rng)
    engine.fail = None
    PhotometricTta().estimate(engine, embedding, BOX, rng)
    assert len(embedding.derived) == 10


@pytest.mark.parametrize(
    ("bad", "match"), [({"colours": "sepia"}, "hue, train"), ({"n": 0}, "n = 0"), ({"seed": -1}, "-1")]
)
def test_bad_settings_are_refused(bad: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        PhotometricTta(**bad)  # type: ignore[arg-type]
