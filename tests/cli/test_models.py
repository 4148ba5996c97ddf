"""``models list|download|verify`` on a cache folder of the test's own."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from napari_uncertsam.checkpoints import CACHE_VARIABLE, CHECKPOINTS, table
from tests.cli.conftest import Run

CONTENT = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A local server that offers a small file as sam2.1-tiny; yields the file."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as running:
        entry = replace(
            CHECKPOINTS["sam2.1-tiny"],
            url=f"http://127.0.0.1:{running.server_port}/tiny.pt",
            sha256=hashlib.sha256(CONTENT).hexdigest(),
            size=len(CONTENT),
        )
        monkeypatch.setattr(table, "CHECKPOINTS", MappingProxyType({**CHECKPOINTS, "sam2.1-tiny": entry}))
        (folder / "tiny.pt").write_bytes(CONTENT)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder / "tiny.pt"
        running.shutdown()


def test_list_names_every_model_and_where_downloads_go(run: Run, cache: Path) -> None:
    result = run("models", "list")
    assert result.code == 0
    for name, entry in CHECKPOINTS.items():
        [line] = [line for line in result.out.splitlines() if line.split()[:1] == [name]]
        assert entry.licence in line
    assert str(cache) in result.out


def test_download_then_verify(run: Run, server: Path, cache: Path) -> None:
    assert run("models", "verify", "sam2.1-tiny").code == 2
    result = run("models", "download", "sam2.1-tiny")
    assert result.code == 0, result.err
    assert (cache / "tiny.pt").read_bytes() == CONTENT
    assert str(cache / "tiny.pt") in result.out
    verified = run("models", "verify", "sam2.1-tiny")
    assert (verified.code, verified.out) == (0, "sam2.1-tiny: ok\n")


def test_a_damaged_file_is_found(run: Run, server: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "tiny.pt").write_bytes(CONTENT[:-1] + b"x")
    for arguments in (("sam2.1-tiny",), ()):
        result = run("models", "verify", *arguments)
        assert "sam2.1-tiny: corrupt" in result.out
        assert "damaged" in result.sentence


def test_wrong_bytes_from_the_server_are_refused(run: Run, server: Path, cache: Path) -> None:
    server.write_bytes(CONTENT[::-1])
    result = run("models", "download", "sam2.1-tiny")
    assert result.code == 2
    assert "not the published checkpoint" in result.err
    assert not (cache / "tiny.pt").exists()


def test_missing_and_unknown_models(run: Run) -> None:
    assert "models download sam2.1-small" in run("models", "verify", "sam2.1-small").sentence
    for verb in ("verify", "download"):
        assert "choose one of bundled" in run("models", verb, "samwise").sentence
    result = run("models", "download", "medsam2")
    assert result.code == 2
    assert "No checksum is known" in result.err
