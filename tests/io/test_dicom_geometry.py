from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_uncertsam.errors import InputError
from napari_uncertsam.io import check_nifti_geometry, list_series, read, write_map, write_mask
from napari_uncertsam.io.dicom_files import scan
from napari_uncertsam.io.dicom_geometry import arrange
from tests.io.makers import SAGITTAL, dataset, hounsfield, save, series, stored_values


@pytest.fixture
def stored() -> np.ndarray:
    return stored_values()


def world(ds, row: float, column: float) -> np.ndarray:
    """RAS millimetres of a pixel by the equation of the standard (C.7.6.2.1.1)."""
    row_direction, column_direction = np.reshape(np.array(ds.ImageOrientationPatient, float), (2, 3))
    between_rows, between_columns = (float(v) for v in ds.PixelSpacing)
    position = np.array(ds.ImagePositionPatient, float)
    lps = position + row_direction * between_columns * column + column_direction * between_rows * row
    return lps * (-1, -1, 1)


def assert_in_place(volume, sorted_datasets, atol=1e-6):
    for index, ds in enumerate(sorted_datasets):
        for row, column in ((0, 0), (3, 7), (15, 11)):
            found = (volume.affine @ (index, row, column, 1))[:3]
            np.testing.assert_allclose(found, world(ds, row, column), atol=atol)


def orientation(angles) -> tuple[float, ...]:
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return (*turned[:, 0], *turned[:, 1])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)),
    step=st.floats(0.3, 10),
    backwards=st.booleans(),
)
def test_every_voxel_is_where_the_standard_says(tmp_path_factory, angles, spacing, step, backwards):
    folder = tmp_path_factory.mktemp("turned")
    stored = stored_values((4, 16, 12))
    made = series(
        stored,
        orientation=orientation(angles),
        step=-step if backwards else step,
        PixelSpacing=[round(v, 6) for v in spacing],
    )
    save(folder, made)
    volume = read(folder)
    order = made[::-1] if backwards else made
    assert_in_place(volume, order)
    np.testing.assert_array_equal(volume.array, hounsfield(stored[::-1] if backwards else stored))
    assert volume.spacing == pytest.approx((step, *np.round(spacing, 6)), rel=1e-6)
    assert np.linalg.det(volume.affine[:3, :3]) < 0  # right-handed (Z, Y, X) to RAS, always


def test_sagittal_acquisitions(tmp_path, stored):
    made = series(stored, orientation=SAGITTAL)
    save(tmp_path, made)
    volume = read(tmp_path)
    assert_in_place(volume, made)
    assert volume.notes == ()
    assert np.abs(volume.affine[0, 0]) == 2.5


def test_oblique_slices_are_noted_with_their_angle(tmp_path, stored):
    made = series(stored, orientation=orientation((12.5, 0, 0)))
    save(tmp_path, made)
    volume = read(tmp_path)
    assert_in_place(volume, made)
    assert len(volume.notes) == 1
    assert "oblique: its axes are up to 12.5 degrees off" in volume.notes[0]


@pytest.mark.parametrize("degrees", [-20.0, 3.0, 15.5])
def test_a_gantry_tilt_shears_the_affine_and_is_noted(tmp_path, stored, degrees):
    made = series(stored, orientation=orientation((degrees, 0, 0)), direction=np.array([0, 0, 1.0]), step=2.5)
    save(tmp_path / "series", made)
    volume = read(tmp_path / "series")
    assert_in_place(volume, made)
    assert len(volume.notes) == 1
    assert f"tilted by {abs(degrees):.1f} degrees" in volume.notes[0]
    # The product of the spacings is the volume of a voxel, the determinant of the affine.
    assert np.prod(volume.spacing) == pytest.approx(abs(np.linalg.det(volume.affine[:3, :3])))
    assert volume.spacing[0] == pytest.approx(2.5 * np.cos(np.radians(degrees)))
    for write, values in ((write_mask, np.zeros(volume.shape, bool)), (write_map, np.zeros(volume.shape))):
        with pytest.raises(InputError, match=r"sheared.*NIfTI cannot hold.*DICOM SEG, or resample"):
            write(tmp_path / "a.nii.gz", values, volume)
    with pytest.raises(InputError, match="DICOM SEG"):
        check_nifti_geometry(volume)
    assert not (tmp_path / "a.nii.gz").exists()


