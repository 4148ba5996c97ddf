from __future__ import annotations

import base64
import copy
import hashlib
import re
import shutil
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.comparing_methods import verdict
from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.report import tables, write_report
from napari_uncertsam.evaluation.report.differences import DIFFERENCES
from napari_uncertsam.evaluation.report.figures import draw_agreement, numbered, predicting
from napari_uncertsam.evaluation.report.formatting import interval, number, signed, signed_interval
from napari_uncertsam.evaluation.report.tables import uncertainty_unit
from napari_uncertsam.evaluation.results import Results
from tests.evaluation.report.page_reader import Page
from tests.evaluation.report.test_pictures import decode
from tests.evaluation.results_builder import build_results, write_results

#: One prompt and one method: half a second a page.
SLIM: dict[str, Any] = {"prompts": ("gt-box",), "methods": ("entropy",)}
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}$x$"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return build_results(tmp_path_factory.mktemp("results"), cases=5)


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return build_results(tmp_path_factory.mktemp("slim"), cases=2, **SLIM)


@pytest.fixture(scope="module")
def text(built: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(built, tmp_path_factory.mktemp("report") / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def report(results: Results, folder: Path, **options: Any) -> Page:
    return Page(write_report(results, folder / "report.html", **options).read_text(encoding="utf-8"))


def changed(results: Results, change: Callable[[dict[str, Any]], None]) -> Results:
    """Results whose document was altered."""
    document = copy.deepcopy(dict(results.document))
    change(document)
    return Results(results.folder, document)


def test_tables_say_what_the_document_says(built: Results, page: Page, text: str) -> None:
    captions = {"dice": "Mask against", "hd95": "Mask against", "ause_roi": "Around the object", "nll": "Probability"}
    captions |= {"rho": "Over the whole", "confident_error": "Around the object", "precision": "Mask against"}
    for entry in built.document["summary"]:
        if entry["modality"] is not None:
            continue
        for name, caption in captions.items():
            said = entry["measures"][name]
            title = MEASURES[name].title + ("†" if name == "rho" else "")
            cell = page.table(caption).cell(title, entry["prompt"], entry["method"])
            decimals = len(cell.text.partition(".")[2])
            assert decimals >= 2
            assert cell.text == number(said["mean"], decimals)
            assert cell.small == [interval(said["low"], said["high"], decimals)]
            assert float(str(cell.attributes["data-sort"])) == said["mean"]


def test_best_mean_is_marked_in_the_page(built: Results, page: Page) -> None:
    chosen = [e for e in built.document["summary"] if e["modality"] is None and e["prompt"] == "gt-box"]
    means = {e["method"]: e["measures"]["dice"]["mean"] for e in chosen}
    for method, mean in means.items():
        cell = page.table("Mask against").cell("Dice", "gt-box", method)
        assert (cell.attributes.get("class") == "best") == (mean == max(means.values()))


def test_significance_is_marked_and_told(built: Results, page: Page) -> None:
    assert built.comparisons
    signs = {"better": "\N{CHECK MARK}", "worse": "\N{BALLOT X}"}
    marked = [a for tag, a in page.tags if "mark" in str(a.get("class")).split() and "aria-label" in a]
    known = {name for names in (tables.MASKS, tables.ERRORS, tables.ERRORS_ROI, tables.PROBABILITIES) for name in names}
    said = [(verdict(n, e), e["measures"][n]["holm"]) for e in built.comparisons for n in [*known, *DIFFERENCES]]
    for kind in signs:
        expected = sum(v == kind for v, _ in said)
        labels = [str(a["aria-label"]) for a in marked if f"{kind}-mark" in str(a["class"])]
        assert len(labels) == expected
        assert all(label.startswith(f"significantly {kind} than entropy") for label in labels)
        assert sum("Holm" in label for label in labels) == sum(v == kind and holm for v, holm in said)
    assert {v for v, _ in said} >= {"better", ""}
    assert "\N{CHECK MARK} is significantly better and \N{BALLOT X} significantly worse than entropy" in page.text
    for entry in built.comparisons:
        cell = page.table("Differences from entropy").cell("NLL ROI", entry["prompt"], entry["method"])
        found = entry["measures"]["nll_roi"]
        assert cell.text == signed(100 * found["relative"]["value"], 1)
        assert cell.small == [
            signed_interval(100 * found["relative"]["low"], 100 * found["relative"]["high"], 1),
            f"{100 * found['improved']:.0f} % of 5",
        ]
        dice = page.table("Differences from entropy").cell("Dice", entry["prompt"], entry["method"])
        assert float(str(dice.attributes["data-sort"])) == entry["measures"]["dice"]["difference"]


def test_one_method_is_compared_with_nothing(slim: Results, tmp_path: Path) -> None:
    assert slim.comparisons == []
    page = report(slim, tmp_path)
    assert "Differences" not in page.text
    assert "significantly" not in page.text


def test_results_of_version_0_1_still_open(built: Results, tmp_path: Path) -> None:
    def older(document: dict[str, Any]) -> None:
        del document["comparisons"]
        for row in document["cases"]:
            del row["measure"]

    (tmp_path / "run").mkdir()
    document = dict(changed(built, older).document)
    results = write_results(tmp_path / "run", document)
    assert results.comparisons == []
    assert [results.measure_of(method) for method in results.methods] == ["entropy", "entropy"]
    page = report(results, tmp_path)
    assert page.table("Mask against").rows
    assert "ln 2 = 0.693 nats" in page.text
    assert "significantly" not in page.text


def test_says_what_was_evaluated(page: Page) -> None:
    text = page.text
    assert text.startswith("Evaluation on data Evaluation on data Dataset")
    for words in (
        "data: 5 objects, 5 images, 5 independent groups",
        "bundled, checkpoint 0123456789ab",
        "CPU (fake)",
        "torch 2.5.1",
        "95 % intervals by cluster bootstrap",
        "tight box",
        "box at IoU 0.5",
        "Prompt perturbation",
        "It can be inflated at will",
        "It is the best mean and no more",
    ):
        assert words in text
    assert "could not be read" not in text
    for measure in MEASURES.values():
        assert measure.help in text


def test_needs_nothing_from_outside(page: Page, text: str) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"link", "iframe", "object", "embed", "base", "form", "audio", "video"}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or (tag == "img" and value.startswith("data:image/png;")), (
                value
            )
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|https?://(?!www\.w3\.org)", text)
    assert not re.search(r"url\((?!#)", text)


def test_one_script_and_the_page_allows_no_other(page: Page) -> None:
    assert len(page.all("script")) == 1
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts).encode()).digest()).decode()
    [policy] = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'")


