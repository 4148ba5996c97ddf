"""Fixtures that every test may use."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Send caches, settings and autosaves to a folder that is thrown away, not to the home of who runs the tests.

    Done before test modules are imported, since libraries work such paths out at import.
    """
    folder = tempfile.TemporaryDirectory(prefix="napari-uncertsam-tests-", ignore_cleanup_errors=True)
    patch = pytest.MonkeyPatch()
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        patch.setenv(name, str(Path(folder.name) / name.lower()))
    # One test is not to find what another has embedded; those of the cache on disk switch it on.
    patch.setenv("NAPARI_UNCERTSAM_CACHE_GB", "0")
    config.add_cleanup(patch.undo)
    config.add_cleanup(folder.cleanup)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, the same in every run."""
    return np.random.default_rng(0)
