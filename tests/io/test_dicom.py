from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from napari_uncertsam.errors import InputError
from napari_uncertsam.intensity import Window, finite_sample
from napari_uncertsam.io import ChoiceNeededError, DicomSeries, holds_dicom, is_dicom, list_series, read
from napari_uncertsam.io import dicom_pixels as pixels_module
from napari_uncertsam.volume import ArrayLike
from tests.io.makers import dataset, enhanced, hounsfield, save, series, stored_values


@pytest.fixture
def stored() -> np.ndarray:
    return stored_values()


# What arrives


@pytest.mark.parametrize("suffix", [".dcm", "", ".IMA", ".1.2.33"])
def test_a_shuffled_folder_is_a_volume_in_hounsfield_units_by_position(tmp_path, stored, suffix):
    paths = save(tmp_path / "Secret_Jane", series(stored), suffix)
    for place in (tmp_path, tmp_path / "Secret_Jane", paths[3]):
        volume = read(place)
        assert (volume.shape, volume.dtype, volume.modality) == ((8, 16, 12), np.int16, "CT")
        np.testing.assert_array_equal(volume.array, hounsfield(stored))
        np.testing.assert_array_equal(
            volume.affine,
            [[0, 0, -0.5, 100], [0, -0.75, 0, 80], [2.5, 0, 0, 40], [0, 0, 0, 1]],
        )
        assert (volume.spacing, volume.notes, volume.source) == ((2.5, 0.75, 0.5), (), place)
        assert volume.name == "Abdomen 5.0 B30f"
        assert isinstance(volume.header, DicomSeries)
        assert volume.header.paths == tuple(paths)
        assert "ecret" not in volume.name + "".join(volume.notes)


def test_the_order_is_that_of_positions_not_of_numbers(tmp_path, stored):
    made = series(stored)
    for number, ds in enumerate(made):
        ds.InstanceNumber = (7 * number) % 8 + 1
    save(tmp_path, made)
    np.testing.assert_array_equal(read(tmp_path).array, hounsfield(stored))


def test_slices_have_their_own_scaling(tmp_path, stored):
    made = series(stored)
    slopes, intercepts = np.linspace(0.5, 2, 8), np.linspace(-1024, -1000, 8)
    for ds, slope, intercept in zip(made, slopes, intercepts, strict=True):
        ds.RescaleSlope, ds.RescaleIntercept = round(slope, 6), round(intercept, 6)
    save(tmp_path, made)
    volume = read(tmp_path)
    assert volume.dtype == np.float32
    expected = stored * np.round(slopes, 6)[:, None, None] + np.round(intercepts, 6)[:, None, None]
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6, atol=1e-3)


def test_whole_intercepts_that_differ_stay_integers(tmp_path, stored):
    made = series(stored)
    for number, ds in enumerate(made):
        ds.RescaleIntercept = -1000 - number
    save(tmp_path, made)
    volume = read(tmp_path)
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume.array, stored.astype(int) - 1000 - np.arange(8)[:, None, None])


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_numbers_and_what_is_left_in_unused_bits(tmp_path, bits):
    rng = np.random.default_rng(0)
    half = 1 << (bits - 1)
    true = rng.integers(-half, half, (3, 16, 12)).astype(np.int16)
    made = series(true, RescaleIntercept=0)
    for ds, slab in zip(made, true, strict=True):
        ds.BitsStored, ds.HighBit = bits, bits - 1
        raw = slab.view(np.uint16)
        if bits == 12:  # an overlay lies in the upper bits
            raw = (raw & 0x0FFF) | (rng.integers(0, 16, raw.shape).astype(np.uint16) << 12)
        ds.PixelData = raw.tobytes()
    save(tmp_path, made)
    volume = read(tmp_path)
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume.array, true)