def test_links_and_ids_fit(page: Page, text: str) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {str(a["href"])[1:] for _, a in page.tags if "href" in a}
    used |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert used <= set(ids)


def test_everything_has_a_name(page: Page) -> None:
    assert all(image.get("alt") for image in page.all("img"))
    drawings = page.all("svg")
    assert len(drawings) == 8
    assert all(svg.get("aria-label") for svg in drawings)
    assert all(table.caption for table in page.tables)
    assert all(head.attributes.get("scope") == "col" for table in page.tables for head in table.heads)
    assert all(row[0].attributes.get("scope") == "row" for table in page.tables for row in table.rows)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("figcaption")) == len(page.all("figure")) == 4


def test_pictures_of_the_worst_cases(built: Results, tmp_path: Path) -> None:
    page = report(built, tmp_path, worst=2)
    rows = built.select("gt-box", "entropy")
    lowest = sorted(rows, key=lambda row: row["dice"])[:2]
    titles = [str(image["alt"]) for image in page.all("img") if str(image["alt"]).endswith(": image and prompt")]
    assert titles[:2] == [f"{row['case']}: image and prompt" for row in lowest]
    confident = sorted((r for r in rows if r["confident_error"]), key=lambda r: -r["confident_error"])[:2]
    assert titles[2:] == [f"{row['case']}: image and prompt" for row in confident]
    assert f"Dice {number(lowest[0]['dice'])}" in page.text
    case = built.case(lowest[0])
    mask = built.maps(lowest[0], case.truth.shape).mask
    [error] = [i["src"] for i in page.all("img") if i["alt"] == f"{case.key}: error"][:1]
    picture = decode(str(error))
    orange, blue = ((picture == colour).all(-1).mean() for colour in ((230, 159, 0), (86, 180, 233)))
    assert (orange > 0) == (mask & ~case.truth).any()
    assert (blue > 0) == (case.truth & ~mask).any()


