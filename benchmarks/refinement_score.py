"""Fit the score by which automatic refinement weighs boxes, on synthetic images alone.

    python benchmarks/refinement_score.py [--model M] [--images N] [--seed S] [--json FILE]

Draws N synthetic images, and for an object of each the prompts gt-box, box-0.75 and box-0.5. Around each the boxes of
a round are tried, and a ridge regression learns from their features by how much Dice a mask is better than the present
one. Prints the table for `napari_uncertsam/suggestions/hypotheses.py`, and on images left out of the fit, in five
folds, what a round gains by the margin that it asks for: of the expected Dice alone, or where the mean entropy has to
fall as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.evaluation.cases import Case, case_rng
from napari_uncertsam.evaluation.simulate import parse_prompt
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Request, Settings
from napari_uncertsam.refinement.boxes import hypothesise
from napari_uncertsam.refinement.grid import Grid
from napari_uncertsam.suggestions.hypotheses import WEIGHTS, Weight, dice_matrix, scores
from napari_uncertsam.training.synthetic import make_scene
from napari_uncertsam.uncertainty import binary_entropy, sigmoid
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume

STARTS = ("gt-box", "box-0.75", "box-0.5")
SIDE, SMALLEST, FOLDS = 256, 150, 5
TEMPERATURES, MARGINS = (0.01, 0.02, 0.03), (0.02, 0.04, 0.06, 0.08, 0.1)
#: Weight of the squared coefficients beside the mean squared error of a Dice, features standardised.
PENALTY = 0.01


@dataclass(frozen=True)
class Tried:
    """Boxes tried from one prompt: features (n, f), Dice with the truth (n,), with each other (n, n), entropy (n,)."""

    image: int
    start: str
    features: NDArray[np.float64]
    dice: NDArray[np.float64]
    mutual: NDArray[np.float64]
    entropy: NDArray[np.float64]


def objects(count: int, seed: int) -> Iterator[Case]:
    """One object of each synthetic image, not too small."""
    generator, found = torch.Generator().manual_seed(seed), 0
    while found < count:
        scene = make_scene(generator, size=SIDE)
        mask = scene.masks[0].numpy()
        if mask.sum() < SMALLEST:
            continue
        pixels = (scene.image.clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        yield Case(f"synthetic-{seed}-{found}", 1, Volume(pixels, rgb=True), mask, modality="synthetic")
        found += 1


def trial(pipeline: Pipeline, case: Case, start: str, number: int, seed: int) -> Tried:
    """A round's boxes from one prompt, in the view that the prompt leads to."""
    engine, settings = pipeline.engine, Settings(method="entropy", n_suggestions=0)
    [prompts] = parse_prompt(start).draw(case.truth, case_rng(seed, case.key, start))
    request = Request(case.image, 0, 0, case.seen_through, None, 1, prompts, settings)
    view = pipeline.predict(case.volume, request).view
    shape = case.truth.shape[0], case.truth.shape[1]
    embedding = engine.embed(case.seen_through.apply(view.crop(case.volume.slice())))
    local = view.prompts_to_view(prompts, engine.resolution)
    side = engine.resolution // 4
    grid = Grid(View.whole(view.height, view.width), (side, side), engine.resolution)
    assert local.box is not None
    box = grid.box_to_cells(local.box)
    tried = hypothesise(engine, embedding, local, box, grid)
    truth = case.truth[view.inside(*shape)]
    missed = case.truth.sum() - truth.sum()
    found = []
    for logits in tried.logits:
        mask = view.local_map(logits, *shape) > 0
        total = mask.sum() + truth.sum() + missed
        found.append(2 * (mask & truth).sum() / total if total else 1.0)
    values = tried.features(box, embedding.image)
    entropy = binary_entropy(sigmoid(tried.logits)).mean((1, 2), dtype=np.float64)
    return Tried(number, start, values, np.array(found), dice_matrix(tried.logits > 0), entropy)


