"""Table 1 of UncertSAM (Brouwers, Xing, Timans, arXiv 2512.23427); dense fusion where its parts were fitted.

What the paper leaves open is done as its authors' code behaves: BIG at half resolution, a boundary band of 0.02 of the
diagonal (0.01 is computed too), and an empty mask where the model says that there is no object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.checkpoints import CHECKPOINTS
from napari_uncertsam.errors import InputError
from napari_uncertsam.estimators.base import LOGIT_LIMIT, decoded_logits
from napari_uncertsam.evaluation.cases import case_rng
from napari_uncertsam.evaluation.metrics import boundary_ious, iou
from napari_uncertsam.evaluation.reproduce.paper import Beside, Group, Paper, ReproductionSettings, Subject, Values
from napari_uncertsam.evaluation.reproduce.published import UNCERTSAM, PublishedRow, PublishedTable
from napari_uncertsam.evaluation.simulate.hint import truth_logits
from napari_uncertsam.prompts import Box, MaskPrompt, Prompts
from napari_uncertsam.refinement.dense_fusion import DenseFusion

if TYPE_CHECKING:
    from napari_uncertsam.engine import Decoded

#: The paper's model: the size is not in the paper, but in its authors' code.
_MODEL = "sam2-large"
#: Datasets that are measured at half of their resolution.
HALVED = frozenset({"big"})
_ROWS = MappingProxyType(
    {
        "Ground truth mask": Beside("truth", "the true mask as mask prompt, with its tight box"),
        "SAM (No Refinement)": Beside("sam", "the single prediction from the tight box"),
        "Dense Fusion w/ SAM (Ones Map)": Beside(
            "fusion-sam-ones", "a second pass with the mask of the single prediction and a map of ones, fused"
        ),
        "Dense Fusion w/ LA (Ones Map)": Beside(
            "fusion-laplace-ones", "a second pass with the mean mask of Laplace and a map of ones, fused"
        ),
        "Dense Fusion w/ LA": Beside("fusion", "a second pass with the mean mask of Laplace and its entropy, fused"),
    }
)
#: Fitted parts that rows need.
_NEEDS = MappingProxyType(
    {
        "fusion-sam-ones": ("fusion-sam-ones",),
        "fusion-laplace-ones": ("laplace", "fusion-laplace-ones"),
        "fusion": ("laplace", "fusion"),
    }
)


def halved(logits: NDArray[np.float32], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Logits and truth ``(H, W)`` at half of the resolution: bilinear, and the nearest pixel.

    Halfway between pixels bilinear is the mean of four; the nearest of them is the first, as PyTorch counts. A last odd
    row or column is dropped.
    """
    h, w = (side // 2 for side in truth.shape)
    even = (slice(0, 2 * h), slice(0, 2 * w))
    return logits[even].reshape(h, 2, w, 2).mean((1, 3)), truth[even][::2, ::2]


def _beside(table: PublishedTable, row: PublishedRow) -> Beside:
    return _ROWS[row.name]


def _compute(subject: Subject, settings: ReproductionSettings, wanted: frozenset[str]) -> Iterator[tuple[str, Values]]:
    """Both rows from one batch of two prompts."""
    case, sight = subject.case, subject.sight
    box = Box.of_mask(case.truth)
    hint = MaskPrompt(truth_logits(case.truth, sight.engine.resolution // 4))
    asked = {"sam": Prompts(box=box), "truth": Prompts(box=box, mask=hint)}
    yield from zip(asked, _decoded(sight.decode(list(asked.values())), subject), strict=True)


def _fusion(name: str) -> Group:
    """A row of dense fusion."""
    method = DenseFusion(name)

    def compute(
        subject: Subject, settings: ReproductionSettings, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Values]]:
        case, sight = subject.case, subject.sight
        prompts = sight.local(Prompts(box=Box.of_mask(case.truth)))
        rng = case_rng(settings.seed, case.key, name)
        decoded = method.second_pass(sight.engine, sight.embedding, prompts, rng)
        yield from ((name, values) for values in _decoded(decoded, subject))

    return Group((name,), compute)


def _decoded(decoded: Decoded, subject: Subject) -> Iterator[Values]:
    """What is measured of every row of a decode; a mask is empty where the model says that there is no object."""
    present = decoded.object_score.detach().float().cpu().numpy() > 0
    for low, there in zip(decoded_logits(decoded), present, strict=True):
        logits = subject.sight.upscale(low if there else np.full_like(low, -LOGIT_LIMIT))
        yield _measured(logits, subject.case.truth, subject) | {"no_object": float(not there)}


def _measured(logits: NDArray[np.float32], truth: NDArray[np.bool_], subject: Subject) -> dict[str, float]:
    if subject.dataset in HALVED:
        logits, truth = halved(logits, truth)
        if not truth.any():
            raise InputError("Nothing of the object is left at half resolution.")
    mask = logits > 0
    wide, narrow = boundary_ious(mask, truth, (0.02, 0.01))
    return {"iou": iou(mask, truth), "biou_2": wide, "biou_1": narrow}


def _groups(settings: ReproductionSettings) -> tuple[Group, ...]:
    return (Group(("sam", "truth"), _compute), *map(_fusion, _NEEDS))


def _notes(settings: ReproductionSettings, record: Mapping[str, Any] | None, datasets: tuple[str, ...]) -> list[str]:
    same = record is not None and record["checkpoint_sha256"] == CHECKPOINTS[_MODEL].sha256
    whose = "the very checkpoint that ours is" if same else "which ours is not"
    ran = f", {whose}" if record is not None else ""
    notes = [
        f"The paper ran SAM 2.0 Hiera-L ({_MODEL} here{ran}) in bfloat16; here it is float32.",
        "The model sees the whole image, squashed to its square input, and the tight box of the true mask, as it is. "
        "That box is taken at the image's own resolution; the authors' code takes it from the mask reduced to "
        "1024 x 1024, at most about half a model pixel apart. The predicted mask is where the logits, enlarged to the "
        "original resolution, are positive. A value is the mean over masks.",
        "As in the authors' code, a mask is empty where the model says that there is no object; `no_object` in "
        "reproduction.json is how often that was.",
        "Ground truth mask: the logit of the true mask (16.12 inside, -16.12 outside, averaged down to the size of a "
        "mask prompt) and the tight box go into the unchanged model. Nothing is trained.",
        "Dense fusion runs where its parts were fitted for the model. Laplace's first pass is in closed form, where "
        "the paper averages samples; the second pass is one decode of the model with its usual choice of a token.",
        "The band of the boundary IoU is 0.02 of the diagonal wide, the default of the code that the paper refers to; "
        "it does not say which it used, so 0.01 stands beside.",
    ]
    if HALVED & set(datasets):
        notes.append("BIG is measured at half of its resolution, as in the authors' code.")
    return notes


PAPER = Paper(
    key="uncertsam",
    title="UncertSAM",
    tables=UNCERTSAM,
    model=_MODEL,
    columns=MappingProxyType(
        {"iou": ("IoU", "iou"), "biou_2": ("BIoU 0.02", "biou_2"), "biou_1": ("BIoU 0.01", "")},
    ),
    shares=MappingProxyType({}),
    beside=_beside,
    groups=_groups,
    notes=_notes,
    needs=_NEEDS,
)
