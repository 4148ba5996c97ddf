"""Where a simulated annotator answers next.

To add a policy: write a function that looks at the session (its prediction has the belief, the maps and the view) and
says where to ask, and add a line to :data:`POLICIES`. The answer itself is the annotator's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.simulate.clicks import error_click, pixel_at
from napari_uncertsam.measure import cells_on_slice
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Suggestion
from napari_uncertsam.refinement import PAPER
from napari_uncertsam.session import Session
from napari_uncertsam.suggestions.ugpa import LEAST_SCORE, suggest_points

Mask = NDArray[np.bool_]

#: Points of one round of MedSAM-U's annotator: the fewest of its tables (UGPA2).
ROUND = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A place ``(y, x)`` of the slice, in pixels, that the annotator is to label; `suggestion` where it was one.

    A suggested box asks whether it is better than the present one.
    """

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
        ``ask(session, truth, rng)`` gives the next questions, none when there is none left. Those of one call are
        answered one after the other, before it is called again. `truth` is ``(H, W)`` bool; whatever is random is drawn
        from `rng`.
    finished : str
        Why there is no question left, a sentence.
    settings : mapping
        Changes to the settings of the session that the policy needs.
    """

    title: str
    ask: Callable[[Session, Mask, np.random.Generator], Sequence[Question]]
    finished: str
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def applied(self, settings: Settings) -> Settings:
        """The settings that the policy works with.

        Examples
        --------
        >>> find_policy("entropy").applied(Settings()).suggest
        'entropy'
        """
        return replace(settings, **self.settings)


def _suggested(session: Session, truth: Mask, rng: np.random.Generator) -> list[Question]:
    """The first suggested point that is still open; a box would be a correction, not an answer."""
    return [Question(s.y, s.x, s) for s in session.suggestions if s.kind == "point"][:1]


def _most_uncertain(session: Session, truth: Mask, rng: np.random.Generator) -> list[Question]:
    return _plain_top(session, truth.shape, 1)


def _medsam_u(session: Session, truth: Mask, rng: np.random.Generator) -> list[Question]:
    """The points and the box of one prediction."""
    boxes = [Question(s.y, s.x, s) for s in session.suggestions if s.kind == "box"]
    return _plain_top(session, truth.shape, ROUND) + boxes


def _plain_top(session: Session, shape: tuple[int, ...], k: int) -> list[Question]:
    """The k most uncertain cells of the belief on the slice that lie on pixels without a point, as in eq. 12."""
    prediction = session.prediction
    if prediction is None:
        return []
    view, grid = prediction.view, prediction.belief.shape
    inside = cells_on_slice(grid, view, (shape[0], shape[1]))
    entropy = np.where(inside, prediction.belief.entropy(), 0)
    known = [view.slice_to_grid(p.y, p.x, grid) for p in session.prompts.points]
    # Where pixels are larger than cells, the cells of a pixel are one place.
    reach = max(1.0, 0.75 * grid[0] / view.height, 0.75 * grid[1] / view.width)
    found: list[Question] = []
    while len(found) < k:
        probability = prediction.belief.probability()
        cell = suggest_points(entropy, probability, 1, spread="none", known=known, known_radius=0.99 * reach)
        if not cell:
            break
        y, x = view.point_to_slice(cell[0].y, cell[0].x, grid)
        found.append(Question(y, x, Suggestion("point", y, x, cell[0].score, cell[0].probability)))
        known.append((cell[0].y, cell[0].x))
    return found


def _largest_error(session: Session, truth: Mask, rng: np.random.Generator) -> list[Question]:
    if session.prediction is None:
        return []
    click = error_click(session.prediction.maps.mask, truth, _taken(session, truth.shape))
    return [] if click is None else [Question(click.y, click.x)]


def _random(session: Session, truth: Mask, rng: np.random.Generator) -> list[Question]:
    """A pixel of the view, drawn uniformly among those uncertain enough to be suggested and not yet clicked."""
    if session.prediction is None:
        return []
    maps = session.prediction.maps
    top, left = maps.rows.start, maps.columns.start
    uncertain = maps.local_uncertainty > LEAST_SCORE
    for y, x in _taken(session, truth.shape):
        if 0 <= y - top < uncertain.shape[0] and 0 <= x - left < uncertain.shape[1]:
            uncertain[y - top, x - left] = False
    if not uncertain.any():
        return []
    y, x = np.unravel_index(rng.choice(np.flatnonzero(uncertain)), uncertain.shape)
    return [Question(float(y + top), float(x + left))]


def _taken(session: Session, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pixels with a point on them."""
    return [pixel_at(p.y, p.x, shape) for p in session.prompts.points]


def _suggesting(title: str, **settings: Any) -> Policy:
    return Policy(title, _suggested, "No suggested point was left to answer.", MappingProxyType(settings))


#: What those change that need no suggestions, which cost time.
_UNAIDED = MappingProxyType({"suggest": "entropy", "n_suggestions": 0})
_CERTAIN = "No uncertain place was left."

#: Name to policy.
POLICIES: dict[str, Policy] = {
    "information": _suggesting(
        "answers the suggestion that is expected to correct most, the widget's first", suggest="information"
    ),
    "mutual-information": _suggesting(
        "answers the suggestion that says most of the last layer (BALD)", suggest="mutual-information"
    ),
    "entropy": Policy("labels the most uncertain place", _most_uncertain, _CERTAIN, _UNAIDED),
    "ugpa": Policy(
        f"labels MedSAM-U's {ROUND} most uncertain places of a prediction, then judges its box",
        _medsam_u,
        _CERTAIN,
        MappingProxyType({"suggest": "entropy", "n_suggestions": ROUND, "ugpa": PAPER}),
    ),
    "random": Policy("labels a random uncertain pixel", _random, "No uncertain pixel was left.", _UNAIDED),
    "largest-error": Policy(
        "clicks the centre of the largest error", _largest_error, "No wrong pixel was left.", _UNAIDED
    ),
}
#: The widget's way by the name that it had first.
POLICIES["suggested"] = POLICIES["information"]


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
