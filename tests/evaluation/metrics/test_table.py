"""All measures at once are the measures one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.metrics import MEASURES, ReliabilityCurve, measure_case
from napari_uncertsam.evaluation.metrics.ranking import Ranking
from napari_uncertsam.evaluation.metrics.table import CONFIDENT, COVERAGES
from napari_uncertsam.uncertainty import binary_entropy, sigmoid


def case(seed: int, shape: tuple[int, int] = (40, 56)) -> tuple[np.ndarray, ...]:
    """Mask, probability, uncertainty (zero outside of a part, as maps are), truth, reference."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    cy, cx, ry, rx = rng.uniform((10, 12, 4, 4), (28, 40, 12, 14))
    distance = 1 - ((y - cy) / ry) ** 2 - ((x - cx) / rx) ** 2
    logits = (3 * distance + rng.normal(0, 1, shape)).astype(np.float32)
    probability = sigmoid(logits)
    uncertainty = binary_entropy(probability)
    probability[:5], uncertainty[:5] = 0, 0
    truth = ((y - cy - 1) / ry) ** 2 + ((x - cx - 2) / rx) ** 2 < 1
    reference = np.clip(probability + rng.normal(0, 0.05, shape), 0, 1)
    return probability > 0.5, probability, uncertainty, truth, reference


def outside(part: str, *maps: np.ndarray) -> tuple[np.ndarray, ...]:
    """The maps in a larger image that is zero around them, or everything but one pixel, or as they are."""
    if part == "large image":
        return tuple(np.pad(m, ((31, 5), (0, 47))) for m in maps)
    if part == "hole":  # zero uncertainty inside of the view, too
        for m in maps:
            m[12:20, 20:30] = 0
        return tuple(np.pad(m, 9) for m in maps)
    return maps


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(["large image", "hole", "view"]))
def test_every_value_is_that_of_its_own_function(seed: int, part: str) -> None:
    mask, p, u, truth, reference = outside(part, *case(seed))
    if not truth.any():
        return
    found = measure_case(mask, p, u, truth, reference=reference, spacing=(0.5, 2.0), tolerance=1.5).values
    wrong, roi = metrics.hard_error(mask, truth), metrics.roi_of(truth)
    expected = {
        "dice": metrics.dice(mask, truth),
        "iou": metrics.iou(mask, truth),
        "biou_2": metrics.boundary_iou(mask, truth, 0.02),
        "biou_1": metrics.boundary_iou(mask, truth, 0.01),
        "hd95": metrics.hausdorff_distance(mask, truth, (0.5, 2.0)),
        "nsd": metrics.surface_dice(mask, truth, 1.5, (0.5, 2.0)),
        "precision": metrics.precision(mask, truth),
        "recall": metrics.recall(mask, truth),
        "confident_error": (wrong & (u < CONFIDENT)).sum() / truth.sum(),
    }
    for ending, region in (("", np.ones_like(roi)), ("_roi", roi)):
        soft, hard = metrics.paper_error(p, truth)[region], wrong[region]
        shared = metrics.paper_error(reference, truth)[region]
        expected |= {
            f"rho{ending}": metrics.pearson_rho(u[region], soft),
            f"rho_hard{ending}": metrics.pearson_rho(u[region], hard),
            f"rho_reference{ending}": metrics.pearson_rho(u[region], shared),
            f"ause{ending}": metrics.ause(u[region], hard),
            f"ause_reference{ending}": metrics.ause(u[region], shared),
            f"aurc{ending}": metrics.aurc(u[region], hard),
            f"brier{ending}": metrics.brier(p[region], truth[region]),
            f"nll{ending}": metrics.nll(p[region], truth[region]),
            f"ece{ending}": metrics.ece(p[region], truth[region]),
            f"mean_uncertainty{ending}": u[region].mean(dtype=float),
        }
    assert list(found) == list(MEASURES)
    assert found == pytest.approx(expected, abs=1e-12)


def test_curves_are_those_of_the_case() -> None:
    mask, p, u, truth, _ = case(3)
    curves = measure_case(mask, p, u, truth).curves
    whole = metrics.reliability_curve(p, truth)
    np.testing.assert_allclose(curves.reliability.frequency, whole.frequency)
    coverage, risk = metrics.risk_coverage(u, metrics.hard_error(mask, truth))
    picked = [np.flatnonzero(np.rint(c * u.size) == np.rint(coverage * u.size))[0] for c in COVERAGES]
    np.testing.assert_allclose(curves.risk, risk[picked])


