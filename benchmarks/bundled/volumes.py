"""Dice in 3D of one tight box on the middle slice, propagated through the volume; cases of ``propagation.py``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from propagation import Case, cases, dice, predict, spread

from bundled.measuring import METHOD, Plan
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Settings
from napari_uncertsam.prompts import Box
from napari_uncertsam.session import Session

__all__ = ["measure_volume", "volume_cases"]


def volume_cases(folder: Path) -> list[Case]:
    """Objects of the volumes in a folder with images/ and masks/, and of the sample CT."""
    return list(cases(folder))


def key_of(case: Case) -> str:
    return f"{case.name}/{case.label}"


def modality_of(case: Case) -> str:
    """By the name: the sample CT, and real volumes by what comes before the first underscore."""
    return case.name if case.name == "sample CT" else f"real {case.name.split('_')[0].upper()}"


def measure_volume(pipeline: Pipeline, case: Case, who: str, plan: Plan) -> dict[str, Any]:
    """One object as a line of JSON."""
    start = time.perf_counter()
    session = Session(case.volume, Settings(method=METHOD, n_suggestions=0, seed=plan.seed))
    session.go_to(0, case.middle)
    session.set_box(Box.of_mask(case.truth[case.middle]))
    predict(session, pipeline)
    middle = dice(session.labels[case.middle] > 0, case.truth[case.middle])
    spread(session, pipeline)
    values = {"3D": dice(session.labels > 0, case.truth), "middle slice": middle}
    seconds = round(time.perf_counter() - start, 2)
    about = {"kind": "volume", "who": who, "case": key_of(case), "group": case.name, "modality": modality_of(case)}
    return {**about, "settings": plan.record, "values": values, "seconds": seconds}
