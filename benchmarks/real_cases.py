"""Dice and quality of the uncertainty on a folder of images with true masks, beside two baselines.

    python benchmarks/real_cases.py FOLDER [--model M --config C] [--limit N] [--seed S] [--json FILE]

FOLDER holds ``images/NAME.png`` and ``masks/NAME.png`` (integer labels, 0 background: one case per label). A
``MANIFEST.csv`` in FOLDER or one level up may give each ``name,value`` a ``modality``. Every case is segmented through
the pipeline, zoom and all, from four prompts: the tight true box, a box at overlap 0.5, one click at the most interior
pixel, one click anywhere inside. The baselines get the same boxes: fill the box, and OpenCV's GrabCut.
Vessel trees (Fundus, OCTA) are not defined by a box and stand apart. Slices of one volume (``NAME_zK``) are one group
of the bootstrap. Without FOLDER nothing is measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.datasets import FolderDataset
from napari_uncertsam.evaluation.simulate import box_at_overlap, centre_click, random_click
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, Request, Settings
from napari_uncertsam.prompts import Box, Prompts

METHODS = ("entropy", "prompt")
PROMPTS = ("tight box", "box at 0.5", "centre click", "random click")
VESSELS = ("Fundus", "OCTA")
#: Higher is better, except AUSE. "hard" compares with where the mask is wrong, "paper" with |p - m|.
QUALITIES = ("rho paper", "rho hard", "rho hard ROI", "AUSE", "AUSE ROI")


def make_prompts(case: Case, seed: int) -> dict[str, Prompts]:
    """The four prompts; the same for a case whichever others are measured with it."""
    key = [seed, case.value, *case.image.encode()]
    rng = np.random.default_rng(key)
    box = Box.of_mask(case.truth)
    height, width = case.truth.shape
    return {
        "tight box": Prompts(box=box),
        "box at 0.5": Prompts(box=box_at_overlap(box, 0.5, rng, (height, width))),
        "centre click": Prompts((centre_click(case.truth),)),
        "random click": Prompts((random_click(case.truth, rng),)),
    }


def pixel_box(box: Box) -> tuple[slice, slice]:
    """Rows and columns of the pixels whose centres lie in a box, at least one of each."""
    top, left = round(box.y0), round(box.x0)
    return slice(top, max(round(box.y1), top) + 1), slice(left, max(round(box.x1), left) + 1)


def fill_box(case: Case, box: Box) -> NDArray[np.bool_]:
    mask = np.zeros(case.truth.shape, bool)
    mask[pixel_box(box)] = True
    return mask


def grab_cut(case: Case, box: Box, seed: int) -> NDArray[np.bool_]:
    """GrabCut with five iterations; the filled box where it has no pixel outside to learn from."""
    import cv2

    filled = fill_box(case, box)
    if filled.all():
        return filled
    picture = case.seen_through.apply(case.volume.slice())
    rows, columns = pixel_box(box)
    rectangle = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    labels = np.zeros(case.truth.shape, np.uint8)
    cv2.setRNGSeed(seed)
    try:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(np.ascontiguousarray(picture), labels, rectangle, *models, 5, cv2.GC_INIT_WITH_RECT)
    except cv2.error:  # fewer pixels inside than its mixture has components
        return filled
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def predict(pipeline: Pipeline, case: Case, prompts: Prompts, method: str, model: str, seed: int) -> Prediction:
    settings = Settings(model=model, method=method, seed=seed)
    return pipeline.predict(case.volume, Request(case.image, 0, 0, case.seen_through, None, 1, prompts, settings))


def quality(prediction: Prediction, truth: NDArray[np.bool_]) -> dict[str, float]:
    """How well the uncertainty tells where the mask is wrong, over the image and around the object."""
    maps = prediction.maps
    uncertainty, wrong = maps.uncertainty, metrics.hard_error(maps.mask, truth)
    roi = metrics.roi_of(truth)
    return {
        "rho paper": metrics.pearson_rho(uncertainty, metrics.paper_error(maps.probability, truth)),
        "rho hard": metrics.pearson_rho(uncertainty, wrong),
        "rho hard ROI": metrics.pearson_rho(uncertainty[roi], wrong[roi]),
        "AUSE": metrics.ause(uncertainty, wrong),
        "AUSE ROI": metrics.ause(uncertainty[roi], wrong[roi]),
        "AUSE image, not normalised": metrics.ause(uncertainty, wrong, normalise=False),
    }


def measure(pipeline: Pipeline, case: Case, model: str, seed: int) -> list[dict[str, Any]]:
    rows = []
    common = {"name": case.image, "value": case.value, "modality": case.modality, "group": case.group}
    for form, prompts in make_prompts(case, seed).items():
        if prompts.box is not None:
            for baseline, mask in (
                ("fill", fill_box(case, prompts.box)),
                ("grabcut", grab_cut(case, prompts.box, seed)),
            ):
                dice, empty = metrics.dice(mask, case.truth), not mask.any()
                rows.append({**common, "prompt": form, "method": baseline, "dice": dice, "empty": empty})
        for method in METHODS:
            prediction = predict(pipeline, case, prompts, method, model, seed)
            dice = metrics.dice(prediction.maps.mask, case.truth)
            rows.append(
                {**common, "prompt": form, "method": method, "dice": dice, **quality(prediction, case.truth)}
                | {"seconds": prediction.seconds["total"]}
            )
    return rows


def summarise(rows: list[dict[str, Any]], key: str, seed: int) -> dict[str, Any]:
    values = [row[key] for row in rows]
    low, high = metrics.bootstrap_interval(values, np.random.default_rng(seed), [row["group"] for row in rows])
    interval = [low, high] if np.isfinite(low) else None
    return {
        "mean": float(np.mean(values)),
        "interval": interval,
        "n": len(values),
        "groups": len({r["group"] for r in rows}),
    }


def pick(rows: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def cell(summary: dict[str, Any], digits: int = 3) -> str:
    text = f"{summary['mean']:.{digits}f}"
    if summary["interval"] is None:
        return text
    return text + " ({:.{d}f} to {:.{d}f})".format(*summary["interval"], d=digits)


def analyse(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Dice by modality, prompt and method; quality of the uncertainty by prompt and method."""
    solid = [row for row in rows if row["modality"] not in VESSELS]
    modalities = sorted({row["modality"] for row in rows}, key=lambda m: (m in VESSELS, m))
    parts = {"all but vessels": solid} | {m: pick(rows, modality=m) for m in modalities}
    combinations = [(p, m) for p in PROMPTS for m in (*METHODS, "fill", "grabcut") if pick(rows, prompt=p, method=m)]
    cut = [row for row in solid if row["method"] == "grabcut"]
    return {
        "grabcut_empty": {p: sum(row["empty"] for row in pick(cut, prompt=p)) for p in PROMPTS if pick(cut, prompt=p)},
        "dice": {
            part: {
                f"{p}, {m}": summarise(chosen, "dice", seed)
                for p, m in combinations
                if (chosen := pick(some, prompt=p, method=m))
            }
            for part, some in parts.items()
            if some
        },
        "uncertainty": {
            f"{p}, {m}": {key: summarise(chosen, key, seed) for key in QUALITIES}
            for p in PROMPTS
            for m in METHODS
            if (chosen := pick(solid, prompt=p, method=m))
        },
    }


