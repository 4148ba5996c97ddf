"""Saving a session: masks and maps as images, and a file from which the work can be taken up again.

The session file holds what the user gave (prompts, answers, painted pixels, settings), not what the model made of it:
predictions are computed again when it is opened.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uncertsam.annotations import Entry, Key, Painted, State
from napari_uncertsam.errors import InputError
from napari_uncertsam.io import (
    atomic,
    embed_slice,
    output_suffix,
    prompts_from_dict,
    prompts_to_dict,
    write_map,
    write_mask,
)
from napari_uncertsam.view import View
from napari_uncertsam.volume import Window

if TYPE_CHECKING:
    from napari_uncertsam.session import Session

VERSION = 1
SESSION_FILE = "session.json"


def save_session(session: Session, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``mask``, ``probability``, ``uncertainty``, ``summary.json`` and ``session.json`` into a folder.

    Masks hold all objects on all slices; maps those of the current object on the current slice, in the geometry of the
    image (a volume with one slice filled).

    Parameters
    ----------
    session : Session
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
    existing = [p.name for p in wanted if p.exists()]
    if existing and not overwrite:
        raise InputError(f"{', '.join(existing)} in {folder} would be overwritten; choose another folder or allow it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}); choose another.") from error
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


def session_to_dict(session: Session) -> dict[str, Any]:
    """The user's part of a session in plain values."""
    return {
        "format": "napari-uncertsam session",
        "version": VERSION,
        "image": {"name": session.volume.name, "shape": list(session.volume.shape)},
        "window": asdict(session.window),
        "settings": {"model": session.settings.model, "method": session.settings.method, "seed": session.settings.seed},
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
        if document["format"] != "napari-uncertsam session" or document["version"] > VERSION:
            raise InputError("This session file was written by a newer version of napari-uncertsam; update it first.")
        if tuple(document["image"]["shape"]) != session.volume.shape:
            raise InputError(
                f"The session is of an image of shape {tuple(document['image']['shape'])}, this one has "
                f"{session.volume.shape}; open the image that was annotated."
            )
        entries = dict(_entry_from_dict(e) for e in document["entries"])
        objects = tuple(int(v) for v in document["objects"]) or (1,)
        state = State(objects, int(document["object"])).with_entries(entries)
        window, settings = Window(**document["window"]), replace(session.settings, **document["settings"])
        place = (int(document["plane"]), int(document["slice"]))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
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
    except ValueError as error:
        raise InputError(f"{path.name} is not a session file: {error}.") from error
    if not isinstance(document, dict):
        raise InputError(f"{path.name} is not a session file.")
    return document


def _entry_to_dict(key: Key, entry: Entry) -> dict[str, Any]:
    painted = entry.painted
    return {
        **asdict(key),
        "prompts": prompts_to_dict(entry.prompts),
        "view": None if entry.view is None else asdict(entry.view),
        "dismissed": [list(place) for place in entry.dismissed],
        "painted": None
        if painted is None
        else {
            "top": painted.top,
            "left": painted.left,
            "shape": list(painted.values.shape),
            "zlib": base64.b64encode(zlib.compress(painted.values.tobytes())).decode(),
        },
    }


def _entry_from_dict(document: Mapping[str, Any]) -> tuple[Key, Entry]:
    key = Key(int(document["plane"]), int(document["slice_index"]), int(document["object_id"]))
    view = None if document["view"] is None else View(**document["view"])
    dismissed = tuple((float(y), float(x)) for y, x in document["dismissed"])
    painted = None
    if document["painted"] is not None:
        stored = document["painted"]
        values = np.frombuffer(zlib.decompress(base64.b64decode(stored["zlib"])), np.int8).reshape(stored["shape"])
        painted = Painted(int(stored["top"]), int(stored["left"]), values)
    return key, Entry(prompts_from_dict(document["prompts"]), view, None, dismissed, painted)
