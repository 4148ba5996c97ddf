"""One box on the middle slice of each object, propagated through a volume: how well, and where to correct.

    python benchmarks/propagation.py [--data FOLDER] [--out FILE.json] [--draws 3]

For every object: Dice in 3D before any correction; Spearman's correlation over its slices of the uncertainty with the
error 1 - Dice; then one slice is corrected by a simulated annotator and the neighbouring spans are propagated again.
Which slice: the most uncertain one, the one whose correction promises most, random ones (the mean of some draws), and,
as a bound, the worst one by the truth. The annotator draws a tight box and makes up to three clicks at the largest
errors; where the object is not, everything is erased. Without --data: the sample CT that ships with the package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr

from napari_uncertsam import io
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box, Point
from napari_uncertsam.propagating import propagate
from napari_uncertsam.session import Session
from napari_uncertsam.volume import Volume

Mask = NDArray[np.bool_]
#: Objects of fewer slices, or of fewer pixels on their middle slice, are left out.
FEWEST_SLICES, FEWEST_PIXELS = 4, 30
#: Labels of the sample CT that a box does not define: the body, and the tree of vessels.
NOT_BOXED = (1, 7)
CLICKS = 3


@dataclass(frozen=True)
class Case:
    name: str
    label: int
    volume: Volume
    truth: Mask

    @property
    def slices(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.truth.any((1, 2)))

    @property
    def middle(self) -> int:
        slices = self.slices
        return int(slices[np.argmin(np.abs(slices - slices.mean()))])


def cases(folder: Path | None) -> Iterator[Case]:
    sources = [("sample CT", io.sample_path("abdomen_ct"), io.sample_path("abdomen_labels"))]
    if folder is not None:
        paths = sorted((folder / "images").glob("*.nii.gz"))
        sources += [(p.name.removesuffix(".nii.gz"), p, folder / "masks" / p.name) for p in paths]
    for name, image, mask in sources:
        volume, labels = io.read(image), np.asarray(io.read_labels(mask).array)
        for label in np.unique(labels[labels > 0]):
            case = Case(name, int(label), volume, labels == label)
            skipped = name == "sample CT" and label in NOT_BOXED
            if skipped or len(case.slices) < FEWEST_SLICES or case.truth[case.middle].sum() < FEWEST_PIXELS:
                continue
            yield case


def dice(a: Mask, b: Mask) -> float:
    total = int(a.sum() + b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def predict(session: Session, pipeline: Pipeline) -> None:
    request = session.request
    if request is not None and not session.is_current:
        session.deliver(pipeline.predict(session.volume, request))


def spread(session: Session, pipeline: Pipeline) -> None:
    request = session.propagation_request()
    session.deliver_propagated(request, list(propagate(pipeline, session.volume, request)))
    session.finish_propagation(request)


def correct(session: Session, pipeline: Pipeline, index: int, truth: Mask) -> None:
    """What the annotator does on a slice."""
    session.go_to(0, index)
    if not truth.any():
        session.paint(0, index, np.zeros(truth.shape, np.uint16))
        return
    session.set_box(Box.of_mask(truth))
    predict(session, pipeline)
    for _ in range(CLICKS):
        wrong = (session.labels[index] > 0) != truth
        depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
        if depth.max() < 2:
            break
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        session.add_point(Point(float(y), float(x), bool(truth[y, x])))
        predict(session, pipeline)


def measure(case: Case, pipeline: Pipeline, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    def begun() -> Session:
        session = Session(case.volume, Settings(n_suggestions=0))
        session.go_to(0, case.middle)
        session.set_box(Box.of_mask(case.truth[case.middle]))
        predict(session, pipeline)
        spread(session, pipeline)
        return session

    session = begun()
    mask = session.labels > 0
    facts = [f for f in session.slice_facts() if f.kind == "propagated"]
    indices = [f.slice_index for f in facts]
    errors = np.array([1 - dice(mask[i], case.truth[i]) for i in indices])
    inside = np.array([case.truth[i].any() for i in indices])
    uncertainty = np.array([f.uncertainty for f in facts])
    estimate = session.volume_estimate()
    true_ml = float(case.truth.sum() * np.prod(case.volume.spacing) / 1000)
    row: dict[str, Any] = {
        "name": case.name,
        "label": case.label,
        "slices": [int(case.slices[0]), int(case.slices[-1])],
        "found": [int(min(indices)), int(max(indices))] if indices else [],
        "dice_middle": dice(mask[case.middle], case.truth[case.middle]),
        "dice_3d": dice(mask, case.truth),
        "rho": float(spearmanr(uncertainty, errors)[0]) if len(set(errors)) > 1 else None,
        "rho_inside": float(spearmanr(uncertainty[inside], errors[inside])[0]) if inside.sum() > 3 else None,
        "ml": None if estimate is None else [estimate.ml, estimate.low_ml, estimate.high_ml],
        "true_ml": true_ml,
    }
    if not indices:
        return row
    chosen = {
        "uncertain": [session.next_to_review()],
        "promising": [session.most_useful_slice()],
        "random": [int(i) for i in rng.choice(indices, min(draws, len(indices)), replace=False)],
        "worst": [indices[int(errors.argmax())]],
    }
    for policy, slots in chosen.items():
        found = []
        for slot in slots:
            session = begun()
            correct(session, pipeline, slot, case.truth[slot])
            spread(session, pipeline)
            found.append(dice(session.labels > 0, case.truth))
        row[policy] = {"slices": slots, "dice_3d": float(np.mean(found))}
    return row


def line(row: dict[str, Any]) -> str:
    after = "  ".join(f"{row[p]['dice_3d']:.3f}" for p in ("uncertain", "promising", "random", "worst") if p in row)
    rho = " ".join("  -  " if row[k] is None else f"{row[k]:+.2f}" for k in ("rho", "rho_inside"))
    low, high = row["ml"][1:]
    ml = f"{row['ml'][0]:.0f} ({low:.0f}-{high:.0f}) of {row['true_ml']:.0f} mL"
    place = f"{row['name']:22s} {row['label']:2d}  {row['slices']} {row['found']}"
    return f"{place}  {row['dice_middle']:.3f} {row['dice_3d']:.3f}  {rho}  {after}  {ml}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with images/*.nii.gz and masks/*.nii.gz")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    pipeline, rng = Pipeline(Sam2Engine.load(args.model), cache_bytes=4 << 30), np.random.default_rng(0)
    print(
        "case, true slices, found, Dice middle, 3D, rho all, rho inside, 3D after uncertain, promising, random, worst"
    )
    rows = []
    for case in cases(args.data):
        rows.append(measure(case, pipeline, args.draws, rng))
        print(line(rows[-1]), flush=True)
        if args.out is not None:
            args.out.write_text(json.dumps(rows, indent=1))
    for title, chosen in (
        ("sample CT", [r for r in rows if r["name"] == "sample CT"]),
        ("real CT", [r for r in rows if r["name"].startswith("ct_")]),
        ("all", rows),
    ):
        full = [r for r in chosen if "random" in r]
        if not full:
            continue
        keys = ("uncertain", "promising", "random", "worst")
        after = ", ".join(f"{k} {np.mean([r[k]['dice_3d'] for r in full]):.3f}" for k in keys)
        rho = np.mean([r["rho"] for r in full if r["rho"] is not None])
        rho_in = np.mean([r["rho_inside"] for r in full if r["rho_inside"] is not None])
        print(
            f"{title}: 3D {np.mean([r['dice_3d'] for r in full]):.3f} ({len(full)} objects), "
            f"rho {rho:+.2f}, inside {rho_in:+.2f}; after {after}"
        )


if __name__ == "__main__":
    main()
