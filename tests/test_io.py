from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from napari_uncertsam.errors import InputError
from napari_uncertsam.io import (
    SUFFIXES,
    atomic,
    embed_slice,
    is_label_map,
    output_suffix,
    read,
    read_labels,
    read_prompts,
    write_map,
    write_mask,
    write_prompts,
)
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts
from napari_uncertsam.volume import Volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [7, -4, 11], degrees=True).as_matrix() @ np.diag([-0.9, -0.8, 2.5])
OBLIQUE[:3, 3] = 120.5, 98.25, -340.125


def hounsfield(shape: tuple[int, ...] = (7, 6, 5)) -> np.ndarray:
    values = np.random.default_rng(0).choice(
        [-2048, -1000, -100, 40, 60, 700], shape, p=[0.05, 0.3, 0.2, 0.2, 0.2, 0.05]
    )
    return values.astype(np.int16)


def save(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE, kind=nib.Nifti1Image) -> Path:
    kind(array, affine).to_filename(path)
    return path


# NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_arrives_as_zyx_with_its_place_in_the_patient(tmp_path, suffix, kind):
    stored = hounsfield()
    volume = read(save(tmp_path / f"scan{suffix}", stored, kind=kind))
    np.testing.assert_array_equal(volume.array, stored.T)
    assert (volume.dtype, volume.modality, volume.name, volume.shape) == (np.int16, "CT", "scan", (5, 6, 7))
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.9), abs=1e-6)
    i, j, k = 3, 5, 2
    np.testing.assert_allclose(volume.affine @ (k, j, i, 1), OBLIQUE @ (i, j, k, 1), atol=1e-4)


def affines() -> st.SearchStrategy[np.ndarray]:
    def build(spacing, angles, flips, order, origin):
        matrix = np.eye(4)
        turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        matrix[:3, :3] = turned @ np.diag(np.multiply(spacing, flips))[:, order]
        matrix[:3, 3] = origin
        return matrix

    return st.builds(
        build,
        st.tuples(*[st.floats(0.05, 20)] * 3),
        st.tuples(*[st.floats(-180, 180)] * 3),
        st.tuples(*[st.sampled_from([-1, 1])] * 3),
        st.permutations(range(3)),
        st.tuples(*[st.floats(-500, 500)] * 3),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(affine=affines(), shape=st.tuples(*[st.integers(1, 5)] * 3), code=st.sampled_from([1, 2, 4]), unit=st.booleans())
def test_geometry_survives_a_round_trip(tmp_path, affine, shape, code, unit):
    image = nib.Nifti1Image(hounsfield(shape), affine)
    image.header.set_sform(affine, code)
    image.header.set_qform(affine, 1)
    if unit:
        image.header.set_xyzt_units("micron", "sec")
    source = tmp_path / "scan.nii"
    image.to_filename(source)
    volume = read(source)
    mask = np.asarray(volume.array) > 0
    back = nib.load(write_mask(tmp_path / "mask.nii.gz", mask, volume, overwrite=True))
    np.testing.assert_array_equal(back.get_fdata().T, mask)
    original = nib.load(source)
    for form in ("get_sform", "get_qform"):
        expected, expected_code = getattr(original, form)(coded=True)
        found, found_code = getattr(back, form)(coded=True)
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
        assert found_code == expected_code
    assert back.header.get_zooms() == original.header.get_zooms()
    assert back.header.get_xyzt_units() == original.header.get_xyzt_units()
    again = read(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-6, rtol=0)
    np.testing.assert_allclose(
        again.affine[:, [2, 1, 0, 3]][:3] / (1e-3 if unit else 1), affine[:3], atol=1e-4, rtol=1e-5
    )


def test_units_other_than_millimetres_are_converted(tmp_path):
    image = nib.Nifti1Image(hounsfield(), np.diag([2.0, 3.0, 5.0, 1.0]))
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").spacing == pytest.approx((0.005, 0.003, 0.002))


def test_nothing_but_geometry_is_copied_from_the_source(tmp_path):
    image = nib.Nifti1Image(hounsfield(), OBLIQUE)
    image.header["descrip"] = b"Jane Doe"
    image.header["cal_max"] = 300
    image.to_filename(tmp_path / "a.nii.gz")
    volume = read(tmp_path / "a.nii.gz")
    back = nib.load(write_map(tmp_path / "map.nii.gz", np.full(volume.shape, 0.25), volume))
    assert (back.header["descrip"], back.header["cal_max"], back.get_data_dtype()) == (b"", 0, np.float32)
    assert np.asarray(back.dataobj).max() == 0.25


def test_scaled_values_are_floats_and_unscaled_ones_keep_their_type(tmp_path):
    raw = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for slope, inter, dtype in ((2.0, -10.0, np.float32), (1.0, -1000.0, np.float32), (1.0, 0.0, np.uint8)):
        image = nib.Nifti1Image(raw, np.eye(4))
        image.header.set_slope_inter(slope, inter)
        image.to_filename(tmp_path / "a.nii.gz")
        # nibabel stores unscaled arrays with the scaling that the header asks for undone; read what is there.
        expected = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)
        volume = read(tmp_path / "a.nii.gz")
        np.testing.assert_allclose(volume.array, expected.T)
        assert (slope, inter, volume.dtype) == (slope, inter, dtype)


