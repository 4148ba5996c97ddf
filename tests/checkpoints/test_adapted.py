"""Models with an adapter: named with a +, found where parts are, and never mixed up with the model without."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_uncertsam import checkpoints
from napari_uncertsam.adapters import AdapterSettings, MpaAdapter
from napari_uncertsam.checkpoints import CACHE_VARIABLE, file_sha256, find_part, missing_part, part_record, parts, table
from napari_uncertsam.checkpoints.adapted import split_adapter
from napari_uncertsam.engine import Sam2Engine
from napari_uncertsam.errors import CheckpointError
from napari_uncertsam.intensity import Window
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Request, Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.volume import Volume
from tests.fakes import scene
from tests.tiny import tiny_config, tiny_engine


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in place of the bundled one, an empty cache, and a package that ships no part."""
    folder = tmp_path / "weights"
    folder.mkdir()
    tiny_config(folder).rename(folder / "bundled.yaml")
    save_file(tiny_engine(tmp_path).model.state_dict(), folder / "bundled.safetensors")
    monkeypatch.setattr(table, "_WEIGHTS", folder)
    monkeypatch.setattr(parts, "_SHIPPED", folder)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return folder / "bundled.safetensors"


def write_adapter(path: Path, weights: Path, seed: int = 0) -> Path:
    """An adapter with random weights for the tiny model."""
    engine = Sam2Engine.load("bundled", device="cpu")
    mpa = MpaAdapter.of_model(engine.model, AdapterSettings(init="paper"), seed)
    return checkpoints.write_part(path, "adapter", file_sha256(weights), mpa.state_dict(), {"activation": "relu"})


def test_names(tmp_path: Path, weights: Path) -> None:
    own = tmp_path / "sam2.1_hiera_b+.pt"
    own.write_bytes(b"weights")
    for model, expected in {
        "sam2.1-tiny": ("sam2.1-tiny", ""),
        "sam2.1-tiny+adapter": ("sam2.1-tiny", "adapter"),
        "bundled+a/b+c.safetensors": ("bundled", "a/b+c.safetensors"),
        str(own): (str(own), ""),
        f"{own}+adapter": (str(own), "adapter"),
        f"{own}+x.safetensors": (str(own), "x.safetensors"),
        "nonsense+adapter": ("nonsense", "adapter"),
    }.items():
        assert split_adapter(model) == expected


def test_the_shipped_one_and_the_installed_one_before_it(weights: Path) -> None:
    shipped = write_adapter(parts.shipped_path("adapter"), weights)
    plain, found = checkpoints.resolve("bundled"), checkpoints.resolve("bundled+adapter")
    assert (plain.adapter, found.adapter) == (None, shipped)
    assert (found.name, found.base, found.path) == ("bundled+adapter", "bundled", weights)
    assert plain.sha256 == found.file_sha256 == file_sha256(weights)
    both = f"{file_sha256(weights)}{file_sha256(shipped)}"
    assert found.sha256 == hashlib.sha256(both.encode()).hexdigest()
    other = write_adapter(parts.installed_path("adapter", file_sha256(weights)), weights, seed=1)
    assert checkpoints.resolve("bundled+adapter").adapter == other
    assert checkpoints.resolve("bundled+adapter").sha256 != found.sha256
    again = checkpoints.resolve(f"bundled+{shipped}")
    assert (again.sha256, again.name) == (found.sha256, f"bundled+{shipped}")


