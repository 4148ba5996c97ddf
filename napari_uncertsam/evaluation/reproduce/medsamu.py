"""Tables I to IV of MedSAM-U (Zhou et al., IEEE TCSVT 2025), as far as a SAM 2 can stand in them, with adapter or not.

The paper's models are SAM 1, MedSAM, and MedSAM with its adapter. What can be computed is what they were asked: the
same prompts, the same averaging, the same rounds of UGPA, on whichever SAM 2 is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.evaluation.cases import case_rng
from napari_uncertsam.evaluation.metrics import dice, iou
from napari_uncertsam.evaluation.reproduce.paper import Beside, Group, Paper, ReproductionSettings, Subject, Values
from napari_uncertsam.evaluation.reproduce.published import MEDSAM, MEDSAM_U, MPA, PublishedRow, PublishedTable
from napari_uncertsam.evaluation.simulate import PromptSpec, parse_prompt
from napari_uncertsam.evaluation.simulate.boxes import Overlap
from napari_uncertsam.refinement import PAPER as UGPA_OF_THE_PAPER
from napari_uncertsam.refinement import refine

#: What SAM 1 was prompted with in Tables I and II, by the name of the row.
_PROMPTS = MappingProxyType(
    {
        "SAM 3P": "points-3",
        "SAM 10P": "points-10",
        "SAM 3B (0.5)": "boxes-3-0.5",
        "SAM 3B (0.75)": "boxes-3-0.75",
        "SAM 10P&3B (0.5)": "points-10+boxes-3-0.5",
    }
)
#: Points of UGPA's round by the beginning of the row's name; none for what it starts from.
_POINTS = MappingProxyType({"w/o UGPA": None, "UGPA1": 0, "UGPA2": 3, "UGPA3": 5, "UGPA4": 10})
#: Overlap of the boxes in the tables about UGPA.
_OVERLAPS = MappingProxyType({"Table III": 0.5, "Table IV": 0.75})
_SAID_NONE = MappingProxyType(
    {
        MEDSAM: "MedSAM is a SAM 1 model (ViT-B), which this package does not run.",
        MPA: "With --model NAME+adapter the row of SAM with these prompts is that of a model with the adapter (MPA).",
    }
)


def with_overlap(spec: PromptSpec, by: Overlap) -> PromptSpec:
    """The prompt with its overlap read as asked for; a prompt without boxes as it is."""
    return spec if spec.box is None else replace(spec, box=replace(spec.box, by=by))


def _ugpa(overlap: float, points: int | None) -> Beside:
    start = f"three Gaussian boxes about one box at overlap {overlap:g} (UGMP)"
    run = f"ugpa-{overlap:g}-{'none' if points is None else points}"
    if points is None:
        return Beside(run, start)
    added = f"{points} points and " if points else ""
    return Beside(run, f"one round of UGPA with {added}three boxes, from {start}")


def _beside(table: PublishedTable, row: PublishedRow) -> Beside:
    if row.name in _PROMPTS:
        name = _PROMPTS[row.name]
        return Beside(name, parse_prompt(name).title.replace(" IoU ", " overlap "))
    if table.name in _OVERLAPS:
        return _ugpa(_OVERLAPS[table.name], _POINTS[row.name.partition(":")[0]])
    if row.name.startswith("MedSAM-U"):
        return _ugpa(0.5 if "(0.5)" in row.name else 0.75, 10)
    return Beside(None, _SAID_NONE[row.model])


def _overlaps(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    return {"iou": iou(mask, truth), "dice": dice(mask, truth)}


def _prompted(name: str, by: Overlap) -> Group:
    """Points and boxes around the truth; the probabilities of several boxes are averaged."""
    spec = with_overlap(parse_prompt(name), by)

    def compute(
        subject: Subject, settings: ReproductionSettings, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Values]]:
        case, sight = subject.case, subject.sight
        prompts = spec.draw(case.truth, case_rng(settings.seed, case.key, spec.name))
        yield name, _overlaps(sight.mask(sight.average(prompts)), case.truth)

    return Group((name,), compute)


def _refined(overlap: float, by: Overlap) -> Group:
    """UGMP on one box, and a round of UGPA on what comes of it, with so many points."""
    spec = with_overlap(parse_prompt(f"box-{overlap:g}"), by)
    runs = {_ugpa(overlap, points).run or "": points for points in _POINTS.values()}

    def compute(
        subject: Subject, settings: ReproductionSettings, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Values]]:
        case, sight, seed = subject.case, subject.sight, settings.seed
        [drawn] = spec.draw(case.truth, case_rng(seed, case.key, spec.name))
        prompts, ugmp = sight.local(drawn), UGPA_OF_THE_PAPER.first()
        assert ugmp is not None
        rng = case_rng(seed, case.key, f"{spec.name} UGMP")
        start = ugmp.estimate(sight.engine, sight.embedding, prompts, rng)
        for name, points in runs.items():
            if name not in wanted:
                continue
            if points is None:
                yield name, _overlaps(sight.mask(start), case.truth)
                continue
            # The same generator for every number of points: the three boxes are the same, so that points alone differ.
            rng = case_rng(seed, case.key, f"{spec.name} UGPA")
            choices = replace(UGPA_OF_THE_PAPER, points=points, first_boxes=None)  # `start` is what those gave
            found = refine(sight.engine, sight.embedding, prompts, start, ugmp, rng, choices)
            yield name, _overlaps(sight.mask(found.belief), case.truth) | {"accepted": float(found.accepted)}

    return Group(tuple(runs), compute)


def _groups(settings: ReproductionSettings) -> tuple[Group, ...]:
    by = settings.overlap
    return (
        *(_prompted(name, by) for name in dict.fromkeys(_PROMPTS.values())),
        *(_refined(overlap, by) for overlap in _OVERLAPS.values()),
    )


def _notes(settings: ReproductionSettings, record: Mapping[str, Any] | None, datasets: tuple[str, ...]) -> list[str]:
    overlap = {
        "iou": "the intersection over union of the drawn and the true box",
        "coverage": "the part of the true box that the drawn one covers",
    }[settings.overlap]
    notes = [
        "None of ours is computed with the paper's models. The published numbers are those of SAM 1, of its medical "
        "fine-tuning MedSAM, or of MedSAM with the paper's adapter; ours are those of a SAM 2 (with an adapter where "
        "it is called NAME+adapter), from the same kind of prompts. A difference says how models compare, not that a "
        "result cannot be reproduced.",
        "The model sees the whole image, squashed to its square input. A value is the mean over masks at the original "
        "resolution.",
        f"The overlap of a box is {overlap}; the paper does not define it (--overlap iou or coverage). Boxes are "
        "shifted in a random direction and their sides scaled at random.",
        "3P and 10P are distinct random pixels of the object, all positive. 3B are three boxes of that overlap, whose "
        "probabilities are averaged; with points beside, every box gets all of them.",
        "w/o UGPA: one box of that overlap, and three boxes about it with Gaussian noise of 0.05 of its sides (UGMP, "
        "eq. 4 to 8; the paper gives no scale); the first box is not among them.",
        "UGPA: one round. Three boxes of the same noise about the box of the uncertain edge (above half of the "
        "largest entropy), and 0, 3, 5 or 10 points where the entropy is largest. It is kept if the mean entropy over "
        "the image falls (eq. 14), with no guard against collapse; else what it started from stays.",
        "UGPA's points are all labelled positive: the paper does not say who labels them, and calls those of its "
        "training positive.",
    ]
    if settings.split == "test":
        notes.append(
            "The test split is a random fifth of the images, of volumes a fifth of the patients, the same for every "
            "seed. The paper splits 80/20 too, does not publish its split, and also says that all data are used for "
            "evaluation; --split all does that."
        )
    if "isic" in datasets:
        notes.append(
            "Dermoscopy: the training images of ISIC 2018 where they are there, else of 2017. The paper says 2017, and "
            "2,594 images, which 2018 has."
        )
    if {"kits23", "brats21"} & set(datasets):
        notes.append(
            "Volumes: of KiTS23 the kidney with tumour and cyst in every third axial slice of its central half, seen "
            "through the soft-tissue window; of BraTS21 the whole tumour in every eighth, seen between percentiles 0.5 "
            "and 99.5. The paper gives neither interval nor window."
        )
    return notes


PAPER = Paper(
    key="medsam-u",
    title="MedSAM-U",
    tables=MEDSAM_U,
    model="sam2.1-base-plus",
    columns=MappingProxyType({"iou": ("IoU", "iou"), "dice": ("Dice", "dice")}),
    shares=MappingProxyType({"accepted": "kept"}),
    beside=_beside,
    groups=_groups,
    notes=_notes,
)