def test_uncompressed_nifti_is_mapped_not_loaded_and_never_changed(tmp_path):
    path = save(tmp_path / "a.nii", hounsfield())
    before = path.read_bytes()
    volume = read(path)
    base = volume.array
    while not isinstance(base, np.memmap):
        base = base.base
    volume.array[:] = 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", ">i2", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_nifti_type_is_read(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    nib.Nifti1Image(array, np.eye(4), header, dtype=array.dtype).to_filename(tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.slice(0, 1), array.T[1])
    assert volume.slice(0, 1).dtype.isnative


def test_trailing_axes_of_one_are_dropped_and_flat_images_are_one_slice(tmp_path):
    assert read(save(tmp_path / "a.nii.gz", hounsfield((4, 3, 2, 1, 1)))).shape == (2, 3, 4)
    volume = read(save(tmp_path / "b.nii", hounsfield((4, 3))))
    assert (volume.shape, volume.n_slices()) == ((1, 3, 4), 1)
    write_mask(tmp_path / "m.nii.gz", np.ones((1, 3, 4), bool), volume)


def test_colour_nifti(tmp_path):
    colour = np.zeros((4, 3, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"][1, 2, 0] = 200
    volume = read(save(tmp_path / "a.nii.gz", colour))
    assert (volume.modality, volume.slice(0, 0)[2, 1].tolist()) == ("RGB", [0, 200, 0])
    assert write_mask(tmp_path / "m.nii.gz", np.ones(volume.shape, bool), volume).exists()


def test_a_nifti_with_a_singular_affine_falls_back_on_its_zooms(tmp_path):
    image = nib.Nifti1Image(hounsfield(), np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header["srow_x"] = 0
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[280:296] = bytes(16)  # srow_x, which nibabel writes from the affine.
    (tmp_path / "a.nii").write_bytes(raw)
    assert read(tmp_path / "a.nii").spacing == (4.0, 3.0, 2.0)


# Bad files


def test_missing_folder_ending_and_empty_are_told_apart(tmp_path):
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.dcm").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    for name, message in (
        ("none.nii.gz", "There is no file"),
        ("folder.nii", "is a folder"),
        ("empty.png", "is empty"),
        ("notes.txt", "no known ending"),
        ("notes.dcm", "could not be read as DICOM"),
    ):
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)


def valid_files(folder: Path) -> dict[str, bytes]:
    """One file of each kind, of noise so that no compression makes a cut harmless."""
    noise = np.random.default_rng(0).integers(0, 255, (6, 40, 50), dtype=np.uint8)
    for suffix in (".nii", ".nii.gz"):
        save(folder / f"a{suffix}", noise)
    for suffix in (".png", ".jpg", ".jpeg", ".bmp"):
        Image.fromarray(noise[0]).save(folder / f"a{suffix}")
    for suffix in (".tif", ".tiff"):
        tifffile.imwrite(
            folder / f"a{suffix}", noise, photometric="minisblack", compression="zlib" if suffix == ".tif" else None
        )
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_one_sentence_each(tmp_path, suffix):
    content = valid_files(tmp_path)[suffix]
    path = tmp_path / f"bad{suffix}"
    half = len(content) // 2
    for damaged in (
        content[:3],
        content[:60],
        content[:half],
        b"not an image at all" * 30,
        bytes(2000),
        content[half:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(path.name)
        assert text.endswith(".")
        assert "\n" not in text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".nii", ".png", ".bmp", ".tiff"]), place=st.floats(0, 0.999), value=st.integers(0, 255))
def test_a_flipped_byte_in_the_header_is_a_volume_or_a_sentence(tmp_path_factory, suffix, place, value):
    folder = tmp_path_factory.mktemp("flip")
    content = bytearray(valid_files(folder)[suffix])
    content[int(place * min(len(content), 360))] = value
    path = folder / f"bad{suffix}"
    path.write_bytes(content)
    try:
        assert read(path).shape
    except InputError as error:
        assert str(error).endswith(".")  # noqa: PT017