def test_no_pictures_on_request(built: Results, tmp_path: Path) -> None:
    page = report(built, tmp_path, worst=0)
    assert not page.all("img")
    assert "Lowest Dice" not in page.text


def test_hostile_names(built: Results, tmp_path: Path) -> None:
    def poison(document: dict[str, Any]) -> None:
        document["dataset"]["name"] = document["record"]["device"] = document["dataset"]["path"] = HOSTILE
        document["settings"]["methods"][0] = document["settings"]["prompts"][0] = HOSTILE
        document["settings"]["apart"] = [HOSTILE]
        document["failed"] = [{"image": HOSTILE, "reason": HOSTILE}]
        for part in ("cases", "summary", "agreement"):
            for entry in document[part]:
                entry["prompt"] = HOSTILE if entry["prompt"] == "gt-box" else entry["prompt"]
                entry["method"] = HOSTILE if entry["method"] == "entropy" else entry["method"]
                if part == "cases":
                    entry["case"] = entry["image"] = HOSTILE
                if entry.get("modality") == "CT":
                    entry["modality"] = HOSTILE

    page = report(changed(built, poison), tmp_path)
    assert len(page.all("script")) == 1
    assert "alert" not in "".join(page.scripts)
    assert page.text.count(HOSTILE) > 20
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert escape("<script>alert") in text
    # In drawings too, where a name is text and no formula.
    assert HOSTILE in next(str(svg["aria-label"]) for svg in page.all("svg"))


def test_undecodable_names(slim: Results, tmp_path: Path) -> None:
    def poison(document: dict[str, Any]) -> None:
        document["dataset"]["name"] = "caf\udce9"

    assert "caf?" in report(changed(slim, poison), tmp_path).text


def test_same_results_give_the_same_bytes(slim: Results, tmp_path: Path) -> None:
    first = write_report(slim, tmp_path / "a.html").read_bytes()
    second = write_report(Results.read(slim.folder), tmp_path / "b.html").read_bytes()
    slower = changed(slim, lambda document: document.update(seconds=99.0))
    assert first == second == write_report(slower, tmp_path / "a.html").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]


