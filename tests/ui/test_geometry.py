from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import Box
from napari_uncertsam.ui import geometry
from napari_uncertsam.volume import Volume

angles = st.floats(-180, 180)
factors = st.floats(0.2, 5)
shifts = st.floats(-50, 50)
#: napari says of every oblique layer that it is shown without its rotation out of the slice.
OBLIQUE = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def coded(shape: tuple[int, int, int] = (5, 6, 7)) -> np.ndarray:
    """A volume whose values say where they are: 100 z + 10 y + x."""
    z, y, x = np.indices(shape)
    return (100 * z + 10 * y + x).astype(np.float32)


@OBLIQUE
@settings(deadline=None, max_examples=25)
@given(
    scale=st.tuples(factors, factors, factors),
    translate=st.tuples(shifts, shifts, shifts),
    rotate=st.tuples(angles, angles, angles),
    shear=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    position=st.tuples(*[st.floats(-20, 20)] * 3),
    plane=st.integers(0, 2),
)
def test_world_positions_of_any_layer_become_slice_coordinates(scale, translate, rotate, shear, position, plane):
    placed = {"scale": scale, "translate": translate, "rotate": rotate, "shear": shear}
    image, elsewhere = Image(np.zeros((4, 5, 6)), **placed), Labels(np.zeros((4, 5, 6), int))
    # By the definition of the transform: world = R K S data + t, with another layer's data being the world itself.
    unit = np.eye(3) + np.array([[0, shear[0], shear[1]], [0, 0, shear[2]], [0, 0, 0]])
    world = image.rotate @ unit @ np.diag(scale) @ np.asarray(position) + translate
    got = geometry.to_slice(image, elsewhere, world[None], plane)
    np.testing.assert_allclose(got, [np.delete(position, plane)], atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(rotate=angles, scale=st.tuples(factors, factors), translate=st.tuples(shifts, shifts), y=shifts, x=shifts)
def test_a_copied_transform_puts_a_layer_over_the_image(rotate, scale, translate, y, x):
    image = Image(np.zeros((4, 5)), rotate=rotate, scale=scale, translate=translate)
    layer = Labels(np.zeros((4, 5), int))
    geometry.copy_transform(image, layer)
    np.testing.assert_allclose(layer.data_to_world((y, x)), image.data_to_world((y, x)), atol=1e-6)


@OBLIQUE
def test_an_offset_moves_a_slab_to_its_place_in_the_volume():
    affine = np.eye(4)
    affine[:3, :3] = [[1, 0.2, 0], [0, 2, 0.1], [0.3, 0, 1]]
    affine[:3, 3] = 3, -1, 2
    image = Image(np.zeros((4, 5, 6)), scale=(3, 1, 2), rotate=(10, 20, 30), translate=(7, 8, 9), affine=affine)
    slab = Labels(np.zeros((1, 5, 6), int))
    geometry.copy_transform(image, slab, (2, 0, 0))
    np.testing.assert_allclose(slab.data_to_world((0, 1, 4)), image.data_to_world((2, 1, 4)), atol=1e-9)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1), (1, 2, 0)])
