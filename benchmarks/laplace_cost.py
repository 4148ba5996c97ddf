"""What Laplace in closed form costs, beside a bare `SAM2ImagePredictor.predict` and samples of the same Gaussian.

    python benchmarks/laplace_cost.py [--model sam2.1-tiny] [--runs 15] [--threads N] [--samples 100] [--json FILE]

One image that is embedded already, one box, one mask. Every turn makes all calls once, in an order that moves on by
one, so that whatever else the machine does hits all of them; ratios are of calls of one turn. Weights are random where
the checkpoint is not downloaded, and the posterior is a toy: both take the time of real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency import make_engine, make_predictor, milliseconds

from napari_uncertsam.checkpoints import CHECKPOINTS
from napari_uncertsam.engine import Decoded, Sam2Engine
from napari_uncertsam.estimators import Belief
from napari_uncertsam.estimators.laplace import (
    STRUCTURES,
    DiagonalPosterior,
    GaussianBelief,
    HierarchicalPosterior,
    KroneckerPosterior,
    Laplace,
    LaplacePosteriors,
    LowRankPosterior,
    Posterior,
)
from napari_uncertsam.estimators.laplace.curvature import bernoulli_curvature, with_bias
from napari_uncertsam.measure import maps_on_slice
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.uncertainty import binary_entropy, mutual_information, sigmoid, standard_deviation
from napari_uncertsam.view import View

#: Of the full posterior that is stored by its leading eigenvectors.
RANK = 64
PREDICT, DECODE = "SAM2ImagePredictor.predict", "our decode"


def toy_posterior(structure: str, decoded: Decoded) -> Posterior:
    """A posterior of the right shape: fitted to one decode, or random."""
    generator = torch.Generator().manual_seed(0)
    hidden = with_bias(decoded.hidden.cpu())
    outputs, inputs = decoded.features.shape[1], hidden.shape[1]
    curvature = bernoulli_curvature(decoded.logits.cpu(), decoded.features.cpu())
    if structure == "diagonal":
        return DiagonalPosterior.fit(curvature, hidden, 1.0, 1.0)
    if structure == "kfac":
        return KroneckerPosterior.fit(curvature, hidden, 1.0, 1.0)
    if structure == "hierarchical":
        root = torch.randn(outputs, outputs, generator=generator, dtype=torch.float64) / outputs
        return HierarchicalPosterior(root @ root.mT)
    random = torch.randn(outputs * inputs, RANK, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(random).Q.reshape(outputs, inputs, RANK)
    return LowRankPosterior.of_eigenpairs(torch.linspace(1000, 1, RANK, dtype=torch.float64), vectors, 1.0, 1.0)


def all_maps(belief: Belief) -> tuple[Any, ...]:
    return belief.probability(), belief.entropy(), belief.standard_deviation(), belief.mutual_information()


def sampled_entropy(belief: GaussianBelief, samples: int) -> tuple[Any, ...]:
    """Mean probability and its entropy."""
    mean = sigmoid(belief.sample(samples, np.random.default_rng(0))).mean(0)
    return mean, binary_entropy(mean)


def sampled_maps(belief: GaussianBelief, samples: int) -> tuple[Any, ...]:
    """The maps of :func:`all_maps`."""
    drawn = sigmoid(belief.sample(samples, np.random.default_rng(0)))
    mean = drawn.mean(0)
    return mean, binary_entropy(mean), standard_deviation(drawn), mutual_information(drawn)


def make_calls(engine: Sam2Engine, size: int, samples: int, structures: list[str]) -> dict[str, Callable[[], Any]]:
    """By name: what is timed. Beliefs are made anew in every call, as they remember what they have computed."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    box = Box(0.2 * size, 0.25 * size, 0.7 * size, 0.8 * size)
    theirs = np.array([box.x0, box.y0, box.x1, box.y1])
    predictor, embedding, prompts = make_predictor(engine), engine.embed(image), Prompts(box=box)
    predictor.set_image(image)
    decoded, view = engine.decode(embedding, [prompts]), View.whole(size, size)
    calls: dict[str, Callable[[], Any]] = {
        PREDICT: lambda: predictor.predict(box=theirs, multimask_output=False),
        DECODE: lambda: engine.decode(embedding, [prompts]),
    }
    for structure in structures:
        posteriors = LaplacePosteriors((toy_posterior(structure, decoded),) * decoded.token_logits.shape[1])
        laplace = Laplace(posteriors=posteriors)

        def estimate(laplace: Laplace = laplace) -> Belief:
            return laplace.estimate(engine, embedding, prompts, rng)

        def belief(laplace: Laplace = laplace, posteriors: LaplacePosteriors = posteriors) -> GaussianBelief:
            return laplace.belief_of(decoded, 0, posteriors)

        calls |= {
            f"{structure}: decode to four maps": lambda estimate=estimate: all_maps(estimate()),
            f"{structure}: decode to maps on the image": lambda estimate=estimate: maps_on_slice(
                estimate(), view, (size, size)
            ),
            f"{structure}: four maps": lambda belief=belief: all_maps(belief()),
            f"{structure}: samples, mean and entropy": lambda belief=belief: sampled_entropy(belief(), samples),
            f"{structure}: samples, four maps": lambda belief=belief: sampled_maps(belief(), samples),
        }
    return calls


