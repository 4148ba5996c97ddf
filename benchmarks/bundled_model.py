"""What a bundled model is judged by: masks, corrections, calibration, propagation and speed, on real images.

    python benchmarks/bundled_model.py FOLDER --weights FILE[,FILE...] [--config YAML[,YAML...]] --out DIR
        [--names new,previous] [--known CASES.jsonl] [--volumes] [--worst N] [--draws 3] [--seed 0] [--limit N]

FOLDER holds ``images/NAME.png`` and ``masks/NAME.png``, or a folder ``2d`` that does; with --volumes, NIfTI files in
its ``volumes/images`` and ``volumes/masks`` as well. It is for measuring: never train, tune or choose on it. Finished
objects are lines of ``DIR/cases.jsonl``, which the same command goes on with; a model is known there by the hash of its
file, so that a second run measures what is new only. ``results.json`` and ``results.md`` are made of them. GrabCut, the
random walker and the filled box get the same boxes and clicks. Without FOLDER nothing is measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bundled.classical import CLASSICAL
from bundled.measuring import OVERLAPS, Plan, line_of, measure_classical, measure_model
from bundled.sheet import draw_sheet, worst_of
from bundled.speed import measure_speed, pick_case
from bundled.tables import analyse, analyse_volumes, markdown
from bundled.volumes import key_of, measure_volume, volume_cases
from real_cases import VESSELS
from rich.console import Console
from rich.progress import track

from napari_uncertsam.checkpoints import ResolvedCheckpoint, resolve
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.errors import InputError, UncertSamError
from napari_uncertsam.evaluation.benchmark import spread
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.datasets import FolderDataset
from napari_uncertsam.pipeline import Pipeline


class Lines:
    """Finished objects, one line of JSON each; a line that was cut off is dropped."""

    def __init__(self, path: Path, plan: Plan, known: Iterable[Path] = ()) -> None:
        self.path, self._plan = path, plan
        self.found: dict[tuple[str, str, str], dict[str, Any]] = {}
        for other in known:
            if not other.is_file():
                raise InputError(f"There is no file {other} of finished objects; give --known another.")
            self._read(other, other.read_bytes())
        content = path.read_bytes() if path.is_file() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
        self._read(path, content[:whole])

    def _read(self, path: Path, content: bytes) -> None:
        for number, text in enumerate(content.splitlines(), 1):
            try:
                line = json.loads(text)
                key = line["kind"], line["who"], line["case"]
                if line["settings"] == self._plan.record:
                    self.found[key] = line
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"Line {number} of {path} is damaged; remove it, or choose another --out.") from error

    def finish(self, kind: str, who: str, todo: Iterable[tuple[str, Callable[[], dict[str, Any]]]], title: str) -> None:
        """Compute and keep what is missing, by the keys of the cases."""
        missing = [(key, make) for key, make in todo if (kind, who, key) not in self.found]
        for key, make in track(missing, title, console=Console(stderr=True)) if missing else ():
            line = make()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            self.found[kind, who, key] = line

    def of(self, kind: str, keys: Iterable[str]) -> list[dict[str, Any]]:
        """In the order of the keys."""
        order = {key: number for number, key in enumerate(keys)}
        lines = [line for (k, _, key), line in self.found.items() if k == kind and key in order]
        return sorted(lines, key=lambda line: (order[line["case"]], line["who"]))


def load(weights: str, config: str | None, device: str | None) -> tuple[Sam2Engine, Path]:
    """A model as the product runs its bundled one, from any files."""
    found = resolve(weights, config)
    bundled = ResolvedCheckpoint("bundled", found.path, found.config)
    return Sam2Engine.from_checkpoint(bundled, device), found.path


def load_cases(folder: Path, limit: int | None) -> list[Case]:
    root = folder if (folder / "images").is_dir() or not (folder / "2d").is_dir() else folder / "2d"
    dataset = FolderDataset(root)
    cases = [case for image in dataset.images() for case in dataset.load(image)]
    if not cases:
        raise InputError(f"No mask in {root} holds an object, so there is nothing to compare with.")
    if limit is None:
        return cases
    kept = set(spread([case.key for case in cases], limit))
    return [case for case in cases if case.key in kept]


def find_volumes(folder: Path) -> Path:
    for place in (folder / "volumes", folder.resolve().parent / "volumes"):
        if (place / "images").is_dir() and (place / "masks").is_dir():
            return place
    raise InputError(
        f"{folder} has no volumes/images and volumes/masks; leave --volumes out, or give the folder above."
    )


def measure_objects(lines: Lines, engines: dict[str, Sam2Engine], cases: list[Case], plan: Plan) -> None:
    for title, engine in engines.items():
        pipeline, who = Pipeline(engine), engine.sha256
        todo = [(c.key, lambda c=c, p=pipeline, w=who: line_of(c, w, plan, measure_model(p, c, plan))) for c in cases]
        lines.finish("object", who, todo, title)
    for name in CLASSICAL:
        todo = [(c.key, lambda c=c, n=name: line_of(c, n, plan, measure_classical(n, c, plan))) for c in cases]
        lines.finish("object", name, todo, name)


def measure_volumes(lines: Lines, engines: dict[str, Sam2Engine], folder: Path, plan: Plan) -> list[str]:
    cases = volume_cases(find_volumes(folder))
    for title, engine in engines.items():
        pipeline, who = Pipeline(engine), engine.sha256
        todo = [(key_of(c), lambda c=c, p=pipeline, w=who: measure_volume(p, c, w, plan)) for c in cases]
        lines.finish("volume", who, todo, f"{title}, volumes")
    return [key_of(case) for case in cases]


def draw_worst(
    lines: Lines, engines: dict[str, Sam2Engine], cases: list[Case], plan: Plan, args: argparse.Namespace
) -> None:
    from PIL import Image

    by_key = {case.key: case for case in cases}
    for title, engine in engines.items():
        own = [line for line in lines.of("object", by_key) if line["who"] == engine.sha256]
        chosen = [by_key[line["case"]] for line in worst_of(own, args.worst_prompt, args.worst)]
        sheet = draw_sheet(Pipeline(engine), chosen, args.worst_prompt, plan)
        Image.fromarray(sheet).save(args.out / f"worst-{title}-{args.worst_prompt}.png")


def run(args: argparse.Namespace) -> None:
    plan = Plan(args.seed, args.draws)
    cases = load_cases(args.folder, args.limit)
    configs = args.config or [None] * len(args.weights)
    loaded = {
        name: load(weights, config, args.device)
        for name, weights, config in zip(args.names, args.weights, configs, strict=True)
    }
    engines = {name: engine for name, (engine, _) in loaded.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    lines = Lines(args.out / "cases.jsonl", plan, args.known)
    measure_objects(lines, engines, cases, plan)
    columns = {name: engine.sha256 for name, engine in engines.items()}
    document: dict[str, Any] = {
        "settings": plan.record,
        "models": {n: {"sha256": e.sha256, "bytes": path.stat().st_size} for n, (e, path) in loaded.items()},
    }
    rows = lines.of("object", [case.key for case in cases])
    document["objects"] = analyse(rows, columns | {name: name for name in CLASSICAL}, args.seed)
    if args.volumes:
        volumes = lines.of("volume", measure_volumes(lines, engines, args.folder, plan))
        document["volumes"] = analyse_volumes(volumes, columns, args.seed)
    if args.speed:
        boxed = [case for case in cases if case.modality not in VESSELS]
        document["speed"] = measure_speed(engines, pick_case(boxed or cases))
    if args.worst:
        draw_worst(lines, engines, cases, plan, args)
    (args.out / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (args.out / "results.md").write_text(markdown(document), encoding="utf-8")
    print(markdown(document))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed: Any = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("folder", type=Path, nargs="?", help="with images/ and masks/, or with 2d/ (and volumes/)")
    parser.add_argument("--weights", type=listed, default=["bundled"], help="one or more files, or names of models")
    parser.add_argument("--config", type=listed, help="one for each of --weights; the .yaml beside the file without it")
    parser.add_argument("--names", type=listed, help="titles of the columns; by default new, previous for two")
    parser.add_argument("--out", type=Path, help="folder of cases.jsonl, results.json and results.md")
    parser.add_argument(
        "--known",
        type=lambda text: [Path(p) for p in text.split(",")],
        default=[],
        help="further files of finished objects",
    )
    parser.add_argument("--volumes", action="store_true", help="propagate through the volumes too")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="draw the N worst of each modality")
    prompts = ["tight", *(f"box-{overlap:g}" for overlap in OVERLAPS), "click", "random"]
    parser.add_argument("--worst-prompt", choices=prompts, default="tight")
    parser.add_argument("--draws", type=int, default=3, help="boxes drawn at each overlap")
    parser.add_argument("--limit", type=int, help="measure only so many objects, spread over all")
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="measure no times")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without it")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.folder is None:
        print("No folder of real cases was given, so nothing was measured; see --help.")
        return
    count = len(args.weights)
    args.names = args.names or (["new", "previous"] if count == 2 else [Path(w).stem for w in args.weights])
    if args.out is None:
        parser.error("give --out the name of a folder for the results")
    if args.config and len(args.config) != count:
        parser.error(f"give one --config for each of the {count} --weights, not {len(args.config)}")
    if len(args.names) != count or len(set(args.names) | set(CLASSICAL)) != count + len(CLASSICAL):
        parser.error(f"give {count} different --names, one for each of --weights, and none of {', '.join(CLASSICAL)}")
    if args.draws < 1 or args.seed < 0 or args.worst < 0:
        parser.error("--draws is at least 1, --seed and --worst at least 0")
    try:
        run(args)
    except (UncertSamError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
