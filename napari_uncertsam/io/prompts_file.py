"""Prompts as JSON: readable, versioned, and checked when they come back."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.io.writers import atomic
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts

VERSION = 1


def prompts_to_dict(prompts: Prompts) -> dict[str, Any]:
    """`prompts` as plain values for JSON; coordinates in pixels, ``(y, x)``.

    Examples
    --------
    >>> prompts_to_dict(Prompts(points=(Point(4, 5),), box=Box(0, 1, 8, 9)))
    {'points': [{'y': 4.0, 'x': 5.0, 'positive': True}], 'box': {'y0': 0.0, 'x0': 1.0, 'y1': 8.0, 'x1': 9.0}}
    """
    document: dict[str, Any] = {
        "points": [
            {"y": p.y, "x": p.x, "positive": p.positive, **({} if p.given else {"given": False})}
            for p in prompts.points
        ]
    }
    if prompts.box is not None:
        document["box"] = {key: getattr(prompts.box, key) for key in ("y0", "x0", "y1", "x1")}
    if prompts.mask is not None:
        logits = prompts.mask.logits.astype("<f4")
        text = base64.b64encode(logits.tobytes()).decode()
        document["mask"] = {"shape": list(logits.shape), "float32": text}
    return document


def prompts_from_dict(document: Mapping[str, Any]) -> Prompts:
    """Prompts from what `prompts_to_dict` gave.

    Raises
    ------
    InputError
        If a field is missing or is not what it should be.
    """
    try:
        points = tuple(
            Point(_number(p["y"]), _number(p["x"]), _boolean(p.get("positive", True)), _boolean(p.get("given", True)))
            for p in document.get("points", ())
        )
        box, mask = document.get("box"), document.get("mask")
        return Prompts(
            points=points,
            box=None if box is None else Box(*(_number(box[key]) for key in ("y0", "x0", "y1", "x1"))),
            mask=None if mask is None else MaskPrompt(_logits(mask)),
        )
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"These prompts lack the field {error}; save them again.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"These prompts are not as they should be ({error}); save them again.") from error


def write_prompts(path: str | os.PathLike[str], prompts: Prompts, *, overwrite: bool = False) -> Path:
    """Write prompts to a JSON file.

    Raises
    ------
    InputError
        If the file exists and must not be replaced, or cannot be written.
    """
    document = {"format": "napari-uncertsam prompts", "version": VERSION, **prompts_to_dict(prompts)}
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Path(path)


def read_prompts(path: str | os.PathLike[str]) -> Prompts:
    """Read prompts from a JSON file.

    Raises
    ------
    InputError
        If the file is missing, damaged, of a newer version, or holds something else.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; check the name.") from error
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not a prompts file: it is no valid JSON.") from error
    if not isinstance(document, dict) or "version" not in document:
        raise InputError(f"{path.name} is not a prompts file: it has no version.")
    if document["version"] != VERSION:
        raise InputError(f"{path.name} has version {document['version']}, this program reads {VERSION}; update it.")
    try:
        return prompts_from_dict(document)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def _number(value: object) -> float:
    # float() would take "12" and True as well.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _logits(mask: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    height, width = mask["shape"]
    return np.frombuffer(base64.b64decode(mask["float32"], validate=True), "<f4").reshape(height, width)
