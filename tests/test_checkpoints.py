"""The table, finding files, reading them safely, and downloads from a local server that misbehaves."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from napari_uncertsam import checkpoints
from napari_uncertsam.checkpoints import table, transfer
from napari_uncertsam.checkpoints.table import Checkpoint
from napari_uncertsam.errors import Cancelled, CheckpointError

CONTENT = bytes(range(256)) * 2048  # 512 KiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"


@dataclass
class Behaviour:
    """What the server does; the tests change it while it runs."""

    body: bytes = CONTENT
    status: int = 200
    ranges: bool = True
    cut_at: list[int] = field(default_factory=list)  # bytes of the body sent before each of the next cuts
    announce: bool = True
    chunk_seconds: float = 0.0
    asked: list[str | None] = field(default_factory=list)  # Range header of every request


class Handler(BaseHTTPRequestHandler):
    def __init__(self, behaviour: Behaviour, *args: object) -> None:
        self.behaviour = behaviour
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        b = self.behaviour
        wanted = self.headers.get("Range")
        b.asked.append(wanted)
        if b.status != 200:
            self.send_error(b.status)
            return
        start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and b.ranges else 0
        if wanted and b.ranges and start >= len(b.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(b.body)}")
            self.end_headers()
            return
        self.send_response(206 if wanted and b.ranges else 200)
        if wanted and b.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(b.body) - 1}/{len(b.body)}")
        if b.announce:
            self.send_header("Content-Length", str(len(b.body) - start))
        self.end_headers()
        end = start + b.cut_at.pop(0) if b.cut_at else len(b.body)
        try:
            for i in range(start, end, 1 << 14):
                self.wfile.write(b.body[i : min(i + (1 << 14), end)])
                time.sleep(b.chunk_seconds)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client cancelled


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Behaviour, str]]:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")
    behaviour = Behaviour()
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, behaviour))
    thread = threading.Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    yield behaviour, f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, a small model in the table, and no long waits."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(checkpoints.CACHE_VARIABLE, str(folder))
    toy = Checkpoint("toy", "http://server.invalid/toy.pt", SHA256, len(CONTENT), "MIT", TINY, "Toy")
    no_size = Checkpoint("no-size", "http://server.invalid/no_size.pt", SHA256, None, "MIT", TINY, "Toy")
    entries = {**table.CHECKPOINTS, "toy": toy, "no-size": no_size}
    monkeypatch.setattr(table, "CHECKPOINTS", entries)
    monkeypatch.setattr(transfer, "_WAITS", (0.01, 0.01, 0.01))
    return folder


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")} if folder.is_dir() else set()


# ------------------------------------------------------------------------------------------------ download


def test_download_reports_progress_and_is_not_repeated(server, cache: Path) -> None:
    behaviour, url = server
    reports: list[tuple[int, int | None]] = []
    assert checkpoints.cached("toy") is None
    path = checkpoints.download("toy", progress=lambda *r: reports.append(r), base_url=url)
    assert path == cache / "toy.pt" == checkpoints.cached("toy")
    assert path.read_bytes() == CONTENT
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert checkpoints.verify("toy") == "ok"
    assert checkpoints.resolve("toy").sha256 == SHA256
    checkpoints.download("toy", base_url=url)
    assert len(behaviour.asked) == 1
    assert leftovers(cache) == {"toy.pt"}


def test_a_cut_connection_is_resumed(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.cut_at = [200_000, 100_000]
    assert checkpoints.download("toy", base_url=url).read_bytes() == CONTENT
    assert len(behaviour.asked) == 3
    starts = [int(re.match(r"bytes=(\d+)-", asked)[1]) for asked in behaviour.asked[1:]]
    assert 0 < starts[0] <= 200_000 < starts[1] <= 300_000
    assert leftovers(cache) == {"toy.pt"}


def test_a_cut_connection_starts_again_where_ranges_are_not_supported(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.ranges, behaviour.cut_at = False, [200_000]
    assert checkpoints.download("toy", base_url=url).read_bytes() == CONTENT
    assert len(behaviour.asked) == 2


def test_a_line_that_keeps_breaking_is_given_up_and_continued_by_the_next_call(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.cut_at = [70_000] * 4
    with pytest.raises(CheckpointError, match=r"bytes received so far are kept.*models download toy"):
        checkpoints.download("toy", base_url=url)
    assert leftovers(cache) == {"toy.pt.part"}
    assert checkpoints.cached("toy") is None
    kept = (cache / "toy.pt.part").stat().st_size
    assert kept > 70_000
    assert checkpoints.download("toy", base_url=url).read_bytes() == CONTENT
    assert behaviour.asked[-1] == f"bytes={kept}-"
    assert leftovers(cache) == {"toy.pt"}


def test_a_file_that_was_complete_but_not_moved_yet_is_taken(server, cache: Path) -> None:
    behaviour, url = server
    cache.mkdir()
    (cache / "toy.pt.part").write_bytes(CONTENT)
    assert checkpoints.download("toy", base_url=url).read_bytes() == CONTENT
    assert behaviour.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_dropped(server, cache: Path) -> None:
    behaviour, url = server
    cache.mkdir()
    (cache / "toy.pt.part").write_bytes(CONTENT + b"more")
    assert checkpoints.download("toy", base_url=url).read_bytes() == CONTENT
    assert behaviour.asked[-1] is None


def test_a_short_file_of_unannounced_length_is_refused(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.announce, behaviour.cut_at = False, [200_000]
    with pytest.raises(CheckpointError, match="sha256 differs"):
        checkpoints.download("toy", base_url=url)
    assert leftovers(cache) == set()


@pytest.mark.parametrize("name", ["toy", "no-size"])
def test_wrong_bytes_are_refused_and_deleted(server, cache: Path, name: str) -> None:
    behaviour, url = server
    behaviour.body = CONTENT[:-1] + b"!"
    with pytest.raises(CheckpointError, match=r"not the published checkpoint .*deleted"):
        checkpoints.download(name, base_url=url)
    assert leftovers(cache) == set()
    behaviour.body = CONTENT
    assert checkpoints.download(name, base_url=url).read_bytes() == CONTENT


def test_a_rotten_part_spoils_one_attempt_only(server, cache: Path) -> None:
    _, url = server
    cache.mkdir()
    (cache / "toy.pt.part").write_bytes(b"rotten")
    with pytest.raises(CheckpointError, match="sha256 differs"):
        checkpoints.download("toy", base_url=url)
    assert checkpoints.download("toy", base_url=url).read_bytes() == CONTENT


def test_a_login_page_instead_of_the_file_is_refused_before_it_is_read(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.body = b"<html>please log in</html>"
    with pytest.raises(CheckpointError, match=f"offers 26 bytes .* instead of the published {len(CONTENT)}"):
        checkpoints.download("toy", base_url=url)
    assert leftovers(cache) == set()


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_error_of_the_server_is_a_sentence(server, cache: Path, status: int) -> None:
    behaviour, url = server
    behaviour.status = status
    with pytest.raises(CheckpointError, match=rf"The server answered {status} for {url}/toy.pt; .*--model PATH"):
        checkpoints.download("toy", base_url=url)
    assert leftovers(cache) == set()
    assert len(behaviour.asked) == 1


def test_no_network_is_a_sentence_and_fails_at_once(server, cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"from 127.0.0.1 failed \(ConnectionError\); check the network"):
        checkpoints.download("toy", base_url="http://127.0.0.1:9")  # the discard port: nothing listens
    with pytest.raises(CheckpointError, match="failed"):
        checkpoints.download("toy", base_url="no-url")
    assert leftovers(cache) == set()


def test_cancel_stops_a_slow_download_and_keeps_what_came(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.chunk_seconds = 0.05
    part = cache / "toy.pt.part"
    began = time.monotonic()
    with pytest.raises(Cancelled, match="continues where it stopped"):
        checkpoints.download("toy", base_url=url, cancel=lambda: part.is_file() and time.monotonic() > began + 0.3)
    assert time.monotonic() - began < 1.2  # the whole file would take 1.6 s
    assert leftovers(cache) == {"toy.pt.part"}
    kept = part.stat().st_size
    behaviour.chunk_seconds = 0
    assert checkpoints.download("toy", base_url=url).read_bytes() == CONTENT
    assert behaviour.asked[-1] == f"bytes={kept}-"


def test_a_full_disk_is_noticed_before_it_is_filled(server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url = server
    usage = shutil.disk_usage(cache.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"the disk is full.*NAPARI_UNCERTSAM_CACHE"):
        checkpoints.download("toy", base_url=url)
    assert leftovers(cache) == set()


def test_a_disk_that_fills_up_meanwhile(server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url = server

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer._Resuming, "_report", full)
    with pytest.raises(CheckpointError, match="the disk is full"):
        checkpoints.download("toy", base_url=url)
    assert checkpoints.cached("toy") is None


def test_a_cache_folder_that_cannot_be_made(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url = server
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(checkpoints.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(CheckpointError, match="cannot be saved in"):
        checkpoints.download("toy", base_url=url)


def test_two_downloads_at_once_do_not_harm_each_other(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.chunk_seconds = 0.005
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(checkpoints.download("toy", base_url=url).read_bytes()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT, CONTENT]
    assert len(behaviour.asked) == 1  # the second waited for the first
    assert leftovers(cache) == {"toy.pt"}


def test_waiting_for_another_download_can_be_cancelled(server, cache: Path) -> None:
    behaviour, url = server
    behaviour.chunk_seconds = 0.03
    first = threading.Thread(target=partial(checkpoints.download, "toy", base_url=url))
    first.start()
    while not behaviour.asked:
        time.sleep(0.01)
    stop = time.monotonic() + 0.1
    with pytest.raises(Cancelled):
        checkpoints.download("toy", base_url=url, cancel=lambda: time.monotonic() > stop)
    first.join()
    assert (cache / "toy.pt").read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_replaced(server, cache: Path) -> None:
    _, url = server
    cache.mkdir()
    (cache / "toy.pt").write_bytes(b"x" * len(CONTENT))
    assert checkpoints.verify("toy") == "corrupt"
    checkpoints.download("toy", base_url=url)
    assert checkpoints.verify("toy") == "ok"


def test_without_a_checksum_nothing_is_downloaded(server, cache: Path) -> None:
    behaviour, url = server
    with pytest.raises(CheckpointError, match=r"No checksum is known .* save https://.*MedSAM2_latest.pt as "):
        checkpoints.download("medsam2", base_url=url)
    assert behaviour.asked == []
    cache.mkdir()
    (cache / "MedSAM2_latest.pt").write_bytes(b"saved by hand")
    assert checkpoints.download("medsam2", base_url=url) == cache / "MedSAM2_latest.pt"
    assert checkpoints.resolve("medsam2").image_size == 512


# ------------------------------------------------------------------------------------------------ the table


def test_the_table_is_complete_and_its_configurations_exist() -> None:
    import importlib.util

    sam2 = Path(importlib.util.find_spec("sam2").submodule_search_locations[0])
    names = [row.name for row in checkpoints.list_models() if "+" not in row.name]
    assert names[:7] == [
        "bundled", "sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus", "sam2.1-large", "sam2-large", "medsam2",
    ]  # fmt: skip
    for entry in checkpoints.CHECKPOINTS.values():
        if entry.name != "bundled":
            assert (sam2 / entry.config).is_file(), entry
            assert entry.url.startswith("https://")
        if entry.sha256 is not None:
            assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
    urls = [checkpoints.CHECKPOINTS[name].url for name in ("sam2.1-base-plus", "sam2-large")]
    meta = "https://dl.fbaipublicfiles.com/segment_anything_2"
    assert urls == [f"{meta}/092824/sam2.1_hiera_base_plus.pt", f"{meta}/072824/sam2_hiera_large.pt"]


def test_list_says_what_is_downloaded(cache: Path) -> None:
    cache.mkdir()
    (cache / "sam2.1_hiera_small.pt").write_bytes(b"12345")
    rows = {row.name: row for row in checkpoints.list_models()}
    assert rows["sam2.1-small"].downloaded
    assert rows["sam2.1-small"].size == 5
    assert not rows["sam2.1-tiny"].downloaded
    assert rows["sam2.1-tiny"].size == 156008466
    assert rows["sam2.1-tiny"].path == cache / "sam2.1_hiera_tiny.pt"


def test_resolve_says_how_to_get_a_missing_model() -> None:
    with pytest.raises(CheckpointError, match=r"run `napari-uncertsam models download sam2.1-tiny`"):
        checkpoints.resolve("sam2.1-tiny")
    assert checkpoints.verify("sam2.1-tiny") == "missing"


def test_resolve_suggests_a_name() -> None:
    with pytest.raises(CheckpointError, match=r"'sam21-tiny' \(did you mean sam2.1-tiny\?\); choose one of bundled, "):
        checkpoints.resolve("sam21-tiny")
    with pytest.raises(CheckpointError, match=r"no model or checkpoint file '/nowhere/model.pt'"):
        checkpoints.resolve("/nowhere/model.pt")


def test_resolve_notices_a_truncated_file(cache: Path) -> None:
    cache.mkdir()
    (cache / "toy.pt").write_bytes(CONTENT[:100])
    with pytest.raises(CheckpointError, match=f"100 bytes instead of {len(CONTENT)}"):
        checkpoints.resolve("toy")


def test_the_bundled_model_takes_its_configuration_from_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file
    from torch import ones

    monkeypatch.setattr(table, "_WEIGHTS", tmp_path)
    with pytest.raises(CheckpointError, match="reinstall"):
        checkpoints.resolve("bundled")
    with pytest.raises(CheckpointError, match="reinstall"):
        checkpoints.download("bundled")
    weights = tmp_path / "bundled.safetensors"
    save_file({"a": ones(3)}, weights)
    (tmp_path / "bundled.yaml").write_text("model: {}")
    resolved = checkpoints.resolve("bundled")
    assert (resolved.path, resolved.config) == (weights, str(tmp_path / "bundled.yaml"))
    assert resolved.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert checkpoints.verify("bundled") == "ok"
    weights.write_bytes(weights.read_bytes()[:-2])
    assert checkpoints.verify("bundled") == "corrupt"


def test_an_own_checkpoint_needs_a_configuration(tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"no own.yaml beside it; name its configuration with --config"):
        checkpoints.resolve(str(own))
    with pytest.raises(CheckpointError, match=r"no configuration 'configs/nothing.yaml'"):
        checkpoints.resolve(str(own), "configs/nothing.yaml")
    assert checkpoints.resolve(str(own), TINY).config == TINY
    config = tmp_path / "other.json"
    config.write_text(json.dumps({"model": {}}))
    assert checkpoints.resolve(str(own), str(config)).config == str(config)
    config.rename(tmp_path / "own.json")
    resolved = checkpoints.resolve(str(own))
    assert (resolved.name, resolved.config) == ("own.pt", str(tmp_path / "own.json"))


def test_hash_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert checkpoints.file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"")
    assert checkpoints.file_sha256(path) == hashlib.sha256(b"").hexdigest()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.file_sha256(tmp_path / "nothing")


def test_importing_costs_nothing() -> None:
    code = (
        "import sys, napari_uncertsam.checkpoints; print([m for m in ('torch','pooch','requests') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


# ------------------------------------------------------------------------------------------------ reading


def saved(path: Path, content: object) -> Path:
    import torch

    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"model": w, "epoch": 3}, lambda w: {"state_dict": w}])
def test_pt_files_are_unwrapped(tmp_path: Path, wrap) -> None:
    import torch

    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}
    loaded = checkpoints.load_state_dict(saved(tmp_path / "model.pt", wrap(weights)))
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_safetensors_files(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.arange(4.0)}, tmp_path / "model.safetensors")
    assert torch.equal(checkpoints.load_state_dict(tmp_path / "model.safetensors")["a"], torch.arange(4.0))


class Payload:
    """Runs code when an ordinary unpickler reads it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    import torch

    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    torch.save({"model": Payload(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="contains code"):
        checkpoints.load_state_dict(path)
    assert not marker.exists()
    pickle.load(io.BytesIO(pickle.dumps(Payload(marker))))
    assert marker.exists()  # the payload is a real one


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / f"model{suffix}"
    weights = {"a": torch.zeros(1000), "b": torch.ones(1000)}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"damaged or c"):
        checkpoints.load_state_dict(path)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"\x80\x02garbage", b"PK\x03\x04 no zip", b"\0" * 500])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_other_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or c"):
        checkpoints.load_state_dict(path)


@pytest.mark.parametrize("content", [{}, {"model": {}}, [1, 2], {"a": 1}])
def test_files_without_weights(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match="no model weights"):
        checkpoints.load_state_dict(saved(tmp_path / "model.pt", content))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint file .*nothing.pt"):
        checkpoints.load_state_dict(tmp_path / "nothing.pt")