@pytest.mark.parametrize("part", ["large image", "hole", "view"])
def test_curves_of_an_image_that_is_mostly_zero(part: str) -> None:
    mask, p, u, truth, _ = outside(part, *case(8))
    curves, roi = measure_case(mask, p, u, truth).curves, metrics.roi_of(truth)
    wrong = metrics.hard_error(mask, truth)
    for region, risk, reliability in (
        (np.ones_like(roi), curves.risk, curves.reliability),
        (roi, curves.risk_roi, curves.reliability_roi),
    ):
        _, expected = metrics.risk_coverage(u[region], wrong[region])
        np.testing.assert_allclose(risk, expected[np.rint(COVERAGES * expected.size).astype(int) - 1], atol=1e-12)
        np.testing.assert_array_equal(reliability.pixels, metrics.reliability_curve(p[region], truth[region]).pixels)


def test_a_negative_uncertainty_is_ranked_below_zero() -> None:
    mask, p, u, truth, _ = outside("large image", *case(9))
    shifted = np.where(u > 0, u - 0.3, 0)
    found = measure_case(mask, p, shifted, truth).values
    assert found["ause"] == pytest.approx(metrics.ause(shifted, metrics.hard_error(mask, truth)), abs=1e-12)


def test_reliability_curves_add_up() -> None:
    (_, p, _, a, _), (_, q, _, b, _) = case(1), case(2)
    parts = [metrics.reliability_curve(x, t).sums for x, t in ((p, a), (q, b))]
    both = ReliabilityCurve.of_sums(*(np.sum(column, axis=0) for column in zip(*parts, strict=True)))
    whole = metrics.reliability_curve(np.concatenate([p, q]), np.concatenate([a, b]))
    np.testing.assert_array_equal(both.pixels, whole.pixels)
    np.testing.assert_allclose(both.frequency, whole.frequency)
    np.testing.assert_allclose(both.confidence, whole.confidence)
    assert both.ece == pytest.approx(whole.ece)


@pytest.mark.parametrize("kind", ["empty", "full", "one pixel"])
def test_extreme_predictions_and_truths(kind: str) -> None:
    _, _, _, truth, _ = case(4)
    prediction = np.zeros(truth.shape, bool)
    if kind == "full":
        prediction[:] = True
    elif kind == "one pixel":
        prediction[20, 30] = True
    certain = np.zeros(truth.shape)
    found = measure_case(prediction, prediction.astype(float), certain, truth).values
    assert all(math.isfinite(v) for name, v in found.items() if name != "hd95")
    assert (found["hd95"] == math.inf) == (kind == "empty")
    assert found["rho"] == found["rho_hard"] == found["mean_uncertainty"] == 0.0
    assert found["brier"] == pytest.approx((prediction != truth).mean())
    # Every wrong pixel is a confident one.
    assert found["confident_error"] == pytest.approx((prediction != truth).sum() / truth.sum())
    one = np.zeros(truth.shape, bool)
    one[3, 3] = True
    assert measure_case(one, one.astype(float), certain, one).values["dice"] == 1.0
    assert measure_case(~one, (~one).astype(float), certain, one).values["dice"] == 0.0


def test_what_cannot_be_measured_is_named() -> None:
    mask, p, u, truth, _ = case(5)
    with pytest.raises(InputError, match="empty"):
        measure_case(mask, p, u, np.zeros_like(truth))
    with pytest.raises(InputError, match="differ"):
        measure_case(mask, p[1:], u, truth)
    with pytest.raises(InputError, match="NaN"):
        measure_case(mask, p, u * math.nan, truth)
    with pytest.raises(InputError, match="at least 0"):
        Ranking(u).aurc(-u)


def test_float32_and_float64_maps_rank_alike(rng: np.random.Generator) -> None:
    u = rng.choice(np.linspace(0, 0.69, 50).astype(np.float32), (30, 40))
    u[:10] = -0.0  # equal to zero, another bit pattern
    error = rng.random(u.shape) < 0.2
    assert Ranking(u).aurc(error) == pytest.approx(Ranking(u.astype(np.float64)).aurc(error), abs=1e-12)
    assert Ranking(u - 1).aurc(error) == pytest.approx(Ranking(u.astype(np.float64) - 1).aurc(error), abs=1e-6)


def test_every_measure_says_what_it_is() -> None:
    assert len({m.title for m in MEASURES.values()}) == len(MEASURES)
    for measure in MEASURES.values():
        assert measure.better in ("higher", "lower", "neither")
        assert measure.help.endswith(".")
