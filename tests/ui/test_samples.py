from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_uncertsam.errors import InputError
from napari_uncertsam.io import read, read_labels, sample_path, write_map, write_mask
from napari_uncertsam.ui import samples
from napari_uncertsam.ui.geometry import volume_of
from napari_uncertsam.ui.readers import get_reader, layer_data
from napari_uncertsam.volume import WINDOWS, Volume


def add(layers: list) -> list:
    viewer = ViewerModel()
    return [getattr(viewer, f"add_{kind}")(data, **meta) for data, meta, kind in layers]


@pytest.fixture(scope="module")
def ct() -> Volume:
    return read(sample_path("abdomen_ct"))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.asarray(read_labels(sample_path("abdomen_labels")).array)


def test_the_ct_opens_in_millimetres_at_soft_tissue_and_remembers_its_geometry():
    (layer,) = add(samples.abdomen_ct())
    assert isinstance(layer, Image)
    assert (layer.name, layer.data.shape, layer.data.dtype) == ("Abdominal CT", (48, 256, 256), np.int16)
    np.testing.assert_allclose(layer.scale, (3.0, 1.3, 1.3), atol=1e-6)
    assert tuple(layer.contrast_limits) == (WINDOWS["soft tissue"].low, WINDOWS["soft tissue"].high)
    volume = volume_of(layer)
    assert (volume.modality, volume.source) == ("CT", sample_path("abdomen_ct"))
    assert volume.affine is not None


def test_the_ground_truth_fits_the_ct_and_its_labels_have_names():
    image, labels = add(samples.abdomen_ct_with_ground_truth())
    assert isinstance(labels, Labels)
    assert labels.data.shape == image.data.shape
    np.testing.assert_array_equal(labels.scale, image.scale)
    assert labels.features["name"].tolist() == list(samples.ABDOMEN_LABELS)
    assert np.unique(labels.data).tolist() == list(range(len(samples.ABDOMEN_LABELS)))
    labels.paint((20, 100, 100), 3)
    assert labels.data[20, 100, 100] == 3


def test_the_ct_is_small_oblique_and_anisotropic(ct):
    total = sum(sample_path(name).stat().st_size for name in ("abdomen_ct", "abdomen_labels"))
    assert total < 3.5e6
    linear = ct.affine[:3, :3]
    directions = linear / np.linalg.norm(linear, axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-6)
    assert (np.abs(directions).max(0) < 0.9999).all()
    assert (np.abs(directions).max(0) > 0.98).all()
    np.testing.assert_array_equal(read(sample_path("abdomen_labels")).affine, ct.affine)
    header = nib.load(sample_path("abdomen_ct")).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)


def centre(ct: Volume, truth: np.ndarray, name: str) -> np.ndarray:
    """World RAS millimetres of the middle of an organ."""
    label = samples.ABDOMEN_LABELS.index(name)
    index = np.argwhere(truth > 0 if name == "body" else truth == label).mean(0)
    return (ct.affine @ (*index, 1))[:3]


def test_organs_lie_on_the_right_side_of_the_patient(ct, truth):
    places = {name: centre(ct, truth, name) for name in samples.ABDOMEN_LABELS[1:]}
    right = {name: place[0] - places["body"][0] for name, place in places.items()}  # RAS: positive is the right side.
    assert right["liver"] > 25
    assert right["right kidney"] > 40
    assert right["spleen"] < -60
    assert right["left kidney"] < -40
    assert abs(right["spine"]) < 10
    assert places["spine"][1] < places["body"][1] - 20  # Anterior is positive.
    assert places["liver"][2] > places["right kidney"][2]
    # Radiological display: the patient's right is on the left of the screen, the front at the top.
    columns = {name: np.argwhere(truth == i).mean(0) for i, name in enumerate(samples.ABDOMEN_LABELS)}
    assert columns["liver"][2] < columns["spleen"][2]
    assert columns["spine"][1] > columns["liver"][1]


