"""Models with an adapter: ``NAME+adapter`` is a checkpoint with the MPA adapter that is fitted for it.

What is fitted for such a model (a Laplace posterior, a head) belongs to the combination: its hash is made of both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_uncertsam.checkpoints import table
from napari_uncertsam.checkpoints.files import file_sha256
from napari_uncertsam.checkpoints.parts import check_part, find_part, require_part
from napari_uncertsam.checkpoints.table import ModelRow, ResolvedCheckpoint
from napari_uncertsam.errors import CheckpointError

ADAPTER = "adapter"


def split_adapter(model: str) -> tuple[str, str]:
    """The name of a model and what stands after its ``+``, empty where there is nothing.

    Names of files may have a ``+`` of their own.

    Examples
    --------
    >>> split_adapter("bundled+adapter"), split_adapter("sam2.1-tiny")
    (('bundled', 'adapter'), ('sam2.1-tiny', ''))
    """
    places = [k for k, letter in enumerate(model) if letter == "+"]
    for end in (len(model), *places):
        base = model[:end]
        if base in table.CHECKPOINTS or Path(base).expanduser().is_file():
            return base, model[end + 1 :]
    if model.endswith(f"+{ADAPTER}"):
        return model.removesuffix(f"+{ADAPTER}"), ADAPTER
    return model, ""


def resolve(model: str, config: str | None = None) -> ResolvedCheckpoint:
    """Find a model on disk; nothing is downloaded.

    Parameters
    ----------
    model : str
        A name of the table, or the path of a ``.pt`` or ``.safetensors`` file. ``+adapter`` behind it asks for the MPA
        adapter that is installed or shipped for it, ``+PATH.safetensors`` for that file.
    config : str, optional
        Configuration: a path, or a name inside the sam2 package. By default the table's; for a file of one's own the
        ``.yaml`` or ``.json`` of the same name beside it.

    Raises
    ------
    CheckpointError
        If the model is unknown, not downloaded, of the wrong size, or without configuration; if there is no adapter for
        it, or the file holds none for this checkpoint.
    """
    base, wanted = split_adapter(model)
    found = table.resolve(base, config)
    if not wanted:
        return found
    if wanted == ADAPTER:
        path = require_part(ADAPTER, found.file_sha256, base)
    else:
        path = Path(wanted).expanduser().absolute()
        if not path.is_file():
            raise CheckpointError(
                f"There is no adapter file {path}; give `{base}+{ADAPTER}` for the one that is installed, or the path "
                "of another after the +."
            )
    check_part(path, ADAPTER, found.file_sha256)
    name = f"{found.name}+{wanted}"
    return replace(found, name=name, base=found.name, adapter=path)


def list_models() -> list[ModelRow]:
    """All models of the table, downloaded or not, each with an adapter followed by the model that has it.

    Examples
    --------
    >>> [row.name for row in list_models() if "+" not in row.name][:3]
    ['bundled', 'sam2.1-tiny', 'sam2.1-small']
    """
    rows = []
    for row in table.list_models():
        rows.append(row)
        if row.downloaded:
            sha256 = table.CHECKPOINTS[row.name].sha256 or file_sha256(row.path)
            path = find_part(ADAPTER, sha256)
            if path is not None:
                title, size = f"{row.title}, with its MPA adapter", path.stat().st_size
                rows.append(ModelRow(f"{row.name}+{ADAPTER}", title, size, row.licence, True, path))
    return rows
