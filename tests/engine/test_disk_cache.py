"""Embeddings on disk: what comes back is what was put in, whatever happens to the files meanwhile."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch

from napari_uncertsam.checkpoints import CACHE_VARIABLE
from napari_uncertsam.engine import DiskCache, Embedder, Embedding, EmbeddingCache, Sam2Engine
from napari_uncertsam.engine.disk_cache import LIMIT_VARIABLE
from napari_uncertsam.errors import InputError
from napari_uncertsam.pipeline import Pipeline
from napari_uncertsam.prediction import Request, Settings
from napari_uncertsam.prompts import Box, Prompts
from napari_uncertsam.view import View
from napari_uncertsam.volume import Volume, Window
from tests.fakes import FakeEngine, scene

BOX = Box(40, 34, 87, 97)


def made(seed: int = 0) -> Embedding:
    """About 21 kB, the second map with its channels together, as SAM 2 gives them."""
    draws = torch.Generator().manual_seed(seed)
    channels_last = torch.rand(1, 64, 16, generator=draws).permute(0, 2, 1).reshape(1, 16, 8, 8)
    return Embedding((torch.rand(1, 4, 32, 32, generator=draws), channels_last), (100, 90 + seed))


def key(number: int) -> str:
    return f"{number:02x}" * 32


def same(a: Embedding | None, b: Embedding) -> bool:
    assert a is not None
    assert a.shape == b.shape
    assert [f.dtype for f in a.features] == [f.dtype for f in b.features]
    return all(torch.equal(x, y) for x, y in zip(a.features, b.features, strict=True))


def size_of(cache: DiskCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.glob("*/*"))


def age(cache: DiskCache, number: int, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(cache.path(key(number)), (then, then))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_what_comes_back_is_what_was_put_in(tmp_path: Path, kind: torch.dtype) -> None:
    embedding = made()
    embedding = Embedding(tuple(f.to(kind) for f in embedding.features), embedding.shape)
    embedding.derived["turned"] = made(1)
    cache, image = DiskCache(tmp_path / "e", 1 << 20), np.zeros((5, 6, 3), np.uint8)
    assert cache.get(key(0)) is None
    cache.put(key(0), embedding)
    again = DiskCache(tmp_path / "e", 1 << 20).get(key(0), image)
    assert same(again, embedding)
    assert again is not None
    assert again.image is image
    assert again.derived == {}
    # A convolution sums in another order when channels lie apart.
    layouts = [f.is_contiguous(memory_format=torch.channels_last) for f in again.features]
    assert layouts == [f.is_contiguous(memory_format=torch.channels_last) for f in embedding.features] == [False, True]
    assert all(f.data_ptr() % 64 == 0 for f in again.features)
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "e").stat().st_mode) == 0o700


def test_a_damaged_file_is_a_miss_and_goes(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    cache.put(key(0), made())
    path = cache.path(key(0))
    whole = path.read_bytes()
    turned = bytearray(whole)
    turned[-1000] ^= 1
    zeros = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    for content in (b"", b"nonsense" * 100, whole[:100], whole[:-1], bytes(len(whole)), bytes(turned), zeros):
        path.write_bytes(content)
        assert cache.get(key(0)) is None
        assert not path.exists()
    cache.put(key(0), made())
    assert same(cache.get(key(0)), made())


def test_a_file_of_another_program_is_a_miss(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    cache = DiskCache(tmp_path, 1 << 20)
    path = cache.path(key(0))
    path.parent.mkdir(parents=True)
    save_file({"weights": torch.zeros(3)}, path)
    assert cache.get(key(0)) is None
    path.mkdir()
    assert cache.get(key(0)) is None


def test_the_limit_holds_and_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 30)
    cache.put(key(0), made())
    one = size_of(cache)
    cache = DiskCache(tmp_path, int(5.5 * one))
    for number in range(1, 5):
        cache.put(key(number), made(number))
    for number in range(5):
        age(cache, number, 1000 - 100 * number)
    assert cache.get(key(1)) is not None  # used just now
    cache.put(key(5), made(5))
    left = [number for number in range(6) if cache.path(key(number)).exists()]
    assert left == [1, 3, 4, 5]  # the sixth was too many; nine tenths of the limit are kept
    for number in range(6, 30):
        cache.put(key(number), made(number))
        assert size_of(cache) <= cache.limit_bytes
        assert cache.path(key(number)).exists()
    cache = DiskCache(tmp_path, one - 1)
    cache.put(key(40), made())
    assert not cache.path(key(40)).exists()  # it alone would be too much


def test_a_use_is_noted_once_a_minute(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 30)
    cache.put(key(0), made())
    for seconds, noted in ((30, False), (90, True)):
        age(cache, 0, seconds)
        before = cache.path(key(0)).stat().st_mtime
        assert cache.get(key(0)) is not None
        assert (cache.path(key(0)).stat().st_mtime != before) == noted


def test_what_a_dead_process_left_unfinished_goes(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 30)
    cache.put(key(0), made())
    old, new = (cache.path(key(0)).with_name(f"{name}.tmp") for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    DiskCache(tmp_path, 1 << 30).put(key(1), made(1))
    assert not old.exists()
    assert new.exists()


def test_nobody_waits_for_a_process_that_evicts(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 30)
    cache.put(key(0), made())
    cache = DiskCache(tmp_path, int(1.5 * size_of(cache)))
    with filelock.FileLock(tmp_path / ".lock"):
        for number in range(1, 4):
            cache.put(key(number), made(number))
        assert all(same(cache.get(key(number)), made(number)) for number in range(4))
    cache.put(key(4), made(4))
    assert size_of(cache) <= cache.limit_bytes


@pytest.mark.parametrize("cause", ["full", "a file in its place", "no locks"])
def test_a_disk_that_does_not_let_us_is_said_once(
    tmp_path: Path, cause: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    if cause == "full":
        monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    elif cause == "no locks":
        monkeypatch.setattr(filelock, "FileLock", lambda *_: (_ for _ in ()).throw(NotImplementedError("no flock")))
    else:
        folder.write_text("")
    cache = DiskCache(folder, 1 << 20)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            cache.put(key(number), made(number))
            cache.get(key(number))
    assert len(caplog.records) == 1
    assert str(folder) in caplog.text
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(("given", "limit"), [(None, 8 << 30), ("", 8 << 30), ("0.5", 1 << 29), ("0", None)])
def test_the_users_own_cache(
    tmp_path: Path, given: str | None, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    if given is not None:
        monkeypatch.setenv(LIMIT_VARIABLE, given)
    cache = DiskCache.default()
    assert (cache and (cache.folder, cache.limit_bytes)) == (limit and (tmp_path / "embeddings", limit))
    assert not (tmp_path / "embeddings").exists()
    for wrong in ("lots", "-1", "nan", "inf"):
        monkeypatch.setenv(LIMIT_VARIABLE, wrong)
        with pytest.raises(InputError, match=f"{LIMIT_VARIABLE} is '{wrong}'; give a number"):
            DiskCache.default()


HAMMER = """
import random, sys
from napari_uncertsam.engine import DiskCache
from tests.engine.test_disk_cache import key, made, same