def fit(trials: list[Tried]) -> dict[str, Weight]:
    """Ridge regression of the gain in Dice on differences of the features, their squares, and the present's."""
    every = np.concatenate([t.features for t in trials])
    mean, deviation = every.mean(0), every.std(0) + 1e-6
    rows, gains = [], []
    for t in trials:
        z = (t.features - mean) / deviation
        change = z - z[:1]
        rows.append(np.concatenate([change, z**2 - z[:1] ** 2, change * z[:1]], 1)[1:])
        gains.append((t.dice - t.dice[0])[1:])
    design, gain = np.concatenate(rows), np.concatenate(gains)
    normal = design.T @ design / len(gain) + PENALTY * np.eye(design.shape[1])
    found = np.linalg.solve(normal, design.T @ gain / len(gain)).reshape(3, -1)
    columns = zip(mean, deviation, *found, strict=True)
    return {name: Weight(*(float(v) for v in values)) for name, values in zip(WEIGHTS, columns, strict=True)}


def gains(
    trials: list[Tried], weights: list[dict[str, Weight]], temperature: float, margin: float, seconded: bool
) -> tuple[float, float]:
    """Mean gain of a round that is kept where the expected Dice rises by more than a margin, and how often it is.

    If it has to be `seconded`, only where the mean entropy falls too.
    """
    out, kept = [], 0
    for t, table in zip(trials, weights, strict=True):
        score = scores(t.features, table)
        weight = np.exp((score - score.max()) / temperature)
        expected = t.mutual @ weight / weight.sum()
        best = int(expected.argmax())
        taken = bool(expected[best] - expected[0] > margin and (not seconded or t.entropy[best] < t.entropy[0]))
        kept += taken
        out.append(t.dice[best] - t.dice[0] if taken else 0.0)
    return float(np.mean(out)), kept / len(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--config", help="configuration of an own checkpoint")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--json", type=Path, help="write the table and the gains to this file")
    args = parser.parse_args()
    engine = Sam2Engine.load(args.model, args.config, "cpu")
    pipeline = Pipeline(engine)
    shown = track(objects(args.images, args.seed), "images", total=args.images, console=Console(stderr=True))
    trials = [trial(pipeline, case, start, i, args.seed) for i, case in enumerate(shown) for start in STARTS]
    table = fit(trials)
    folds = [fit([t for t in trials if t.image % FOLDS != fold]) for fold in range(FOLDS)]
    print(f"Model {engine.name} ({engine.sha256[:12]}), {args.images} synthetic images, seed {args.seed}\n")
    for name, weight in table.items():
        print(f'    "{name}": Weight(' + ", ".join(f"{v:.4f}" for v in weight) + "),")
    print("\nGain in Dice on images left out, and share of rounds kept, by margin")
    print("| rule | temperature | prompt | before | " + " | ".join(f"{m:g}" for m in MARGINS) + " |")
    print("|---|---|---|---:|" + "---:|" * len(MARGINS))
    record = []
    for seconded, temperature in itertools.product((False, True), TEMPERATURES):
        rule = "hypotheses-entropy" if seconded else "hypotheses"
        for start in STARTS:
            chosen = [t for t in trials if t.start == start]
            own = [folds[t.image % FOLDS] for t in chosen]
            found = [gains(chosen, own, temperature, margin, seconded) for margin in MARGINS]
            before = float(np.mean([t.dice[0] for t in chosen]))
            cells = " | ".join(f"{gain:+.3f} ({kept:.0%})" for gain, kept in found)
            print(f"| {rule} | {temperature:g} | {start} | {before:.3f} | {cells} |")
            record.append({"rule": rule, "temperature": temperature, "start": start, "before": before, "gains": found})
    if args.json:
        document = {"model": engine.name, "sha256": engine.sha256, "seed": args.seed, "images": args.images}
        document |= {"margins": MARGINS, "table": table, "gains": record}
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
