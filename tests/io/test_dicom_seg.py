from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.io import (
    list_series,
    read,
    read_segmentation,
    write_fractional,
    write_mask,
    write_segmentation,
)
from napari_uncertsam.volume import Volume
from tests.io.makers import enhanced, save, series, stored_values
from tests.io.test_dicom_geometry import orientation

SHAPE = (8, 16, 12)


@pytest.fixture
def stored() -> np.ndarray:
    return stored_values()


@pytest.fixture
def labels(rng) -> np.ndarray:
    """Labels with a gap in their numbers, on some slices only."""
    array = rng.choice([0, 1, 3, 7], SHAPE, p=[0.7, 0.1, 0.1, 0.1])
    array[[0, 4]] = 0
    return array


def unpacked(path) -> tuple[pydicom.Dataset, list[tuple[int, tuple[float, ...], np.ndarray]]]:
    """Segment number, position and stored values of each frame, by pydicom's header and NumPy's bits alone."""
    ds = pydicom.dcmread(path)
    size = ds.Rows * ds.Columns
    content = np.frombuffer(ds.PixelData, np.uint8)
    if ds.BitsAllocated == 1:
        content = np.unpackbits(content, bitorder="little")
    frames = []
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        values = content[number * size : (number + 1) * size].reshape(ds.Rows, ds.Columns)
        # A lone segment is said once for all frames.
        holder = group if "SegmentIdentificationSequence" in group else ds.SharedFunctionalGroupsSequence[0]
        segment = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
        frames.append((int(segment), position, values))
    return ds, frames


def opened(folder, stored, **options) -> tuple[Volume, list]:
    made = series(stored, **options)
    save(folder, made)
    return read(folder), made


def test_labels_are_segments_voxel_by_voxel(tmp_path, stored, labels):
    volume, made = opened(tmp_path / "series", stored, orientation=orientation((7, -3, 12)))
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume, names={1: "liver", 3: "spleen\\left"})
    ds, frames = unpacked(path)
    assert (ds.SegmentationType, ds.BitsAllocated, ds.Modality) == ("BINARY", 1, "SEG")
    described = [(s.SegmentNumber, s.SegmentLabel, s.SegmentAlgorithmType) for s in ds.SegmentSequence]
    assert described == [
        (1, "liver", "SEMIAUTOMATIC"),
        (2, "spleen/left", "SEMIAUTOMATIC"),
        (3, "object 7", "SEMIAUTOMATIC"),
    ]
    rebuilt = np.zeros(SHAPE, int)
    by_position = {tuple(float(v) for v in d.ImagePositionPatient): i for i, d in enumerate(made)}
    for segment, position, values in frames:
        rebuilt[by_position[position]][values == 1] = (1, 3, 7)[segment - 1]
    np.testing.assert_array_equal(rebuilt, labels)
    np.testing.assert_array_equal(read_segmentation(path, volume), labels)
    referenced = {i.ReferencedSOPInstanceUID for i in ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced == {d.SOPInstanceUID for d in made}
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == made[0].SeriesInstanceUID
    assert (ds.PatientID, ds.StudyInstanceUID) == ("SECRET7", made[0].StudyInstanceUID)
    assert ds.FrameOfReferenceUID == made[0].FrameOfReferenceUID
    for group in ds.PerFrameFunctionalGroupsSequence:  # each frame refers to the slice at its position
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = by_position[tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)]
        assert source == made[place].SOPInstanceUID