folder, limit, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draws, cache, hits, known = random.Random(seed), DiskCache(folder, limit), 0, [made(k) for k in range(24)]
for turn in range(400):
    number = draws.randrange(24)
    found = cache.get(key(number))
    if found is None:
        cache.put(key(number), known[number])
    else:
        assert same(found, known[number]), number
        hits += 1
    if turn % 50 == 49:  # as after a crash
        try:
            with cache.path(key(number)).open("r+b") as file:
                file.truncate(100)
        except FileNotFoundError:
            pass
print(hits)
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "e", 1 << 30)
    cache.put(key(99), made())
    limit = 12 * size_of(cache)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "error", "-c", HAMMER, str(cache.folder), str(limit)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": root}
    running = [subprocess.Popen([*command, str(seed)], **pipes) for seed in (1, 2)]  # type: ignore[call-overload]
    for process in running:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, "")
        assert int(out) > 50
    assert not list(cache.folder.rglob("*.tmp"))
    last = DiskCache(cache.folder, limit)
    last.put(key(98), made(8))
    assert 0 < size_of(last) <= limit


def request(volume: Volume, window: Window | None = None) -> Request:
    chosen = Settings(method="laplace", n_suggestions=3)
    return Request("image", 0, 0, window or Window.for_volume(volume), None, 1, Prompts(box=BOX), chosen)


