"""Where something lies inside a folder that somebody extracted an archive into."""

from __future__ import annotations

from pathlib import Path

#: Archives often hold a folder of the same name as themselves, and that one another.
_LEVELS = 2


def find_inside(root: Path, pattern: str) -> Path | None:
    """The shallowest path, then the first by name, that matches a glob pattern in a folder or two levels below it.

    The folder itself counts where its name matches, so that it may be given as well as the one above.
    """
    if not root.is_dir():
        return None
    if "/" not in pattern and root.match(pattern):
        return root
    for level in range(_LEVELS + 1):
        found = sorted(p for p in root.glob("*/" * level + pattern) if not p.name.startswith("."))
        if found:
            return found[0]
    return None