@pytest.mark.parametrize("name", ["matplotlib", "jinja2"])
def test_what_is_not_installed(slim: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'pip install "napari-uncertsam\[report\]"'):
        write_report(slim, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_bad_requests(slim: Results, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="-1 cases"):
        write_report(slim, tmp_path / "report.html", worst=-1)
    with pytest.raises(InputError, match="create it first"):
        write_report(slim, tmp_path / "nowhere" / "report.html")
    assert not list(tmp_path.iterdir())


def test_maps_that_are_gone(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=3, **SLIM)
    shutil.rmtree(results.folder / "maps")
    page = report(results, tmp_path)
    assert "run the evaluation again" in page.text
    assert not [image for image in page.all("img") if "prediction" in str(image["alt"])]


def test_an_evaluation_without_maps(tmp_path: Path) -> None:
    page = report(build_results(tmp_path, cases=3, maps=False, **SLIM), tmp_path)
    assert "kept no maps" in page.text


def test_one_image_that_is_gone(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=3, **SLIM)
    (tmp_path / "data" / "images" / "ellipse_01.png").write_bytes(b"no picture")
    page = report(results, tmp_path, worst=3)
    pictured = [i["alt"] for i in page.all("img") if "prediction" in str(i["alt"])]
    assert {str(alt).partition("/")[0] for alt in pictured} == {"ellipse_00", "ellipse_02"}
    assert "ellipse_01.png" in page.text


def test_a_dataset_that_moved(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=3, **SLIM)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    page = report(results, tmp_path)
    assert page.table("Mask against").rows
    assert not [image for image in page.all("img") if "prediction" in str(image["alt"])]


def test_failed_images_are_named(slim: Results, tmp_path: Path) -> None:
    def fail(document: dict[str, Any]) -> None:
        document["failed"] = [{"image": "broken_1", "reason": "broken_1.png is truncated."}]

    page = report(changed(slim, fail), tmp_path)
    assert "1 image could not be read and is not in any number below: broken_1 broken_1.png is truncated." in page.text


def test_a_single_case_has_no_interval(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=1, **SLIM)
    page = report(results, tmp_path)
    cell = page.table("Mask against").cell("Dice", "gt-box", "entropy")
    assert cell.text == number(results.rows[0]["dice"])
    assert cell.small == []
    assert "one group alone has no interval" in page.text
    assert page.table("Correlation").cell("Pearson ROI", "gt-box", "entropy").text == number(None)
    assert "nan" not in page.text.lower().split()


def test_no_distance_for_an_empty_mask(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=2, **SLIM)

    def empty(document: dict[str, Any]) -> None:
        for entry in document["summary"]:
            entry["measures"]["hd95"] = {"mean": None, "low": None, "high": None, "n": 0}
        for row in document["cases"]:
            row["hd95"] = None

    page = report(changed(results, empty), tmp_path)
    cell = page.table("Mask against").cell("HD95", "gt-box", "entropy")
    assert cell.text == number(None)
    assert cell.small == ["0 of 2 cases"]
    assert cell.attributes["data-sort"] == ""


def test_nothing_could_be_evaluated(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=1, **SLIM)

    def nothing(document: dict[str, Any]) -> None:
        document |= {"cases": [], "summary": [], "agreement": [], "mean": {}}
        document["failed"] = [{"image": "a", "reason": "It is damaged."}]
        document["dataset"] |= {"cases": 0, "groups": 0}

    document = dict(copy.deepcopy(results.document))
    nothing(document)
    page = report(write_results(results.folder, document), tmp_path)
    assert "No case could be evaluated" in page.text
    assert "It is damaged." in page.text


def test_everything_set_apart(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=3, apart=("CT", "Microscopy", "Dermoscopy"), **SLIM)
    page = report(results, tmp_path)
    assert "Every modality is set apart" in page.table("Mask against").rows[0][0].text
    assert page.table("Prompt gt-box").cell("Dice", "CT", "entropy").text != number(None)


def test_volumes(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=4, volume=True, **SLIM)
    page = report(results, tmp_path)
    assert "4 objects, 2 images, 2 independent groups" in page.text
    assert "volume_0/z1/1" in page.text
    assert len([image for image in page.all("img") if str(image["alt"]).endswith(": error")]) >= 4


def test_uncertainty_that_is_no_entropy(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=3, prompts=("gt-box",), methods=("variance",))
    page = report(results, tmp_path)
    assert [svg for svg in page.all("svg") if "variance" in str(svg["aria-label"])]
    assert "standard deviation 0" in page.text
    assert "ln 2 = 0.693" not in page.text
    assert "mean uncertainty around the object [" not in "".join(page.words)
    assert "nats" not in str(page.table("Around the object").heads)
    # One method is no contest.
    assert not [c for t in page.tables for row in t.rows for c in row if c.attributes.get("class") == "best"]


def test_uncertainties_of_several_kinds_have_an_axis_each(tmp_path: Path) -> None:
    results = build_results(tmp_path, cases=3, prompts=("gt-box",), methods=("entropy", "variance"))
    [drawing] = draw_agreement(results)
    assert "[by method]" in drawing.svg
    [alike] = draw_agreement(build_results(tmp_path / "alike", cases=3, prompts=("gt-box",)))
    assert "[nats]" in alike.svg
    assert uncertainty_unit(results) == "by method"


def test_methods_that_differ_in_the_measure_share_a_series_of_masks(slim: Results) -> None:
    names = ["prompt:std", "entropy", "prompt:mutual-information", "laplace"]
    results = changed(slim, lambda document: document["settings"].update(methods=names))
    assert predicting(results) == {"prompt:std": 0, "entropy": 1, "laplace": 2}
    assert numbered(results) == {**predicting(results), "prompt:mutual-information": 3}


def test_many_methods(tmp_path: Path) -> None:
    names = tuple(f"method-{i}" for i in range(8))
    page = report(build_results(tmp_path, cases=2, prompts=("gt-box",), methods=names), tmp_path)
    assert len(page.table("Mask against").rows) == 8
    assert "5 more down to" in page.text
    assert np.all([name in page.text for name in names])
