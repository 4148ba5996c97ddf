"""Segment with SAM 2, see where the model is unsure, and answer where it helps most.

The package imports nothing heavy by itself: import the module that you need, for example
:mod:`napari_uncertsam.prompts`, :mod:`napari_uncertsam.engine` or :mod:`napari_uncertsam.session`.
"""

from __future__ import annotations

__all__ = ["__version__"]

# Declared for type checkers; the value is looked up on first use by __getattr__.
__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("napari-uncertsam")
    except PackageNotFoundError:  # a source tree on sys.path that was never installed
        return "0+unknown"
