"""What automatic refinement gains, and which rule tells a gain from a harm, on a folder of images with true masks.

    python benchmarks/refinement.py FOLDER [--model M --config C] [--method METHOD] [--limit N] [--seeds S ...]
        [--json FILE] [--markdown FILE]

FOLDER is as for `real_cases.py`; vessel trees (Fundus, OCTA) stand apart, slices of one volume are one group of the
bootstrap. Every object is segmented from the tight true box and from boxes at overlap 0.75 and 0.5, in the view that
the prompt leads to; then one round is tried by each preset and label rule (MedSAM-U's Tables III and IV stand beside),
and every verification rule judges the same proposals. Oracle labels know the truth: a bound, not a method.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from napari_uncertsam.engine import Embedding, Sam2Engine
from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.estimators import Belief
from napari_uncertsam.evaluation import metrics
from napari_uncertsam.evaluation.cases import Case, case_rng
from napari_uncertsam.evaluation.datasets import FolderDataset
from napari_uncertsam.evaluation.simulate import parse_prompt
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Prediction, Request, Settings
from napari_uncertsam.prompts import Prompts
from napari_uncertsam.refinement.attempt import Attempt, Round, start_box
from napari_uncertsam.refinement.boxes import hypothesise
from napari_uncertsam.refinement.grid import Grid
from napari_uncertsam.refinement.rounds import PAPER, RECOMMENDED, UgpaSettings, refine
from napari_uncertsam.suggestions.verify import GUARD, RULES
from napari_uncertsam.view import View

VESSELS = ("Fundus", "OCTA")
STARTS = ("gt-box", "box-0.75", "box-0.5")
SECTION = "all but vessels"
#: Rounds tried from every start: their name in the table and their settings.
ROUNDS: dict[str, UgpaSettings] = {
    "recommended": RECOMMENDED,
    "UGPA1, no points": replace(PAPER, points=0),
    "UGPA2, 3 points, all positive": replace(PAPER, points=3),
    "UGPA3, 5 points, all positive": replace(PAPER, points=5),
    "UGPA4, 10 points, all positive (paper)": PAPER,
    "UGPA4, 10 points, by probability": replace(PAPER, labels="by-probability"),
    "UGPA4, 10 points, oracle labels": replace(PAPER, labels="oracle"),
}
UGMP = "w/o UGPA: UGMP, three boxes"
#: What the rules judge: the best hypothesis, and the box of what is uncertain and of the mask.
PROPOSALS: dict[str, UgpaSettings] = {
    "best of the hypotheses": RECOMMENDED,
    "box of the uncertain edge and the mask": replace(RECOMMENDED, proposals="uncertain"),
}
#: Mean Dice of Tables III (overlap 0.5) and IV (0.75) of MedSAM-U: with its own model and adapter, on other images.
PUBLISHED = {
    "box-0.5": {UGMP: 0.748, **dict(zip(list(ROUNDS)[1:5], (0.882, 0.885, 0.899, 0.899), strict=True))},
    "box-0.75": {UGMP: 0.892, **dict(zip(list(ROUNDS)[1:5], (0.908, 0.910, 0.922, 0.923), strict=True))},
}
#: A change of Dice below this is neither an improvement nor a harm.
SMALLEST = 0.005


@dataclass(frozen=True)
class Scene:
    """One object seen from one prompt."""

    case: Case
    engine: Sam2Engine
    embedding: Embedding
    view: View
    prompts: Prompts
    prediction: Prediction

    def dice(self, belief: Belief) -> float:
        """Of the mask on the pixels of the slice."""
        shape = self.case.truth.shape[0], self.case.truth.shape[1]
        mask = np.zeros(shape, bool)
        mask[self.view.inside(*shape)] = self.view.local_map(belief.logits(), *shape) > 0
        return metrics.dice(mask, self.case.truth)

    def truth(self, y: float, x: float) -> bool:
        """Whether a place of the view is inside the object."""
        row, column = round(y + self.view.top), round(x + self.view.left)
        height, width = self.case.truth.shape
        return bool(0 <= row < height and 0 <= column < width and self.case.truth[row, column])


def see(pipeline: Pipeline, case: Case, start: str, method: str, seed: int) -> Scene:
    """Segment from a prompt as a user would, and keep what the model saw."""
    engine = pipeline.engine
    assert isinstance(engine, Sam2Engine)
    [prompts] = parse_prompt(start).draw(case.truth, case_rng(seed, case.key, start))
    settings = Settings(model=engine.name, method=method, n_suggestions=0, seed=seed)
    plane, index = case.plane, case.slice_index
    prediction = pipeline.predict(
        case.volume, Request(case.image, plane, index, case.seen_through, None, 1, prompts, settings)
    )
    view = prediction.view
    image = case.seen_through.apply(view.crop(case.volume.slice(plane, index)))
    embedding = replace(engine.embed(image), shape=(view.height, view.width))
    return Scene(case, engine, embedding, view, view.prompts_to_view(prompts, engine.resolution), prediction)


def rounds_from(scene: Scene, pipeline: Pipeline, method: str, seed: int) -> Iterator[dict[str, Any]]:
    """One row for each kind of round: Dice after it, and whether it was kept."""
    before = scene.dice(scene.prediction.belief)
    estimator = pipeline.method(method)
    for name, settings in ROUNDS.items():
        # The same generator for all: the three boxes of UGMP are the same, so that points and labels alone differ.
        rng = case_rng(seed, scene.case.key, "refinement")
        arguments = scene.engine, scene.embedding, scene.prompts, scene.prediction.belief, estimator, rng
        found = refine(*arguments, settings, truth=scene.truth)
        yield {"round": name, "before": before, "dice": scene.dice(found.belief), "kept": found.accepted}
    first = PAPER.first()
    assert first is not None
    rng = case_rng(seed, scene.case.key, "refinement")
    alone = first.estimate(scene.engine, scene.embedding, scene.prompts, rng)
    yield {"round": UGMP, "before": before, "dice": scene.dice(alone), "kept": True}


def judgements(scene: Scene, pipeline: Pipeline, method: str, seed: int) -> Iterator[dict[str, Any]]:
    """One row for each proposal: Dice before and after, and what every rule says."""
    belief, prompts = scene.prediction.belief, scene.prompts
    grid = Grid(View.whole(*scene.embedding.shape), belief.shape, scene.engine.resolution)
    given = start_box(prompts, belief, grid)
    assert given is not None
    tried = hypothesise(scene.engine, scene.embedding, prompts, given, grid)
    shape = scene.case.truth.shape[0], scene.case.truth.shape[1]
    inside = scene.view.inside(*shape)
    bound = 0.0
    for logits in tried.logits:
        mask = np.zeros(shape, bool)
        mask[inside] = scene.view.local_map(logits, *shape) > 0
        bound = max(bound, metrics.dice(mask, scene.case.truth))
    before = scene.dice(belief)
    for name, settings in PROPOSALS.items():
        rng = case_rng(seed, scene.case.key, "rules")
        attempt = Attempt(scene.engine, scene.embedding, pipeline.method(method), rng, settings, grid)
        trial = attempt.trial(prompts, belief, given)
        row: dict[str, Any] = {"proposal": name, "before": before, "bound": max(bound, before)}
        if isinstance(trial, Round):
            yield row | {"after": before, "rules": dict.fromkeys(RULES, (False, before))}
            continue
        verdicts = {}
        for rule in RULES:
            judged = trial.judged(rule, None, GUARD)
            assert judged.belief is not None
            verdicts[rule] = (judged.accepted, scene.dice(judged.belief) if judged.accepted else before)
        yield row | {"after": scene.dice(trial.after.belief), "rules": verdicts}


def interval(values: list[float], rows: list[dict[str, Any]], seed: int) -> str:
    """Mean with the 95 % interval of a bootstrap over groups."""
    low, high = metrics.bootstrap_interval(values, np.random.default_rng(seed), [r["group"] for r in rows])
    mean = f"{np.mean(values):+.3f}"
    return f"{mean} ({low:+.3f} to {high:+.3f})" if np.isfinite(low) else mean


def pick(rows: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def gains_table(rows: list[dict[str, Any]]) -> list[str]:
    """Dice before and after a round of each kind, by start; UGPA beside the published numbers."""
    lines = ["| start | round | n | before | after | gain (95 %) | kept | published after (gain over w/o) |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for start in STARTS:
        for name in (UGMP, *ROUNDS):
            some = pick(rows, start=start, round=name)
            before, after = (float(np.mean([r[k] for r in some])) for k in ("before", "dice"))
            gain = interval([r["dice"] - r["before"] for r in some], some, 0)
            kept = np.mean([r["kept"] for r in some])
            published = PUBLISHED.get(start, {}).get(name)
            beside = "" if published is None else f"{published:.3f} ({published - PUBLISHED[start][UGMP]:+.3f})"
            lines.append(
                f"| {start} | {name} | {len(some)} | {before:.3f} | {after:.3f} | {gain} | {kept:.0%} | {beside} |"
            )
    return lines


def modality_table(rows: list[dict[str, Any]], name: str) -> list[str]:
    """Gain of one kind of round by modality and start."""
    lines = [f"| modality | n | {' | '.join(STARTS)} |", "|---|---:|" + "---:|" * len(STARTS)]
    for modality in sorted({row["modality"] for row in rows}, key=lambda m: (m in VESSELS, m)):
        cells = []
        for start in STARTS:
            some = pick(rows, modality=modality, start=start, round=name)
            before, after = (float(np.mean([r[k] for r in some])) for k in ("before", "dice"))
            cells.append(f"{before:.3f} -> {after:.3f} ({after - before:+.3f}, {sum(r['kept'] for r in some)} kept)")
        lines.append(f"| {modality} | {len(some)} | " + " | ".join(cells) + " |")
    return lines


def rules_table(rows: list[dict[str, Any]]) -> list[str]:
    """What every rule accepts of the same proposals, and what remains of the oracle's gain."""
    lines = ["| proposal | start | rule | improvements accepted | harms refused | net Dice (95 %) |"]
    lines += ["|---|---|---|---:|---:|---:|"]
    for proposal in PROPOSALS:
        for start in STARTS:
            some = pick(rows, proposal=proposal, start=start)
            better = [r for r in some if r["after"] > r["before"] + SMALLEST]
            worse = [r for r in some if r["after"] < r["before"] - SMALLEST]
            always = interval([r["after"] - r["before"] for r in some], some, 0)
            lines.append(
                f"| {proposal} | {start} | accept all | {len(better)} of {len(better)} | 0 of {len(worse)} | {always} |"
            )
            for rule in RULES:
                taken = sum(r["rules"][rule][0] for r in better)
                refused = sum(not r["rules"][rule][0] for r in worse)
                net = interval([r["rules"][rule][1] - r["before"] for r in some], some, 0)
                counts = f"{taken} of {len(better)} | {refused} of {len(worse)}"
                lines.append(f"| {proposal} | {start} | {rule} | {counts} | {net} |")
            oracle = interval([max(r["after"] - r["before"], 0.0) for r in some], some, 0)
            everything = f"{len(better)} of {len(better)} | {len(worse)} of {len(worse)}"
            lines.append(f"| {proposal} | {start} | oracle: keep the better | {everything} | {oracle} |")
            bound = interval([r["bound"] - r["before"] for r in some], some, 0)
            lines.append(f"| {proposal} | {start} | oracle: best of all boxes tried | | | {bound} |")
    return lines


