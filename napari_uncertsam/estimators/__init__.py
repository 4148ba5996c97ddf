"""Estimators: one uncertainty method per file, all giving a :class:`~napari_uncertsam.estimators.base.Belief`.

To add one: write ``estimators/NAME.py`` with a class that has `name`, `title`, `answers` and `estimate`, and add a line
to :data:`ESTIMATORS`. Every name in the table is available in the widget and on the command line.
"""

from __future__ import annotations

from collections.abc import Callable

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import Belief, EnsembleBelief, Estimator, PointBelief

__all__ = ["ESTIMATORS", "Belief", "EnsembleBelief", "Estimator", "PointBelief", "make_estimator"]


def _entropy() -> Estimator:
    from napari_uncertsam.estimators.entropy import Entropy

    return Entropy()


def _prompt() -> Estimator:
    from napari_uncertsam.estimators.prompt_perturbation import PromptPerturbation

    return PromptPerturbation()


#: Name to factory. Modules are imported when their method is made.
ESTIMATORS: dict[str, Callable[[], Estimator]] = {"entropy": _entropy, "prompt": _prompt}


def make_estimator(name: str) -> Estimator:
    """The estimator of that name, with its recommended settings.

    Raises
    ------
    InputError
        If there is none of that name.

    Examples
    --------
    >>> make_estimator("prompt").title
    'Prompt perturbation'
    """
    try:
        return ESTIMATORS[name]()
    except KeyError:
        raise InputError(f"There is no method {name!r}; choose one of {', '.join(ESTIMATORS)}.") from None