def time_all(calls: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Milliseconds of every call in every turn; the first turn is a warm-up and left out."""
    names, times = list(calls), {name: [] for name in calls}
    for turn in range(runs + 1):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            elapsed = milliseconds(calls[name])
            if turn:
                times[name].append(elapsed)
    return times


def ratio(times: dict[str, list[float]], a: str, b: str) -> dict[str, float]:
    found = [x / y for x, y in zip(times[a], times[b], strict=True)]
    return {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}


def report(times: dict[str, list[float]], structures: list[str], samples: int) -> dict[str, Any]:
    print("| call | median, ms | beside SAM2ImagePredictor.predict (min to max) |\n|---|---:|---:|")
    for name, found in times.items():
        beside = ratio(times, name, PREDICT)
        print(
            f"| {name} | {statistics.median(found):.2f} "
            f"| {beside['median']:.2f} ({beside['lowest']:.2f} to {beside['highest']:.2f}) |"
        )
    heads = (
        "posterior",
        "decode to four maps / predict",
        "closed form, ms",
        f"{samples} samples to mean and entropy, ms",
    )
    heads += ("ratio (min to max)", f"{samples} samples to four maps, ms", "ratio")
    print("\nClosed form and samples are told as what they cost on top of the same decode.\n")
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    rows = {}
    for structure in structures:
        whole, closed = f"{structure}: decode to four maps", f"{structure}: four maps"
        two, four = f"{structure}: samples, mean and entropy", f"{structure}: samples, four maps"
        rows[structure] = row = {
            "beside_predict": ratio(times, whole, PREDICT),
            "samples_mean_entropy": ratio(times, two, closed),
            "samples_four_maps": ratio(times, four, closed),
        }
        fewer, ms = row["samples_mean_entropy"], {name: statistics.median(times[name]) for name in (closed, two, four)}
        print(
            f"| {structure} | {row['beside_predict']['median']:.2f} | {ms[closed]:.2f} | {ms[two]:.1f} "
            f"| {fewer['median']:.1f} ({fewer['lowest']:.1f} to {fewer['highest']:.1f}) | {ms[four]:.1f} "
            f"| {row['samples_four_maps']['median']:.1f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sam2.1-tiny", help=f"one of {', '.join(CHECKPOINTS)}")
    parser.add_argument("--runs", type=int, default=15, help="turns, of which medians are shown")
    parser.add_argument("--size", type=int, default=512, help="side of the square image in pixels")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--structures", default=",".join(STRUCTURES), help="of the posterior, separated by commas")
    parser.add_argument("--threads", type=int, help="threads of torch and of linear algebra; their defaults without it")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--json", type=Path, help="write every time to this file too")
    args = parser.parse_args()
    structures = args.structures.split(",")
    if args.model not in CHECKPOINTS or set(structures) - set(STRUCTURES) or args.runs < 1 or args.samples < 1:
        parser.error(f"choose --model from {', '.join(CHECKPOINTS)}, --structures from {', '.join(STRUCTURES)}")
    if args.threads and os.environ.get("OMP_NUM_THREADS") != str(args.threads):
        # Linear algebra counts its threads once, when NumPy is imported.
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if args.threads:
        torch.set_num_threads(args.threads)
    engine, weights = make_engine(args.model, args.device)
    times = time_all(make_calls(engine, args.size, args.samples, structures), args.runs)
    print(
        f"{args.model} ({weights} weights), {engine.device_label}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads, {platform.machine()}; {args.size} x {args.size} image, one box; median of "
        f"{args.runs} turns\n"
    )
    rows = report(times, structures, args.samples)
    if args.json:
        record = {"model": args.model, "weights": weights, "threads": torch.get_num_threads(), "samples": args.samples}
        args.json.write_text(json.dumps(record | {"ratios": rows, "ms": times}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
