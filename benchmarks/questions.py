"""How many answers does a mask need, by the way of asking; and is the Dice that is expected the one that comes out?

    python benchmarks/questions.py FOLDER --runs RUNS.jsonl [--model M] [--starts box-0.5,box-0.75,gt-box] [--wrong 0.1]
        [--answers 10] [--only information,entropy] [--limit N] [--seed S] [--out NAME]

FOLDER is one of `real_cases.py`. A simulated annotator answers up to 10 questions about every object, through the same
session as the widget. Finished annotations are lines of RUNS, which the same command goes on with; `--only` splits the
ways of asking over processes, each with RUNS of its own; `--runs A.jsonl,B.jsonl --tables` makes the tables of what is
there. `--out NAME` writes NAME.md and NAME.json. Names that end in "-prompts" do without conditioning: answers are
prompts and nothing else, as in other tools.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real_cases import VESSELS
from rich.console import Console
from rich.progress import track

from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.evaluation.datasets import FolderDataset
from napari_uncertsam.evaluation.metrics.bootstrap import bootstrap_means, central_interval, correlation
from napari_uncertsam.evaluation.simulate import AnnotationRun, annotate, clicks_to_reach
from napari_uncertsam.evaluation.simulate.effort import TARGETS
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings

#: Ways of asking, in the order that they are run in.
WAYS = (
    *("information", "entropy", "largest-error", "entropy-prompts", "largest-error-prompts"),
    *("random", "ugpa", "mutual-information"),
)
STARTS = ("box-0.5", "box-0.75", "gt-box")
STEPS = (0, 1, 3, 5, 10)
#: After so many answers gains are compared with the oracle's.
AFTER = 5
#: What the widget does, and whose expectations are checked.
OURS = "information"
COMPARED = ("entropy", "entropy-prompts", "ugpa", "random", "mutual-information")
ORACLES = ("largest-error", "largest-error-prompts")
BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Line:
    """One annotation: what was run, on which case, and what came of it."""

    way: str
    case: str
    group: str
    modality: str
    run: AnnotationRun

    @property
    def key(self) -> tuple[str, str, float, str]:
        return self.way, self.run.start, self.run.wrong_rate, self.case

    def needed(self, target: float) -> int:
        """Answers to a Dice; the most allowed where it was never reached."""
        found = clicks_to_reach(self.run.dice, target)
        return len(self.run.dice) - 1 if found is None else found

    def gain(self, steps: int = AFTER) -> float:
        return self.run.dice[min(steps, len(self.run.dice) - 1)] - self.run.dice[0]


def read_lines(paths: Iterable[Path], wanted: dict[str, Any] | None) -> list[Line]:
    """Finished annotations; those of other settings than `wanted` are an error."""
    found: dict[tuple[str, str, float, str], Line] = {}
    for path in paths:
        for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            values = json.loads(text)
            if wanted is not None and values["settings"] != wanted:
                raise SystemExit(f"{path} holds runs with {values['settings']}, not {wanted}; choose another --runs.")
            about = (values[name] for name in ("way", "case", "group", "modality"))
            line = Line(*about, AnnotationRun.from_dict(values["run"]))
            found[line.key] = line
    return list(found.values())


def collect(args: argparse.Namespace, path: Path) -> None:
    """Run what is missing, one line after the other."""
    dataset = FolderDataset(args.folder)
    cases = [case for image in dataset.images() for case in dataset.load(image)]
    if args.limit and args.limit < len(cases):
        cases = [cases[i] for i in np.linspace(0, len(cases) - 1, args.limit).round().astype(int)]
    pipeline = Pipeline(Sam2Engine.load(args.model, args.config, args.device))
    used = {"sha256": pipeline.engine.sha256, "seed": args.seed, "answers": args.answers, "method": args.method}
    done = {line.key for line in read_lines([path], used)}
    todo = [
        (way, start, case)
        for way in args.only
        for start in args.starts
        for case in cases
        if (way, start, args.wrong, case.key) not in done
    ]
    with path.open("a", encoding="utf-8") as stream:
        for way, start, case in track(todo, "annotations", console=Console(stderr=True)):
            policy = way.removesuffix("-prompts")
            settings = Settings(args.model, args.method, seed=args.seed, conditioning=policy == way)
            options = {"clicks": args.answers, "wrong_rate": args.wrong, "seed": args.seed}
            run = annotate(pipeline, case, settings, policy=policy, start=start, **options)
            about = {"way": way, "case": case.key, "group": case.group, "modality": case.modality, "settings": used}
            stream.write(json.dumps(about | {"run": run.to_dict()}, allow_nan=False) + "\n")
            stream.flush()


# -- numbers ----------------------------------------------------------------------------------------------------------


def interval_of(table: NDArray[np.float64], groups: Sequence[str], seed: int, of: Any = None) -> dict[str, Any]:
    """Mean of a column, or what `of` makes of the means of all columns, with the 95 % interval over groups."""
    of = of or (lambda means: means[..., 0])
    drawn = of(bootstrap_means(table, np.random.default_rng(seed), groups))
    low, high = central_interval(drawn, 0.95)
    value = float(of(table.mean(0)))
    return {"mean": value, "interval": None if math.isnan(low) else [low, high], "n": len(table)}


def column(values: Iterable[float]) -> NDArray[np.float64]:
    return np.array(list(values), np.float64)[:, None]


def summary_of(lines: list[Line], seed: int) -> dict[str, Any]:
    """Dice after some answers, and the answers needed."""
    groups = [line.group for line in lines]
    steps = [k for k in STEPS if k < len(lines[0].run.dice)]
    return {
        "n": len(lines),
        "groups": len(set(groups)),
        "dice": {k: interval_of(column(line.run.dice[k] for line in lines), groups, seed) for k in steps},
        "needed": {
            target: interval_of(column(line.needed(target) for line in lines), groups, seed)
            | {"failed": sum(clicks_to_reach(line.run.dice, target) is None for line in lines)}
            for target in TARGETS
        },
    }


def pairs_of(lines: list[Line], a: str, b: str) -> list[tuple[Line, Line]]:
    """The same case from the same start, asked about in two ways."""
    by = {(line.way, line.run.start, line.case): line for line in lines}
    return [(x, by[b, start, case]) for (way, start, case), x in by.items() if way == a and (b, start, case) in by]


def compared(lines: list[Line], other: str, seed: int) -> dict[str, Any] | None:
    """Our way less another: paired differences, and by which share fewer answers are needed."""
    pairs = pairs_of(lines, OURS, other)
    if not pairs:
        return None
    groups = [x.group for x, _ in pairs]
    steps = [k for k in STEPS if k < len(pairs[0][0].run.dice)]
    needed = {t: np.array([[x.needed(t), y.needed(t)] for x, y in pairs], np.float64) for t in TARGETS}
    return {
        "dice": {k: interval_of(column(x.run.dice[k] - y.run.dice[k] for x, y in pairs), groups, seed) for k in steps},
        "needed": {t: interval_of(table[:, :1] - table[:, 1:], groups, seed) for t, table in needed.items()},
        "fewer": {
            t: interval_of(table, groups, seed, lambda m: 1 - m[..., 0] / np.maximum(m[..., 1], 1e-9))
            for t, table in needed.items()
        },
    }


def oracle_share(lines: list[Line], way: str, oracle: str, seed: int) -> dict[str, Any] | None:
    """Mean gain in Dice after some answers, as a share of the oracle's."""
    pairs = pairs_of(lines, way, oracle)
    if not pairs:
        return None
    table = np.array([[x.gain(), y.gain()] for x, y in pairs])
    found = interval_of(table, [x.group for x, _ in pairs], seed, lambda m: m[..., 0] / np.maximum(m[..., 1], 1e-9))
    return found | {"gain": float(table[:, 0].mean()), "oracle": float(table[:, 1].mean())}


