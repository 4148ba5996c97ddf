"""Every method by name: the estimators, and those that refine what an estimator says."""

from __future__ import annotations

from collections.abc import Callable

from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators import ESTIMATORS, Estimator
from napari_uncertsam.estimators.measures import Measure, parse_measure


def _dense_fusion(name: str) -> Callable[[], Estimator]:
    def make() -> Estimator:
        from napari_uncertsam.refinement.dense_fusion import DenseFusion

        return DenseFusion(name)

    return make


#: Name to factory; names that are not estimators refine what one of them says. Those with a true `control` are there
#: for comparison.
METHODS: dict[str, Callable[[], Estimator]] = {
    **ESTIMATORS,
    **{
        name: _dense_fusion(name) for name in ("fusion", "fusion-laplace-ones", "fusion-sam-ones", "fusion-token0-ones")
    },
}


def make_method(name: str) -> Estimator:
    """The method of that name, with its recommended settings.

    Raises
    ------
    InputError
        If there is none of that name.

    Examples
    --------
    >>> make_method("prompt").title
    'Prompt perturbation'
    """
    try:
        return METHODS[name]()
    except KeyError:
        raise InputError(f"There is no method {name!r}; choose one of {', '.join(METHODS)}.") from None


def parse_method(text: str) -> tuple[str, Measure | None]:
    """Method and measure of ``METHOD`` or ``METHOD:MEASURE``; None for the method's own measure.

    Raises
    ------
    InputError
        If there is no such method or measure.

    Examples
    --------
    >>> parse_method("prompt:mi")
    ('prompt', 'mutual-information')
    """
    name, colon, measure = text.partition(":")
    make_method(name)
    return name, parse_measure(measure) if colon else None
