"""Parts of a session in plain values for JSON, and back; whatever a damaged file holds is refused."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_uncertsam.annotations import Entry, Finished, Key, Patch
from napari_uncertsam.entries import Place, Source
from napari_uncertsam.estimators.measures import parse_measure
from napari_uncertsam.figures import Figures
from napari_uncertsam.io import prompts_from_dict, prompts_to_dict
from napari_uncertsam.prediction import Request, Settings
from napari_uncertsam.prompts import Box, Suggestion
from napari_uncertsam.refinement.methods import make_method
from napari_uncertsam.refinement.settings import UgpaSettings
from napari_uncertsam.summary import finite, suggestion_to_dict
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window


class Encoder:
    """Entries as JSON; one that has not changed is not encoded again."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Entry, tuple[Key, str]] = WeakKeyDictionary()

    def __call__(self, key: Key, entry: Entry) -> str:
        """One line."""
        known = self._known.get(entry)
        if known is None or known[0] != key:
            known = key, json.dumps(_entry_to_dict(key, entry))
            self._known[entry] = known
        return known[1]


def _entry_to_dict(key: Key, entry: Entry) -> dict[str, Any]:
    request = entry.asked if entry.prediction is None else entry.prediction.request
    shown = entry.prediction is not None or entry.remembered is not None or entry.propagated is not None
    return {
        **asdict(key),
        "prompts": prompts_to_dict(entry.prompts),
        "view": _view_to_dict(entry.view),
        "dismissed": [suggestion_to_dict(s) for s in entry.dismissed],
        "painted": _patch_to_dict(entry.painted),
        "mask": _patch_to_dict(entry.predicted),
        "reviewed": entry.reviewed,
        "figures": {k: finite(v) for k, v in asdict(entry.modelled).items()} if shown else None,
        "asked": None if request is None else _request_to_dict(request),
        "source": source_to_dict(entry.source) if entry.is_propagated and entry.source is not None else None,
    }


def entry_from_dict(document: Mapping[str, Any], volume: Volume, image_id: str) -> tuple[Key, Entry]:
    """An entry with its mask as remembered."""
    place = checked_slice(volume, document["plane"], document["slice_index"])
    key, shape = Key(*place, object_id_of(document["object_id"])), volume.plane_shape(place[0])
    asked, figures, source = (document.get(name) for name in ("asked", "figures", "source"))
    entry = Entry(
        prompts_from_dict(document["prompts"]).clipped(*shape),
        _view_from_dict(document["view"], volume, key.plane),
        dismissed=tuple(_suggestion_from_dict(s) for s in document["dismissed"]),
        painted=_patch_from_dict(document["painted"], shape, np.int8),
        remembered=_patch_from_dict(document["mask"], shape, np.bool_),
        figures=None if figures is None else _figures_from_dict(figures),
        asked=None if asked is None else _request_from_dict(asked, key, volume, image_id),
        source=None if source is None else source_from_dict(source),
    )
    reviewed = document.get("reviewed", False)
    if not isinstance(reviewed, bool):
        raise TypeError(f"a slice is reviewed or not, not {reviewed!r}")
    return key, entry.with_review(True) if reviewed else entry


def finished_to_dict(done: Finished) -> dict[str, Any]:
    """A span that propagation has been through."""
    return {**{k: getattr(done, k) for k in _FINISHED}, **source_to_dict(done.source)}


def finished_from_dict(document: Mapping[str, Any], volume: Volume) -> Finished:
    """The same back."""
    plane, start = checked_slice(volume, document["plane"], document["start"])
    _, last = checked_slice(volume, plane, integer(document["stop"]) - 1)
    return Finished(plane, object_id_of(document["object_id"]), start, last + 1, source_from_dict(document))


_FINISHED = ("plane", "object_id", "start", "stop")


def source_to_dict(source: Source) -> dict[str, Any]:
    """Anchors as slice and token, and the basis."""
    ends = {name: getattr(source, name) for name in ("before", "after")}
    return {**{name: end and list(end) for name, end in ends.items()}, "basis": source.basis}


def source_from_dict(document: Mapping[str, Any]) -> Source:
    """The same back."""

    def place(value: Any) -> Place | None:
        return None if value is None else (integer(value[0]), str(value[1]))

    return Source(place(document["before"]), place(document["after"]), str(document["basis"]))


def _figures_from_dict(document: Mapping[str, Any]) -> Figures:
    def number(name: str) -> float:
        value = math.nan if document[name] is None else float(document[name])
        if value < 0:
            raise ValueError(f"{name} is negative")
        return value

    dice = None if document["expected_dice"] is None else number("expected_dice")
    uncertain = number("uncertain_px")
    return Figures(number("uncertainty"), number("area_px"), number("area_sd_px"), uncertain, dice)


def _request_to_dict(request: Request) -> dict[str, Any]:
    return {
        "prompts": prompts_to_dict(request.prompts),
        "view": _view_to_dict(request.view),
        "window": asdict(request.window),
        "settings": asdict(request.settings),
    }


def _request_from_dict(document: Mapping[str, Any], key: Key, volume: Volume, image_id: str) -> Request:
    view = _view_from_dict(document["view"], volume, key.plane)
    prompts = prompts_from_dict(document["prompts"]).clipped(*volume.plane_shape(key.plane))
    window, settings = Window(**document["window"]), settings_from_dict(document["settings"], Settings())
    return Request(image_id, key.plane, key.slice_index, window, view, key.object_id, prompts, settings)


def _view_to_dict(view: View | None) -> dict[str, int] | None:
    return None if view is None else asdict(view)


def _view_from_dict(document: Mapping[str, Any] | None, volume: Volume, plane: int) -> View | None:
    if document is None:
        return None
    view, shape, spacing = View(**document), volume.plane_shape(plane), volume.plane_spacing(plane)
    largest = 2 * max(shape) * max(spacing) / min(spacing)  # views are square in millimetres
    if max(view.height, view.width) > largest or not view.meets(*shape):
        raise ValueError(f"the view {view} does not fit the image")
    return view


def settings_from_dict(document: Mapping[str, Any], present: Settings) -> Settings:
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


def checked_slice(volume: Volume, plane: object, index: object) -> tuple[int, int]:
    """A plane and a slice that there are."""
    plane, index = integer(plane), integer(index)
    if not 0 <= index < volume.n_slices(plane):
        raise ValueError(f"there is no slice {index} in plane {plane}")
    return plane, index


def integer(value: object) -> int:
    """A whole number; int() would take 1.5, "1" and True as well."""
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    return value


def object_id_of(value: object) -> int:
    """The number of an object."""
    if not 1 <= integer(value) <= np.iinfo(np.uint16).max:
        raise ValueError(f"{value!r} is no number of an object")
    return integer(value)


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
    top, left = integer(document["top"]), integer(document["left"])
    height, width = (integer(n) for n in document["shape"])
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
