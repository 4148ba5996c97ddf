"""Compute what can stand beside a paper's numbers, image by image; an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_uncertsam.checkpoints import file_sha256
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.benchmark import spread
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.progress_file import ProgressFile, prepare_folder
from napari_uncertsam.evaluation.reproduce.document import Found, Left, make_document
from napari_uncertsam.evaluation.reproduce.opening import Collection
from napari_uncertsam.evaluation.reproduce.paper import Group, Paper, ReproductionSettings, Subject
from napari_uncertsam.evaluation.reproduce.sight import Sight, same_slice
from napari_uncertsam.evaluation.reproduce.table import markdown
from napari_uncertsam.evaluation.running import Progress, ProgressCallback
from napari_uncertsam.io import atomic
from napari_uncertsam.pipeline import Pipeline

if TYPE_CHECKING:
    from napari_uncertsam.engine import Engine

#: What is written at the end.
DOCUMENT, PAGE = "reproduction.json", "reproduction.md"


@dataclass(frozen=True, eq=False)
class Reproduction:
    """Computes what the images that are not finished yet are needed for.

    Parameters
    ----------
    paper : Paper
    collection : Collection
    engine : Engine
    settings : ReproductionSettings
    images : mapping of str to sequence of str
        By dataset, in order.
    progress : ProgressFile
        Gets a line for every image that is finished.
    report : callable
    """

    paper: Paper
    collection: Collection
    engine: Engine
    settings: ReproductionSettings
    images: Mapping[str, Sequence[str]]
    progress: ProgressFile
    report: ProgressCallback

    def go(self) -> list[Left]:
        """Do what is missing; returns the images that could not be read."""
        total, done, unread = sum(map(len, self.images.values())), 0, []
        for dataset, images in self.images.items():
            for image in images:
                if _name(dataset, image) not in self.progress.finished:
                    try:
                        cases = self.collection.found[dataset].load(image)
                    except InputError as error:
                        unread.append(Left(dataset, image, None, str(error)))
                    else:
                        for share in self._image(dataset, image, cases):
                            self.report(Progress(done + share, total, image))
                done += 1
                self.report(Progress(done, total, image))
        return unread

    def _image(self, dataset: str, image: str, cases: Sequence[Case]) -> Iterator[float]:
        """Everything for the cases of an image; yields the share that is done."""
        rows: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        sight: Sight | None = None
        for number, case in enumerate(cases):
            yield number / len(cases)
            try:
                if sight is None or not same_slice(case, cases[number - 1]):
                    sight = Sight.of(self.engine, case)
            except InputError as error:
                sight = None
                runs = [run for _, here in self._todo[dataset] for run in sorted(here)]
                failed += [{"case": case.key, "run": run, "reason": str(error)} for run in runs]
            else:
                self._case(Subject(dataset, case, sight), rows, failed)
        self.progress.add({"image": _name(dataset, image), "rows": rows, "failed": failed})

    @cached_property
    def _todo(self) -> dict[str, list[tuple[Group, frozenset[str]]]]:
        """By dataset: the groups that its tables need, and what of each."""
        groups = self.paper.groups(self.settings)
        needs = {key: self.paper.wanted(key) for key in self.images}
        return {key: [(g, here) for g in groups if (here := need.intersection(g.runs))] for key, need in needs.items()}

    def _case(self, subject: Subject, rows: list[dict[str, Any]], failed: list[dict[str, Any]]) -> None:
        case = subject.case
        for group, here in self._todo[subject.dataset]:
            done = set()
            try:
                for run, values in group.compute(subject, self.settings, here):
                    rows.append({"case": case.key, "group": case.group, "run": run, "values": dict(values)})
                    done.add(run)
            except InputError as error:
                failed += [{"case": case.key, "run": r, "reason": str(error)} for r in group.runs if r in here - done]


def reproduce(
    paper: Paper,
    collection: Collection,
    engine: Engine,
    settings: ReproductionSettings,
    out: str | Path,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    report: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Compute what can stand beside a paper's numbers; write ``reproduction.json`` and ``reproduction.md``.

    Parameters
    ----------
    paper : Paper
    collection : Collection
        Its datasets; at least one is there.
    engine : Engine
        The model named in the settings.
    settings : ReproductionSettings
    out : path
        Made when missing. If it holds an unfinished reproduction with the same settings, data and model, that one is
        continued; so is a finished one whose datasets or limit have grown.
    limit : int, optional
        Only so many images of each dataset, evenly spread.
    overwrite : bool
        Start over, whatever there is.
    report : callable, optional
        Told :class:`~napari_uncertsam.evaluation.running.Progress`.

    Returns
    -------
    dict
        ``reproduction.json``, see :func:`~napari_uncertsam.evaluation.reproduce.document.make_document`.

    Raises
    ------
    InputError
        If `out` holds something else.
    EngineError
        If the model fails; what was finished is kept.
    """
    out = Path(out)
    paper, parts = paper.for_model(engine.sha256, engine.name), paper.parts(engine.sha256)
    images = {key: spread(dataset.images(), limit) for key, dataset in collection.found.items()}
    run: dict[str, Any] = {
        "settings": settings.to_dict(),
        "data": str(collection.root.resolve()),
        "checkpoint_sha256": engine.sha256,
    }
    if fitted := [f"{kind} {file_sha256(path)[:12]}" for kind, path in parts.items() if path is not None]:
        run["fitted"] = fitted
    progress = prepare_folder(out, run, overwrite=overwrite, files=(DOCUMENT, PAGE))
    unread = Reproduction(paper, collection, engine, settings, images, progress, report or (lambda _: None)).go()
    record = Pipeline(engine).record_of_model()
    document = make_document(paper, settings, collection, record, _found(images, progress, unread), limit=limit)
    with atomic(out / DOCUMENT, overwrite=True) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with atomic(out / PAGE, overwrite=True) as temporary:
        temporary.write_text(markdown(document), encoding="utf-8")
    return document


def _name(dataset: str, image: str) -> str:
    """An image among those of all datasets."""
    return f"{dataset}/{image}"


def _found(images: Mapping[str, Sequence[str]], progress: ProgressFile, unread: Sequence[Left]) -> Found:
    """What was computed, in the order of the datasets, whatever was finished first."""
    finished = {
        key: [progress.finished[name] for image in names if (name := _name(key, image)) in progress.finished]
        for key, names in images.items()
    }
    rows = {key: [row for entry in entries for row in entry["rows"]] for key, entries in finished.items()}
    left = [
        Left(key, failure["case"], failure["run"], failure["reason"])
        for key, entries in finished.items()
        for entry in entries
        for failure in entry["failed"]
    ]
    return Found({key: len(entries) for key, entries in finished.items()}, rows, [*unread, *left])