def test_a_seg_and_a_nifti_of_one_mask_lie_at_the_same_place(tmp_path, stored, labels):
    # Numbers that float32, in which a NIfTI-1 keeps its affine, holds exactly; with 3-4-5 as an oblique direction.
    turned = (1.0, 0.0, 0.0, 0.0, 0.8, 0.6)
    volume, _ = opened(
        tmp_path / "series",
        stored,
        orientation=turned,
        origin=(-128.5, 64.25, 32.0),
        step=2.5,
        PixelSpacing=[0.75, 0.5],
    )
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume)
    image = nib.load(write_mask(tmp_path / "mask.nii.gz", labels, volume))
    mask, ds = image.get_fdata(), unpacked(path)[0]
    row, column = np.reshape(
        [float(v) for v in ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient],
        (2, 3),
    )
    between_rows, between_columns = (
        float(v) for v in ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    )
    by_seg = []
    for segment, position, values in unpacked(path)[1]:
        for r, c in np.argwhere(values):
            place = np.array(position) + row * between_columns * c + column * between_rows * r
            by_seg.append((*(place * (-1, -1, 1)), (1, 3, 7)[segment - 1]))
    places = np.argwhere(mask)
    world = nib.affines.apply_affine(image.affine, places)
    by_nifti = np.column_stack([world, mask[tuple(places.T)]])
    by_seg = np.array(by_seg)
    # Sorted by voxel: the same order for both.
    for found in (by_seg, by_nifti):
        found[:] = found[np.lexsort(np.round(found.T, 3))]
    np.testing.assert_allclose(by_seg, by_nifti, rtol=0, atol=1e-6)
    exact = nib.affines.apply_affine(volume.affine[:, [2, 1, 0, 3]], places)
    exact = np.column_stack([exact, mask[tuple(places.T)]])
    exact = exact[np.lexsort(np.round(exact.T, 3))]
    np.testing.assert_allclose(by_seg, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_any_shape_comes_back(tmp_path, seed):
    folder, rng = tmp_path, np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers((1, 2, 2), (6, 10, 10)))
    angles = tuple(rng.uniform(-180, 180, 3))
    volume, _ = opened(folder / "series", stored_values(shape), orientation=orientation(angles))
    labels = rng.choice([0, 2, 5], shape)
    labels[0, 0, 0] = 2
    path = write_segmentation(folder / "seg.dcm", labels, volume)
    np.testing.assert_array_equal(read_segmentation(path, volume), labels)


def test_probabilities_are_fractional_in_255_steps(tmp_path, stored, rng):
    volume, made = opened(tmp_path / "series", stored)
    probability = rng.random(SHAPE)
    probability[2] = 0
    path = write_fractional(tmp_path / "p.dcm", probability, volume, 4, "lesion")
    ds, frames = unpacked(path)
    assert (ds.SegmentationType, ds.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert (ds.MaximumFractionalValue, ds.BitsAllocated) == (255, 8)
    assert (len(frames), ds.SegmentSequence[0].SegmentLabel) == (7, "lesion")
    heights = [float(d.ImagePositionPatient[2]) for d in made]
    rebuilt = np.zeros(SHAPE)
    for _, position, values in frames:
        rebuilt[heights.index(position[2])] = values / 255
    np.testing.assert_allclose(rebuilt, probability, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(read_segmentation(path, volume), 4 * (np.rint(probability * 255) >= 127.5))


def test_a_label_map_may_be_fractional(tmp_path, stored, labels):
    volume, _ = opened(tmp_path / "series", stored)
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume, fractional=True)
    ds, frames = unpacked(path)
    assert ds.SegmentationType == "FRACTIONAL"
    assert {int(v) for _, _, values in frames for v in np.unique(values)} == {0, 255}
    np.testing.assert_array_equal(read_segmentation(path, volume), labels)


def test_tilted_uneven_and_enhanced_series_keep_their_slices(tmp_path, stored, labels):
    tilted, _ = opened(
        tmp_path / "tilted", stored, orientation=orientation((15, 0, 0)), direction=np.array([0, 0, 1.0])
    )
    uneven, _ = opened(tmp_path / "uneven", stored, heights=np.array([0, 2.5, 5, 9, 11.5, 30, 32.5, 35]))
    save(tmp_path / "enhanced", [enhanced(stored)])
    for volume in (tilted, uneven, read(tmp_path / "enhanced")):
        path = write_segmentation(tmp_path / "seg.dcm", labels, volume, overwrite=True)
        _, frames = unpacked(path)
        for segment, position, values in frames:
            index = volume.header.positions.index(position)
            np.testing.assert_array_equal(values == 1, labels[index] == (1, 3, 7)[segment - 1])
        np.testing.assert_array_equal(read_segmentation(path, volume), labels)


def test_an_enhanced_frame_refers_to_its_source_frame(tmp_path, stored, labels):
    save(tmp_path / "enhanced", [enhanced(stored)])
    volume = read(tmp_path / "enhanced")
    ds, _ = unpacked(write_segmentation(tmp_path / "seg.dcm", labels, volume))
    for group in ds.PerFrameFunctionalGroupsSequence:
        position = tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
        frame = volume.header.frames[volume.header.positions.index(position)] + 1
        assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == frame


def test_anonymised_sources_will_do(tmp_path, stored, labels):
    made = series(stored)
    for ds in made:
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyTime", "StudyDate"):
            delattr(ds, name)
        del ds.SliceThickness, ds.PositionReferenceIndicator, ds.ReferringPhysicianName, ds.AccessionNumber
    save(tmp_path / "series", made)
    volume = read(tmp_path / "series")
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume)
    np.testing.assert_array_equal(read_segmentation(path, volume), labels)


