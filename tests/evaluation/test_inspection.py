"""The inspector's heart: findings from arrays are the measures of every slice, and what cannot be told is left out."""

from __future__ import annotations

import csv
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.evaluation.inspection import (
    NO_FILTER,
    PRESETS,
    Filter,
    Finding,
    Inputs,
    Pair,
    Stack,
    compare,
    findings_as_csv,
    open_evaluation,
    pairs_of,
    pooled_curve,
    reliability_of,
    scan,
)
from napari_uncertsam.evaluation.inspection.comparing import NEED_PROBABILITY, NEED_UNCERTAINTY
from napari_uncertsam.evaluation.metrics import MEASURES, correlation, measure_case, reliability_curve
from napari_uncertsam.uncertainty import LN2, binary_entropy
from napari_uncertsam.volume import Volume
from tests.evaluation.results_builder import build_results, write_results

SHAPE = (5, 40, 50)
SPACING = (3.0, 0.5, 2.0)


def stack(array: np.ndarray, name: str = "layer", only: tuple[int, int] | None = None) -> Stack:
    return Stack(Volume(array, name=name), only)


def ball(centre: tuple[float, ...], radius: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """An ellipsoid through slices 1 to 3."""
    grid = np.indices(shape)
    scale = (1.2, *[radius] * (len(shape) - 1))[-len(shape) :]
    return sum(((g - c) / s) ** 2 for g, c, s in zip(grid, centre, scale, strict=True)) <= 1


def soft(mask: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    """Probabilities that are above one half inside the mask."""
    axes = tuple(range(mask.ndim))[-2:]
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), sigma, axes=axes)
    return np.where(mask, 0.5 + 0.49 * blurred + 0.001, 0.49 * blurred).astype(np.float32)


