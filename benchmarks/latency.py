"""Milliseconds to embed an image and to decode prompts, beside `SAM2ImagePredictor` with the same weights.

Both run in one process on the same model, image and prompts, in turn, so that whatever else the machine does hits both.
Random weights take the same time as trained ones.

    python benchmarks/latency.py [--models bundled,sam2.1-tiny] [--runs 7] [--device cpu] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_uncertsam.checkpoints import CHECKPOINTS, cached, load_state_dict
from napari_uncertsam.engine import Sam2Engine, build_model
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.view import View

BOXES = 10
BUNDLED_CONFIG = Path(__file__).parents[1] / "napari_uncertsam" / "weights" / "bundled.yaml"


def make_engine(name: str, device: str | None) -> tuple[Sam2Engine, str]:
    """A model of the table: its own weights where they are here, else random ones, which take as long."""
    config = BUNDLED_CONFIG if name == "bundled" else CHECKPOINTS[name].config
    torch.manual_seed(0)
    model = build_model(config, fallback=name != "bundled")
    path = cached(name)
    if path is not None:
        model.load_state_dict(load_state_dict(path))
    return Sam2Engine(model, name, device=device), "trained" if path else "random"


def make_predictor(engine: Sam2Engine) -> Any:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it scripts its transforms
        predictor = SAM2ImagePredictor(engine.model)
    # It takes the sizes of a 1024-pixel model for granted.
    predictor._bb_feat_sizes = [(engine.resolution // stride,) * 2 for stride in (4, 8, 16)]
    return predictor


def make_tasks(engine: Sam2Engine, size: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Per task: our call and the reference's, with equal input and both ending in masks of the image's size."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    corners = np.sort(rng.uniform(0.1 * size, 0.9 * size, (BOXES, 2, 2)), axis=1)  # (n, corner, yx)
    ours = [Prompts(box=Box(*c.ravel())) for c in corners]
    theirs = corners[:, :, ::-1].reshape(BOXES, 4)
    predictor, view = make_predictor(engine), View.whole(size, size)
    embedding = engine.embed(image)
    predictor.set_image(image)

    def masks(count: int) -> list[Any]:
        logits = engine.decode(embedding, ours[:count]).logits.cpu().numpy()
        return [view.local_map(one, size, size) > 0 for one in logits]

    def reference(count: int) -> Any:
        return predictor.predict(box=theirs[:count], multimask_output=False)[0]

    return {
        "embed": (lambda: engine.embed(image), lambda: predictor.set_image(image)),
        "1 box to a mask": (lambda: masks(1), lambda: reference(1)),
        f"{BOXES} boxes to masks": (lambda: masks(BOXES), lambda: reference(BOXES)),
    }


def milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def measure(name: str, runs: int, size: int, device: str | None) -> list[dict[str, Any]]:
    engine, weights = make_engine(name, device)
    tasks = make_tasks(engine, size)
    times: dict[str, tuple[list[float], list[float]]] = {task: ([], []) for task in tasks}
    for turn in range(runs + 1):  # the first is a warm-up
        for task, calls in tasks.items():
            # Who goes first alternates: the second finds warmer caches.
            for which in (0, 1) if turn % 2 else (1, 0):
                elapsed = milliseconds(calls[which])
                if turn:
                    times[task][which].append(elapsed)
    rows = []
    for task, (ours, theirs) in times.items():
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            {
                "model": name,
                "weights": weights,
                "device": engine.device_label,
                "task": task,
                "ours_ms": statistics.median(ours),
                "reference_ms": statistics.median(theirs),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "runs": runs,
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | weights | task | this package, ms | SAM2ImagePredictor, ms | ratio (min to max) |",
        "|---|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r['model']} | {r['weights']} | {r['task']} | {r['ours_ms']:.1f} | {r['reference_ms']:.1f} "
        f"| {r['ratio']:.2f} ({r['ratio_range'][0]:.2f} to {r['ratio_range'][1]:.2f}) |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="bundled,sam2.1-tiny", help="names, separated by commas")
    parser.add_argument("--runs", type=int, default=7, help="interleaved runs, of which medians are shown")
    parser.add_argument("--size", type=int, default=512, help="side of the square image in pixels")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    args = parser.parse_args()
    unknown = set(args.models.split(",")) - set(CHECKPOINTS)
    if unknown or args.runs < 1:
        parser.error(f"choose --models from {', '.join(CHECKPOINTS)} and at least one run")
    rows = [row for name in args.models.split(",") for row in measure(name, args.runs, args.size, args.device)]
    print(f"{args.size} x {args.size} RGB image, median of {args.runs} interleaved runs, {rows[0]['device']}, ", end="")
    print(f"torch {torch.__version__}, {platform.machine()}\n")
    print(markdown(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