def markdown(analysis: dict[str, Any]) -> str:
    lines = ["Mean Dice (95% interval, groups resampled)\n"]
    lines += ["| prompt | entropy | prompt perturbation | fill the box | GrabCut |", "|---|---:|---:|---:|---:|"]
    overall = analysis["dice"].get("all but vessels", {})
    for form in PROMPTS:
        found = [overall.get(f"{form}, {m}") for m in (*METHODS, "fill", "grabcut")]
        lines.append(f"| {form} | " + " | ".join(cell(s) if s else "" for s in found) + " |")
    empties = ", ".join(f"{n} from {form}" for form, n in analysis["grabcut_empty"].items())
    lines.append(f"\nEmpty answers of GrabCut: {empties}.")
    lines += ["\nBy modality, method entropy; in brackets filling the box and GrabCut\n"]
    lines += ["| modality | n | groups | " + " | ".join(PROMPTS) + " |", "|---|---:|---:|" + "---:|" * len(PROMPTS)]
    for part, found in analysis["dice"].items():
        first = found[f"{PROMPTS[0]}, entropy"]
        texts = []
        for form in PROMPTS:
            text = f"{found[f'{form}, entropy']['mean']:.3f}"
            if f"{form}, fill" in found:
                text += f" ({found[f'{form}, fill']['mean']:.2f}, {found[f'{form}, grabcut']['mean']:.2f})"
            texts.append(text)
        lines.append(f"| {part} | {first['n']} | {first['groups']} | " + " | ".join(texts) + " |")
    lines += [
        "\nUncertainty, vessels left out: correlation with the error (higher is better), AUSE (lower is better)\n"
    ]
    lines += ["| prompt | method | n | " + " | ".join(QUALITIES) + " |", "|---|---|---:|" + "---:|" * len(QUALITIES)]
    for name, found in analysis["uncertainty"].items():
        texts = [cell(found[key], 2) for key in QUALITIES]
        form, method = name.rsplit(", ", 1)
        lines.append(f"| {form} | {method} | {found['AUSE']['n']} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="with images/ and masks/")
    parser.add_argument("--model", default="bundled", help="a name of `napari-uncertsam models list`, or a path")
    parser.add_argument("--config", help="configuration of an own checkpoint")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--limit", type=int, help="measure only so many cases, spread over all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write every case and the tables to this file")
    args = parser.parse_args()
    if args.folder is None:
        print("No folder of real cases was given, so nothing was measured; see --help.")
        return
    try:
        dataset = FolderDataset(args.folder)
        cases = [case for image in dataset.images() for case in dataset.load(image)]
        if args.limit and args.limit < len(cases):
            cases = [cases[i] for i in np.linspace(0, len(cases) - 1, args.limit).round().astype(int)]
        pipeline = Pipeline(Sam2Engine.load(args.model, args.config, args.device))
        shown = track(cases, "cases", console=Console(stderr=True))
        rows = [row for case in shown for row in measure(pipeline, case, args.model, args.seed)]
    except UncertSamError as error:
        parser.error(str(error))
    analysis = analyse(rows, args.seed)
    engine = pipeline.engine
    print(
        f"Model {engine.name} ({engine.sha256[:12]}), {engine.device_label}, seed {args.seed}, {len(cases)} objects\n"
    )
    print(markdown(analysis))
    if args.json:
        record = {"model": engine.name, "sha256": engine.sha256, "seed": args.seed, **analysis, "cases": rows}
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
