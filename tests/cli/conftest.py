"""The command line in this process, with an engine that needs no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_uncertsam.checkpoints import CACHE_VARIABLE
from napari_uncertsam.cli import app
from tests.fakes import FakeEngine, install_posterior, scene

Run = Callable[..., "Outcome"]


class Outcome:
    """What a command printed, and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def sentence(self) -> str:
        """The one sentence of a failure; asserts that there is nothing else, and no traceback."""
        assert self.code == 2, (self.code, self.out, self.err)
        [line] = self.err.strip().splitlines()
        assert line.startswith("Error: ")
        assert line.endswith(".")
        return line.removeprefix("Error: ")


@pytest.fixture
def run() -> Run:
    """``run("segment", "a.png", ...)``: any exception that is not turned into an exit code fails the test."""

    def invoke(*args: object) -> Outcome:
        result = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    """The engine that `segment` gets, whatever model it asks for; it has a Laplace posterior."""
    fake = FakeEngine()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    install_posterior(fake)
    monkeypatch.setattr("napari_uncertsam.cli.segment.load_engine", lambda model, config, device: fake)
    return fake


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A grey PNG of a bright ellipse, rows 40 to 87 and columns 34 to 97."""
    path = tmp_path / "picture.png"
    Image.fromarray(scene()[0][..., 0]).save(path)
    return path


@pytest.fixture
def truth() -> np.ndarray:
    """The mask of that ellipse."""
    return scene()[1] > 0
