from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.report import figures
from napari_uncertsam.evaluation.report.annotators import annotators
from napari_uncertsam.evaluation.report.drawing import SERIES, Drawing, canvas, finish, series
from napari_uncertsam.evaluation.results import Results
from napari_uncertsam.evaluation.simulate import AnnotationRun, summarise_runs
from tests.evaluation.results_builder import build_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return build_results(tmp_path_factory.mktemp("results"), cases=5, apart=("Microscopy",))


def texts(drawing: Drawing) -> list[str]:
    return [str(e.text) for e in ElementTree.fromstring(drawing.svg).iter("text")]


def titles(drawing: Drawing) -> list[str]:
    return [str(e.text) for e in ElementTree.fromstring(drawing.svg).iter("title")]


def test_colours_follow_the_page() -> None:
    with canvas(3, 2) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0], label="a", **series(1))
        svg = finish(figure, "name", "title", "a <line>").svg
    assert "var(--series-1)" in svg
    assert "var(--ink)" in svg
    assert "var(--line)" in svg
    assert "#0" not in svg.replace("url(#", "").replace('href="#', "")
    root = ElementTree.fromstring(svg)
    assert root.attrib == {"viewBox": "0 0 216 144", "role": "img", "aria-label": "a <line>"}
    assert all(e.attrib["id"].startswith("name-") for e in root.iter() if "id" in e.attrib)
    assert not list(root.iter("style"))
    assert not list(root.iter("metadata"))


def test_series_differ_without_colour() -> None:
    looks = [series(i) for i in range(SERIES)]
    assert len({look["marker"] for look in looks}) == len({str(look["linestyle"]) for look in looks}) == SERIES
    assert series(SERIES)["color"] == series(0)["color"]
    assert len({str(sorted(series(i).items(), key=str)) for i in range(SERIES * SERIES)}) == SERIES * SERIES


def test_drawing_leaves_no_trace_in_matplotlib() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with canvas(3, 2) as figure:
        finish(figure, "a", "", "")
    assert dict(mpl.rcParams) == before


def test_pooled_reliability_is_that_of_all_pixels(results: Results) -> None:
    rows = figures.included(results, "gt-box", "entropy")
    assert {row["modality"] for row in rows} == {"CT", "Dermoscopy"}
    curve = figures.pooled_reliability(rows, "_roi")
    assert curve is not None
    for k in range(10):
        pixels, confidence, inside = (sum(row["curves"]["reliability_roi"][j][k] for row in rows) for j in range(3))
        assert curve.pixels[k] == pixels
        if pixels:
            assert curve.confidence[k] == pytest.approx(confidence / pixels)
            assert curve.frequency[k] == pytest.approx(inside / pixels)
        else:
            assert math.isnan(curve.frequency[k])
    assert figures.pooled_reliability([], "") is None


def test_reliability_tells_how_many_pixels(results: Results) -> None:
    first, second = figures.draw_reliability(results)
    assert (first.title, second.title) == ("gt-box", "box-0.5")
    rows = figures.included(results, "gt-box", "entropy")
    whole = sum(sum(row["curves"]["reliability"][0]) for row in rows)
    assert whole == len(rows) * 96 * 128
    assert f"{whole:,} pixels" in texts(first)


def test_no_formula_is_left_in_a_text(results: Results) -> None:
    # Ticks of logarithmic axes are formulas unless they have a formatter, minor ones too.
    for draw in (figures.draw_dice, figures.draw_risk, figures.draw_agreement, figures.draw_reliability):
        assert not [text for drawing in draw(results) for text in texts(drawing) if "$" in text or "\\" in text]


def test_numbers_of_pixels_are_short() -> None:
    assert [figures._short(v) for v in (1.0, 100.0, 1e4, 2.5e6, 1e9)] == ["1", "100", "10k", "2.5M", "1G"]


def test_points_have_the_names_of_their_cases(results: Results) -> None:
    first, _ = figures.draw_agreement(results)
    names = titles(first)
    assert len(names) == 2 * 5
    row = results.rows[0]
    assert f"{row['case']}, {row['modality']}: Dice {row['dice']:.3f}" in names
    said = results.document["agreement"][0]["pearson_roi"]
    assert any(text.startswith(f"r = {said['value']:.2f}".replace("-", "\N{MINUS SIGN}")) for text in texts(first))


def test_a_scatter_of_very_many_is_thinned_out(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LARGEST_SCATTER", 3)
    first, _ = figures.draw_agreement(results)
    assert len(titles(first)) == 2 * 3


def test_risk_is_the_mean_over_cases(results: Results) -> None:
    first, _ = figures.draw_risk(results)
    root = ElementTree.fromstring(first.svg)
    rows = figures.included(results, "gt-box", "entropy")
    mean = np.mean([row["curves"]["risk_roi"] for row in rows], axis=0)
    # The line of 20 points, whose heights are the means up to a scale and a shift.
    paths = [e.attrib["d"].split() for e in root.iter("path") if "var(--series-0)" in e.attrib.get("style", "")]
    path = next(p for p in paths if p.count("L") == len(mean) - 1)
    y = np.array([float(path[i + 2]) for i, word in enumerate(path) if word in "ML"])
    assert np.corrcoef(y, mean)[0, 1] == pytest.approx(-1, abs=1e-6)


def run(dice: tuple[float, ...], policy: str = "suggested", start: str = "gt-box", rate: float = 0.0) -> AnnotationRun:
    return AnnotationRun(policy, start, rate, 0, dice, dice, tuple(0.1 for _ in dice), ())


def with_annotators(results: Results, *summaries: dict[str, object]) -> Results:
    return Results(results.folder, {**results.document, "annotators": list(summaries)})


def test_annotators(results: Results) -> None:
    summaries = [
        summarise_runs([run((0.7, 0.8, 0.95), policy), run((0.5, 0.6, 0.7), policy)], ["a", "b"], seed=0)
        for policy in ("suggested", "random")
    ]
    other = summarise_runs([run((0.2, 0.4, 0.6), start="click", rate=0.1)], ["a"], seed=0)
    found = annotators(with_annotators(results, *(s.to_dict() for s in (*summaries, other))))
    assert found is not None
    assert [d.title for d in found.figure] == ["starting from gt-box", "starting from click, 10 % of answers wrong"]
    assert {"suggested", "random"} <= set(texts(found.figure[0]))
    assert [line.heads for line in found.table.lines] == [
        ("suggested", "gt-box", "0 %"),
        ("random", "gt-box", "0 %"),
        ("suggested", "click", "10 %"),
    ]
    column = [c.title for c in found.table.columns].index("NoC@90 Dice")
    first, last = (found.table.lines[i].cells[column] for i in (0, 2))
    assert (first.text, first.remark, first.sort) == ("2.00", "1 never", 2.0)
    assert (last.text, last.interval) == ("2.00", "")
    after = [c.title for c in found.table.columns].index("Dice after")
    assert found.table.lines[0].cells[after].text == "0.825"


def test_without_annotators_there_is_no_section(results: Results) -> None:
    assert annotators(results) is None
    older = {key: value for key, value in results.document.items() if key != "annotators"}
    assert annotators(Results(results.folder, older)) is None


def test_damaged_annotators(results: Results) -> None:
    with pytest.raises(InputError, match="not a summary"):
        annotators(with_annotators(results, {"policy": "suggested"}))


def test_figures_of_one_case(tmp_path: Path) -> None:
    one = build_results(tmp_path, cases=1)
    for draw in (figures.draw_dice, figures.draw_risk, figures.draw_agreement, figures.draw_reliability):
        assert len(draw(one)) == 2
