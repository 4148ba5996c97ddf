"""Temperatures by closed form, folded weights by what the model says, and the command on a tiny model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import expit

from napari_uncertsam.checkpoints import file_metadata, load_state_dict, table
from napari_uncertsam.engine import Sam2Engine, build_model
from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics import reliability_curve, roi_of
from napari_uncertsam.training import calibration, export
from napari_uncertsam.training.calibration import Tally, Yardstick, count_logits, fold, held_out_scores, predictions
from napari_uncertsam.training.export import write_weights
from napari_uncertsam.training.frozen import Frozen
from napari_uncertsam.training.synthetic import Scene
from tests.cli.conftest import Outcome
from tests.tiny import tiny_config, tiny_engine

YARDSTICK = Yardstick(roi_of, reliability_curve)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of a model this small wait for each other most of the time, for minutes on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Ellipses:
    """Two bright ellipses, somewhere: a scene in no time."""

    name = "ellipses"

    def draw(self, generator: torch.Generator, size: int) -> Scene:
        at = torch.arange(size).float()
        low, high = size // 4, 3 * size // 4
        centres = torch.randint(low, high, (2, 2), generator=generator)
        masks = torch.stack([((at - y)[:, None] ** 2 + 2 * (at - x) ** 2) < (size / 6) ** 2 for y, x in centres])
        noise = 0.2 * torch.rand(3, size, size, generator=generator)
        return Scene(0.2 + noise + 0.5 * masks.any(0), masks)


@pytest.mark.parametrize("overconfidence", [0.3, 1.0, 2.7])
def test_logits_that_are_so_many_times_too_large_have_that_temperature(overconfidence: float) -> None:
    tally, rng = Tally(), np.random.default_rng(0)
    for _ in range(3):
        calibrated = rng.normal(-1, 4, (40, 50))
        tally.add(overconfidence * calibrated, expit(calibrated))
    assert tally.temperature() == pytest.approx(overconfidence, rel=1e-4)


def test_cross_entropy_is_that_of_every_pixel_and_the_temperature_its_lowest() -> None:
    rng, tally, cases = np.random.default_rng(1), Tally(), []
    for pixels in (200, 3000):  # a case weighs the same whatever its size
        logits = rng.normal(0, 5, pixels)
        logits[:2] = (90, -90)
        truth = rng.random(pixels) < expit(logits / 2)
        tally.add(logits, truth)
        cases.append((logits, truth))

    def slow(temperature: float) -> float:
        p = [(np.where(m, 1, -1) * x / temperature) for x, m in cases]
        return float(np.mean([np.logaddexp(0, -signed).mean() for signed in p]))

    for temperature in (0.5, 1.0, 3.0):
        assert tally.nll(temperature) == pytest.approx(slow(temperature), abs=1e-5)
    best = tally.temperature()
    assert slow(best) <= min(slow(best * factor) for factor in (0.97, 0.99, 1.01, 1.03)) + 1e-7


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_no_temperature_helps_what_is_perfect_or_says_nothing(sign: int) -> None:
    tally, logits = Tally(), np.array([-8.0, -8, 8, 8])
    tally.add(logits, np.full(4, 0.5) if sign == 0 else sign * logits > 0)
    with pytest.raises(InputError, match="No temperature between"):
        tally.temperature()
    with pytest.raises(InputError, match="No temperature between"):
        Tally().temperature()


def test_calibration_error_of_a_known_distribution() -> None:
    # Half of the pixels say 0.8 and are right as often as 0.6, half say 0.1 and are never inside.
    logits = np.log(np.repeat([0.8 / 0.2, 0.1 / 0.9], 50))
    truth = np.repeat([True, False, False], [30, 20, 50])
    scored = calibration._Scored()
    for part in (slice(0, 50), slice(50, 100)):
        scored.add(logits[part], truth[part], YARDSTICK)
    score = scored.score()
    assert score.ece == pytest.approx(0.5 * 0.2 + 0.5 * 0.1)
    assert score.case_ece == pytest.approx((0.2 + 0.1) / 2)
    expected = (-(0.6 * np.log(0.8) + 0.4 * np.log(0.2)) - np.log(0.9)) / 2
    assert score.nll == pytest.approx(expected)


def test_folded_weights_say_the_same_divided_by_the_temperature(tmp_path: Path) -> None:
    engine, temperature = tiny_engine(tmp_path), 2.5
    before = Frozen(engine)
    state = {k: v.clone() for k, v in engine.model.state_dict().items()}
    model = build_model(tiny_config(tmp_path))
    model.load_state_dict(fold(state, temperature))
    assert all(torch.equal(v, state[k]) for k, v in engine.model.state_dict().items())
    after = Frozen(Sam2Engine(model, "folded", device="cpu"))
    scene = Ellipses().draw(torch.Generator().manual_seed(2), 64)
    features = before.embed(scene.image)
    said = [list(predictions(f, features, scene.masks, torch.Generator().manual_seed(3))) for f in (before, after)]
    assert [form for form, _ in said[0]] == [
        "tight box",
        "noisy box",
        "noisy box, corrected",
        "one click",
        "one click, corrected",
        "several clicks",
    ]
    for (form, old), (_, new) in zip(*said, strict=True):
        torch.testing.assert_close(new, old / temperature, rtol=1e-5, atol=1e-5, msg=form)
    # All tokens, and what is no mask stays as it is, with a mask that is fed back too.
    prompts = calibration._tight_boxes(scene.masks)
    old = before.decode(features, prompts)
    again = before.decode(features, prompts, old.logits[:, None])
    new = after.decode(features, prompts, old.logits[:, None] / temperature)
    torch.testing.assert_close(new.token_logits, again.token_logits / temperature, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(new.token_iou, again.token_iou)
    torch.testing.assert_close(new.object_score, again.object_score)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive(temperature: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="positive"):
        fold(tiny_engine(tmp_path).model.state_dict(), temperature)


def test_other_weights_are_refused() -> None:
    with pytest.raises(InputError, match="no mask decoder"):
        fold({"weight": torch.ones(2)}, 2.0)


def test_an_overconfident_model_is_found_out_and_calibrated(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    options = {"scenes": 3, "seed": 5}
    wrong = engine.model.state_dict()
    source = Ellipses()

    def temperature_of(state: dict[str, torch.Tensor]) -> float:
        engine.model.load_state_dict(state)
        return count_logits(Frozen(engine), source, YARDSTICK, **options)["image"].temperature()

    # A model of random weights knows nothing, but for one layer that says how likely background is.
    biased = {k: v.clone() for k, v in wrong.items()}
    mlp = "sam_mask_decoder.output_hypernetworks_mlps.0.layers.2"
    biased["sam_mask_decoder.output_upscaling.3.bias"] += 3.0
    biased[f"{mlp}.bias"] -= 0.3
    first = temperature_of(biased)
    assert temperature_of(fold(biased, first)) == pytest.approx(1.0, abs=2e-3)
    engine.model.load_state_dict(biased)
    scores = held_out_scores(Frozen(engine), source, YARDSTICK, first, **options)
    assert list(scores)[-1] == "several clicks"
    assert set(scores["all"]) == {"image", "around"}
    before, after = scores["all"]["image"]
    assert after.nll < before.nll
    assert after.ece < before.ece


def test_half_precision_in_the_file_and_single_in_the_model(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    config = tiny_config(tmp_path)
    path = write_weights(engine.model.state_dict(), tmp_path / "half.safetensors", {"temperature": "2.0"})
    assert file_metadata(path) == {"temperature": "2.0"}
    assert path.stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in tmp_path.iterdir()) == ["half.safetensors", "tiny.yaml"]
    loaded = load_state_dict(path)
    assert {v.dtype for v in loaded.values() if v.is_floating_point()} == {torch.float16}
    half = Sam2Engine.load(str(path), str(config), "cpu")
    assert {v.dtype for v in half.model.state_dict().values() if v.is_floating_point()} == {torch.float32}
    for name, value in half.model.state_dict().items():
        assert torch.equal(value, loaded[name].to(value.dtype)), name
    scene = Ellipses().draw(torch.Generator().manual_seed(2), 64)
    prompts = calibration._tight_boxes(scene.masks)
    one, other = (f.decode(f.embed(scene.image), prompts).token_logits for f in (Frozen(engine), Frozen(half)))
    assert other.dtype == torch.float32
    torch.testing.assert_close(other, one, rtol=0, atol=0.02 * one.abs().max().item())


@pytest.mark.parametrize("value", [65504.0, -1e5, float("nan"), float("inf")])
def test_what_overflows_is_refused_and_the_file_before_stays(value: float, tmp_path: Path) -> None:
    path = write_weights({"a": torch.ones(3), "count": torch.tensor(70000)}, tmp_path / "w.safetensors", {})
    assert load_file(path)["count"].item() == 70000
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"weights a hold .* cannot be stored as float16"):
        write_weights({"a": torch.tensor([1.0, value])}, path, {})
    assert path.read_bytes() == before


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = torch.zeros(10, 10)
    tensors = {"a": shared, "b": shared.T}  # one memory, and not contiguous
    monkeypatch.setattr(export, "MOST_BYTES", 600)
    assert write_weights(tensors, tmp_path / "w.safetensors", {}).stat().st_size <= 600
    with pytest.raises(InputError, match=r"more than the"):
        write_weights(tensors, tmp_path / "v.safetensors", {"long": "x" * 400})
    with pytest.raises(InputError, match=r"more than the"):
        write_weights(tensors, tmp_path / "v.safetensors", {}, torch.float32)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_write_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_weights({"a": torch.ones(3)}, tmp_path / "w.safetensors", {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in place of the bundled one, overconfident; and quick scenes. Its weights."""
    from napari_uncertsam.training import sources

    folder = tmp_path / "weights"
    folder.mkdir()
    tiny_config(folder).rename(folder / "bundled.yaml")
    state = tiny_engine(tmp_path).model.state_dict()
    state["sam_mask_decoder.output_upscaling.3.bias"] += 3.0
    state["sam_mask_decoder.output_hypernetworks_mlps.0.layers.2.bias"] += (
        0.04  # around an object most pixels are inside
    )
    save_file(state, folder / "bundled.safetensors", metadata={"settings": "{}", "temperature": "2.0"})
    monkeypatch.setattr(table, "_WEIGHTS", folder)
    monkeypatch.setattr(sources, "SyntheticSource", Ellipses)
    monkeypatch.setattr(calibration, "OBJECTS", 1)
    return folder / "bundled.safetensors"


