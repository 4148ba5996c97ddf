"""A DICOM series in the widget: from the folder to a DICOM SEG."""

from __future__ import annotations

import numpy as np

from napari_uncertsam.io import DicomSeries, read_segmentation, write_segmentation
from napari_uncertsam.prompts import Box
from napari_uncertsam.ui.readers import read_layers
from tests.fakes import scene
from tests.io.makers import save, series


def test_a_series_is_segmented_and_written_back(open_widget, tmp_path):
    stored = np.full((5, 128, 128), 1024, np.uint16)
    stored[1:4] += scene()[0][..., 0]
    save(tmp_path / "scan", series(stored))
    ((data, meta, _),) = read_layers(str(tmp_path / "scan"))
    opened = open_widget(data, **meta)
    volume = opened.session.volume
    assert volume.array is data
    assert isinstance(volume.header, DicomSeries)
    opened.viewer.dims.set_current_step(0, 2)
    opened.session.set_box(Box(40, 34, 87, 97))
    assert opened.coordinator.wait(20)
    labels = np.asarray(opened.session.labels)
    assert np.flatnonzero(labels.any(axis=(1, 2))).tolist() == [2]
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume)
    np.testing.assert_array_equal(read_segmentation(path, volume), labels)
