"""Write a source of UncertSAM into UncertSAM's layout, and go on where an interrupted run ended."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_uncertsam import io
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets import rle
from napari_uncertsam.evaluation.datasets.known import Known, find_known
from napari_uncertsam.evaluation.datasets.pairs import Pair
from napari_uncertsam.evaluation.datasets.prepare.samples import Options, samples
from napari_uncertsam.evaluation.datasets.prepare.sources import source_pairs
from napari_uncertsam.evaluation.datasets.uncertsam import ANNOTATIONS

_JOURNAL = "progress.jsonl"


@dataclass(frozen=True)
class Prepared:
    """What was written.

    Parameters
    ----------
    folder : Path
        Of the split.
    images, masks : int
        How many.
    empty : int
        Source images without an object that is large enough; they are left out.
    skipped : mapping of str to str
        Source images that could not be used, and why.
    """

    folder: Path
    images: int
    masks: int
    empty: int
    skipped: Mapping[str, str]


def prepare(
    name: str,
    raw: str | Path,
    out: str | Path,
    *,
    split: str = "test",
    options: Options | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:
    """Prepare one split of one of UncertSAM's eight sources.

    An interrupted run is taken up by the same call, and ends with the same files as one that was not interrupted.

    Parameters
    ----------
    name : str
        A name of :data:`KNOWN`.
    raw : path
        The folder with the publisher's files, extracted.
    out : path
        The folder above all datasets; the split is written to ``<out>/<DATASET>/<split>``.
    split : str
        As in :func:`source_pairs`.
    options : Options, optional
    overwrite : bool
        Whether a split that is there already is replaced.
    skip_bad : bool
        Whether damaged files and masks that do not fit are left out, not an error.
    report : callable
        Called with the number of source images that are done, and of all.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If the source is not as published, a file is damaged, or the split is there already.
    """
    known, options = find_known(name), options or Options()
    if known.benchmark != "UncertSAM":
        raise InputError(f"{known.title} needs no preparation; open it as {known.key!r}, or by its folder.")
    rle.require()
    pairs = source_pairs(known, Path(raw), split)
    folder = Path(out) / known.folder / split
    journal = _Journal(folder, _fingerprint(known, split, pairs, options), overwrite)
    for done, pair in enumerate(pairs):
        report(done, len(pairs))
        if done >= len(journal.entries):
            journal.add(_entry(known, pair, options, folder, journal.next_image, skip_bad))
    report(len(pairs), len(pairs))
    return _finish(folder, journal)


def _entry(known: Known, pair: Pair, options: Options, folder: Path, first: int, skip_bad: bool) -> dict[str, Any]:
    """Write the pictures of one pair and describe them."""
    images: list[dict[str, Any]] = []
    try:
        for sample in samples(known, pair, options):
            number = first + len(images)
            sample.write(folder / "images" / f"{number:08d}.jpg", options.quality)
            rows = [{"area": int(np.count_nonzero(mask)), "segmentation": rle.encode(mask)} for mask in sample.masks]
            images.append({"source": sample.source, "group": sample.group, "masks": rows})
    except InputError as error:
        if not skip_bad:
            raise
        for number in range(first, first + len(images)):
            (folder / "images" / f"{number:08d}.jpg").unlink()
        return {"name": pair.name, "images": [], "problem": str(error)}
    return {"name": pair.name, "images": images}


def _finish(folder: Path, journal: _Journal) -> Prepared:
    """Write ``dataset.json`` from the journal, which is then no longer needed."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for entry in journal.entries:
        for image in entry["images"]:
            number, (height, width) = len(images) + 1, image["masks"][0]["segmentation"]["size"]
            images.append(
                {"id": number, "file_name": f"{number:08d}.jpg", "height": height, "width": width}
                | {"source": image["source"], "group": image["group"]}
            )
            annotations += [
                {"id": len(annotations) + i, "image_id": number, **row} for i, row in enumerate(image["masks"], 1)
            ]
    if not images:
        raise InputError(f"No image of the source has an object to keep, so {folder} has no annotations.")
    for half in (folder / "images").glob(".*.jpg"):  # of a run that was killed while it wrote
        half.unlink()
    with io.atomic(folder / ANNOTATIONS, overwrite=True) as temporary:
        temporary.write_text(json.dumps({"images": images, "annotations": annotations}) + "\n", encoding="utf-8")
    journal.path.unlink()
    problems = {entry["name"]: entry["problem"] for entry in journal.entries if "problem" in entry}
    empty = sum(not entry["images"] for entry in journal.entries) - len(problems)
    return Prepared(folder, len(images), len(annotations), empty, problems)


def _fingerprint(known: Known, split: str, pairs: list[Pair], options: Options) -> str:
    """What has to be the same for a run to be taken up."""
    content = json.dumps([known.key, split, asdict(options), [[str(p.image), str(p.mask)] for p in pairs]])
    return hashlib.sha256(content.encode()).hexdigest()


class _Journal:
    """One line per source image that is done, behind one that says what is being done.

    Parameters
    ----------
    folder : Path
        Of the split.
    fingerprint : str
    overwrite : bool
    """

    def __init__(self, folder: Path, fingerprint: str, overwrite: bool) -> None:
        self.path = folder / ANNOTATIONS.parent / _JOURNAL
        self.entries: list[dict[str, Any]] = []
        if (folder / ANNOTATIONS).exists() and not overwrite:
            raise InputError(f"{folder} is prepared already; replace it with --overwrite, or choose another --out.")
        try:
            for part in (folder / "images", self.path.parent):
                part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be made into a folder: {error.strerror}; choose another --out."
            ) from error
        if (folder / ANNOTATIONS).exists() or not self._read(fingerprint):
            self._start(folder, fingerprint, overwrite)
        #: Number of the next picture; they start at 1.
        self.next_image = 1 + sum(len(entry["images"]) for entry in self.entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Note that a source image is done."""
        self.entries.append(entry)
        self.next_image += len(entry["images"])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _read(self, fingerprint: str) -> bool:
        """Take up a run that did the same; cuts off a last line that was not written to its end."""
        if not self.path.is_file():
            return False
        lines = self.path.read_text(encoding="utf-8").split("\n")
        if lines[0] != fingerprint:
            return False
        whole = lines[1:-1]  # what follows the last line break is cut off, or nothing
        try:
            self.entries = [json.loads(line) for line in whole]
        except ValueError:
            return False
        self.path.write_text("\n".join([fingerprint, *whole, ""]), encoding="utf-8")
        return True

    def _start(self, folder: Path, fingerprint: str, overwrite: bool) -> None:
        ours = self.path.exists() or (folder / ANNOTATIONS).exists()
        old = [path for path in (folder / "images").iterdir() if not path.name.startswith(".")]
        if old and not (ours or overwrite):
            raise InputError(f"{folder / 'images'} holds files that are not from a preparation; choose another --out.")
        (folder / ANNOTATIONS).unlink(missing_ok=True)
        for path in old:
            if re.fullmatch(r"\d{8}\.jpg", path.name):
                path.unlink()
        self.path.write_text(fingerprint + "\n", encoding="utf-8")