def test_a_seg_beside_its_series_is_no_series(tmp_path, stored, labels):
    volume, _ = opened(tmp_path, stored)
    write_segmentation(tmp_path / "seg.dcm", labels, volume)
    assert len(list_series(tmp_path)) == 1
    assert read(tmp_path).notes == ()


def test_what_cannot_be_written_is_a_sentence(tmp_path, stored, labels, monkeypatch):
    volume, _ = opened(tmp_path / "series", stored)
    out = tmp_path / "seg.dcm"
    plain = Volume(np.zeros(SHAPE))
    for arguments, message in (
        ((np.zeros(SHAPE, int), volume), "mask is empty"),
        ((labels[:3], volume), "does not fit"),
        ((-labels, volume), "negative"),
        ((labels * 0.5, volume), "write_fractional"),
        ((labels, plain), "not read from a DICOM series"),
    ):
        with pytest.raises(InputError, match=message):
            write_segmentation(out, *arguments)
    for values, message in (
        (np.zeros(SHAPE), "0 everywhere"),
        (np.full(SHAPE, 1.5), "between 0 and 1"),
        (np.full(SHAPE, np.nan), "between 0 and 1"),
        (labels, "write_segmentation"),
    ):
        with pytest.raises(InputError, match=message):
            write_fractional(out, values, volume)
    assert not out.exists()
    write_segmentation(out, labels, volume)
    with pytest.raises(InputError, match="exists already"):
        write_segmentation(out, labels, volume)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "highdicom.seg", None)
        patch.setitem(sys.modules, "highdicom", None)
        with pytest.raises(InputError, match=r"needs highdicom; install it with: pip install .*\[dicom\]"):
            write_segmentation(tmp_path / "b.dcm", labels, volume)
    volume.header.paths[2].unlink()
    with pytest.raises(InputError, match="could not be read again"):
        write_segmentation(tmp_path / "b.dcm", labels, volume)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["seg.dcm", "series"]


def test_segs_of_other_series_and_other_files_are_sentences(tmp_path, stored, labels):
    volume, _ = opened(tmp_path / "a", stored)
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume)
    elsewhere, _ = opened(tmp_path / "b", stored, origin=(0, 0, 0))
    other, _ = opened(tmp_path / "c", stored, FrameOfReferenceUID="1.2.3")
    small, _ = opened(tmp_path / "d", stored[:, :9])
    for wrong, message in ((elsewhere, "another grid"), (other, "frame of reference"), (small, "9 x 12")):
        with pytest.raises(InputError, match=message):
            read_segmentation(path, wrong)
    (tmp_path / "text.dcm").write_text("hello")
    for name, message in (("text.dcm", "could not be read as a DICOM SEG"), ("none.dcm", "no file")):
        with pytest.raises(InputError, match=message):
            read_segmentation(tmp_path / name, volume)
    with pytest.raises(InputError, match="could not be read as a DICOM SEG"):
        read_segmentation(volume.header.paths[0], volume)
    with pytest.raises(InputError, match="not read from a DICOM series"):
        read_segmentation(path, Volume(np.zeros(SHAPE)))