def test_series_and_complex_numbers_name_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"holds 5 volumes, shape \(4, 3, 2, 5\); choose .*--volume K.* 0 to 4"):
        read(save(tmp_path / "a.nii.gz", hounsfield((4, 3, 2, 5))))
    with pytest.raises(InputError, match="magnitude"):
        read(save(tmp_path / "b.nii.gz", np.zeros((4, 3, 2), np.complex64)))
    with pytest.raises(InputError, match="empty"):
        Volume(np.zeros((0, 2)))


# Pictures


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_and_colour_pictures(tmp_path, suffix):
    rng = np.random.default_rng(0)
    for array in (rng.integers(0, 255, (5, 7), np.uint8), rng.integers(0, 255, (5, 7, 3), np.uint8)):
        Image.fromarray(array).save(tmp_path / f"a{suffix}")
        volume = read(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(volume.slice(0, 0), array)
        assert (volume.modality, volume.affine, volume.spacing) == ("RGB" if array.ndim == 3 else "grey", None, (1, 1))


def test_pillow_modes(tmp_path):
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)

    def back(image: Image.Image) -> Volume:
        image.save(tmp_path / "a.png")
        return read(tmp_path / "a.png")

    np.testing.assert_array_equal(
        back(Image.fromarray(grey.astype(np.uint16) * 900)).array, grey.astype(np.uint16) * 900
    )
    np.testing.assert_array_equal(back(Image.fromarray(grey > 3)).slice(0, 0), grey > 3)
    np.testing.assert_array_equal(back(Image.fromarray(grey).convert("LA")).array, grey)
    colour = Image.fromarray(np.dstack([grey, grey + 1, grey + 2, grey]))
    assert back(colour).array.shape == (5, 7, 4)
    assert back(colour).slice(0, 0).shape == (5, 7, 3)
    palette = Image.fromarray(grey)
    palette.putpalette([0, 0, 0] * 3 + [250, 10, 20] * 253)
    assert back(palette).slice(0, 0)[0, 5].tolist() == [250, 10, 20]
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").array, grey)
    colour.convert("CMYK").save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg").array.shape == (5, 7, 3)


def test_the_content_decides_not_the_name(tmp_path):
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg").array, np.eye(4))


def test_pictures_beyond_pillows_limit_are_read_and_the_limit_is_left_alone(tmp_path, monkeypatch):
    array = np.arange(1200, dtype=np.uint16).reshape(1, 1200).repeat(1100, 0)
    Image.fromarray(array).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600_000)
    monkeypatch.setattr("napari_uncertsam.io.raster._STRIP_PIXELS", 100_000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").array, array)
    assert Image.MAX_IMAGE_PIXELS == 600_000
    monkeypatch.setattr("napari_uncertsam.io.raster.MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="1100 x 1200 pixels"):
        read(tmp_path / "a.png")


# TIFF


@pytest.mark.parametrize(
    ("shape", "options", "expected", "rgb"),
    [
        ((5, 6), {}, (5, 6), False),
        ((1, 5, 6), {}, (5, 6), False),
        ((4, 5, 6), {}, (4, 5, 6), False),
        ((5, 6, 3), {"photometric": "rgb"}, (5, 6), True),
        ((5, 6, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, (5, 6), True),
        ((3, 5, 6), {"photometric": "rgb", "planarconfig": "separate"}, (5, 6), True),
        ((4, 5, 6, 3), {"photometric": "rgb"}, (4, 5, 6), True),
        ((4, 5, 6), {"ome": True, "metadata": {"axes": "ZYX"}}, (4, 5, 6), False),
        ((4, 5, 6), {"ome": True, "metadata": {"axes": "TYX"}}, (4, 5, 6), False),
        ((1, 4, 5, 6), {"imagej": True, "metadata": {"axes": "TZYX"}}, (4, 5, 6), False),
    ],
)
def test_tiff_axes(tmp_path, shape, options, expected, rgb):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    tifffile.imwrite(tmp_path / "a.tif", array, **{"photometric": "minisblack", **options})
    volume = read(tmp_path / "a.tif")
    assert (volume.shape, volume.rgb) == (expected, rgb)
    if options.get("planarconfig"):
        array = np.moveaxis(array, 0, -1)
    np.testing.assert_array_equal(volume.array, array.reshape(np.shape(volume.array)))


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [((2, 5, 6), "CYX", "2 channels"), ((2, 3, 5, 6), "TZYX", "4 axes"), ((3, 2, 5, 6), "ZCYX", "2 channels")],
)
def test_tiff_with_too_many_axes_names_what_to_do(tmp_path, shape, axes, message):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="minisblack", ome=True, metadata={"axes": axes}
    )
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_tiff_types_and_non_finite_values(tmp_path, dtype):
    array = np.arange(30).reshape(5, 6).astype(dtype)
    if array.dtype.kind == "f":
        array[0, :3] = np.nan, np.inf, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array, array)


