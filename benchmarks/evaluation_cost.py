"""What an evaluation costs beside its bare predictions: 200 synthetic cases of 256 x 256, in one run.

    python benchmarks/evaluation_cost.py [--cases N] [--runs R] [--model M] [--json FILE]

Bare: for every case, the same view of the picture is cropped, embedded and decoded once with the tight box, by calls of
the engine alone. Evaluation: reading files, predicting, all measures, maps, results.json and results.csv, of the method
"entropy" from the same boxes. Both are timed in turns in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.evaluation.benchmark import EvaluationSettings, evaluate
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.training.synthetic import make_scene
from napari_uncertsam.view import View


def make_dataset(folder: Path, cases: int, size: int = 256) -> None:
    """Scenes of the training generator with another seed, one object each."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    generator = torch.Generator().manual_seed(2026)
    made = 0
    while made < cases:
        scene = make_scene(generator, size)
        mask = scene.masks[0].numpy()
        if mask.sum() < 50:
            continue
        picture = (scene.image.permute(1, 2, 0).numpy() * 255).round().astype("uint8")
        Image.fromarray(picture).save(folder / "images" / f"scene_{made:04d}.png")
        Image.fromarray(mask.astype("uint8")).save(folder / "masks" / f"scene_{made:04d}.png")
        made += 1


def bare(engine: Sam2Engine, folder: Path) -> float:
    """Seconds in embed and decode, and nothing else."""
    dataset, seconds = open_dataset(folder), 0.0
    for name in dataset.images():
        for case in dataset.load(name):
            box, shape = Box.of_mask(case.truth), case.truth.shape
            view = View.around(box, *shape)
            picture = case.seen_through.apply(view.crop(case.volume.slice()))
            prompts = view.prompts_to_view(Prompts(box=box), engine.resolution)
            start = time.perf_counter()
            engine.decode(engine.embed(picture), [prompts])
            seconds += time.perf_counter() - start
    return seconds


def evaluation(engine: Sam2Engine, folder: Path, out: Path) -> float:
    settings = EvaluationSettings.of_names(("entropy",), ("gt-box",), model=engine.name)
    start = time.perf_counter()
    evaluate(open_dataset(folder), Pipeline(engine), settings, out)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    engine = Sam2Engine.load(args.model)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        make_dataset(place, args.cases)
        bare(engine, place)  # the first calls of a model are slower
        for run in range(args.runs):
            first = bare(engine, place)
            whole = evaluation(engine, place, Path(folder) / f"out_{run}")
            second = bare(engine, place)
            rows.append({"bare": (first + second) / 2, "evaluation": whole})
    ratios = [row["evaluation"] / row["bare"] for row in rows]
    print(f"Model {engine.name}, {engine.device_label}, {args.cases} cases, {args.runs} runs\n")
    print("| run | embed + decode [s] | evaluation [s] | ratio |\n|---|---:|---:|---:|")
    for number, (row, ratio) in enumerate(zip(rows, ratios, strict=True), 1):
        print(f"| {number} | {row['bare']:.2f} | {row['evaluation']:.2f} | {ratio:.2f} |")
    print(f"\nMedian ratio {statistics.median(ratios):.2f}")
    if args.json:
        args.json.write_text(json.dumps({"model": engine.name, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
