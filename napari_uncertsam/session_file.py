"""The file from which work can be taken up again.

It holds what the user gave (prompts, answers, painted pixels, reviewed slices, settings), the masks that came of it
with their figures, and how far propagation came. Maps are not in it: predictions are computed again as slices are
visited, and until then the masks stand. :mod:`napari_uncertsam.replaying` computes them all.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_uncertsam.annotations import State
from napari_uncertsam.encoding import (
    checked_slice,
    entry_from_dict,
    finished_from_dict,
    finished_to_dict,
    object_id_of,
    settings_from_dict,
)
from napari_uncertsam.errors import InputError
from napari_uncertsam.io import atomic
from napari_uncertsam.prediction import Settings
from napari_uncertsam.volume import Volume, Window

if TYPE_CHECKING:
    from napari_uncertsam.session import Session
    from napari_uncertsam.workspace import Workspace

FORMAT = "napari-uncertsam session"
VERSION = 2
SESSION_FILE = "session.json"
#: What a session keeps of the records of its results.
_MODEL = ("model", "checkpoint_sha256", "adapter", "device", "versions")


def session_to_text(session: Workspace) -> str:
    """What a session is taken up again from, as JSON with a line for each entry.

    Entries that have not changed since the last time are not encoded again.
    """
    lines = ",\n".join(f"    {session.encoder(key, entry)}" for key, entry in session.entries.items())
    head = json.dumps(_head(session), indent=2).removesuffix("\n}")
    return f'{head},\n  "entries": [\n{lines}\n  ]\n}}\n'


def session_to_dict(session: Workspace) -> dict[str, Any]:
    """The same in plain values."""
    document: dict[str, Any] = json.loads(session_to_text(session))
    return document


def write_session(session: Workspace, path: Path, *, overwrite: bool = False) -> Path:
    """Write the session file, on disk when this returns."""
    return write_text(path, session_to_text(session), overwrite=overwrite)


def write_json(path: Path, document: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write a document whole or not at all."""
    return write_text(path, json.dumps(document, indent=2) + "\n", overwrite=overwrite)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> Path:
    """Write a file whole or not at all, so that it survives a power cut."""
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
    if os.name == "posix":  # the new name, too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


def restore_session(session: Session, document: Mapping[str, Any]) -> None:
    """Take up saved work on the same image; predictions are asked for again as slices are visited.

    Where the pixels of annotated slices differ from those that were saved, a message says so.

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
        state = _state_from_dict(document, session.volume, session.image_id)
        window, settings = Window(**document["window"]), settings_from_dict(document["settings"], session.settings)
        place = checked_slice(session.volume, document["plane"], document["slice"])
        model = dict(document.get("model") or {})
        digests = {str(k): str(v) for k, v in document["image"].get("slices", {}).items()}
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, zlib.error) as error:
        raise InputError(f"The session file is damaged ({type(error).__name__}: {error}).") from error
    session.restore(state, window, settings, *place)
    session.model_record = model
    _compare(session, digests)


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


def _head(session: Workspace) -> dict[str, Any]:
    volume = session.volume
    finished = sorted(session.finished, key=lambda done: (done.plane, done.object_id, done.start))
    image = {"name": volume.name, "shape": list(volume.shape), "spacing": list(volume.spacing)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "image": {**image, "slices": session.slice_digests()},
        "model": _model(session),
        "window": asdict(session.window),
        "settings": asdict(session.settings),
        "plane": session.plane,
        "slice": session.slice_index,
        "object": session.object_id,
        "objects": list(session.objects),
        "bases": {k: {"window": asdict(w), "settings": asdict(s)} for k, (w, s) in sorted(session.bases.items())},
        "finished": [finished_to_dict(done) for done in finished],
    }


def _model(session: Workspace) -> dict[str, Any]:
    """Which model the results are of: the first that says so, else as it was loaded."""
    for entry in session.entries.values():
        result = entry.prediction or entry.propagated
        if result is not None and "model" in result.record:
            return {name: result.record[name] for name in _MODEL if name in result.record}
    return dict(session.model_record)


def _state_from_dict(document: Mapping[str, Any], volume: Volume, image_id: str) -> State:
    objects = tuple(object_id_of(v) for v in document["objects"])
    entries = dict(entry_from_dict(e, volume, image_id) for e in document["entries"])
    used = {object_id_of(document["object"]), *(key.object_id for key in entries)}
    if len(set(objects)) != len(objects) or not used <= set(objects):
        raise ValueError("the list of objects does not fit the entries")
    finished = frozenset(finished_from_dict(f, volume) for f in document.get("finished", ()))
    bases = {str(k): _basis_from_dict(v) for k, v in document.get("bases", {}).items()}
    return State(objects, document["object"], finished=finished, bases=MappingProxyType(bases)).with_entries(entries)


def _basis_from_dict(document: Mapping[str, Any]) -> tuple[Window, Settings]:
    return Window(**document["window"]), settings_from_dict(document["settings"], Settings())


def _compare(session: Session, saved: Mapping[str, str]) -> None:
    present = session.slice_digests()
    differ = [name for name, digest in saved.items() if present.get(name, digest) != digest]
    if differ:
        places = ", ".join("slice {1} of plane {0}".format(*name.split("/")) for name in differ)
        session.message.emit(f"The image is not quite the one that was annotated: {places} differ; the masks are kept.")
