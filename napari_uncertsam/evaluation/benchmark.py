"""Evaluate methods and prompts on a dataset; an interrupted run goes on where it was, with the same numbers.

Reading the next image and measuring the last cases happen beside the model, on a thread each, so that an evaluation
takes little longer than its predictions. Every random number depends on the seed and the case alone, never on the
order or on what was finished before.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Dataset
from napari_uncertsam.evaluation.comparing_methods import compare_methods
from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.progress_file import ProgressFile, alone_in, clear_folder, prepare_folder
from napari_uncertsam.evaluation.results import FORMAT, RESULTS, TABLE, VERSION, Results, Row
from napari_uncertsam.evaluation.running import Evaluation, Progress, ProgressCallback
from napari_uncertsam.evaluation.settings import EvaluationSettings
from napari_uncertsam.evaluation.simulate import AnnotationRun, summarise_runs
from napari_uncertsam.evaluation.summarising import overall_means, summarise_agreement, summarise_rows
from napari_uncertsam.io import atomic
from napari_uncertsam.pipeline import Pipeline

__all__ = ["EvaluationSettings", "Progress", "evaluate"]

#: Columns of ``results.csv`` before the measures.
_DESCRIPTION = (
    *("case", "image", "plane", "slice", "value", "group", "modality", "area_px", "unit"),
    *("prompt", "method", "measure"),
)


def evaluate(
    dataset: Dataset,
    pipeline: Pipeline,
    settings: EvaluationSettings,
    out: str | Path,
    *,
    opened: Mapping[str, Any] | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    report: ProgressCallback | None = None,
    cancelled: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
) -> Results:
    """Measure every method with every prompt on every case; write ``results.json`` and ``results.csv``.

    Parameters
    ----------
    dataset : Dataset
    pipeline : Pipeline
        Its engine is the model named in the settings.
    settings : EvaluationSettings
    out : path
        Made when missing. If it holds an unfinished evaluation with the same settings, model and images, that one is
        continued; finished images are not predicted again, unless their files have changed.
    opened : mapping, optional
        "where", "root", "split" and "options" that :func:`open_dataset` was given, so that results can open it again;
        by default its folder alone.
    limit : int, optional
        Only so many images, evenly spread over all.
    overwrite : bool
        Start over, whatever evaluation there is.
    report : callable, optional
        Told :class:`Progress`, on the calling thread.
    cancelled : callable, optional
        Asked before every case whether to stop.
    say : callable, optional
        Told, in sentences, what is continued and what could not be done as asked.

    Returns
    -------
    Results

    Raises
    ------
    InputError
        If there is no case, or `out` holds another evaluation.
    EngineError
        If the model fails; what was finished is kept.
    Cancelled
        When `cancelled` said so; what was finished is kept.
    """
    start, out = time.perf_counter(), Path(out)
    images, engine = spread(dataset.images(), limit), pipeline.engine
    path = str(Path(dataset.root).resolve())
    again = {"where": path, "root": None, "split": None, "options": {}} | dict(opened or {})
    run = {
        "settings": settings.to_dict(),
        "dataset": {"name": dataset.name, "path": path} | again,
        "images": hashlib.sha256("\n".join(images).encode()).hexdigest(),
        "checkpoint_sha256": engine.sha256,
    }
    say = say or (lambda _: None)
    with alone_in(out):
        progress = prepare_folder(out, run, overwrite=overwrite)
        evaluation = Evaluation(
            dataset, pipeline, settings, images, progress, report or (lambda _: None), cancelled or (lambda: False)
        )
        _say_continued(evaluation, say)
        failed = _without_mask(dataset) + evaluation.go()
        document = _document(run, settings, pipeline, progress, images, failed)
        _say_unused(document, settings, say)
        document["seconds"] = round(time.perf_counter() - start, 3)
        with atomic(out / RESULTS, overwrite=True) as temporary:
            temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        _write_table(out / TABLE, document["cases"])
    return Results.read(out)


def _say_continued(evaluation: Evaluation, say: Callable[[str], None]) -> None:
    """What is finished already, and what has to be done again."""
    known, missing, total = evaluation.progress.finished, evaluation.missing(), len(evaluation.images)
    changed = sum(image in known for image in missing)
    if changed:
        say(f"{changed} images have changed since they were evaluated, and are evaluated again.")
    if len(missing) < total:
        say(f"{total - len(missing)} of {total} images are finished already.")


def _say_unused(document: Mapping[str, Any], settings: EvaluationSettings, say: Callable[[str], None]) -> None:
    """Modalities set apart that do not occur, and prompts that no annotator goes on from."""
    modalities = sorted({row["modality"] for row in document["cases"]})
    for name in settings.apart:
        if name not in modalities:
            say(f"No case has the modality {name!r} that was to be set apart; there are {', '.join(modalities)}.")
    others = [spec.name for spec in settings.prompts if not spec.opens]
    if settings.annotators and others:
        say(f"Annotators go on from a single prediction as a user makes it, so not from {', '.join(others)}.")


def _without_mask(dataset: Dataset) -> list[dict[str, str]]:
    names = dataset.without_mask
    if not names:
        return []
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [{"image": listed, "reason": "there is no mask of that name."}]


def spread(images: Sequence[str], limit: int | None) -> list[str]:
    """So many of the images, evenly spaced; all without a limit.

    Raises
    ------
    InputError
        If the limit is below 1.

    Examples
    --------
    >>> spread("abcde", 3)
    ['a', 'c', 'e']
    """
    if limit is not None and limit < 1:
        raise InputError(f"The number of images is at least 1, not {limit}.")
    if limit is None or limit >= len(images):
        return list(images)
    return [images[k] for k in np.linspace(0, len(images) - 1, limit).round().astype(int)]


def _document(
    run: Mapping[str, Any],
    settings: EvaluationSettings,
    pipeline: Pipeline,
    progress: ProgressFile,
    images: Sequence[str],
    failed: list[dict[str, str]],
) -> dict[str, Any]:
    """``results.json``, in the order of the dataset, whatever was finished first."""
    entries = [progress.finished[image] for image in images if image in progress.finished]
    rows = [row for entry in entries for row in entry["rows"]]
    failed = failed + [failure for entry in entries for failure in entry["failed"] or _without_object(entry)]
    if not rows:
        clear_folder(progress.folder)  # nothing in it can be continued
        raise InputError(f"There is nothing to evaluate in {run['dataset']['path']}: {failed[0]['reason']}")
    shared: dict[str, Any] = {"apart": settings.apart, "seed": settings.seed, "level": settings.level}
    summary = summarise_rows(rows, **shared)
    counts = {name: len({row[key] for row in rows}) for name, key in (("images", "image"), ("cases", "case"))}
    return {
        "format": FORMAT,
        "version": VERSION,
        "dataset": run["dataset"] | counts | {"groups": len({row["group"] for row in rows})},
        "settings": run["settings"],
        "record": pipeline.record_of_model(),
        "failed": failed,
        "mean": overall_means(summary, settings.prompts[0].name),
        "summary": summary,
        "agreement": summarise_agreement(rows, **shared),
        "comparisons": compare_methods(rows, settings.methods, **shared),
        "annotators": _annotators(entries, settings),
        "cases": rows,
    }


def _without_object(entry: Mapping[str, Any]) -> list[dict[str, str]]:
    reason = "its mask holds no object, or only ones that are smaller than asked for."
    return [] if entry["rows"] else [{"image": entry["image"], "reason": reason}]


def _annotators(entries: Sequence[Mapping[str, Any]], settings: EvaluationSettings) -> list[dict[str, Any]]:
    """A summary for every annotator and start, of what is not set apart."""
    runs: dict[tuple[str, str], list[tuple[AnnotationRun, str]]] = {}
    for entry in entries:
        for values in entry["annotations"]:
            if values["modality"] not in settings.apart:
                known = {k: v for k, v in values.items() if k not in ("case", "group", "modality")}
                run = AnnotationRun.from_dict(known)
                runs.setdefault((run.start, run.policy), []).append((run, values["group"]))
    return [
        summarise_runs(*zip(*found, strict=True), seed=settings.seed, level=settings.level).to_dict()
        for _, found in sorted(runs.items(), key=lambda item: _order(item[0], settings))
    ]


def _order(kind: tuple[str, str], settings: EvaluationSettings) -> tuple[int, int]:
    starts = [spec.name for spec in settings.prompts]
    return starts.index(kind[0]), settings.annotators.index(kind[1])


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    """A line per row; empty where a measure is not defined."""
    with atomic(path, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*_DESCRIPTION, *MEASURES], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