def test_lzw_tiff_is_read_without_optional_codecs(tmp_path):
    pages = np.random.default_rng(0).integers(0, 255, (3, 20, 30), np.uint8)
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=images[1:])
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array, pages)
    Image.fromarray(pages.transpose(1, 2, 0)).save(tmp_path / "b.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read(tmp_path / "b.tif").slice(0, 0), pages.transpose(1, 2, 0))


def test_ome_pixel_sizes_become_the_spacing(tmp_path):
    sizes = {
        "axes": "ZYX",
        "PhysicalSizeX": 500.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 2.0,
        "PhysicalSizeZ": 0.25,
    }
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((2, 3, 4), np.uint8),
        photometric="minisblack",
        ome=True,
        metadata=sizes | {"PhysicalSizeZUnit": "mm"},
    )
    assert read(tmp_path / "a.tif").spacing == pytest.approx((0.25, 0.002, 0.0005))


def test_palette_tiff_is_colour_as_an_image_and_indices_as_a_mask(tmp_path):
    indices = np.arange(30, dtype=np.uint8).reshape(5, 6)
    colours = np.zeros((3, 256), np.uint16)
    colours[0] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colours)
    assert read(tmp_path / "a.tif").slice(0, 0)[4, 5].tolist() == [29, 0, 0]
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array, indices)


# Labels


def test_labels_from_colour_and_float_files(tmp_path):
    labels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    Image.fromarray(np.dstack([labels] * 3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").array, labels)
    tifffile.imwrite(tmp_path / "a.tif", labels.astype(np.float32))
    assert read_labels(tmp_path / "a.tif").dtype == np.int32


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0, 0.5]]), "not whole"),
        (np.array([[0, np.nan]]), "not whole"),
        (np.array([[0, -3]], np.int16), "label -3"),
        (np.uint8([[[1, 2, 3]] * 4] * 4), "colour image"),
    ],
)
def test_what_is_not_a_mask_is_refused(tmp_path, array, message):
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb" if array.ndim == 3 else "minisblack")
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "a.tif")


# Writing


def test_2d_results_come_back_unchanged(tmp_path):
    like = Volume(np.zeros((5, 7), np.uint8))
    assert (output_suffix(like), output_suffix(like, "map")) == (".png", ".tif")
    for top, suffix in ((1, ".png"), (255, ".png"), (65535, ".png"), (70000, ".tif")):
        mask = np.zeros((5, 7), np.int64)
        mask[1, 2] = top
        np.testing.assert_array_equal(read_labels(write_mask(tmp_path / f"{top}{suffix}", mask, like)).array, mask)
    values = np.linspace(0, 1, 35).reshape(5, 7)
    values[0, 0] = np.nan
    back = read(write_map(tmp_path / "map.tif", values, like))
    np.testing.assert_array_equal(back.array, values.astype(np.float32))


def test_a_volume_without_geometry_keeps_spacing_and_order(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    like = Volume(array, spacing=(3.0, 2.0, 1.0))
    assert output_suffix(like) == output_suffix(like, "map") == ".nii.gz"
    back = read(write_mask(tmp_path / "m.nii.gz", array, like))
    np.testing.assert_array_equal(back.array, array)
    assert back.spacing == (3.0, 2.0, 1.0)
    assert is_label_map(back)
    assert not is_label_map(read(write_map(tmp_path / "p.nii.gz", array, like)))
    assert not is_label_map(like)


@pytest.mark.parametrize(("plane", "shape"), [(0, (3, 4)), (1, (2, 4)), (2, (2, 3))])
def test_one_slice_is_put_back_where_it_came_from(plane, shape):
    like = Volume(np.zeros((2, 3, 4)))
    piece = np.random.default_rng(0).random(shape, np.float32)
    whole = embed_slice(plane, 1, piece, like)
    assert (whole.shape, whole.dtype) == (like.shape, np.float32)
    np.testing.assert_array_equal(replace(like, array=whole).slice(plane, 1), piece)
    assert whole.sum(dtype=float) == pytest.approx(piece.sum(dtype=float))
    with pytest.raises(InputError, match="does not fit plane"):
        embed_slice(plane, 1, piece.T[:1], like)
    with pytest.raises(InputError, match="no slice -1"):
        embed_slice(plane, -1, piece, like)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("m.png", np.zeros((5, 6), bool), "does not fit the image"),
        ("m.png", np.zeros((5, 7)), "write_map"),
        ("m.png", np.full((5, 7), -1), "from -1"),
        ("m.png", np.full((5, 7), 70000), "up to 65535"),
        ("m.nii.gz", np.zeros((5, 7), bool), "no geometry"),
        ("m.xyz", np.zeros((5, 7), bool), r"use \.png"),
        ("nowhere/m.png", np.zeros((5, 7), bool), "no folder"),
        (".", np.zeros((5, 7), bool), "known ending"),
    ],
)
def test_masks_that_cannot_be_written(tmp_path, name, array, message):
    with pytest.raises(InputError, match=message):
        write_mask(tmp_path / name, array, Volume(np.zeros((5, 7))))
    assert not list(tmp_path.iterdir())


