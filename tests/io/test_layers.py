"""DICOM and NIfTI series as napari opens them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer
from npe2 import PluginManager, PluginManifest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox

import napari_uncertsam
from napari_uncertsam.errors import InputError
from napari_uncertsam.io import read
from napari_uncertsam.io.dicom_pixels import DicomArray
from napari_uncertsam.ui import readers, series_dialog
from napari_uncertsam.ui.geometry import volume_of
from napari_uncertsam.ui.readers import get_dicom_reader, get_reader, read_layers
from napari_uncertsam.ui.series_dialog import ChoiceDialog
from tests.io.makers import hounsfield, save, series, stored_values
from tests.io.test_dicom_geometry import orientation


@pytest.fixture
def stored() -> np.ndarray:
    return stored_values()


@pytest.fixture
def plugin() -> str:
    """The name of this plugin, whose manifest napari knows; pytest's plugin of napari hides what is installed."""
    manager = PluginManager.instance()
    if "napari-uncertsam" not in manager:
        path = Path(napari_uncertsam.__file__).with_name("napari.yaml")
        manager.register(PluginManifest.from_file(path))
    return "napari-uncertsam"


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    """What the person is warned of."""
    said: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", said.append)
    return said


def test_a_folder_is_a_lazy_layer_in_millimetres(tmp_path, stored, warned, plugin):
    save(tmp_path, series(stored))
    viewer = ViewerModel()
    (layer,) = viewer.open(str(tmp_path), plugin=plugin)
    assert isinstance(layer, Image)
    assert isinstance(layer.data, DicomArray)
    assert layer.data._whole is None  # only what is looked at was decoded
    np.testing.assert_array_equal(layer.scale, (2.5, 0.75, 0.5))
    assert (layer.name, tuple(layer.contrast_limits)) == ("Abdomen 5.0 B30f", (-160, 240))
    assert volume_of(layer).modality == "CT"
    assert warned == []
    expected = hounsfield(stored)
    for order in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        viewer.dims.order = order
        for index in (0, 3):
            viewer.dims.set_current_step(order[0], index)
            shown = layer._slice.image.raw
            np.testing.assert_array_equal(shown, np.take(expected, index, order[0]))
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    np.testing.assert_array_equal(layer._slice.image.raw, expected)
    layer.reset_contrast_limits(mode="data")
    assert tuple(layer.contrast_limits) == (expected.min(), expected.max())
    data, state, kind = layer.as_layer_data_tuple()
    copy = Layer.create(deepcopy(data), state, kind)
    np.testing.assert_array_equal(np.asarray(copy.data), expected)


def test_what_is_unusual_is_said_once_and_kept(tmp_path, stored, warned):
    save(tmp_path, series(stored, orientation=orientation((12, 0, 0)), heights=[0, 2, 4, 6, 8, 11, 13, 15]))
    ((_, meta, _),) = read_layers(str(tmp_path))
    assert len(warned) == 1
    assert warned[0].startswith("Abdomen 5.0 B30f: The slices are not evenly spaced")
    assert "oblique" in warned[0]
    assert len(meta["metadata"][readers.VOLUME_KEY].notes) == 2


def test_files_of_one_series_are_one_layer(tmp_path, stored):
    paths = [str(path) for path in save(tmp_path, series(stored))]
    reader = get_dicom_reader(paths)
    assert reader is not None
    assert len(reader(paths)) == 1


def test_files_that_are_dropped_together_are_one_layer(tmp_path, stored, monkeypatch, plugin):
    paths = [str(path) for path in save(tmp_path, series(stored))]
    viewer = ViewerModel()
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    assert len(viewer.open(paths, plugin=plugin)) == 1  # one after the other, without a stack
    assert len(viewer.layers) == 1
    viewer.layers.clear()
    assert len(viewer.open(paths[3:5], plugin=plugin)) == 1