@pytest.mark.parametrize(("modality", "dtype", "top"), [("CT", np.int16, 32767), ("MR", np.int32, 65535 - 1024)])
def test_numbers_beyond_16_bits(tmp_path, modality, dtype, top):
    stored = np.full((2, 4, 4), 65535, np.uint16)
    stored[0, 0, 0] = 1064
    save(tmp_path, series(stored, modality=modality, BitsStored=16, HighBit=15))
    volume = read(tmp_path)
    assert (volume.dtype, volume.slice(0, 0)[0, 0], volume.slice(0, 1).max()) == (dtype, 40, top)


def test_padding_of_a_signed_ct_stays_the_lowest_value(tmp_path):
    stored = np.array([[[-32768, -2000], [1064, 1024]]], np.int16)
    save(tmp_path, series(stored))
    volume = read(tmp_path)
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume.array, [[[-32768, -3024], [40, 0]]])


def test_monochrome1_is_inverted_but_hounsfield_units_are_not(tmp_path, stored):
    for modality in ("MR", "CT"):
        folder = tmp_path / modality
        save(folder, series(stored, modality=modality, PhotometricInterpretation="MONOCHROME1", RescaleIntercept=0))
        expected = 4095 - stored.astype(int) if modality == "MR" else stored
        np.testing.assert_array_equal(read(folder).array, expected)


@pytest.mark.parametrize(("modality", "named"), [("CT", "CT"), ("MR", "MR"), ("PT", "PET")])
def test_modalities(tmp_path, stored, modality, named):
    save(tmp_path, series(stored[:2], modality=modality))
    assert read(tmp_path).modality == named


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_native_transfer_syntaxes(tmp_path, stored, syntax):
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    for number, (ds, slab) in enumerate(zip(series(stored[:3]), stored, strict=False)):
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = slab.astype("<u2" if little else ">u2").tobytes()
        ds.save_as(tmp_path / f"{number}.dcm", implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path).array, hounsfield(stored[:3]))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compression_by_pydicom(tmp_path, stored, syntax):
    made = series(stored[:3])
    for ds in made:
        ds.compress(syntax, generate_instance_uid=False)
    save(tmp_path, made)
    np.testing.assert_array_equal(read(tmp_path).array, hounsfield(stored[:3]))


@pytest.mark.parametrize("name", ["JPEG2000Lossless", "JPEGLosslessProcess14_1", "JPEGLSLossless"])
def test_compression_by_gdcm(tmp_path, stored, name):
    gdcm = pytest.importorskip("gdcm")
    for number, path in enumerate(save(tmp_path / "plain", series(stored[:3]))):
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(tmp_path / f"{number}.dcm"))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        path.unlink()
    (tmp_path / "plain").rmdir()
    np.testing.assert_array_equal(read(tmp_path).array, hounsfield(stored[:3]))


def test_enhanced_objects_are_read_by_their_functional_groups(tmp_path, stored):
    slopes = [1, 1, 2, 1, 1, 1, 1, 1]
    save(tmp_path, [enhanced(stored, slopes=slopes)])
    volume = read(tmp_path)
    expected = (stored * np.array(slopes)[:, None, None] - 1024.0)[::-1]
    np.testing.assert_allclose(volume.array, expected)
    np.testing.assert_array_equal(volume.affine[:3, 3], (100, 80, 40))
    assert (volume.spacing, volume.notes) == ((2.5, 0.75, 0.5), ())
    assert volume.header.multi_frame
    assert volume.header.frames == tuple(range(7, -1, -1))


def test_times_in_an_enhanced_object_are_volumes(tmp_path, stored):
    save(tmp_path, [enhanced(stored, temporal=[1, 2] * 4)])
    with pytest.raises(ChoiceNeededError, match="TemporalPositionIndex 1"):
        read(tmp_path)
    np.testing.assert_array_equal(read(tmp_path, series=2).array, hounsfield(stored[1::2][::-1]))


def test_a_single_radiograph_is_a_flat_image(tmp_path, stored):
    ds = dataset(stored[0])
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    (path,) = save(tmp_path, [ds])
    volume = read(path)
    np.testing.assert_array_equal(volume.slice(), hounsfield(stored[0]))
    assert (volume.spacing, volume.affine) == ((0.75, 0.5), None)


