from __future__ import annotations

import gzip
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_uncertsam.errors import InputError
from napari_uncertsam.io import ChoiceNeededError, check_nifti_geometry, read, read_labels, write_map, write_mask
from napari_uncertsam.io.orientation import oblique_degrees, shear_degrees
from napari_uncertsam.io.scaled import ScaledArray
from napari_uncertsam.volume import Volume


def scaled_file(path, slope=0.5, inter=-3.0, shape=(5, 4, 3), affine=None):
    raw = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = nib.Nifti1Image(raw, np.diag([1.0, 2, 3, 1]) if affine is None else affine)
    image.header.set_slope_inter(slope, inter)
    # nibabel divides by the scaling on saving; the bytes on disk are what is asked for here.
    image.to_filename(path)
    return path


# Lazy values


def test_uncompressed_scaled_values_are_scaled_when_asked_for(tmp_path):
    path = scaled_file(tmp_path / "a.nii")
    expected = np.asarray(nib.load(path).dataobj).T
    volume = read(path)
    assert isinstance(volume.array, ScaledArray)
    assert (volume.dtype, volume.shape, volume.array.ndim, volume.array.size) == (np.float32, (3, 4, 5), 3, 60)
    for plane in range(3):
        for index in range(volume.n_slices(plane)):
            np.testing.assert_allclose(volume.slice(plane, index), np.take(expected, index, plane), rtol=1e-6)
    for key in (..., 1, (slice(None, None, 2), 1), (slice(None), slice(1, 3), -1), (0, 0, 0)):
        np.testing.assert_allclose(volume.array[key], expected[key], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(volume.array), expected, rtol=1e-6)
    assert np.asarray(volume.array, np.float64).dtype == np.float64
    assert len(volume.array) == 3
    assert deepcopy(volume.array) is volume.array
    before = path.read_bytes()
    volume.array[1][:] = 0
    assert path.read_bytes() == before


def test_nothing_is_scaled_before_it_is_asked_for(tmp_path, monkeypatch):
    path = scaled_file(tmp_path / "a.nii", shape=(40, 40, 200))
    asked = []
    monkeypatch.setattr(
        "napari_uncertsam.io.scaled.scaled", lambda raw, *rest: asked.append(raw.size) or raw.astype(np.float32)
    )
    volume = read(path)
    sampled = sum(asked)  # by the guess of the modality
    volume.slice(0, 3)
    assert sum(asked) - sampled == 1600


def test_compressed_values_are_scaled_slice_by_slice(tmp_path, monkeypatch):
    import napari_uncertsam.io.nifti as module

    sizes = []
    monkeypatch.setattr(module, "scaled", lambda raw, *rest: sizes.append(raw.shape) or raw * rest[0] + rest[1])
    path = scaled_file(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read(path).array, np.asarray(nib.load(path).dataobj).T, rtol=1e-6)
    assert sizes == [(4, 5)] * 3


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaled_whole_numbers_are_labels(tmp_path, suffix):
    labels = read_labels(scaled_file(tmp_path / f"a{suffix}", 1.0, 2.0))
    assert labels.dtype == np.int32
    assert labels.slice(0, 0)[0, 0] == np.asarray(nib.load(tmp_path / f"a{suffix}").dataobj)[0, 0, 0]


def test_a_header_that_speaks_of_more_than_its_file_can_hold_is_a_sentence(tmp_path):
    nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    content = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match="so small a file cannot hold"):
        read(tmp_path / "a.nii.gz")


# One of several volumes


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(5, 4, 3, 6), (5, 4, 3, 1, 6), (5, 4, 1, 6)])
@pytest.mark.parametrize("slope", [None, 2.0])
def test_one_volume_of_a_series_is_chosen(tmp_path, suffix, shape, slope):
    raw = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = nib.Nifti1Image(raw, np.diag([1.0, 2, 3, 1]))
    if slope:
        image.header.set_slope_inter(slope, -1)
    image.to_filename(tmp_path / f"a{suffix}")
    expected = np.asarray(nib.load(tmp_path / f"a{suffix}").dataobj).reshape(*shape[:3], -1)
    for number in (0, 2, 5):
        volume = read(tmp_path / f"a{suffix}", volume=number)
        np.testing.assert_allclose(volume.array, expected[..., number].T)
        assert (volume.name, volume.spacing) == (f"a {number}", (3, 2, 1))
        back = nib.load(write_mask(tmp_path / "m.nii.gz", np.ones(volume.shape, bool), volume, overwrite=True))
        assert back.shape == shape[:3]
    with pytest.raises(
        ChoiceNeededError, match=r"^a\.nii.*holds 6 volumes.*volume=K \(--volume K\), 0 to 5\.$"
    ) as told:
        read(tmp_path / f"a{suffix}")
    assert (told.value.argument, told.value.values, len(told.value.options)) == ("volume", tuple(range(6)), 6)
    with pytest.raises(InputError, match=r"no volume 6 in it, it holds 6 volumes, 0 to 5"):
        read(tmp_path / f"a{suffix}", volume=6)


