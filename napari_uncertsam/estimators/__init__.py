"""Estimators: one uncertainty method per file, all giving a :class:`~napari_uncertsam.estimators.base.Belief`.

To add one: write ``estimators/NAME.py`` with a class that has `name`, `title`, `answers` and `estimate`, and add a line
to :data:`ESTIMATORS`. Every name in the table is available in the widget and on the command line
(:mod:`napari_uncertsam.refinement.methods`).
"""

from __future__ import annotations

from collections.abc import Callable

from napari_uncertsam.estimators.base import Belief, EnsembleBelief, Estimator, PointBelief

__all__ = ["ESTIMATORS", "Belief", "EnsembleBelief", "Estimator", "PointBelief"]


def _entropy() -> Estimator:
    from napari_uncertsam.estimators.entropy import Entropy

    return Entropy()


def _prompt() -> Estimator:
    from napari_uncertsam.estimators.prompt_perturbation import PromptPerturbation

    return PromptPerturbation()


def _prompt_medsam_u() -> Estimator:
    from napari_uncertsam.estimators.prompt_perturbation import UgmpPerturbation

    return UgmpPerturbation.medsam_u()


def _laplace() -> Estimator:
    from napari_uncertsam.estimators.laplace import Laplace

    return Laplace()


def _tta() -> Estimator:
    from napari_uncertsam.estimators.tta.photometric import PhotometricTta

    return PhotometricTta("hue")


def _tta_train() -> Estimator:
    from napari_uncertsam.estimators.tta.photometric import PhotometricTta

    return PhotometricTta("train")


def _tta_geometric() -> Estimator:
    from napari_uncertsam.estimators.tta.geometric import GeometricTta

    return GeometricTta()


def _variance() -> Estimator:
    from napari_uncertsam.estimators.variance import VarianceNetwork

    return VarianceNetwork()


def _looks() -> Estimator:
    from napari_uncertsam.estimators.tta.looks import Looks

    return Looks()


def _second_opinion() -> Estimator:
    from napari_uncertsam.estimators.tta.looks import SecondOpinion

    return SecondOpinion()


#: Name to factory. Modules are imported when their method is made.
ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "laplace": _laplace,
    "entropy": _entropy,
    "prompt": _prompt,
    "prompt-medsam-u": _prompt_medsam_u,
    "tta": _tta,
    "tta-train": _tta_train,
    "tta-geometric": _tta_geometric,
    "looks": _looks,
    "second-opinion": _second_opinion,
    "variance": _variance,
}
