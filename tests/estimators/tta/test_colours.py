"""What is drawn for a copy, and what the steps do to the pixels."""

from __future__ import annotations

import colorsys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as pil_functional

from napari_uncertsam.estimators.tta.colours import COLOUR_SETS, ColourJitter, RandomGrey, changed, is_grey


@pytest.fixture
def photo(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_hue_draws_any_turn_of_the_colour_circle(rng: np.random.Generator) -> None:
    drawn = [COLOUR_SETS["hue"].draw(rng) for _ in range(2000)]
    assert all(len(steps) == 1 and steps[0][0] == "hue" for steps in drawn)
    shifts = np.array([steps[0][1] for steps in drawn])
    assert -0.5 <= shifts.min() < -0.49
    assert 0.49 < shifts.max() <= 0.5
    assert shifts.mean() == pytest.approx(0, abs=0.03)
    assert shifts.std() == pytest.approx(1 / np.sqrt(12), rel=0.05)
    assert not COLOUR_SETS["hue"].resized


def test_train_draws_two_jitters_with_a_chance_of_grey_between(rng: np.random.Generator) -> None:
    assert COLOUR_SETS["train"].resized
    drawn = [COLOUR_SETS["train"].draw(rng) for _ in range(2000)]
    grey = [any(name == "grey" for name, _ in steps) for steps in drawn]
    assert np.mean(grey) == pytest.approx(0.05, abs=0.02)
    three = {"brightness", "contrast", "saturation"}
    for stage, widths in ((slice(None, 3), (0.1, 0.03, 0.03)), (slice(-3, None), (0.1, 0.05, 0.05))):
        jitters = [steps[stage] for steps in drawn]
        assert all({name for name, _ in jitter} == three for jitter in jitters)
        orders = Counter(tuple(name for name, _ in jitter) for jitter in jitters)
        assert len(orders) == 6
        assert min(orders.values()) > 250  # 333 each on average
        for name, width in zip(("brightness", "contrast", "saturation"), widths, strict=True):
            factors = np.array([dict(jitter)[name] for jitter in jitters])
            assert 1 - width <= factors.min() < 1 - 0.99 * width
            assert 1 + 0.99 * width < factors.max() <= 1 + width


def test_factors_are_never_negative(rng: np.random.Generator) -> None:
    factors = [ColourJitter(brightness=3.0).draw(rng)[0][1] for _ in range(200)]
    assert 0 <= min(factors) < 0.2
    assert max(factors) <= 4
    assert ColourJitter().draw(rng) == []
    assert RandomGrey(0).draw(rng) == []


def test_steps_do_what_torchvision_does_to_pictures(photo: np.ndarray) -> None:
    """The route of the paper: 8-bit pictures of Pillow."""
    picture = Image.fromarray(photo)
    for name, factor in (("brightness", 1.08), ("contrast", 0.96), ("saturation", 1.05)):
        expected = np.asarray(getattr(pil_functional, f"adjust_{name}")(picture, factor), float)
        assert np.abs(changed(photo, [(name, factor)]) - expected).max() <= 2
    expected = np.asarray(pil_functional.to_grayscale(picture, 3), float)
    assert np.abs(changed(photo, [("grey", 1.0)]) - expected).max() <= 1
    once = changed(photo, [("brightness", 1.1)])
    np.testing.assert_array_equal(
        changed(photo, [("brightness", 1.1), ("contrast", 0.97)]), changed(once, [("contrast", 0.97)])
    )


def test_hue_turns_the_colour_circle(photo: np.ndarray) -> None:
    """Every pixel by the standard library's conversion."""
    shift = 0.3
    expected = np.empty(photo.shape)
    for index in np.ndindex(photo.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*photo[index] / 255)
        expected[index] = colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)
    assert np.abs(changed(photo, [("hue", shift)]) - 255 * expected).max() <= 1.01


def test_resizing_is_what_an_engine_does(photo: np.ndarray) -> None:
    tensor = torch.as_tensor(photo).movedim(-1, 0)[None].float()
    for size in (8, 64):
        resized = torch.nn.functional.interpolate(tensor, (size, size), mode="bilinear", antialias=True)
        copy = changed(photo, [], size)
        assert copy.shape == (size, size, 3)
        assert np.abs(copy - resized[0].movedim(0, -1).numpy()).max() <= 1


def test_hue_leaves_a_grey_image_alone(rng: np.random.Generator) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    assert is_grey(grey)
    for _ in range(10):
        np.testing.assert_array_equal(changed(grey, COLOUR_SETS["hue"].draw(rng)), grey)
    coloured = grey.copy()
    coloured[3, 4, 2] += 1
    assert not is_grey(coloured)
    assert COLOUR_SETS["hue"].keeps_grey
    assert not COLOUR_SETS["train"].keeps_grey


def test_global_generators_and_the_image_are_left_alone(photo: np.ndarray, rng: np.random.Generator) -> None:
    before, torch_state, numpy_state = photo.copy(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    photo.setflags(write=False)
    copy = changed(photo, COLOUR_SETS["train"].draw(rng), 16)
    assert copy.dtype == np.uint8
    np.testing.assert_array_equal(photo, before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