def report(rounds: list[dict[str, Any]], verdicts: list[dict[str, Any]]) -> str:
    solid = [[r for r in rows if r["modality"] not in VESSELS] for rows in (rounds, verdicts)]
    lines = [f"## One round from each start, {SECTION}\n", *gains_table(solid[0])]
    lines += ["\nPublished: means of Tables III and IV, by another model on other images."]
    lines += ["\n## Preset recommended, by modality\n", *modality_table(rounds, "recommended")]
    lines += [f"\n## Verification rules on the same proposals, {SECTION}\n"]
    lines += [f"An improvement or a harm is a change of Dice by more than {SMALLEST:g}; the guard is {GUARD}.\n"]
    return "\n".join([*lines, *rules_table(solid[1])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="with images/ and masks/")
    parser.add_argument("--model", default="bundled", help="a name of `napari-uncertsam models list`, or a path")
    parser.add_argument("--config", help="configuration of an own checkpoint")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--method", default="laplace", help="what the user sees before the round")
    parser.add_argument("--limit", type=int, help="measure only so many cases, spread over all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the boxes that are drawn")
    parser.add_argument("--json", type=Path, help="write every case to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    args = parser.parse_args()
    if args.folder is None:
        print("No folder of real cases was given, so nothing was measured; see --help.")
        return
    rounds, verdicts = [], []
    try:
        dataset = FolderDataset(args.folder)
        cases = [case for image in dataset.images() for case in dataset.load(image)]
        if args.limit and args.limit < len(cases):
            cases = [cases[i] for i in np.linspace(0, len(cases) - 1, args.limit).round().astype(int)]
        pipeline = Pipeline(Sam2Engine.load(args.model, args.config, args.device))
        for case in track(cases, "cases", console=Console(stderr=True)):
            for seed in args.seeds:
                for start in STARTS:
                    scene = see(pipeline, case, start, args.method, seed)
                    common = {"name": case.image, "value": case.value, "modality": case.modality, "group": case.group}
                    common |= {"start": start, "seed": seed}
                    rounds += [common | row for row in rounds_from(scene, pipeline, args.method, seed)]
                    verdicts += [common | row for row in judgements(scene, pipeline, args.method, seed)]
    except UncertSamError as error:
        parser.error(str(error))
    engine = pipeline.engine
    seeds = ", ".join(str(s) for s in args.seeds)
    text = f"Model {engine.name} ({engine.sha256[:12]}), {engine.device_label}, method {args.method}, seeds {seeds}, "
    text += f"{len(cases)} objects\n\n{report(rounds, verdicts)}\n"
    print(text)
    if args.markdown:
        args.markdown.write_text(text, encoding="utf-8")
    if args.json:
        record = {"model": engine.name, "sha256": engine.sha256, "method": args.method, "seeds": args.seeds}
        args.json.write_text(json.dumps(record | {"rounds": rounds, "verdicts": verdicts}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
