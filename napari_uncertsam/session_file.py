"""Saving a session: masks and maps as images, and a file from which the work can be taken up again.

The session file holds what the user gave (prompts, answers, painted pixels, settings) and the masks that came of it.
Maps are not in it: predictions are computed again as slices are visited, and until then the masks stand.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uncertsam.annotations import Entry, Key, Patch, State
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.measures import parse_measure
from napari_uncertsam.io import (
    atomic,
    embed_slice,
    output_suffix,
    prompts_from_dict,
    prompts_to_dict,
    write_map,
    write_mask,
)
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box, Suggestion
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.refinement.settings import UgpaSettings
from napari_uncertsam.summary import suggestion_to_dict
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window

if TYPE_CHECKING:
    from napari_uncertsam.session import Session
    from napari_uncertsam.workspace import Workspace

FORMAT = "napari-uncertsam session"
VERSION = 1
SESSION_FILE = "session.json"


def save_session(session: Workspace, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``mask``, ``probability``, ``uncertainty``, ``summary.json`` and ``session.json`` into a folder.

    Masks hold all objects on all slices; maps those of the current object on the current slice, in the geometry of the
    image (a volume with one slice filled).

    Parameters
    ----------
    session : Workspace
        The session, or a snapshot of it.
    folder : Path
        Made if it is not there.
    overwrite : bool
        Whether files of an earlier saving may be replaced.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        If a file is there already, or the folder cannot be written to; nothing is written then.
    """
    volume, prediction = session.volume, session.prediction
    mask = folder / f"mask{output_suffix(volume)}"
    maps = {name: folder / f"{name}{output_suffix(volume, 'map')}" for name in ("probability", "uncertainty")}
    documents = {folder / SESSION_FILE: session_to_dict(session)}
    if prediction is not None:
        documents[folder / "summary.json"] = session.summary()
    wanted = [mask, *(maps.values() if prediction is not None else ()), *documents]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        existing = [p.name for p in wanted if p.exists()]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be used ({error.strerror}); choose another.") from error
    if existing and not overwrite:
        raise InputError(f"{', '.join(existing)} in {folder} would be overwritten; choose another folder or allow it.")
    write_mask(mask, session.labels, volume, overwrite=overwrite)
    if prediction is not None:
        for name, path in maps.items():
            values = embed_slice(session.plane, session.slice_index, getattr(prediction.maps, name), volume)
            write_map(path, values, volume, overwrite=overwrite)
    for path, document in documents.items():
        write_json(path, document, overwrite=overwrite)
    return wanted


def write_json(path: Path, document: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write a document whole or not at all."""
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def session_to_dict(session: Workspace) -> dict[str, Any]:
    """What a session is taken up again from, in plain values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "image": {"name": session.volume.name, "shape": list(session.volume.shape)},
        "window": asdict(session.window),
        "settings": asdict(session.settings),
        "plane": session.plane,
        "slice": session.slice_index,
        "object": session.object_id,
        "objects": list(session.objects),
        "entries": [_entry_to_dict(key, entry) for key, entry in session.entries.items()],
    }


def restore_session(session: Session, document: Mapping[str, Any]) -> None:
    """Take up saved work on the same image; predictions are asked for again as slices are visited.

    Raises
    ------
    InputError
        If the document is damaged, of a newer version, or of an image of another shape; nothing is changed then.
    """
    try:
        if document["format"] != FORMAT:
            raise InputError(f"This is not a session file of napari-uncertsam but {document['format']!r}.")
        if document["version"] > VERSION:
            raise InputError("This session file was written by a newer version of napari-uncertsam; update it first.")
        if tuple(document["image"]["shape"]) != session.volume.shape:
            raise InputError(
                f"The session is of an image of shape {tuple(document['image']['shape'])}, this one has "
                f"{session.volume.shape}; open the image that was annotated."
            )
        state = _state_from_dict(document, session.volume)
        window, settings = Window(**document["window"]), _settings_from_dict(document["settings"], session.settings)
        place = _checked_slice(session.volume, document["plane"], document["slice"])
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, zlib.error) as error:
        raise InputError(f"The session file is damaged ({type(error).__name__}: {error}).") from error
    session.restore(state, window, settings, *place)


