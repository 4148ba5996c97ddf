"""UncertSAM's published layout: ``<DATASET>/<split>/images/%08d.jpg`` with ``annotations/dataset.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_uncertsam import io
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.evaluation.datasets.known import recognise
from napari_uncertsam.evaluation.datasets.pairs import pick
from napari_uncertsam.evaluation.datasets.rle import decode

#: Where the annotations lie in the folder of a split.
ANNOTATIONS = Path("annotations") / "dataset.json"


class UncertSamDataset:
    """One split of one dataset of UncertSAM; each annotation with an area is a case.

    Slices of one patient cannot be told in the published files, so there every image is a group of its own. Where
    ``dataset.json`` has a list ``images`` with ``id`` and ``group``, as `prepare` writes it, those are the groups.

    Parameters
    ----------
    root : path
        The folder of the split, which holds images/ and annotations/.

    Raises
    ------
    InputError
        If there is no ``annotations/dataset.json``, or it is damaged.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._known = recognise(self.root.resolve().parent.name)
        annotations, self._groups = _read(self.root / ANNOTATIONS)
        self._rows: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(annotations, key=lambda row: int(row["image_id"])):
            self._rows.setdefault(f"{int(row['image_id']):08d}", []).append(row)
        if not self._rows:
            raise InputError(
                f"{self.root / ANNOTATIONS} has no annotation with an area, so there is nothing to evaluate."
            )

    @property
    def name(self) -> str:
        """Title of the dataset, or name of its folder where it is none of UncertSAM's."""
        return self._known.title if self._known else self.root.resolve().parent.name

    def images(self) -> Sequence[str]:
        """Names of the images that have an annotation, such as "00000012", sorted."""
        return list(self._rows)

    def files(self, image: str) -> Sequence[Path]:
        """The picture and the file of all annotations."""
        pick(self._rows, image, self.root)
        return [self.root / "images" / f"{image}.jpg", self.root / ANNOTATIONS]

    @property
    def without_mask(self) -> Sequence[str]:
        """None: pictures without an annotation belong to the benchmark too."""
        return ()

    def load(self, image: str) -> Sequence[Case]:
        """The cases of one image in the order of the file.

        Raises
        ------
        InputError
            If there is no such image, it or an annotation is damaged, or a mask has another shape.
        """
        rows = pick(self._rows, image, self.root)
        volume = io.read(self.root / "images" / f"{image}.jpg")
        group = self._groups.get(int(image), image)
        modality = self._known.modality if self._known else "unknown"
        cases = []
        for row in rows:
            try:
                truth = decode(row["segmentation"])
            except (InputError, KeyError) as error:
                raise InputError(
                    f"Annotation {row['id']} of {self.root / ANNOTATIONS} cannot be read: {error}"
                ) from error
            cases.append(Case(image, row["id"], volume, truth, group=group, modality=modality))
        return cases


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The annotations with an area, and the groups of the images that are given one."""
    if not path.is_file():
        raise InputError(f"There is no {path}; give a folder in UncertSAM's layout.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [{**row, "id": int(row["id"])} for row in content["annotations"] if float(row["area"]) > 0]
        seen = {(int(row["image_id"]), row["id"]) for row in rows}
        groups = {int(row["id"]): str(row["group"]) for row in content.get("images", []) if "group" in row}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged or another kind of file: it needs a list of annotations, each with id, image_id, area "
            "and segmentation."
        ) from error
    if len(seen) < len(rows):
        raise InputError(f"{path} numbers two annotations of one image alike; their ids have to differ.")
    return rows, groups
