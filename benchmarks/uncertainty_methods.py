"""Every uncertainty method on a folder of images with true masks: means, and what differs from the plain entropy.

    python benchmarks/uncertainty_methods.py FOLDER [--out DIR] [--methods A,B:MEASURE] [--prompts P,Q] [--limit N]

FOLDER is as for ``real_cases.py``. Runs `evaluate` with every method whose fitted part there is, each with all of its
measures, and prints what its ``results.json`` says as Markdown; with --out an interrupted run goes on, and a finished
one is printed again without a prediction. Vessel trees (Fundus, OCTA) stand apart. Methods that refine a mask are also
told beside the upper bound of a second look: the true mask as a prompt. Without FOLDER nothing is measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from real_cases import VESSELS

from napari_uncertsam.checkpoints import find_part, missing_part
from napari_uncertsam.cli.bars import Bar
from napari_uncertsam.engine import Engine, Sam2Engine
from napari_uncertsam.errors import UncertSamError
from napari_uncertsam.estimators import ESTIMATORS
from napari_uncertsam.evaluation.benchmark import evaluate
from napari_uncertsam.evaluation.cases import Dataset
from napari_uncertsam.evaluation.datasets import FolderDataset
from napari_uncertsam.evaluation.report.differences import differences_table
from napari_uncertsam.evaluation.report.tables import Cell, Table, measures_table
from napari_uncertsam.evaluation.results import Results
from napari_uncertsam.evaluation.settings import EvaluationSettings, full_name
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.refinement.methods import METHODS, make_method, parse_method

UNCERTAINTY = ("dice", "rho_roi", "rho_hard_roi", "ause_roi", "nll_roi", "brier_roi", "ece_roi")
MASKS = ("dice", "iou", "biou_2", "biou_1", "hd95", "nsd")
REFERENCE, UPPER_BOUND = "entropy", "gt-mask"
LEGEND = (
    "Mean over objects (95 % interval, groups resampled); **bold** is the best mean. Differences are paired, of method "
    "less entropy on the same objects, errors in per cent of entropy's. \N{CHECK MARK} significantly better and "
    "\N{BALLOT X} significantly worse than entropy: the 95 % interval of the difference excludes 0; with a star, after "
    "Holm's correction for the number of methods too."
)


def all_methods() -> list[str]:
    """Every method, and once more for every further measure that it has."""
    return [
        name if measure == make_method(name).measures[0] else f"{name}:{measure}"
        for name in METHODS
        for measure in make_method(name).measures
    ]


def usable(methods: Sequence[str], engine: Engine) -> list[str]:
    """Methods whose fitted part is here; says which are left out. Entropy, the reference, is always the first."""
    kept = [REFERENCE]
    for method in dict.fromkeys(map(full_name, methods)):
        needs = make_method(parse_method(method)[0]).needs
        if needs is not None and find_part(needs, engine.sha256) is None:
            print(f"Left out {method}: {missing_part(needs, engine.name)}", file=sys.stderr)
        elif method != REFERENCE:
            kept.append(method)
    return kept


def run(dataset: Dataset, pipeline: Pipeline, settings: EvaluationSettings, out: Path, limit: int | None) -> Results:
    with Bar(f"{len(settings.methods)} methods, {len(settings.prompts)} prompts") as bar:
        return evaluate(
            dataset,
            pipeline,
            settings,
            out,
            limit=limit,
            report=lambda progress: bar.report(progress.done, progress.total),
            say=lambda sentence: print(sentence, file=sys.stderr),
        )


def told(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    sign = {"better": "\N{CHECK MARK}", "worse": "\N{BALLOT X}"}.get(cell.verdict, "") + ("*" if cell.holds else "")
    parts = [text, f"({cell.interval})" if cell.interval else "", f"[{cell.remark}]" if " cases" in cell.remark else ""]
    return " ".join(part for part in (*parts, sign) if part)


def markdown(table: Table, prompt: str, methods: Sequence[str]) -> str:
    """The lines of a report's table that are of a prompt and some methods."""
    heads = [f"{column.title}{f' [{column.unit}]' if column.unit else ''} {column.arrow}" for column in table.columns]
    titles = " | ".join(head.strip().replace("|", "\\|") for head in heads)
    lines = [f"| method | {titles} |", "|---|" + "---:|" * len(heads)]
    for line in table.lines:
        said, method = line.heads
        if said == prompt and method in methods:
            lines.append(f"| {method} | " + " | ".join(map(told, line.cells)) + " |")
    return "\n".join(lines)


def tables(results: Results, methods: Sequence[str], names: Sequence[str], title: str) -> str:
    """For every prompt: the means of some methods, and their differences from the reference."""
    means, parts = measures_table(results, title, names), []
    differences = differences_table(results, names)
    for prompt in results.prompts:
        parts.append(f"### {title}, {prompt}\n\n{markdown(means, prompt, methods)}")
        if differences is not None:
            parts.append(f"Differences from {REFERENCE}\n\n{markdown(differences, prompt, methods)}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="with images/ and masks/")
    parser.add_argument("--out", type=Path, help="keep the evaluation in this folder; go on with what it holds")
    parser.add_argument("--methods", help="separated by commas, METHOD or METHOD:MEASURE; all there are without it")
    parser.add_argument("--prompts", default="gt-box,box-0.75,box-0.5", help="separated by commas")
    parser.add_argument("--model", default="bundled", help="a name of `napari-uncertsam models list`, or a path")
    parser.add_argument("--config", help="configuration of an own checkpoint")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--limit", type=int, help="measure only so many images, spread over all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.folder is None:
        print("No folder of real cases was given, so nothing was measured; see --help.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch)
        try:
            dataset = FolderDataset(args.folder)
            engine = Sam2Engine.load(args.model, args.config, args.device)
            methods = usable(args.methods.split(",") if args.methods else all_methods(), engine)
            refining = [m for m in methods if parse_method(m)[0] not in ESTIMATORS]
            shared = {"model": args.model, "seed": args.seed, "apart": VESSELS, "maps": False}
            pipeline = Pipeline(engine)
            wanted = EvaluationSettings.of_names(tuple(methods), tuple(args.prompts.split(",")), **shared)
            results = run(dataset, pipeline, wanted, out / "methods", args.limit)
            said = results.document["dataset"]
            print(
                f"Model {engine.name} ({engine.sha256[:12]}), {engine.device_label}, seed {args.seed}, {said['cases']} "
                f"objects in {said['images']} images, {said['groups']} groups\n\n{LEGEND}\n"
            )
            print(tables(results, methods, UNCERTAINTY, "Uncertainty"))
            if refining:
                print("\n" + tables(results, [REFERENCE, *refining], MASKS, "Masks"))
                bound = EvaluationSettings.of_names((REFERENCE,), (UPPER_BOUND,), **shared)
                found = run(dataset, pipeline, bound, out / UPPER_BOUND, args.limit)
                print("\n" + tables(found, [REFERENCE], MASKS, "Upper bound"))
        except UncertSamError as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
