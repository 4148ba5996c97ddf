"""Milliseconds through the pipeline, as the widget waits for them; several models take turns in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bundled.measuring import METHOD, request_of
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.simulate import centre_click, error_click
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.view import View

WARM_UP, REPEATS, THREADS = 3, 40, 2
TASKS = {
    "embed": "embed a view",
    "box": "box to mask and uncertainty, embedded already",
    "click": "one more click to mask and uncertainty, embedded already",
    "asked": "the same with the questions that it leads to",
    "foresee": "one more click, what is shown at once",
    "first": "first click to mask and uncertainty, nothing embedded",
}


def pick_case(cases: list[Case]) -> Case:
    """The case whose slice is closest to 512 x 512 pixels, the first of those."""
    return min(cases, key=lambda case: abs(case.truth.size - 512 * 512))


def one_turn(engine: Sam2Engine, case: Case) -> dict[str, float]:
    """Milliseconds of every task, with a cache that is empty at first."""
    settings, pipeline, cold = Settings(method=METHOD, n_suggestions=0), Pipeline(engine), Pipeline(engine)
    box = Prompts(box=Box.of_mask(case.truth))
    view = View.around(box.box, *case.truth.shape, spacing=case.spacing)
    raw = case.volume.slice(case.plane, case.slice_index)
    found: dict[str, float] = {}

    def timed(task: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        found[task] = 1000 * (time.perf_counter() - start)
        return result

    timed("embed", lambda: pipeline.embedding(raw, case.seen_through, view))
    pipeline.predict(case.volume, request_of(case, box, settings))  # a view that has grown is embedded now
    before = timed("box", lambda: pipeline.predict(case.volume, request_of(case, box, settings)))
    click = error_click(before.maps.mask, case.truth) or centre_click(case.truth)
    more = request_of(case, box.with_point(click), settings)
    pipeline.predict(case.volume, more)
    timed("click", lambda: pipeline.predict(case.volume, more))
    asking = replace(more, settings=replace(settings, n_suggestions=Settings().n_suggestions))
    timed("asked", lambda: pipeline.predict(case.volume, asking))
    asked = pipeline.predict(case.volume, replace(asking, prompts=box))
    timed("foresee", lambda: pipeline.foresee(case.volume, asked, asking))
    first = request_of(case, Prompts((centre_click(case.truth),)), settings)
    timed("first", lambda: cold.predict(case.volume, first))
    return found


def measure_speed(engines: Mapping[str, Sam2Engine], case: Case, repeats: int = REPEATS) -> dict[str, Any]:
    """Median and 90th percentile of every task and engine, in milliseconds."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    try:
        for turn in range(-WARM_UP, repeats):
            names = list(engines)
            for name in names if turn % 2 else names[::-1]:
                found = one_turn(engines[name], case)
                if turn >= 0:
                    turns[name].append(found)
    finally:
        torch.set_num_threads(threads)
    return {
        "slice": list(case.truth.shape),
        "threads": THREADS,
        "repeats": repeats,
        "load": os.getloadavg()[0],
        "ms": {
            name: {
                task: {"median": float(np.median(ms)), "p90": float(np.quantile(ms, 0.9))}
                for task in TASKS
                for ms in [[turn[task] for turn in found]]
            }
            for name, found in turns.items()
        },
    }
