"""A simulated annotator: works on a session with the user's own verbs, and answers from the ground truth.

What is measured is what is used: the annotator sets a box, clicks and answers suggestions as the widget does, and takes
every prediction through :meth:`napari_uncertsam.session.Session.deliver`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.cases import Case, case_rng
from napari_uncertsam.evaluation.simulate.clicks import pixel_at
from napari_uncertsam.evaluation.simulate.policies import Policy, Question, find_policy
from napari_uncertsam.evaluation.simulate.prompts import PromptSpec, parse_prompt
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, Settings
from napari_uncertsam.prompts import Box, Point, Prompts, Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.suggestions.quality import Quality


@dataclass(frozen=True, slots=True)
class Click:
    """One answer: the place in pixels of the slice, what was said of it, and whether that was wrong on purpose.

    For ``kind="box"`` the place is the centre of a suggested box, and `inside` whether it was taken.
    """

    y: float
    x: float
    inside: bool
    wrong: bool = False
    kind: Literal["point", "box"] = "point"


@dataclass(frozen=True)
class AnnotationRun:
    """How a prediction of one case went on while it was answered.

    Parameters
    ----------
    policy, start : str
        Names of the policy and of the prompt that it began with, which is not counted as an answer.
    wrong_rate : float
        Probability of a wrong answer.
    seed : int
    dice, iou : tuple of float
        Against the truth on the whole slice, after 0, 1, ..., k answers; where no answer was given any more, the last
        value is repeated.
    mean_uncertainty : tuple of float
        Of the predictions, nats, likewise.
    clicks : tuple of Click
        The answers given, at most k.
    stopped : str, optional
        Why there were fewer than k; a sentence.
    conditioning : bool
        Whether answers conditioned the mask, or were prompts alone, see
        :class:`~napari_uncertsam.prediction.Settings`.
    quality : tuple of Quality or None
        Expected Dice after 0, 1, ..., k answers, where the predictions told it.
    gain : tuple of float
        By how much the best suggestion was expected to reduce the uncertain area then, in pixels; 0 without one.
    worth_asking : tuple of bool
        Whether another answer was expected to help then.
    """

    policy: str
    start: str
    wrong_rate: float
    seed: int
    dice: tuple[float, ...]
    iou: tuple[float, ...]
    mean_uncertainty: tuple[float, ...]
    clicks: tuple[Click, ...]
    stopped: str | None = None
    conditioning: bool = True
    quality: tuple[Quality | None, ...] = ()
    gain: tuple[float, ...] = ()
    worth_asking: tuple[bool, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnnotationRun:
        """The way back.

        Raises
        ------
        InputError
            If something is missing or is not what it should be.
        """
        try:
            # Before there was a choice, answers were prompts alone.
            fields: dict[str, Any] = {"conditioning": False, **values}
            fields["clicks"] = tuple(Click(**click) for click in values["clicks"])
            for name in ("dice", "iou", "mean_uncertainty", "gain"):
                fields[name] = tuple(map(float, values.get(name, ()) if name == "gain" else values[name]))
            fields["quality"] = tuple(q and Quality(**q) for q in values.get("quality", ()))
            fields["worth_asking"] = tuple(map(bool, values.get("worth_asking", ())))
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"This is not the record of a simulated annotation: {error}.") from error


def annotate(
    pipeline: Pipeline,
    case: Case,
    settings: Settings,
    *,
    policy: str,
    start: PromptSpec | str,
    clicks: int = 10,
    wrong_rate: float = 0.0,
    seed: int = 0,
) -> AnnotationRun:
    """Annotate one case.

    Parameters
    ----------
    pipeline : Pipeline
    case : Case
    settings : Settings
        As the user of a session would have chosen them: method, zoom, number of suggestions, conditioning. The policy
        changes what it needs.
    policy : str
        A name of :data:`~napari_uncertsam.evaluation.simulate.policies.POLICIES`.
    start : PromptSpec or str
        What the first prediction is made from; a single prediction, for an annotator has one session. Drawn as
        ``case_rng(seed, case.key, start.name)``, so that every policy starts from the same prompt.
    clicks : int
        Answers at most.
    wrong_rate : float
        In [0, 1]; every answer is turned into its opposite with this probability. A higher rate errs in the same
        answers and in more.
    seed : int
        Of the starting prompt and the answers; with the same settings, two runs of a case are equal.

    Raises
    ------
    InputError
        If there is no such policy or prompt, a number is out of range, or the start averages several predictions.
    EngineError
        If the model fails.
    """
    chosen, spec = find_policy(policy), _single(start)
    if clicks < 0 or seed < 0:
        raise InputError(f"The number of answers and the seed are at least 0, not {clicks} and {seed}.")
    if not 0 <= wrong_rate <= 1:
        raise InputError(f"The rate of wrong answers {wrong_rate} is not between 0 and 1.")
    (prompts,) = spec.draw(case.truth, case_rng(seed, case.key, spec.name))
    settings = chosen.applied(settings)
    annotator = Annotator(pipeline, open_session(case, settings), case.truth)
    annotator.begin(prompts)
    choose, err = case_rng(seed, case.key, f"policy {policy}"), case_rng(seed, case.key, "wrong answers")
    while len(annotator.clicks) < clicks and annotator.go_on(chosen, choose, wrong=bool(err.random() < wrong_rate)):
        pass
    given = tuple(annotator.clicks)
    curves = {
        name: _padded(getattr(annotator, name), clicks + 1)
        for name in ("dice", "iou", "mean_uncertainty", "quality", "gain", "worth_asking")
    }
    stopped = None if len(given) == clicks else chosen.finished
    return AnnotationRun(
        policy, spec.name, wrong_rate, seed, clicks=given, stopped=stopped, conditioning=settings.conditioning, **curves
    )


def open_session(case: Case, settings: Settings) -> Session:
    """A session on the volume of a case, showing its slice."""
    session = Session(case.volume, settings, case.seen_through)
    session.go_to(case.plane, case.slice_index)
    return session


class Annotator:
    """Works on a session, and keeps how good its prediction was after every answer.

    Parameters
    ----------
    pipeline : Pipeline
    session : Session
        Showing the slice of the object, without prompts.
    truth : (H, W) bool
    """

    def __init__(self, pipeline: Pipeline, session: Session, truth: NDArray[np.bool_]) -> None:
        self.pipeline, self.session, self.truth = pipeline, session, truth
        #: After 0, 1, ... answers.
        self.dice: list[float] = []
        self.iou: list[float] = []
        self.mean_uncertainty: list[float] = []
        self.quality: list[Quality | None] = []
        self.gain: list[float] = []
        self.worth_asking: list[bool] = []
        self.clicks: list[Click] = []
        self._waiting: list[Question] = []

    def begin(self, prompts: Prompts) -> None:
        """Prompt as a user does, one thing after the other, and predict once."""
        if prompts.box is not None:
            self.session.set_box(prompts.box)
        for point in prompts.points:
            self.session.add_point(point)
        self._predict()

    def go_on(self, policy: Policy, rng: np.random.Generator, wrong: bool) -> bool:
        """Answer one question and predict again; False when there is none left."""
        if not self._waiting:
            self._waiting = list(policy.ask(self.session, self.truth, rng))
        if not self._waiting:
            return False
        question = self._waiting.pop(0)
        said, kind = question.suggestion, "point" if question.suggestion is None else question.suggestion.kind
        right = self._is_better(said) if said is not None and said.kind == "box" else self._is_inside(question)
        self._answer(question, right is not wrong)
        self.clicks.append(Click(question.y, question.x, right is not wrong, wrong, kind))
        self._predict()
        return True

    def _is_inside(self, question: Question) -> bool:
        return bool(self.truth[pixel_at(question.y, question.x, self.truth.shape)])

    def _is_better(self, suggestion: Suggestion) -> bool:
        """Whether a suggested box overlaps the true one more than the present box does."""
        true, present = Box.of_mask(self.truth), self.session.prompts.box
        assert suggestion.box is not None
        return suggestion.box.iou(true) > (0.0 if present is None else present.iou(true))

    def _answer(self, question: Question, yes: bool) -> None:
        if question.suggestion is not None:
            self.session.answer(question.suggestion, yes)
        else:
            self.session.add_point(Point(question.y, question.x, yes))

    def _predict(self) -> None:
        """Predict what is asked for now; a box that was refused changes nothing."""
        request, last = self.session.request, self.session.prediction
        if request is None:
            raise InputError("There is nothing left to predict from: the answers took every positive prompt away.")
        if last is None or not self.session.is_current:
            last = self.pipeline.predict(self.session.volume, request)
            self.session.deliver(last)
        self._measure(last)

    def _measure(self, prediction: Prediction) -> None:
        mask = prediction.maps.mask
        self.dice.append(metrics.dice(mask, self.truth))
        self.iou.append(metrics.iou(mask, self.truth))
        self.mean_uncertainty.append(prediction.mean_uncertainty)
        self.quality.append(prediction.quality)
        self.gain.append(float(prediction.gain_px))
        self.worth_asking.append(bool(prediction.worth_asking))


def _single(start: PromptSpec | str) -> PromptSpec:
    """A starting prompt that is one prediction."""
    spec = parse_prompt(start) if isinstance(start, str) else start
    if not spec.opens:
        why = "shows the model the true mask" if spec.hint else f"averages {spec.count} predictions"
        raise InputError(
            f"An annotator cannot start from {spec.name}, which {why}; choose a single prompt, such as gt-box or click."
        )
    return spec


def _padded(values: list[Any], length: int) -> tuple[Any, ...]:
    return tuple(values + values[-1:] * (length - len(values)))
