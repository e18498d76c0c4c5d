"""`python -m tools.export FOLDER`: copies what git tracks, as it stands in the working tree.

Packages, sanitized builds and bare runs start from such a copy, so that nothing that lies about
can stand in for a file that was forgotten. Without git, as in an unpacked sdist, all is copied
but what builds and caches leave behind.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LEFT_BEHIND = {"__pycache__", "build", "dist"}
_KEPT = {".ci", ".clang-format", ".gitignore", ".pre-commit-config.yaml"}


def tracked() -> list[str] | None:
    """The tracked files that exist, relative to the project; None where git does not know."""
    if not shutil.which("git"):
        return None
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode or not listed.stdout:
        return None
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def _found() -> list[str]:
    names = []
    for path in ROOT.rglob("*"):
        name = path.relative_to(ROOT)
        top = name.parts[0]
        hidden = top.startswith(".") and top not in _KEPT
        if hidden or _LEFT_BEHIND & set(name.parts) or ".egg-info" in str(name):
            continue
        if path.is_file() and path.suffix not in (".so", ".o", ".pyc"):
            names.append(name.as_posix())
    return sorted(names)


def copy(folder: Path) -> None:
    """Copies the project's files to `folder`, which is made."""
    for name in tracked() or _found():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
