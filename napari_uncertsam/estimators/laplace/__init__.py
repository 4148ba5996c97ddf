"""Last-layer Laplace in closed form: one decode, and an exact Gaussian over all logits.

A mask logit is ``f_p = u_p^T (W a + b)``: linear in the last layer of its token's hypernetwork, so a Gaussian over
those weights (:mod:`.posterior`, fitted by :mod:`napari_uncertsam.training.laplace`) makes the logits exactly Gaussian
(:mod:`.belief`), and all that is asked of them has a closed form (:mod:`.moments`). UncertSAM draws 100 to 1,000
samples of the same distribution instead.
"""

from napari_uncertsam.estimators.laplace.belief import GaussianBelief, SampledBelief
from napari_uncertsam.estimators.laplace.estimator import Laplace, LaplacePosteriors
from napari_uncertsam.estimators.laplace.moments import Moments, logistic_moments, mackay_probability, mean_probability
from napari_uncertsam.estimators.laplace.posterior import (
    STRUCTURES,
    DiagonalPosterior,
    HierarchicalPosterior,
    KroneckerPosterior,
    LowRankPosterior,
    Posterior,
    Structure,
)

__all__ = [
    "STRUCTURES",
    "DiagonalPosterior",
    "GaussianBelief",
    "HierarchicalPosterior",
    "KroneckerPosterior",
    "Laplace",
    "LaplacePosteriors",
    "LowRankPosterior",
    "Moments",
    "Posterior",
    "SampledBelief",
    "Structure",
    "logistic_moments",
    "mackay_probability",
    "mean_probability",
]