def test_choices_that_do_not_apply_are_sentences(tmp_path):
    from PIL import Image

    scaled_file(tmp_path / "a.nii")
    assert read(tmp_path / "a.nii", volume=0).name == "a"
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "a.png")
    for options, message in (
        ({"volume": 1}, "no volume 1 in it, it holds one"),
        ({"series": 1}, "is not DICOM, so there is no series 1"),
    ):
        for name in ("a.nii", "a.png"):
            with pytest.raises(InputError, match=message):
                read(tmp_path / name, **options)
    nib.Nifti1Image(np.zeros((2, 2, 2, 2, 3), np.int16), np.eye(4)).to_filename(tmp_path / "b.nii")
    with pytest.raises(InputError, match="5 axes"):
        read(tmp_path / "b.nii")


# Geometry


def sheared(cosine: float) -> np.ndarray:
    affine = np.diag([0.8, 0.8, 2.5, 1.0])
    affine[:3, 2] = 2.5 * np.array([cosine, 0, np.sqrt(1 - cosine**2)])
    return affine


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_sheared_affines_are_refused_in_and_out(tmp_path, suffix):
    nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), sheared(0.2)).to_filename(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match=r"^a\.nii.*: its axes are 11\.5 degrees away.*resample it"):
        read(tmp_path / f"a{suffix}")
    like = Volume(np.zeros((2, 3, 4)), affine=sheared(0.2)[:, [2, 1, 0, 3]])
    with pytest.raises(InputError, match=r"sheared.*11\.5 degrees.*DICOM SEG, or resample"):
        write_mask(tmp_path / f"m{suffix}", np.zeros((2, 3, 4), bool), like)
    assert not (tmp_path / f"m{suffix}").exists()


def test_rounding_is_no_shear(tmp_path):
    nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), sheared(0.0009)).to_filename(tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    check_nifti_geometry(volume)
    assert shear_degrees(sheared(0.0011)) == pytest.approx(np.degrees(0.0011), rel=1e-3)


def turned(angles, spacing=(0.7, 0.9, 3.0), flips=(-1, 1, 1)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(np.multiply(spacing, flips))
    affine[:3, 3] = 12.5, -80.25, 300.125
    return affine


@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 0), (180, 90, 0), (90, 90, 90)])
def test_flipped_and_permuted_axes_are_no_news(tmp_path, angles):
    nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), turned(angles)).to_filename(tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").notes == ()


@pytest.mark.parametrize(("angles", "degrees"), [((12.3, 0, 0), 12.3), ((0, 0, 40), 40), ((0, 60, 0), 30)])
def test_oblique_volumes_say_by_how_much(tmp_path, angles, degrees):
    nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), turned(angles)).to_filename(tmp_path / "a.nii")
    (note,) = read(tmp_path / "a.nii").notes
    assert f"oblique: its axes are up to {degrees:.1f} degrees off" in note
    # The same by nibabel's own measure.
    assert np.degrees(nib.affines.obliquity(turned(angles))).max() == pytest.approx(oblique_degrees(turned(angles)))


def test_unknown_orientation_is_said(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), None)
    image.header.set_zooms((1, 2, 3))
    image.to_filename(tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    assert volume.spacing == (3, 2, 1)
    (note,) = volume.notes
    assert note.startswith("The orientation is unknown (the qform and sform codes are 0)")
    assert read_labels(tmp_path / "a.nii").notes == volume.notes


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 8)] * 3),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    unit=st.sampled_from(["mm", "micron", "meter", "unknown"]),
    form=st.sampled_from(["sform", "qform", "both"]),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
def test_masks_and_maps_lie_where_their_volume_lies(tmp_path, angles, spacing, flips, unit, form, kind):
    affine = turned(angles, spacing, flips)
    image = kind(np.zeros((4, 3, 2), np.int16), affine)
    image.header.set_xyzt_units(unit, "sec")
    image.set_sform(affine, 0 if form == "qform" else 2)
    image.set_qform(affine, 0 if form == "sform" else 1)
    image.to_filename(tmp_path / "a.nii")
    volume, source = read(tmp_path / "a.nii"), nib.load(tmp_path / "a.nii")
    for write, values in ((write_mask, np.ones(volume.shape, bool)), (write_map, np.ones(volume.shape))):
        back = nib.load(write(tmp_path / "out.nii.gz", values, volume, overwrite=True))
        np.testing.assert_allclose(back.affine, source.affine, rtol=0, atol=1e-6)
        assert back.header.get_xyzt_units()[0] == unit
        assert type(back) is kind
        again = read(tmp_path / "out.nii.gz")
        np.testing.assert_allclose(again.affine, volume.affine, rtol=1e-6, atol=1e-6)
        assert again.notes == volume.notes
