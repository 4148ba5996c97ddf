"""Model checkpoints: which there are, where they lie, how they are downloaded, checked and read.

A model is named as in the table :data:`CHECKPOINTS`, or given as the path of a file with its configuration.
"""

from napari_uncertsam.checkpoints.adapted import list_models, resolve, split_adapter
from napari_uncertsam.checkpoints.files import file_metadata, file_sha256, load_state_dict
from napari_uncertsam.checkpoints.parts import (
    KINDS,
    Part,
    find_part,
    install_part,
    installed_path,
    missing_part,
    part_record,
    read_part,
    require_part,
    write_part,
)
from napari_uncertsam.checkpoints.table import (
    CACHE_VARIABLE,
    CHECKPOINTS,
    Checkpoint,
    ModelRow,
    ResolvedCheckpoint,
    Status,
    cache_dir,
    cached,
    verify,
)
from napari_uncertsam.checkpoints.transfer import Progress, download

__all__ = [
    "CACHE_VARIABLE",
    "CHECKPOINTS",
    "KINDS",
    "Checkpoint",
    "ModelRow",
    "Part",
    "Progress",
    "ResolvedCheckpoint",
    "Status",
    "cache_dir",
    "cached",
    "download",
    "file_metadata",
    "file_sha256",
    "find_part",
    "install_part",
    "installed_path",
    "list_models",
    "load_state_dict",
    "missing_part",
    "part_record",
    "read_part",
    "require_part",
    "resolve",
    "split_adapter",
    "verify",
    "write_part",
]
