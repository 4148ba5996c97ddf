"""What holds for the project as a whole: imports, metadata, packaging, documents."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import napari_uncertsam

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "napari_uncertsam"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Distributions whose module has another name.
MODULE_OF = {"hydra-core": "hydra", "pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage"}


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def declared_modules() -> set[str]:
    """Top-level modules of everything that setup.cfg requires outside ``dev``."""
    config = setup_cfg()
    lists = [config["options"]["install_requires"]]
    lists += [text for name, text in config["options.extras_require"].items() if name != "dev"]
    names = {re.split(r"[\[<>=!~ ;]", line)[0] for text in lists for line in text.split("\n") if line}
    return {MODULE_OF.get(name, name).lower() for name in names}


def imported_modules(path: Path) -> set[str]:
    """Top-level names of the absolute imports anywhere in a file, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", ["napari_uncertsam", "napari_uncertsam.prompts", "napari_uncertsam.errors"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert module in loaded
    assert not {"torch", "napari", "qtpy", "PyQt6", "sam2"} & set(loaded)


def test_version_is_the_installed_one() -> None:
    assert napari_uncertsam.__version__ == importlib.metadata.version("napari-uncertsam")
    assert napari_uncertsam.__version__ == setup_cfg()["metadata"]["version"]
    with pytest.raises(AttributeError, match="nothing_here"):
        napari_uncertsam.nothing_here  # noqa: B018


def test_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{setup_cfg()['metadata']['version']}]" in text


def test_entry_points_name_what_the_manifest_needs() -> None:
    points = {(p.group, p.name): p.value for p in importlib.metadata.distribution("napari-uncertsam").entry_points}
    # The manifest's name has to equal the distribution's, or napari does not show the plugin.
    assert points["napari.manifest", "napari-uncertsam"] == "napari_uncertsam:napari.yaml"
    assert points["console_scripts", "napari-uncertsam"] == "napari_uncertsam.cli:main"


def test_every_import_is_declared() -> None:
    known = declared_modules() | set(sys.stdlib_module_names) | {"napari_uncertsam", "__future__"}
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        for name in imported_modules(path)
        if name.lower() not in known
    }
    assert undeclared == set()


def test_no_qt_binding_in_the_base_install() -> None:
    required = setup_cfg()["options"]["install_requires"].lower()
    assert not re.search(r"pyqt|pyside|napari\[", required)


def test_modules_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text("utf-8").splitlines())) > 400}
    assert long == {}


def test_readme_images_are_absolute_and_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    base = "https://raw.githubusercontent.com/napari-uncertsam/napari-uncertsam/main/"
    for url in re.findall(r"!\[[^]]*\]\(([^)\s]+)", readme):
        # The napari hub and PyPI show the README without the repository around it.
        assert url.startswith("https://")
        if url.startswith(base):
            assert (ROOT / url.removeprefix(base)).is_file(), url


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/REFERENCES.md"])
def test_relative_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"(?<!!)\[[^]]+\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_names_the_commands_of_the_readme() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"`make ([a-z]+)", (ROOT / "README.md").read_text("utf-8")))
    commands |= set(re.findall(r"`make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert {"demo", "test"} <= commands
    assert commands <= set(re.findall(r"^  make (\w+)", listed, re.MULTILINE))
