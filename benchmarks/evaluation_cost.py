"""What an evaluation costs beside its bare predictions: 200 synthetic cases of 256 x 256, in one run.

    python benchmarks/evaluation_cost.py [--cases N] [--runs R] [--model M] [--device D] [--json FILE]

Evaluation: reading files, predicting, all measures, maps, results.json and results.csv, of the method "entropy" from
the tight boxes. Bare: the calls of embed and decode that the evaluation makes (a view that cuts an object off is
embedded again, larger), made again by themselves. Both are timed in turns in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from latency import make_engine
from PIL import Image

from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.evaluation.benchmark import EvaluationSettings, evaluate
from napari_uncertsam.evaluation.datasets import open_dataset
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.training.synthetic import make_scene


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


class Recorder:
    """An engine that remembers what it was asked, so that the same calls can be made again without anything else."""

    def __init__(self, engine: Sam2Engine) -> None:
        self._engine = engine
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def embed(self, image: Any) -> Any:
        self.calls.append(("embed", image.copy()))
        return self._engine.embed(image)

    def decode(self, embedding: Any, prompts: Any) -> Any:
        # The embedding of the call before: an evaluation with one method decodes what it has just embedded.
        self.calls.append(("decode", embedding.shape, list(prompts)))
        return self._engine.decode(embedding, prompts)


def bare(engine: Sam2Engine, calls: list[tuple[Any, ...]]) -> float:
    """Seconds in the same calls of embed and decode, and nothing else."""
    start, embedding = time.perf_counter(), None
    for name, what, *more in calls:
        if name == "embed":
            embedding = engine.embed(what)
        else:
            engine.decode(replace(embedding, shape=what), *more)
    return time.perf_counter() - start


def evaluation(engine: Any, folder: Path, out: Path) -> float:
    settings = EvaluationSettings.of_names(("entropy",), ("gt-box",), model=engine.name)
    start = time.perf_counter()
    evaluate(open_dataset(folder), Pipeline(engine), settings, out)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", help="cpu, cuda or mps")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    engine, weights = make_engine(args.model, args.device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        make_dataset(place, args.cases)
        recorder = Recorder(engine)
        evaluation(recorder, place, Path(folder) / "recorded")  # also because the first calls of a model are slower
        for run in range(args.runs):
            first = bare(engine, recorder.calls)
            whole = evaluation(engine, place, Path(folder) / f"out_{run}")
            second = bare(engine, recorder.calls)
            rows.append({"bare": (first + second) / 2, "evaluation": whole})
    ratios = [row["evaluation"] / row["bare"] for row in rows]
    embeds = sum(call[0] == "embed" for call in recorder.calls)
    print(f"{embeds} embeddings and {len(recorder.calls) - embeds} decodings of {args.cases} cases")
    print(f"Model {engine.name} ({weights} weights), {engine.device_label}, {args.cases} cases, {args.runs} runs\n")
    print("| run | embed + decode [s] | evaluation [s] | ratio |\n|---|---:|---:|---:|")
    for number, (row, ratio) in enumerate(zip(rows, ratios, strict=True), 1):
        print(f"| {number} | {row['bare']:.2f} | {row['evaluation']:.2f} | {ratio:.2f} |")
    print(f"\nMedian ratio {statistics.median(ratios):.2f}")
    if args.json:
        args.json.write_text(
            json.dumps({"model": engine.name, "weights": weights, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