def test_attenuation_is_that_of_the_tissues(ct, truth):
    values = np.asarray(ct.array)
    assert (values.min(), values.max() < 3072) == (-1024, True)
    median = {name: float(np.median(values[truth == i])) for i, name in enumerate(samples.ABDOMEN_LABELS)}
    assert median["background"] < -900
    assert 100 < median["liver"] < 125
    assert median["lesion"] < median["liver"] - 25
    assert median["liver"] < median["spleen"] + 5 < median["vessels"] + 5
    assert 150 < median["left kidney"] < 200
    assert 120 < median["spine"] < 350
    noise = np.diff(values[20, 120:140, 60:80].astype(float), axis=1).std()
    assert 3 < noise < 30


@pytest.mark.parametrize(
    ("sample", "shape", "rgb"),
    [
        (samples.coins, (303, 384), False),
        (samples.cell, (660, 550), False),
        (samples.retina, (1411, 1411, 3), True),
        (samples.astronaut, (512, 512, 3), True),
    ],
)
def test_real_images_need_no_network(sample, shape, rgb, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("no download expected")

    monkeypatch.setattr("socket.create_connection", refuse)
    (layer,) = add(sample())
    assert (layer.data.shape, layer.data.dtype, layer.rgb) == (shape, np.uint8, rgb)
    if not rgb:
        assert tuple(layer.contrast_limits) == (0, 255)


def test_a_sample_that_cannot_be_had_is_a_sentence(monkeypatch):
    def fail() -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("skimage.data.coins", fail)
    with pytest.raises(InputError, match=r"coins .*no network.* reinstall scikit-image\.$"):
        samples.coins()
    with pytest.raises(InputError, match="'brain' is missing"):
        sample_path("brain")


# The reader


def test_the_reader_takes_nifti_only():
    assert get_reader("a.nii.gz") is not None
    assert get_reader(["a.nii", "B.NII.GZ"]) is not None
    assert get_reader("a.png") is None
    assert get_reader(["a.nii", "b.png"]) is None


def test_written_masks_come_back_as_labels_and_maps_as_images(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    like = Volume(array, spacing=(3.0, 2.0, 1.0))
    paths = [
        str(write_mask(tmp_path / "mask.nii", array, like)),
        str(write_map(tmp_path / "map.nii.gz", array / 24, like)),
    ]
    reader = get_reader(paths)
    assert reader is not None
    mask, image = add(reader(paths))
    assert isinstance(mask, Labels)
    assert isinstance(image, Image)
    assert (mask.name, image.name) == ("mask", "map")
    for layer in (mask, image):
        np.testing.assert_array_equal(layer.scale, (3, 2, 1))
    before = Path(paths[0]).read_bytes()
    mask.data[:] = 1
    assert Path(paths[0]).read_bytes() == before


def test_constant_and_colour_volumes_become_layers():
    (constant,) = add([layer_data(Volume(np.full((2, 3, 4), 7.0)))])
    assert tuple(constant.contrast_limits) == (7, 8)
    (colour,) = add([layer_data(Volume(np.zeros((2, 3, 4, 3), np.uint8), rgb=True))])
    assert (colour.rgb, colour.ndim) == (True, 3)


def test_a_damaged_file_is_a_sentence(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"nonsense")
    reader = get_reader(str(tmp_path / "a.nii"))
    assert reader is not None
    with pytest.raises(InputError, match=r"a\.nii"):
        reader(str(tmp_path / "a.nii"))


def test_the_shapes_are_pairs_of_image_and_mask():
    folder = Path(__file__).parents[2] / "sample_data" / "shapes"
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == sorted(path.name for path in (folder / "masks").iterdir())
    assert len(names) == 6
    for name in names:
        image, mask = read(folder / "images" / name), read_labels(folder / "masks" / name)
        assert image.shape == mask.shape == (128, 128)
        assert np.asarray(mask.array).max() >= 1