def read_session(path: Path) -> dict[str, Any]:
    """The document in a session file.

    Raises
    ------
    InputError
        If it is missing or not JSON.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The session file {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not a session file: it is no valid JSON.") from error
    if not isinstance(document, dict) or "format" not in document:
        raise InputError(f"{path.name} is not a session file: it does not say what it is.")
    return document


def _state_from_dict(document: Mapping[str, Any], volume: Volume) -> State:
    objects = tuple(_object_id(v) for v in document["objects"])
    entries = dict(_entry_from_dict(e, volume) for e in document["entries"])
    used = {_object_id(document["object"]), *(key.object_id for key in entries)}
    if len(set(objects)) != len(objects) or not used <= set(objects):
        raise ValueError("the list of objects does not fit the entries")
    return State(objects, document["object"]).with_entries(entries)


def _settings_from_dict(document: Mapping[str, Any], present: Settings) -> Settings:
    """Settings of a file; those that it does not name stay as they are.

    Raises
    ------
    InputError
        If it names a method or a measure that there is not.
    """
    changes = dict(document)
    if "ugpa" in changes:
        guard = changes["ugpa"]["guard"]
        changes["ugpa"] = UgpaSettings(**{**changes["ugpa"], "guard": None if guard is None else tuple(guard)})
    if changes.get("measure") is not None:
        changes["measure"] = parse_measure(changes["measure"])
    make_method(changes.get("method", present.method))
    for name, value in changes.items():
        if name != "measure" and type(value) is not type(getattr(present, name)):
            raise TypeError(f"the setting {name} is {value!r}")
    return replace(present, **changes)


def _checked_slice(volume: Volume, plane: object, index: object) -> tuple[int, int]:
    plane, index = _integer(plane), _integer(index)
    if not 0 <= index < volume.n_slices(plane):
        raise ValueError(f"there is no slice {index} in plane {plane}")
    return plane, index


def _integer(value: object) -> int:
    # int() would take 1.5, "1" and True as well.
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    return value


def _object_id(value: object) -> int:
    if not 1 <= _integer(value) <= np.iinfo(np.uint16).max:
        raise ValueError(f"{value!r} is no number of an object")
    return _integer(value)


def _entry_to_dict(key: Key, entry: Entry) -> dict[str, Any]:
    return {
        **asdict(key),
        "prompts": prompts_to_dict(entry.prompts),
        "view": None if entry.view is None else asdict(entry.view),
        "dismissed": [suggestion_to_dict(s) for s in entry.dismissed],
        "painted": _patch_to_dict(entry.painted),
        "mask": _patch_to_dict(entry.predicted),
    }


def _entry_from_dict(document: Mapping[str, Any], volume: Volume) -> tuple[Key, Entry]:
    place = _checked_slice(volume, document["plane"], document["slice_index"])
    shape = volume.plane_shape(place[0])
    view = None if document["view"] is None else View(**document["view"])
    if view is not None and (max(view.height, view.width) > 2 * max(shape) or not view.meets(*shape)):
        raise ValueError(f"the view {view} does not fit the image")
    entry = Entry(
        prompts_from_dict(document["prompts"]).clipped(*shape),
        view,
        None,
        tuple(_suggestion_from_dict(s) for s in document["dismissed"]),
        _patch_from_dict(document["painted"], shape, np.int8),
        _patch_from_dict(document["mask"], shape, np.bool_),
    )
    return Key(*place, _object_id(document["object_id"])), entry


def _suggestion_from_dict(document: Mapping[str, Any]) -> Suggestion:
    y, x, score, probability = (float(document[name]) for name in ("y", "x", "score", "probability"))
    box = Box(*document["box"]) if "box" in document else None
    if document["kind"] != ("point" if box is None else "box") or not math.isfinite(y + x + score + probability):
        raise ValueError(f"{document} is no suggestion")
    return Suggestion(document["kind"], y, x, score, probability, box)


def _patch_to_dict(patch: Patch | None) -> dict[str, Any] | None:
    """A patch with its values compressed, masks as bits."""
    trimmed = None if patch is None else patch.trimmed()
    if trimmed is None:
        return None
    values = trimmed.values
    packed = np.packbits(values) if values.dtype == np.bool_ else values
    text = base64.b64encode(zlib.compress(packed.tobytes(), 1)).decode()
    return {"top": trimmed.top, "left": trimmed.left, "shape": list(values.shape), "zlib": text}


def _patch_from_dict(
    document: Mapping[str, Any] | None, shape: tuple[int, int], kind: type[np.generic]
) -> Patch | None:
    if document is None:
        return None
    top, left = _integer(document["top"]), _integer(document["left"])
    height, width = (_integer(n) for n in document["shape"])
    if min(top, left) < 0 or min(height, width) < 1 or top + height > shape[0] or left + width > shape[1]:
        raise ValueError("pixels lie outside of the slice")
    size = (height * width + 7) // 8 if kind is np.bool_ else height * width
    # A limit, because a few damaged bytes can unfold into gigabytes.
    stored = zlib.decompressobj().decompress(base64.b64decode(document["zlib"], validate=True), size + 1)
    values: np.ndarray[Any, Any] = np.frombuffer(stored, np.uint8 if kind is np.bool_ else np.int8)
    if values.size != size or (kind is np.int8 and not np.isin(values, (-1, 0, 1)).all()):
        raise ValueError("pixels are missing or have no meaning")
    if kind is np.bool_:
        values = np.unpackbits(values, count=height * width).view(np.bool_)
    return Patch(top, left, values.reshape(height, width)).trimmed()