def test_sentences(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no MPA adapter for the model bundled yet; .* fit adapter --model "):
        checkpoints.resolve("bundled+adapter")
    with pytest.raises(CheckpointError, match=r"no adapter file .*none.safetensors; give `bundled\+adapter`"):
        checkpoints.resolve(f"bundled+{tmp_path / 'none.safetensors'}")
    with pytest.raises(CheckpointError, match="There is no model or checkpoint file 'bundles'"):
        checkpoints.resolve("bundles+adapter")
    with pytest.raises(CheckpointError, match="not downloaded"):
        checkpoints.resolve("sam2.1-tiny+adapter")
    adapter = write_adapter(tmp_path / "adapter.safetensors", weights)
    adapter.write_bytes(adapter.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoints.resolve(f"bundled+{adapter}")
    other = checkpoints.write_part(tmp_path / "b.safetensors", "adapter", "b" * 64, {"a": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match=r"MPA adapter .* was fitted for another checkpoint .*bbbbbbbbbbbb"):
        checkpoints.resolve(f"bundled+{other}")
    unfit = checkpoints.write_part(tmp_path / "c", "adapter", file_sha256(weights), {"a": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match="does not fit this model's image encoder"):
        Sam2Engine.load(f"bundled+{unfit}", device="cpu")


@pytest.mark.parametrize("model", ["bundled+adapter", "bundled+a/b.safetensors"])
def test_a_missing_part_of_an_adapted_model_names_it(model: str) -> None:
    assert missing_part("laplace", model).endswith(f"napari-uncertsam fit laplace --model {model} --install")
    assert missing_part("laplace", "own.pt+adapter").endswith("--model own.pt+adapter --install --config CONFIG")


def test_the_list_has_it_beside_its_model(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [row.name for row in checkpoints.list_models()]
    assert not any("+" in name for name in names)
    adapter = write_adapter(parts.shipped_path("adapter"), weights)
    tiny = table.cache_dir() / "sam2.1_hiera_tiny.pt"
    tiny.parent.mkdir()
    tiny.write_bytes(b"12345")
    entry = replace(table.CHECKPOINTS["sam2.1-tiny"], sha256=file_sha256(tiny), size=5)
    monkeypatch.setattr(table, "CHECKPOINTS", MappingProxyType({**table.CHECKPOINTS, "sam2.1-tiny": entry}))
    checkpoints.write_part(parts.installed_path("adapter", entry.sha256), "adapter", entry.sha256, {}, {})
    rows = checkpoints.list_models()
    assert [row.name for row in rows][:4] == ["bundled", "bundled+adapter", "sam2.1-tiny", "sam2.1-tiny+adapter"]
    assert (rows[1].path, rows[1].size, rows[1].downloaded) == (adapter, adapter.stat().st_size, True)
    assert "MPA adapter" in rows[1].title


def test_parts_of_the_combination_ship_too(weights: Path) -> None:
    write_adapter(parts.shipped_path("adapter"), weights)
    sha256 = checkpoints.resolve("bundled+adapter").sha256
    laplace = parts.shipped_path("laplace", "bundled+adapter")
    checkpoints.write_part(laplace, "laplace", sha256, {"a": torch.ones(1)}, {})
    assert laplace.name == "bundled+adapter.laplace.safetensors"
    assert find_part("laplace", sha256) == laplace
    assert find_part("laplace", file_sha256(weights)) is None
    record = part_record("laplace", sha256)
    assert record is not None
    assert record["origin"] == "shipped"


def test_an_adapted_model_predicts_and_says_what_it_is(weights: Path) -> None:
    adapter = write_adapter(parts.shipped_path("adapter"), weights)
    image, _ = scene(96, 80)
    volume = Volume(image, rgb=True)
    masks, records = [], []
    for model in ("bundled", "bundled+adapter"):
        pipeline = Pipeline(Sam2Engine.load(model, device="cpu"))
        settings = Settings(model=model, method="entropy")
        request = Request("a", 0, 0, Window.for_volume(volume), None, 1, Prompts(box=Box(20, 15, 70, 60)), settings)
        prediction = pipeline.predict(volume, request)
        masks.append(prediction.maps.probability)
        records.append(prediction.record)
    assert not np.allclose(*masks)
    plain, adapted = records
    assert "adapter" not in plain
    assert (adapted["model"], adapted["checkpoint_sha256"]) == (
        "bundled+adapter",
        checkpoints.resolve("bundled+adapter").sha256,
    )
    assert adapted["adapter"] == {"sha256": file_sha256(adapter), "checkpoint_sha256": file_sha256(weights)}


def test_the_engine_of_an_adapted_model(weights: Path) -> None:
    write_adapter(parts.shipped_path("adapter"), weights)
    engine, plain = (Sam2Engine.load(model, device="cpu") for model in ("bundled+adapter", "bundled"))
    assert (engine.name, engine.sha256) == ("bundled+adapter", checkpoints.resolve("bundled+adapter").sha256)
    assert plain.adapter is None
    # The fallback to another mask token is for SAM 2's own checkpoints, with an adapter or without.
    assert not engine.model.sam_mask_decoder.dynamic_multimask_via_stability
    assert not any(p.requires_grad for p in engine.model.parameters())
    image = scene(96, 80)[0]
    prompts = [Prompts(box=Box(20, 15, 70, 60))]
    seen = engine.decode(engine.embed(image), prompts)
    assert torch.isfinite(seen.logits).all()
    assert not torch.allclose(seen.logits, plain.decode(plain.embed(image), prompts).logits)
