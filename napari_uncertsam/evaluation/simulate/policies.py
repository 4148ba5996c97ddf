"""Where a simulated annotator answers next.

To add a policy: write a function that looks at the session (its prediction has the belief, the maps and the view) and
says where to ask, and add a line to :data:`POLICIES`. The answer itself is the annotator's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate.clicks import error_click, pixel_at
from napari_uncertsam.prompts import Suggestion
from napari_uncertsam.session import Session
from napari_uncertsam.suggestions.ugpa import LEAST_SCORE

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Question:
    """A place ``(y, x)`` of the slice, in pixels, that the annotator is to label; `suggestion` where it was one."""

    y: float
    x: float
    suggestion: Suggestion | None = None


@dataclass(frozen=True)
class Policy:
    """A way to work.

    Parameters
    ----------
    title : str
        For people.
    ask : callable
        ``ask(session, truth, rng)`` gives the next question, or None when there is none left. `truth` is ``(H, W)``
        bool; whatever is random is drawn from `rng`.
    finished : str
        Why there is no question left, a sentence.
    """

    title: str
    ask: Callable[[Session, Mask, np.random.Generator], Question | None]
    finished: str


def _suggested(session: Session, truth: Mask, rng: np.random.Generator) -> Question | None:
    """The first suggested point that is still open; a box would be a correction, not an answer."""
    return next((Question(s.y, s.x, s) for s in session.suggestions if s.kind == "point"), None)


def _largest_error(session: Session, truth: Mask, rng: np.random.Generator) -> Question | None:
    if session.prediction is None:
        return None
    click = error_click(session.prediction.maps.mask, truth, _taken(session, truth.shape))
    return None if click is None else Question(click.y, click.x)


def _random(session: Session, truth: Mask, rng: np.random.Generator) -> Question | None:
    """A pixel of the view, drawn uniformly among those uncertain enough to be suggested and not yet clicked."""
    if session.prediction is None:
        return None
    maps = session.prediction.maps
    top, left = maps.rows.start, maps.columns.start
    uncertain = maps.local_uncertainty > LEAST_SCORE
    for y, x in _taken(session, truth.shape):
        if 0 <= y - top < uncertain.shape[0] and 0 <= x - left < uncertain.shape[1]:
            uncertain[y - top, x - left] = False
    if not uncertain.any():
        return None
    y, x = np.unravel_index(rng.choice(np.flatnonzero(uncertain)), uncertain.shape)
    return Question(float(y + top), float(x + left))


def _taken(session: Session, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pixels with a point on them."""
    return [pixel_at(p.y, p.x, shape) for p in session.prompts.points]


#: Name to policy.
POLICIES: dict[str, Policy] = {
    "suggested": Policy("answers the first suggestion", _suggested, "No suggested point was left to answer."),
    "largest-error": Policy("clicks the centre of the largest error", _largest_error, "No wrong pixel was left."),
    "random": Policy("labels a random uncertain pixel", _random, "No uncertain pixel was left."),
}


def find_policy(name: str) -> Policy:
    """The policy of that name.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> find_policy("random").title
    'labels a random uncertain pixel'
    """
    try:
        return POLICIES[name]
    except KeyError:
        raise InputError(f"There is no policy {name!r} to annotate by; choose one of {', '.join(POLICIES)}.") from None
