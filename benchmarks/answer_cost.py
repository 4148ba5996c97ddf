"""What an answer costs before the model has seen it: the rank-1 update and the maps that follow, beside one decode.

    python benchmarks/answer_cost.py [--models bundled,sam2.1-tiny] [--runs 15] [--threads N] [--json FILE]

One image that is embedded already, one box, Laplace in closed form. Every turn makes all calls once, in an order that
moves on by one, so that whatever else the machine does hits all of them; ratios are of calls of one turn. Weights are
random where the checkpoint is not downloaded, and the posterior is a toy: both take the time of real ones. The update
takes longer with every answer before, so it is timed after none, 5 and 10.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from laplace_cost import ratio, time_all, toy_posterior
from latency import make_engine

from napari_uncertsam.checkpoints import CHECKPOINTS
from napari_uncertsam.engine import Engine
from napari_uncertsam.estimators import Estimator
from napari_uncertsam.estimators.answered import AnsweredBelief
from napari_uncertsam.estimators.field import Answer, MaskField
from napari_uncertsam.estimators.laplace import Laplace, LaplacePosteriors
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Request, Settings
from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.volume import Volume, Window

DECODE = "one decode"
BEFORE = (0, 5, 10)


class Prepared(Pipeline):
    """A pipeline with a posterior at hand."""

    def __init__(self, engine: Engine, posteriors: LaplacePosteriors) -> None:
        super().__init__(engine)
        self._laplace = Laplace(posteriors=posteriors)

    def method(self, name: str) -> Estimator:
        return self._laplace

    def record(self, request: Request) -> dict[str, Any]:
        return self.record_of_model()  # no file is named that the posterior would be of


def prepare(name: str, size: int, device: str | None, structure: str) -> tuple[Prepared, Volume, Request, str]:
    """A pipeline and what it is asked, for an image of noise with a brighter object."""
    engine, weights = make_engine(name, device)
    image = np.random.default_rng(0).integers(0, 128, (size, size, 3), dtype=np.uint8)
    image[size // 4 : 3 * size // 4, size // 4 : 2 * size // 3] += 100
    box = Box(0.22 * size, 0.25 * size, 0.75 * size, 0.7 * size)
    decoded = engine.decode(engine.embed(image), [Prompts(box=box)])
    posteriors = LaplacePosteriors((toy_posterior(structure, decoded),) * decoded.token_logits.shape[1])
    volume = Volume(image, rgb=True)
    request = Request("image", 0, 0, Window.for_volume(volume), None, 1, Prompts(box=box), Settings(model=name))
    return Prepared(engine, posteriors), volume, request, weights


def make_calls(pipeline: Prepared, volume: Volume, request: Request, size: int) -> dict[str, Callable[[], Any]]:
    """By name: what is timed."""
    engine, before = pipeline.engine, pipeline.predict(volume, request)
    field, view = before.field, before.view
    assert field is not None
    embedding = replace(engine.embed(np.ascontiguousarray(view.crop(volume.slice()))), shape=(view.height, view.width))
    local = view.prompts_to_view(request.prompts, engine.resolution)
    rng = np.random.default_rng(1)
    places = [Answer(*map(int, rng.integers(0, field.shape)), bool(rng.random() < 0.5)) for _ in range(max(BEFORE) + 1)]
    calls: dict[str, Callable[[], Any]] = {DECODE: lambda: engine.decode(embedding, [local])}
    for count in BEFORE:
        known = field.answered(places[:count])

        def update(known: MaskField = known, answer: Answer = places[count]) -> MaskField:
            # The field anew: it remembers what it has computed once.
            return replace(known).answered([answer])

        def maps(update: Callable[[], MaskField] = update) -> Any:
            belief = AnsweredBelief(update())
            return belief.logits(), belief.probability(), belief.entropy()

        calls |= {f"update after {count} answers": update, f"update and maps after {count} answers": maps}
    asked = replace(request, prompts=request.prompts.with_point(Point(size / 2, size / 2)))
    calls["Pipeline.foresee"] = lambda: pipeline.foresee(volume, replace(before, field=replace(field)), asked)
    calls["Pipeline.predict, embedded already"] = lambda: pipeline.predict(volume, asked)
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="bundled,sam2.1-tiny", help="names, separated by commas")
    parser.add_argument("--runs", type=int, default=15, help="turns, of which medians are shown")
    parser.add_argument("--size", type=int, default=512, help="side of the square image in pixels")
    parser.add_argument("--structure", default="hierarchical", help="of the toy posterior")
    parser.add_argument("--threads", type=int, help="threads of torch and of linear algebra; their defaults without it")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--json", type=Path, help="write every time to this file too")
    args = parser.parse_args()
    if set(args.models.split(",")) - set(CHECKPOINTS) or args.runs < 1:
        parser.error(f"choose --models from {', '.join(CHECKPOINTS)} and at least one run")
    if args.threads and os.environ.get("OMP_NUM_THREADS") != str(args.threads):
        # Linear algebra counts its threads once, when NumPy is imported.
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if args.threads:
        torch.set_num_threads(args.threads)
    record: dict[str, Any] = {"threads": torch.get_num_threads(), "load": [], "models": {}}
    for name in args.models.split(","):
        pipeline, volume, request, weights = prepare(name, args.size, args.device, args.structure)
        calls = make_calls(pipeline, volume, request, args.size)
        record["load"].append(os.getloadavg()[0] if hasattr(os, "getloadavg") else None)
        times = time_all(calls, args.runs)
        print(
            f"{name} ({weights} weights), {pipeline.engine.device_label}, torch {torch.__version__} with "
            f"{torch.get_num_threads()} threads, {platform.machine()}, load {record['load'][-1]}; "
            f"median of {args.runs} turns\n"
        )
        print("| call | median, ms | least, ms | of a decode (min to max) |\n|---|---:|---:|---:|")
        for call, found in times.items():
            of = ratio(times, call, DECODE)
            print(
                f"| {call} | {statistics.median(found):.2f} | {min(found):.2f} "
                f"| {of['median']:.3f} ({of['lowest']:.3f} to {of['highest']:.3f}) |"
            )
        print()
        record["models"][name] = {"weights": weights, "ms": times}
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