@pytest.mark.parametrize("placed", [{}, {"scale": (3, 1, 2), "translate": (5, -4, 11)}])
def test_the_displayed_slice_is_the_one_napari_shows(order, placed):
    viewer = ViewerModel()
    image = viewer.add_image(coded(), **placed)
    viewer.dims.order = order
    for index in (0, 1, 4):
        world = image.data_to_world((index,) * 3)
        viewer.dims.point = world
        plane, found = geometry.displayed_slice(viewer.dims, image)
        value = image.get_value(world, world=True, dims_displayed=list(viewer.dims.displayed))
        assert (plane, found) == (order[0], index)
        assert (int(value) // 100, int(value) // 10 % 10, int(value) % 10)[plane] == index
        axis, position = geometry.world_position(viewer.dims, image, plane, index)
        assert axis == plane
        assert position == pytest.approx(world[plane])


def test_no_slice_is_displayed_in_3d_beyond_the_image_or_across_a_flat_one():
    viewer = ViewerModel()
    volume = viewer.add_image(coded())
    flat = viewer.add_image(np.zeros((6, 7)))
    assert geometry.displayed_slice(viewer.dims, volume) is not None
    assert geometry.displayed_slice(viewer.dims, flat) == (0, 0)
    viewer.dims.order = (1, 0, 2)
    assert geometry.displayed_slice(viewer.dims, flat) is None
    viewer.dims.order = (0, 1, 2)
    viewer.add_image(np.zeros((40, 6, 7)))
    viewer.dims.point = (20, 0, 0)
    assert geometry.displayed_slice(viewer.dims, volume) is None
    viewer.dims.ndisplay = 3
    assert geometry.displayed_slice(viewer.dims, flat) is None


def test_a_volume_beside_a_time_series_is_found_by_its_own_axes():
    viewer = ViewerModel()
    volume = viewer.add_image(coded())
    viewer.add_image(np.zeros((3, 5, 6, 7)))
    viewer.dims.set_current_step(1, 4)
    assert geometry.displayed_slice(viewer.dims, volume) == (0, 4)
    viewer.dims.order = (1, 2, 0, 3)
    assert geometry.displayed_slice(viewer.dims, volume) is None


@pytest.mark.parametrize("box", [Box(3, 4, 10, 12), Box(5, 5, 5, 5), Box(0.25, 1.5, 7.75, 1.5)])
def test_a_box_is_drawn_around_its_border_pixels_and_read_back(box):
    corners = np.array(geometry.box_corners(box))
    assert np.ptp(corners, axis=0) == pytest.approx([box.height, box.width])
    assert geometry.box_of_outline(corners) == box


def test_any_shape_counts_as_its_bounding_box():
    assert geometry.box_of_outline(np.array([[0, 5], [5, 10], [10, 5], [5, 0.0]])) == Box(0.5, 0.5, 9.5, 9.5)
    assert geometry.box_of_outline(np.array([[2, 3], [2.2, 9.0]])) == Box(2.1, 3.5, 2.1, 8.5)


def test_spacing_is_in_millimetres_whatever_the_unit_of_the_layer():
    assert geometry.spacing_of(Image(np.zeros((3, 4)), scale=(2, 3))) == pytest.approx((2, 3))
    micro = Image(np.zeros((3, 4)), scale=(200, 300), units=("um", "um"))
    assert geometry.spacing_of(micro) == pytest.approx((0.2, 0.3))
    assert geometry.has_spacing(micro)
    assert not geometry.has_spacing(Image(np.zeros((3, 4))))
    turned = Image(np.zeros((3, 4)), scale=(2, 3), rotate=33)
    assert geometry.spacing_of(turned) == pytest.approx((2, 3))


def test_the_reader_s_volume_is_used_while_the_layer_shows_it():
    volume = Volume(coded(), spacing=(3, 1, 1), modality="CT", name="scan")
    image = Image(volume.array, metadata={geometry.VOLUME_KEY: volume})
    assert geometry.is_described(image)
    assert geometry.volume_of(image).modality == "CT"
    image.data = image.data + 1
    assert geometry.volume_of(image).array is image.data
    image.data = np.zeros((2, 3, 4), np.uint8)
    assert not geometry.is_described(image)
    assert geometry.volume_of(image).shape == (2, 3, 4)


def test_what_cannot_be_segmented_is_a_sentence():
    with pytest.raises(InputError, match="4 axes"):
        geometry.volume_of(Image(np.zeros((2, 3, 4, 5))))


def test_multiscale_and_colour_images():
    pyramid = Image([np.zeros((40, 60)), np.zeros((20, 30))], multiscale=True)
    assert geometry.volume_of(pyramid).shape == geometry.spatial_shape(pyramid) == (40, 60)
    for channels in (3, 4):
        colour = Image(np.zeros((8, 9, channels), np.uint8), rgb=True)
        assert geometry.volume_of(colour).modality == "RGB"
        assert geometry.spatial_shape(colour) == (8, 9)
