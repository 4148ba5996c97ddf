"""Fitted parts: they belong to one checkpoint, are found where they should be, and are whole or not there."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from napari_uncertsam.checkpoints import (
    CACHE_VARIABLE,
    KINDS,
    file_sha256,
    find_part,
    install_part,
    installed_path,
    missing_part,
    part_record,
    parts,
    read_part,
    require_part,
    write_part,
)
from napari_uncertsam.errors import CheckpointError

OWN, OTHER = "a" * 64, "b" * 64
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor([3], dtype=torch.int64)}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and a package that ships nothing."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(parts, "_SHIPPED", tmp_path / "shipped")


def ship(kind: str = "laplace", sha256: str = OWN) -> Path:
    return write_part(parts.shipped_path(kind), kind, sha256, TENSORS, {"from": "package"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_part(tmp_path / "new" / "part.safetensors", "variance", OWN, TENSORS, {"steps": "17500"})
    part = read_part(str(path), "variance", OWN)
    assert (part.kind, part.path) == ("variance", path)
    assert part.metadata == {"steps": "17500", "kind": "variance", "checkpoint_sha256": OWN}
    assert part.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert part.tensors[name].dtype == tensor.dtype
        torch.testing.assert_close(part.tensors[name], tensor)


def test_views_gradients_and_shared_memory_are_stored(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3).requires_grad_()
    path = write_part(tmp_path / "p", "laplace", OWN, {"t": base.mT, "same": base, "again": base}, {})
    read = read_part(path, "laplace", OWN).tensors
    torch.testing.assert_close(read["t"], base.detach().mT)
    torch.testing.assert_close(read["again"], base.detach())


def test_everyone_may_read_what_is_installed(tmp_path: Path) -> None:
    path = write_part(tmp_path / "p", "laplace", OWN, TENSORS, {})
    for file in (path, install_part(path, "laplace", OWN)):
        assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444


def test_a_part_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    path = write_part(tmp_path / "p", "laplace", OWN, TENSORS, {})
    with pytest.raises(CheckpointError, match=r"Laplace posterior .* another checkpoint .*aaaaaaaaaaaa.*bbbbbbbbbbbb"):
        read_part(path, "laplace", OTHER)
    with pytest.raises(CheckpointError, match="nothing"):
        read_part(path, "laplace", "")
    with pytest.raises(CheckpointError, match="another checkpoint"):
        install_part(path, "laplace", OTHER)
    assert not installed_path("laplace", OTHER).exists()


def test_a_part_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = write_part(tmp_path / "p", "laplace", OWN, TENSORS, {})
    with pytest.raises(CheckpointError, match="holds no variance head but 'laplace'"):
        read_part(path, "variance", OWN)
    plain = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(TENSORS, plain)
    with pytest.raises(CheckpointError, match="holds no Laplace posterior but 'something else'"):
        read_part(plain, "laplace", OWN)


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 100])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"p\.safetensors is damaged") as caught:
        read_part(path, "laplace", OWN)
    assert str(caught.value).count(".") <= 2


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = write_part(tmp_path / "p", "laplace", OWN, TENSORS, {})
    whole = path.read_bytes()
    for length in (4, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is damaged"):
            read_part(path, "laplace", OWN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="no file"):
            read_part(path, "laplace", OWN)


def test_installed_before_shipped(tmp_path: Path) -> None:
    assert find_part("laplace", OWN) is None
    shipped = ship()
    assert find_part("laplace", OWN) == require_part("laplace", OWN, "bundled") == shipped
    own = write_part(tmp_path / "p", "laplace", OWN, TENSORS, {"from": "here"})
    target = install_part(own, "laplace", OWN)
    assert target == installed_path("laplace", OWN) == find_part("laplace", OWN)
    assert read_part(target, "laplace", OWN).metadata["from"] == "here"
    assert own.is_file()
    target.unlink()
    assert find_part("laplace", OWN) == shipped


def test_the_shipped_part_is_for_its_own_checkpoint_and_kind_only() -> None:
    ship()
    assert find_part("laplace", OTHER) is None
    assert find_part("variance", OWN) is None
    assert find_part("laplace", "") is None
    assert installed_path("laplace", OWN) != installed_path("laplace", OTHER)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_part_says_in_one_sentence_how_to_fit_it(kind: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        require_part(kind, OWN, "sam2.1-tiny")
    said = str(caught.value)
    assert said == missing_part(kind, "sam2.1-tiny")
    assert said.startswith(
        f"There is no {KINDS[kind]} for the model sam2.1-tiny yet; fit one with: napari-uncertsam fit "
    )
    command = said.partition("fit one with: ")[2]
    assert "--model sam2.1-tiny --install" in command
    name, _, control = kind.partition("-")
    assert command.split()[2] == name
    assert command.endswith(f" --control {control}") if control else "--control" not in command


@pytest.mark.parametrize(
    "replace",
    [
        lambda newer, _path: install_part(newer, "laplace", OWN),
        lambda _newer, path: write_part(path, "laplace", OWN, TENSORS, {"version": "2"}),
    ],
    ids=["install", "write"],
)
def test_a_failure_leaves_the_old_part_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path, Path], Path]
) -> None:
    path = install_part(write_part(tmp_path / "p", "laplace", OWN, TENSORS, {"version": "1"}), "laplace", OWN)
    newer = write_part(tmp_path / "newer", "laplace", OWN, TENSORS, {"version": "2"})

    def half(*args: object, **_kwargs: object) -> None:
        Path(str(args[1])).write_bytes(b"half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", half)
    monkeypatch.setattr("safetensors.torch.save_file", half)
    with pytest.raises(OSError, match="No space"):
        replace(newer, path)
    assert read_part(path, "laplace", OWN).metadata["version"] == "1"


def test_a_new_part_replaces_the_old_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for version in ("1", "2"):
        part = write_part(tmp_path / "p", "laplace", OWN, TENSORS, {"version": version})
        install_part(part, "laplace", OWN)
    folder = installed_path("laplace", OWN).parent
    assert [file.name for file in folder.iterdir()] == ["laplace.safetensors"]
    assert read_part(require_part("laplace", OWN, "m"), "laplace", OWN).metadata["version"] == "2"


def test_parts_that_ship_belong_to_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    sha256 = file_sha256(parts._SHIPPED / "bundled.safetensors")
    found = sorted(parts._SHIPPED.glob("bundled.*.safetensors"))
    assert found
    for path in found:
        kind = path.name.split(".")[1]
        assert parts.shipped_path(kind) == path
        assert read_part(path, kind, sha256).tensors


def test_the_record_says_which_file_and_whose() -> None:
    assert part_record("laplace", OWN) is None
    shipped = ship()
    assert part_record("laplace", OWN) == {"kind": "laplace", "sha256": file_sha256(shipped), "origin": "shipped"}
    own = write_part(installed_path("laplace", OWN), "laplace", OWN, TENSORS, {"from": "here"})
    assert part_record("laplace", OWN) == {"kind": "laplace", "sha256": file_sha256(own), "origin": "fitted here"}


def test_an_own_checkpoint_needs_its_configuration_to_fit() -> None:
    assert missing_part("laplace", "a/tiny.pt").endswith("fit laplace --model a/tiny.pt --install --config CONFIG")
    assert missing_part("variance", "sam2.1-tiny").endswith("fit variance --model sam2.1-tiny --install")
