"""The loop of an evaluation: read, predict, measure, keep, image by image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.evaluation.cases import Case, Dataset, case_rng
from napari_uncertsam.evaluation.comparing_methods import REFERENCE
from napari_uncertsam.evaluation.measuring import measure_row, stored_maps
from napari_uncertsam.evaluation.predicting import Outcome, predict_methods
from napari_uncertsam.evaluation.progress_file import ProgressFile, stamp_of
from napari_uncertsam.evaluation.results import write_maps
from napari_uncertsam.evaluation.settings import EvaluationSettings
from napari_uncertsam.evaluation.simulate import PromptSpec, annotate
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prompts import Prompts

#: Rows that may wait to be measured: each holds maps of its slice.
_WAITING = 16


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an evaluation is: `done` of `total` images (with a fraction for a volume under way), and what is next."""

    done: float
    total: int
    image: str


#: Of an image's files, see :func:`stamp_of`.
Stamp = list[list[int]]
ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predicts and measures the images that are not finished yet.

    Parameters
    ----------
    dataset : Dataset
    pipeline : Pipeline
    settings : EvaluationSettings
    images : sequence of str
        All, in order.
    progress : ProgressFile
        Gets a line for every image that is finished.
    report : callable
    cancelled : callable
    """

    dataset: Dataset
    pipeline: Pipeline
    settings: EvaluationSettings
    images: Sequence[str]
    progress: ProgressFile
    report: ProgressCallback
    cancelled: Callable[[], bool]

    def go(self) -> list[dict[str, str]]:
        """Do what is missing; returns the images that could not be read, with the reason."""
        todo = self.missing()
        done, total, failed = len(self.images) - len(todo), len(self.images), []
        with _thread("read") as reader, _thread("measure") as measurer:
            queue = _Queue(measurer)
            for image, read in self._read_ahead(todo, reader):
                self.report(Progress(done, total, image))
                if isinstance(read, InputError):
                    failed.append({"image": image, "reason": str(read).removeprefix(f"{image}: ")})
                else:
                    for share in self._image(image, *read, queue):
                        self.report(Progress(done + share, total, image))
                done += 1
            queue.drain()
        self.report(Progress(done, total, ""))
        return failed

    def missing(self) -> list[str]:
        """Images that are not finished, or whose files have changed since."""
        finished = self.progress.finished
        return [i for i in self.images if i not in finished or finished[i]["stamp"] != self._stamp(i)]

    def _stamp(self, image: str) -> Stamp:
        return stamp_of(self.dataset.files(image))

    def _read_ahead(
        self, todo: Sequence[str], reader: ThreadPoolExecutor
    ) -> Iterator[tuple[str, tuple[Stamp, Sequence[Case]] | InputError]]:
        """Every image with its cases, or with why it could not be read; the next is read while one is looked at."""
        coming = [reader.submit(self._read, image) for image in todo[:1]]
        for number, image in enumerate(todo):
            found = coming.pop()
            coming += [reader.submit(self._read, following) for following in todo[number + 1 : number + 2]]
            error = found.exception()
            if error is not None and not isinstance(error, InputError):
                raise error
            yield image, error or found.result()

    def _read(self, image: str) -> tuple[Stamp, Sequence[Case]]:
        """An image's cases, and the state of its files before they were read."""
        return self._stamp(image), self.dataset.load(image)

    def _image(self, image: str, stamp: Stamp, cases: Sequence[Case], queue: _Queue) -> Iterator[float]:
        """Predict the cases of an image and have them measured; yields the share that is predicted."""
        page = _Page(self, image, stamp)
        for number, case in enumerate(map(self.settings.seen, cases), 1):
            if self.cancelled():
                raise Cancelled("The evaluation was stopped; the same command goes on from here.")
            for spec in self.settings.prompts:
                try:
                    prompts = spec.draw(case.truth, case_rng(self.settings.seed, case.key, spec.name))
                except InputError as error:
                    page.failed.append({"image": f"{case.key} ({spec.name})", "reason": str(error)})
                    continue
                self._case(page, case, spec, prompts, queue)
            yield number / len(cases)
        queue.put(page.finish)

    def _case(self, page: _Page, case: Case, spec: PromptSpec, prompts: tuple[Prompts, ...], queue: _Queue) -> None:
        """Predict one case from one prompt with every method; let the annotators go on from it."""
        settings = self.settings
        # All methods are ranked against the error of the single prediction too.
        wanted = {m: settings.of_method(m) for m in dict.fromkeys((REFERENCE, *settings.methods))}
        found = predict_methods(self.pipeline, case, prompts, wanted, hint=spec.hint)
        for method in settings.methods:
            queue.put(page.measure, case, spec.name, prompts, method, found[method], found[REFERENCE])
        if not spec.opens:
            return
        for policy in settings.annotators:
            run = annotate(
                self.pipeline,
                case,
                settings.of_annotator(),
                policy=policy,
                start=spec,
                clicks=settings.clicks,
                wrong_rate=settings.wrong_rate,
                seed=settings.seed,
            )
            page.annotations.append({"case": case.key, "group": case.group, "modality": case.modality} | run.to_dict())


class _Page:
    """What comes of one image; filled on the thread that measures, but for annotations and failures."""

    def __init__(self, evaluation: Evaluation, image: str, stamp: Stamp) -> None:
        self._settings, self._progress, self._image = evaluation.settings, evaluation.progress, image
        self._stamp = stamp
        self._archive = f"{evaluation.images.index(image):06d}.npz"
        self._rows: list[dict[str, Any]] = []
        self._maps: list[Any] = []
        self.annotations: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []

    def measure(
        self, case: Case, prompt: str, prompts: tuple[Prompts, ...], method: str, outcome: Outcome, reference: Outcome
    ) -> None:
        """Add one row."""
        row = measure_row(case, prompt, prompts, method, outcome, reference, self._settings.tolerance)
        stored = None
        if self._settings.maps:
            stored = [self._archive, len(self._maps)]
            self._maps.append(stored_maps(outcome.belief, outcome.measure))
        self._rows.append(row | {"stored": stored})

    def finish(self) -> None:
        """Write the maps, and then the line that says so."""
        if self._maps:
            write_maps(self._progress.folder, self._archive, self._maps)
        found = {"rows": self._rows, "annotations": self.annotations, "failed": self.failed}
        self._progress.add({"image": self._image, "stamp": self._stamp} | found)


class _Queue:
    """Work for one thread, done in order; putting more waits when too much is waiting."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._waiting: deque[Future[Any]] = deque()

    def put(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have something done; raises what earlier work raised."""
        self._waiting.append(self._thread.submit(work, *arguments))
        while len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def drain(self) -> None:
        """Wait for everything."""
        while self._waiting:
            self._waiting.popleft().result()


@contextmanager
def _thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """A thread that finishes what it was given, also when the block fails: what is predicted is kept."""
    executor = ThreadPoolExecutor(1, thread_name_prefix=f"evaluate-{name}")
    try:
        yield executor
    finally:
        executor.shutdown(wait=True)
