"""Scenes from a seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uncertsam.training import anatomy, camera, fields, layouts, natural, optics, radiology, shapes, synthetic
from napari_uncertsam.training.canvas import Canvas, Painter
from napari_uncertsam.training.fields import Dice, blur
from napari_uncertsam.training.photographs import PHOTOGRAPHS, photograph_crop, photographs
from napari_uncertsam.training.synthetic import MODALITIES, Scene, make_scene

SIZE = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check(scene: Scene, size: int, most: int) -> None:
    assert scene.image.shape == (3, size, size)
    assert scene.image.dtype == torch.float32
    assert torch.isfinite(scene.image).all()
    assert scene.image.min() >= 0
    assert scene.image.max() <= 1
    count = len(scene.masks)
    assert 1 <= count <= most
    assert scene.masks.shape == (count, size, size)
    assert scene.masks.dtype == torch.bool
    area = scene.masks.float().mean((1, 2))
    assert (area > 8e-4).all()
    assert (area < 0.75).all()
    assert scene.masks.sum(0).max() == 1  # what is visible of one object is not of another


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**40), size=st.integers(24, 80), zoom=st.floats(0, 1), most=st.integers(1, 6))
def test_scenes_are_valid(seed: int, size: int, zoom: float, most: int) -> None:
    check(make_scene(generator(seed), size, zoom=zoom, max_objects=most), size, most)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("seed", range(2))
def test_each_modality_gives_valid_scenes(modality: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "MODALITIES", {modality: 1.0})
    scene = make_scene(generator(seed), SIZE)
    check(scene, SIZE, 6)
    assert scene.image.std() > 0


def test_every_modality_is_reached_and_can_be_drawn() -> None:
    dice = Dice(generator())
    assert {dice.choice(MODALITIES) for _ in range(600)} == set(MODALITIES) == set(synthetic.DRAWERS)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_canvas_is_labelled_from_one(modality: str) -> None:
    for side in (40, 131):  # levels are evaluated on the canvas itself, or at half its resolution
        image, canvas = synthetic.draw(Dice(generator(7)), side, modality)
        assert image.shape == (3, side, side)
        assert torch.isfinite(image).all()
        assert canvas.labels.shape == (side, side)
        assert 0 <= canvas.labels.min() <= canvas.labels.max() <= canvas.count


def test_scenes_follow_from_the_seed() -> None:
    stream = generator(5)
    first, second = make_scene(stream, SIZE), make_scene(stream, SIZE)
    torch.rand(7)  # the global stream has no part in it
    again = make_scene(generator(5), SIZE)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.image, second.image)


def test_the_camera_zooms_in_on_the_first_object() -> None:
    near = [make_scene(generator(seed), SIZE, zoom=1.0).masks[0].float().mean() for seed in range(10)]
    far = [make_scene(generator(seed), SIZE, zoom=0.0).masks[0].float().mean() for seed in range(10)]
    assert torch.stack(near).median() > 1.3 * torch.stack(far).median()


@pytest.mark.parametrize("kind", shapes.SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_shapes_are_inside_and_outside(kind: str, seed: int) -> None:
    y, x = fields.grid(48, 48)
    level = shapes.SHAPES[kind](fields.Dice(generator(seed)), y, x, 0.5, 0.8)
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


TABLES = {
    "modalities": MODALITIES,
    "layouts": layouts.LAYOUTS,
    "shapes": shapes.SHAPE_WEIGHTS,
    "framings": camera.FRAMING_WEIGHTS,
    "sections": anatomy.SECTIONS,
    "weightings": radiology.MR_WEIGHTINGS,
    "windows": radiology.CT_WINDOWS,
    "views": radiology.XRAY_VIEWS,
    "stains": optics.STAINS,
    "frames": optics.FRAMES,
    "things": natural.THINGS,
    "materials": natural.MATERIALS,
    "glasses": natural.GLASSES,
}


@pytest.mark.parametrize("name", TABLES)
def test_probabilities_sum_to_one(name: str) -> None:
    assert sum(TABLES[name].values()) == pytest.approx(1)


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
        assert min(photo.shape[1:]) >= 256
        assert 0 <= photo.min() <= photo.max() <= 1 + 1e-5
    assert photograph_crop(fields.Dice(generator(3)), 30, 50).shape == (3, 30, 50)


def test_a_mask_is_where_the_paint_is() -> None:
    dice = Dice(generator(2))
    canvas = Canvas(dice, 50, 70)
    disc = 0.5 - torch.sqrt(canvas.y**2 + canvas.x**2)
    first = canvas.put(disc, 1.0, softness=1e-6)
    assert torch.equal(canvas.labels == first, canvas.image[0] > 0.5)
    assert (canvas.labels == first).sum().item() == pytest.approx(torch.pi * (0.5 / canvas.pixel) ** 2, rel=0.02)
    where = canvas.window(0.1, -0.2, 0.2)
    corner = 0.203 - torch.maximum((canvas.y[where] - 0.1).abs(), (canvas.x[where] + 0.2).abs())
    second = canvas.put(corner, 0.0, where=where, softness=1e-6)  # hides part of the disc
    assert torch.equal(canvas.labels == first, canvas.image[0] > 0.5)
    assert (canvas.labels == second).sum().item() == pytest.approx((0.406 / canvas.pixel) ** 2, rel=0.15)
    assert canvas.put(disc - 0.3, 0.7, first, softness=1e-6) == first  # a part of an object is the object
    assert canvas.count == 2


@pytest.mark.parametrize("name", anatomy.SECTIONS)
def test_flat_tissues_give_the_masks_back(name: str) -> None:
    """With sharp edges and tissues of one grey each, a bone is where its greys are."""
    canvas = Canvas(Dice(generator(4)), 96, 96)
    tissues = dict.fromkeys(radiology.CT_TISSUES, 0.0) | {"cortex": 1.0, "marrow": 1.0}
    canvas.softness = 1e-6
    anatomy.bone(canvas, tissues, anatomy.oval(canvas, 0.1, 0.0, 0.4, 0.2), 0.05)
    assert torch.equal(canvas.labels == 1, canvas.image[0] > 0.5)
    getattr(anatomy, name)(canvas, tissues, 0.0)
    assert len(canvas.labels.unique()) > 2
    assert torch.isfinite(canvas.image).all()


def test_cells_of_a_partition_are_nearest_to_their_centre() -> None:
    canvas = Canvas(Dice(generator(1)), 40, 40)
    levels, distances = (torch.stack(v) for v in zip(*layouts.partition(canvas, 7, 0.0), strict=True))
    assert ((levels > 0).sum(0) <= 1).all()
    assert torch.equal(levels.argmax(0), distances.argmin(0))


def test_simple_shapes_have_their_area() -> None:
    y, x = fields.grid(200, 200)
    dice, pixel = Dice(generator()), 0.01
    ellipse = shapes.lobe(dice, y, x, 0.5, 0.3, 0.7, 0.0) > 0
    assert ellipse.sum().item() * pixel**2 == pytest.approx(torch.pi * 0.15, rel=0.01)
    assert (shapes.box(y, x, 0.4, 0.2, 0.5) > 0).sum().item() * pixel**2 == pytest.approx(0.32, rel=0.01)
    limb = shapes.capsule(y, x, (-0.5, 0.0), (0.5, 0.0), 0.1, 0.1) > 0
    assert limb.sum().item() * pixel**2 == pytest.approx(0.2 + torch.pi * 0.01, rel=0.02)


def test_a_ray_through_a_solid_and_a_hollow_bone() -> None:
    level = torch.tensor([-0.1, 0.0, 0.5, 1.0])
    solid = radiology.shaft(level, 1.0, 1.0)
    assert torch.allclose(solid, torch.tensor([0.0, 0.0, 0.75**0.5, 1.0]))
    assert radiology.shaft(level, 1.0, 0.2)[3].item() == pytest.approx(1 - 0.85 * 0.8)


def test_the_camera_frames_as_its_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.zeros(1, 200, 200, dtype=torch.bool)
    masks[0, 80:100, 90:110] = True
    image = masks.float().expand(3, -1, -1)
    for framing, (low, high) in camera.FRAMINGS.items():
        monkeypatch.setattr(camera, "FRAMING_WEIGHTS", {framing: 1.0})
        for seed in range(4):
            seen, inside = camera.look(Dice(generator(seed)), image, masks, 64, 1.0)
            share = inside.float().mean().sqrt().item()
            assert 0.9 / high < share < 1.1 / low
            assert ((seen[0] > 0.5) != inside[0]).float().mean() < 0.05


def test_a_painter_in_grey_stays_grey() -> None:
    for seed in range(6):
        painter = Painter(Dice(generator(seed)), 40, 40)
        painter.fill(painter.material(natural=0.5))
        layouts.scattered(painter, 3, 0.1, 0.5)
        assert painter.colour or torch.equal(painter.image[0], painter.image[2])


def test_what_looks_as_its_surroundings_is_not_discernible() -> None:
    masks = torch.zeros(2, 96, 96, dtype=torch.bool)
    masks[0, 20:40, 20:40] = True
    masks[1, 60:80, 60:80] = True
    image = 0.5 + 0.02 * torch.randn(3, 96, 96, generator=generator()) + 0.3 * masks[0]
    assert camera.discernible(image, masks).tolist() == [True, False]
