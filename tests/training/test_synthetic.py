"""Scenes from a seed."""

from __future__ import annotations

import pytest
import torch

from napari_uncertsam.training import fields
from napari_uncertsam.training.synthetic import LAYOUTS, PHOTOGRAPHS, blur, make_scene, photograph_crop, photographs

SIZE = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(12))
def test_scenes_are_valid(seed: int) -> None:
    scene = make_scene(generator(seed), SIZE, max_objects=4)
    assert scene.image.shape == (3, SIZE, SIZE)
    assert scene.image.dtype == torch.float32
    assert torch.isfinite(scene.image).all()
    assert scene.image.min() >= 0
    assert scene.image.max() <= 1
    assert scene.image.std() > 0
    count = len(scene.masks)
    assert 1 <= count <= 4
    assert scene.masks.shape == (count, SIZE, SIZE)
    assert scene.masks.dtype == torch.bool
    area = scene.masks.float().mean((1, 2))
    assert (area > 8e-4).all()
    assert (area < 0.75).all()
    assert scene.masks.sum(0).max() == 1  # what is visible of one object is not of another


def test_scenes_follow_from_the_seed() -> None:
    stream = generator(5)
    first, second = make_scene(stream, SIZE), make_scene(stream, SIZE)
    torch.rand(7)  # the global stream has no part in it
    again = make_scene(generator(5), SIZE)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.image, second.image)


def test_the_camera_zooms_in_on_the_first_object() -> None:
    near = [make_scene(generator(seed), SIZE, zoom=1.0).masks[0].float().mean() for seed in range(15)]
    far = [make_scene(generator(seed), SIZE, zoom=0.0).masks[0].float().mean() for seed in range(15)]
    assert torch.stack(near).median() > 2 * torch.stack(far).median()


@pytest.mark.parametrize("kind", fields.SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_shapes_are_inside_and_outside(kind: str, seed: int) -> None:
    y, x = fields.grid(48, 48)
    level = fields.SHAPES[kind](fields.Dice(generator(seed)), y, x, 0.5, 0.8)
    assert level.shape == (48, 48)
    assert torch.isfinite(level).all()
    assert (level > 0).any()
    assert (level[[0, 0, -1, -1], [0, -1, 0, -1]] < 0).all()


def test_coordinates_span_the_longer_side() -> None:
    y, x = fields.grid(4, 8)
    assert x[0].tolist() == [-0.875, -0.625, -0.375, -0.125, 0.125, 0.375, 0.625, 0.875]
    assert y[:, 0].tolist() == [-0.375, -0.125, 0.125, 0.375]


def test_noise_and_texture_have_unit_scale() -> None:
    dice = fields.Dice(generator())
    noise = torch.stack([fields.smooth_noise(dice, 64, 64, 8)[0] for _ in range(30)])
    assert 0.6 < noise.std() < 1.4
    assert fields.smooth_noise(dice, 16, 16, 40).shape == (1, 16, 16)  # finer than the pixels: white
    assert fields.texture(dice, 20, 30, 3).shape == (3, 20, 30)


def test_draws_stay_in_their_range() -> None:
    dice = fields.Dice(generator())
    assert all(2 <= dice.uniform(2, 3) < 3 for _ in range(200))
    assert all(0.01 <= dice.log_uniform(0.01, 100) < 100.001 for _ in range(200))
    assert {dice.integer(1, 4) for _ in range(200)} == {1, 2, 3}
    share = sum(dice.choice({"a": 3, "b": 1}) == "a" for _ in range(400)) / 400
    assert 0.65 < share < 0.85
    assert sum(LAYOUTS.values()) == pytest.approx(1)
    assert sum(fields.SHAPE_WEIGHTS.values()) == pytest.approx(1)


def test_blur_keeps_the_mean_of_a_constant_and_spreads_a_point() -> None:
    assert torch.allclose(blur(torch.full((3, 20, 20), 0.4), 1.5), torch.full((3, 20, 20), 0.4))
    point = torch.zeros(1, 21, 21)
    point[0, 10, 10] = 1
    spread = blur(point, 1.2)[0]
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    variance = ((torch.arange(21) - 10.0) ** 2 * spread.sum(1)).sum()
    assert variance.sqrt().item() == pytest.approx(1.2, abs=0.1)


def test_photographs_come_with_scikit_image() -> None:
    loaded = photographs()
    assert len(loaded) == len(PHOTOGRAPHS)
    for photo in loaded:
        assert photo.shape[0] == 3
        assert max(photo.shape[1:]) <= 384
        assert 0 <= photo.min() <= photo.max() <= 1 + 1e-5
    assert photograph_crop(fields.Dice(generator(3)), 30, 50).shape == (3, 30, 50)
