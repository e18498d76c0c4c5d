"""`python -m tools.shipped DIST`: whether the sdist and the wheel in a folder hold all they should.

The sdist holds every file that git tracks, the wheel every file of the package, and both nothing
else but what building adds.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

from tools.export import tracked

PACKAGE = "torch2mlx"
#: What setuptools adds to an sdist.
_MADE = {"PKG-INFO", "setup.cfg"}


def sdist_names(path: Path) -> set[str]:
    """Files of an sdist, relative to the project, without what setuptools made."""
    with tarfile.open(path) as archive:
        names = {m.name.partition("/")[2] for m in archive if m.isfile()}
    return {n for n in names - _MADE if not n.startswith(f"{PACKAGE}.egg-info/")}


def wheel_names(path: Path) -> set[str]:
    """Files of a wheel, without its metadata and the extension, which has to be there."""
    with zipfile.ZipFile(path) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    built = {n for n in names if n.startswith(f"{PACKAGE}/_core.") and n.endswith(".so")}
    if len(built) != 1:
        raise SystemExit(f"shipped: {path.name} has {len(built)} extensions")
    return names - built


def differences(kind: str, found: set[str], expected: set[str]) -> list[str]:
    """One line for each file that is missing or should not be there."""
    lines = [f"{kind} lacks {name}" for name in sorted(expected - found)]
    return lines + [f"{kind} has {name}" for name in sorted(found - expected)]


def main(folder: Path) -> int:
    """Prints what is wrong with the two; 0 when nothing is."""
    names = tracked()
    if names is None:
        print("shipped: git lists no files here, so the lists were not compared")
        return 0
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    package = {n for n in names if n.startswith(f"{PACKAGE}/")}
    wrong = differences("the sdist", sdist_names(sdist), set(names))
    wrong += differences("the wheel", wheel_names(wheel), package)
    kept = f"{len(names)} files in the sdist, {len(package)} in the wheel"
    print("\n".join(wrong) or f"shipped: {kept}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