# Choosing


def test_several_series_are_listed_and_chosen_by_number_uid_or_file(tmp_path, stored):
    first = save(tmp_path / "a", series(stored, seed="a", SeriesDescription="Arterial"))
    second = save(
        tmp_path / "a", series(stored[::-1], seed="b", SeriesNumber=4, SeriesDescription="Venous"), prefix="V"
    )
    infos = list_series(tmp_path)
    assert [(i.number, i.series_number, i.description, i.n_images, i.date) for i in infos] == [
        (1, 3, "Arterial", 8, "2024-01-31"),
        (2, 4, "Venous", 8, "2024-01-31"),
    ]
    assert (infos[0].shape, infos[0].modality, infos[0].key) == ((8, 16, 12), "CT", infos[0].uid)
    with pytest.raises(
        ChoiceNeededError, match=r"(?s)holds 2 series.*--series N.*1: CT, Arterial.*2: CT, Venous"
    ) as told:
        read(tmp_path)
    assert (told.value.argument, told.value.values) == ("series", tuple(i.uid for i in infos))
    assert "ecret" not in str(told.value)
    for chosen in (2, "2", infos[1].uid):
        np.testing.assert_array_equal(read(tmp_path, series=chosen).array, hounsfield(stored[::-1]))
    np.testing.assert_array_equal(read(first[0]).array, hounsfield(stored))
    np.testing.assert_array_equal(read(second[0]).array, hounsfield(stored[::-1]))
    with pytest.raises(InputError, match="no series 7"):
        read(tmp_path, series=7)


@pytest.mark.parametrize(
    ("name", "values"), [("AcquisitionNumber", (1, 2)), ("EchoTime", (2.5, 80.0)), ("TriggerTime", (0, 500))]
)
def test_repeated_positions_are_volumes_of_their_own(tmp_path, stored, name, values):
    made = [series(s, **{name: v}) for s, v in zip((stored, stored[::-1]), values, strict=True)]
    save(tmp_path, made[0] + made[1])
    first, second = list_series(tmp_path)
    assert (first.uid, second.key) == (second.uid, f"{first.uid}/2")
    assert second.difference.startswith(name)
    np.testing.assert_array_equal(read(tmp_path, series=second.key).array, hounsfield(stored[::-1]))
    np.testing.assert_array_equal(read(tmp_path, series=1).array, hounsfield(stored))


def test_slabs_one_after_the_other_are_one_volume(tmp_path, stored):
    made = series(stored)
    for number, ds in enumerate(made):
        ds.AcquisitionNumber = number // 4
    save(tmp_path, made)
    assert read(tmp_path).shape == (8, 16, 12)


def test_a_scout_in_the_series_is_apart(tmp_path, stored):
    scout = dataset(stored[0], ImageOrientationPatient=[1, 0, 0, 0, 0, -1], InstanceNumber=99)
    save(tmp_path, [*series(stored), scout])
    assert [i.n_images for i in list_series(tmp_path)] == [8, 1]
    assert read(tmp_path, series=1).shape == (8, 16, 12)


def test_other_objects_and_files_are_passed_over(tmp_path, stored):
    save(tmp_path / "deep" / "er", series(stored), "")
    report = dataset(stored[0], SOPClassUID=BasicTextSRStorage)
    del report.Rows, report.Columns, report.PixelData
    save(tmp_path, [report], prefix="report")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".hidden").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "DICOMDIR").write_bytes(b"not really")
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    for path in (tmp_path, tmp_path / "DICOMDIR"):
        volume = read(path)
        assert volume.shape == (8, 16, 12)
        assert volume.notes == ("1 file could not be read as DICOM and left out, broken.dcm first.",)


# The array


