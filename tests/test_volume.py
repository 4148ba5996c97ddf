from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_uncertsam.errors import InputError
from napari_uncertsam.intensity import Extent
from napari_uncertsam.volume import WINDOWS, Volume, Window, array_digest, guess_modality

REAL_DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    ">i2",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]


def ct(shape: tuple[int, ...] = (12, 40, 40), seed: int = 0) -> np.ndarray:
    """Body of soft tissue and fat, half of the field of view air, a little bone, padding outside the scan's circle."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(shape) < 0.5, rng.normal(40, 20, shape), rng.normal(-100, 15, shape))
    values[..., : shape[-1] // 2] = rng.normal(-1000, 10, (*shape[:-1], shape[-1] // 2))
    values[..., -2:] = 700
    values[..., 0] = -2048
    return values.astype(np.int16)


def test_slices_of_a_volume_keep_the_order_of_the_other_axes():
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    volume = Volume(array, spacing=(2.5, 0.9, 0.8))
    for plane in range(3):
        assert volume.n_slices(plane) == array.shape[plane]
        for index in range(array.shape[plane]):
            picked = volume.slice(plane, index)
            np.testing.assert_array_equal(picked, np.take(array, index, plane))
            assert picked.flags.c_contiguous
            assert volume.plane_shape(plane) == picked.shape
    assert [volume.plane_spacing(p) for p in range(3)] == [(0.9, 0.8), (2.5, 0.8), (2.5, 0.9)]


def test_2d_image_is_one_slice():
    volume = Volume(np.arange(6.0).reshape(2, 3))
    assert (volume.shape, volume.n_slices(), volume.plane_shape(), volume.spacing) == ((2, 3), 1, (2, 3), (1.0, 1.0))
    np.testing.assert_array_equal(volume.slice(0, 0), volume.array)
    with pytest.raises(InputError, match="no plane 1"):
        volume.slice(1, 0)
    with pytest.raises(InputError, match="no slice 1"):
        volume.slice(0, 1)


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_loses_its_alpha_and_its_channels_are_no_spatial_axis(channels):
    array = np.arange(2 * 5 * 6 * channels, dtype=np.uint8).reshape(2, 5, 6, channels)
    volume = Volume(array, rgb=True)
    assert (volume.shape, volume.modality, volume.slice(0, 1).shape) == ((2, 5, 6), "RGB", (5, 6, 3))
    np.testing.assert_array_equal(volume.slice(2, 3), array[:, :, 3, :3])
    assert Volume(array[0], rgb=True).plane_shape() == (5, 6)


@pytest.mark.parametrize("dtype", REAL_DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (3, 1, 2)])
def test_every_real_type_and_a_single_pixel_are_accepted(dtype, shape):
    volume = Volume(np.ones(shape, dtype))
    picked = volume.slice(0, 0)
    assert picked.dtype.isnative
    assert picked.dtype.kind != "b"
    assert picked.dtype != np.float16
    assert Window.for_volume(volume).apply(picked).shape == (*volume.plane_shape(), 3)


def test_negative_and_too_big_indices_are_refused():
    volume = Volume(np.zeros((3, 4, 5)))
    for index in (-1, 3):
        with pytest.raises(InputError, match="choose one from 0 to 2"):
            volume.slice(0, index)
    with pytest.raises(InputError, match="no plane 3"):
        volume.n_slices(3)
    assert volume.slice(np.int64(1), np.int64(2)).shape == (3, 5)


@pytest.mark.parametrize(
    ("array", "rgb", "message"),
    [
        (np.zeros((0, 5)), False, "empty"),
        (np.zeros((4, 0, 5)), False, "empty"),
        (np.zeros((4, 4), complex), False, "magnitude"),
        (np.full((4, 4), None), False, "object"),
        (np.full((4, 4), "a"), False, "not numbers"),
        (np.zeros((4, 4), "datetime64[s]"), False, "not numbers"),
        (np.zeros((2, 3, 4, 5)), False, "pick one volume"),
        (np.zeros((2, 2, 3, 4, 3)), True, "pick one volume"),
        (np.zeros(7), False, "at least two axes"),
        (np.zeros(()), False, "at least two axes"),
        (np.zeros((4, 4, 5)), True, "3 or 4 channels"),
        ([[1, 2]], False, "not list"),
    ],
)
def test_unusable_arrays_are_refused_with_a_sentence(array, rgb, message):
    with pytest.raises(InputError, match=message) as caught:
        Volume(array, rgb=rgb)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": (1.0, 1.0)}, "one positive number"),
        ({"spacing": (1.0, 0.0, 1.0)}, "one positive number"),
        ({"spacing": (1.0, np.nan, 1.0)}, "one positive number"),
        ({"affine": np.eye(3)}, "4 x 4"),
        ({"affine": np.diag([1, 1, np.nan, 1])}, "4 x 4"),
        ({"affine": np.diag([1, 1, 1, 2])}, "last row"),
        ({"affine": np.diag([1, 0, 1, 1])}, "singular"),
        ({"modality": "XA"}, "modality 'XA'"),
        ({"modality": "RGB"}, "colour channels"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Volume(np.zeros((2, 3, 4)), **arguments)


def test_affine_is_refused_for_2d_copied_and_gives_the_spacing():
    with pytest.raises(InputError, match="one slice"):
        Volume(np.zeros((2, 3)), affine=np.eye(4))
    affine = np.diag([-2.0, 3.0, 4e-6, 1.0])
    volume = Volume(np.zeros((2, 3, 4)), affine=affine)
    affine[0, 0] = 9
    assert volume.affine[0, 0] == -2
    assert volume.spacing == (2.0, 3.0, 4e-6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        volume.name = "other"


def test_digest_is_by_content_shape_and_type():
    array = ct()
    one, two = Volume(array), Volume(np.asfortranarray(array.astype(">i2")), spacing=(3, 3, 3))
    assert one.content_digest() == two.content_digest()
    assert one.content_digest(0, 3) == array_digest(array[3]) != one.content_digest(0, 4)
    changed = array.copy()
    changed[-1, -1, -1] += 1
    assert Volume(changed).content_digest() != one.content_digest()
    assert array_digest(np.zeros((2, 3), np.uint8)) != array_digest(np.zeros((3, 2), np.uint8))
    assert array_digest(np.zeros(4, np.int32)) != array_digest(np.zeros(4, np.float32))


def test_a_lazy_array_is_read_slice_by_slice_and_its_failure_is_a_sentence():
    class Lazy:
        shape, dtype, reads = (5, 6, 7), np.dtype(np.float32), 0

        def __getitem__(self, key):
            self.reads += 1
            if key[0] == 4:
                raise OSError("disk gone")
            return np.zeros((5, 6, 7), np.float32)[key]

    volume = Volume(Lazy(), name="scan")
    assert volume.slice(0, 1).shape == (6, 7)
    assert volume.array.reads == 1
    with pytest.raises(InputError, match=r"Slice 4 of scan could not be read: disk gone\."):
        volume.slice(0, 4)


# Windows


def test_presets_are_the_usual_ones():
    limits = {name: (window.low, window.high) for name, window in WINDOWS.items()}
    assert limits == {
        "soft tissue": (-160, 240),
        "liver": (-20, 140),
        "lung": (-1350, 150),
        "bone": (-500, 1300),
        "brain": (0, 80),
    }
    assert len({*WINDOWS.values(), Window(-160, 240, "soft tissue")}) == 5
    with pytest.raises(TypeError):
        WINDOWS["mine"] = Window(0, 1)


@pytest.mark.parametrize(("low", "high"), [(1, 0), (np.nan, 1), (0, np.inf)])
def test_a_window_without_extent_is_refused(low, high):
    with pytest.raises(InputError, match="shows nothing"):
        Window(low, high)


def test_values_are_mapped_linearly_and_clipped():
    hounsfield = np.array([[-2048, -1024, -160, 40, 240, 3071]], np.int16)
    np.testing.assert_array_equal(
        WINDOWS["soft tissue"].apply(hounsfield), np.repeat([[[0], [0], [0], [128], [255], [255]]], 3, -1)
    )
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for dtype in (np.uint8, np.uint16, np.int64, np.float64):
        np.testing.assert_array_equal(Window(0, 255).apply(every.astype(dtype))[..., 1], every)


def test_nan_is_low_and_infinities_are_the_ends():
    image = np.array([[np.nan, -np.inf, np.inf, 0.5]])
    for dtype in (np.float16, np.float32, np.float64):
        assert Window(0, 1).apply(image.astype(dtype))[0, :, 0].tolist() == [0, 0, 255, 128]
    assert Window.for_volume(Volume(np.full((3, 3), np.nan))).apply(np.full((3, 3), np.nan)).max() == 0


@pytest.mark.parametrize("value", [0, -7.5, 3e8, -1e308])
def test_constant_images_are_a_plain_grey(value):
    image = np.full((4, 5), value)
    assert set(Window.for_volume(Volume(image)).apply(image).ravel().tolist()) == {128}


def test_an_empty_window_is_a_threshold():
    assert Window(5, 5).apply(np.array([[4, 5, 6]]))[0, :, 0].tolist() == [0, 128, 255]


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.uint16, np.int64, np.uint64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    )
)
def test_any_real_image_becomes_a_picture_in_the_order_of_its_values(image):
    picture = Window.for_volume(Volume(image)).apply(image)
    assert picture.dtype == np.uint8
    assert picture.shape == (*image.shape, 3)
    levels, values = picture[..., 0].ravel(), image.ravel()
    known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    assert (np.diff(levels[known][np.argsort(values[known], kind="stable")].astype(int)) >= 0).all()


def test_percentiles_ignore_outliers_and_non_finite_values():
    rng = np.random.default_rng(1)
    image = rng.normal(100, 10, (200, 200))
    image[0, :3] = np.nan, np.inf, 1e9
    window = Window.percentile(image)
    assert (window.low, window.high) == pytest.approx((100 - 25.8, 100 + 25.8), abs=2)
    sparse = np.zeros((100, 100))
    sparse[0, 0] = 7
    assert Window.percentile(sparse) == Window(0, 7, "percentile")


@pytest.mark.parametrize("kind", [np.float32, np.uint16])
@pytest.mark.parametrize("modality", ["MR", "grey"])
def test_any_amount_of_background_around_an_object_gives_the_same_window(kind, modality, rng):
    head = rng.gamma(9, 30, (40, 50)).clip(1).astype(kind)
    wanted = Window.for_volume(Volume(head, modality=modality))
    for margin in (10, 40, 200):
        padded = np.pad(head, margin)
        assert Window.for_volume(Volume(padded, modality=modality)) == wanted
    assert Window.percentile(np.pad(head, 1)).low == 0  # a thin margin, a tenth of all, counts
    # Nothing but background and one value: from the one to the other.
    assert Window.percentile(np.pad(np.full((9, 9), 5.0), 9)) == Window(0, 5, "percentile")


@pytest.mark.parametrize("name", WINDOWS)
def test_hounsfield_units_look_the_same_in_every_type(name, rng):
    hounsfield = rng.integers(-1024, 3072, (40, 50)).astype(np.int16)
    picture = WINDOWS[name].apply(hounsfield)
    stored = ((hounsfield.astype(np.int32) + 1024) * 4).astype(np.uint16)  # as a file with a slope has them
    for other in (hounsfield.astype(np.float32), (stored * np.float32(0.25) - 1024), hounsfield.astype(np.float64)):
        np.testing.assert_array_equal(WINDOWS[name].apply(other), picture)
    assert picture.max() == 255  # the window, and not the range of int16


def test_the_extent_says_which_limits_a_viewer_begins_with(rng):
    data = rng.normal(100, 10, (9, 300, 300)).astype(np.float32)
    data[0] += 1000
    data[4, 0, 0], data[8, 0, :2] = np.nan, (np.inf, 5000)
    extent = Extent.of(data)
    finite = data[np.isfinite(data)]
    assert (extent.low, extent.high) == (finite.min(), 5000)
    assert extent.explains(finite.min(), 5000)
    assert extent.explains(np.percentile(finite, 0.05), np.percentile(finite, 99.95))
    assert extent.explains(float(np.nanmin(data[4])), float(np.nanmax(data[4])))
    assert not extent.explains(80, 120)
    assert Extent.of(np.full((3, 4), np.nan)) == Extent(0, 1, (0, 1))
    assert Extent.of(np.full((2, 3, 4), 7, np.int16)) == Extent(7, 7, (7, 7), ((7, 7), (7, 7)))


def test_a_big_array_is_thinned_out_for_its_window():
    class Counting:
        shape, dtype, read = (4000, 4000), np.dtype(np.float32), 0

        def __getitem__(self, key):
            part = np.broadcast_to(np.float32(3), self.shape)[key]
            self.read += part.size
            return part

    array = Counting()
    assert Window.percentile(array).low == 3
    assert array.read <= 1 << 20


def test_the_first_window_follows_the_modality_and_the_type():
    assert Window.for_volume(Volume(ct(), modality="CT")) == WINDOWS["soft tissue"]
    grey = np.array([[3, 200]], np.uint8)
    assert Window.for_volume(Volume(grey)) == Window(0, 255, "full range")
    assert Window.for_volume(Volume(grey > 100)) == Window(0, 1, "full range")
    assert Window.for_volume(Volume(grey.astype(np.uint16))) == Window(3, 200, "percentile")
    colour = np.full((2, 2, 3), 0.5)
    assert Window.for_volume(Volume(colour, rgb=True)) == Window(0, 1, "full range")
    assert Window.for_volume(Volume(colour * 300, rgb=True)) == Window(0, 255, "full range")
    assert Window.for_volume(Volume((colour * 9e4).astype(np.uint16), rgb=True)) == Window(0, 65535, "full range")


def test_colour_goes_through_the_window_channel_by_channel():
    colour = np.zeros((2, 2, 4), np.float32)
    colour[0, 0] = 1.0, 0.5, 0.0, 0.25
    assert Window(0, 1).apply(colour)[0, 0].tolist() == [255, 128, 0]
    for wrong in (np.zeros((2, 2, 2)), np.zeros(3), np.zeros((2, 2), complex)):
        with pytest.raises(InputError, match="one real"):
            Window(0, 1).apply(wrong)


def test_blocks_of_rows_leave_no_seam(monkeypatch):
    image = np.random.default_rng(0).normal(size=(37, 11)).astype(np.float32)
    whole = Window(-1, 1).apply(image)
    monkeypatch.setattr("napari_uncertsam.intensity._BLOCK_SIZE", 25)
    np.testing.assert_array_equal(Window(-1, 1).apply(image), whole)
    assert image.dtype == np.float32


# Modality


def test_ct_is_recognised_by_its_values():
    values = ct()
    assert guess_modality(values) == "CT"
    assert guess_modality(values.astype(np.float32)) == "CT"
    assert guess_modality(np.where(values == -2048, np.nan, values.astype(float))) == "CT"
    assert guess_modality(values, rgb=True) == "RGB"


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(0, 1, (20, 20, 20)),  # z-scores
        np.random.default_rng(0).integers(-4096, 4096, (20, 20, 20)),  # a phase image
        np.random.default_rng(0).normal(400, 250, (20, 20, 20)),  # MR with ringing below zero
        np.random.default_rng(0).integers(0, 4096, (20, 20, 20)).astype(np.uint16),
        np.full((5, 5), -1000),
        np.full((5, 5), np.nan),
        np.zeros((5, 5), bool),
    ],
)
def test_what_is_not_ct_is_grey(values):
    assert guess_modality(values) == "grey"


def test_one_outlier_does_not_make_a_ct():
    values = np.random.default_rng(0).integers(0, 300, (30, 30, 30)).astype(np.int16)
    values[0, 0, 0] = -1000
    assert guess_modality(values) == "grey"
