"""The program as a whole: it starts at once and says what it can do."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.cli.conftest import Run


def test_help_needs_no_heavy_module_and_no_half_second() -> None:
    code = (
        "import sys\n"
        "from napari_uncertsam.cli import app\n"
        "try:\n    app(['segment', '--help'])\n"
        "except SystemExit as end:\n    print(end.code, *sys.modules)"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    elapsed = time.perf_counter() - start
    assert "--negative" in result.stdout
    words = set(result.stdout.splitlines()[-1].split())
    assert "0" in words
    assert not {"torch", "napari", "qtpy", "sam2", "numpy", "scipy", "nibabel", "matplotlib"} & words
    assert elapsed < 5  # 0.3 s on an idle machine; this only catches something heavy


@pytest.mark.parametrize("command", [(), ("demo",), ("segment",), ("models",), ("models", "list"), ("fit", "bundled")])
def test_every_command_explains_itself(command: tuple[str, ...], run: Run) -> None:
    result = run(*command, "--help")
    assert result.code == 0
    assert "Usage:" in result.out


def test_version(run: Run) -> None:
    import napari_uncertsam

    assert run("--version").out.strip() == napari_uncertsam.__version__


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("segmnt",), "segmnt"),
        (("segment",), "image"),
        (("segment", "a.png", "--point", "1", "--out", "o"), "two numbers"),
        (("segment", "a.png", "--point", "1", "b", "--out", "o"), "two numbers"),
        (("segment", "a.png", "--box", "1", "2", "3", "--out", "o"), "--box"),
        (("segment", "a.png", "--refine", "-1", "--out", "o"), "--refine"),
        (("models", "download"), "name"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(arguments: tuple[str, ...], says: str, run: Run) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert says in result.err.lower()


def test_runs_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "napari_uncertsam.cli", "segment", "absent.png", "--point", "1", "1", "--out", "o"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == "Error: There is no file absent.png; check the name.\n"
