"""Fitted parts: small files that belong to one checkpoint, such as a Laplace posterior or a trained head.

A part is a safetensors file whose metadata names its kind and the sha256 of the checkpoint it was fitted for. Those of
the bundled model ship with the package; others lie in the cache folder, by the hash of their checkpoint.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uncertsam.checkpoints import table
from napari_uncertsam.checkpoints.files import file_sha256
from napari_uncertsam.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

#: Kind to what a sentence calls it.
KINDS: Mapping[str, str] = {
    "laplace": "Laplace posterior",
    "variance": "variance head",
    "adapter": "MPA adapter",
    "fusion": "dense fusion",
    "fusion-laplace-ones": "dense fusion of the control with ones and Laplace",
    "fusion-sam-ones": "dense fusion of the control with ones and SAM",
    "fusion-token0-ones": "dense fusion of the control with ones and the first token",
}
_SHIPPED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True, eq=False)
class Part:
    """A part as read.

    Parameters
    ----------
    kind : str
        Of :data:`KINDS`.
    path : Path
    tensors : mapping of str to Tensor
        On the CPU.
    metadata : mapping of str to str
        How it was fitted.
    """

    kind: str
    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def installed_path(kind: str, sha256: str) -> Path:
    """Where a part fitted on this machine lies, whether it is there or not."""
    return table.cache_dir() / "fitted" / sha256[:16] / f"{kind}.safetensors"


def shipped_path(kind: str, model: str = "bundled") -> Path:
    """Where the part of the bundled model lies, or of ``bundled+adapter``."""
    return _SHIPPED / f"{model}.{kind}.safetensors"


def find_part(kind: str, sha256: str) -> Path | None:
    """The part of a checkpoint: fitted on this machine, else shipped with the package, else None.

    Parameters
    ----------
    kind : str
        Of :data:`KINDS`.
    sha256 : str
        Of the checkpoint.
    """
    if not sha256:
        return None
    own = installed_path(kind, sha256)
    if own.is_file():
        return own
    for shipped in (shipped_path(kind), shipped_path(kind, "bundled+adapter")):
        if shipped.is_file() and _metadata(shipped).get("checkpoint_sha256") == sha256:
            return shipped
    return None


def require_part(kind: str, sha256: str, model: str) -> Path:
    """The part of a checkpoint.

    Raises
    ------
    CheckpointError
        If there is none; the sentence says how to fit one.
    """
    found = find_part(kind, sha256)
    if found is None:
        raise CheckpointError(missing_part(kind, model))
    return found


def missing_part(kind: str, model: str) -> str:
    """One sentence: which part a model lacks, and the command that fits it."""
    command = f"napari-uncertsam fit {kind.partition('-')[0]} --model {model} --install"
    control = kind.partition("-")[2]
    if model.partition("+")[0] not in table.CHECKPOINTS and re.search(r"\.(pt|pth|safetensors)(\+|$)", model):
        command += " --config CONFIG"  # an own checkpoint has been given one as well
    if control:
        command += f" --control {control}"
    return f"There is no {KINDS[kind]} for the model {model} yet; fit one with: {command}"


def part_record(kind: str, sha256: str) -> dict[str, str] | None:
    """What a reader needs to know which part was used: kind, hash of its file, and where it came from.

    Returns
    -------
    dict or None
        "kind", "sha256", "origin" ("shipped" with the package, or "fitted here"); None where there is none.
    """
    found = find_part(kind, sha256)
    if found is None:
        return None
    origin = "shipped" if found.parent == _SHIPPED else "fitted here"
    return {"kind": kind, "sha256": file_sha256(found), "origin": origin}


def write_part(
    path: str | Path, kind: str, sha256: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Path:
    """Write a part; the file is complete or not there.

    Parameters
    ----------
    path : str or Path
    kind : str
        Of :data:`KINDS`.
    sha256 : str
        Of the checkpoint that it was fitted for.
    tensors : mapping of str to Tensor
    metadata : mapping of str to str
        How it was fitted.
    """
    from safetensors.torch import save_file

    path = Path(path)
    # Copies: tensors that share memory cannot be stored.
    content = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with _replacing(path) as partial:
        save_file(content, partial, metadata={**metadata, "kind": kind, "checkpoint_sha256": sha256})
        partial.chmod(0o644)  # safetensors keeps its files to their owner
    return path


def read_part(path: str | Path, kind: str, sha256: str) -> Part:
    """Read a part.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of another kind, or was fitted for another checkpoint.
    """
    from safetensors.torch import load_file

    metadata = check_part(path, kind, sha256)
    return Part(kind, Path(path), load_file(path), metadata)


def check_part(path: str | Path, kind: str, sha256: str) -> dict[str, str]:
    """The metadata of a part that is what it should be.

    Raises
    ------
    CheckpointError
        As :func:`read_part`.
    """
    path = Path(path)
    metadata = _metadata(path)
    if metadata.get("kind") != kind:
        raise CheckpointError(f"{path} holds no {KINDS[kind]} but {metadata.get('kind', 'something else')!r}.")
    if metadata.get("checkpoint_sha256") != sha256:
        raise CheckpointError(
            f"The {KINDS[kind]} {path} was fitted for another checkpoint (its sha256 starts with "
            f"{metadata.get('checkpoint_sha256', '')[:12]}, the model's with {sha256[:12] or 'nothing'}); fit it again."
        )
    return metadata


def install_part(path: str | Path, kind: str, sha256: str) -> Path:
    """Put a part where the widget and the commands find it; returns where that is."""
    check_part(path, kind, sha256)
    target = installed_path(kind, sha256)
    with _replacing(target) as partial:
        shutil.copyfile(path, partial)
    return target


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file that becomes `path` when the block ends well, and disappears when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"There is no file {path}; check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The file {path} is damaged or no safetensors file; fit or copy it again.") from error