def index_keys() -> st.SearchStrategy:
    whole = st.slices(8)
    axis = st.one_of(st.integers(-4, 3), whole)
    return st.one_of(
        st.integers(-8, 7),
        whole,
        st.just(Ellipsis),
        st.tuples(st.one_of(st.integers(-8, 7), whole), axis, axis),
        st.tuples(Ellipsis_(), axis),
        st.tuples(st.one_of(st.integers(-8, 7), whole), Ellipsis_()),
        st.just(()),
        st.just((None, 2)),
        st.just([1, 3]),
        st.just(np.array([True, False] * 4)),
    )


def Ellipsis_() -> st.SearchStrategy:
    return st.just(Ellipsis)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("series")
    save(place, series(stored_values((8, 6, 5))))
    return place


@settings(max_examples=60, deadline=None)
@given(key=index_keys(), limit=st.sampled_from([0, 1 << 30]))
def test_indexing_is_that_of_numpy(folder, key, limit):
    expected = hounsfield(stored_values((8, 6, 5)))
    patch = pytest.MonkeyPatch()
    patch.setattr(pixels_module, "_KEPT_WHOLE", limit)
    with patch.context():
        array = read(folder).array
        patch.setattr(pixels_module, "_KEPT_WHOLE", limit)
        for _ in range(2):
            np.testing.assert_array_equal(array[key], expected[key])
    patch.undo()


def test_slices_are_decoded_when_asked_for_and_once(folder, monkeypatch):
    decoded = []
    original = pixels_module._decode
    monkeypatch.setattr(pixels_module, "_decode", lambda f, d: decoded.append(f.number) or original(f, d))
    volume = read(folder)
    assert decoded == []
    for _ in range(3):
        volume.slice(0, 5)
    assert len(decoded) == 1
    for index in range(5):
        volume.slice(2, index)
    assert len(decoded) == 8
    assert volume.slice(1, 2).shape == (8, 5)
    assert len(decoded) == 8


def test_only_the_last_slices_are_kept_of_a_volume_that_is_too_large(folder, monkeypatch):
    monkeypatch.setattr(pixels_module, "_KEPT_WHOLE", 0)
    monkeypatch.setattr(pixels_module, "_KEPT_SLICES", 2)
    volume = read(folder)
    np.testing.assert_array_equal(volume.slice(1, 3), hounsfield(stored_values((8, 6, 5)))[:, 3])
    np.testing.assert_array_equal(volume.array, hounsfield(stored_values((8, 6, 5))))
    assert len(volume.array._slices) == 2
    assert volume.array._whole is None


def test_the_array_is_what_the_package_asks_of_one(folder):
    expected = hounsfield(stored_values((8, 6, 5)))
    volume = read(folder)
    array = volume.array
    assert isinstance(array, ArrayLike)
    assert (array.shape, array.ndim, array.size, array.nbytes, len(array)) == ((8, 6, 5), 3, 240, 480, 8)
    np.testing.assert_array_equal(np.sort(finite_sample(array)), np.sort(expected.ravel()))
    assert Window.for_volume(volume).name == "soft tissue"
    assert volume.content_digest() == read(folder).content_digest()
    assert np.asarray(array, np.float64).dtype == np.float64
    assert np.array(array).flags.writeable
    assert deepcopy(array) is array
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), expected)
    with pytest.raises(ValueError, match="read-only"):
        read(folder).array[3][0, 0] = 1
    with pytest.raises(IndexError):
        array[8]
    with pytest.raises(IndexError):
        read(folder).array[-9]
    with pytest.raises(IndexError):
        read(folder).array[0, 0, 0, 0]