def test_predictions_are_the_same_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, engine = Volume(scene()[0], rgb=True), Sam2Engine.load("bundled", device="cpu")
    disk = DiskCache(tmp_path, 1 << 30)
    found = [Pipeline(engine, disk=d).predict(volume, request(volume)) for d in (None, disk)]
    monkeypatch.setattr(engine, "embed", None)
    found.append(Pipeline(engine, disk=DiskCache(tmp_path, 1 << 30)).predict(volume, request(volume)))
    first, *others = found
    for other in others:
        assert np.array_equal(first.belief.logits(), other.belief.logits())
        for name in ("mask", "probability", "uncertainty"):
            assert np.array_equal(getattr(first.maps, name), getattr(other.maps, name))
        assert (first.suggestions, first.area_interval) == (other.suggestions, other.area_interval)


def embedder(engine: FakeEngine, disk: DiskCache | None) -> Embedder:
    return Embedder(engine, EmbeddingCache(), disk)


def test_an_embedding_of_before_is_read_and_goes_into_memory(tmp_path: Path) -> None:
    image, view, disk = scene()[0], View(10, 20, 64, 64), DiskCache(tmp_path, 1 << 30)
    first = embedder(FakeEngine(), disk).embedding(image, Window(0, 255), view)
    engine = FakeEngine()
    later = embedder(engine, DiskCache(tmp_path, 1 << 30))
    found = later.embedding(image, Window(0, 255), view)
    assert same(found, first)
    assert found.image is not None
    assert np.array_equal(found.image, view.crop(image))
    assert later.embedding(image, Window(0, 255), view) is found
    assert engine.embed_calls == 0


@pytest.mark.parametrize("change", ["pixels", "window", "view", "checkpoint", "adapter", "resolution", "device"])
def test_what_differs_is_embedded_anew(tmp_path: Path, change: str) -> None:
    image, window, view, disk = scene()[0], Window(0, 255), View(0, 0, 64, 64), DiskCache(tmp_path, 1 << 30)
    embedder(FakeEngine(), disk).embedding(image, window, view)
    engine = FakeEngine(512 if change == "resolution" else 256)
    match change:
        case "pixels":
            image = image + np.uint8(1)
        case "window":
            window = Window(0, 255.1)  # which may round to the same picture
        case "view":
            view = View(0, 0, 64, 63)
        case "checkpoint":
            engine.sha256 = "e" * 64
        case "adapter":
            engine.adapter = {"sha256": "a" * 64}  # type: ignore[attr-defined]
        case "device":
            engine.device_label = "GPU: another"
    embedder(engine, disk).embedding(image, window, view)
    assert engine.embed_calls == 1


def test_nothing_is_kept_unless_asked_for_nor_of_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    volume, engine = Volume(scene()[0], rgb=True), FakeEngine()
    chosen = Request("image", 0, 0, Window(0, 255), None, 1, Prompts(box=BOX), Settings(method="entropy"))
    Pipeline(engine).predict(volume, chosen)
    engine.sha256 = ""
    Pipeline(engine, disk=DiskCache.default()).predict(volume, chosen)
    assert list(tmp_path.iterdir()) == []


def test_the_widget_and_segment_keep_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tifffile
    from typer.testing import CliRunner

    from napari_uncertsam.cli import app
    from napari_uncertsam.ui.jobs import Jobs

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    image, engines = scene()[0][..., 0], [FakeEngine() for _ in range(4)]
    monkeypatch.setattr("napari_uncertsam.cli.segment.load_engine", lambda *_: engines[0])
    tifffile.imwrite(tmp_path / "scene.tif", image)
    box = [str(v) for v in (BOX.y0, BOX.x0, BOX.y1, BOX.x1)]
    for out in ("a", "b"):
        asked = ["segment", str(tmp_path / "scene.tif"), "--box", *box, "--method", "entropy", "--out"]
        assert CliRunner().invoke(app, [*asked, str(tmp_path / out)]).exit_code == 0
        engines.append(engines.pop(0))
    assert [e.embed_calls for e in engines] == [0, 0, 1, 0]
    volume = Volume(image)
    asked_of = Request("i", 0, 0, Window.for_volume(volume), None, 1, Prompts(box=BOX), Settings("fake", "entropy"))
    Jobs(lambda _: engines[0]).predict(volume, asked_of, lambda: False, lambda *_: None)
    assert engines[0].embed_calls == 0
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    Jobs(lambda _: engines[1]).predict(volume, asked_of, lambda: False, lambda *_: None)
    assert engines[1].embed_calls == 1
