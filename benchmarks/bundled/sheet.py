"""A contact sheet of the cases that went worst: image, true outline, predicted outline, uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundled.measuring import Plan, drawn_prompts, request_of, settings_of
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.metrics import dice
from napari_uncertsam.evaluation.report.pictures import (
    PREDICTION,
    TRUTH,
    crop_around,
    outlined,
    picture_size,
    resized,
    uncertainty_colours,
)
from napari_uncertsam.pipeline import Pipeline

Colours = NDArray[np.uint8]
CELL, GAP, TEXT = 220, 6, 16


def worst_of(lines: Sequence[Mapping[str, Any]], prompt: str, count: int) -> list[Mapping[str, Any]]:
    """The lines with the lowest Dice of every modality, modality by modality."""
    found = []
    for modality in sorted({line["modality"] for line in lines}):
        own = [line for line in lines if line["modality"] == modality and prompt in line["values"]]
        found += sorted(own, key=lambda line: (line["values"][prompt], line["case"]))[:count]
    return found


def draw_sheet(pipeline: Pipeline, cases: Sequence[Case], prompt: str, plan: Plan) -> Colours:
    """A row per case, its name and Dice above it; the first draw of the prompt."""
    rows = [draw_row(pipeline, case, prompt, plan) for case in cases]
    return np.concatenate(rows) if rows else np.full((TEXT, 4 * CELL, 3), 255, np.uint8)


def draw_row(pipeline: Pipeline, case: Case, prompt: str, plan: Plan) -> Colours:
    from PIL import Image, ImageDraw

    given = drawn_prompts(case, plan)[prompt][0]
    prediction = pipeline.predict(case.volume, request_of(case, given, settings_of(plan)))
    mask, uncertainty = prediction.maps.mask, prediction.maps.uncertainty
    rows, columns = crop_around(case.truth, mask, prediction.view)
    picture = case.seen_through.apply(case.volume.slice(case.plane, case.slice_index)[rows, columns])
    size = picture_size(picture.shape, case.spacing, CELL)

    def fitted(values: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(Image.fromarray(values[rows, columns].astype(np.float32)).resize(size[::-1]))

    image = resized(picture, size)
    panels = (
        image,
        outlined(image, fitted(case.truth) >= 0.5, TRUTH),
        outlined(image, fitted(mask) >= 0.5, PREDICTION),
        uncertainty_colours(fitted(uncertainty).clip(0)),
    )
    sheet = Image.new("RGB", (4 * (CELL + GAP), CELL + TEXT + GAP), "white")
    for number, panel in enumerate(panels):
        sheet.paste(Image.fromarray(panel), (number * (CELL + GAP), TEXT))
    said = f"{case.modality}  {case.key}  {prompt}  Dice {dice(mask, case.truth):.3f}"
    ImageDraw.Draw(sheet).text((2, 2), said, fill="black")
    return np.asarray(sheet)