@pytest.fixture
def truth() -> np.ndarray:
    return ball((2, 20, 20), 10).astype(np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    return ball((2, 20, 24), 9).astype(np.uint8)


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_every_line_is_measure_case_of_its_slice(truth, mask, plane):
    probability = soft(mask != 0)
    found = compare(
        Inputs(stack(mask), stack(truth), stack(probability), spacing=SPACING, millimetres=True, plane=plane)
    )
    slices = [k for k in range(SHAPE[plane]) if (truth | mask).take(k, plane).any()]
    assert [f.index for f in found.findings] == slices
    assert found.length_unit == "mm"
    assert not found.notes
    spacing = [s for axis, s in enumerate(SPACING) if axis != plane]
    for finding in found.findings:
        m, t, p = (a.take(finding.index, plane) for a in (mask, truth, probability))
        if not t.any():
            assert finding.measure("dice") == finding.measure("iou") == finding.measure("precision") == 0
            rest = set(MEASURES) - {"dice", "iou", "precision"}
            assert all(finding.measure(name) is None for name in rest)
            assert reliability_of(finding, "") is None
            continue
        expected = measure_case(m, p, binary_entropy(p), t, spacing=spacing).values
        got = {name: finding.measure(name) for name in MEASURES}
        assert got == {n: v if math.isfinite(v) else None for n, v in expected.items()}
        assert finding.row["area_px"] == t.sum()


def test_a_picture_shows_the_error_and_both_kinds_of_wrong(truth, mask):
    probability = soft(mask != 0)
    found = compare(Inputs(stack(mask), stack(truth), stack(probability), spacing=SPACING))
    finding = found.findings[1]
    picture = found.picture(finding)
    m, t, p = (a[finding.index] for a in (mask, truth, probability))
    np.testing.assert_allclose(picture.error, np.abs(p - t), atol=1e-7)
    assert ((picture.wrong == 1) == ((m == 1) & (t == 0))).all()
    assert ((picture.wrong == 2) == ((m == 0) & (t == 1))).all()
    rows, columns = np.nonzero(m | t)
    assert (picture.box.y0, picture.box.x0) == (rows.min(), columns.min())
    assert (picture.box.y1, picture.box.x1) == (rows.max(), columns.max())
    assert picture.spacing == (0.5, 2.0)
    assert not picture.changed
    truth[finding.index] = np.roll(truth[finding.index], 2, axis=0)
    assert found.picture(finding).changed


def test_probabilities_as_prediction_are_cut_at_one_half(truth, mask):
    probability = soft(mask != 0)
    a = compare(Inputs(stack(probability), stack(truth)))
    b = compare(Inputs(stack(mask), stack(truth), stack(probability)), "together")
    assert [f.row["dice"] for f in a.findings] == [f.row["dice"] for f in b.findings]
    assert [f.measure("ece_roi") for f in a.findings] == [f.measure("ece_roi") for f in b.findings]


def test_without_a_probability_what_cannot_be_told_is_left_out_and_said(truth, mask):
    found = compare(Inputs(stack(mask), stack(truth)))
    for finding in found.findings:
        assert {n for n in MEASURES if finding.measure(n) is None} >= NEED_PROBABILITY | NEED_UNCERTAINTY
        assert finding.measure("iou") is not None
    assert pooled_curve(found.findings, "") is None
    assert found.digest is not None
    assert found.digest.agreement is None
    assert [note.split(",")[0] for note in found.notes] == [
        "Without a probability the mask stands in for it: calibration and rho |P-M| cannot be told.",
        "Without an uncertainty",
    ]
    wrong = np.abs(mask[2].astype(int) - truth[2])
    np.testing.assert_array_equal(found.picture(found.findings[1]).error, wrong)


def test_an_uncertainty_alone_is_ranked_against_the_wrong_pixels(truth, mask):
    doubt = binary_entropy(soft(mask != 0))
    found = compare(Inputs(stack(mask), stack(truth), uncertainty=stack(doubt)))
    expected = measure_case(mask[2], mask[2].astype(float), doubt[2], truth[2]).values
    finding = found.findings[1]
    assert finding.measure("ause_roi") == expected["ause_roi"]
    assert finding.measure("confident_error") == expected["confident_error"]
    assert all(finding.measure(name) is None for name in NEED_PROBABILITY)
    assert len(found.notes) == 1


def test_an_uncertainty_in_other_units_is_told(truth, mask):
    found = compare(Inputs(stack(mask), stack(truth), stack(soft(mask != 0)), stack(np.full(SHAPE, 3.0))))
    assert [note for note in found.notes if "more than ln 2" in note]


def test_objects_are_compared_with_the_same_value(truth):
    two = truth.copy()
    two[:, 30:38, 5:20] = 7
    shifted = np.roll(two, 3, axis=2)
    found = compare(Inputs(stack(shifted), stack(two), titles={7: "lesion"}))
    assert {f.title for f in found.findings} == {"1", "7 lesion"}
    for finding in found.findings:
        value, k = finding.order, finding.index
        expected = measure_case(
            shifted[k] == value, (shifted[k] == value).astype(float), np.zeros(SHAPE[1:]), two[k] == value
        )
        assert finding.measure("hd95") == expected.values["hd95"]
    together = compare(Inputs(stack(shifted), stack(two)), "together")
    assert {f.title for f in together.findings} == {"all"}
    one = compare(Inputs(stack(shifted), stack(two)), "one", Pair(7, 1))
    assert {f.title for f in one.findings} == {"7 ↔ 1"}
    assert max(f.measure("dice") for f in one.findings) < 0.5


def test_a_probability_is_used_for_the_object_whose_mask_it_makes():
    truth = np.zeros((40, 60), np.uint8)
    truth[5:20, 5:25], truth[5:20, 35:55] = 1, 2
    labels = np.roll(truth, 2, axis=0)
    of_first, of_both = soft(labels == 1), soft(labels != 0)
    found = compare(Inputs(stack(labels), stack(truth), stack(of_first)))
    first, second = found.findings
    assert first.measure("ece") is not None
    assert second.measure("ece") is second.measure("ause") is None
    assert second.measure("nsd") is not None
    assert "1 of 2 lines" in found.notes[0]
    both = compare(Inputs(stack(labels), stack(truth), stack(of_both)))
    assert not both.notes
    for finding in both.findings:
        mask = labels == finding.order
        own = np.where((labels != 0) & ~mask, 0, of_both)
        assert (
            finding.measure("nll") == measure_case(mask, own, binary_entropy(own), truth == finding.order).values["nll"]
        )


def test_a_map_of_one_slice_counts_there_only(truth, mask):
    probability = soft(mask != 0)[2:3]
    found = compare(Inputs(stack(mask), stack(truth), stack(probability, only=(0, 2)), stack(probability, only=(0, 2))))
    assert [f.measure("ece") is not None for f in found.findings] == [f.index == 2 for f in found.findings]
    assert "its layer ends before" in found.notes[0]


def test_pairs_of_values():
    def overlap(prediction: list[int], truth: list[int]):
        return scan(stack(np.array([prediction], np.int64)), stack(np.array([truth], np.int64)), 0)

    several = overlap([1, 1, 0, 3, 3, 0], [5, 5, 5, 0, 3, 9])
    assert several.total == {(1, 5): 2, (0, 5): 1, (3, 0): 1, (3, 3): 1, (0, 9): 1}
    assert pairs_of(several, "same") == [Pair(1, 1), Pair(3, 3), Pair(5, 5), Pair(9, 9)]
    assert pairs_of(several, "overlap") == [Pair(1, 5), Pair(3, 3)]
    assert pairs_of(several, "together") == [Pair(None, None)]
    assert pairs_of(several, "one", Pair(3, 9)) == [Pair(3, 9)]
    assert pairs_of(overlap([1, 0], [200, 200]), "same") == [Pair(1, 200)]
    assert pairs_of(overlap([0, 0], [2, 4]), "overlap") == [Pair(2, 2), Pair(4, 4)]
    assert pairs_of(overlap([4, 0], [0, 2]), "overlap") == [Pair(4, 4)]
    with pytest.raises(InputError, match="no value 4; it has 3, 5, 9"):
        pairs_of(several, "one", Pair(3, 4))
    with pytest.raises(InputError, match="The truth is empty"):
        pairs_of(overlap([1, 1], [0, 0]), "same")
    with pytest.raises(InputError, match="both empty"):
        pairs_of(overlap([0, 0], [0, 0]), "same")
    with pytest.raises(InputError, match="cannot be paired by"):
        pairs_of(several, "nearest")  # type: ignore[arg-type]


def test_large_and_negative_values_are_values_too():
    prediction, truth = np.array([[-5, 2**40, 2**40]]), np.array([[-5, 0, 2**40]])
    assert scan(stack(prediction), stack(truth), 0).total == {(-5, -5): 1, (2**40, 0): 1, (2**40, 2**40): 1}


def test_a_clearly_better_pairing_is_offered(truth, mask):
    organs = 5 * truth
    organs[:, :4] = 1
    found = compare(Inputs(stack(mask), stack(organs)))
    assert found.better == (1, 5)
    again = compare(Inputs(stack(mask), stack(organs)), "overlap")
    assert again.better is None
    assert {f.title for f in again.findings} == {"1 ↔ 5"}
    assert compare(Inputs(stack(mask), stack(truth))).better is None


def test_two_objects_on_one_true_object_stay_two_lines():
    truth, halves = np.zeros((10, 20), int), np.zeros((10, 20), int)
    truth[2:8, 2:18] = 5
    halves[2:8, 2:9], halves[2:8, 10:18] = 1, 2
    found = compare(Inputs(stack(halves), stack(truth)), "overlap")
    assert [f.title for f in found.findings] == ["1 ↔ 5", "2 ↔ 5"]
    assert not found.picture(found.findings[0]).changed
    assert not found.picture(found.findings[1]).changed


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"truth": soft(np.eye(40, 50) > 0)}, "no values of objects"),
        ({"truth": np.full((40, 50), np.nan)}, "nan"),
        ({"prediction": np.full((40, 50), 3.0)}, "a probability is between 0 and 1"),
        ({"prediction": np.full((40, 50), np.nan)}, "NaN or infinite"),
        ({"probability": np.full((40, 50), -0.5)}, "from -0.5 to -0.5"),
        ({"uncertainty": np.full((40, 50), np.inf)}, "NaN or infinite"),
    ],
)
def test_layers_that_hold_something_else_are_refused_in_a_sentence(change, sentence):
    truth = np.zeros((40, 50), np.uint8)
    truth[5:9, 5:9] = 1
    with pytest.raises(InputError, match=sentence):
        compare(
            Inputs(**{"prediction": stack(truth), "truth": stack(truth)} | {k: stack(v) for k, v in change.items()})
        )


