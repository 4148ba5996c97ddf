"""The measures beside independent implementations, to 1e-6: SciPy, MONAI, torchmetrics, PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
import torch
from scipy import ndimage

from napari_uncertsam.evaluation import metrics
from napari_uncertsam.uncertainty import binary_entropy

EXACT = 1e-6


def cases() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Smooth probabilities and smooth true masks of several shapes."""
    rng = np.random.default_rng(11)
    for shape in ((64, 64), (48, 81), (33, 120)):
        for _ in range(4):
            field = ndimage.gaussian_filter(rng.normal(size=shape), 5)
            field /= field.std()
            other = ndimage.gaussian_filter(rng.normal(size=shape), 4)
            yield 1 / (1 + np.exp(-4 * (field - 0.3))), field + 0.5 * other / other.std() > 0.4


CASES = list(cases())
SPACINGS = [(1.0, 1.0), (0.7, 2.3), (3.0, 0.5)]


@pytest.fixture(scope="module")
def monai() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.metrics
    return monai.metrics


def batch(mask: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(mask.astype(np.float32))[None, None]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("percentile", [95, 100])
@pytest.mark.filterwarnings("ignore")
def test_hausdorff_is_monais(monai, spacing: tuple[float, float], percentile: float) -> None:
    for p, truth in CASES:
        theirs = monai.compute_hausdorff_distance(
            batch(p > 0.5), batch(truth), include_background=True, percentile=percentile, spacing=list(spacing)
        )
        assert metrics.hausdorff_distance(p > 0.5, truth, spacing, percentile) == pytest.approx(
            float(theirs), rel=EXACT, abs=EXACT
        )


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("tolerance", [0.9, 2.05, 4.4])
@pytest.mark.filterwarnings("ignore")
def test_surface_dice_is_monais(monai, spacing: tuple[float, float], tolerance: float) -> None:
    for p, truth in CASES:
        theirs = monai.compute_surface_dice(
            batch(p > 0.5), batch(truth), [tolerance], include_background=True, spacing=list(spacing)
        )
        assert metrics.surface_dice(p > 0.5, truth, tolerance, spacing) == pytest.approx(float(theirs), abs=EXACT)


@pytest.mark.filterwarnings("ignore")
def test_overlap_and_calibration_are_torchmetrics() -> None:
    from torchmetrics.functional import classification as theirs

    for p, truth in CASES:
        # torchmetrics computes in the type of its input, and its bins leave p = 1 out.
        probability, target = torch.as_tensor(p), torch.as_tensor(truth.astype(int))
        mask = p > 0.5
        found = [metrics.iou(mask, truth), metrics.dice(mask, truth)]
        found += [metrics.precision(mask, truth), metrics.recall(mask, truth), metrics.ece(p, truth)]
        expected = [theirs.binary_jaccard_index(probability, target), theirs.binary_f1_score(probability, target)]
        expected += [theirs.binary_precision(probability, target), theirs.binary_recall(probability, target)]
        expected += [theirs.binary_calibration_error(probability, target, n_bins=10, norm="l1")]
        np.testing.assert_allclose(found, [float(v) for v in expected], rtol=EXACT, atol=EXACT)


def test_scores_are_torchs() -> None:
    from torch.nn import functional as F

    for p, truth in CASES:
        probability, target = torch.as_tensor(p), torch.as_tensor(truth.astype(float))
        assert metrics.nll(p, truth) == pytest.approx(float(F.binary_cross_entropy(probability, target)), rel=EXACT)
        assert metrics.brier(p, truth) == pytest.approx(float(F.mse_loss(probability, target)), rel=EXACT)


def test_correlations_are_scipys() -> None:
    for p, truth in CASES:
        u, wrong = binary_entropy(p), (p > 0.5) != truth
        assert metrics.pearson_rho(u, wrong, eps=0) == pytest.approx(
            scipy.stats.pearsonr(u.ravel(), wrong.ravel().astype(float)).statistic, abs=EXACT
        )
    x, y = np.random.default_rng(0).normal(size=(2, 30)).round(1)
    assert metrics.correlation(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=EXACT)
    assert metrics.rank_correlation(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=EXACT)


def test_risk_coverage_is_the_trapezoid_of_sorted_errors() -> None:
    """SciPy's integral of the curve is the mean over coverages, but for the ends of its trapezoids."""
    from scipy.integrate import trapezoid

    for p, truth in CASES:
        # Ties, whose order would matter, are broken.
        u, wrong = binary_entropy(p) + 1e-12 * np.arange(p.size).reshape(p.shape), ((p > 0.5) != truth).astype(float)
        order = np.argsort(u, axis=None, kind="stable")
        risk = np.cumsum(wrong.ravel()[order]) / np.arange(1, u.size + 1)
        ends = (risk[0] + risk[-1]) / (2 * u.size)
        assert metrics.aurc(u, wrong) == pytest.approx(trapezoid(risk, dx=1 / u.size) + ends, abs=EXACT)
