"""METHODS 5.5: the nine acceptance tests, and where each of them is.

| no. | what is demanded | where |
|---|---|---|
| 1 | closed form against 200,000 samples of the weights, four structures | here, `test_1_...` |
| 2 | diagonal GGN against laplace-torch, softmax, 6 x 6 pixels | here, `test_2_...`; brute force: `test_curvature` |
| 3 | sign(mu) is that of E - 1/2 everywhere | `test_moments`, `test_belief` |
| 4 | five-term mixture against dense quadrature | `test_moments` |
| 5 | Monte-Carlo uncertainty tends to the closed form | here, `test_5_...` |
| 6 | bfloat16: no entropy below 0.0560, logits within +-4.595 | here, `test_6_...` |
| 7 | fusion that starts as the identity is SAM 2 | `tests/refinement/test_dense_fusion`; adapters: not there yet |
| 8 | boundary IoU as in OpenCV, Pearson as in SciPy | here, `test_8_...`; `tests/evaluation/metrics/test_measures` |
| 9 | 8,224 parameters; 725,344; 136,012 | here; `tests/estimators/test_variance`; `tests/refinement/test_fusion_head` |
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit
from scipy.stats import pearsonr
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.estimators import EnsembleBelief
from napari_uncertsam.estimators.laplace import (
    DiagonalPosterior,
    GaussianBelief,
    HierarchicalPosterior,
    KroneckerPosterior,
    Laplace,
    LaplacePosteriors,
    LowRankPosterior,
    Posterior,
)
from napari_uncertsam.evaluation.metrics import boundary_iou, pearson_rho
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.training.eigenpairs import leading_eigenpairs
from napari_uncertsam.uncertainty import binary_entropy
from tests.fakes import HIDDEN, TOKENS, FakeEngine, scene
from tests.last_layer import OUTPUTS, PRIOR, TEMPERATURE, LastLayer, kronecker_sum

SAMPLES = 200_000
LAYER = LastLayer.draw()
CURVATURE = LAYER.curvature("bernoulli")
SIZE, INPUTS = LAYER.weight.numel(), LAYER.hidden.shape[1]
SCATTER = torch.diag(torch.linspace(0.1, 1.5, OUTPUTS, dtype=torch.float64)) + 0.2


def diagonal() -> tuple[Posterior, Tensor]:
    hessian = kronecker_sum(CURVATURE, LAYER.hidden).diagonal()
    weights = torch.diag(1 / (hessian / TEMPERATURE + PRIOR))
    return DiagonalPosterior.fit(CURVATURE, LAYER.hidden, PRIOR, TEMPERATURE), weights


def kfac() -> tuple[Posterior, Tensor]:
    inner = LAYER.hidden.mT @ LAYER.hidden / len(LAYER.hidden)
    precision = torch.kron(CURVATURE.sum(0), inner) / TEMPERATURE + PRIOR * torch.eye(SIZE)
    return KroneckerPosterior.fit(CURVATURE, LAYER.hidden, PRIOR, TEMPERATURE), torch.linalg.inv(precision)


def full() -> tuple[Posterior, Tensor]:
    precision = kronecker_sum(CURVATURE, LAYER.hidden) / TEMPERATURE + PRIOR * torch.eye(SIZE)
    pairs = leading_eigenpairs(CURVATURE, LAYER.hidden, SIZE)
    return LowRankPosterior.of_eigenpairs(*pairs, PRIOR, TEMPERATURE), torch.linalg.inv(precision)


def hierarchical() -> tuple[Posterior, Tensor]:
    """A shift of the layer's output is one of its bias: the last weight of every row."""
    last = torch.zeros(INPUTS, INPUTS, dtype=torch.float64)
    last[-1, -1] = 1
    return HierarchicalPosterior(SCATTER), torch.kron(SCATTER, last)


