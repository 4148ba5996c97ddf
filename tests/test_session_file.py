"""Saving a session and taking it up again."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_uncertsam import encoding, io, session_file
from napari_uncertsam.annotations import Key
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.prediction import Request
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts, Suggestion
from napari_uncertsam.refinement.settings import UgpaSettings
from napari_uncertsam.session import Session
from napari_uncertsam.session_file import read_session, restore_session, session_to_dict, session_to_text
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from tests.predictions import predicted, refined
from tests.propagated import propagated

SHAPE = (4, 20, 24)
FACES = (20, 24)


def volume() -> Volume:
    affine = np.diag([-0.8, -0.9, 2.5, 1.0])
    affine[:3, 3] = 10, -20, 30
    return Volume(np.zeros(SHAPE, np.int16), affine=affine, modality="CT", name="scan")


def worked() -> Session:
    """Three objects in two planes, with clicks, a pinned view, dismissed suggestions and paint; one of paint alone."""
    session = Session(volume(), window=Window(-100, 200, "own"))
    session.set_settings(method="entropy", seed=7, zoom=True, n_suggestions=3, rounds=2, ugpa=UgpaSettings(guard=None))
    session.set_prompts(Prompts((Point(5.25, 6.5), Point(1, 1, False)), Box(2, 3, 9, 12)))
    asked = Suggestion("point", 9.0, 9.0, 0.5, 0.4), Suggestion("box", 5.0, 6.0, 0.4, 0.6, Box(1, 1, 9, 11))
    before = predicted(session.request, (20, 24), Box(2, 3, 9, 12), suggestions=asked)
    session.deliver(before)
    for suggestion in asked:
        session.dismiss(suggestion)
    labels = session.labels[2].copy()
    labels[2:4, 3:6] = 0
    labels[15, 15] = 1
    session.paint(0, 2, labels)
    session.go_to(1, 4)
    session.new_object()
    mask = MaskPrompt(np.arange(12.0).reshape(3, 4))
    session.set_prompts(Prompts((Point(1, 1),), mask=mask))
    first = predicted(session.request, (4, 24), Box(0, 0, 2, 5))
    session.deliver(first)
    request = Request(**{**vars(first.request), "view": View(0, 0, 4, 9)})
    assert session.deliver_refinement(refined(first, predicted(request, (4, 24), Box(0, 0, 3, 6))))
    session.paint(1, 6, np.where(np.eye(4, 24) > 0, 3, session.labels[:, 6]))
    return session


def resume(session: Session, document: dict[str, Any] | None = None) -> Session:
    document = session_to_dict(session) if document is None else document
    other = Session(volume())
    restore_session(other, json.loads(json.dumps(document)))
    return other


def test_everything_the_user_gave_comes_back() -> None:
    session = worked()
    other = resume(session)
    assert other.window == session.window
    assert other.settings == session.settings
    assert (other.plane, other.slice_index, other.object_id) == (1, 4, 2)
    assert other.objects == session.objects == (1, 2, 3)
    assert other.entries.keys() == session.entries.keys() == {Key(0, 2, 1), Key(1, 4, 2), Key(1, 6, 3)}
    for key, entry in session.entries.items():
        back = other.entries[key]
        assert back.prompts == entry.prompts
        assert back.view == entry.view
        assert back.dismissed == entry.dismissed
        assert back.prediction is None
        shape = session.volume.plane_shape(key.plane)
        assert np.array_equal(back.mask(shape), entry.mask(shape))
    assert session.entries[Key(1, 4, 2)].view == View(0, 0, 4, 9)
    assert np.array_equal(other.labels, session.labels)
    # Saved again it is the same, though nothing was predicted since.
    assert session_to_dict(other) == session_to_dict(session)


def test_taking_up_work_is_one_step_and_asks_for_a_prediction() -> None:
    session, other = worked(), Session(volume())
    other.set_box(Box(1, 1, 3, 3))
    asked: list[Request] = []
    other.requested.connect(asked.append)
    restore_session(other, session_to_dict(session))
    assert [r.prompts for r in asked] == [session.prompts]
    assert asked[0].image_id == other.image_id
    # The mask stands until the prediction comes, and paint wins over it then, too.
    other.go_to(0, 2)
    other.select_object(1)
    prediction = predicted(other.request, (20, 24), Box(2, 3, 9, 12))
    assert other.deliver(prediction)
    assert np.array_equal(other.labels, session.labels)
    other.undo()
    assert other.prompts.box == Box(1, 1, 3, 3)
    assert not other.labels.any()
    other.redo()
    assert np.array_equal(other.labels, session.labels)


def test_autosave_and_load(tmp_path: Path) -> None:
    session = worked()
    path = session.autosave(tmp_path / "autosave.json")
    session.clear_prompts()
    session.autosave(path)  # over the older one
    other = Session(volume())
    other.load(path)
    assert np.array_equal(other.labels, session.labels)
    assert [p.name for p in tmp_path.iterdir()] == ["autosave.json"]
    with pytest.raises(InputError, match="no folder"):
        session.autosave(tmp_path / "nowhere" / "autosave.json")


def through() -> Session:
    """An object on two slices and what was propagated from them, with a reviewed slice and one that is out of date."""
    session = Session(Volume(np.arange(12 * 480, dtype=np.int16).reshape(12, *FACES), name="stack", spacing=(2, 1, 1)))
    for index in (3, 8):
        session.go_to(0, index)
        session.set_box(Box(2, 3, 9, 12))
        session.deliver(predicted(session.request, FACES, Box(2, 3, 9, 12)))
    request = session.propagation_request()
    for span in request.spans:
        indices = range(span.start, min(span.stop, 11))
        session.deliver_propagated(request, [propagated(i, FACES, Box(3, 3, 8, 8 + i % 3)) for i in indices])
    session.finish_propagation(request)
    session.set_reviewed(5)
    session.go_to(0, 10)
    session.add_point(Point(3, 4))
    session.deliver(predicted(session.request, FACES, Box(2, 3, 9, 12)))
    return session


def test_facts_and_what_is_up_to_date_come_back() -> None:
    session = through()
    other = Session(session.volume)
    said: list[str] = []
    other.message.connect(said.append)
    restore_session(other, json.loads(json.dumps(session_to_dict(session))))
    assert said == []
    assert np.array_equal(other.labels, session.labels)
    assert session_to_dict(other) == session_to_dict(session)
    assert session_to_dict(other)["model"] == {"model": "fake"}
    for mine, back in zip(session.slice_facts(), other.slice_facts(), strict=True):
        kind = "remembered" if mine.kind == "prompted" else mine.kind
        assert replace(mine, kind=kind) == back
    assert other.stale_slices() == session.stale_slices() == {9}
    assert other._state.reviewed == session._state.reviewed
    assert other.propagation_request().spans == session.propagation_request().spans
    assert other.volume_estimate() == session.volume_estimate()
    assert other.next_to_review() == session.next_to_review()
    assert [a.slice_index for a in other.anchors()] == [3, 5, 8, 10]
    # The predictions come back as they were, and nothing is out of date for that.
    for index in (3, 8, 10):
        other.go_to(0, index)
        other.deliver(predicted(other.request, FACES, Box(2, 3, 9, 12)))
    assert other.stale_slices() == {9}
    assert session_to_dict(other)["finished"] == session_to_dict(session)["finished"]
    # A click on a propagated slice takes its box along, as before.
    other.go_to(0, 6)
    other.add_point(Point(5, 5))
    assert other.prompts.box == Box(3, 3, 8, 8)


def test_another_image_of_that_shape_is_told() -> None:
    session = through()
    other = Session(Volume(np.zeros((12, *FACES), np.int16), name="stack"))
    said: list[str] = []
    other.message.connect(said.append)
    restore_session(other, session_to_dict(session))
    assert len(said) == 1
    assert "slice 3 of plane 0, slice 8 of plane 0" in said[0]
    assert np.array_equal(other.labels, session.labels)


def test_a_file_of_the_first_version(monkeypatch: pytest.MonkeyPatch) -> None:
    session = worked()
    document = session_to_dict(session)
    document["version"] = 1
    for name in ("finished", "bases", "model"):
        del document[name]
    for name in ("spacing", "slices"):
        del document["image"][name]
    for stored in document["entries"]:
        for name in ("reviewed", "figures", "asked", "source"):
            del stored[name]
    other = resume(session, document)
    assert np.array_equal(other.labels, session.labels)
    other.go_to(0, 2)
    other.select_object(1)
    (fact,) = other.slice_facts()
    assert fact.kind == "painted"
    assert fact.area_px == (session.labels[2] == 1).sum()


def test_what_has_not_changed_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    session = through()
    text = session_to_text(session)
    encoded: list[Key] = []
    monkeypatch.setattr(encoding, "_entry_to_dict", lambda key, entry: encoded.append(key) or {})
    assert session_to_text(session.snapshot()) == text
    assert encoded == []
    session.go_to(0, 6)
    session.add_point(Point(5, 5))
    session_to_text(session)
    assert encoded == [Key(0, 6, 1)]


# --- saving -------------------------------------------------------------------------------------------------------


def test_saving_a_volume(tmp_path: Path) -> None:
    session = worked()
    session.go_to(0, 2)
    session.select_object(1)
    folder = tmp_path / "new" / "results"
    paths = session.save(str(folder))
    names = ["mask.nii.gz", "probability.nii.gz", "uncertainty.nii.gz", "session.json", "summary.json"]
    assert [p.name for p in paths] == names
    assert {p.name for p in folder.iterdir()} == set(names)
    stored = io.read(folder / "mask.nii.gz")
    assert np.allclose(stored.affine, volume().affine)
    assert np.array_equal(stored.array, session.labels)
    probability = np.asarray(io.read(folder / "probability.nii.gz").array)
    assert np.array_equal(probability[2], session.probability_slice())
    assert not probability[[0, 1, 3]].any()
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary["image"] == "scan"
    assert summary["slice"] == 2
    assert summary["area_px"] == 80
    assert summary["area_mm2"] == pytest.approx(80 * 0.9 * 2.5)
    assert summary["suggestions"] == []  # all were dismissed
    assert summary["rounds"] == []
    other = Session(volume())
    other.load(folder / "session.json")
    assert np.array_equal(other.labels, session.labels)


def test_saving_a_propagated_object(tmp_path: Path) -> None:
    session = through()
    session.go_to(0, 6)
    session.new_object()
    session.set_box(Box(12, 3, 15, 12))
    session.deliver(predicted(session.request, FACES, Box(12, 3, 15, 12)))
    session.new_object()  # has nothing
    session.select_object(1)
    paths = session.save(tmp_path)
    names = ["mask", "probability", "uncertainty", "probability_2", "uncertainty_2", "session", "summary"]
    assert [p.name.partition(".")[0] for p in paths] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    maps = [np.asarray(io.read(p).array) for p in paths[1:5]]
    mask = np.asarray(io.read(paths[0]).array)
    assert np.array_equal(mask, session.labels)
    assert np.array_equal(maps[0] > 0.5, mask == 1)
    assert np.array_equal(maps[2] > 0.5, mask == 2)
    assert [bool(part.any()) for part in maps[3]] == [i == 6 for i in range(12)]
    for index in (6, 3):
        session.go_to(0, index)
        assert np.array_equal(maps[0][index], session.probability_slice())
        assert np.array_equal(maps[1][index], session.uncertainty_slice())
    summary = json.loads(paths[-1].read_text("utf-8"))
    assert summary["reviewed"] == [5]
    assert summary["volume_ml"] == pytest.approx((mask == 1).sum() * 2 / 1000)
    assert summary["volume_interval_ml"][0] < summary["volume_ml"] < summary["volume_interval_ml"][1]
    assert [f["slice_index"] for f in summary["slices"]] == list(range(11))
    assert summary["slices"][9]["stale"]
    with pytest.raises(InputError, match=r"probability_2\.nii\.gz"):
        session.save(tmp_path)
    # In another plane, each object has the maps of that plane, here none.
    session.go_to(1, 3)
    assert [p.name for p in session.save(tmp_path / "other")] == ["mask.nii.gz", "session.json"]


def test_saving_a_picture(tmp_path: Path) -> None:
    session = Session(Volume(np.zeros((20, 30, 3), np.uint8), rgb=True))
    assert [p.name for p in session.save(tmp_path / "empty")] == ["mask.png", "session.json"]
    session.set_box(Box(1, 2, 8, 9))
    session.deliver(predicted(session.request, (20, 30), Box(1, 2, 8, 9)))
    session.save(tmp_path)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mask.png")), session.labels)
    assert np.array_equal(tifffile.imread(tmp_path / "uncertainty.tif"), session.uncertainty_slice())
    assert json.loads((tmp_path / "summary.json").read_text("utf-8"))["area_mm2"] is None


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    session = worked()
    (tmp_path / "summary.json").write_text("mine", "utf-8")
    session.go_to(1, 4)
    session.select_object(2)
    with pytest.raises(InputError, match=r"summary\.json in .* would be overwritten"):
        session.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]
    session.save(tmp_path, overwrite=True)
    assert json.loads((tmp_path / "summary.json").read_text("utf-8"))["slice"] == 4
    session.save(tmp_path, overwrite=True)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for name in ("file", "file/below"):
        with pytest.raises(InputError, match="choose another"):
            worked().save(tmp_path / name)


def test_a_snapshot_is_saved_as_it_was(tmp_path: Path) -> None:
    session = worked()
    snapshot, labels = session.snapshot(), session.labels.copy()
    session.delete_object(1)
    snapshot.save(tmp_path)
    assert np.array_equal(io.read(tmp_path / "mask.nii.gz").array, labels)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = worked()
    path = session.autosave(tmp_path / "session.json")
    before = path.read_bytes()

    def full(target: Path, text: str, **_more: Any) -> None:
        with target.open("w", encoding="utf-8") as stream:
            stream.write(text[:10])
        raise OSError(28, "No space left on device")

    session.clear_prompts()
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left"):
        session.autosave(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["session.json"]


# --- damaged files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[1]", b"{}", b"[" * 100_000, b'"text"'])
def test_a_file_that_is_no_session(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "session.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"session\.json is not a session file"):
        Session(volume()).load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_session(tmp_path / "none.json")


def test_another_image_or_version_or_file() -> None:
    document = session_to_dict(worked())
    for changes, message in (
        ({"image": {"name": "scan", "shape": [4, 20, 25]}}, "open the image that was annotated"),
        ({"version": session_file.VERSION + 1}, "newer version"),
        ({"format": "something else"}, "not a session file"),
    ):
        with pytest.raises(InputError, match=message):
            resume(worked(), {**document, **changes})


def painted(values: np.ndarray, **changes: Any) -> dict[str, Any]:
    text = base64.b64encode(zlib.compress(values.astype(np.int8).tobytes())).decode()
    return {"top": 0, "left": 0, "shape": list(values.shape), "zlib": text, **changes}


def entry(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["entries"][index].update(changes)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no entries": lambda d: d.pop("entries"),
    "entries are no list": lambda d: d.update(entries=5),
    "entry is no object": lambda d: d.update(entries=[None]),
    "version is text": lambda d: d.update(version="1"),
    "shape is a number": lambda d: d["image"].update(shape=4),
    "plane": lambda d: d.update(plane=3),
    "slice": lambda d: d.update(slice=20),
    "slice is a fraction": lambda d: d.update(slice=1.5),
    "object is not listed": lambda d: d.update(object=9),
    "objects are not listed": lambda d: d.update(objects=[2]),
    "an object twice": lambda d: d.update(objects=[1, 2, 3, 3]),
    "object too large": lambda d: d.update(objects=[1, 2, 3, 70_000]),
    "object is true": lambda d: d.update(objects=[True, 2, 3]),
    "window": lambda d: d.update(window={"low": 5, "high": -5}),
    "window lacks a level": lambda d: d.update(window={"low": 5}),
    "unknown method": lambda d: d["settings"].update(method="crystal-ball"),
    "method is a list": lambda d: d["settings"].update(method=["prompt"]),
    "unknown measure": lambda d: d["settings"].update(measure="colour"),
    "measure is a number": lambda d: d["settings"].update(measure=1),
    "measure is a list": lambda d: d["settings"].update(measure=["std"]),
    "unknown setting": lambda d: d["settings"].update(colour="red"),
    "setting of another type": lambda d: d["settings"].update(seed="7"),
    "negative setting": lambda d: d["settings"].update(seed=-7),
    "unknown refinement": lambda d: d["settings"]["ugpa"].update(labels="guess"),
    "entry in no plane": entry(0, plane=5),
    "entry on no slice": entry(0, slice_index=-1),
    "entry of no object": entry(0, object_id=0),
    "prompts outside": entry(0, prompts={"points": [{"y": 99, "x": 0, "positive": True}]}),
    "prompts": entry(0, prompts={"points": [{"y": None}]}),
    "empty view": entry(0, view={"top": 0, "left": 0, "height": 0, "width": 5}),
    "view elsewhere": entry(0, view={"top": 50, "left": 0, "height": 5, "width": 5}),
    "huge view": entry(0, view={"top": 0, "left": 0, "height": 10**9, "width": 10**9}),
    "view lacks a side": entry(0, view={"top": 0}),
    "dismissed": entry(0, dismissed=[[1, 2]]),
    "dismissed nowhere": entry(
        0, dismissed=[{"kind": "point", "y": float("nan"), "x": 0, "score": 0, "probability": 0}]
    ),
    "dismissed of no kind": entry(0, dismissed=[{"kind": "line", "y": 0, "x": 0, "score": 0, "probability": 0}]),
    "paint outside": entry(0, painted=painted(np.ones((2, 2)), top=19)),
    "paint before": entry(0, painted=painted(np.ones((2, 2)), left=-1)),
    "too little paint": entry(0, painted=painted(np.ones((2, 2)), shape=[3, 3])),
    "too much paint": entry(0, painted=painted(np.ones((19, 19)), shape=[1, 1])),
    "meaningless paint": entry(0, painted=painted(np.full((2, 2), 5))),
    "no paint": entry(0, painted=painted(np.ones((2, 2)), shape=[0, 2])),
    "paint is not compressed": entry(0, painted=painted(np.ones((2, 2)), zlib="AAAA")),
    "paint is no base64": entry(0, painted=painted(np.ones((2, 2)), zlib="?")),
    "mask": entry(0, mask=painted(np.ones((8, 8)), shape=[9, 9])),
    "reviewed": entry(0, reviewed="yes"),
    "figures": entry(0, figures={"area_px": 5}),
    "negative figures": entry(
        0, figures={"uncertainty": -1, "area_px": 5, "area_sd_px": 0, "uncertain_px": 0, "expected_dice": None}
    ),
    "asked": entry(0, asked={"prompts": {}}),
    "source": entry(0, source={"before": [1.5, "a"], "after": None, "basis": ""}),
    "finished nowhere": lambda d: d.update(
        finished=[{"plane": 0, "object_id": 1, "start": 2, "stop": 9, "basis": "x", "before": None, "after": None}]
    ),
    "finished is no list": lambda d: d.update(finished=7),
    "bases": lambda d: d.update(bases={"x": {"window": 5}}),
    "model is a number": lambda d: d.update(model=7),
    "digests are a list": lambda d: d["image"].update(slices=[1]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_refused_and_change_nothing(damage: str) -> None:
    document = copy.deepcopy(session_to_dict(worked()))
    DAMAGE[damage](document)
    session = Session(volume())
    session.set_box(Box(1, 1, 3, 3))
    before = session_to_dict(session)
    with pytest.raises(InputError):
        restore_session(session, document)
    assert session_to_dict(session) == before
    assert not session.labels.any()


def test_older_settings_are_completed() -> None:
    document = session_to_dict(worked())
    document["settings"] = {"method": "entropy"}
    assert resume(worked(), document).settings.seed == 0
    assert resume(worked(), document).settings.measure is None


@pytest.mark.parametrize("before", [None, "entropy"])
@pytest.mark.parametrize("measure", [None, "std", "mutual-information"])
def test_the_measure_comes_back_whatever_there_was(before: Measure | None, measure: Measure | None) -> None:
    session, other = Session(volume()), Session(volume())
    session.set_settings(measure=measure)
    other.set_settings(measure=before)
    restore_session(other, json.loads(json.dumps(session_to_dict(session))))
    assert other.settings == session.settings
    assert other.settings.measure == measure


def test_unknown_names_are_told_with_those_there_are() -> None:
    for changes, message in (({"measure": "colour"}, "'colour'.*entropy"), ({"method": "ball"}, "'ball'.*prompt")):
        document = session_to_dict(worked())
        document["settings"].update(changes)
        with pytest.raises(InputError, match=message):
            resume(worked(), document)
