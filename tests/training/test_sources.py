"""Training images from a dataset: what is cropped, where the masks lie, what is read and how often."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case, Dataset
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.training.schedule import mask_corners
from napari_uncertsam.training.sources import CaseSource, Source, SyntheticSource, dataset_data, synthetic_data
from napari_uncertsam.view import ZOOM, View
from napari_uncertsam.volume import Volume, Window
from tests.fakes import scene
from tests.tiny import tiny_engine

SIZE = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Cases:
    """A dataset in memory that counts what is read."""

    name = "in memory"

    def __init__(self, **images: Sequence[Case]) -> None:
        self.content, self.reads = images, []

    def images(self) -> Sequence[str]:
        return list(self.content)

    def load(self, image: str) -> Sequence[Case]:
        self.reads.append(image)
        return self.content[image]


def cases(name: str, *boxes: Box, shape: tuple[int, int] = (128, 160), **options: object) -> list[Case]:
    image, labels = scene(*shape, *boxes)
    volume = Volume(image, rgb=True, name=name)
    return [Case(name, k, volume, labels == k, **options) for k in range(1, len(boxes) + 1)]


ONE = Box(40, 34, 87, 97)


def test_a_drawn_image_is_what_the_engine_gets(tmp_path: Path) -> None:
    """The whole slice, squashed as the engine squashes it: features of both are the same."""
    source = CaseSource(Cases(a=cases("a", ONE)), framing="whole", flip=0.0)
    drawn = source.draw(generator(), SIZE)
    assert (drawn.image.shape, drawn.masks.shape, drawn.masks.dtype) == ((3, 64, 64), (1, 64, 64), torch.bool)
    engine = tiny_engine(tmp_path)
    from napari_uncertsam.training.frozen import Frozen

    ours, theirs = Frozen(engine).embed(drawn.image), engine.embed(scene(128, 160, ONE)[0]).features
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)


@settings(max_examples=60, deadline=None)
@given(
    y=st.integers(0, 90),
    x=st.integers(0, 120),
    height=st.integers(6, 100),
    width=st.integers(6, 100),
    seed=st.integers(0, 99),
)
def test_masks_lie_where_the_plugin_puts_a_box_in_its_view(y: int, x: int, height: int, width: int, seed: int) -> None:
    """Box of the drawn mask against the box of the true one through `View.prompts_to_view`, in model pixels."""
    truth = np.zeros((128, 160), bool)
    truth[y : y + height, x : x + width] = True
    case = Case("a", 1, Volume(np.zeros((128, 160), np.uint8)), truth)
    drawn = CaseSource(Cases(a=[case]), flip=0.0).draw(generator(seed), SIZE)
    [(low, high)] = mask_corners(drawn.masks).tolist()
    box, found = Box.of_mask(truth), []
    for zoom in np.linspace(ZOOM, 1.5 * ZOOM, 40):
        view = View.around(box, 128, 160, zoom)
        local = view.prompts_to_view(Prompts(box=box), SIZE).box
        assert local is not None
        corners = np.array([local.x0, local.y0, local.x1, local.y1]) * SIZE / view.height
        found.append(np.abs(corners - np.clip([*low, *high], 0, SIZE - 1)).max())
        if view.top < 0 or view.left < 0 or view.top + view.height > 128 or view.left + view.width > 160:
            return  # the view reaches over the image, whose border is repeated there
    assert min(found) <= 1.001


def test_an_object_is_chosen_and_the_others_on_its_slice_come_along() -> None:
    volume = Volume(np.random.default_rng(0).integers(0, 255, (3, 40, 40), dtype=np.uint8))
    boxes = {1: (0, slice(4, 14)), 2: (0, slice(20, 34)), 3: (2, slice(10, 30))}
    made = []
    for value, (index, span) in boxes.items():
        truth = np.zeros((40, 40), bool)
        truth[span, span] = True
        made.append(Case("v", value, volume, truth, slice_index=index))
    source = CaseSource(Cases(v=made), framing="whole", flip=0.0)
    counts = {len(source.draw(generator(seed), 40).masks) for seed in range(20)}
    assert counts == {1, 2}
    for seed in range(20):
        drawn = source.draw(generator(seed), 40)
        shown = torch.as_tensor(volume.slice(0, 2 if len(drawn.masks) == 1 else 0).copy()).float()
        window = Window.for_volume(volume)
        expected = torch.as_tensor(window.apply(shown.numpy().astype(np.uint8)).copy())[..., 0] / 255
        torch.testing.assert_close(drawn.image[0], expected.float())
        areas = sorted(drawn.masks.sum((1, 2)).tolist())
        assert areas == ([400] if len(drawn.masks) == 1 else [100, 196])


def test_an_object_of_which_a_sliver_is_seen_is_left_out() -> None:
    near, far = Box(10, 10, 29, 29), Box(10, 40, 29, 200)
    source = CaseSource(Cases(a=cases("a", near, far, shape=(128, 256))), flip=0.0)
    counts = set()
    for seed in range(12):
        drawn = source.draw(generator(seed), SIZE)
        counts.add(len(drawn.masks))
        assert drawn.masks.flatten(1).any(1).all()
    assert counts == {1, 2}  # the camera on the large one sees both, that on the small one itself only


def test_half_are_mirrored_with_their_masks() -> None:
    dataset = Cases(a=cases("a", ONE))
    straight = CaseSource(dataset, framing="whole", flip=0.0).draw(generator(), SIZE)
    mirrored = CaseSource(dataset, framing="whole", flip=1.0).draw(generator(), SIZE)
    assert torch.equal(mirrored.image, straight.image.flip(-1))
    assert torch.equal(mirrored.masks, straight.masks.flip(-1))
    source = CaseSource(dataset, framing="whole")
    count = sum(torch.equal(source.draw(generator(seed), SIZE).masks, mirrored.masks) for seed in range(60))
    assert 15 < count < 45


def test_images_are_read_once_while_there_is_room() -> None:
    names = [f"i{k}" for k in range(4)]
    dataset = Cases(**{name: cases(name, ONE) for name in names})
    source = CaseSource(dataset)
    for seed in range(40):
        source.draw(generator(seed), SIZE)
    assert sorted(dataset.reads) == names
    tight = Cases(**{name: cases(name, ONE) for name in names})
    draws = [CaseSource(tight, cache_bytes=1).draw(generator(seed), SIZE).image for seed in range(10)]
    roomy = [source.draw(generator(seed), SIZE).image for seed in range(10)]
    assert all(torch.equal(a, b) for a, b in zip(draws, roomy, strict=True))  # what is kept does not matter


def test_at_most_32_objects_of_an_image() -> None:
    truths = [np.zeros((64, 64), bool) for _ in range(50)]
    for k, truth in enumerate(truths):
        truth[k, 5:30] = True
    volume = Volume(np.zeros((64, 64), np.uint8))
    source = CaseSource(Cases(a=[Case("a", k, volume, t) for k, t in enumerate(truths)]), framing="whole")
    assert len(source.draw(generator(), SIZE).masks) == 32


def test_images_without_objects_are_passed_over_and_all_of_them_is_an_error() -> None:
    mixed = CaseSource(Cases(a=[], b=cases("b", ONE)))
    assert all(len(mixed.draw(generator(seed), SIZE).masks) == 1 for seed in range(8))
    with pytest.raises(InputError, match="No object of in memory"):
        CaseSource(Cases(a=[])).draw(generator(), SIZE)
    with pytest.raises(InputError, match="no images"):
        CaseSource(Cases())


def test_an_object_that_vanishes_is_not_drawn() -> None:
    dot = np.zeros((1000, 1000), bool)
    dot[7, 9] = True
    source = CaseSource(Cases(a=[Case("a", 1, Volume(np.zeros((1000, 1000), np.uint8)), dot)]), framing="whole")
    with pytest.raises(InputError, match="64 x 64 pixels"):
        source.draw(generator(), SIZE)


def test_a_tenth_is_held_out() -> None:
    dataset = Cases(**{f"i{k:02}": cases(f"i{k}", ONE) for k in range(30)})
    data = dataset_data(dataset, seed=1)
    assert isinstance(data.training, CaseSource)
    assert isinstance(data.validation, CaseSource)
    held, rest = set(data.validation.images or ()), set(data.training.images or ())
    assert (len(held), len(rest), held & rest) == (3, 27, set())
    other = dataset_data(dataset, seed=2).validation
    assert isinstance(other, CaseSource)
    assert set(other.images or ()) != held
    with pytest.raises(InputError, match="at least 2"):
        dataset_data(Cases(a=cases("a", ONE)))


def test_both_are_sources_and_the_generator_decides() -> None:
    data = synthetic_data()
    sources: list[Source] = [
        SyntheticSource(),
        data.validation,
        CaseSource(Cases(a=cases("a", ONE, Box(2, 2, 30, 20)))),
    ]
    for source in sources:
        first, second = (source.draw(generator(5), SIZE) for _ in range(2))
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.masks, second.masks)
        assert not torch.equal(first.image, source.draw(generator(6), SIZE).image)
        assert source.name


def test_a_real_folder(tmp_path: Path) -> None:
    from PIL import Image

    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for k in range(3):
        image, labels = scene(96, 80, Box(10, 10, 40 + k, 40), Box(50, 45, 80, 70))
        Image.fromarray(image).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "masks" / f"{k}.png")
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, Dataset)
    drawn = dataset_data(dataset).training.draw(generator(), SIZE)
    bright = drawn.image.mean(0)
    assert bright[drawn.masks.any(0)].mean() > 0.6 > 0.3 > bright[~drawn.masks.any(0)].mean()