def told(lines: list[Line], step: int | None = None) -> NDArray[np.float64]:
    """Expected Dice, ends of its interval, true Dice: a row wherever it was told, after `step` answers or any."""
    rows = [
        (q.dice, q.low, q.high, line.run.dice[k])
        for line in lines
        for k, q in enumerate(line.run.quality[: len(line.run.clicks) + 1])
        if q is not None and step in (None, k)
    ]
    return np.array(rows, np.float64).reshape(-1, 4)


def calibration_of(rows: NDArray[np.float64]) -> dict[str, Any]:
    expected, low, high, true = rows.T
    together = correlation(expected, true)
    return {
        "n": len(rows),
        "expected": float(expected.mean()),
        "true": float(true.mean()),
        "bias": float((expected - true).mean()),
        "error": float(np.abs(expected - true).mean()),
        "coverage": float(((true >= low) & (true <= high)).mean()),
        "width": float((high - low).mean()),
        "correlation": None if math.isnan(together) else together,
    }


def calibration(lines: list[Line]) -> dict[str, Any]:
    """Expected beside true Dice, by start and answers, and by what was expected."""
    ours = [line for line in lines if line.way == OURS]
    by_step, by_bin = {}, {}
    for start in dict.fromkeys(line.run.start for line in ours):
        some = [line for line in ours if line.run.start == start]
        for k in STEPS:
            if len(rows := told(some, k)):
                by_step[f"{start}, {k}"] = calibration_of(rows)
    rows = told(ours)
    for low, high in pairwise(BINS):
        chosen = rows[(rows[:, 0] >= low) & (rows[:, 0] < high + (high == 1))]
        if len(chosen):
            by_bin[f"{low:g} to {high:g}"] = calibration_of(chosen)
    return {"steps": by_step, "bins": by_bin, "all": calibration_of(rows) if len(rows) else None}