def test_whole_numbers_in_floats_are_a_truth():
    truth = np.zeros((40, 50), np.float32)
    truth[5:9, 5:9] = 3
    (finding,) = compare(Inputs(stack(truth.astype(np.uint8)), stack(truth))).findings
    assert (finding.title, finding.measure("dice")) == ("3", 1.0)


def test_another_shape_is_refused():
    with pytest.raises(InputError, match=r"'probability' has shape \(4, 4\), but 'truth' \(4, 5\)"):
        Inputs(
            stack(np.zeros((4, 5), int)), stack(np.zeros((4, 5), int), "truth"), stack(np.zeros((4, 4)), "probability")
        )
    with pytest.raises(InputError, match="choose layers of one shape"):
        Inputs(stack(np.zeros((1, 4, 5), int), only=(0, 1)), stack(np.zeros((3, 4, 5), int)))


def test_only_single_slices_are_read(truth, mask):
    class Lazy:
        shape, dtype = SHAPE, np.dtype(np.uint8)

        def __init__(self, array):
            self.array, self.keys = array, []

        def __getitem__(self, key):
            self.keys.append(key)
            return self.array[key]

    lazy = Lazy(mask)
    found = compare(Inputs(stack(lazy), stack(truth)))
    assert [f.row["dice"] for f in found.findings] == [
        f.row["dice"] for f in compare(Inputs(stack(mask), stack(truth))).findings
    ]
    assert {key[0] for key in lazy.keys} == set(range(5))
    assert all(len(key) == 1 for key in lazy.keys)