def test_maps_and_volumes_need_the_right_format(tmp_path):
    flat, solid = Volume(np.zeros((5, 7))), Volume(np.zeros((2, 5, 7)), affine=np.eye(4))
    for path, array, like, message in (
        ("m.png", np.zeros((5, 7)), flat, "no fractions"),
        ("m.tif", np.zeros((5, 7), complex), flat, "real numbers"),
        ("m.tif", np.zeros((2, 5, 7)), solid, "lose the geometry"),
        ("m.nii.gz", np.zeros((5, 7)), solid, "embed_slice"),
    ):
        with pytest.raises(InputError, match=message):
            write_map(tmp_path / path, array, like)


def test_nothing_is_replaced_unasked(tmp_path):
    like, path = Volume(np.zeros((5, 7))), tmp_path / "m.png"
    write_mask(path, np.ones((5, 7), bool), like)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_mask(path, np.zeros((5, 7), bool), like)
    assert path.read_bytes() == before
    write_mask(path, np.zeros((5, 7), bool), like, overwrite=True)
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["m.png"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(failure: Exception) -> None:
        with atomic(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(InputError, match="No space left"):
        write(OSError(28, "No space left on device"))
    with pytest.raises(RuntimeError):
        write(RuntimeError("other"))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]
    with pytest.raises(InputError, match="folder"), atomic(tmp_path):
        pass


# Prompts


@given(
    st.lists(st.builds(Point, st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.booleans()), max_size=4),
    st.none() | st.builds(Box, *[st.floats(0, 1e4)] * 4),
    st.booleans(),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_prompts_come_back_equal(tmp_path, points, box, with_mask):
    logits = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    prompts = Prompts(tuple(points), box, MaskPrompt(logits) if with_mask else None)
    back = read_prompts(write_prompts(tmp_path / "p.json", prompts, overwrite=True))
    assert back == prompts
    if with_mask:
        np.testing.assert_array_equal(back.mask.logits, logits)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[1]", "no version"),
        ({"version": 2}, "version 2"),
        ({"version": 1, "points": [{"y": 1}]}, "lack the field 'x'"),
        ({"version": 1, "points": [{"y": 1, "x": "2"}]}, "not a number"),
        ({"version": 1, "points": [{"y": 1, "x": True}]}, "not a number"),
        ({"version": 1, "points": [{"y": 1, "x": 2, "positive": 1}]}, "neither true nor false"),
        ({"version": 1, "points": 7}, "not as they should be"),
        ({"version": 1, "box": {"y0": 1e999, "x0": 0, "y1": 1, "x1": 1}}, "not a finite number"),
        ({"version": 1, "mask": {"shape": [2, 2], "float32": "AAAA"}}, "not as they should be"),
    ],
)
def test_damaged_prompts_are_a_sentence(tmp_path, document, message):
    path = tmp_path / "p.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(InputError, match=message):
        read_prompts(path)


def test_prompts_files_that_are_missing_or_not_text(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_prompts(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no valid JSON"):
        read_prompts(tmp_path / "b.json")
    with pytest.raises(InputError, match="could not be read"):
        read_prompts(tmp_path)


def test_a_tiff_stack_comes_back_as_one(tmp_path: Path) -> None:
    stack = Volume(np.zeros((3, 4, 5), np.uint8), source=tmp_path / "stack.tif")
    assert (output_suffix(stack), output_suffix(stack, "map")) == (".tif", ".tif")
    labels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    assert np.array_equal(read(write_mask(tmp_path / "mask.tif", labels, stack)).array, labels)