def run(*arguments: object) -> Outcome:
    from typer.testing import CliRunner

    from napari_uncertsam.cli import app

    result = CliRunner().invoke(app, [str(a) for a in ("fit", "temperature", *arguments)], catch_exceptions=False)
    return Outcome(result.exit_code, result.stdout, result.stderr)


def test_the_command_calibrates_and_installs(bundled: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out", load_file(bundled)
    options = ("--scenes", 2, "--held-out", 2, "--device", "cpu", "--out", out)
    result = run(*options)
    assert result.code == 0, result.err
    assert load_file(bundled).keys() == before.keys()
    assert file_metadata(bundled)["temperature"] == "2.0"  # not installed
    metadata = file_metadata(out / "calibrated.safetensors")
    record = json.loads(metadata["calibration"])
    assert (metadata["settings"], record["region"]) == ("{}", "around")
    assert float(metadata["temperature"]) == pytest.approx(2 * record["temperature"])
    assert (record["scenes"], record["held_out"], record["seed"]) == (2, 2, 1)
    figures = json.loads((out / "calibration.json").read_text("utf-8"))
    assert figures["held_out"]["all"]["around"]["after"] == record["around"]["after"]
    assert "one click, corrected" in result.out
    assert run(*options, "--install").code == 0
    assert bundled.read_bytes() == (out / "calibrated.safetensors").read_bytes()
    name = "sam_mask_decoder.output_hypernetworks_mlps.3.layers.2.weight"
    expected = before[name] / record["temperature"]
    torch.testing.assert_close(load_file(bundled)[name].float(), expected, rtol=1e-3, atol=1e-6)


def test_a_file_of_the_bundled_configuration_is_calibrated_as_the_bundled_model(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def count(frozen: Frozen, *_: object, **__: object) -> dict[str, Tally]:
        seen.append(frozen.engine.model.sam_mask_decoder.dynamic_multimask_via_stability)
        raise InputError("That is enough.")

    monkeypatch.setattr(calibration, "count_logits", count)
    own, other = tmp_path / "own.safetensors", tmp_path / "other.yaml"
    own.write_bytes(bundled.read_bytes())
    config = bundled.with_name("bundled.yaml")
    other.write_text(f"# another\n{config.read_text('utf-8')}", "utf-8")
    options = ("--weights", own, "--out", tmp_path / "out", "--device", "cpu")
    for more in (("--config", config), ("--config", other), ("--config", other, "--install")):
        assert run(*options, *more).code == 2
    assert seen == [False, True, False]


def test_what_the_command_refuses(bundled: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "choose one of image, around" in run("--out", tmp_path / "out", "--region", "roi").sentence
    assert "is a file" in run("--out", tmp_path / "file").sentence
    own = tmp_path / "calibrated.safetensors"
    own.write_bytes(bundled.read_bytes())
    config = bundled.with_name("bundled.yaml")
    assert "overwritten" in run("--weights", own, "--config", config, "--out", tmp_path).sentence
    save_file(load_file(bundled), own, metadata={"memory": "trained"})
    assert "fit memory" in run("--weights", own, "--config", config, "--out", tmp_path / "out").sentence
    assert not (tmp_path / "out").exists()