def test_progress_and_cancel(truth, mask):
    told: list[tuple[str, float]] = []
    compare(Inputs(stack(mask), stack(truth)), progress=lambda text, share: told.append((text, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert told[-2][0] == "Measuring 3 of 3"
    for stop_after in (1, 7):
        asked = iter(range(100))
        with pytest.raises(Cancelled):
            compare(Inputs(stack(mask), stack(truth)), cancelled=lambda stop=stop_after: next(asked) >= stop)  # noqa: B023


def test_the_digest_is_the_mean_and_the_correlation(truth, mask):
    found = compare(Inputs(stack(mask), stack(truth), stack(soft(mask != 0))))
    dices = [f.measure("dice") for f in found.findings]
    assert found.digest is not None
    assert found.digest.mean("dice") == pytest.approx(np.mean(dices))
    entry = found.digest.summary["measures"]["dice"]
    assert entry["low"] <= np.mean(dices) <= entry["high"]
    assert found.digest.agreement is not None
    with_doubt = [f for f in found.findings if f.measure("mean_uncertainty_roi") is not None]
    expected = correlation(
        [f.measure("mean_uncertainty_roi") for f in with_doubt], [1 - f.measure("dice") for f in with_doubt]
    )
    assert found.digest.agreement["pearson_roi"]["value"] == pytest.approx(expected)


def test_pooled_reliability_is_that_of_all_pixels(truth, mask):
    probability = soft(mask != 0)
    found = compare(Inputs(stack(mask), stack(truth), stack(probability)))
    slices = [f.index for f in found.findings]
    expected = reliability_curve(probability[slices], truth[slices])
    pooled = pooled_curve(found.findings, "")
    np.testing.assert_array_equal(pooled.pixels, expected.pixels)
    np.testing.assert_allclose(pooled.frequency, expected.frequency)
    np.testing.assert_allclose(pooled.confidence, expected.confidence)


def finding(**values: float | None) -> Finding:
    return Finding(dict.fromkeys(MEASURES) | values, "1", 1)


def test_filters_and_presets():
    good, bad, unknown = finding(dice=0.9), finding(dice=0.2), finding()
    assert [Filter("dice", ">=", 0.9).accepts(f) for f in (good, bad, unknown)] == [True, False, False]
    assert [Filter("dice", "<=", 0.2).accepts(f) for f in (good, bad, unknown)] == [False, True, False]
    assert all(NO_FILTER.accepts(f) for f in (good, bad, unknown))
    with pytest.raises(InputError, match="no measure 'speed'"):
        Filter("speed")
    assert next(iter(PRESETS)) == "worst"
    for preset in PRESETS.values():
        assert preset.measure in MEASURES
    assert [PRESETS["right"].filter.accepts(f) for f in (good, bad)] == [True, False]


def test_the_table_as_csv(truth, mask):
    found = compare(Inputs(stack(mask), stack(truth), name="scan, left"))
    lines = list(csv.DictReader(findings_as_csv(found.findings[::-1]).splitlines()))
    assert [int(line["slice"]) for line in lines] == [3, 2, 1]
    assert lines[0]["image"] == "scan, left"
    assert float(lines[1]["dice"]) == found.findings[1].measure("dice")
    assert lines[0]["ece"] == ""
    assert set(MEASURES) <= lines[0].keys()
    head = findings_as_csv(found.findings, ["dice", "hd95"], delimiter="\t").splitlines()[0]
    assert head.split("\t") == ["case", "image", "plane", "slice", "object", "value", "dice", "hd95"]


# -- an evaluation's folder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("volume", [False, True])
def test_an_evaluation_s_findings_are_its_rows_and_its_pictures_their_maps(tmp_path: Path, volume: bool):
    results = build_results(tmp_path, volume=volume)
    stored = open_evaluation(tmp_path / "run")
    assert (stored.prompt, stored.method) == ("gt-box", "entropy")
    other = stored.choose("box-0.5", "prompt")
    assert [f.row["case"] for f in other.findings] == [r["case"] for r in results.select("box-0.5", "prompt")]
    assert other.digest.mean("dice") == pytest.approx(np.mean([f.measure("dice") for f in other.findings]))
    assert other.digest.agreement["method"] == "prompt"
    assert other.length_unit == ("mm" if volume else "px")
    for found in other.findings:
        picture, case = other.picture(found), results.case(found.row)
        maps = results.maps(found.row, case.truth.shape)
        np.testing.assert_allclose(picture.error, np.abs(maps.probability - case.truth), atol=1e-6)
        again = measure_case(
            picture.scene.prediction, maps.probability, picture.scene.uncertainty, picture.scene.truth,
            spacing=picture.spacing,
        )  # fmt: skip
        assert again.values["dice"] == pytest.approx(found.measure("dice"))
        assert again.values["hd95"] == pytest.approx(found.measure("hd95"))
        assert picture.scene.image.shape == picture.scene.truth.shape
        assert picture.scene.uncertainty.max() <= LN2
        assert not picture.missing


def test_images_are_read_once_while_walking_through_their_slices(tmp_path: Path, monkeypatch):
    build_results(tmp_path, volume=True)
    stored = open_evaluation(tmp_path / "run")
    loaded: list[str] = []
    real = type(stored.results.dataset).load
    monkeypatch.setattr(
        type(stored.results.dataset), "load", lambda self, name: loaded.append(name) or real(self, name)
    )
    for found in stored.findings:
        stored.picture(found)
    assert loaded == ["volume_0", "volume_1"]


def test_a_dataset_that_moved_and_maps_that_are_gone_are_sentences(tmp_path: Path):
    build_results(tmp_path, maps=False)
    stored = open_evaluation(tmp_path / "run")
    picture = stored.picture(stored.findings[0])
    assert picture.error is None
    assert "--no-maps" in picture.missing
    assert picture.scene.truth.any()
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    again = open_evaluation(tmp_path / "run")
    assert len(again.findings) == 6
    with pytest.raises(InputError, match="not where it was"):
        again.picture(again.findings[0])


def test_a_dataset_that_moved_is_read_from_its_new_place(tmp_path: Path):
    build_results(tmp_path)
    build_results(tmp_path / "other", volume=True)
    before = open_evaluation(tmp_path / "run").choose("box-0.5", "prompt")
    expected = [before.picture(found) for found in before.findings]
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    moved = open_evaluation(tmp_path / "run").choose("box-0.5", "prompt").relocated(tmp_path / "elsewhere")
    assert (moved.prompt, moved.method) == ("box-0.5", "prompt")
    assert moved.results.dataset.root == tmp_path / "elsewhere"
    for found, picture in zip(moved.findings, expected, strict=True):
        np.testing.assert_array_equal(moved.picture(found).wrong, picture.wrong)
    for place, sentence in (("other/data", "none of the images"), ("run", "run"), ("nowhere", "no folder")):
        with pytest.raises(InputError, match=sentence):
            before.relocated(tmp_path / place)


def test_the_unit_of_cases_that_differ(tmp_path: Path):
    results = build_results(tmp_path, cases=2)
    rows = [dict(row) | {"unit": "mm" if row["image"] == "ellipse_00" else "px"} for row in results.rows]
    write_results(tmp_path / "run", dict(results.document) | {"cases": rows})
    assert open_evaluation(tmp_path / "run").length_unit == "mm or px"


def test_a_damaged_evaluation_is_a_sentence(tmp_path: Path):
    results = build_results(tmp_path, cases=2)
    for change in ({"cases": [{"case": "a"}]}, {"cases": 3}, {"settings": {}}, {"cases": []}):
        write_results(tmp_path / "run", dict(results.document) | change)
        with pytest.raises(InputError, match="no complete evaluation"):
            open_evaluation(tmp_path / "run")


def test_a_case_that_left_the_dataset_is_a_sentence(tmp_path: Path):
    build_results(tmp_path, cases=2)
    stored = open_evaluation(tmp_path / "run")
    gone = replace(stored.findings[0], row=dict(stored.findings[0].row) | {"case": "ellipse_00/9"})
    with pytest.raises(InputError, match="does not hold ellipse_00/9 any more"):
        stored.picture(gone)
