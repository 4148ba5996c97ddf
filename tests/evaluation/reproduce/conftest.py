"""Papers run on small datasets with an engine that needs no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_uncertsam.evaluation.reproduce import ReproductionSettings, find_paper, open_datasets, reproduce
from tests.fakes import FakeEngine

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run("medsam-u", root, out="out", engine=..., split=..., seed=..., only=(...), limit=...)``: the document."""

    def go(name: str, root: Path, out: str = "out", **options: Any) -> dict[str, Any]:
        paper, engine = find_paper(name), options.pop("engine", None) or FakeEngine()
        loop = {key: options.pop(key) for key in ("limit", "overwrite", "report") if key in options}
        only, split = options.pop("only", ()), options.pop("split", "test")
        settings = ReproductionSettings(paper.key, "fake", split=split, **options)
        return reproduce(
            paper, open_datasets(paper, root, split=split, only=only), engine, settings, tmp_path / out, **loop
        )

    return go
