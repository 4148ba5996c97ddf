"""The table of models, and finding one of them, or a user's own file, on disk."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from napari_uncertsam.checkpoints.files import file_sha256, load_state_dict
from napari_uncertsam.errors import CheckpointError

#: Environment variable that moves the folder downloads are kept in.
CACHE_VARIABLE = "NAPARI_UNCERTSAM_CACHE"

#: ``"unverified"``: the file is there, but no published hash exists to compare it with.
Status = Literal["ok", "missing", "corrupt", "unverified"]

_WEIGHTS = Path(__file__).parents[1] / "weights"
_META = "https://dl.fbaipublicfiles.com/segment_anything_2/"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One row of the table of models.

    Parameters
    ----------
    name : str
        As given to ``--model``.
    url : str or None
        None for the model that comes with the package.
    sha256 : str or None
        None where no hash is known: such a file is never downloaded for the user.
    size : int or None
        Bytes, where known.
    licence, title : str
    config : str
        Configuration name inside the sam2 package, or the path of a configuration file.
    image_size : int or None
        Input side in pixels the weights were trained at, where it differs from the configuration's.
    """

    name: str
    url: str | None
    sha256: str | None
    size: int | None
    licence: str
    config: str
    title: str
    image_size: int | None = None

    @property
    def filename(self) -> str:
        """Name of the file, as the server gives it."""
        return "bundled.safetensors" if self.url is None else self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class ResolvedCheckpoint:
    """A checkpoint that is on disk, with all that is needed to build its model.

    Parameters
    ----------
    name : str
        The table's name, or the file name of a user's own checkpoint; with an adapter ``NAME+adapter``.
    path : Path
    config : str
        Name inside the sam2 package (``"configs/sam2.1/sam2.1_hiera_t.yaml"``), or the absolute path of a file.
    image_size : int or None
        Input side in pixels to use instead of the configuration's.
    title, licence : str
    base : str
        The name without the adapter's; empty where there is none.
    adapter : Path or None
        Of the MPA adapter that the model runs with.
    """

    name: str
    path: Path
    config: str
    image_size: int | None = None
    title: str = ""
    licence: str = "unknown"
    base: str = ""
    adapter: Path | None = None

    @property
    def file_sha256(self) -> str:
        """Hash of the checkpoint file as it is on disk, computed when first asked for."""
        return file_sha256(self.path)

    @property
    def sha256(self) -> str:
        """Hash of the model: of its file, or of both hashes where it has an adapter, which makes it another model."""
        if self.adapter is None:
            return self.file_sha256
        return hashlib.sha256(f"{self.file_sha256}{file_sha256(self.adapter)}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ModelRow:
    """What ``napari-uncertsam models list`` shows of one model; `size` in bytes, None where unknown."""

    name: str
    title: str
    size: int | None
    licence: str
    downloaded: bool
    path: Path


def _sam21(name: str, letter: str, stem: str, size: int | None, sha256: str) -> Checkpoint:
    url, config = f"{_META}092824/sam2.1_hiera_{stem}.pt", f"configs/sam2.1/sam2.1_hiera_{letter}.yaml"
    return Checkpoint(
        f"sam2.1-{name}", url, sha256, size, "Apache-2.0", config, f"SAM 2.1 Hiera {name.capitalize()} (Meta)"
    )


_TABLE = (
    Checkpoint(
        name="bundled",
        url=None,
        sha256=None,
        size=None,
        licence="BSD-3-Clause",
        config="",  # beside the weights
        title="Small SAM 2 model trained on synthetic images, part of the package",
    ),
    _sam21("tiny", "t", "tiny", 156008466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    _sam21("small", "s", "small", None, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    _sam21("base-plus", "b+", "base_plus", None, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    _sam21("large", "l", "large", 898083611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    Checkpoint(
        name="sam2-large",
        url=f"{_META}072824/sam2_hiera_large.pt",
        sha256="7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
        size=None,
        licence="Apache-2.0",
        config="configs/sam2/sam2_hiera_l.yaml",
        title="SAM 2.0 Hiera Large (Meta), the model of the UncertSAM paper",
    ),
    Checkpoint(
        name="medsam2",
        url="https://huggingface.co/wanglab/MedSAM2/resolve/main/MedSAM2_latest.pt",
        sha256=None,
        size=None,
        licence="Apache-2.0",
        config="configs/sam2.1/sam2.1_hiera_t.yaml",
        title="MedSAM2: SAM 2.1 Tiny fine-tuned on medical images (Wang lab)",
        image_size=512,
    ),
)

#: The models by name, in the order they are listed.
CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType({entry.name: entry for entry in _TABLE})


def cache_dir() -> Path:
    """Folder of the downloaded checkpoints: ``$NAPARI_UNCERTSAM_CACHE``, else the system's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("napari-uncertsam"))


def lookup(name: str) -> Checkpoint:
    """The table's row of that name.

    Raises
    ------
    CheckpointError
        If there is none; the sentence names the models there are.
    """
    if name in CHECKPOINTS:
        return CHECKPOINTS[name]
    near = difflib.get_close_matches(name, CHECKPOINTS, n=1)
    raise CheckpointError(
        f"There is no model or checkpoint file '{name}'{f' (did you mean {near[0]}?)' if near else ''}; "
        f"choose one of {', '.join(CHECKPOINTS)}, or give the path of a checkpoint with its --config."
    )


def path_of(entry: Checkpoint) -> Path:
    """Where the file of a model lies, or would lie once downloaded."""
    return (_WEIGHTS if entry.url is None else cache_dir()) / entry.filename


def cached(name: str) -> Path | None:
    """Path of a model of the table if its file is on disk, else None.

    Raises
    ------
    CheckpointError
        If there is no such model.
    """
    path = path_of(lookup(name))
    return path if path.is_file() else None


def list_models() -> list[ModelRow]:
    """All models of the table, downloaded or not.

    Examples
    --------
    >>> [row.name for row in list_models()][:3]
    ['bundled', 'sam2.1-tiny', 'sam2.1-small']
    """
    rows = []
    for entry in CHECKPOINTS.values():
        path = path_of(entry)
        downloaded = path.is_file()
        size = path.stat().st_size if downloaded else entry.size
        rows.append(ModelRow(entry.name, entry.title, size, entry.licence, downloaded, path))
    return rows


def missing_message(entry: Checkpoint) -> str:
    """The sentence for a model whose file is not on disk: how to get it."""
    if entry.url is None:
        return f"The bundled model is missing at {path_of(entry)}; reinstall napari-uncertsam."
    if entry.sha256 is None:
        return (
            f"No checksum is known to check '{entry.name}' with, so it is not downloaded for you; save {entry.url} "
            f"as {path_of(entry)} yourself, and `--model {entry.name}` will find it."
        )
    return f"The model '{entry.name}' is not downloaded; run `napari-uncertsam models download {entry.name}`."


def _resolve_config(config: str | None, weights: Path) -> str:
    """Absolute path of a configuration file, or the name of one inside the sam2 package."""
    if not config:
        beside = [weights.with_suffix(suffix) for suffix in (".yaml", ".yml", ".json")]
        found = next((path for path in beside if path.is_file()), None)
        if found is None:
            raise CheckpointError(
                f"The checkpoint {weights} has no {beside[0].name} beside it; name its configuration with --config, "
                "for example --config configs/sam2.1/sam2.1_hiera_t.yaml."
            )
        return str(found.absolute())
    own = Path(config).expanduser()
    if own.suffix in {".yaml", ".yml", ".json"} and own.is_file():
        return str(own.absolute())
    sam2 = importlib.util.find_spec("sam2")  # finds the folder; imports nothing
    folders = (sam2.submodule_search_locations if sam2 else None) or []
    if config.endswith(".yaml") and any((Path(folder) / config).is_file() for folder in folders):
        return config
    raise CheckpointError(
        f"There is no configuration '{config}'; give the path of a .yaml or .json file, or a name inside the sam2 "
        "package such as configs/sam2.1/sam2.1_hiera_t.yaml."
    )


def resolve(model: str, config: str | None = None) -> ResolvedCheckpoint:
    """Find a model on disk; nothing is downloaded.

    Parameters
    ----------
    model : str
        A name of the table, or the path of a ``.pt`` or ``.safetensors`` file.
    config : str, optional
        Configuration: a path, or a name inside the sam2 package. By default the table's; for a file of one's own the
        ``.yaml`` or ``.json`` of the same name beside it.

    Raises
    ------
    CheckpointError
        If the model is unknown, not downloaded, of the wrong size, or without configuration.
    """
    own = Path(model).expanduser()
    if model not in CHECKPOINTS and own.is_file():
        return ResolvedCheckpoint(own.name, own.absolute(), _resolve_config(config, own))
    entry = lookup(model)
    path = path_of(entry)
    if not path.is_file():
        raise CheckpointError(missing_message(entry))
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise CheckpointError(
            f"The file {path} has {size} bytes instead of {entry.size}; "
            f"run `napari-uncertsam models download {entry.name}` to replace it."
        )
    image_size = None if config else entry.image_size
    return ResolvedCheckpoint(
        entry.name, path, _resolve_config(config or entry.config, path), image_size, entry.title, entry.licence
    )


def verify(name: str) -> Status:
    """Whether the file of a model is what was published.

    The bundled model, which comes with the package, is ``"ok"`` when it opens complete.

    Raises
    ------
    CheckpointError
        If there is no such model.
    """
    entry = lookup(name)
    path = cached(name)
    if path is None:
        return "missing"
    if entry.sha256 is not None:
        return "ok" if file_sha256(path) == entry.sha256 else "corrupt"
    try:
        load_state_dict(path)
    except CheckpointError:
        return "corrupt"
    return "ok" if entry.url is None else "unverified"