def advice(lines: list[Line], seed: int) -> dict[str, Any]:
    """What another answer brought where it was said to be worth it, and where it was not."""
    steps = [
        (line.group, said, line.run.dice[k + 1] - line.run.dice[k], line.run.dice[k])
        for line in lines
        if line.way == OURS
        for k, said in enumerate(line.run.worth_asking[: len(line.run.clicks)])
    ]
    found: dict[str, Any] = {"n": len(steps)}
    for name, wanted in (("worth it", True), ("not worth it", False)):
        some = [step for step in steps if step[1] is wanted]
        found[name] = {"n": len(some)}
        if some:
            groups = [step[0] for step in some]
            found[name] |= {
                "change": interval_of(column(step[2] for step in some), groups, seed),
                "dice": interval_of(column(step[3] for step in some), groups, seed),
                "helped by .01": float(np.mean([step[2] >= 0.01 for step in some])),
                "harmed by .01": float(np.mean([step[2] <= -0.01 for step in some])),
            }
    return found


def analyse(lines: list[Line], seed: int) -> dict[str, Any]:
    """Everything for every rate of wrong answers and part of the cases."""
    out: dict[str, Any] = {}
    for rate in sorted({line.run.wrong_rate for line in lines}):
        for part, vessels in (("all but vessels", False), ("vessels", True)):
            some = [x for x in lines if x.run.wrong_rate == rate and (x.modality in VESSELS) is vessels]
            starts = [s for s in STARTS if any(x.run.start == s for x in some)]
            starts += sorted({x.run.start for x in some} - {*STARTS})
            for start in (*starts, *(["all starts"] if len(starts) > 1 else [])):
                these = [x for x in some if start in (x.run.start, "all starts")]
                ways = {w: chosen for w in WAYS if (chosen := [x for x in these if x.way == w])}
                shares = {
                    f"{w} / {o}": oracle_share(these, w, o, seed) for o in ORACLES for w in ways if w not in ORACLES
                }
                out[f"{part}, {start}, {100 * rate:g} % wrong"] = {
                    "ways": {way: summary_of(chosen, seed) for way, chosen in ways.items()},
                    "compared": {w: found for w in COMPARED if (found := compared(these, w, seed))},
                    "oracle": {name: found for name, found in shares.items() if found},
                    "advice": advice(these, seed),
                }
            out[f"expected Dice, {part}, {100 * rate:g} % wrong"] = calibration(some)
    return out


# -- tables -----------------------------------------------------------------------------------------------------------


def cell(found: dict[str, Any], digits: int = 3, scale: float = 1) -> str:
    text = f"{scale * found['mean']:.{digits}f}"
    if found["interval"] is None:
        return text
    low, high = (scale * v for v in found["interval"])
    return f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def markdown(analysis: dict[str, Any]) -> str:
    lines: list[str] = []
    for title, part in analysis.items():
        if "steps" in part:
            lines += calibration_tables(title, part)
        elif part["ways"]:
            lines += ways_tables(title, part)
    return "\n".join(lines)