def test_work_on_two_series_of_a_folder_is_saved_apart(tmp_path, stored):
    from napari_uncertsam.ui.autosave_files import autosave_path

    for name in "ab":
        save(tmp_path, series(stored, seed=name), prefix=name)
    first, second = (read(tmp_path, series=number) for number in (1, 2))
    assert autosave_path(first) == autosave_path(read(tmp_path, series=1)) != autosave_path(second)


def test_readers_take_what_is_theirs(tmp_path, stored):
    save(tmp_path / "series" / "deep", series(stored[:1]), "")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    assert get_dicom_reader(str(tmp_path / "series")) is read_layers
    assert get_dicom_reader("a.IMA") is read_layers
    assert get_dicom_reader(str(tmp_path / "other")) is None
    assert get_dicom_reader(["a.dcm", "b.png"]) is None
    assert get_reader(str(tmp_path / "series")) is None


def two_series(folder, stored) -> None:
    save(folder, series(stored, seed="a", SeriesDescription="Arterial"))
    save(folder, series(stored[::-1], seed="b", SeriesNumber=4, SeriesDescription="Venous"), prefix="V")


def test_which_series_is_asked(tmp_path, stored):
    two_series(tmp_path, stored)
    asked = []
    ((data, meta, _),) = read_layers(str(tmp_path), ask=lambda title, options: asked.append((title, options)) or 1)
    assert meta["name"] == "Venous"
    np.testing.assert_array_equal(np.asarray(data), hounsfield(stored[::-1]))
    ((title, options),) = asked
    assert title == f"Open {tmp_path.name}"
    assert [line[:14] for line in options] == ["1: CT, Arteria", "2: CT, Venous,"]
    assert read_layers(str(tmp_path), ask=lambda *_: None) == [(None,)]


def test_which_volume_of_a_nifti_is_asked(tmp_path):
    nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 2, 2, 3), np.eye(4)).to_filename(tmp_path / "a.nii")
    ((data, meta, _),) = read_layers(str(tmp_path / "a.nii"), ask=lambda _, options: options.index("Volume 2"))
    assert (meta["name"], int(data[0, 0, 0])) == ("a 2", 2)


def test_without_anybody_to_ask_the_series_are_listed(tmp_path, stored, monkeypatch):
    two_series(tmp_path, stored)
    monkeypatch.setattr(series_dialog, "can_ask", lambda: False)
    with pytest.raises(InputError, match=r"(?s)1: CT, Arterial.*2: CT, Venous"):
        read_layers(str(tmp_path))


def test_cancelling_opens_nothing_in_the_viewer(tmp_path, stored, monkeypatch, plugin):
    two_series(tmp_path, stored)
    monkeypatch.setattr(series_dialog, "can_ask", lambda: True)
    monkeypatch.setattr(series_dialog, "ask", lambda *_: None)
    viewer = ViewerModel()
    assert viewer.open(str(tmp_path), plugin=plugin) == []
    assert len(viewer.layers) == 0


def test_the_dialog_gives_the_chosen_line(qtbot):
    dialog = ChoiceDialog("Open scan", ["1: CT", "2: MR", "3: PT"])
    qtbot.addWidget(dialog)
    assert (dialog.chosen, dialog.list.count()) == (0, 3)
    qtbot.keyClick(dialog.list, Qt.Key.Key_Down)
    buttons = dialog.findChild(QDialogButtonBox)
    qtbot.mouseClick(buttons.button(QDialogButtonBox.StandardButton.Open), Qt.MouseButton.LeftButton)
    assert (dialog.chosen, dialog.result()) == (1, 1)


@pytest.mark.parametrize("accepted", [True, False])
def test_asking_by_dialog(qtbot, accepted):
    def answer() -> None:
        (dialog,) = [w for w in QApplication.topLevelWidgets() if isinstance(w, ChoiceDialog) and w.isVisible()]
        dialog.list.setCurrentRow(1)
        dialog.accept() if accepted else dialog.reject()

    assert series_dialog.can_ask()
    QTimer.singleShot(50, answer)
    assert series_dialog.ask("Open scan", ["1: CT", "2: MR"]) == (1 if accepted else None)