def test_threads_may_ask_at_once(folder):
    expected = hounsfield(stored_values((8, 6, 5)))
    array = read(folder).array
    keys = [(i % 8,) if i % 3 else (slice(None), i % 6) for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for key, found in zip(keys, pool.map(lambda k: array[k], keys), strict=True):
            np.testing.assert_array_equal(found, expected[key])


# What goes wrong


def test_sentences_for_bad_files_and_folders(tmp_path, stored):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty is a folder that holds no DICOM images; choose another"):
        read(tmp_path / "empty")
    with pytest.raises(InputError, match="no file"):
        list_series(tmp_path / "nowhere")
    (tmp_path / "notes.dcm").write_text("hello")
    with pytest.raises(InputError, match=r"^notes\.dcm could not be read as DICOM"):
        read(tmp_path / "notes.dcm")
    with pytest.raises(InputError, match="choose with series"):
        read(tmp_path, volume=1)
    report = dataset(stored[0], SOPClassUID=BasicTextSRStorage)
    del report.Rows, report.Columns, report.PixelData
    (path,) = save(tmp_path / "report", [report])
    with pytest.raises(InputError, match="holds no DICOM image"):
        read(path)
    (path,) = save(tmp_path / "colour", [dataset(stored[0], PhotometricInterpretation="RGB")])
    with pytest.raises(InputError, match="colour"):
        read(path)
    made = series(stored)
    for ds in made:
        del ds.ImagePositionPatient
    save(tmp_path / "nowhere", made)
    with pytest.raises(InputError, match="have no position"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("seed", range(30))
def test_a_changed_byte_is_a_volume_or_a_sentence(tmp_path, seed):
    # Not by hypothesis: the length of a file depends on the identifiers that were drawn for it.
    rng, stored = np.random.default_rng(seed), stored_values((3, 4, 4))
    path = save(tmp_path / "changed", [enhanced(stored)] if seed % 2 else series(stored))[0]
    content = bytearray(path.read_bytes())
    content[int(rng.integers(128, len(content)))] = int(rng.integers(256))
    path.write_bytes(content)
    try:
        assert np.asarray(read(path).array).size
    except InputError as error:
        assert str(error)  # noqa: PT017


@pytest.mark.parametrize("slope", [1e-3, 1])
def test_huge_intercepts_are_floats(tmp_path, stored, slope):
    save(tmp_path, series(stored, RescaleSlope=slope, RescaleIntercept=10**9))
    assert read(tmp_path).dtype == np.float32
    assert np.isfinite(read(tmp_path).slice(0, 1)).all()


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_cut_off_file_is_a_sentence(tmp_path, stored, part):
    paths = save(tmp_path, series(stored))
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: int(len(content) * part)])
    try:
        volume = read(tmp_path)
    except InputError as error:
        assert f"{paths[2].name} is cut off" in str(error)  # noqa: PT017
    else:
        assert any(paths[2].name in note or "missing" in note for note in volume.notes)


def test_a_slice_that_cannot_be_decoded_is_a_sentence_when_it_is_asked_for(tmp_path, stored):
    made = series(stored)
    for ds in made:
        ds.compress(RLELossless, generate_instance_uid=False)
    paths = save(tmp_path, made)
    content = paths[5].read_bytes()
    paths[5].write_bytes(content[: len(content) - 200])
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.slice(0, 4), hounsfield(stored[4]))
    with pytest.raises(InputError, match=f"{paths[5].name} could not be decoded, it is damaged"):
        volume.slice(0, 5)
    paths[3].unlink()
    with pytest.raises(InputError, match="not there any more"):
        volume.slice(0, 3)


def test_missing_libraries_are_sentences(tmp_path, stored, monkeypatch):
    made = series(stored[:2])
    for ds in made:
        ds.compress(RLELossless, generate_instance_uid=False)
    save(tmp_path, made)
    with monkeypatch.context() as patch:
        patch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
        with pytest.raises(InputError, match=r"compressed as RLE Lossless.*pip install .*\[dicom\]"):
            read(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "pydicom", None)
        with pytest.raises(InputError, match=r"needs pydicom; install it with: pip install .*\[dicom\]"):
            read(tmp_path)


def test_dicom_is_told_by_its_first_bytes(tmp_path, stored):
    (path,) = save(tmp_path / "a", series(stored[:1]), "")
    assert is_dicom(path)
    assert holds_dicom(tmp_path)
    (tmp_path / "b").mkdir()
    for number in range(30):
        (tmp_path / "b" / f"{number}.txt").touch()
    assert not holds_dicom(tmp_path / "b")
    assert not holds_dicom(tmp_path / "missing")