@pytest.mark.parametrize("structure", [diagonal, kfac, full, hierarchical])
def test_1_closed_form_is_that_of_sampled_weights(
    structure: Callable[[], tuple[Posterior, Tensor]],
) -> None:
    posterior, weights = structure()
    values, vectors = torch.linalg.eigh(weights)
    noise = torch.randn(SAMPLES, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = LAYER.weight.flatten() + noise @ (vectors * values.clamp(min=0).sqrt()).mT
    image = 2
    output = drawn.reshape(SAMPLES, OUTPUTS, -1) @ LAYER.hidden[image]
    logits = (output @ LAYER.features[image].flatten(1)).numpy()

    covariance = posterior.output_covariance(LAYER.hidden)[image]
    mean = LAYER.logits[image].numpy()
    belief = GaussianBelief(mean, LAYER.features[image].float().numpy(), covariance.numpy())
    variance = belief.variance.ravel()

    assert (np.abs(logits.mean(0) - mean.ravel()) < 3 * logits.std(0) / SAMPLES**0.5).all()
    np.testing.assert_allclose(logits.var(0) / variance, 1, atol=0.01)
    joint = np.einsum(
        "kp,kl,lr->pr",
        *(v.numpy() for v in (LAYER.features[image].flatten(1), covariance)),
        belief.features.reshape(OUTPUTS, -1),
    )
    scale = np.sqrt(np.outer(variance, variance))
    np.testing.assert_allclose(np.cov(logits.T) / scale, joint / scale, atol=0.01)

    # ... and so is every map made of it.
    p = expit(logits)
    assert (np.abs(p.mean(0) - belief.probability().ravel()) < 3 * p.std(0) / SAMPLES**0.5 + 2e-6).all()
    np.testing.assert_allclose(belief.standard_deviation().ravel(), p.std(0), rtol=0.01)
    np.testing.assert_allclose(
        belief.mutual_information().ravel(),
        EnsembleBelief(logits.reshape(-1, 6, 6)).mutual_information().ravel(),
        atol=2e-3,
    )


class Drawn(torch.nn.Module):
    """The toy as a classifier over 9 pixels, as UncertSAM hands its logits to laplace-torch: halved and flattened."""

    def __init__(self, layer: LastLayer) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(layer.hidden.shape[1] - 1, OUTPUTS, dtype=torch.float64)
        self.layer.weight.data, self.layer.bias.data = layer.weight[:, :-1].clone(), layer.weight[:, -1].clone()
        self.features = layer.features

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, 9)`` of rows ``[number of the image, hidden units]``."""
        u = self.features[x[:, 0].long()]
        logits = torch.einsum("nk,nkhw->nhw", self.layer(x[:, 1:]), u)[:, None]
        return F.interpolate(logits, scale_factor=0.5, mode="bilinear", align_corners=False).flatten(1)


def test_2_diagonal_ggn_is_that_of_laplace_torch() -> None:
    import laplace

    numbers = torch.arange(len(LAYER.hidden), dtype=torch.float64)[:, None]
    data = torch.utils.data.TensorDataset(
        torch.cat([numbers, LAYER.hidden[:, :-1]], 1), torch.zeros(len(numbers)).long()
    )
    theirs = laplace.Laplace(Drawn(LAYER), "classification", subset_of_weights="all", hessian_structure="diag")
    theirs.fit(torch.utils.data.DataLoader(data, batch_size=1))
    weight, bias = theirs.H[:-OUTPUTS].reshape(OUTPUTS, -1), theirs.H[-OUTPUTS:, None]

    ours = DiagonalPosterior.fit(LAYER.curvature("softmax"), LAYER.hidden, 1.0, 1.0)
    np.testing.assert_allclose((1 / ours.variance - 1).numpy(), torch.cat([weight, bias], 1).numpy(), rtol=1e-5)
    variance = theirs.posterior_variance
    np.testing.assert_allclose(ours.variance[:, :-1].flatten(), variance[:-OUTPUTS], rtol=1e-5)
    np.testing.assert_allclose(ours.variance[:, -1], variance[-OUTPUTS:], rtol=1e-5)


def fake_posteriors(precision: float = 3.0) -> LaplacePosteriors:
    return LaplacePosteriors.prior(TOKENS, FakeEngine().weight.shape[1], HIDDEN, precision)


def test_5_sampled_uncertainty_tends_to_the_closed_form() -> None:
    engine = FakeEngine(64)
    embedding, prompts = engine.embed(scene()[0]), Prompts(box=Box(20, 17, 43, 48))
    posteriors = fake_posteriors()
    exact = Laplace(posteriors=posteriors).estimate(engine, embedding, prompts, np.random.default_rng(0))
    counts, errors = (100, 1_600, 25_600), []
    for count in counts:
        sampled = [
            Laplace(samples=count, posteriors=posteriors).estimate(engine, embedding, prompts, np.random.default_rng(s))
            for s in range(4)
        ]
        errors.append(np.sqrt(np.mean([(belief.entropy() - exact.entropy()) ** 2 for belief in sampled])))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.1)
    assert errors[-1] < 0.005
    last = sampled[0]
    np.testing.assert_allclose(last.standard_deviation(), exact.standard_deviation(), atol=0.01)
    np.testing.assert_allclose(last.mutual_information(), exact.mutual_information(), atol=0.01)
    for sampled_area, area in zip(last.area_interval(), exact.area_interval(), strict=True):
        assert sampled_area == pytest.approx(area, rel=0.05, abs=0.01)


@pytest.mark.parametrize("samples", [0, 50])
def test_6_bfloat16_floors_the_entropy(samples: int) -> None:
    engine = FakeEngine()
    embedding, prompts = engine.embed(scene()[0]), Prompts(box=Box(80, 68, 175, 195))
    made = Laplace(samples=samples, eps=Laplace.uncertsam().eps, posteriors=fake_posteriors(1e4))
    belief = made.estimate(engine, embedding, prompts, np.random.default_rng(0))
    floor = -0.01 * np.log(0.01) - 0.99 * np.log(0.99)
    assert round(floor, 4) == 0.0560
    assert belief.entropy().min() == pytest.approx(floor, rel=1e-5)
    assert (belief.logits().min(), belief.logits().max()) == pytest.approx((-4.595, 4.595), abs=5e-4)
    assert (belief.probability().min(), belief.probability().max()) == pytest.approx((0.01, 0.99), rel=1e-5)
    free = Laplace(samples=samples, posteriors=fake_posteriors(1e4))
    assert free.estimate(engine, embedding, prompts, np.random.default_rng(0)).entropy().min() < 0.02
    np.testing.assert_allclose(binary_entropy(belief.probability()), belief.entropy(), atol=1e-6)


@pytest.mark.parametrize("ratio", [0.01, 0.02])
def test_8_boundary_iou_and_pearson_as_published(rng: np.random.Generator, ratio: float) -> None:
    """HQ-SAM's function: OpenCV's erosion of the mask with a border of zeros, so a mask has a boundary at the edge."""

    def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        times = max(1, round(ratio * float(np.hypot(*mask.shape))))
        padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        return mask & ~cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=times)[1:-1, 1:-1].astype(bool)

    for _ in range(4):
        noise = [gaussian_filter(rng.normal(size=(150, 110)), 9) for _ in range(2)]
        truth, mask = noise[0] > 0, noise[0] + 0.3 * noise[1] > 0
        assert truth[0].any()
        assert truth[:, -1].any()
        a, b = boundary(truth), boundary(mask)
        assert boundary_iou(mask, truth, ratio) == pytest.approx((a & b).sum() / (a | b).sum())
        uncertainty = binary_entropy(expit(40 * noise[1]))
        expected = pearsonr(uncertainty.ravel(), (mask != truth).ravel().astype(float)).statistic
        assert pearson_rho(uncertainty, (mask != truth).astype(float)) == pytest.approx(expected, abs=1e-4)


def test_9_sam_2_has_8224_weights_in_the_last_layer_of_its_first_token() -> None:
    import yaml
    from sam2.modeling.sam.mask_decoder import MaskDecoder

    config = yaml.safe_load((files("sam2") / "configs/sam2.1/sam2.1_hiera_l.yaml").read_text("utf-8"))
    width = config["model"]["image_encoder"]["neck"]["d_model"]
    decoder = MaskDecoder(transformer_dim=width, transformer=torch.nn.Identity())
    layers = [mlp.layers[-1] for mlp in decoder.output_hypernetworks_mlps]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert counts == [8_224] * 4
    posterior = LaplacePosteriors.prior(len(layers), layers[0].out_features, layers[0].in_features)
    assert [token.tensors()["variance"].numel() for token in posterior.tokens] == counts