def test_uneven_slices_take_the_median_and_say_by_how_much(tmp_path, stored):
    heights = np.array([0, 2.5, 5, 7.5, 10.8, 13.3, 15.8, 18.3])
    save(tmp_path, series(stored, heights=heights))
    volume = read(tmp_path)
    assert volume.spacing[0] == pytest.approx(2.5)
    assert len(volume.notes) == 1
    assert "differ by up to 0.80 mm from their median, 2.50 mm" in volume.notes[0]
    assert "volumes in mL are approximate" in volume.notes[0]


def test_rounded_positions_are_even(tmp_path, stored):
    heights = np.round(np.arange(8) * 0.6666, 2)
    save(tmp_path, series(stored, heights=heights))
    volume = read(tmp_path)
    assert volume.notes == ()
    assert volume.spacing[0] == pytest.approx(heights[-1] / 7)


def test_missing_slices_are_named(tmp_path, stored):
    heights = np.array([0, 2.5, 5, 12.5, 15, 17.5, 20, 22.5])
    save(tmp_path, series(stored, heights=heights))
    volume = read(tmp_path)
    (note,) = volume.notes
    assert note.startswith("2 slices are missing, between 45.0 and 52.5 mm along")
    assert volume.shape[0] == 8
    assert volume.spacing[0] == 2.5


def test_a_repeated_slice_is_left_out(tmp_path, stored):
    made = series(stored)
    again = dataset(stored[0] + 1, InstanceNumber=50, ImagePositionPatient=list(made[3].ImagePositionPatient))
    save(tmp_path, [*made, again])
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, hounsfield(stored))
    (note,) = volume.notes
    assert note.startswith("1 slice lies at a position that another one has already")
    assert list_series(tmp_path)[0].n_images == 8


def test_the_same_object_twice_counts_once(tmp_path, stored):
    made = series(stored)
    save(tmp_path / "a", made)
    save(tmp_path / "b", made)
    assert (read(tmp_path).shape, read(tmp_path).notes) == ((8, 16, 12), ())


def test_slices_that_are_shifted_sideways_are_noted(tmp_path, stored):
    made = series(stored)
    made[4].ImagePositionPatient[0] += 3
    save(tmp_path, made)
    (note,) = read(tmp_path).notes
    assert "shifted sideways against each other by up to 3.00 mm" in note


def test_a_single_slice_has_its_thickness(tmp_path, stored):
    save(tmp_path, series(stored[:1]))
    volume = read(tmp_path)
    assert (volume.shape, volume.spacing, volume.notes) == ((1, 16, 12), (5.0, 0.75, 0.5), ())


def test_pixels_of_unknown_size_are_noted(tmp_path, stored):
    made = series(stored)
    for ds in made:
        del ds.PixelSpacing
    save(tmp_path, made)
    volume = read(tmp_path)
    assert volume.spacing == (2.5, 1, 1)
    assert "taken as 1 mm" in volume.notes[0]


def test_slices_in_any_order_give_the_same_volume(tmp_path, stored, rng):
    save(tmp_path, series(stored))
    frames = list(scan(tmp_path).frames)
    expected = arrange(frames)
    for _ in range(5):
        rng.shuffle(frames)
        found = arrange(frames)
        assert found.frames == expected.frames
        np.testing.assert_array_equal(found.affine, expected.affine)


def test_masks_of_a_series_are_nifti_with_its_geometry(tmp_path, stored):
    import nibabel as nib

    made = series(stored, orientation=orientation((5, 10, -7)))
    save(tmp_path / "series", made)
    volume = read(tmp_path / "series")
    mask = np.asarray(volume.array) > 200
    back = nib.load(write_mask(tmp_path / "mask.nii.gz", mask, volume))
    np.testing.assert_array_equal(back.get_fdata().T, mask)
    for index, row, column in ((0, 0, 0), (7, 15, 11), (3, 4, 5)):
        np.testing.assert_allclose(
            (back.affine @ (column, row, index, 1))[:3], world(made[index], row, column), atol=2e-5
        )
    assert (int(back.header["qform_code"]), int(back.header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(back.get_qform(), back.get_sform(), atol=1e-4)
    assert b"ecret" not in back.header.binaryblock