def ways_tables(title: str, part: dict[str, Any]) -> list[str]:
    first = next(iter(part["ways"].values()))
    names = [f"NoC@{100 * t:g} (never)" for t in first["needed"]]
    rows = [
        [f"{way} (n {s['n']}, {s['groups']} groups)", *(cell(v) for v in s["dice"].values())]
        + [f"{cell(v, 2)}, {v['failed']}" for v in s["needed"].values()]
        for way, s in part["ways"].items()
    ]
    lines = [f"### {title}\n", *table(["Dice after", *map(str, first["dice"]), *names], rows)]
    if part["compared"]:
        heads = [f"{OURS} less", *(f"Dice after {k}" for k in first["dice"])]
        heads += [f"NoC@{100 * t:g}" for t in first["needed"]] + [f"fewer to {t:g}, %" for t in first["needed"]]
        rows = [
            [way, *(cell(v) for v in c["dice"].values()), *(cell(v, 2) for v in c["needed"].values())]
            + [cell(v, 0, 100) for v in c["fewer"].values()]
            for way, c in part["compared"].items()
        ]
        lines += table(heads, rows)
    if part["oracle"]:
        rows = [[n, f"{o['gain']:.3f}", f"{o['oracle']:.3f}", cell(o, 0, 100)] for n, o in part["oracle"].items()]
        lines += table([f"gain after {AFTER} answers", "this", "oracle", "share, %"], rows)
    said = part["advice"]
    rows = [
        [name, f"{v['n']} of {said['n']}", cell(v["dice"]), cell(v["change"], 4)]
        + [f"{100 * v[by]:.0f} %" for by in ("helped by .01", "harmed by .01")]
        for name, v in said.items()
        if name != "n" and v["n"]
    ]
    heads = ["another answer", "steps", "Dice before", "change by it", "better by .01", "worse by .01"]
    return lines + (table(heads, rows) if rows else [])


def calibration_tables(title: str, part: dict[str, Any]) -> list[str]:
    if part["all"] is None:
        return []
    heads = [
        "n",
        "expected",
        "true",
        "expected - true",
        "mean error",
        "in the 90 % interval",
        "its width",
        "correlation",
    ]
    lines = [f"### {title}\n"]
    for name in ("steps", "bins"):
        rows = [*part[name].items(), *([("all", part["all"])] if name == "steps" else [])]
        cells = [
            [key, str(v["n"])]
            + [f"{v[k]:.3f}" for k in ("expected", "true", "bias", "error")]
            + [f"{100 * v['coverage']:.0f} %", f"{v['width']:.3f}"]
            + ["-" if v["correlation"] is None else f"{v['correlation']:.2f}"]
            for key, v in rows
        ]
        lines += table(["start, answers" if name == "steps" else "expected Dice", *heads], cells)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="with images/ and masks/")
    parser.add_argument("--runs", default="questions.jsonl", help="files of annotations; new ones go to the first")
    parser.add_argument("--tables", action="store_true", help="run nothing, make the tables of what --runs hold")
    parser.add_argument("--model", default="bundled", help="a name of `napari-uncertsam models list`, or a path")
    parser.add_argument("--config", help="configuration of an own checkpoint")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--method", default=Settings().method)
    parser.add_argument("--starts", default=",".join(STARTS))
    parser.add_argument("--only", default=",".join(WAYS), help="ways of asking")
    parser.add_argument("--wrong", type=float, default=0.0, help="how often the annotator errs")
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--limit", type=int, help="only so many cases, spread over all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write NAME.md and NAME.json")
    args = parser.parse_args()
    args.starts, args.only = args.starts.split(","), args.only.split(",")
    paths = [Path(name) for name in args.runs.split(",")]
    if args.folder is None and not args.tables:
        print("No folder of real cases was given, so nothing was measured; see --help.")
        return
    torch.set_num_threads(1)
    try:
        if not args.tables:
            collect(args, paths[0])
    except UncertSamError as error:
        parser.error(str(error))
    analysis = analyse(read_lines(paths, None), args.seed)
    text = markdown(analysis)
    print(text)
    if args.out:
        args.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
        args.out.with_suffix(".json").write_text(
            json.dumps(analysis, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
