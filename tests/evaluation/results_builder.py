"""A finished evaluation of made-up predictions: a dataset folder, maps and ``results.json``, without a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from napari_uncertsam.estimators import PointBelief
from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.evaluation.cases import Case, case_rng
from napari_uncertsam.evaluation.comparing_methods import compare_methods
from napari_uncertsam.evaluation.measuring import measure_row
from napari_uncertsam.evaluation.metrics.table import TOLERANCE
from napari_uncertsam.evaluation.predicting import Outcome
from napari_uncertsam.evaluation.results import FORMAT, MAPS, RESULTS, VERSION, Results, read_maps, write_maps
from napari_uncertsam.evaluation.summarising import overall_means, summarise_agreement, summarise_rows
from napari_uncertsam.io import write_map, write_mask
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume

SHAPE = (96, 128)
GRID = (64, 64)
SPACING = (2.5, 0.8, 0.8)
MODALITIES = ("CT", "Microscopy", "Dermoscopy")
SLICES_PER_VOLUME = 3

Array = NDArray[Any]


def build_results(
    folder: Path,
    *,
    cases: int = 6,
    prompts: Sequence[str] = ("gt-box", "box-0.5"),
    methods: Sequence[str] = ("entropy", "prompt"),
    volume: bool = False,
    apart: Sequence[str] = (),
    maps: bool = True,
    seed: int = 0,
) -> Results:
    """Write an evaluation below `folder` (``data/`` and ``run/``) and read it.

    Every object is an ellipse, and the box of every prompt is the true one. Predictions miss a part of it, the later
    prompts more, and are sure or unsure of that as the case has it; the method "variance" shows a standard deviation,
    which is not an entropy. 2D images hold one object each, of the :data:`MODALITIES` by turns; with `volume`, volumes
    of :data:`SLICES_PER_VOLUME` slices are made, a case a slice.
    """
    data, run = folder / "data", folder / "run"
    run.mkdir(parents=True)
    made = list(_volumes(data, cases, seed) if volume else _images(data, cases, seed))
    rows: list[dict[str, Any]] = []
    for case in made:
        rows += _rows(run, case, prompts, methods, maps, seed)
    known = {name: list(dict.fromkeys(getattr(c, name) for c in made)) for name in ("image", "group")}
    document = {
        "format": FORMAT,
        "version": VERSION,
        "dataset": {
            "name": "data",
            "path": str(data),
            "where": str(data),
            "root": None,
            "split": "test",
            "options": {},
            "images": len(known["image"]),
            "cases": len(made),
            "groups": len(known["group"]),
        },
        "settings": {
            "model": "bundled",
            "methods": list(methods),
            "prompts": list(prompts),
            "zoom": True,
            "seed": seed,
            "tolerance": TOLERANCE,
            "level": 0.95,
            "apart": list(apart),
            "annotators": [],
            "clicks": 10,
            "wrong_rate": 0.0,
            "maps": maps,
            "window": None,
        },
        "record": {
            "model": "bundled",
            "checkpoint_sha256": "0123456789abcdef" * 4,
            "device": "CPU (fake)",
            "versions": {"napari-uncertsam": "0.1.0", "torch": "2.5.1", "numpy": "2.0.0", "python": "3.11.9"},
        },
        "failed": [],
        "cases": rows,
        "annotators": [],
        "seconds": 12.5,
    }
    shared: dict[str, Any] = {"apart": apart, "seed": seed, "level": 0.95}
    document |= {"comparisons": compare_methods(rows, methods, **shared)}
    document |= {"summary": summarise_rows(rows, **shared), "agreement": summarise_agreement(rows, **shared)}
    document["mean"] = overall_means(document["summary"], prompts[0])
    return write_results(run, document)


def write_results(run: Path, document: Mapping[str, Any]) -> Results:
    """Write a document as the results of a folder, and read it again."""
    (run / RESULTS).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return Results.read(run)


def _ellipse(rng: np.random.Generator) -> NDArray[np.bool_]:
    y, x = np.indices(SHAPE)
    cy, cx = (rng.uniform(0.4, 0.6) * n for n in SHAPE)
    return ((y - cy) / rng.uniform(12, 24)) ** 2 + ((x - cx) / rng.uniform(14, 30)) ** 2 <= 1


def _picture(truth: Array, rng: np.random.Generator) -> NDArray[np.float64]:
    return 60 + 110 * ndimage.gaussian_filter(truth.astype(float), 1.0) + rng.normal(0, 12, truth.shape)


def _images(data: Path, cases: int, seed: int) -> Iterator[Case]:
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
    lines = ["name,value,modality"]
    for number in range(cases):
        name, modality, value = f"ellipse_{number:02d}", MODALITIES[number % len(MODALITIES)], 1 + number % 2
        rng = case_rng(seed, name, "image")
        truth = _ellipse(rng)
        picture = _picture(truth, rng).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(data / "images" / f"{name}.png")
        Image.fromarray((value * truth).astype(np.uint8)).save(data / "masks" / f"{name}.png")
        lines.append(f"{name},{value},{modality}")
        yield Case(name, value, Volume(picture, name=name), truth, modality=modality)
    (data / "MANIFEST.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _volumes(data: Path, cases: int, seed: int) -> Iterator[Case]:
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
    for first in range(0, cases, SLICES_PER_VOLUME):
        name = f"volume_{first // SLICES_PER_VOLUME}"
        rng = case_rng(seed, name, "image")
        truth = np.stack([_ellipse(rng) for _ in range(min(SLICES_PER_VOLUME, cases - first))])
        picture = np.stack([_picture(t, rng) - 100 for t in truth]).astype(np.float32)
        volume = Volume(picture, spacing=SPACING, affine=np.diag([*SPACING, 1.0]), modality="CT", name=name)
        write_map(data / "images" / f"{name}.nii.gz", picture, volume)
        write_mask(data / "masks" / f"{name}.nii.gz", truth.astype(np.uint8), volume)
        for index in range(len(truth)):
            yield Case(name, 1, volume, truth[index], slice_index=index)


def _rows(
    run: Path, case: Case, prompts: Sequence[str], methods: Sequence[str], maps: bool, seed: int
) -> Iterator[dict[str, Any]]:
    """The rows of a case, measured on the maps as they were written."""
    archive = f"{case.image}-{case.slice_index}-{case.value}.npz"
    box = Box.of_mask(case.truth)
    view = View.around(box, *case.truth.shape)
    entries, kinds = [], []
    for strength, prompt in enumerate(prompts):
        rng = case_rng(seed, case.key, prompt)
        for method in methods:
            logits = _logits(case.truth, view, rng, 0.4 + 0.5 * strength, 1.0 if method == "entropy" else 0.6)
            entries.append((logits, rng.uniform(0, 0.5, GRID).astype(np.float32) if method == "variance" else None))
            kinds.append((prompt, method))
    write_maps(run, archive, entries)
    outcomes = []
    for number, (logits, _) in enumerate(entries):
        stored = {"stored": [archive, number], "view": list(astuple(view))}
        prompt, method = kinds[number]
        measure: Measure = "std" if method == "variance" else "entropy"
        maps_on_slice = read_maps(run, stored, case.truth.shape)
        outcome = Outcome(PointBelief(logits), view, maps_on_slice, measure, {"total": 0.25})
        outcomes.append(outcome)
        reference = outcomes[number - number % len(methods)]
        row = measure_row(case, prompt, [Prompts((), box)], method, outcome, reference, TOLERANCE)
        yield row | {"stored": stored["stored"] if maps else None}
    if not maps:
        (run / MAPS / archive).unlink()


def _logits(
    truth: Array, view: View, rng: np.random.Generator, strength: float, sharpness: float
) -> NDArray[np.float32]:
    """Signed distances to an outline that wanders off the true one."""
    distance = ndimage.distance_transform_edt(truth) - ndimage.distance_transform_edt(~truth)
    rough = ndimage.gaussian_filter(rng.normal(0, 1, truth.shape), 6)
    on_slice = distance + rng.uniform(3, 24) * strength * rough / np.abs(rough).max()
    picked = ndimage.zoom(view.crop(on_slice), np.array(GRID) / (view.height, view.width), order=1)
    return (sharpness * picked).astype(np.float32)
