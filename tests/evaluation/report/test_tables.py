from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.report import tables
from napari_uncertsam.evaluation.report.formatting import decimals_for, interval, number
from napari_uncertsam.evaluation.results import Results
from tests.evaluation.results_builder import build_results


def entry(method: str, mean: float | None, *, n: int = 4, prompt: str = "gt-box", name: str = "dice") -> dict[str, Any]:
    measures = {name: {"mean": mean, "low": None, "high": None, "n": n}}
    return {"prompt": prompt, "method": method, "modality": None, "n": 4, "groups": 4, "measures": measures}


def best(*entries: dict[str, Any], name: str = "dice") -> list[bool]:
    return [row[0].best for row in tables.measure_cells(entries, (name,))]


def test_best_mean_is_marked_within_each_prompt() -> None:
    rows = [entry("a", 0.8), entry("b", 0.9), entry("a", 0.5, prompt="click"), entry("b", 0.4, prompt="click")]
    assert best(*rows) == [False, True, True, False]


def test_lower_is_better_where_it_is() -> None:
    assert best(entry("a", 0.8, name="ause"), entry("b", 0.9, name="ause"), name="ause") == [True, False]
    assert best(
        entry("a", 0.8, name="mean_uncertainty"), entry("b", 0.9, name="mean_uncertainty"), name="mean_uncertainty"
    ) == [
        False,
        False,
    ]


def test_equal_as_shown_marks_nothing_and_a_tie_marks_both() -> None:
    assert best(entry("a", 0.90001), entry("b", 0.90002)) == [False, False]
    assert best(entry("a", 0.9), entry("b", 0.90001), entry("c", 0.5)) == [True, True, False]


def test_a_mean_over_fewer_cases_wins_nothing() -> None:
    rows = [entry("a", 9.0, name="hd95"), entry("b", 2.0, n=3, name="hd95"), entry("c", None, n=0, name="hd95")]
    cells = [row[0] for row in tables.measure_cells(rows, ("hd95",))]
    assert [cell.remark for cell in cells] == ["", "3 of 4 cases", "0 of 4 cases"]
    assert [cell.text for cell in cells] == ["9.00", "2.00", "–"]  # noqa: RUF001
    assert [cell.sort for cell in cells] == [9.0, 2.0, None]
    assert not any(cell.best for cell in cells)


def test_a_single_group_proves_nothing() -> None:
    rows = [entry("a", 0.9) | {"groups": 1}, entry("b", 0.5) | {"groups": 1}]
    assert best(*rows) == [False, False]


def test_every_measure_has_its_place() -> None:
    placed = {*tables.MASKS, *tables.ERRORS, *tables.ERRORS_ROI, *tables.PROBABILITIES}
    assert placed == set(MEASURES)
    assert [m.title for m, _, _ in tables.glossary()] == [m.title for m in MEASURES.values()]


def test_the_published_correlation_has_a_footnote() -> None:
    marks = {
        name: column.mark for name, column in zip(tables.ERRORS, tables.measure_columns(tables.ERRORS), strict=True)
    }
    assert marks.pop("rho") == "†"
    assert not any(marks.values())


def test_modalities(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=5, apart=("Dermoscopy",))
    first, second = tables.modality_tables(results)
    assert first.caption == "Prompt gt-box"
    assert second.caption == "Prompt box-0.5"
    assert [line.heads for line in first.lines] == [
        (modality, method) for modality in ("CT", "Dermoscopy", "Microscopy") for method in ("entropy", "prompt")
    ]
    assert [line.apart for line in first.lines] == [False, False, True, True, False, False]
    assert [line.cells[0].text for line in first.lines] == ["2", "2", "1", "1", "2", "2"]
    overall = tables.measures_table(results, "all", ("dice",))
    dice = [row["dice"] for row in results.select("gt-box", "entropy") if row["modality"] != "Dermoscopy"]
    assert overall.lines[0].cells[0].sort == pytest.approx(sum(dice) / 4)


def test_one_modality_needs_no_table_of_its_own(tmp_path: Path) -> None:
    assert tables.modality_tables(build_results(tmp_path, volume=True, cases=2)) == []


def test_agreement(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=5)
    table = tables.agreement_table(results)
    for line, said in zip(table.lines, results.document["agreement"], strict=True):
        assert line.heads == (said["prompt"], said["method"])
        assert line.cells[0].text == "5"
        assert line.cells[1].text == number(said["pearson_roi"]["value"])
        assert line.cells[1].interval == interval(said["pearson_roi"]["low"], said["pearson_roi"]["high"])


def test_numbers() -> None:
    assert number(float("nan")) == number(None) == number(float("inf")) == "–"  # noqa: RUF001
    assert number(-0.25, 2) == "\N{MINUS SIGN}0.25"
    assert number(-1e-9) == "0.000"
    assert interval(0.1, None) == ""
    assert decimals_for([None, 0.0]) == 3
    assert decimals_for([1e-9]) == 5


def test_no_result_is_changed(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=2)
    before = repr(results.document)
    tables.measures_table(results, "", tables.MASKS)
    assert repr(results.document) == before == repr(Results.read(results.folder).document)
